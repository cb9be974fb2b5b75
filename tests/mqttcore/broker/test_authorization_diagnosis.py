"""Explanations: they agree with the authorizer, and name the rule that a person would look at."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore.auth import Action, Principal
from mqttcore.broker.authorization import Resource, Rule, authorizer
from mqttcore.broker.authorization_diagnosis import Explanation, explain
from tests.mqttcore.broker.rules import principals, questions, rules


@given(st.lists(rules, max_size=4), principals, st.data())
@settings(max_examples=500)
def test_it_agrees_with_the_authorizer(given_rules: list[Rule], principal: Principal, data: st.DataObject) -> None:
    for action, name in (data.draw(questions(given_rules)), (Action.CONNECT, principal.client_id)):
        explanation = explain(given_rules, principal, action, name)
        assert explanation.allowed == authorizer(given_rules)(principal, action, name)
        about = [
            (number, place)
            for number, rule in enumerate(given_rules)
            for place, resource in enumerate(rule.resources)
            if resource.action is action
        ]
        if about:
            assert (explanation.rule, explanation.resource) in about
            assert explanation.reasons
        else:
            assert explanation == Explanation(allowed=False)


def rule(action: Action, *topics: str, patterns: tuple[str, ...] = (), **principals: Any) -> Rule:
    """A rule with one resource, for the user u unless told."""
    resource = Resource(action=action, client_ids=patterns, topics=topics)
    return Rule(**(principals or {"usernames": ("u",)}), resources=(resource,))


CLIENT = Principal("c", "u", {"site": "a", "role": "x", "bad": "a/b", "none": "", "server": "$SYS"})
PUBLISH, SUBSCRIBE, CONNECT = Action.PUBLISH, Action.SUBSCRIBE, Action.CONNECT


@pytest.mark.parametrize(
    ("allowing", "action", "name", "reasons"),
    [
        (rule(CONNECT), CONNECT, "c", ["it is for the user name 'u'"]),
        (rule(CONNECT, client_ids=("c",)), CONNECT, "c", ["it is for the client identifier 'c'"]),
        (
            rule(CONNECT, patterns=("d", "*")),
            CONNECT,
            "c",
            ["it is for the user name 'u'", "the client identifier 'c' fits '*'"],
        ),
        (
            rule(PUBLISH, attributes=({"site": "b"}, {"site": "a", "role": "x"})),
            PUBLISH,
            "t",
            ["it is for clients with site = 'a', role = 'x'", "it is for all topics"],
        ),
        (
            rule(PUBLISH, "x", "y/{principal.clientId}/#"),
            PUBLISH,
            "y/c/1",
            [
                "it is for the user name 'u'",
                "its topic 'y/{principal.clientId}/#' ('y/c/#' for this client) matches 'y/c/1'",
            ],
        ),
        (rule(SUBSCRIBE, "a/#"), SUBSCRIBE, "a/+", ["it is for the user name 'u'", "its topic 'a/#' covers 'a/+'"]),
    ],
)
def test_what_allows(allowing: Rule, action: Action, name: str, reasons: list[str]) -> None:
    others = rule(action, "no", usernames=("v",)), rule(action, "no", client_ids=("no",))
    explanation = explain([*others, allowing, allowing], CLIENT, action, name)
    assert explanation == Explanation(allowed=True, rule=2, resource=0, reasons=tuple(reasons))


@pytest.mark.parametrize(
    ("near", "action", "name", "reasons"),
    [
        (
            rule(CONNECT, usernames=("v", "w")),
            CONNECT,
            "c",
            ["it is for user name 'v', 'w' (the client has 'u')"],
        ),
        (rule(CONNECT, attributes=({},)), CONNECT, "c", ["it is for nobody"]),
        (
            rule(CONNECT, attributes=({"x": "y"}, {"site": "b", "role": "x"})),
            CONNECT,
            "c",
            ["it is for attribute site = 'b' (the client has 'a')"],
        ),
        (
            rule(PUBLISH, usernames=("v",), attributes=({"level": "1"},)),
            PUBLISH,
            "t",
            ["it is for user name 'v' (the client has 'u') or attribute level = '1' (the client has none)"],
        ),
        (
            rule(CONNECT, patterns=("d-*", "{principal.attributes.none}*")),
            CONNECT,
            "c",
            [
                "the client identifier 'c' does not fit 'd-*',"
                " '{principal.attributes.none}*' (the client's attribute 'none' is empty)"
            ],
        ),
        (rule(PUBLISH, "a/b"), PUBLISH, "a/c", ["its topic 'a/b' does not match 'a/c'"]),
        (
            rule(PUBLISH, "x/y", "a/b/c", "a/x"),
            PUBLISH,
            "a/b/d",
            ["the nearest of its 3 topics: 'a/b/c' does not match 'a/b/d'"],
        ),
        (
            rule(PUBLISH, "a/b", "a/{principal.clientId}/#"),
            PUBLISH,
            "a/d/1",
            [
                "the nearest of its 2 topics: 'a/{principal.clientId}/#' ('a/c/#' for this client)"
                " does not match 'a/d/1'"
            ],
        ),
        (
            rule(PUBLISH, "a/{principal.attributes.level}"),
            PUBLISH,
            "a/b",
            ["its topic 'a/{principal.attributes.level}' does not match 'a/b': the client has no attribute 'level'"],
        ),
        (
            rule(PUBLISH, "{principal.attributes.bad}/#"),
            PUBLISH,
            "a/b",
            [
                "its topic '{principal.attributes.bad}/#' does not match 'a/b':"
                " the client's attribute 'bad' 'a/b' has a '/' in it"
            ],
        ),
        (
            rule(SUBSCRIBE, "{principal.attributes.server}/#"),
            SUBSCRIBE,
            "$SYS/#",
            [
                "its topic '{principal.attributes.server}/#' does not cover all of '$SYS/#':"
                " the client's own value would make it a topic of the server's: '$SYS/#'"
            ],
        ),
        (rule(SUBSCRIBE, "a/+"), SUBSCRIBE, "a/#", ["its topic 'a/+' does not cover all of 'a/#'"]),
        (
            rule(SUBSCRIBE, "a/+", patterns=("d",), usernames=("v",)),
            SUBSCRIBE,
            "b",
            [
                "it is for user name 'v' (the client has 'u')",
                "the client identifier 'c' does not fit 'd'",
                "its topic 'a/+' does not cover all of 'b'",
            ],
        ),
    ],
)
def test_what_is_missing(near: Rule, action: Action, name: str, reasons: list[str]) -> None:
    other_action = PUBLISH if action is SUBSCRIBE else SUBSCRIBE
    explanation = explain([rule(other_action), near], CLIENT, action, name)
    assert explanation == Explanation(allowed=False, rule=1, resource=0, reasons=tuple(reasons))


def test_the_nearest_is_that_of_which_least_is_missing() -> None:
    far = rule(PUBLISH, "x", usernames=("v",))
    for_another = rule(PUBLISH, "a/b", usernames=("v",))
    for_the_client = rule(PUBLISH, "a")
    nearer = rule(PUBLISH, "a/c")
    unrelated = rule(PUBLISH, "x/y", "x")
    nearly_for_the_client = rule(PUBLISH, "a/#", attributes=({"site": "a", "role": "y"},))
    for given_rules, nearest in (
        ([far, for_another], 1),
        ([far, for_another, for_the_client], 2),
        ([unrelated, for_another], 1),
        ([for_another, nearly_for_the_client], 1),
        ([nearer, for_the_client, for_another, far], 0),
        ([for_the_client, nearer, for_the_client], 1),
    ):
        assert explain(given_rules, CLIENT, PUBLISH, "a/b").rule == nearest


def test_who_has_no_user_name() -> None:
    [reason] = explain([rule(CONNECT)], Principal("c"), CONNECT, "c").reasons
    assert reason == "it is for user name 'u' (the client has none)"
    [reason] = explain([rule(PUBLISH, "{principal.username}/#")], Principal("c"), PUBLISH, "x").reasons[1:]
    assert reason.endswith("the client has no user name")


def test_reasons_are_short_and_on_one_line() -> None:
    long = "x\n\x1b" * 10_000
    names = tuple(f"{number}{long}" for number in range(1000))
    given_rules = [rule(PUBLISH, *names, patterns=names, usernames=names, attributes=({long: long},))]
    explanation = explain(given_rules, Principal(long, long, {long: long + "y"}), PUBLISH, long)
    assert len(explanation.reasons) == 3
    for reason in explanation.reasons:
        assert reason.isprintable()
        assert len(reason) < 4_000
    assert "995 others" in explanation.reasons[1]
