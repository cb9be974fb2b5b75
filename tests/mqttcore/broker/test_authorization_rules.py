"""Rules as an authorizer: against an oracle that enumerates, and through the Broker."""

import re
from collections import Counter
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqttcore import V5, V311, Auth, Connect, Publish, ReasonCode, Will
from mqttcore.auth import Action, Authentication, Authorizer, AuthRequest, Granted, Principal
from mqttcore.broker import authorization
from mqttcore.broker.authorization import Resource, Rule, authorizer
from mqttcore.broker.authorization_topics import TopicSet, allows, covers
from mqttcore.broker.reports import Denied
from mqttcore.topics import matches
from tests.mqttcore.broker.rules import (
    CLIENT_ID,
    SITE,
    TOKENS,
    USERNAME,
    Oracle,
    filters,
    matched_by,
    principals,
    questions,
    rules,
    topics_and_filters,
)
from tests.mqttcore.broker.support import Network

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
HOSTILE = st.text(st.sampled_from("ab/+#*$ {}.\\\u202e"), max_size=5) | st.sampled_from(["$share", "$SYS", *TOKENS])


def one(action: Action, *topics: str, patterns: tuple[str, ...] = (), **principals: Any) -> Rule:
    """A rule with one resource, for the client c unless told."""
    resource = Resource(action=action, client_ids=patterns, topics=topics)
    return Rule(**(principals or {"client_ids": ("c",)}), resources=(resource,))


def allow(*topics: str) -> tuple[Rule, ...]:
    """Rules for the client c and the user u: to connect, and to publish and subscribe to topics."""
    resources = (
        Resource(action=Action.CONNECT),
        Resource(action=Action.PUBLISH, topics=topics),
        Resource(action=Action.SUBSCRIBE, topics=topics),
    )
    return (Rule(client_ids=("c",), usernames=("u",), resources=resources),)


# ---------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("shared_from", [1, 3, 1000], ids=["all compiled for many", "some", "none"])
def test_the_authorizer_decides_as_the_oracle(shared_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "_SHARED_FROM", shared_from)
    decisions: Counter[tuple[Action, bool]] = Counter()

    @given(st.lists(rules, max_size=4), st.data())
    @settings(max_examples=400)
    def decides(given_rules: list[Rule], data: st.DataObject) -> None:
        authorize, oracle = authorizer(given_rules), Oracle(given_rules)
        clients_and_questions = st.tuples(principals, questions(given_rules))
        asked = data.draw(st.lists(clients_and_questions, min_size=1, max_size=3))
        for principal, (action, name) in asked * 2:  # the second time from memory
            allowed = authorize(principal, action, name)
            assert allowed == oracle(principal, action, name)
            connect = authorize(principal, Action.CONNECT, principal.client_id)
            assert connect == oracle(principal, Action.CONNECT, "")
            decisions.update([(action, allowed), (Action.CONNECT, connect)])

    decides()
    assert_in_good_measure(decisions)


def assert_in_good_measure(decisions: Counter[tuple[Action, bool]]) -> None:
    """That a property has met what is allowed and what is denied."""
    for action in {action for action, _ in decisions}:
        least = sum(decisions[action, allowed] for allowed in (False, True)) // 12
        assert min(decisions[action, True], decisions[action, False]) > least, decisions


@given(filters(max_levels=4), filters(max_levels=4))
@settings(max_examples=1000)
@example("+/#", "#")
@example("/+/#", "/#")
@example("+/+/#", "+/#")
@example("#", "$s/#")
def test_covering_is_matching_all_that_a_filter_matches(allowed: str, topic_filter: str) -> None:
    expected = all(matches(allowed, topic) for topic in matched_by(topic_filter, [allowed]))
    assert covers(allowed, topic_filter) == expected


@given(st.lists(filters(max_levels=4), min_size=2, max_size=8), topics_and_filters())
@settings(max_examples=2000)
@example(["a/+/b", "+/a"], (Action.PUBLISH, "a/a"))
def test_many_topics_allow_what_one_of_them_does(topics: list[str], question: tuple[Action, str]) -> None:
    topic_set = TopicSet()
    for topic in topics:
        topic_set.add(topic)
    assert topic_set.allows(*question, {}) == any(allows(topic, *question) for topic in topics)


def both(rule: Rule) -> Rule:
    """A rule that lets clients publish to, and subscribe to, all topics that are in it."""
    resources = (
        evolve(resource, action=action) for resource in rule.resources for action in (Action.PUBLISH, Action.SUBSCRIBE)
    )
    return evolve(rule, resources=tuple(resources))


def test_a_subscription_is_allowed_only_with_every_topic_that_it_could_match() -> None:
    decisions: Counter[tuple[Action, bool]] = Counter()

    @given(st.lists(rules.map(both), min_size=1, max_size=3), principals, st.data())
    @settings(max_examples=400)
    def decides(given_rules: list[Rule], principal: Principal, data: st.DataObject) -> None:
        authorize = authorizer(given_rules)
        _, topic_filter = data.draw(questions(given_rules))
        allowed = authorize(principal, Action.SUBSCRIBE, topic_filter)
        decisions[Action.SUBSCRIBE, allowed] += 1
        named = [topic for rule in given_rules for resource in rule.resources for topic in resource.topics]
        matched = matched_by(topic_filter, named[:3])
        for topic in matched if allowed else ():
            assert authorize(principal, Action.SUBSCRIBE, topic)
            assert authorize(principal, Action.PUBLISH, topic)
        decisions[Action.PUBLISH, any(authorize(principal, Action.PUBLISH, topic) for topic in matched)] += 1

    decides()
    assert_in_good_measure(decisions)


@pytest.mark.parametrize(
    ("allowed", "topic_filter", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/+", False),
        ("a/+", "a/b", True),
        ("a/+", "a/+", True),
        ("a/+", "a/#", False),
        ("a/+", "+/b", False),
        ("a/#", "a", True),
        ("a/#", "a/#", True),
        ("a/#", "a/b/+/c/#", True),
        ("a/#", "#", False),
        ("a/+/#", "a/#", False),  # which matches "a"
        ("#", "#", True),
        ("#", "+/a", True),
        ("+/#", "#", True),  # there is no Topic Name without a level
        pytest.param("#", "$SYS/#", False, marks=pytest.mark.conformance("MQTT-4.7.2-1")),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("$SYS/#", "#", False),
        ("/#", "/", True),
        ("/#", "/+", True),
        ("/#", "+/a", False),
        ("+", "/", False),
        ("+/+", "/", True),
    ],
)
def test_covering(allowed: str, topic_filter: str, expected: bool) -> None:
    assert covers(allowed, topic_filter) is expected
    assert authorizer(allow(allowed))(Principal("c"), Action.SUBSCRIBE, topic_filter) is expected


# ------------------------------------------------------------------------------------------ what is put in is a level


def client(token: str, value: str) -> Principal:
    """A client whose `token` stands for a value."""
    if token == CLIENT_ID:
        return Principal(value, "u")
    if token == USERNAME:
        return Principal("c", value, {"role": "x"})
    return Principal("c", "u", {"site": value, "a/b*c": value})


EVERYBODY: dict[str, Any] = {"client_ids": ("c",), "usernames": ("u",)}


@given(
    st.sampled_from(TOKENS), HOSTILE, st.lists(st.sampled_from(["a", "$s", "", "+"]), max_size=2),
    st.sampled_from([[], ["a"], ["#"]]), HOSTILE, st.lists(HOSTILE, min_size=1, max_size=4),
)  # fmt: skip
@settings(max_examples=1000)
def test_no_value_widens_its_own_rule(
    token: str, value: str, start: list[str], end: list[str], guess: str, asked: list[str]
) -> None:
    authorize = authorizer(
        one(action, "/".join([*start, token, *end]), **EVERYBODY) for action in (Action.PUBLISH, Action.SUBSCRIBE)
    )
    wide = "/".join([*start, "+", *end])
    principal = client(token, value)
    for levels in ([*start, guess, *end], [*start, value, *end], ["#"], ["+", "#"], asked):
        name = "/".join(levels)
        if authorize(principal, Action.SUBSCRIBE, name):
            assert name.split("/")[len(start)] == value
            assert covers(wide, name)
        if not set(name) & set("+#") and authorize(principal, Action.PUBLISH, name):
            assert name.split("/")[len(start)] == value
            assert matches(wide, name)


@given(
    st.sampled_from(TOKENS), HOSTILE, st.sampled_from(["", "a", "-"]), st.sampled_from(["", "*", "-*"]), HOSTILE
)  # fmt: skip
@settings(max_examples=1000)
def test_no_value_is_a_wildcard_in_a_client_id_pattern(
    token: str, value: str, start: str, end: str, client_id: str
) -> None:
    authorize = authorizer([one(Action.CONNECT, patterns=(start + token + end,), attributes=({"role": "x"},))])
    for asked in (client_id, start + value + end, start + value + client_id):
        attributes = {"role": "x", "site": value, "a/b*c": value}
        principal = Principal(asked, value, attributes)
        own = asked if token == CLIENT_ID else value
        rest = asked.removeprefix(start + own).removeprefix(end.rstrip("*"))
        fits = asked == start + own + end.rstrip("*") + rest and (not rest or end.endswith("*"))
        expected = bool(own) and not set(own) & set("/+#") and fits
        assert authorize(principal, Action.CONNECT, asked) == expected


@pytest.mark.parametrize("value", ["+", "#", "a/b", "/", "", "a+", "#a", "$SYS", "$share", None])
@pytest.mark.parametrize("token", [USERNAME, SITE])
def test_a_value_that_could_widen_a_rule_matches_nothing(token: str, value: str | None) -> None:
    principal = Principal("c", value if token == USERNAME else "u", {} if value is None else {"site": value})
    authorize = authorizer(allow(f"{token}/#", f"x/{token}/#"))
    for name in (f"{value}/a", f"{value}/#", "#", "a/b/c", "/a", "SYS/a"):
        assert not authorize(principal, Action.SUBSCRIBE, name)
    within = value in ("$SYS", "$share")  # a level like any other where it is not the first
    assert authorize(principal, Action.SUBSCRIBE, f"x/{value}/a") is within


def test_an_empty_user_name_makes_a_pattern_fit_nobody() -> None:
    authorize = authorizer([one(Action.CONNECT, patterns=(f"{USERNAME}*",), usernames=("", "ab"))])
    assert not authorize(Principal("anything", ""), Action.CONNECT, "anything")
    assert authorize(Principal("ab-1", "ab"), Action.CONNECT, "ab-1")
    assert not authorize(Principal("ac", "ab"), Action.CONNECT, "ac")


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*", ["c", "", "*"], []),
        ("fleet-*", ["fleet-", "fleet-1", "fleet-*"], ["fleet", "Fleet-1", "a-fleet-1"]),
        ("*-1", ["-1", "a-1"], ["-1a"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("a*b*c", ["abc", "a-b-b-c"], ["acb", "ac"]),
        ("a**b", ["ab", "a--b"], ["a"]),
        ("a*b*b", ["abb", "a-b-b"], ["ab"]),
        ("*a*a*", ["aa", "bab-a"], ["a", "bab"]),
        ("ab*ba*b", ["abbab", "ab-ba-b"], ["abab", "abb"]),
        ("a.c", ["a.c"], ["abc"]),
        ("[ab]?", ["[ab]?"], ["a"]),
        ("a\n*", ["a\nb"], ["a"]),
    ],
)
def test_client_id_patterns(pattern: str, fitting: list[str], others: list[str]) -> None:
    authorize = authorizer([one(Action.CONNECT, patterns=(pattern,), usernames=("u",))])
    assert [text for text in (*fitting, *others) if authorize(Principal(text, "u"), Action.CONNECT, text)] == fitting


@given(st.text("ab*", max_size=7), st.text("ab", max_size=7))
@settings(max_examples=2000)
def test_client_id_patterns_are_like_regular_expressions(pattern: str, client_id: str) -> None:
    authorize = authorizer([one(Action.CONNECT, patterns=(pattern,), usernames=("u",))])
    expected = re.fullmatch(pattern.replace("*", ".*"), client_id) is not None
    assert authorize(Principal(client_id, "u"), Action.CONNECT, client_id) == expected


# ---------------------------------------------------------------------------------------------------- default-deny

NAMES = [(Action.CONNECT, "c"), (Action.PUBLISH, "t"), (Action.SUBSCRIBE, "t"), (Action.SUBSCRIBE, "#")]
ALL = tuple(Resource(action=action) for action in Action)


@pytest.mark.parametrize(
    "given_rules",
    [
        [],
        [Rule(resources=ALL)],
        [Rule(attributes=({},), resources=ALL)],
        [Rule(usernames=("None", "", "*", "c"), client_ids=("*", "", "u"), resources=ALL)],
        [Rule(attributes=({"site": "a", "role": "x"}, {"role": ""}), resources=ALL)],
        [Rule(client_ids=("c",))],
        [
            Rule(
                client_ids=("c",), resources=tuple(Resource(action=action, client_ids=("d*", "C")) for action in Action)
            )
        ],
    ],
    ids=["no rules", "no principals", "no attributes", "others", "not all pairs", "no resources", "other client ids"],
)
@pytest.mark.parametrize("username", [None, "u"])
def test_what_no_rule_allows_is_denied(given_rules: list[Rule], username: str | None) -> None:
    authorize = authorizer(given_rules)
    for action, name in NAMES:
        assert not authorize(Principal("c", username, {"site": "a"}), action, name)


def test_what_allows_one_action_allows_no_other() -> None:
    for allowed in Action:
        authorize = authorizer([one(allowed)])
        assert {action for action, name in NAMES if authorize(Principal("c"), action, name)} == {allowed}


def test_one_kind_of_principal_is_enough_and_of_a_map_all_pairs() -> None:
    maps = ({"site": "a", "role": "x"}, {"role": "y"})
    authorize = authorizer([Rule(usernames=("u", "v"), client_ids=("c",), attributes=maps, resources=ALL)])
    for principal, expected in (
        (Principal("c"), True),
        (Principal("d", "v"), True),
        (Principal("d", "w", {"role": "y"}), True),
        (Principal("d", "w", {"role": "x", "site": "a", "more": ""}), True),
        (Principal("d", "w", {"role": "x"}), False),
        (Principal("d", "c", {"c": "d"}), False),
        (Principal("u", None), False),
    ):
        assert all(authorize(principal, action, name) is expected for action, name in NAMES)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"topics": ("client-{principal.clientId}/#",)}, "must be a whole level of the topic"),
        ({"topics": ("a/{principal.clientId}{principal.username}",)}, "must be a whole level of the topic"),
        ({"topics": ("{principal.user}/#",)}, "has a token that does not exist"),
        ({"topics": ("{principal.attributes.}",)}, "has a token that does not exist"),
        ({"client_ids": ("a-{principal.user}",)}, "has a token that does not exist"),
        ({"topics": ("$share/g/a",)}, "behind the ShareName"),
        ({"topics": ("",)}, "is not a Topic Filter"),
        ({"topics": ("a/#/b",)}, "is not a Topic Filter"),
        ({"topics": ("{principal.clientId}/a+",)}, "is not a Topic Filter"),
        ({"topics": ("{principal.attributes.a/b}c/d",)}, "{principal.attributes.a/b} must be a whole level"),
        ({"topics": ("a\0",)}, "must not contain U\\+0000"),
    ],
)
def test_what_cannot_be_understood_is_an_error(what: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Resource(action=Action.PUBLISH, **what)


def test_principals_are_told_apart() -> None:
    authorize = authorizer([one(Action.PUBLISH, f"{USERNAME}/{SITE}", client_ids=("c",))])
    for username, site in (("a", "b"), ("b", "a"), ("a", "a")):
        principal = Principal("c", username, {"site": site})
        allowed = [name for name in ("a/b", "b/a", "a/a") if authorize(principal, Action.PUBLISH, name)]
        assert allowed == [f"{username}/{site}"]


# ---------------------------------------------------------------------------------------------- through the Broker


def network(authorize: Authorizer) -> Network:
    net = Network()
    net.policy = net.policy_with(authorize=authorize)
    return net


@VERSIONS
@pytest.mark.parametrize(
    ("topic_filter", "allowed"),
    [
        ("$share/g/a/b", True),
        ("$share/g/a/+", True),
        ("$share/g/a/b/#", False),
        ("$share/g/b", False),
        ("$share/a/#", False),  # the ShareName is "a"
        ("$share/a/a/b", True),
        ("$share/g/#", False),
        ("$share/g/$share/g/a/b", False),
        ("$share/g//a/b", False),
        ("a/b", True),
        ("a/#", False),
    ],
)
def test_shared_subscriptions_are_judged_by_their_filter(version: int, topic_filter: str, allowed: bool) -> None:
    net = network(authorizer(allow("a/+")))
    peer = net.connect("c", protocol_version=version)
    denied = ReasonCode.NOT_AUTHORIZED if version == V5 else 0x80
    assert peer.subscribe(topic_filter) == [2 if allowed else denied]
    net.publish("a/b", b"1")
    assert peer.payloads() == ([b"1"] if allowed else [])
    assert [event.topic for event in net.take_reports(Denied)] == ([] if allowed else [topic_filter])


@VERSIONS
def test_connect_publish_and_subscribe(version: int) -> None:
    resources = (
        Resource(action=Action.CONNECT, client_ids=("{principal.username}-*",)),
        Resource(action=Action.PUBLISH, topics=("clients/{principal.clientId}/#",)),
        Resource(action=Action.SUBSCRIBE, topics=("clients/{principal.clientId}/#",)),
    )
    net = network(authorizer([Rule(usernames=("u",), resources=resources)]))
    for client_id, username in (("u-1", "v"), ("v-1", "u"), ("u-1", None), ("u", "u"), ("U-1", "u")):
        peer = net.peer()
        peer.send(Connect(client_id=client_id, username=username, protocol_version=version))
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
    peer = net.connect("u-1", username="u", protocol_version=version)
    denied = ReasonCode.NOT_AUTHORIZED if version == V5 else 0x80
    asked = ("clients/u-1/#", "clients/u-1", "clients/+", "clients/#", "clients/u-2/#", "#")
    assert peer.subscribe(*asked) == [2, 2, denied, denied, denied, denied]
    peer.publish("clients/u-1/a", b"own", 1)
    peer.publish("clients/u-2/a", b"other's", 1)
    assert peer.payloads() == [b"own"]


def test_a_client_id_that_is_a_wildcard_gets_in_and_sees_nothing() -> None:
    resources = (Resource(action=Action.CONNECT), Resource(action=Action.SUBSCRIBE, topics=(f"clients/{CLIENT_ID}/#",)))
    net = network(authorizer([Rule(usernames=("u",), resources=resources)]))
    for client_id in ("+", "#", "a/b", "c/#", "+/x"):
        peer = net.connect(client_id, username="u")
        asked = ("clients/+/#", "clients/#", "clients/a/#", "clients/a/b/#", "clients/c/#", "clients/+/x/#")
        assert set(peer.subscribe(*asked)) == {ReasonCode.NOT_AUTHORIZED}
    peer = net.connect("*", username="u")
    assert peer.subscribe("clients/*/#", "clients/a/#") == [2, ReasonCode.NOT_AUTHORIZED]


@VERSIONS
def test_a_will_is_judged_at_connect_and_when_it_is_sent(version: int) -> None:
    sites = iter(["a", "a", "b"])

    def authenticate(_request: AuthRequest) -> Authentication:
        return Granted(username="u", attributes={"site": next(sites)})
        yield

    authorize = authorizer(allow(f"state/{SITE}"))
    net = Network()
    net.policy = net.policy_with(authenticate=authenticate, authorize=authorize)
    watcher = net.connect("watcher", policy=net.policy_with())
    watcher.subscribe("state/#")
    refused = net.peer()
    refused.send(Connect(client_id="c", will=Will(topic="state/b"), protocol_version=version))
    assert refused.ended_with() is ReasonCode.NOT_AUTHORIZED
    method = "m" if version == V5 else None
    peer = net.connect("c", will=Will(topic="state/a"), protocol_version=version, authentication_method=method)
    if version == V5:
        peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
    peer.cut()
    assert watcher.messages() == ([] if version == V5 else [("state/a", b"", 0)])
    reports = [(event.client_id, event.action, event.topic) for event in net.take_reports(Denied)]
    at_connect, when_sent = ("c", Action.PUBLISH, "state/b"), ("c", Action.PUBLISH, "state/a")
    assert reports == ([at_connect, when_sent] if version == V5 else [at_connect])


def test_retained_messages_come_only_through_what_is_allowed() -> None:
    net = network(authorizer(allow("a/+", "b/#")))
    for topic in ("a/1", "a/1/2", "b", "c"):
        net.publish(topic, topic.encode(), retain=True)
    peer = net.connect("c")
    peer.subscribe("#", "a/#", "a/+", "b/#")
    assert sorted(peer.payloads()) == [b"a/1", b"b"]
    assert not peer.take(Publish)
