"""Publishers, subscribers, and the messages between them."""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import final

from bench.generator.acknowledgements import Acknowledgements
from bench.generator.flow import Flow, Member
from bench.generator.inbox import Inbox, Stream
from bench.generator.loop import NAP, Client, Loop, Nobody
from bench.generator.messages import Edition, Ring, other_filter, topic
from bench.generator.publisher import Publisher
from bench.generator.scenarios import Traffic

LINGER = 0.05
"""Seconds for messages that come twice, when all have come once."""
HOLDERS = 10
"""Connections that the other subscriptions belong to."""


@final
class Exchange:
    """The clients of one scenario, and what becomes of their messages."""

    def __init__(self, scenario: Traffic, loop: Loop) -> None:
        self.ages: list[tuple[float, int]] = []
        """How long messages were on their way, seconds, each with how many it is; empty for a shared subscription, of
        which nobody knows who gets what.
        """
        self.finished = True
        """Whether all that was sent has arrived so far."""
        self._scenario = scenario
        self._loop = loop
        self._editions = [Edition(scenario, loop.target.version, number) for number in range(scenario.publishers)]
        self._arriving = [edition.arriving() for edition in self._editions]
        self._shared = [Flow(edition.slots) for edition in self._editions]
        self._flows: list[Flow | Member] = []
        self._inboxes: list[Inbox] = []
        self._acknowledgements: list[Acknowledgements] = []
        self._publishers: list[Publisher] = []
        self._ready: deque[Publisher] = deque()
        self._under_way = 0
        self._fan = scenario.subscribers if scenario.subscribers and not scenario.share else 1

    # -------------------------------------------------------------------------------------------------- the clients

    def open_others(self) -> None:
        """Make the subscriptions to which nothing is published."""
        filters = [other_filter(number) for number in range(self._scenario.other_subscriptions)]
        makers = [
            partial(Client, self._loop, f"holder-{number}", Nobody(), filters[number::HOLDERS])
            for number in range(HOLDERS if filters else 0)
        ]
        self._loop.open(makers)

    def open(self) -> None:
        """Have all clients ready."""
        scenario = self._scenario
        pairs = not scenario.subscribers
        everything = range(scenario.publishers)
        count = scenario.publishers if pairs else scenario.subscribers
        self._loop.open([partial(self._subscriber, at, [at] if pairs else everything) for at in range(count)])
        self._loop.open([partial(self._publisher, number) for number in everything])

    def _subscriber(self, number: int, publishers: Sequence[int]) -> Client:
        scenario = self._scenario
        flows: dict[int, Flow | Member] = {}
        for each in publishers:
            flows[each] = Member(self._shared[each]) if scenario.share else Flow(self._editions[each].slots)
        self._flows += flows.values()
        known = {packet: (each, slot) for each in publishers for slot, packet in enumerate(self._arriving[each])}
        client = Client(self._loop, f"subscriber-{number}", Nobody(), self._filters(publishers), scenario.qos)
        inbox = Inbox(known, flows, self._arrived, scenario.qos, answer=client.send, framed=client.wire.framed)
        self._inboxes.append(inbox)
        client.receiver = inbox
        first = flows[publishers[0]]
        if len(flows) == 1 and scenario.qos == 0 and isinstance(first, Flow):
            client.receiver = Stream(b"".join(self._arriving[publishers[0]]) * 2, first, inbox)
        return client

    def _filters(self, publishers: Sequence[int]) -> list[str]:
        scenario = self._scenario
        group = "$share/group/" if scenario.share else ""
        if scenario.filters == "topics":
            names = [topic(each, index) for each in publishers for index in range(scenario.topics)]
        elif len(publishers) == 1:
            names = [topic(publishers[0], 0).rpartition("/")[0] + "/" + scenario.filters]
        else:
            names = ["bench/+/+" if scenario.filters == "+" else "bench/#"]
        return [group + name for name in names]

    def _publisher(self, number: int) -> Client:
        scenario = self._scenario
        client = Client(self._loop, f"publisher-{number}", Nobody())
        ring = Ring(self._editions[number], client.wire.framed, scenario.joined)
        publisher = Publisher(client, ring, scenario.window, self._fan)
        self._publishers.append(publisher)
        if scenario.qos:
            publisher.acknowledged = 0
            acknowledgements = Acknowledgements(
                publisher.ring.slots,
                partial(self._acknowledged, publisher),
                answer=client.send,
                framed=client.wire.framed,
            )
            self._acknowledgements.append(acknowledgements)
            client.receiver = acknowledgements
        return client

    # ------------------------------------------------------------------------------------------------- the messages

    def run(self, seconds: float = math.inf, messages: float = math.inf) -> None:
        """Have messages sent for so long, or so many of each publisher, and arrive."""
        for publisher in self._publishers:
            publisher.goal = publisher.sent.count + messages
            self._queue(publisher)
        start = last = time.perf_counter()
        pace = _Pace(self._scenario.rate, start) if self._scenario.rate else None
        sending = True
        while True:
            now = time.perf_counter()
            sending = sending and now < start + seconds and (messages == math.inf or self._short_of_goal())
            if not sending and self._settled():
                break
            wait = NAP
            if sending and pace is not None:
                wait = self._keep(pace, now)
            elif sending:
                self._pump()
            if self._loop.turn(wait):
                last = now
            elif now > last + self._loop.patience:
                self.finished = False
                break
        self._ready.clear()
        for publisher in self._publishers:
            publisher.queued = False

    def linger(self) -> None:
        """Take messages that come twice."""
        until = time.perf_counter() + LINGER
        while (left := until - time.perf_counter()) > 0:
            self._loop.turn(left)

    def _queue(self, publisher: Publisher) -> None:
        if not publisher.queued:
            publisher.queued = True
            self._ready.append(publisher)

    def _pump(self) -> None:
        """Let everybody who may send have a turn."""
        together = self._scenario.together or math.inf
        for _ in range(len(self._ready)):
            if self._under_way >= together:
                break
            publisher = self._ready.popleft()
            room = publisher.room()
            if room <= 0:
                publisher.queued = False
                continue
            if not publisher.client.wire.blocked:
                count = publisher.publish(room, time.perf_counter())
                self._under_way += count * self._fan
                room -= count
            if room > 0:
                self._ready.append(publisher)
            else:
                publisher.queued = False

    def _keep(self, pace: "_Pace", now: float) -> float:
        """Send what is due, and give how long it is until more is."""
        for number, due in pace.due(now):
            publisher = self._publishers[number % len(self._publishers)]
            if publisher.sent.count < publisher.goal:
                self._under_way += publisher.publish(1, due) * self._fan
        return pace.wait(time.perf_counter())

    def _arrived(self, publisher: int, first: int, count: int, now: float) -> None:
        each = self._publishers[publisher]
        each.arrived += count
        self._under_way -= count
        if not self._scenario.share:
            self.ages += each.sent.ages(first, count, now)
        self._queue(each)

    def _acknowledged(self, publisher: Publisher, count: int) -> None:
        publisher.acknowledged += count
        self._queue(publisher)

    def _short_of_goal(self) -> bool:
        return any(publisher.sent.count < publisher.goal for publisher in self._publishers)

    def _settled(self) -> bool:
        return (
            self._under_way <= 0
            and all(publisher.settled for publisher in self._publishers)
            and not any(inbox.unreleased for inbox in self._inboxes)
        )

    # --------------------------------------------------------------------------------------------------- the verdict

    @property
    def arrived(self) -> int:
        """Messages that have arrived, at all subscribers together."""
        return sum(publisher.arrived for publisher in self._publishers)

    def faults(self) -> dict[str, int]:
        """How many messages were lost, and so on."""
        shared = self._shared if self._scenario.share else []
        sent = sum(publisher.sent.count * self._fan for publisher in self._publishers)
        return {
            "lost": sent - self.arrived,
            "duplicated": sum(flow.duplicated for flow in [*self._flows, *shared] if isinstance(flow, Flow)),
            "reordered": sum(flow.reordered for flow in self._flows),
            "unknown": sum(inbox.unknown for inbox in self._inboxes),
            "unacknowledged": sum(
                int(publisher.sent.count - publisher.acknowledged)
                for publisher in self._publishers
                if publisher.acknowledged < publisher.sent.count
            ),
            "refused": sum(each.refused for each in self._acknowledgements),
        }


@final
class _Pace:
    """When messages are due that are evenly spaced."""

    def __init__(self, rate: float, start: float) -> None:
        self._rate = rate
        self._start = start
        self._next = 0

    def due(self, now: float) -> Iterator[tuple[int, float]]:
        """The numbers of those that are due by now and have not been given before, and since when."""
        while (at := self._start + self._next / self._rate) <= now:
            yield self._next, at
            self._next += 1

    def wait(self, now: float) -> float:
        """How long it is until the next one is due, seconds."""
        return min(NAP, max(0.0, self._start + self._next / self._rate - now))
