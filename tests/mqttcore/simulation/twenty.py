"""Twenty clients whose connections break all the time, and what has to hold all the same.

What the broker gets decides what is due to whom: a client whose session lasts gets every QoS 1 message at least once,
every QoS 2 message exactly once, and all in the order of section 4.6; and when everybody has gone nothing is left.
Everything follows from the seed.
"""

import traceback
from collections import Counter, defaultdict
from hashlib import sha256
from math import inf
from random import Random
from typing import Any

from attrs import define, field

from mqttcore import (
    V5,
    V311,
    ConnAck,
    Connect,
    Limits,
    PacketType,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from mqttcore.broker.reports import Disconnected
from mqttcore.client import Delivered, Event
from mqttcore.testing import Simulator, Wire
from mqttcore.testing.ends import SimulatedClient
from mqttcore.testing.simulator import Arrival, Told
from mqttcore.topics import matches
from tests.mqttcore.broker.support import assert_empty

CLIENTS = 20
STEPS = 120
LONG = 1_000_000
"""A Session Expiry Interval that no run is long enough for, seconds."""
TOPICS = [f"{first}/{second}" for first in "ab" for second in "xyz"]
FILTERS = [*TOPICS, "a/+", "+/x", "+/y", "b/#", "#"]
KINDS = [PacketType.PUBLISH, PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP]
WAYS = ["cut", "drop", "sent", "received", "sent-within", "received-within", "crash", "leave", "slow", "busy", "quick"]


@define(eq=False)
class Subject:
    """One of the clients, and what is known of it."""

    name: str
    lasting: bool  # whether its session outlives its connections
    client: SimulatedClient = field(init=False)
    known: bool = False  # whether the broker has seen it
    present: bool = False  # what its next CONNACK has to say
    subscriptions: dict[str, Subscription] = field(factory=dict)  # as the broker knows them
    due: dict[bytes, list[int]] = field(
        factory=dict
    )  # payload -> QoS that it is due at, for each arrival at the broker
    received: list[Publish] = field(factory=list)
    numbers: dict[int, bytes] = field(factory=dict)  # publications without their Delivered
    publishing: bytes = b""  # the one that is being made


class Twenty:
    """A run."""

    def __init__(self, seed: int) -> None:
        chance = Random(seed)
        limits = Limits(
            receive_maximum=chance.choice([1, 3, 1000]),
            output_high_water=chance.choice([1024, 1_048_576]),
            inflight_maximum=chance.choice([2, 1000]),
            maximum_cached_routes=chance.choice([10, 1_000_000]),
        )
        self.simulator = simulator = Simulator(
            seed,
            limits=limits,
            watch=self.watch,
            report_traffic=seed % 4 == 0,  # and then without the broker's short cut
        )
        self.random = random = simulator.random
        self.high_water = limits.output_high_water
        self.arrived: Counter[bytes] = Counter()
        self.publisher: dict[bytes, tuple[str, str, int]] = {}  # payload -> who, topic, QoS
        self.retained: dict[str, bytes] = {}
        self.once_retained: set[bytes] = set()
        self.done: Counter[str] = Counter()
        self.serial = 0
        self.subjects: dict[str, Subject] = {}
        for number in range(CLIENTS):
            self.enter(Subject(f"client {number}", random.random() < 0.75))

    def enter(self, subject: Subject) -> None:
        random = self.random
        self.subjects[subject.name] = subject
        version = random.choice([V5, V5, V311])
        connect: dict[str, Any] = {"clean_start": not subject.lasting, "protocol_version": version}
        if random.random() < 0.3:
            delay = random.choice([None, 3]) if version == V5 else None
            connect["will"] = Will(topic="$will", payload=b"", qos=1, will_delay_interval=delay)
        if version == V5:
            connect |= {
                "session_expiry_interval": LONG if subject.lasting else None,
                "receive_maximum": random.choice([None, 1, 2, 5]),
                "topic_alias_maximum": random.choice([None, 2]),
            }
        keep_alive = random.choice([0, 5, 20])
        subject.client = client = SimulatedClient(
            self.simulator, Connect(client_id=subject.name, keep_alive=keep_alive, **connect), self.wire(), None, None,
            lambda _, event: self.on_event(subject, event),
        )  # fmt: skip
        client.reconnect()

    def wire(self) -> Wire:
        random = self.random
        return Wire(
            delay=random.choice([(0.0, 0.0), (0.01, 0.01), (0.0, 0.3)]),
            piece=random.choice([None, None, None, 50, 5]),
            capacity=random.choice([None, None, 500]),
            rate=random.choice([None, None, 2000.0]),
        )

    # -------------------------------------------------------------------------------------- what the broker has seen

    def watch(self, seen: Arrival | Told) -> None:
        if isinstance(seen, Told):
            if isinstance(seen.event, Disconnected):
                self.gone(self.subjects[seen.event.client_id])
            return
        subject = self.subjects[seen.client]
        match seen.packet:
            case Connect() if seen.at_broker:
                subject.present, subject.known = subject.known and subject.lasting, True
                self.gone(subject)
            case Subscribe(_, subscriptions):
                subject.subscriptions |= {item.topic_filter: item for item in subscriptions}
            case Unsubscribe(_, filters):
                for topic_filter in filters:
                    subject.subscriptions.pop(topic_filter, None)
            case Publish() as publish if seen.at_broker:
                self.distribute(subject, publish)

    def gone(self, subject: Subject) -> None:
        if not subject.lasting:
            subject.subscriptions.clear()

    def distribute(self, publisher: Subject, publish: Publish) -> None:
        again = bool(self.arrived[publish.payload])
        self.arrived[publish.payload] += 1
        assert not again or publish.dup, f"{publish} twice"
        if again and publish.qos == 2:
            return
        if publish.retain:
            self.retained[publish.topic] = publish.payload
            self.once_retained.add(publish.payload)
        for subject in self.subjects.values():
            granted = [
                item.qos
                for item in subject.subscriptions.values()
                if matches(item.topic_filter, publish.topic) and not (item.no_local and subject is publisher)
            ]
            due = min(publish.qos, max(granted)) if granted else -1
            subject.due.setdefault(publish.payload, []).append(due)

    def on_event(self, subject: Subject, event: Event) -> None:
        match event:
            case ConnAck():
                assert event.session_present == subject.present, f"{subject.name}: {event}"
            case Publish():
                subject.received.append(event)
            case Delivered(number, reason_code):
                payload = subject.numbers.pop(number, b"")
                if not payload:  # that is, before publish() has told the number
                    payload, subject.publishing = subject.publishing, b""
                assert self.arrived[payload] or reason_code.is_failure, f"{payload!r} was acknowledged and not received"
                assert not (reason_code.is_failure and subject.lasting), f"{payload!r} was lost: {event}"
        subject.client.events.clear()

    # -------------------------------------------------------------------------------------------------- what is done

    def step(self) -> None:
        random = self.random
        subject = random.choice([*self.subjects.values()])
        client = subject.client
        if not client.connected:
            if random.random() < 0.5:
                client.reconnect(wire=self.wire())
                self.done["connect"] += 1
            else:
                self.pass_time()
            return
        choice = random.random()
        if choice < 0.45:
            for _ in range(random.choice([1, 1, 5])):
                if client.connected:
                    self.publish(subject)
        elif choice < 0.6:
            no_local = client.version == V5 and random.random() < 0.2
            client.subscribe(random.choice(FILTERS), qos=random.randrange(3), no_local=no_local)
        elif choice < 0.63:
            client.unsubscribe(random.choice(FILTERS))
        elif choice < 0.85:
            self.disturb(client)
        else:
            self.pass_time()

    def publish(self, subject: Subject) -> None:
        random = self.random
        self.serial += 1
        topic, qos, payload = random.choice(TOPICS), random.randrange(3), b"%d" % self.serial
        self.publisher[payload] = subject.name, topic, qos
        subject.publishing = payload
        number = subject.client.publish(topic, payload, qos, retain=random.random() < 0.1)
        if number and subject.publishing:
            subject.numbers[number] = payload
        subject.publishing = b""

    def disturb(self, client: SimulatedClient) -> None:
        random = self.random
        way = random.choice(
            [
                "cut",
                "drop",
                "sent",
                "received",
                "sent-within",
                "received-within",
                "crash",
                "leave",
                "slow",
                "busy",
                "quick",
            ]
        )
        self.done[way] += 1
        match way:
            case "cut":
                client.cut()
            case "drop":
                client.drop()
            case "sent":
                client.cut_after(sent=random.randrange(100))
            case "received":
                client.cut_after(received=random.randrange(100))
            case "sent-within":
                client.cut_within(random.choice(KINDS), sent=True)
            case "received-within":
                client.cut_within(random.choice(KINDS))
            case "crash":
                client.reconnect(wire=self.wire())
            case "leave":
                client.disconnect()
            case "slow":
                client.reading = False
            case "busy":
                client.taking = False
            case _:
                client.reading = client.taking = True

    def pass_time(self) -> None:
        self.simulator.advance(self.random.choice([0.05, 0.3, 2, 9]))

    # ------------------------------------------------------------------------------------------- what has to hold

    def run(self) -> None:
        """Everything, and the checks."""
        for _ in range(STEPS):
            self.step()
        for subject in self.subjects.values():
            subject.client.reconnect(wire=Wire())
            subject.client.reading = subject.client.taking = True
        self.simulator.settle()
        for subject in self.subjects.values():
            self.check_quiet(subject)
            self.check_received(subject)
            if subject.lasting:
                self.check_complete(subject)
                self.check_order(subject)
        self.leave()

    def check_quiet(self, subject: Subject) -> None:
        session = self.simulator.broker.sessions[subject.name]
        for side in (session, subject.client.client.session):
            assert not side.inflight, subject.name
            assert not side.releasing, subject.name
            assert not side.queue, subject.name
            assert not side.unreleased, subject.name
            assert not side.requests, subject.name
            assert side.queued_bytes == side.inflight_bytes == 0, subject.name
        link = session.link
        assert link is not None
        assert not session.backlog
        assert not session.retained
        assert not link.connection.unsettled
        assert not link.connection.frames
        assert not link.out
        assert link.room == self.high_water
        assert set(session.subscriptions) == set(subject.subscriptions)
        assert not subject.numbers, f"{subject.name} was not told of {subject.numbers}"

    def check_received(self, subject: Subject) -> None:
        """Nothing comes that was not asked for, nor too often."""
        copies = Counter(publish.payload for publish in subject.received if not publish.retain and not publish.dup)
        for payload, count in copies.items():
            due = [qos for qos in subject.due.get(payload, []) if qos >= 0]
            assert count <= len(due), f"{subject.name} got {payload!r} {count} times"
        for publish in subject.received:
            assert not publish.retain or publish.payload in self.once_retained
            assert publish.topic == self.publisher[publish.payload][1]
            assert publish.retain or publish.qos in subject.due[publish.payload]

    def check_complete(self, subject: Subject) -> None:
        """At least once, exactly once."""
        copies = Counter((publish.payload, publish.qos) for publish in subject.received if not publish.retain)
        for payload, due in subject.due.items():
            for qos in due:
                if qos == 1:
                    assert copies[payload, 1] >= 1, f"{subject.name} did not get {payload!r}"
                elif qos == 2:
                    assert copies[payload, 2] == 1, f"{subject.name} got {payload!r} {copies[payload, 2]} times"

    def check_order(self, subject: Subject) -> None:
        """What a publisher has sent on a topic with a QoS comes in its order, those sent again apart. [MQTT-4.6.0-5]"""
        last: dict[tuple[tuple[str, str, int], int], int] = defaultdict(int)
        seen = set()
        for publish in subject.received:
            payload = publish.payload
            due = subject.due[payload]
            if publish.retain or payload in seen or due[0] != publish.qos or (not publish.qos and len(due) > 1):
                continue  # what was not due, or was lost, when it came first has its place where it came again
            seen.add(payload)
            key = self.publisher[payload], publish.qos
            assert last[key] < int(payload), f"{subject.name} got {payload!r} after {last[key]}"
            last[key] = int(payload)

    def leave(self) -> None:
        """Everybody goes, and nothing is left."""
        simulator = self.simulator
        broker = simulator.broker
        for subject in self.subjects.values():
            client = subject.client
            if client.version == V311 and subject.lasting:
                subject.lasting = False
                client.reconnect(clean_start=True)
            if client.version == V5 and self.random.random() < 0.5:
                client.disconnect(session_expiry_interval=0)
            elif self.random.random() < 0.5:
                client.disconnect()
            else:
                client.cut()
        simulator.advance(LONG)
        assert_empty(broker)
        assert not broker._deadlines._armed
        assert not broker._deadlines._items
        store = broker._distributor.retained
        found = {topic: message.payload for topic in TOPICS if (message := store.get(topic.encode())) is not None}
        assert found == self.retained
        assert len(store) == len(found)
        assert store.bytes == sum(len(topic) + len(payload) for topic, payload in found.items())
        for topic in found:
            simulator.publish(topic, retain=True)
        assert len(store) == store.bytes == 0
        assert not store._root.children
        assert broker.next_deadline() == inf
        counters = broker.counters
        assert counters.queue_full_dropped == counters.too_large_dropped == counters.not_retained == 0


def digest(seed: int) -> str:
    """A hash of everything that arrives and is reported in a run."""
    seen = sha256()

    class Recorded(Twenty):
        def watch(self, what: Arrival | Told) -> None:
            seen.update(repr(what).encode())
            super().watch(what)

    Recorded(seed).run()
    return seen.hexdigest()


def outcome(seed: int) -> tuple[int, str]:
    """A seed, and what goes wrong with it, "" for nothing."""
    try:
        Twenty(seed).run()
    except Exception:
        return seed, traceback.format_exc()
    return seed, ""
