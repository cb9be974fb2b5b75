"""Fifty levels of wildcards against deep topics, in a broker: steps that are counted, never timed."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from mqttcore.broker import subscriptions
from mqttcore.topics import matches
from tests.compiled import interpreted
from tests.mqttcore.broker.support import Network

DEPTH = 50
FILTERS = [
    "/".join(["+"] * DEPTH),
    "/".join(["+"] * (DEPTH - 1) + ["x"]),
    "/".join(["+"] * DEPTH + ["#"]),
    *("/".join("a" if level == index else "+" for level in range(DEPTH)) for index in range(DEPTH)),
    *("/".join("+" if level == index else "a" for level in range(DEPTH)) for index in range(DEPTH)),
    "/".join(["a", "+"] * (DEPTH // 2)),
    "/".join(["+", "a"] * (DEPTH // 2)),
]
NODES = len({tuple(each.split("/")[:end]) for each in FILTERS for end in range(1, DEPTH + 2)})
CALLS_PER_NODE = 5


def calls(function: Callable[[], object]) -> int:
    """How many built-in functions the trie of subscriptions calls, of which there are a few for each node."""
    count = 0

    def counted(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "c_call" and frame.f_code.co_filename == subscriptions.__file__

    earlier = sys.getprofile()
    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(earlier)
    return count


@interpreted
@pytest.mark.parametrize("depth", [DEPTH - 1, DEPTH, DEPTH + 1, 200])
@pytest.mark.parametrize("end", ["a", "b"])
def test_a_message_costs_no_more_than_the_levels_that_are_subscribed_to(depth: int, end: str) -> None:
    net = Network()
    reader, writer = net.connects("reader", "writer")
    assert set(reader.subscribe(*FILTERS)) == {2}
    topic = "/".join(["a"] * (depth - 1) + [end])
    found = net.broker._distributor._subscriptions.match(topic)
    assert len(found) == sum(matches(each, topic) for each in FILTERS)
    assert calls(lambda: writer.publish(topic)) <= CALLS_PER_NODE * NODES
    assert reader.payloads() == ([b""] if found else [])


@pytest.mark.parametrize("topic_filter", FILTERS[:4])
def test_a_search_for_retained_messages_looks_at_each_level_once(topic_filter: str) -> None:
    net = Network()
    topics = ["/".join(["a"] * depth + ["b"]) for depth in range(1, 2 * DEPTH)]
    for topic in topics:
        net.publish(topic, b"x", retain=True)
    search = net.broker._distributor.retained.search(topic_filter)
    steps = 0
    found = []
    while not search.done:
        found += [message.topic_name for message in search.step(1)]
        steps += 1
    assert steps <= 1 + 2 * len(topics)
    assert sorted(found) == sorted(topic for topic in topics if matches(topic_filter, topic))
