"""One publisher's side: what it may send, and what it has sent."""

import math
from typing import final

from bench.generator.flow import Sent
from bench.generator.loop import Client
from bench.generator.messages import Ring

BATCH = 65_536
"""Bytes that one publisher sends, about, before others have their turn."""


@final
class Publisher:
    """Sends as many messages as its window has room for.

    `goal` is how many it is to have sent; `arrived` counts each message once for each subscriber, `acknowledged` is
    infinite at QoS 0. `queued` is its owner's.
    """

    __slots__ = ("_window", "acknowledged", "arrived", "client", "fan", "goal", "queued", "ring", "sent")

    def __init__(self, client: Client, ring: Ring, window: int, fan: int) -> None:
        """`fan` is how many subscribers get each message."""
        self.client = client
        self.ring = ring
        self.fan = fan
        self.sent = Sent()
        self.arrived = 0
        self.acknowledged: float = math.inf
        self.goal: float = 0
        self.queued = False
        self._window = window

    def room(self) -> float:
        """How many messages may be sent now."""
        count = self.sent.count
        under_way = -((self.arrived - count * self.fan) // self.fan)  # rounded up
        unacknowledged = count - self.acknowledged
        return min(self.goal - count, self._window - max(under_way, unacknowledged))

    def publish(self, most: float, now: float) -> int:
        """Send up to so many messages, as many as go in one piece; how many."""
        ring = self.ring
        sent = self.sent
        slot = sent.count % ring.slots
        if sent.count == 0 and ring.lead is not None:
            count = 1
            self.client.send(ring.lead)
        else:
            count = int(min(most, ring.slots - slot, ring.fitting(BATCH)))
            self.client.send(ring.part(slot, count))
        sent.add(count, now)
        return count

    @property
    def settled(self) -> bool:
        """Whether all that was sent has arrived and is acknowledged."""
        return self.arrived >= self.sent.count * self.fan and self.acknowledged >= self.sent.count
