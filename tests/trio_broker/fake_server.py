"""The other end of a client under test: the core's server role over a stream, as the test directs it."""

import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import trio
import trio.testing

from mqttcore.connection import Connection
from mqttcore.events import ConnectionClosed, Event
from mqttcore.limits import Limits
from mqttcore.packets import ConnAck, Connect, Packet
from mqttcore.states import SERVER
from trio_broker.client import Client, open_client
from trio_broker.client.background import background

E = TypeVar("E", bound=Event)


class FakeServer:
    """A server that does nothing by itself. `rest` is what a client of `connected` sent at its end."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.rest: list[Event] = []
        self._connection = Connection(SERVER, Limits(), trio.current_time())

    async def send(self, *packets: Packet) -> None:
        """Send packets in one piece."""
        for packet in packets:
            self._connection.send(packet, trio.current_time())
        await self.stream.send_all(self._connection.take_output())

    async def receive(self) -> Event:
        """The client's next packet, or ConnectionClosed."""
        while (event := self._connection.next_event()) is None:
            await self._read()
        return event

    async def expect(self, kind: type[E]) -> E:
        """The client's next packet, which is of this kind."""
        event = await self.receive()
        assert isinstance(event, kind), event
        return event

    async def accept(self, **fields: Any) -> Connect:
        """Let the client connect; `fields` are CONNACK's."""
        connect = await self.expect(Connect)
        if connect.authentication_method is not None:
            fields.setdefault("authentication_method", connect.authentication_method)
        await self.send(ConnAck(**fields))
        return connect

    async def expect_end(self) -> None:
        """The client has nothing more to say and closes."""
        await self.expect(ConnectionClosed)

    async def _read(self) -> None:
        try:
            data = bytes(await self.stream.receive_some(65_536))
        except trio.BrokenResourceError:
            data = b""
        if data:
            self._connection.receive(data, trio.current_time())
        else:
            self._connection.receive_eof(trio.current_time())


@contextlib.asynccontextmanager
async def connected(
    connect: Connect | None = None, connack: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Client, FakeServer]]:
    """A client in memory and its server, the one accepted by the other."""
    near, far = trio.testing.memory_stream_pair()
    server = FakeServer(far)
    async with background() as nursery:
        nursery.start_soon(functools.partial(server.accept, **(connack or {})))
        async with open_client(connect or Connect(client_id="c"), stream=near, **options) as client:
            yield client, server
            nursery.start_soon(_hang_up, server)


async def _hang_up(server: FakeServer) -> None:
    # As a server does once the client has taken its leave: otherwise the client waits for that.
    with contextlib.suppress(trio.ClosedResourceError):
        while not isinstance(event := await server.receive(), ConnectionClosed):
            server.rest.append(event)
    await server.stream.aclose()
