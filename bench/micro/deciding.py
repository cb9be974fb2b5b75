"""Finding subscribers and retained messages, judging what clients may do, keeping account of what is in flight."""

from collections.abc import Callable, Iterator
from itertools import cycle

from bench.broker import USERNAME, rules
from bench.generator.messages import other_filter, topic
from bench.micro.benchmark import Benchmark
from mqttcore import packets as p
from mqttcore.auth import Action, Principal
from mqttcore.broker import Policy
from mqttcore.broker.policy import Port
from mqttcore.broker.retained import Retained
from mqttcore.broker.sessions import ServerSession
from mqttcore.broker.subscriptions import Stored, Subscriptions
from mqttcore.limits import Limits
from mqttcore.message import Message, message_from
from mqttcore.session import Session, Terms

OTHERS = 1000
"""Subscriptions and retained messages that are not what is looked for."""
MANY = 20_000
"""More than anybody remembers of one kind."""


def deciding() -> Iterator[Benchmark]:
    """What goes on between decoding and encoding."""
    yield Benchmark(name="find subscribers: nobody", prepare=lambda: _find(topic(0, 1)))
    yield Benchmark(name="find subscribers: 4 filters", prepare=lambda: _find(topic(0, 0)))
    yield Benchmark(name="subscribe and unsubscribe", prepare=lambda: _come_and_go("bench/00000/00001"))
    yield Benchmark(name="subscribe and unsubscribe with +", prepare=lambda: _come_and_go("bench/+/00001"))
    yield Benchmark(name="retain in place of another", prepare=_retain)
    yield Benchmark(name="find the retained message of a topic", prepare=lambda: _search(topic(0, 0), 1))
    yield Benchmark(name="find retained messages with #", prepare=lambda: _search("bench/#", OTHERS), operations=OTHERS)
    yield Benchmark(name="authorize: remembered", prepare=lambda: _authorize(1, 1))
    yield Benchmark(name="authorize: another topic", prepare=lambda: _authorize(1, MANY))
    yield Benchmark(name="authorize: another client", prepare=lambda: _authorize(MANY, 1))
    yield Benchmark(name="session: in flight and acknowledged", prepare=lambda: _deliver(queued=False))
    yield Benchmark(name="session: queued, in flight, acknowledged", prepare=lambda: _deliver(queued=True))


def _session() -> ServerSession:
    return ServerSession("client", Limits(), Port(Policy()))


def _message(number: int, *, qos: int = 0, retain: bool = False) -> Message:
    packet_id = 1 if qos else None
    publish = p.Publish(topic(0, number), bytes(16), qos=qos, retain=retain, packet_id=packet_id)
    return message_from(publish, 0.0)


def _subscriptions(*filters: str) -> Subscriptions:
    found = Subscriptions()
    session = _session()
    for each in (*filters, *map(other_filter, range(OTHERS))):
        found.add(each, Stored(session, p.Subscription(each), 0, None))
    return found


def _find(name: str) -> Callable[[], object]:
    filters = (topic(0, 0), "bench/+/00000", "bench/00000/+", "+/00000/00000/#")
    subscriptions = _subscriptions(*filters)
    return lambda: subscriptions.match(name)


def _come_and_go(topic_filter: str) -> Callable[[], object]:
    subscriptions = _subscriptions()
    session = _session()
    stored = Stored(session, p.Subscription(topic_filter), 0, None)

    def call() -> None:
        subscriptions.add(topic_filter, stored)
        subscriptions.remove(topic_filter, session)

    return call


def _retained() -> Retained:
    retained = Retained(Limits())
    for number in range(OTHERS):
        retained.store(_message(number, retain=True), None)
    return retained


def _retain() -> Callable[[], object]:
    retained = _retained()
    message = _message(0, retain=True)
    return lambda: retained.store(message, None)


def _search(topic_filter: str, expected: int) -> Callable[[], object]:
    retained = _retained()

    def call() -> None:
        search = retained.search(topic_filter)
        count = 0
        while not search.done:
            count += len(search.step(100))
        assert count == expected

    return call


def _authorize(clients: int, topics: int) -> Callable[[], object]:
    allows = rules()
    principals = [Principal(f"client-{number}", USERNAME) for number in range(clients)]
    names = [topic(0, number) for number in range(topics)]
    asked = cycle([(principals[at % clients], names[at % topics]) for at in range(max(clients, topics))])

    def call() -> None:
        principal, name = next(asked)
        allows(principal, Action.PUBLISH, name)

    return call


def _deliver(*, queued: bool) -> Callable[[], object]:
    session = Session(Limits())
    session.resume(1)
    delivery = _message(0, qos=1), Terms(1, False)

    def call() -> None:
        if queued:
            session.enqueue(delivery)
            sending = session.next_publish(0.0)
            assert sending is not None
            packet_id, _, _ = sending
        else:
            packet_id = session.launch(delivery)
        session.acknowledged(packet_id)

    return call
