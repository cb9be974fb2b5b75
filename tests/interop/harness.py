"""Runs other people's clients as processes; a test talks to them through JSON lines."""

import socket
import struct
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Literal

import attrs
import trio

from tests.processes import DEADLINE, ROOT

Transport = Literal["tcp", "tls", "ws", "wss"]
Version = Literal[4, 5]


@attrs.frozen
class Endpoint:
    transport: Transport
    port: int
    ca: str
    host: str = "localhost"


@attrs.frozen(kw_only=True)
class Message:
    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    content_type: str = ""
    response_topic: str = ""
    correlation_data: str = ""
    user_properties: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self) | {"payload": self.payload.hex()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Message":
        return cls(
            topic=fields["topic"],
            payload=bytes.fromhex(fields["payload"]),
            qos=fields["qos"],
            retain=bool(fields["retain"]),
            content_type=fields["content_type"],
            response_topic=fields["response_topic"],
            correlation_data=fields["correlation_data"],
            user_properties=tuple((name, value) for name, value in fields["user_properties"]),
        )


@attrs.frozen(kw_only=True)
class Options:
    """What a client is asked to do: subscribe to filters, or, without any, publish messages and leave."""

    version: Version
    client_id: str
    clean: bool = True
    expiry: int = 0
    keep_alive: int = 60
    qos: int = 0
    filters: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    will: Message | None = None


@contextmanager
def _deadline(failure: str) -> Iterator[None]:
    with trio.move_on_after(DEADLINE) as scope:
        yield
    assert not scope.cancelled_caught, f"{failure} within {DEADLINE} s"


class Program:
    """A client process that prints one JSON object per line."""

    def __init__(
        self,
        process: trio.Process,
        parse: Callable[[bytes], dict[str, Any] | None],
        name: str,
    ) -> None:
        self._process = process
        self._parse = parse
        self._name = name
        self._buffer = bytearray()
        self._searched = 0
        self._ready = False
        self._messages: deque[Message] = deque()
        self.session_present: bool | None = None  # None: not known yet, or the client does not tell

    async def ready(self) -> None:
        """Wait until the client is connected and its subscriptions are granted."""
        while not self._ready:
            await self._event("be ready")

    async def message(self) -> Message:
        while not self._messages:
            await self._event("give a message")
        return self._messages.popleft()

    async def messages_until(self, last: Message) -> list[Message]:
        """Everything that arrives before a message on the topic of `last`."""
        received = []
        while (message := await self.message()).topic != last.topic:
            received.append(message)
        return received

    async def finish(self) -> None:
        with _deadline(f"{self._name} did not end"):
            status = await self._process.wait()
        assert status == 0, f"{self._name}: exit status {status}"

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def _event(self, what: str) -> None:
        with _deadline(f"{self._name} did not {what}"):
            fields = self._parse(await self._line())
        if fields is None:
            return
        if fields["event"] == "message":
            self._messages.append(Message.from_json(fields))
        else:
            self._ready, self.session_present = True, fields["session_present"]

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            chunk = await self._process.stdout.receive_some(1 << 20)
            if not chunk:
                raise AssertionError(f"{self._name}: ended with status {await self._process.wait()}")
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


@asynccontextmanager
async def program(
    argv: list[str], stdin: bytes, parse: Callable[[bytes], dict[str, Any] | None], name: str
) -> AsyncIterator[Program]:
    process = await trio.lowlevel.open_process(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdin is not None
        async with process.stdin:
            await process.stdin.send_all(stdin)
        yield Program(process, parse, name)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


@attrs.define(eq=False)
class _Connection:
    near: trio.SocketStream
    far: trio.SocketStream
    answered: bool = False
    under_way: bool = False

    def reset(self) -> None:
        for stream in (self.near, self.far):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()


class Proxy:
    """Forwards TCP connections, and resets all of them each time that a number of bytes has come by.

    It waits until each client has sent something after its CONNACK. When a connection ends before the CONNACK, paho 2.2
    forgets which messages it has released and publishes them as new ones, so that they arrive twice from any broker.
    """

    def __init__(self, target: int, cut_at: list[int]) -> None:
        self._target = target
        self._connections: set[_Connection] = set()
        self._forwarded = 0
        self.cuts_to_come = cut_at
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, target: int, cut_at: list[int]) -> AsyncIterator["Proxy"]:
        self = cls(target, cut_at)
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._handle, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            yield self
            nursery.cancel_scope.cancel()

    async def _handle(self, near: trio.SocketStream) -> None:
        async with near, await trio.open_tcp_stream("127.0.0.1", self._target) as far:
            connection = _Connection(near, far)
            self._connections.add(connection)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._forward, connection, near, far, nursery.cancel_scope)
                    nursery.start_soon(self._forward, connection, far, near, nursery.cancel_scope)
            finally:
                self._connections.discard(connection)

    async def _forward(
        self, connection: _Connection, source: trio.SocketStream, sink: trio.SocketStream, end: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(1024):
                self._forwarded += len(data)
                if source is connection.far:
                    connection.answered = True
                else:
                    connection.under_way = connection.answered
                self._cut_if_due()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        end.cancel()

    def _cut_if_due(self) -> None:
        due = self.cuts_to_come and self._forwarded >= self.cuts_to_come[0]
        if due and all(connection.under_way for connection in self._connections):
            self.cuts_to_come.pop(0)
            for connection in self._connections:
                connection.reset()
            self._connections.clear()
