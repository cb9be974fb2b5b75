"""A server in the test's own loop, and a client that is no more than the core's connection over a stream."""

import io
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
import trio.testing
from attrs import field, frozen

from mqttcore.broker import Broker, Policy
from mqttcore.codes import V5
from mqttcore.connection import Connection
from mqttcore.events import Event
from mqttcore.limits import Limits
from mqttcore.packets import ConnAck, Connect, Packet
from mqttcore.states import CLIENT
from trio_broker import Listener, Server, ServerLimits
from trio_broker.listeners import open_sockets
from trio_broker.logs import make_logger
from trio_broker.server import Performer, perform_nothing


class Peer:
    """A client's packets over a stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._connection = Connection(CLIENT, Limits(), trio.current_time())

    async def send(self, *packets: Packet) -> None:
        for packet in packets:
            self._connection.send(packet, trio.current_time())
        await self.stream.send_all(self._connection.take_output())

    async def receive(self) -> Event:
        """The next packet; ConnectionClosed at the end."""
        while (event := self._connection.next_event()) is None:
            data = bytes(await self.stream.receive_some(65_536))
            if data:
                self._connection.receive(data, trio.current_time())
            else:
                self._connection.receive_eof(trio.current_time())
        return event

    async def connect(self, client_id: str = "", *, version: int = V5, **fields: Any) -> ConnAck:
        await self.send(Connect(client_id=client_id, protocol_version=version, **fields))
        answer = await self.receive()
        assert isinstance(answer, ConnAck), answer
        return answer


@frozen
class Running:
    """A server that runs, the nursery that it runs in, and what it has logged."""

    server: Server
    nursery: trio.Nursery
    file: io.StringIO
    policy: Policy
    dialled: list[trio.SocketStream] = field(factory=list)

    @property
    def broker(self) -> Broker:
        return self.server.broker

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [fields for fields in self.events if fields["event"] == event]

    async def log_of(self, event: str) -> list[dict[str, Any]]:
        """The lines about an event, once there is one."""
        await until(lambda: self.logged(event))
        return self.logged(event)

    async def dial(self, listener: Listener, **options: Any) -> trio.SocketStream:
        """Connect over TCP; whatever the test does, the socket is closed at the end."""
        stream = await trio.open_tcp_stream(*listener.address, **options)
        self.dialled.append(stream)
        return stream

    def open_memory(self, policy: Policy | None = None) -> trio.StapledStream[Any, Any]:
        """The client's end of a connection in memory."""
        near, far = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.server.serve_stream, far, policy or self.policy)
        return near


async def until(condition: Callable[[], object], step: float = 0.001) -> None:
    """Wait for what other tasks will bring about, looking every `step` seconds."""
    while not condition():
        await trio.sleep(step)


@asynccontextmanager
async def running(
    *listeners: Listener,
    limits: Limits | None = None,
    bounds: ServerLimits | None = None,
    perform: Performer = perform_nothing,
    wall_clock: Callable[[], float] | None = None,
) -> AsyncIterator[Running]:
    """Run a server, whose wall clock goes by Trio's; at the end nothing of it may be left."""
    file = io.StringIO()
    broker_limits = limits or Limits()
    broker = Broker(broker_limits, seed=bytes(32), wall_offset=0.0)
    start = time.time() - trio.current_time()
    server = Server(
        broker,
        limits=bounds,
        perform=perform,
        logger=make_logger("json", "debug", file),
        wall_clock=wall_clock or (lambda: start + trio.current_time()),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        run = Running(server, nursery, file, Policy(limits=broker_limits))
        try:
            yield run
        finally:
            for stream in run.dialled:
                stream.socket.close()
        nursery.cancel_scope.cancel()
    assert server.open_links == 0
    assert all(listener.socket.fileno() == -1 for listener in listeners)


def listen(**fields: Any) -> Listener:
    """A listener on a free port of 127.0.0.1."""
    [sock] = open_sockets(["127.0.0.1"], 0, 128)
    return Listener(socket=sock, **fields)


def reset(stream: trio.SocketStream) -> None:
    """End a connection with a TCP reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    stream.socket.close()


@contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of one connection, which do not block."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far
