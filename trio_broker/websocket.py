"""WebSocket on the server side: the handshake, and bytes in both directions.

wsproto is given what has been received, and gives what is to be sent, so that nothing in here waits but for what
it runs over: what comes in messages is read by the poller as what comes without them.
"""

from contextlib import suppress
from itertools import islice
from math import inf
from typing import final

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from trio_broker.errors import HandshakeError, TransportError
from trio_broker.transports import GONE, SocketPipe, see_off, send_all

FRAMES_PER_TURN = 256
"""Frames of one connection that are looked at before others have their turn."""
MESSAGE_SIZE = 65_536
"""Bytes of a message that we send, at most: a client may bound what it takes."""
SUBPROTOCOL = "mqtt"
NO_HANDSHAKE = "not a WebSocket handshake"


@final
class WebSocketPipe:
    """The bytes of binary messages; packets may be split over them or joined in them in any way. [MQTT-6.0.0-2]

    They are handed on as they come, not when their message is complete, so nothing is held that MQTT does not bound.
    """

    __slots__ = ("_answer", "_deaf", "_ended", "_failure", "_more", "_parted", "_pipe", "_rest", "_socket", "behind")

    def __init__(self, pipe: SocketPipe, websocket: WSConnection) -> None:
        self._pipe = pipe
        self._socket = websocket
        self._more = False  # whether there may be frames left in what has been received
        self._ended = False  # whether the peer has sent a Close frame
        self._failure: str | None = None  # what the peer must not have sent, behind what has been received
        self._parted = False  # whether we have sent a Close frame
        self._deaf = False  # whether there was what no frame can follow
        self.behind = False
        self._answer = b""  # what is to be sent when it has,
        self._rest = b""  # and then

    @property
    def ready(self) -> bool:
        return self._more or self._ended or self._failure is not None or self._pipe.ready

    def fileno(self) -> int:
        return self._pipe.fileno()

    def receive_now(self) -> bytes | None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise TransportError(failure)
        if self._ended:
            return b""
        return self._next_messages() if self._more else self._messages(self._pipe.receive_now())

    async def receive(self) -> bytes:
        while True:
            if self.ready:
                await trio.lowlevel.checkpoint()
                data = self.receive_now()
            else:
                data = self._messages(await self._pipe.receive())
            if data is not None:
                return data

    def send_now(self, data: bytes) -> bool:
        if self._parted:
            raise trio.BrokenResourceError
        send = self._socket.send
        if len(data) <= MESSAGE_SIZE:
            return self._send(send(BytesMessage(data)))
        pieces = [data[start : start + MESSAGE_SIZE] for start in range(0, len(data), MESSAGE_SIZE)]
        return self._send(b"".join([send(BytesMessage(piece)) for piece in pieces]))

    async def drain(self, stall_timeout: float) -> None:
        while self.behind:
            await self._pipe.drain(stall_timeout)
            self.behind = False
            frames, self._answer, self._rest = self._answer + self._rest, b"", b""
            if frames:
                self._send(frames)

    async def finish(self) -> None:
        self._part_with(CloseReason.NORMAL_CLOSURE)
        await self.drain(inf)
        await self._pipe.finish()

    async def close(self) -> None:
        pass

    def part(self) -> bool:
        return False  # a Close frame is to be answered

    def _messages(self, data: bytes | None) -> bytes | None:
        """What is in the frames that these bytes go on with; b"" if the peer has finished, None if there is nothing."""
        if not data or self._deaf:
            return data
        self._socket.receive_data(data)
        return self._next_messages()

    def _next_messages(self) -> bytes | None:
        pieces = []
        frames = 0
        self._more = False
        for event in islice(self._socket.events(), FRAMES_PER_TURN):
            frames += 1
            if isinstance(event, BytesMessage):
                pieces.append(event.data)
            elif isinstance(event, Ping):
                self._pong(event)
            elif isinstance(event, TextMessage) and not self._parted:
                # [MQTT-6.0.0-1]
                self._failure = "a WebSocket text message; MQTT needs binary ones"
                self._part_with(CloseReason.UNSUPPORTED_DATA, "MQTT needs binary messages")
                self._more = True
                break
            elif isinstance(event, CloseConnection):
                self._on_close(event)
                break
        self._more |= frames == FRAMES_PER_TURN
        return b"".join(pieces) or (b"" if self._ended else None)

    def _on_close(self, event: CloseConnection) -> None:
        """The peer's Close frame, the answer to ours, or what the library makes of a frame that there cannot be."""
        if self._socket.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
            self._ended = True
        else:
            self._deaf = True
            if not self._parted:
                self._failure = f"a WebSocket frame is malformed: {event.reason}"
        self._part_with(event.code, event.reason)

    def _pong(self, ping: Ping) -> None:
        # It is enough to answer the latest, and before a Close frame. (RFC 6455, sections 5.5.3 and 5.5.1)
        if self._parted:
            return
        frame = self._socket.send(ping.response())
        if self.behind:
            self._answer = frame
            return
        with suppress(*GONE):  # what else the peer has sent is still to be read
            self._send(frame)

    def _part_with(self, code: int, reason: str | None = None) -> None:
        if not self._parted:
            self._parted = True
            with suppress(*GONE):
                self._send(self._socket.send(CloseConnection(code, reason)))

    def _send(self, frames: bytes) -> bool:
        if self.behind:
            self._rest += frames
        else:
            self.behind = not self._pipe.send_now(frames)
        return not self.behind


async def accept_websocket(pipe: SocketPipe, *, timeout: float, linger: float) -> WebSocketPipe:
    """Do the server's side of a WebSocket handshake over a pipe.

    Raises HandshakeError after `timeout` seconds, or when the client is refused; the answer that tells it why
    has then up to `linger` seconds to reach it.
    """
    websocket = WSConnection(ConnectionType.SERVER)
    try:
        with trio.fail_after(timeout):
            request = await _read_request(pipe, websocket)
            if isinstance(request, Request) and SUBPROTOCOL in request.subprotocols:
                # [MQTT-6.0.0-4]
                await send_all(pipe, websocket.send(AcceptConnection(subprotocol=SUBPROTOCOL)))
                return WebSocketPipe(pipe, websocket)
    except trio.TooSlowError:
        raise HandshakeError(f"no WebSocket handshake within {timeout:g} seconds") from None
    except TransportError as error:
        raise HandshakeError(str(error)) from None
    except GONE:
        raise HandshakeError(NO_HANDSHAKE) from None
    if isinstance(request, Request):
        # [MQTT-6.0.0-3]
        refusal = websocket.send(RejectConnection(status_code=400, has_body=True))
        refusal += websocket.send(RejectData(b"MQTT needs the WebSocket subprotocol mqtt\n"))
        reason = "the WebSocket subprotocol mqtt was not asked for"
    else:
        refusal, reason = websocket.send(request), NO_HANDSHAKE
    with trio.move_on_after(linger), suppress(TransportError, *GONE):
        await send_all(pipe, refusal)
        await see_off(pipe)
    raise HandshakeError(reason)


async def _read_request(pipe: SocketPipe, websocket: WSConnection) -> Request | RejectConnection:
    """What a client asks for, or what it is to be told because it asks for something else."""
    while data := await pipe.receive():
        try:
            websocket.receive_data(data)
        except RemoteProtocolError as error:
            return error.event_hint if isinstance(error.event_hint, RejectConnection) else RejectConnection()
        except UnicodeError:  # what the library lets out for headers that are no text
            return RejectConnection()
        for event in websocket.events():
            if isinstance(event, Request):
                return event
    raise trio.BrokenResourceError
