"""Where the shell adds nothing: the core in this process, fed with bytes."""

import time
from collections.abc import Iterable
from functools import partial

from bench.broker import USERNAME
from bench.broker import rules as make_rules
from bench.direct import Direct
from bench.generator import packets
from bench.generator.messages import other_filter, payload, topic
from bench.timing import nanoseconds, once
from mqttcore.auth import Action, Authorizer, Principal
from mqttcore.broker import Link
from mqttcore.broker.authorization import Resource, Rule, authorizer
from mqttcore.limits import Limits

BATCH = 100
"""Messages that come in one piece."""
FRESH = 1000
"""Topics, subscriptions and clients that are new."""
HELD = 10_000
"""Subscriptions of one session, at most."""
UNBOUNDED = Limits(maximum_retained_messages=10_000_000, maximum_subscriptions=10_000_000)

_PUBLISHER = 99_999
"""Whose topics are those that nothing is retained on and nobody has asked for."""


def subscriptions(size: int) -> dict[str, float]:
    """Messages and subscriptions beside so many other subscriptions, µs."""
    direct = Direct(UNBOUNDED)
    _hold(direct, size)
    subscriber, publisher = direct.connect("subscriber"), direct.connect("publisher")
    known = topic(0, 0)
    direct.subscribe(subscriber, [known, f"bench/{_PUBLISHER:05}/#"])
    batch = _publish(known) * BATCH
    direct.tell(publisher, batch)
    fresh = [_publish(topic(_PUBLISHER, number)) for number in range(FRESH)]
    single = _subscribe("bench/00001/00000") + _unsubscribe("bench/00001/00000")
    return {
        "message, known topic": nanoseconds(lambda: direct.tell(publisher, batch), operations=BATCH) / 1e3,
        "message, new topic": once(partial(_tell_all, direct, publisher, fresh), operations=FRESH) / 1e3,
        "subscribe and unsubscribe": nanoseconds(lambda: direct.tell(subscriber, single)) / 1e3,
    }


def rules(size: int) -> dict[str, float]:
    """Decisions by so many rules, for others or for this one, µs."""
    begin = time.process_time()
    for_others = make_rules(size)
    compiled = (time.process_time() - begin) * 1e6
    for_all = authorizer(
        Rule(usernames=(USERNAME,), resources=(Resource(action=Action.PUBLISH, topics=(f"a/{number}/+",)),))
        for number in range(size)
    )
    client = Principal("client", USERNAME)
    topics = [topic(0, number) for number in range(FRESH)]
    clients = [Principal(f"client-{number}", USERNAME) for number in range(FRESH)]

    def judge(allows: Authorizer, who: Iterable[Principal], names: Iterable[str]) -> float:
        pairs = [*zip(who, names, strict=True)]

        def call() -> None:
            for principal, name in pairs:
                assert allows(principal, Action.PUBLISH, name)

        return once(call, operations=FRESH) / 1e3

    for_others(client, Action.PUBLISH, topics[0])
    return {
        "the same again": nanoseconds(lambda: for_others(client, Action.PUBLISH, topics[0])) / 1e3,
        "new topic": judge(for_others, [client] * FRESH, topics),
        "new client": judge(for_others, clients, topics[:1] * FRESH),
        "new client, for whom all rules are": judge(for_all, clients, ["a/0/0"] * FRESH),
        "compile, for each rule": compiled / size,
    }


def retained_messages(size: int) -> dict[str, float]:
    """Retaining and getting messages where so many are retained, µs."""
    direct = Direct(UNBOUNDED)
    publisher, subscriber = direct.connect("publisher"), direct.connect("subscriber")
    for at in range(0, size, BATCH):
        numbers = range(at, min(at + BATCH, size))
        direct.tell(publisher, b"".join(_retain(topic(*divmod(number, 1000))) for number in numbers))
    first = topic(0, 0)
    fresh = [_retain(topic(_PUBLISHER, number)) for number in range(FRESH)]
    again = _retain(first)
    get = _subscribe(first) + _unsubscribe(first)
    get_nothing = _subscribe(topic(_PUBLISHER, FRESH)) + _unsubscribe(topic(_PUBLISHER, FRESH))
    get_by_level = _subscribe("bench/+/00000") + _unsubscribe("bench/+/00000")
    found = {
        "retain on a new topic": once(partial(_tell_all, direct, publisher, fresh), operations=FRESH) / 1e3,
        "retain in place of another": nanoseconds(lambda: direct.tell(publisher, again)) / 1e3,
        "subscribe to one, unsubscribe": nanoseconds(lambda: direct.tell(subscriber, get)) / 1e3,
        "subscribe to none, unsubscribe": nanoseconds(lambda: direct.tell(subscriber, get_nothing)) / 1e3,
    }
    matching = -(-size // 1000) + 1
    by_level = nanoseconds(lambda: direct.tell(subscriber, get_by_level), operations=matching)
    found["subscribe with +, for each that matches"] = by_level / 1e3
    return found


def _hold(direct: Direct, size: int) -> None:
    for number, at in enumerate(range(0, size, HELD)):
        filters = map(other_filter, range(at, min(at + HELD, size)))
        direct.subscribe(direct.connect(f"holder-{number}"), filters)


def _tell_all(direct: Direct, link: Link, each: Iterable[bytes]) -> None:
    for data in each:
        direct.tell(link, data)


def _publish(name: str) -> bytes:
    return packets.publish(name, payload(0, 0, 16), packets.V5)


def _retain(name: str) -> bytes:
    return packets.retained(name, payload(0, 0, 16), packets.V5)


def _subscribe(topic_filter: str) -> bytes:
    return packets.subscribe(1, [topic_filter], 0, packets.V5)


def _unsubscribe(topic_filter: str) -> bytes:
    return packets.unsubscribe(2, topic_filter, packets.V5)
