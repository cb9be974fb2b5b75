"""The server's WebSocket: handshake and frames, up to the bytes that the broker gets.

Input: how the stream is cut, then any bytes, or frames put together after a handshake that is right.
"""

import struct
from math import inf
from typing import final

import trio
import trio.testing

from fuzz.source import Source, chunks
from trio_broker.errors import HandshakeError, TransportError
from trio_broker.transports import GONE, READ_SIZE
from trio_broker.websocket import accept_websocket

EARLY, LARGEST = 1000, 4000
"""Bytes of a message before and after the client has been accepted."""
HANDSHAKE = (
    b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)
BINARY, CONTINUATION, PING, PONG = 2, 0, 9, 10
WAIT = b""
"""A client reads what is sent to it before it goes on (RFC 6455, section 4.1), and before it goes."""
ANSWERS = 200
"""Bytes that are sent for each frame, at most; the frames that control the connection have up to 125 themselves."""


def check(data: bytes) -> None:
    """Whatever comes, the handshake succeeds or raises HandshakeError, and reading ends with the stream, GONE or
    TransportError.

    The bytes of binary messages arrive as they were sent, whatever frames and chunks they came in. A message is no
    longer than is allowed before and after the client is accepted, and what is answered is in proportion.
    """
    source = Source(data)
    kind, sizes = source.below(4), source.take(6)
    accepted = source.flag()
    expected: bytes | None = None
    first, second = HANDSHAKE, b""
    if kind == 0:
        first = source.rest()
    elif kind == 1:
        second = source.rest()
    else:
        second, expected = _frames(source, LARGEST if accepted else EARLY)
    stream = first + second
    peer = _Peer([*chunks(first, sizes), WAIT, *chunks(second, sizes), WAIT])
    received = trio.run(_serve, peer, accepted, clock=_Standing())
    if expected is not None:
        assert received is not None
        assert b"".join(received) == expected
    for piece in received or ():
        assert 0 < len(piece) <= READ_SIZE
    assert sum(map(len, received or ())) <= len(stream)
    assert peer.sent <= ANSWERS * (2 + len(stream) // 2) + 1000


async def _serve(peer: "_Peer", accepted: bool) -> list[bytes] | None:
    """What the broker would get; None if there was no handshake."""
    received = []
    async with trio.open_nursery() as nursery:
        try:
            pipe = await accept_websocket(
                nursery, peer, timeout=10, linger=1, maximum_early_message=EARLY, maximum_message=LARGEST
            )
        except HandshakeError as error:
            told = str(error)
            assert told.isprintable()
            nursery.cancel_scope.cancel()
            return None
        if accepted:
            pipe.accept()
        take = pipe._socket.get_message

        async def take_bounded() -> str | bytes:
            message = await take()
            assert isinstance(message, str) or len(message) <= (LARGEST if accepted else EARLY)
            return message

        pipe._socket.get_message = take_bounded  # type: ignore[method-assign]  # where a piece is joined of them
        try:
            while piece := await pipe.receive():
                received.append(piece)
        except TransportError as error:
            told = str(error)
            assert told.isprintable()
        except GONE:
            pass
        nursery.cancel_scope.cancel()
    return received


def _frames(source: Source, most: int) -> tuple[bytes, bytes]:
    """Frames that a client may send, and the bytes of the messages in them."""
    frames, payload = b"", b""
    for _ in range(source.below(6)):
        pieces = [source.take(40) * (1 + source.below(6)) for _ in range(source.below(3) + 1)]
        if sum(map(len, pieces)) > most // 4:
            pieces = [b""]
        for index, piece in enumerate(pieces):
            if source.below(4) == 0:
                frames += _frame(source.pick((PING, PONG)), source.take(20), True, source)
            frames += _frame(CONTINUATION if index else BINARY, piece, index == len(pieces) - 1, source)
        payload += b"".join(pieces)
    return frames, payload


def _frame(opcode: int, payload: bytes, final: bool, source: Source) -> bytes:
    mask = bytes((source.byte(), source.byte(), 3, 4))
    length = len(payload)
    head = bytes((opcode | (0x80 if final else 0),))
    head += bytes((0x80 | length,)) if length < 126 else b"\xfe" + struct.pack(">H", length)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@final
class _Peer(trio.abc.Stream):
    """Sends what it was given, then nothing more; takes everything."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces[::-1]
        self.sent = 0
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        piece = WAIT
        while self._pieces and piece == WAIT:
            piece = self._pieces.pop()
            if piece == WAIT:
                await trio.testing.wait_all_tasks_blocked()
        if max_bytes is not None and len(piece) > max_bytes:
            self._pieces.append(piece[max_bytes:])
        return piece[:max_bytes]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()


@final
class _Standing(trio.abc.Clock):
    """Time stands still: nothing here may wait for it."""

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return 0.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return inf
