"""The client's side of WebSocket (RFC 6455), as far as it takes to carry MQTT."""

import base64
import hashlib

from bench.generator.errors import RunFailed

_KEY = base64.b64encode(bytes(range(16)))
_ACCEPT = base64.b64encode(hashlib.sha1(_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
_BINARY = 0x82
_BINARY_OPENED = (0x02, 0x82)
_CONTINUED = (0x00, 0x80)


def request(host: str, port: int) -> bytes:
    """The opening handshake."""
    return (
        b"GET /mqtt HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    ) % (host.encode(), port, _KEY)


def check_response(head: bytes) -> None:
    """Raises RunFailed unless the server has agreed."""
    status, _, fields = head.partition(b"\r\n")
    if b" 101" not in status or _ACCEPT not in fields:
        raise RunFailed(f"the WebSocket handshake was answered with {status.decode('latin-1')!r}")


def masked(data: bytes) -> bytes:
    """A frame with the masking key 0, which leaves the data as they are."""
    return header(len(data)) + data


def header(length: int) -> bytes:
    """What goes before the data of a client's frame."""
    if length < 126:
        return bytes([_BINARY, 0x80 | length]) + bytes(4)
    if length < 65_536:
        return bytes([_BINARY, 0x80 | 126]) + length.to_bytes(2, "big") + bytes(4)
    return bytes([_BINARY, 0x80 | 127]) + length.to_bytes(8, "big") + bytes(4)


class Deframer:
    """From the server's frames to the data that they carry, in any chunks."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0  # of the frame that has begun

    def feed(self, data: bytes) -> bytes:
        """The data in a chunk. Raises RunFailed for a frame that carries none, such as Close."""
        found = []
        pos = 0
        while pos < len(data):
            if self._left:
                found.append(data[pos : pos + self._left])
                pos += len(found[-1])
                self._left -= len(found[-1])
                continue
            taken = data[pos : pos + _missing(self._head)]
            self._head += taken
            pos += len(taken)
            if not _missing(self._head):
                self._left = _length(self._head)
                self._head = b""
        return b"".join(found)


def _missing(head: bytes) -> int:
    """Bytes that the head of a frame still lacks."""
    if len(head) < 2:
        return 2 - len(head)
    if head[0] not in _BINARY_OPENED and head[0] not in _CONTINUED:
        raise RunFailed(f"a WebSocket frame begins with 0x{head[0]:02X}")
    return 2 + {126: 2, 127: 8}.get(head[1], 0) - len(head)


def _length(head: bytes) -> int:
    return head[1] if head[1] < 126 else int.from_bytes(head[2:], "big")
