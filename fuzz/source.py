"""Bytes read as choices, so that a target can be steered by a fuzzer and replayed without one."""

from collections.abc import Sequence
from typing import TypeVar, final

T = TypeVar("T")


@final
class Source:
    """Reads choices from the front of some bytes. At their end every choice is the first there is, every text empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """A number from 0 to 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, end: int) -> int:
        """A number from 0 to `end` - 1, of one byte up to 256 and of two beyond."""
        return (self.byte() if end <= 256 else self.byte() << 8 | self.byte()) % end

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.byte() & 1)

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[self.below(len(choices))]

    def several(self, choices: Sequence[T], most: int) -> list[T]:
        """Up to `most` of `choices`, the same perhaps more than once."""
        return [self.pick(choices) for _ in range(self.below(most + 1))]

    def take(self, most: int) -> bytes:
        """Up to `most` bytes; how many comes first."""
        count = self.below(most + 1)
        data = self._data[self._at : self._at + count]
        self._at += count
        return data

    def text(self, most: int) -> str:
        """A text of up to `most` bytes of UTF-8."""
        return self.take(most).decode("utf-8", "replace")

    def rest(self) -> bytes:
        """All that is left."""
        data = self._data[self._at :]
        self._at = len(self._data)
        return data


def chunks(data: bytes, sizes: bytes) -> list[bytes]:
    """`data` in pieces of these sizes, over and over; in one piece without sizes, and 0 is 256."""
    found = []
    at = turn = 0
    while at < len(data):
        size = (sizes[turn % len(sizes)] or 256) if sizes else len(data)
        found.append(data[at : at + size])
        at += size
        turn += 1
    return found
