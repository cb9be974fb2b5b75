"""Many sockets behind one wait: everything is read, in order, and nobody keeps the others waiting."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import trio

from mqttcore.broker import Broker, Link
from mqttcore.packets import PingReq, PingResp, Publish, SubAck, Subscribe, Subscription
from tests.trio_broker.support import Peer, running, until
from trio_broker import Listener
from trio_broker.listeners import open_sockets
from trio_broker.poller import BYTES_PER_TURN, READS_PER_TURN, Poller

pytestmark = pytest.mark.skipif(not Poller.available, reason="epoll is Linux's")


@contextmanager
def pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with ExitStack() as stack:
        found = [socket.socketpair() for _ in range(count)]
        for each in found:
            for end in each:
                stack.enter_context(end)
                end.setblocking(False)
        yield found


async def test_each_reader_gets_its_own_and_each_round_is_followed_up() -> None:
    poller = Poller()
    received: dict[int, list[bytes]] = {}
    reads = turns = 0

    def follow_up() -> None:
        nonlocal reads, turns
        assert reads <= READS_PER_TURN
        reads, turns = 0, turns + 1

    with pairs(3 * READS_PER_TURN) as sockets:
        for number, (near, _far) in enumerate(sockets):

            def read(now: float, number: int = number, near: socket.socket = near) -> int:
                nonlocal reads
                assert now == pytest.approx(trio.current_time(), abs=1.0)
                reads += 1
                received.setdefault(number, []).append(near.recv(10))
                return len(received[number][-1])

            poller.watch(near.fileno(), read)
        for number, (_near, far) in enumerate(sockets):
            far.send(b"%010d" % number + b"%010d" % (number + 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run, follow_up)
            with trio.fail_after(10):
                await until(lambda: sum(map(len, received.values())) == 2 * len(sockets))
            nursery.cancel_scope.cancel()
    assert received == {number: [b"%010d" % number, b"%010d" % (number + 1)] for number in range(len(sockets))}
    assert turns >= 6
    poller.close()


async def test_many_bytes_are_followed_up_within_a_round() -> None:
    poller = Poller()
    since = 0
    most = 0

    def follow_up() -> None:
        nonlocal since, most
        most, since = max(most, since), 0

    with pairs(8) as sockets:
        left = {near.fileno(): 3 for near, _far in sockets}

        def reader(near: socket.socket) -> None:
            def read(_now: float) -> int:
                nonlocal since
                left[near.fileno()] -= 1
                if not left[near.fileno()]:
                    poller.forget(near.fileno())
                since += BYTES_PER_TURN // 2
                return BYTES_PER_TURN // 2

            poller.watch(near.fileno(), read)

        for near, far in sockets:
            far.send(b"x")
            reader(near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run, follow_up)
            with trio.fail_after(10):
                await until(lambda: not any(left.values()))
            nursery.cancel_scope.cancel()
    assert most == BYTES_PER_TURN
    poller.close()


async def test_one_may_end_another_of_the_same_round() -> None:
    poller = Poller()
    called = []
    with pairs(2) as sockets:
        (one, far_one), (other, far_other) = sockets

        def reader(own: socket.socket, victim: socket.socket) -> None:
            def read(_now: float) -> int:
                called.append(own)
                own.recv(1)
                poller.forget(victim.fileno())
                return 1

            poller.watch(own.fileno(), read)

        reader(one, other)
        reader(other, one)
        far_one.send(b"x")
        far_other.send(b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run, lambda: None)
            with trio.fail_after(10):
                await until(lambda: called)
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    assert len(called) == 1
    poller.close()


async def conversation(listener: Listener) -> None:
    """Two clients, one message, a ping, and an end from either side."""
    async with running(listener) as server:
        one, other = Peer(await server.dial(listener)), Peer(await server.dial(listener))
        await one.connect("one")
        await other.connect("other")
        await one.send(Subscribe(1, (Subscription("a"),)))
        assert isinstance(await one.receive(), SubAck)
        await other.send(Publish("a", b"1"), PingReq())
        assert await other.receive() == PingResp()
        assert await one.receive() == Publish("a", b"1")
        await one.stream.aclose()
        await until(lambda: server.server.open_links == 1)


async def test_without_epoll_every_connection_reads_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Poller, "available", False)
    monkeypatch.setattr(Poller, "watch", None)
    [sock] = open_sockets(["127.0.0.1"], 0, 10)
    await conversation(Listener(socket=sock))


async def test_with_it_none_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_broker.transports.TcpPipe.receive", None)
    [sock] = open_sockets(["127.0.0.1"], 0, 10)
    await conversation(Listener(socket=sock))


async def test_a_quiet_client_has_its_turn_beside_those_that_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much others send, a ping is answered within so many reads of theirs: no timing, a count."""
    [sock] = open_sockets(["127.0.0.1"], 0, 10)
    listener = Listener(socket=sock)
    flood = b"\x30\x05\x00\x01a\x00x" * 100_000
    async with running(listener) as server:
        quiet = Peer(await server.dial(listener))
        await quiet.connect("quiet")
        floods = [Peer(await server.dial(listener)) for _ in range(20)]
        for number, peer in enumerate(floods):
            await peer.connect(f"flood {number}")
        received = 0
        receive = Broker.receive

        def counted(broker: Broker, link: Link, data: bytes, now: float) -> None:
            nonlocal received
            received += 1
            receive(broker, link, data, now)

        monkeypatch.setattr(Broker, "receive", counted)
        async with trio.open_nursery() as nursery:
            for peer in floods:
                nursery.start_soon(peer.stream.send_all, flood * 5)
            await until(lambda: received > 100)
            with trio.fail_after(30):
                for _ in range(5):
                    before = received
                    await quiet.send(PingReq())
                    assert await quiet.receive() == PingResp()
                    # Two rounds may be under way before the ping arrives and before its answer is read.
                    assert received - before < 4 * READS_PER_TURN
            nursery.cancel_scope.cancel()
