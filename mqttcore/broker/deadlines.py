"""All deadlines of a broker in one heap."""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import final

SLACK = 64
"""Stale entries that are put up with however few the live ones are."""


@final
class Deadlines:
    """The earliest moment at which each item has to be looked at again.

    An item may be due later by then: moving a deadline back costs nothing, since whoever looks arms the item anew.
    Stale heap entries are swept before they outnumber the items, and keep no item in memory.
    """

    def __init__(self) -> None:
        self._armed: dict[Hashable, tuple[float, int]] = {}
        self._items: dict[int, Hashable] = {}  # by the serial number of their heap entry
        self._heap: list[tuple[float, int]] = []
        self._serial = 0  # settles ties, so that items need no order

    def arm(self, item: Hashable, when: float) -> None:
        """Have `item` looked at no later than at `when`; infinity asks for nothing."""
        if when == inf:
            return
        armed = self._armed.get(item)
        if armed is not None:
            if when >= armed[0]:
                return
            del self._items[armed[1]]
        self._serial = serial = self._serial + 1
        self._armed[item] = entry = (when, serial)
        self._items[serial] = item
        heappush(self._heap, entry)
        self._sweep()

    def disarm(self, item: Hashable) -> None:
        """Forget `item`."""
        armed = self._armed.pop(item, None)
        if armed is not None:
            del self._items[armed[1]]
            self._sweep()

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._armed) + SLACK:
            self._heap = [entry for entry in self._heap if entry[1] in self._items]
            heapify(self._heap)

    def next_deadline(self) -> float:
        """When the first item has to be looked at, infinity if there is none."""
        heap = self._heap
        while heap and heap[0][1] not in self._items:
            heappop(heap)
        return heap[0][0] if heap else inf

    def take_due(self, now: float) -> Iterator[Hashable]:
        """The items whose moment has come, each no longer armed; those armed meanwhile have to wait.

        One by one, so that a fault in what is done about one leaves the others armed.
        """
        last = self._serial
        while self.next_deadline() <= now and self._heap[0][1] <= last:
            item = self._items.pop(heappop(self._heap)[1])
            del self._armed[item]
            yield item
