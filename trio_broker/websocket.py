"""WebSocket: the handshake, and messages in both directions as a pipe of bytes."""

from collections.abc import Callable
from contextlib import suppress
from typing import final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from trio_broker.errors import HandshakeError, TransportError
from trio_broker.transports import CHUNK_SIZE, GONE, READ_SIZE, stalled

MESSAGES_PER_TURN = 64
"""WebSocket messages that one connection feeds to the broker at once."""
SUBPROTOCOL = "mqtt"


@final
class WebSocketPipe:
    """Binary WebSocket messages; packets may be split over them or joined in them in any way. [MQTT-6.0.0-2]"""

    __slots__ = ("_linger", "_rest", "_socket", "_source", "_text", "_unsent")

    def __init__(self, websocket: WebSocketConnection, source: "MeteredStream", linger: float) -> None:
        self._socket = websocket
        self._source = source
        self._linger = linger
        self._rest = b""
        self._unsent = b""
        self._text = False  # whether there was a text message, behind what has been received

    async def receive(self) -> bytes:
        if self._rest:
            await trio.lowlevel.checkpoint()
        while not self._rest:
            try:
                self._rest = b"".join(await self._receive_messages())
            except ConnectionClosed as closed:
                await self._explain(closed)
                raise
            if self._text and not self._rest:
                with trio.move_on_after(self._linger):
                    await self._take_leave(1003, "MQTT needs binary messages")
                # [MQTT-6.0.0-1]
                raise TransportError("a WebSocket text message; MQTT needs binary ones")
        data, self._rest = self._rest[:READ_SIZE], self._rest[READ_SIZE:]
        return data

    async def _receive_messages(self) -> list[bytes]:
        """At least one, and what else has arrived: most clients send each packet in a message of its own."""
        messages: list[bytes] = []
        size = 0
        with trio.CancelScope() as scope:
            while not self._text and size < READ_SIZE and len(messages) < MESSAGES_PER_TURN:
                try:
                    message = await self._socket.get_message()
                except ConnectionClosed:
                    if not messages:
                        raise
                    break
                if isinstance(message, str):
                    self._text = True
                    break
                self._source.unread = 0
                messages.append(message)
                size += len(message)
                # The library hands over one message at a time, and asks for more bytes when it has handed over all.
                if self._source.asked:
                    break
                self._source.when_asked = scope.cancel
        self._source.when_asked = None
        return messages

    def send_now(self, data: bytes) -> bool:
        self._unsent = data
        return False

    async def drain(self, stall_timeout: float) -> None:
        data, self._unsent = self._unsent, b""
        for start in range(0, len(data), CHUNK_SIZE):
            with trio.move_on_after(stall_timeout) as scope:
                await self._socket.send_message(data[start : start + CHUNK_SIZE])
            if scope.cancelled_caught:
                raise stalled(stall_timeout)

    async def finish(self) -> None:
        await self._take_leave(1000, None)

    async def close(self) -> None:
        pass

    async def _take_leave(self, code: int, reason: str | None) -> None:
        """Send a Close frame; return when the peer has answered it, or is gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._source.cancel_when_closed, nursery.cancel_scope)
            await self._socket.aclose(code, reason)
            nursery.cancel_scope.cancel()

    async def _explain(self, closed: ConnectionClosed) -> None:
        if closed.reason is not None and closed.reason.code == 1009:
            # The library has sent that, and what is unread would turn it into a reset.
            with trio.move_on_after(self._linger):
                await self._source.drop_rest()
            raise TransportError("a WebSocket message is too large (1009)")

    def accept(self) -> None:
        """The client has been accepted: messages may now be as large as the connection allows."""
        self._source.budget = None


@final
class MeteredStream(trio.abc.Stream):
    """A stream under a WebSocket that notices three things the library does not tell.

    `budget` bounds the bytes of a message that is not complete, where the library's bound is for an
    accepted client's largest packet. `closed` is set when the library gives the connection up, or the
    peer has finished. `asked` says that the library waits for bytes, having handed over every message
    of those it has; `when_asked` is called when that begins.
    """

    def __init__(self, stream: trio.abc.Stream, budget: int) -> None:
        self._stream = stream
        self.budget: int | None = budget
        self.unread = 0
        self.closed = trio.Event()
        self.asked = False
        self.when_asked: Callable[[], None] | None = None
        self._answered: trio.Event | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._answered is not None:
            raise trio.ClosedResourceError  # `drop_rest` reads now
        self.asked = True
        if self.when_asked is not None:
            self.when_asked()
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        finally:
            if self._answered is not None:
                self._answered.set()
        self.asked = False
        if not data:
            self.closed.set()
        if self.budget is not None:
            self.unread += len(data)
            if self.unread > self.budget:
                raise trio.BrokenResourceError("a WebSocket message before CONNECT is too large")
        return data

    async def drop_rest(self) -> None:
        """Read to the end instead of the library, which asks once more when it has given the connection up."""
        self._answered = trio.Event()
        if self.asked:
            await self._answered.wait()
        while await self._stream.receive_some(READ_SIZE):
            pass

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.closed.set()
        await self._stream.aclose()

    async def cancel_when_closed(self, scope: trio.CancelScope) -> None:
        """Wait for `closed`, and end what nothing more can come of."""
        await self.closed.wait()
        scope.cancel()


async def accept_websocket(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    *,
    timeout: float,
    linger: float,
    maximum_early_message: int,
    maximum_message: int,
) -> WebSocketPipe:
    """Do the server's side of a WebSocket handshake; the library's reading task lives in `nursery`.

    Sizes are bytes: of a message before and after the pipe's `accept`. Raises HandshakeError.
    """
    source = MeteredStream(stream, maximum_early_message)
    accepted: WebSocketConnection | None = None
    rejected = False

    async def read(task_status: trio.TaskStatus[WebSocketRequest]) -> None:
        try:
            async with trio.open_nursery() as reading:
                task_status.started(
                    await wrap_server_stream(
                        reading, source, 0, max_message_size=maximum_message, receive_buffer_size=READ_SIZE
                    )
                )
        except* LocalProtocolError:  # what the library lets out when a Ping arrives behind our Close
            with suppress(*GONE):
                while await source.receive_some(READ_SIZE):
                    pass

    with trio.move_on_after(timeout) as scope:
        async with trio.open_nursery() as watching:
            watching.start_soon(source.cancel_when_closed, watching.cancel_scope)
            try:
                request: WebSocketRequest = await nursery.start(read)
                if SUBPROTOCOL in request.proposed_subprotocols:
                    accepted = await request.accept(subprotocol=SUBPROTOCOL)  # [MQTT-6.0.0-4]
                else:
                    rejected = True  # [MQTT-6.0.0-3]
                    await request.reject(400, body=b"MQTT needs the WebSocket subprotocol mqtt\n")
            except* UnicodeError:  # what the library lets out for headers that are no text
                pass
            watching.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise HandshakeError(f"no WebSocket handshake within {timeout:g} seconds")
    if accepted is None:
        raise HandshakeError(
            "the WebSocket subprotocol mqtt was not asked for" if rejected else "not a WebSocket handshake"
        )
    source.unread = 0
    return WebSocketPipe(accepted, source, linger)
