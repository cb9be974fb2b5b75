"""Listening sockets: bounds, shortages, and the end."""

import errno
import os
import socket

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mqttcore import codec
from mqttcore.auth import Authentication, AuthRequest, Effect, Granted, Reply
from mqttcore.broker import Broker, Policy
from mqttcore.codec import encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.events import ConnectionClosed
from mqttcore.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Will,
)
from tests.trio_broker.support import Peer, listen, reset, running, until
from trio_broker import Listener, ServerLimits, open_sockets, serve
from trio_broker.poller import READS_PER_TURN
from trio_broker.transports import TcpPipe


async def is_closed(stream: trio.SocketStream) -> bool:
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


@pytest.mark.conformance("MQTT-4.2.0-1")
async def test_messages_over_tcp_in_both_families() -> None:
    sockets = open_sockets(["127.0.0.1", "::1"], 0, 10)
    listeners = [Listener(socket=sock) for sock in sockets]
    with trio.fail_after(30):
        async with running(*listeners) as run:
            async with await run.dial(listeners[0]) as four, await run.dial(listeners[1]) as six:
                subscriber, publisher = Peer(six), Peer(four)
                await subscriber.connect("six")
                await subscriber.send(Subscribe(1, (Subscription("t"),)))
                assert isinstance(await subscriber.receive(), SubAck)
                await publisher.connect("four", version=V311)
                await publisher.send(Publish("t", bytes(8_000_000)))
                message = await subscriber.receive()
                assert isinstance(message, Publish)
                assert len(message.payload) == 8_000_000
    addresses = {event["client_id"]: event["address"] for event in run.logged("connected")}
    assert addresses["four"].startswith("127.0.0.1:")
    assert addresses["six"].startswith("[::1]:")


async def test_what_is_accepted_sends_at_once_and_notices_a_host_that_has_vanished() -> None:
    listener = listen()
    async with running(listener) as run:
        await Peer(await run.dial(listener)).connect("a")
        [wire] = run.server._wires.values()
        assert isinstance(wire.pipe, TcpPipe)
        for option in ((socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)):
            assert wire.pipe._sock.getsockopt(*option)


async def test_a_client_that_leaves_ends_what_is_asked_about_it() -> None:
    asked = trio.Event()

    class Ask(Effect):
        pass

    def authenticate(request: AuthRequest) -> Authentication:
        if request.re_authentication:
            yield Ask()
        return Granted()

    async def perform(_: Effect) -> Reply:
        asked.set()
        await trio.sleep_forever()

    listener = listen(policy=Policy(authenticate=authenticate))
    with trio.fail_after(10):
        async with running(listener, perform=perform) as run:
            peer = Peer(await run.dial(listener))
            await peer.send(Connect(client_id="a", authentication_method="m"))
            assert isinstance(await peer.receive(), ConnAck)
            await peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
            await asked.wait()
            await peer.send(Disconnect())
            await until(lambda: run.server.open_links == 0)


async def test_serve_tells_its_addresses_and_ends_with_its_nursery() -> None:
    listener = listen()
    broker = Broker(seed=bytes(32), wall_offset=0.0)
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(serve, broker, [listener])
        assert address == listener.address
        async with await trio.open_tcp_stream(*address) as stream:
            assert isinstance(await Peer(stream).connect(), ConnAck)
        nursery.cancel_scope.cancel()
    assert listener.socket.fileno() == -1


async def test_connections_of_a_listener_are_bounded() -> None:
    listener, other = listen(), listen()
    with trio.fail_after(30):
        async with running(listener, other, bounds=ServerLimits(connections_per_listener=2)) as run:
            streams = [await run.dial(listener) for _ in range(2)]
            for stream in streams:
                await Peer(stream).connect()
            assert await is_closed(await run.dial(listener))
            await Peer(await run.dial(other)).connect()
            await streams[0].aclose()
            await until(lambda: run.server.open_links == 2)
            await Peer(await run.dial(listener)).connect()
    [event] = run.logged("connection_refused")
    assert event["reason"] == "the listener has connections_per_listener connections"


async def test_connections_of_an_address_are_bounded() -> None:
    [sock] = open_sockets(["0.0.0.0"], 0, 10)
    listener = Listener(socket=sock)
    with trio.fail_after(30):
        async with running(listener, bounds=ServerLimits(connections_per_address=2)) as run:
            streams = [await run.dial(listener) for _ in range(2)]
            for stream in streams:
                await Peer(stream).connect()
            assert await is_closed(await run.dial(listener))
            await Peer(await run.dial(listener, local_address="127.0.0.2")).connect()
            reset(streams[0])
            await until(lambda: run.server.open_links == 2)
            await Peer(await run.dial(listener)).connect()
    [event] = run.logged("connection_refused")
    assert event["reason"] == "the address has connections_per_address connections"
    assert event["address"].startswith("127.0.0.1:")


class Failing(socket.socket):
    """A listening socket whose accept fails first."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            raise OSError(self.errors.pop(0), "failed")
        return super().accept()


def listen_failing(*errors: int) -> Listener:
    [sock] = open_sockets(["127.0.0.1"], 0, 10)
    failing = Failing(sock.family, sock.type, sock.proto, sock.detach())
    failing.errors = list(errors)
    return Listener(socket=failing)


async def test_accepting_goes_on_after_a_shortage(patient_clock: MockClock) -> None:
    listener = listen_failing(errno.EMFILE, errno.ENFILE, errno.EINVAL)
    async with running(listener, bounds=ServerLimits(accept_retry_delay=3.0)) as run:
        started = trio.current_time()
        await Peer(await run.dial(listener)).connect()
        assert trio.current_time() - started == pytest.approx(9.0, abs=0.5)
    assert len(run.logged("accept_failed")) == 3
    assert run.logged("accept_failed")[0]["address"].startswith("127.0.0.1:")


async def test_a_client_that_is_gone_before_it_is_accepted_costs_nothing(patient_clock: MockClock) -> None:
    listener = listen_failing(errno.ECONNABORTED, errno.EPERM)
    async with running(listener) as run:
        started = trio.current_time()
        await Peer(await run.dial(listener)).connect()
        assert trio.current_time() == pytest.approx(started, abs=0.01)
    assert not run.logged("accept_failed")


async def test_a_refusal_reaches_a_client_that_sends_on() -> None:
    listener = listen()
    with trio.fail_after(30):
        async with running(listener) as run:
            for _ in range(20):
                stream = await run.dial(listener)
                # CONNECT of an unknown version, with more behind it than the broker will ever read.
                await stream.send_all(b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00" + bytes(1_000_000))
                peer = Peer(stream)
                answer = bytearray()
                while data := await stream.receive_some():
                    answer += data
                assert answer[0] == 0x20, peer
                await stream.aclose()


async def test_a_stalled_tcp_reader_is_dropped(patient_clock: MockClock) -> None:
    listener = listen()
    async with running(listener, bounds=ServerLimits(stall_timeout=30.0)) as run:
        stream = await run.dial(listener)
        peer = Peer(stream)
        await peer.connect("stalled")
        await peer.send(Subscribe(1, (Subscription("t"),)))
        await peer.receive()
        started = trio.current_time()
        await Peer(await run.dial(listener)).connect("other")
        run.broker.publish(Publish("t", bytes(30_000_000)), trio.current_time())
        run.server.dispatch()
        await until(lambda: run.server.open_links == 1, step=2.0)
        assert trio.current_time() - started == pytest.approx(30.0, abs=10)
    [event] = run.logged("transport_failed")
    assert event["client_id"] == "stalled"


async def test_a_slow_tcp_reader_is_not_dropped(patient_clock: MockClock) -> None:
    listener = listen()
    async with running(listener, bounds=ServerLimits(stall_timeout=30.0)) as run:
        stream = await run.dial(listener)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        peer = Peer(stream)
        await peer.connect("slow")
        await peer.send(Subscribe(1, (Subscription("t"),)))
        await peer.receive()
        run.broker.publish(Publish("t", bytes(8_000_000)), trio.current_time())
        run.server.dispatch()
        for _ in range(30):
            await trio.sleep(4.0)
            await stream.receive_some(65_536)
        assert run.server.open_links == 1


async def test_stop_tells_every_client_and_ends() -> None:
    listener = listen()
    with trio.fail_after(30):
        async with running(listener) as run:
            five, old = Peer(await run.dial(listener)), Peer(await run.dial(listener))
            await five.connect("five")
            await old.connect("old", version=V311)
            unfinished = await run.dial(listener)
            address = listener.address
            run.server.stop()
            word = await five.receive()
            assert isinstance(word, Disconnect)
            assert word.reason_code == ReasonCode.SERVER_SHUTTING_DOWN
            assert isinstance(await five.receive(), ConnectionClosed)
            assert isinstance(await old.receive(), ConnectionClosed)
            assert await is_closed(unfinished)
            for stream in (five.stream, old.stream, unfinished):
                await stream.aclose()
            await until(lambda: run.server.open_links == 0)
            with pytest.raises(OSError, match="all attempts"):
                await trio.open_tcp_stream(*address)


async def test_stop_does_not_wait_for_clients_that_do_not_read(patient_clock: MockClock) -> None:
    listener = listen()
    bounds = ServerLimits(shutdown_timeout=3.0, linger_timeout=20.0)
    async with running(listener, bounds=bounds) as run:
        near, far = trio.testing.lockstep_stream_pair()
        run.nursery.start_soon(run.server.serve_stream, far)
        await Peer(near).connect("in memory")
        peer = Peer(await run.dial(listener))
        await peer.connect("over TCP")
        handshaking = await run.dial(listener)
        started = trio.current_time()
        run.server.stop()
        await until(lambda: run.server.open_links == 0, step=0.5)
        assert trio.current_time() - started == pytest.approx(3.0, abs=1.0)
        await handshaking.aclose()


async def test_after_stop_no_stream_is_served(autojump_clock: MockClock) -> None:
    async with running() as run:
        run.server.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert await run.open_memory().receive_some() == b""


async def test_a_flood_of_one_client_does_not_starve_another() -> None:
    listener = listen()
    with trio.fail_after(60):
        async with running(listener) as run:
            flooder, other = Peer(await run.dial(listener)), Peer(await run.dial(listener))
            await flooder.connect("flooder")
            await other.connect("other")

            async def flood() -> None:
                while True:
                    await flooder.send(*[Publish("t", b"x")] * 5000)

            run.nursery.start_soon(flood)
            for _ in range(20):
                with trio.fail_after(10):
                    await other.send(PingReq())
                    assert isinstance(await other.receive(), PingResp)


async def test_each_listener_has_its_policy() -> None:
    from mqttcore.auth import Authentication, AuthRequest, Denied

    def refuse(request: AuthRequest) -> Authentication:
        return Denied()
        yield

    open_to_all, closed = listen(), listen(policy=Policy(authenticate=refuse))
    with trio.fail_after(30):
        async with running(open_to_all, closed) as run:
            assert not (await Peer(await run.dial(open_to_all)).connect()).reason_code.is_failure
            assert (await Peer(await run.dial(closed)).connect()).reason_code == ReasonCode.NOT_AUTHORIZED


async def test_a_disconnect_is_read_even_if_nothing_can_be_sent_any_more() -> None:
    listener = listen()
    with trio.fail_after(30):
        async with running(listener) as run:
            watcher = Peer(await run.dial(listener))
            await watcher.connect("watcher")
            await watcher.send(Subscribe(1, (Subscription("will"), Subscription("end"))))
            await watcher.receive()
            leaver = Peer(await run.dial(listener))
            await leaver.connect("leaver", will=Will(topic="will", payload=b""))
            await leaver.send(Subscribe(1, (Subscription("t"),)))
            await leaver.receive()
            assert isinstance(leaver.stream, trio.SocketStream)
            leaver.stream.socket._sock.send(codec.encode(Disconnect()))  # type: ignore[attr-defined]
            reset(leaver.stream)
            # Sending fails before the broker has had a chance to read.
            run.broker.publish(Publish("t", bytes(1000)), trio.current_time())
            run.server.dispatch()
            await until(lambda: run.server.open_links == 1)
            run.broker.publish(Publish("end"), trio.current_time())
            run.server.dispatch()
            message = await watcher.receive()
            assert isinstance(message, Publish)
            assert message.topic == "end"
    assert run.logged("disconnected")[0]["by"] == "peer"


async def test_nobody_pays_for_a_broker_that_stood_still(mock_clock: MockClock) -> None:
    """What clients sent while the broker could not read counts, although it takes several turns to read it."""
    [sock] = open_sockets(["127.0.0.1"], 0, 200)
    listener = Listener(socket=sock)
    async with running(listener) as server:
        peers = [Peer(await server.dial(listener)) for _ in range(3 * READS_PER_TURN)]
        for number, peer in enumerate(peers):
            await peer.connect(f"c{number}", keep_alive=2)
        # What a process that was stopped finds when it goes on: pings, and deadlines that have passed.
        for stream in server.dialled:
            os.write(stream.socket.fileno(), encode(PingReq(), V5))
        mock_clock.jump(10.0)
        for _ in range(30):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.05)
        for peer in peers:
            assert await peer.receive() == PingResp()
        assert not server.logged("disconnected")
