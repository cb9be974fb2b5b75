"""One connection from its opening to its end, in memory and with a virtual clock."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
import trio.testing
from attrs import frozen
from trio.testing import MockClock

from mqttcore.auth import Authentication, AuthRequest, Denied, Effect, Failed, Granted
from mqttcore.broker import Broker, Link, Policy
from mqttcore.codes import ReasonCode
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.packets import Connect, Disconnect, PingReq, PingResp, Publish, SubAck, Subscribe, Subscription, Will
from tests.trio_broker.support import Peer, running
from trio_broker import ServerLimits


async def test_messages_go_from_one_client_to_another(autojump_clock: MockClock) -> None:
    async with running() as run:
        publisher, subscriber = Peer(run.open_memory()), Peer(run.open_memory())
        await publisher.connect("publisher")
        await subscriber.connect("subscriber")
        await subscriber.send(Subscribe(1, (Subscription("t"),)))
        assert isinstance(await subscriber.receive(), SubAck)
        await publisher.send(*(Publish("t", b"%d" % n) for n in range(100)))
        for n in range(100):
            message = await subscriber.receive()
            assert isinstance(message, Publish)
            assert message.payload == b"%d" % n
    assert [event["client_id"] for event in run.logged("connected")] == ["publisher", "subscriber"]


async def test_a_link_ends_with_its_peer(autojump_clock: MockClock) -> None:
    async with running() as run:
        stream = run.open_memory()
        await Peer(stream).connect("a")
        assert run.server.open_links == 1
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert run.server.open_links == 0
    [event] = run.logged("disconnected")
    assert (event["client_id"], event["address"], event["protocol"], event["by"]) == (
        "a",
        "memory",
        "tcp",
        "eof",
    )


async def test_the_last_word_is_followed_by_an_end_and_a_bounded_reading_on(
    autojump_clock: MockClock,
) -> None:
    async with running(bounds=ServerLimits(linger_timeout=2.0)) as run:
        stream = run.open_memory()
        peer = Peer(stream)
        await peer.connect("a")
        await stream.send_all(b"\xff\xff\xff\xff\xff\xff")
        word = await peer.receive()
        assert isinstance(word, Disconnect)
        assert word.reason_code == ReasonCode.MALFORMED_PACKET
        assert isinstance(await peer.receive(), ConnectionClosed)
        started = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"\xff" * 1000)
                await trio.sleep(0.1)
        assert trio.current_time() - started == pytest.approx(2.0, abs=0.2)
        assert run.server.open_links == 0


async def test_a_peer_that_closes_after_the_last_word_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with running() as run:
        stream = run.open_memory()
        await Peer(stream).connect("a")
        await stream.send_all(b"\xff\xff\xff\xff\xff\xff")
        await stream.send_eof()
        started = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert run.server.open_links == 0
        assert trio.current_time() == started


async def test_deadlines_of_the_core_are_kept(autojump_clock: MockClock) -> None:
    async with running(limits=Limits(connect_timeout=0.35)) as run:
        stream = run.open_memory()
        started = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(0.35, abs=0.01)
        # A deadline that comes up while the timer sleeps for a later one.
        peer = Peer(run.open_memory())
        await peer.connect("a", keep_alive=100)
        await trio.sleep(1.0)
        stream = run.open_memory()
        started = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(0.35, abs=0.01)
        await peer.send(PingReq())
        assert isinstance(await peer.receive(), PingResp)


async def test_a_credential_expires_by_the_wall_clock_also_when_that_is_set(autojump_clock: MockClock) -> None:
    offset = 1e9

    def for_an_hour(request: AuthRequest) -> Authentication:
        return Granted(expires_at=request.time + 3600)
        yield

    async with running(wall_clock=lambda: offset + trio.current_time()) as run:
        await trio.sleep(60)
        assert run.broker.wall_offset == pytest.approx(1e9)
        peer = Peer(run.open_memory(Policy(authenticate=for_an_hour)))
        await peer.connect("c")
        offset += 3000
        start = trio.current_time()
        assert isinstance(await peer.receive(), ConnectionClosed)
        assert 590 <= trio.current_time() - start <= 620
        [line] = await run.log_of("disconnected")
        assert line["reason"] == "the credential has expired"


def lockstep() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.lockstep_stream_pair()


async def test_a_stalled_reader_is_dropped_and_nobody_else_notices(autojump_clock: MockClock) -> None:
    async with running(bounds=ServerLimits(stall_timeout=30.0)) as run:
        near, far = lockstep()
        run.nursery.start_soon(run.server.serve_stream, far)
        stalled, publisher, other = Peer(near), Peer(run.open_memory()), Peer(run.open_memory())
        for peer in (stalled, other):
            await peer.connect()
            await peer.send(Subscribe(1, (Subscription("t"),)))
            await peer.receive()
        await publisher.connect()
        started = trio.current_time()
        while run.server.open_links == 3:
            await publisher.send(Publish("t", b"x"))
            assert isinstance(await other.receive(), Publish)
            await trio.sleep(1)
        assert trio.current_time() - started == pytest.approx(30, abs=2)
        await publisher.send(Publish("t", b"y"))
        assert isinstance(await other.receive(), Publish)
    [event] = run.logged("transport_failed")
    assert event["reason"] == "the client took nothing for 30 seconds"


async def test_a_slow_reader_is_not_dropped(autojump_clock: MockClock) -> None:
    async with running(bounds=ServerLimits(stall_timeout=10.0)) as run:
        near, far = lockstep()
        run.nursery.start_soon(run.server.serve_stream, far)
        slow = Peer(near)
        await slow.connect()
        await slow.send(Subscribe(1, (Subscription("t"),)))
        await slow.receive()
        run.broker.publish(Publish("t", bytes(200_000)), trio.current_time())
        run.server.dispatch()
        received = 0
        while received < 200_000:
            await trio.sleep(4.0)
            data = await near.receive_some(10_000)
            assert data
            received += len(data)
        assert run.server.open_links == 1


async def test_a_peer_that_takes_no_answers_is_read_from_again_once_it_does(autojump_clock: MockClock) -> None:
    async with running(limits=Limits(output_high_water=1024)) as run:
        near, far = lockstep()
        run.nursery.start_soon(run.server.serve_stream, far, run.policy)
        await Peer(near).connect()
        [link] = run.broker.links

        async def ask() -> None:
            for _ in range(10):
                await near.send_all(b"\xc0\x00" * 1000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            assert link.paused
            received = 0
            with trio.move_on_after(10):
                while received < 20_000:
                    received += len(await near.receive_some())
            nursery.cancel_scope.cancel()
        assert received == 20_000
        assert not link.paused


@frozen
class Ask(Effect):
    """An effect that the test's performer answers."""


def asking(request: AuthRequest) -> Authentication:
    reply = yield Ask()
    return Granted() if reply == "yes" else Denied()


async def test_nothing_is_read_while_the_connect_is_being_decided(autojump_clock: MockClock) -> None:
    decided = trio.Event()

    async def perform(effect: Effect) -> object:
        assert isinstance(effect, Ask)
        await decided.wait()
        return "yes"

    async with running(perform=perform) as run:
        stream = run.open_memory(Policy(authenticate=asking))
        peer = Peer(stream)
        run.nursery.start_soon(peer.connect, "a")
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(b"\xc0\x00" * 10_000)
        await trio.sleep(5)
        assert run.server.open_links == 1
        assert not run.logged("connected")
        decided.set()
        await trio.testing.wait_all_tasks_blocked()
        assert run.logged("connected")
        for _ in range(10_000):
            assert isinstance(await peer.receive(), PingResp)


async def test_an_authentication_that_takes_too_long_ends(autojump_clock: MockClock) -> None:
    async def perform(effect: Effect) -> object:
        await trio.sleep_forever()

    async with running(perform=perform, limits=Limits(authentication_timeout=3.0)) as run:
        peer = Peer(run.open_memory(Policy(authenticate=asking, limits=Limits(authentication_timeout=3.0))))
        started = trio.current_time()
        answer = await peer.connect("a")
        assert answer.reason_code.is_failure
        assert trio.current_time() - started == pytest.approx(3.0, abs=0.1)
        await peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert run.server.open_links == 0


async def test_a_performer_that_raises_is_a_failed_effect_and_its_text_stays_secret(
    autojump_clock: MockClock,
) -> None:
    async def perform(effect: Effect) -> object:
        raise ValueError("password=hunter2")

    async with running(perform=perform) as run:
        answer = await Peer(run.open_memory(Policy(authenticate=asking))).connect("a")
        assert answer.reason_code == ReasonCode.NOT_AUTHORIZED
    [event] = run.logged("effect_failed")
    assert (event["client_id"], event["effect"], event["reason"]) == ("a", "Ask", "ValueError")
    assert "hunter2" not in run.file.getvalue()


async def test_without_a_performer_effects_fail(autojump_clock: MockClock) -> None:
    replies = []

    def authenticate(request: AuthRequest) -> Authentication:
        replies.append((yield Ask()))
        return Granted()

    async with running() as run:
        await Peer(run.open_memory(Policy(authenticate=authenticate))).connect("a")
    assert replies == [Failed("unsupported")]


def failing_for(client_id: str, method: Callable[..., object]) -> Callable[..., object]:
    """The method with a bug that one client meets."""

    def fail(link: Link, *args: object) -> object:
        if link.client_id == client_id:
            raise ZeroDivisionError("a bug")
        return method(link, *args)

    return fail


@pytest.mark.parametrize("name", ["receive", "take_output", "lost"])
async def test_a_bug_in_one_link_ends_that_link_alone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with running() as run:
        victim, other, publisher = (Peer(run.open_memory()) for _ in range(3))
        for peer, client_id in ((victim, "victim"), (other, "other"), (publisher, "publisher")):
            await peer.connect(client_id)
        for peer in (victim, other):
            await peer.send(Subscribe(1, (Subscription("t"),)))
            await peer.receive()
        monkeypatch.setattr(Broker, name, failing_for("victim", getattr(run.broker, name)))
        monkeypatch.setattr(Broker, name, staticmethod(getattr(Broker, name)))
        await publisher.send(Publish("t", b"1"))
        assert isinstance(await other.receive(), Publish)
        with suppress(trio.BrokenResourceError):  # it may have met the bug with the first message
            await victim.send(PingReq())
            await victim.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert run.server.open_links == 2
        await publisher.send(Publish("t", b"2"))
        assert isinstance(await other.receive(), Publish)
        monkeypatch.undo()
    event = run.logged("internal_error")[0]
    assert event["client_id"] == "victim"
    assert event["level"] == "error"
    assert event["exception"].endswith("ZeroDivisionError: a bug")


async def test_a_bug_in_a_timer_is_logged_and_time_goes_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as run:
        monkeypatch.setattr(Broker, "handle_timeout", lambda self, now: 1 // 0)
        await trio.sleep(11)
        monkeypatch.undo()
        assert run.logged("internal_error")
        assert (await Peer(run.open_memory()).connect("a")).reason_code == ReasonCode.SUCCESS


async def test_cancellation_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with running() as run:
        streams = [run.open_memory() for _ in range(10)]
        for number, stream in enumerate(streams):
            await Peer(stream).connect(f"client-{number}")
        run.nursery.cancel_scope.cancel()
    for stream in streams:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_a_taken_over_link_gets_its_last_word(autojump_clock: MockClock) -> None:
    async with running() as run:
        first, second = Peer(run.open_memory()), Peer(run.open_memory())
        await first.connect("same")
        await second.connect("same")
        word = await first.receive()
        assert isinstance(word, Disconnect)
        assert word.reason_code == ReasonCode.SESSION_TAKEN_OVER
        assert isinstance(await first.receive(), ConnectionClosed)
        await second.send(PingReq())
        assert isinstance(await second.receive(), PingResp)


async def test_wills_of_many_links_that_end_together_harm_none_of_them(autojump_clock: MockClock) -> None:
    async with running() as run:
        peers = [Peer(run.open_memory()) for _ in range(20)]
        for peer in peers:
            await peer.connect(will=Will(topic="t", payload=b"x"))
            await peer.send(Subscribe(1, (Subscription("t"),)))
            await peer.receive()
        for peer in peers:
            await peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        peers = [Peer(run.open_memory()) for _ in range(20)]
        for peer in peers:
            await peer.connect(will=Will(topic="t", payload=b"x"))
            await peer.send(Subscribe(1, (Subscription("t"),)))
            await peer.receive()
    assert not run.logged("internal_error")


async def test_a_last_word_that_is_not_taken_is_given_up(autojump_clock: MockClock) -> None:
    async with running(bounds=ServerLimits(linger_timeout=2.0, stall_timeout=30.0)) as run:
        near, far = lockstep()
        run.nursery.start_soon(run.server.serve_stream, far)
        stalled = Peer(near)
        await stalled.connect("same")
        await Peer(run.open_memory()).connect("same")
        assert run.server.open_links == 2
        await trio.sleep(2.1)
        assert run.server.open_links == 1


async def test_a_bug_in_the_decision_ends_that_link_alone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def perform(effect: Effect) -> object:
        return "yes"

    async with running(perform=perform) as run:
        other = Peer(run.open_memory())
        await other.connect("other")
        monkeypatch.setattr(Broker, "resume", lambda *_: 1 // 0)
        stream = run.open_memory(Policy(authenticate=asking))
        await Peer(stream).send(Connect(client_id="victim"))
        assert await stream.receive_some() == b""
        await other.send(PingReq())
        assert isinstance(await other.receive(), PingResp)
    assert run.logged("internal_error")[0]["client_id"] == "victim"


async def test_a_report_that_cannot_be_written_harms_nobody(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as run:
        monkeypatch.setattr("trio_broker.server.write_report", lambda *_: 1 // 0)
        assert (await Peer(run.open_memory()).connect("a")).reason_code == ReasonCode.SUCCESS
        assert run.logged("internal_error")


async def test_a_bug_in_the_farewell_does_not_keep_the_server(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as run:
        stream = run.open_memory()
        await Peer(stream).connect("a")
        monkeypatch.setattr(Broker, "shutdown", lambda *_: 1 // 0)
        run.server.stop()
        assert await stream.receive_some() == b""
        assert run.logged("internal_error")
