"""A WebSocket connection as a stream of bytes: packets are split over messages, or share one (section 6)."""

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from trio_broker.client.errors import ClientError, printable

SUBPROTOCOL = "mqtt"
SENT_MESSAGE = 64 * 1024
"""The largest WebSocket message that we send, in bytes: a server may bound messages as it bounds packets."""
RECEIVED_MESSAGE = 256 * 1024 * 1024
"""The largest WebSocket message that we accept, in bytes: one packet of the largest size that MQTT knows."""
READ_SIZE = 64 * 1024
UNSUPPORTED_DATA = 1003
"""The close code for a text message (RFC 6455, section 7.4.1)."""


class _WatchedStream(trio.abc.Stream):
    """Tells when the stream under a WebSocketConnection ended, and of what: trio-websocket keeps neither."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.ended = trio.Event()
        self.failure: trio.BrokenResourceError | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = b""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as exc:
            self.failure = exc
            raise
        finally:
            if not data:
                self.ended.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.ended.set()
        await self._stream.aclose()


class WebSocketStream(trio.abc.Stream):
    """The binary messages of one WebSocket connection, end to end."""

    def __init__(self, connection: WebSocketConnection, watched: _WatchedStream) -> None:
        self._connection = connection
        self._watched = watched

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next message's bytes (never split: `max_bytes` is not looked at); b"" at the end. [MQTT-6.0.0-2]

        Raises trio.BrokenResourceError when the peer sends text or the connection breaks.
        """
        message: str | bytes = b""
        while not message:  # an empty message carries nothing, and here b"" would mean the end
            try:
                message = await self._connection.get_message()
            except ConnectionClosed as exc:
                if self._watched.failure is not None:
                    raise trio.BrokenResourceError from self._watched.failure
                if exc.reason is not None and exc.reason.code == 1009:
                    raise trio.BrokenResourceError("a WebSocket message is too large") from None
                return b""
        if isinstance(message, str):  # [MQTT-6.0.0-1]
            await self._connection.aclose(UNSUPPORTED_DATA, "MQTT needs binary messages")
            raise trio.BrokenResourceError("the server sent a WebSocket text message, MQTT needs binary ones")
        return message

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` as binary messages; trio.BrokenResourceError when the connection is gone."""
        view = memoryview(data)
        try:
            for start in range(0, len(view), SENT_MESSAGE):
                await self._connection.send_message(bytes(view[start : start + SENT_MESSAGE]))
        except (ConnectionClosed, LocalProtocolError):
            raise trio.BrokenResourceError("the WebSocket connection is closed") from self._watched.failure

    async def wait_send_all_might_not_block(self) -> None:
        await self._watched.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        try:
            await self._connection.aclose()
        finally:
            # The library leaves it to the server when that was the first to send a Close frame.
            await self._watched.aclose()


async def open_websocket(nursery: trio.Nursery, stream: trio.abc.Stream, *, host: str, path: str) -> WebSocketStream:
    """Upgrade `stream`; `host` is the Host header. Raises ClientError when the server does not agree."""
    opened: WebSocketStream = await nursery.start(_hold_websocket, stream, host, path)
    return opened


async def _hold_websocket(
    stream: trio.abc.Stream,
    host: str,
    path: str,
    *,
    task_status: trio.TaskStatus[WebSocketStream],
) -> None:
    watched = _WatchedStream(stream)
    opened = False
    try:
        async with trio.open_nursery() as nursery:
            # wrap_client_stream waits for an answer for ever, also when the connection has ended without one.
            with trio.CancelScope() as handshake:
                nursery.start_soon(_cancel_after, watched.ended, handshake)
                connection = await wrap_client_stream(
                    nursery,
                    watched,  # type: ignore[arg-type]  # any stream will do; the annotation is too narrow
                    host,
                    path,
                    subprotocols=[SUBPROTOCOL],  # [MQTT-6.0.0-3]
                    max_message_size=RECEIVED_MESSAGE,
                    receive_buffer_size=READ_SIZE,
                )
            if handshake.cancelled_caught:
                raise ClientError("the server closed the connection during the WebSocket handshake")
            if connection.subprotocol != SUBPROTOCOL:  # [MQTT-6.0.0-3]
                offered = printable(connection.subprotocol or "none")
                raise ClientError(f"no MQTT server: it chose the WebSocket subprotocol {offered}, not mqtt")
            opened = True
            task_status.started(WebSocketStream(connection, watched))
    except ExceptionGroup as group:
        # What a server does that speaks no WebSocket, or breaks off at a bad moment, comes out of the reader as
        # exceptions of several libraries.
        first = group.exceptions[0]
        watched.failure = trio.BrokenResourceError(f"WebSocket: {first}")
        if not opened:
            raise _refusal(first, path) from None


def _refusal(exc: Exception, path: str) -> ClientError:
    if isinstance(exc, ClientError):
        return exc
    if isinstance(exc, ConnectionRejected):
        return ClientError(f"the server refused a WebSocket at {path} with HTTP status {exc.status_code}")
    return ClientError(f"the WebSocket handshake failed: {printable(str(exc))}")


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
