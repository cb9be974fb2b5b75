"""Two hundred clients through everything at once, every delivery checked against a model that knows no short cuts."""

from collections import Counter, defaultdict
from random import Random
from typing import Any

import pytest
from attrs import define, field

from mqttcore import V5, V311, ConnAck, Connect, Publish, ReasonCode, Subscription, Will
from mqttcore.client import Delivered
from mqttcore.topics import matches
from tests.mqttcore.broker.support import ClientEnd, Network, assert_empty

CLIENTS = 200
STEPS = 2500
NEVER = 1e18

# topic, payload, QoS, RETAIN, Subscription Identifiers
Copy = tuple[str, bytes, int, bool, tuple[int, ...]]


@define(eq=False)
class Subject:
    """One of the clients, and what the model knows of it."""

    name: str
    version: int
    expiry: float
    keep_alive: int
    receive_maximum: int | None
    aliases: int | None
    end: ClientEnd | None = None
    leaving: bool = False
    will: Will | None = None
    lost_at: float = -NEVER
    subscriptions: dict[str, tuple[Subscription, int | None]] = field(factory=dict)
    shares: set[str] = field(factory=set)
    expected: list[Copy] = field(factory=list)
    waiting: list[Copy] = field(factory=list)  # for an absent client
    received: list[Publish] = field(factory=list)
    numbers: set[int] = field(factory=set)  # publications that await their Delivered

    def copy(self, topic: str, payload: bytes, qos: int, publisher: "Subject | None") -> Copy | None:
        """What it gets of a message, by the letter of section 3.3.4."""
        matching = [
            (wanted, identifier)
            for wanted, identifier in self.subscriptions.values()
            if matches(wanted.topic_filter, topic) and not (wanted.no_local and publisher is self)
        ]
        if not matching:
            return None
        granted = max(wanted.qos for wanted, _ in matching)
        identifiers = tuple(sorted({identifier for _, identifier in matching if identifier is not None}))
        return topic, payload, min(qos, granted), False, identifiers


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.net = Network()
        self.retained: dict[str, tuple[bytes, int]] = {}
        self.serial = 0
        self.shared: dict[str, list[bytes]] = defaultdict(list)  # share -> payloads due to one of its members each
        self.shared_received: dict[str, list[bytes]] = defaultdict(list)
        self.subjects = [self.subject(number) for number in range(CLIENTS)]
        for subject in self.subjects:
            self.connect(subject)

    def subject(self, number: int) -> Subject:
        random = self.random
        version = random.choice([V5, V5, V311])
        return Subject(
            f"client {number}",
            version,
            random.choice([0, NEVER] if version == V311 else [0, 30, 300, NEVER]),
            random.choice([0, 5, 20]),
            random.choice([None, 1, 3]) if version == V5 else None,
            random.choice([None, 0, 2, 50]) if version == V5 else None,
        )

    # ------------------------------------------------------------------------------------------------- what is done

    def connect(self, subject: Subject) -> None:
        random, net = self.random, self.net
        present = net.now < subject.lost_at + subject.expiry and subject.lost_at > -NEVER
        clean = random.random() < 0.2 if subject.version == V5 else subject.expiry == 0
        if clean:
            present = False
        subject.will = None
        if random.random() < 0.5:
            subject.will = Will(topic=self.topic(), payload=b"will " + self.payload(), qos=random.randrange(3))
        properties: dict[str, Any] = {}
        if subject.version == V5:
            properties = {
                "session_expiry_interval": min(int(subject.expiry), 0xFFFF_FFFF),
                "receive_maximum": subject.receive_maximum,
                "topic_alias_maximum": subject.aliases,
            }
        session = None if clean or subject.end is None else subject.end.client.session
        if present:
            subject.expected += subject.waiting
        else:
            subject.subscriptions.clear()
            subject.shares.clear()
        subject.waiting.clear()
        connect = Connect(
            client_id=subject.name, clean_start=clean, keep_alive=subject.keep_alive, protocol_version=subject.version,
            will=subject.will, **properties,
        )  # fmt: skip
        subject.end = net.client(connect, session)
        [connack] = subject.end.take(ConnAck)
        assert connack.reason_code is ReasonCode.SUCCESS
        assert connack.session_present == present
        self.collect(subject)

    def leave(self, subject: Subject, way: str) -> None:
        assert subject.end is not None
        subject.lost_at = self.net.now
        if not subject.expiry:
            subject.subscriptions.clear()
            subject.shares.clear()
        end, old_will = subject.end, subject.will
        if way == "disconnect":
            end.client.disconnect(self.net.now)
            end.flush()
            end.end()
        elif way == "cut":
            end.cut()
        self.collect(subject)
        if way != "disconnect" and old_will is not None:
            subject.leaving = True
            self.deliver(old_will.topic, old_will.payload, old_will.qos, False, subject)
            subject.leaving = False
        if way == "takeover":
            self.connect(subject)
            assert end.closed
            end.end()

    def subscribe(self, subject: Subject) -> None:
        random = self.random
        assert subject.end is not None
        v5 = subject.version == V5
        topic_filter = self.topic_filter()
        no_local = v5 and random.random() < 0.2
        wanted = Subscription(topic_filter, random.randrange(3), no_local=no_local, retain_handling=2 * no_local)
        identifier = random.choice([None, 1, 2, 200_000]) if v5 else None
        subject.subscriptions[topic_filter] = (wanted, identifier)
        if not no_local:
            for topic, (payload, qos) in self.retained.items():
                if matches(topic_filter, topic):
                    found = () if identifier is None else (identifier,)
                    subject.expected.append((topic, payload, min(qos, wanted.qos), True, found))
        subject.end.client.subscribe((wanted,), self.net.now, subscription_identifier=identifier)
        subject.end.flush()

    def unsubscribe(self, subject: Subject) -> None:
        assert subject.end is not None
        if subject.subscriptions:
            topic_filter = self.random.choice(sorted(subject.subscriptions))
            del subject.subscriptions[topic_filter]
            subject.end.client.unsubscribe((topic_filter,), self.net.now)
            subject.end.flush()

    def share(self, subject: Subject) -> None:
        assert subject.end is not None
        name = self.random.choice("xyz")
        topic_filter = f"$share/{name}/$shared/#"
        if name in subject.shares:
            subject.shares.remove(name)
            subject.end.client.unsubscribe((topic_filter,), self.net.now)
        else:
            subject.shares.add(name)
            subject.end.client.subscribe((Subscription(topic_filter, 2),), self.net.now)
        subject.end.flush()

    def publish(self, subject: Subject) -> None:
        random = self.random
        assert subject.end is not None
        qos = random.randrange(3)
        retain = random.random() < 0.1
        payload = b"" if retain and random.random() < 0.3 else self.payload()
        topic = self.topic()
        if random.random() < 0.15:
            topic, retain = f"$shared/{random.randrange(3)}", False
            payload = payload or self.payload()
            for name in "xyz":
                members = [other for other in self.subjects if name in other.shares]
                if any(self.is_there(other) for other in members) or (qos and any(map(self.has_session, members))):
                    self.shared[name].append(payload)
        else:
            self.deliver(topic, payload, qos, retain, subject)
        number = subject.end.client.publish(Publish(topic, payload, qos=qos, retain=retain), self.net.now)
        if number:
            subject.numbers.add(number)
        subject.end.flush()

    def deliver(self, topic: str, payload: bytes, qos: int, retain: bool, publisher: Subject) -> None:
        if retain:
            self.retained.pop(topic, None)
            if payload:
                self.retained[topic] = (payload, qos)
        for subject in self.subjects:
            if not self.has_session(subject):
                continue
            copy = subject.copy(topic, payload, qos, publisher)
            if copy is not None and self.is_there(subject):
                subject.expected.append(copy)
            elif copy is not None and copy[2]:
                subject.waiting.append(copy)

    # ------------------------------------------------------------------------------------------------- what there is

    def topic(self) -> str:
        return f"{self.random.choice('abc')}/{self.random.randrange(6)}/{self.random.choice('de')}"

    def topic_filter(self) -> str:
        levels = self.topic().split("/")
        for index in range(3):
            if self.random.random() < 0.25:
                levels[index] = "+"
        if self.random.random() < 0.15:
            levels[self.random.randrange(1, 3) :] = ["#"]
        return "/".join(levels)

    def payload(self) -> bytes:
        self.serial += 1
        return b"%d" % self.serial

    def is_there(self, subject: Subject) -> bool:
        end = subject.end
        return end is not None and end.client.connected and end.closed is None and not subject.leaving

    def has_session(self, subject: Subject) -> bool:
        return self.is_there(subject) or self.net.now < subject.lost_at + subject.expiry

    def collect(self, subject: Subject) -> None:
        assert subject.end is not None
        for delivered in subject.end.take(Delivered):
            assert not delivered.reason_code.is_failure
            subject.numbers.remove(delivered.number)
        assert not subject.numbers
        subject.received += subject.end.take(Publish)


def topic_of(subject: Subject) -> list[Copy]:
    """What a client has received, its aliases resolved (the Client does that), shared messages apart."""
    return [
        (packet.topic, packet.payload, packet.qos, packet.retain, tuple(sorted(packet.subscription_identifiers)))
        for packet in subject.received
        if not packet.topic.startswith("$shared/")
    ]


@pytest.mark.conformance(
    "MQTT-4.5.0-1", "MQTT-3.3.4-2", "MQTT-3.3.4-3", "MQTT-3.8.4-8", "MQTT-4.6.0-5", "MQTT-3.1.2-8", "MQTT-3.1.3-2"
)
@pytest.mark.parametrize("seed", [1])
def test_two_hundred(seed: int) -> None:
    world = World(seed)
    random, net = world.random, world.net
    done: Counter[str] = Counter()
    for _ in range(STEPS):
        subject = random.choice(world.subjects)
        if not world.is_there(subject):
            world.connect(subject)
            done["connect"] += 1
            continue
        choice = random.random()
        if choice < 0.55:
            world.publish(subject)
        elif choice < 0.72:
            world.subscribe(subject)
        elif choice < 0.78:
            world.unsubscribe(subject)
        elif choice < 0.84:
            world.share(subject)
        elif choice < 0.97:
            way = random.choice(["cut", "disconnect", "takeover"])
            world.leave(subject, way)
            done[way] += 1
        else:
            net.advance(random.choice([0.5, 4, 31]))
    for subject in world.subjects:  # everybody returns for what has waited
        if not world.is_there(subject):
            world.connect(subject)
        world.collect(subject)
    assert min(done.values()) > 40
    assert sum(len(subject.received) for subject in world.subjects) > 10_000
    for subject in world.subjects:
        received = topic_of(subject)
        assert Counter(received) == Counter(subject.expected), subject.name
        order: dict[tuple[str, int], int] = {}
        for topic, payload, qos, retain, _ in received:
            if payload.isdigit() and not retain:  # a Will is older than its publication
                assert order.get((topic, qos), 0) < int(payload)  # serials grow
                order[topic, qos] = int(payload)
        for packet in subject.received:
            if packet.topic.startswith("$shared/"):
                world.shared_received[packet.payload.decode()].append(packet.payload)
    due = Counter(payload for payloads in world.shared.values() for payload in payloads)
    assert due.total() > 300
    assert Counter(payload for payloads in world.shared_received.values() for payload in payloads) == due
    counters = net.broker.counters
    assert counters.qos0_dropped == counters.queue_full_dropped == counters.too_large_dropped == 0
    for subject in world.subjects:
        world.leave(subject, "disconnect")
    for name in [*net.broker.sessions]:  # those that never end by themselves
        net.connect(name, clean_start=True).disconnect()
    assert_empty(net.broker)
    assert len(net.broker._distributor.retained) == len(world.retained)
