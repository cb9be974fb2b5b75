"""Bytes in any chunks to whole frames: the fixed header of section 2.1, and its bounds before anything is buffered."""

from typing import final

from mqttcore.codes import ReasonCode
from mqttcore.errors import MalformedPacket, ProtocolError


@final
class FrameBuffer:
    """Cuts a stream of bytes into frames; work and memory are linear in the bytes fed, whatever the chunks.

    `data[pos:]` is what has not been consumed. `maximum` is the largest frame in bytes. Of a frame that is too large
    `preview` bytes of its body are waited for before it is refused, and are then in `previewed`, so that the refusal
    can be put in the peer's terms.
    """

    __slots__ = ("_held", "_wanted", "data", "maximum", "pos", "preview", "previewed")

    def __init__(self, maximum: int) -> None:
        self.data: bytes = b""
        self.pos: int = 0
        self.maximum: int = maximum
        self.preview: int = 0
        self.previewed: bytes = b""
        self._held = bytearray()  # what waits instead of in `data`, because appending to it is cheap
        self._wanted: int = 0  # how many bytes the frame that _held begins with needs; 0 if nobody has looked yet

    def __len__(self) -> int:
        return len(self.data) - self.pos + len(self._held)

    @property
    def empty(self) -> bool:
        """Whether all bytes have been consumed."""
        return self.pos == len(self.data) and not self._held

    def feed(self, data: bytes) -> None:
        """Add bytes behind those that are here."""
        if not self._held and self.pos == len(self.data):
            self.data = bytes(data)
            self.pos = 0
            return
        if not self._held:
            self._hold(0)
        if len(self._held) + len(data) < self._wanted or not self._wanted:
            self._held += data
        else:
            self.data = b"".join((self._held, data))
            self._held = bytearray()

    def first_byte(self) -> int | None:
        """The first byte of the next frame, None if it is not here yet."""
        if self._held:
            return self._held[0]
        return self.data[self.pos] if self.pos < len(self.data) else None

    def next_frame(self) -> tuple[int, bytes] | None:
        """The first byte and the body of the next frame, None until all of it is here.

        Raises MalformedPacket for a bad Remaining Length, ProtocolError (0x95) for one that makes the frame too large.
        """
        if self._held:
            if self._wanted:
                return None
            self.data = bytes(self._held)
            self._held = bytearray()
        data = self.data
        pos = self.pos
        end = len(data)
        length = shift = 0
        at = pos + 1
        while True:
            if at >= end:
                self._hold(end - pos + 1)
                return None
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift == 28:
                raise MalformedPacket("the Remaining Length has more than four bytes")
        if shift and not byte:  # [MQTT-1.5.5-1]
            raise MalformedPacket("the Remaining Length is longer than it needs to be")
        stop = at + length
        if stop - pos > self.maximum:
            wanted = at + min(length, self.preview)
            if wanted > end:
                self._hold(wanted - pos)
                return None
            self.previewed = data[at:wanted]
            raise ProtocolError(
                f"a packet of {stop - pos} bytes is over the limit of {self.maximum}", ReasonCode.PACKET_TOO_LARGE
            )
        if stop > end:
            self._hold(stop - pos)
            return None
        self.pos = stop
        return data[pos], data[at:stop]

    def _hold(self, wanted: int) -> None:
        self._held = bytearray(self.data[self.pos :])
        self._wanted = wanted
        self.data = b""
        self.pos = 0
