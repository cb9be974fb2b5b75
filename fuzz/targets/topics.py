"""Topic Names, Topic Filters and rules, against oracles that decide by trying.

Input: which of the four questions is asked, then texts, or levels put together.
"""

import re
from typing import Any

from fuzz.source import Source
from mqttcore.auth import Action, Principal
from mqttcore.broker.authorization import Resource, Rule, authorizer
from mqttcore.broker.authorization_diagnosis import explain
from mqttcore.broker.authorization_topics import covers
from mqttcore.broker.policy import Policy, Port
from mqttcore.broker.retained import Retained
from mqttcore.broker.sessions import ServerSession
from mqttcore.broker.subscriptions import Share, Stored, Subscriptions
from mqttcore.codes import ReasonCode
from mqttcore.errors import ProtocolError
from mqttcore.limits import Limits
from mqttcore.message import message_from
from mqttcore.packets import Publish, Subscription
from mqttcore.topics import check_topic_filter, check_topic_name, matches, split_share
from tests.mqttcore.broker.rules import CLIENT_ID, PATH, SITE, USERNAME, VALUES, Oracle, matched_by

NAMES = ("a", "b", "", "$s", "A")
LEVELS = (*NAMES, "+")
TEMPLATE_LEVELS = ("a", "b", "", "$s", "+", USERNAME, CLIENT_ID, SITE, PATH)
PATTERN_PARTS = ("a", "b", "*", "$", USERNAME, CLIENT_ID, SITE, PATH)
_LEVEL = r"([^/+#]|(?<![^/])\+(?![^/]))*"
_PLAIN = rf"(?!\Z)(#|{_LEVEL}(/{_LEVEL})*(/#)?)"
_FILTER = re.compile(rf"(\$share/[^/+#]+/{_PLAIN}|(?!\$share/){_PLAIN})")


def check(data: bytes) -> None:
    """Exactly the well-formed names and filters are accepted; matching, covering, the trie of subscriptions, the search
    for retained messages, the authorizer and its explanation give the answers of naive oracles.

    Matching compares each level of the filter at most four times, whatever the topic; a search looks at each node of
    the trie once.
    """
    source = Source(data)
    source.pick((_check_texts, _check_matching, _check_tries, _check_rules))(source)


def _is_refused(check: Any, text: str) -> ReasonCode | None:
    try:
        check(text)
    except ProtocolError as error:
        return error.reason_code
    return None


def naive_match(topic_filter: str, topic: str) -> bool:
    """Section 4.7 as a regular expression."""
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    if topic_filter == "#":
        return True
    pattern = re.escape(topic_filter.removesuffix("/#")).replace(r"\+", "[^/]*")
    rest = "(/.*)?" if topic_filter.endswith("/#") else ""
    return re.fullmatch(pattern + rest, topic, re.DOTALL) is not None


def _check_texts(source: Source) -> None:
    topic_filter, topic = source.text(60), source.rest().decode("utf-8", "replace")
    filter_refused, topic_refused = _is_refused(check_topic_filter, topic_filter), _is_refused(check_topic_name, topic)
    assert filter_refused == (None if _FILTER.fullmatch(topic_filter) else ReasonCode.TOPIC_FILTER_INVALID)
    assert topic_refused == (None if topic and not set(topic) & set("+#") else ReasonCode.TOPIC_NAME_INVALID)
    if filter_refused or topic_refused:
        return
    share, topics = split_share(topic_filter)
    assert topic_filter == (topics if share is None else f"$share/{share}/{topics}")
    Counted.comparisons = 0
    assert matches(Counted(topics), Counted(topic)) == naive_match(topics, topic)
    assert Counted.comparisons <= 4 * (topics.count("/") + 2)


class Counted(str):
    """Text that counts how often it, or a level of it, is compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, other)

    def split(self, *args: Any, **kwargs: Any) -> list[str]:
        return [Counted(level) for level in super().split(*args, **kwargs)]


def _filter(source: Source, levels: tuple[str, ...] = LEVELS, most: int = 4) -> str:
    parts = [source.pick(levels) for _ in range(source.below(most) + 1)]
    return "/".join([*parts, "#"] if source.flag() else parts) or "#"


def _name(source: Source, most: int = 4) -> str:
    return "/".join(source.pick(NAMES) for _ in range(source.below(most) + 1)) or "a"


def _check_matching(source: Source) -> None:
    first, second = _filter(source, most=3), _filter(source, most=3)
    every = matched_by(second, (first,))
    assert all(matches(second, topic) == naive_match(second, topic) for topic in every)
    assert covers(first, second) == all(naive_match(first, topic) for topic in every)


def _check_tries(source: Source) -> None:
    subscriptions, retained = Subscriptions(), Retained(Limits())
    subscribed: dict[tuple[str, str], Stored] = {}  # by the Topic Filter and the Client Identifier
    kept: set[str] = set()
    sessions = [ServerSession(name, Limits(), Port(Policy())) for name in ("one session", "another")]
    for _ in range(40):
        if not source:
            break
        match source.below(6):
            case 0 | 1:
                topic_filter, session = source.pick(("", "", "$share/g/")) + _filter(source), source.pick(sessions)
                stored = Stored(session, Subscription(topic_filter), 0, None)
                subscriptions.add(topic_filter, stored)
                subscribed[topic_filter, session.client_id] = stored
            case 2:
                if subscribed:
                    topic_filter, client_id = source.pick(sorted(subscribed))
                    stored = subscribed.pop((topic_filter, client_id))
                    subscriptions.remove(topic_filter, stored.session)
            case 3:
                topic = _name(source)
                retained.store(message_from(Publish(topic, b"x"), 0.0), None)
                kept.add(topic)
            case 4:
                topic = _name(source)
                retained.delete(topic.encode())
                kept.discard(topic)
            case _:
                _check_subscribers(subscriptions, subscribed, _name(source))
                _check_search(retained, kept, _filter(source))
    for (topic_filter, _), stored in subscribed.items():
        subscriptions.remove(topic_filter, stored.session)
    for topic in kept:
        retained.delete(topic.encode())
    assert not subscriptions._exact
    assert not subscriptions._root.children
    assert not retained._root.children
    assert retained.bytes == 0


def _check_subscribers(subscriptions: Subscriptions, subscribed: dict[tuple[str, str], Stored], topic: str) -> None:
    entries = subscriptions.match(topic)
    found = [stored for entry in entries for stored in entry.subscribers]
    shares: list[Share] = [share for entry in entries for share in (entry.shares or {}).values()]
    found += [stored for share in shares for stored in share.members.values()]
    expected = [
        stored for (topic_filter, _), stored in subscribed.items() if naive_match(split_share(topic_filter)[1], topic)
    ]
    assert len(found) == len(expected)
    assert set(map(id, found)) == set(map(id, expected))
    for share in shares:
        assert len([*share.turns()]) == len(share.members)


def _check_search(retained: Retained, kept: set[str], topic_filter: str) -> None:
    search = retained.search(topic_filter)
    nodes = 1 + sum(topic.count("/") + 1 for topic in kept)
    found = []
    while not search.done:
        found += [message.topic_name for message in search.step(1)]
        nodes -= 1
        assert nodes >= 0
    assert sorted(found) == sorted(topic for topic in kept if naive_match(topic_filter, topic))


def _check_rules(source: Source) -> None:
    rules = [_rule(source) for _ in range(source.below(4))]
    authorize, oracle = authorizer(rules), Oracle(rules)
    for _ in range(source.below(4) + 1):
        principal = Principal(
            source.pick([value for value in VALUES if value]),
            source.pick((None, *VALUES)),
            {name: source.pick(VALUES) for name in ("site", "a/b*c") if source.flag()},
        )
        action = source.pick(tuple(Action))
        match action:
            case Action.CONNECT:
                name = principal.client_id
            case Action.PUBLISH:
                name = "/".join(source.pick(("a", "b", "", "$s", "$share", "*")) for _ in range(source.below(3) + 1))
            case Action.SUBSCRIBE:
                name = _filter(source, ("a", "b", "", "$s", "+", "*"), 2)
        name = name or "a"
        decision = oracle(principal, action, name)
        assert authorize(principal, action, name) is decision
        assert authorize(principal, action, name) is decision  # and from what is remembered
        explanation = explain(rules, principal, action, name)
        assert explanation.allowed is decision
        assert all(reason.isprintable() for reason in explanation.reasons)


def _rule(source: Source) -> Rule:
    return Rule(
        usernames=tuple(source.several(VALUES, 2)),
        client_ids=tuple(source.several(VALUES, 2)),
        attributes=tuple(
            {name: source.pick(VALUES) for name in ("site", "a/b*c") if source.flag()} for _ in range(source.below(3))
        ),
        resources=tuple(
            Resource(
                action=source.pick(tuple(Action)),
                client_ids=tuple("".join(source.several(PATTERN_PARTS, 3)) or "*" for _ in range(source.below(3))),
                topics=tuple(_filter(source, TEMPLATE_LEVELS, 2) for _ in range(source.below(3))),
            )
            for _ in range(source.below(3))
        ),
    )
