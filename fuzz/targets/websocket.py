"""The server's WebSocket: handshake and frames, up to the bytes that the broker gets.

Input: how the stream is cut, then any bytes, or frames put together after a handshake that is right.
"""

import struct
from math import inf
from typing import final

import trio

from fuzz.source import Source, chunks
from trio_broker.errors import HandshakeError, TransportError
from trio_broker.transports import READ_SIZE
from trio_broker.websocket import accept_websocket

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
    """Whatever comes, the handshake succeeds or raises HandshakeError, and reading ends with the stream or
    TransportError.

    The bytes of binary messages arrive as they were sent, whatever frames and chunks they came in, at most
    READ_SIZE at a time, and what is answered is in proportion.
    """
    source = Source(data)
    kind, sizes = source.below(4), source.take(6)
    expected: bytes | None = None
    first, second = HANDSHAKE, b""
    if kind == 0:
        first = source.rest()
    elif kind == 1:
        second = source.rest()
    else:
        second, expected = _frames(source)
    stream = first + second
    peer = _Peer([*chunks(first, sizes), WAIT, *chunks(second, sizes), WAIT])
    received = trio.run(_serve, peer, clock=_Standing())
    if expected is not None:
        assert received is not None
        assert b"".join(received) == expected
    assert sum(map(len, received or ())) <= len(stream)
    assert peer.sent <= ANSWERS * (2 + len(stream) // 2) + 1000


async def _serve(peer: "_Peer") -> list[bytes] | None:
    """What the broker would get; None if there was no handshake."""
    received = []
    try:
        pipe = await accept_websocket(peer, timeout=10, linger=1)
        while piece := await pipe.receive():
            assert len(piece) <= READ_SIZE
            received.append(piece)
    except HandshakeError as error:
        told = str(error)
        assert told.isprintable()
        return None
    except TransportError as error:
        told = str(error)
        assert told.isprintable()
    return received


def _frames(source: Source) -> tuple[bytes, bytes]:
    """Frames that a client may send, and the bytes of the messages in them."""
    frames, payload = b"", b""
    for _ in range(source.below(6)):
        pieces = [source.take(40) * (1 + source.below(6)) for _ in range(source.below(3) + 1)]
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
class _Peer:
    """The pipe to one that sends what it was given, then nothing more, and takes everything."""

    ready = False
    behind = False

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces[::-1]
        self.sent = 0

    def fileno(self) -> int:
        raise AssertionError("nobody is to wait for it")

    def receive_now(self) -> bytes | None:
        while self._pieces:
            if (piece := self._pieces.pop()) != WAIT:
                return piece
        return b""

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.receive_now() or b""

    def send_now(self, data: bytes) -> bool:
        self.sent += len(data)
        return True

    async def drain(self, stall_timeout: float) -> None:
        raise AssertionError("there is nothing to drain")

    async def finish(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def part(self) -> bool:
        raise AssertionError("nobody is to part over WebSocket without a Close frame that is answered")


@final
class _Standing(trio.abc.Clock):
    """Time stands still: nothing here may wait for it."""

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return 0.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return inf
