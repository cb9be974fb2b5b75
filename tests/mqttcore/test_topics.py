"""Topic Names, Topic Filters and matching (sections 4.7 and 4.8.2), against an oracle of regexes."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore.codes import ReasonCode
from mqttcore.errors import ProtocolError
from mqttcore.testing.strategies import share_names, topic_filters, topic_names
from mqttcore.topics import check_topic_filter, check_topic_name, has_wildcard, matches, split_share
from tests.compiled import interpreted

SHORT_LEVELS = st.sampled_from(["", "a", "b", "$a", "A"])
SHORT_NAMES = st.lists(SHORT_LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
SHORT_FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(SHORT_LEVELS | st.just("+"), max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)


def expected_match(topic_filter: str, topic: str) -> bool:
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    if topic_filter == "#":
        return True
    pattern = re.escape(topic_filter.removesuffix("/#")).replace(r"\+", "[^/]*")
    rest = "(/.*)?" if topic_filter.endswith("/#") else ""
    return re.fullmatch(pattern + rest, topic, re.DOTALL) is not None


@given(SHORT_FILTERS | topic_filters(shared=False), SHORT_NAMES | topic_names())
@settings(deadline=None, max_examples=1000)
def test_matching_agrees_with_the_oracle(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) == expected_match(topic_filter, topic)


@pytest.mark.conformance("MQTT-4.7.2-1")
@given(topic_names(), st.data())
@settings(deadline=None, max_examples=200)
def test_a_topic_matches_every_generalization_of_itself(topic: str, data: st.DataObject) -> None:
    assert matches(topic, topic)
    levels = topic.split("/")
    kept = data.draw(st.integers(1, len(levels)))
    plus = data.draw(st.sets(st.integers(0, kept - 1)))
    start = ["+" if index in plus else level for index, level in enumerate(levels[:kept])]
    hidden = topic.startswith("$") and 0 in plus
    assert matches("/".join([*start, "#"]), topic) != hidden
    assert matches("/".join([*start, *levels[kept:]]), topic) != hidden
    assert matches("/".join([*start, *levels[kept:], "more"]), topic) is False


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        # The examples of section 4.7.
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        pytest.param("#", "$SYS/uptime", False, marks=pytest.mark.conformance("MQTT-4.7.2-1")),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        pytest.param("ACCOUNTS", "Accounts", False, marks=pytest.mark.conformance("MQTT-4.7.3-4")),
        pytest.param(
            "\u00e9", "e\u0301", False, marks=pytest.mark.conformance("MQTT-4.7.3-4")
        ),  # the same letter, composed and decomposed
        ("a b", "a b", True),
        ("/", "/", True),
    ],
)
def test_examples(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


class Counted(str):
    """Text that counts how often it, or a level of it, is compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, other)

    def split(self, *args: Any, **kwargs: Any) -> list[str]:
        return [Counted(level) for level in super().split(*args, **kwargs)]


@interpreted
@pytest.mark.parametrize("end", ["", "/#", "/x"])
@pytest.mark.parametrize("depth", [49, 50, 51, 1000])
def test_matching_is_linear_in_the_levels_of_the_filter(end: str, depth: int) -> None:
    # The case in which a matcher that backtracks takes exponential time: many "+", and a mismatch at the end.
    topic_filter = Counted("/".join(["+"] * 50) + end)
    topic = Counted("/".join(["a"] * depth))
    Counted.comparisons = 0
    assert matches(topic_filter, topic) == ((depth >= 50) if end == "/#" else depth == 50 and not end)
    assert 50 <= Counted.comparisons <= 4 * 52


LEVEL = r"([^/+#]|(?<![^/])\+(?![^/]))*"
PLAIN_FILTER = rf"(?!\Z)(#|{LEVEL}(/{LEVEL})*(/#)?)"
FILTER = re.compile(rf"(\$share/[^/+#]+/{PLAIN_FILTER}|(?!\$share/){PLAIN_FILTER})")


def is_refused(check: Any, text: str) -> ReasonCode | None:
    try:
        check(text)
    except ProtocolError as error:
        return error.reason_code
    return None


@pytest.mark.conformance("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-1", "MQTT-4.8.2-1", "MQTT-4.8.2-2")
@given(st.sampled_from(["", "$share/", "$share/a/"]), st.text("a/+#$", max_size=7))
@settings(deadline=None, max_examples=1000)
def test_exactly_the_well_formed_filters_are_accepted(start: str, end: str) -> None:
    well_formed = FILTER.fullmatch(start + end) is not None
    assert is_refused(check_topic_filter, start + end) == (None if well_formed else ReasonCode.TOPIC_FILTER_INVALID)


@pytest.mark.conformance("MQTT-3.3.2-2", "MQTT-4.7.0-1", "MQTT-4.7.3-1")
@given(st.text("a/+#$", max_size=7))
@settings(deadline=None, max_examples=300)
def test_exactly_the_topics_without_wildcards_are_accepted(topic: str) -> None:
    well_formed = topic != "" and not set(topic) & {"+", "#"}
    assert is_refused(check_topic_name, topic) == (None if well_formed else ReasonCode.TOPIC_NAME_INVALID)
    assert has_wildcard(topic) == bool(set(topic) & {"+", "#"})


@given(topic_names(), topic_filters())
@settings(deadline=None, max_examples=200)
def test_what_the_strategies_draw_is_well_formed(topic: str, topic_filter: str) -> None:
    check_topic_name(topic)
    check_topic_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        pytest.param("", marks=pytest.mark.conformance("MQTT-4.7.3-1")),
        pytest.param("sport/tennis#", marks=pytest.mark.conformance("MQTT-4.7.1-1")),
        "sport/tennis/#/ranking",
        "##",
        pytest.param("sport+", marks=pytest.mark.conformance("MQTT-4.7.1-2")),
        "+a/b",
        pytest.param("$share/", marks=pytest.mark.conformance("MQTT-4.8.2-1")),
        "$share//a",
        pytest.param("$share/group", marks=pytest.mark.conformance("MQTT-4.8.2-2")),
        "$share/group/",
        "$share/+/a",
        "$share/gr#up/a",
        "$share/group/a#",
    ],
)
def test_filters_refused(topic_filter: str) -> None:
    assert is_refused(check_topic_filter, topic_filter) is ReasonCode.TOPIC_FILTER_INVALID


@given(share_names(), topic_filters(shared=False))
@settings(deadline=None, max_examples=100)
def test_a_shared_filter_comes_apart_again(share_name: str, topic_filter: str) -> None:
    assert split_share(f"$share/{share_name}/{topic_filter}") == (share_name, topic_filter)
    assert split_share(topic_filter) == (None, topic_filter)
