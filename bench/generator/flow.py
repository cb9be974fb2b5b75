"""What somebody has got of a sequence of messages: each once and in order, or what was wrong with it."""

from bisect import bisect_right
from typing import final


@final
class Sent:
    """When the messages of a sequence were sent; times are in seconds."""

    __slots__ = ("_ends", "_times", "count")

    def __init__(self) -> None:
        self.count = 0
        self._ends: list[int] = []
        self._times: list[float] = []

    def add(self, count: int, now: float) -> None:
        """So many more have been sent."""
        self.count += count
        self._ends.append(self.count)
        self._times.append(now)

    def ages(self, first: int, count: int, now: float) -> list[tuple[float, int]]:
        """How long ago so many messages were sent, from the `first` on: ages in seconds, each with how many have it."""
        found = []
        end = first + count
        batch = bisect_right(self._ends, first)
        while first < end:
            following = min(self._ends[batch], end)
            found.append((now - self._times[batch], following - first))
            first = following
            batch += 1
        return found


@final
class Flow:
    """One sequence at a place where it arrives.

    A message is known by its slot: its number in the sequence, modulo `slots`. That is enough while fewer than half of
    `slots` are on their way.
    """

    __slots__ = ("_missing", "_next", "_slot", "_told", "duplicated", "reordered", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.duplicated = 0
        self.reordered = 0
        self._next = 0  # the number of the message that is due
        self._slot = 0  # and its slot
        self._missing: set[int] = set()  # those that should have arrived before
        self._told = 0

    @property
    def received(self) -> int:
        """How many messages have arrived, each counted once."""
        return self._next - len(self._missing)

    def go_on(self, count: int) -> None:
        """So many have arrived in their order."""
        self._next += count
        self._slot = self._next % self.slots

    def take(self, slot: int) -> None:
        """One has arrived."""
        if slot == self._slot:
            self._next += 1
            self._slot = slot + 1 if slot + 1 < self.slots else 0
            return
        number = self.number_of(slot)
        if number >= self._next:
            self._missing.update(range(self._next, number))
            self.go_on(number + 1 - self._next)
        elif number in self._missing:
            self._missing.remove(number)
            self.reordered += 1
        else:
            self.duplicated += 1

    def number_of(self, slot: int) -> int:
        """The number of a message that arrives now."""
        half = self.slots // 2
        return self._next + (slot - self._next + half) % self.slots - half

    def news(self) -> int:
        """How many have arrived since this was asked last."""
        told, self._told = self._told, self.received
        return self._told - told


@final
class Member:
    """One sequence at one of those who share a subscription.

    Together they get each message once, and each gets its own in their order.
    """

    __slots__ = ("_flow", "_highest", "reordered")

    def __init__(self, flow: Flow) -> None:
        """`flow` is what arrives at all members together."""
        self._flow = flow
        self._highest = -1
        self.reordered = 0

    @property
    def received(self) -> int:
        """How many have arrived at all members."""
        return self._flow.received

    def take(self, slot: int) -> None:
        """One has arrived."""
        number = self._flow.number_of(slot)
        self.reordered += number < self._highest
        self._highest = max(self._highest, number)
        self._flow.take(slot)

    def news(self) -> int:
        """How many have arrived at all members since any of them was asked last."""
        return self._flow.news()
