"""What lies between a client and the broker in a `Simulator`: bytes take time, come in pieces, wait, or are lost."""

from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import final

from attrs import field, frozen, validators

from mqttcore.codes import PacketType

MAXIMUM_LENGTH_BYTES = 4


@frozen(kw_only=True)
class Wire:
    """How bytes travel, the same both ways, always in their order. As it stands it is perfect.

    `delay` is how long a piece takes, drawn anew between the two bounds, in seconds. `piece` is the most bytes that
    arrive at once: pieces of 1 to so many are drawn; without it all that is there does. `capacity` is the most bytes
    towards the client that are under way or not read yet: when it is used up the broker has to wait. `rate` is the most
    bytes that the client reads in a second. Raises ValueError for what is out of range.
    """

    delay: tuple[float, float] = field(default=(0.0, 0.0))
    piece: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    capacity: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    rate: float | None = field(default=None, validator=validators.optional(validators.gt(0)))

    @delay.validator
    def _check_delay(self, _attribute: object, value: tuple[float, float]) -> None:
        if not 0 <= value[0] <= value[1]:
            raise ValueError(f"delay {value!r} is not a pair of seconds, the shorter one first")


PERFECT = Wire()


@final
class Pipe:
    """One direction of a connection. `schedule` calls back at a time; `deliver` gets each piece, `ended` the end."""

    def __init__(
        self,
        random: Random,
        wire: Wire,
        clock: Callable[[], float],
        schedule: Callable[[float, Callable[[], None]], None],
        *,
        deliver: Callable[[bytes], None],
        ended: Callable[[], None],
        cut: Callable[[], None],
        room: Callable[[], None],
        bounded: bool,
    ) -> None:
        self.reading = True
        self.delivered = 0  # bytes
        self._random = random
        self._wire = wire
        self._clock = clock
        self._schedule = schedule
        self._deliver = deliver
        self._ended = ended
        self._cut = cut
        self._room = room
        self._capacity = wire.capacity if bounded else None
        self._rate = wire.rate if bounded else None
        self._backlog = b""
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._under_way = 0  # bytes
        self._last_due = 0.0
        self._finished = False
        self._over = False
        self._cut_at: int | None = None
        self._cut_within: PacketType | None = None
        self._scanner = _Scanner()

    @property
    def full(self) -> bool:
        """Whether bytes wait for room."""
        return bool(self._backlog)

    @property
    def waiting(self) -> int:
        """Bytes that are under way, not read, or wait for room."""
        return self._under_way + len(self._backlog)

    def put(self, data: bytes) -> None:
        """Send bytes."""
        if self._over or self._finished:
            return
        for kind, start, size in self._scanner.feed(data):
            if kind == self._cut_within and self._cut_at is None:
                self._cut_at, self._cut_within = start + max(1, size // 2), None
        self._backlog += data
        self._fill()

    def finish(self) -> None:
        """Nothing more will be sent: the other side sees the end when it has read what was."""
        self._finished = True
        self._arrive()

    def stop(self) -> None:
        """Lose what is under way and what is still to be sent; nothing comes out any more."""
        self._over = True
        self._backlog = b""
        self._pieces.clear()
        self._under_way = 0

    def cut_after(self, size: int) -> None:
        """Have the connection cut when `size` more bytes have come out, at once for none."""
        self._cut_at = self.delivered + size
        if not size:
            self._cut()

    def cut_within(self, kind: PacketType) -> None:
        """Have the connection cut in the middle of the next packet of a kind."""
        self._cut_within = kind

    def wake(self) -> None:
        """Go on, now that there may be a reader."""
        self._arrive()

    def _fill(self) -> None:
        while self._backlog and not self._over:
            size = len(self._backlog)
            if self._capacity is not None:
                size = min(size, self._capacity - self._under_way)
            if size <= 0:
                return
            wire = self._wire
            if wire.piece is not None:
                size = min(size, self._random.randint(1, wire.piece))
            piece, self._backlog = self._backlog[:size], self._backlog[size:]
            due = self._clock()
            if wire.delay[1]:
                due += self._random.uniform(*wire.delay)
            due = max(due, self._last_due)
            if self._rate is not None:
                due += size / self._rate
            self._last_due = due
            self._under_way += size
            self._pieces.append((due, piece))
            self._schedule(due, self._arrive)

    def _take(self, now: float) -> bytes:
        taken = [self._pieces.popleft()[1]]
        while self._wire.piece is None and self._pieces and self._pieces[0][0] <= now:
            taken.append(self._pieces.popleft()[1])  # what is there is read at once
        piece = b"".join(taken)
        self._under_way -= len(piece)
        return piece

    def _arrive(self) -> None:
        now = self._clock()
        while self.reading and self._pieces and self._pieces[0][0] <= now:
            piece = self._take(now)
            if self._cut_at is not None and self._cut_at <= self.delivered + len(piece):
                piece = piece[: max(self._cut_at - self.delivered, 0)]  # its place may have been told too late
                self.delivered += len(piece)
                self._deliver(piece)
                if not self._over:
                    self._cut()
                return
            self.delivered += len(piece)
            self._deliver(piece)
            if self._backlog:
                self._fill()
                if not self._backlog:
                    self._room()
        if self._finished and not self._pieces and not self._backlog and not self._over and self.reading:
            self._over = True
            self._ended()


@final
class _Scanner:
    """Where control packets begin and how long they are, from bytes in any pieces. Told as soon as the length is."""

    def __init__(self) -> None:
        self._at = 0  # bytes seen
        self._next = 0  # where the next packet begins
        self._head = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Kind, start and size of each packet whose fixed header is complete with `data`."""
        begin = self._at
        self._at += len(data)
        while self._next < self._at:
            place = max(self._next - begin, 0)
            self._head += data[place : place + 1 + MAXIMUM_LENGTH_BYTES - len(self._head)]
            length = shift = 0
            for count, byte in enumerate(self._head[1:], 2):
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 or count > MAXIMUM_LENGTH_BYTES:
                    break
            else:
                return
            start, kind = self._next, self._head[0] >> 4
            self._next, self._head = start + count + length, b""
            yield kind, start, count + length
