"""Allow-only rules, compiled into an authorizer whose cost does not grow with rules that are for others.

What no rule allows is denied. `{principal.username}`, `{principal.clientId}` and `{principal.attributes.<name>}` in a
resource stand for the client's own values; one that is missing, or that could widen the rule, matches nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import final

from attrs import field, frozen

from mqttcore.auth import Action, Authorizer, Principal
from mqttcore.errors import ProtocolError
from mqttcore.topics import SHARE_PREFIX, check_topic_filter, matches

MAXIMUM_REMEMBERED_PRINCIPALS = 10_000
"""Principals whose rules are kept put together."""
MAXIMUM_REMEMBERED_TOPICS = 200_000
"""Topics of all these together."""

_TOKEN = re.compile(r"\{principal\.(?:(username)|(clientId)|attributes\.([^{}]+))\}")
_STAR_OR_TOKEN = re.compile(rf"\*|{_TOKEN.pattern}")
_LIKE_A_TOKEN = "{principal."
_WIDER = "/+#"
# What a last "#" adds is no level or more; where no level leaves an empty Topic Name, which there is not, it is one.
_SAME = {"#": "+/#", "/#": "/+/#"}


class Unusable(Exception):
    """A client's own value that a token cannot stand for; the message says why."""


@frozen(kw_only=True)
class Resource:
    """What a rule allows: an action, on client identifiers (`*` is a wildcard) and on Topic Filters; empty is any.

    Raises ValueError for what cannot be understood: a token that does not exist or, in a topic, is not a whole level,
    and a topic that is no Topic Filter or has a ShareName.
    """

    action: Action
    client_ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        for pattern in self.client_ids:
            _check_tokens(pattern, _TOKEN.sub("", pattern))
        for topic in self.topics:
            _check_topic(topic)


def _check_tokens(text: str, without: str) -> None:
    if _LIKE_A_TOKEN in without:
        raise ValueError(f"{text!r} has a token that does not exist")


def _check_topic(topic: str) -> None:
    levels = _TOKEN.sub("\0", topic).split("/")
    if any("\0" in level and level != "\0" for level in levels):
        raise ValueError(f"in {topic!r} a token is not a whole level")
    filled = "/".join(levels)
    _check_tokens(topic, filled)
    if filled.startswith(SHARE_PREFIX):
        raise ValueError(f"{topic!r} has a ShareName; a rule is for the Topic Filter behind it")
    try:
        check_topic_filter(filled)
    except ProtocolError as error:
        raise ValueError(f"{topic!r} is no Topic Filter: {error}") from None


@frozen(kw_only=True)
class Rule:
    """Whom a rule is for, and what it allows.

    A client is meant when any of `usernames` or `client_ids` is its own, or all pairs of any map in `attributes` are;
    a map without pairs is for nobody.
    """

    usernames: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()
    attributes: tuple[Mapping[str, str], ...] = ()
    resources: tuple[Resource, ...] = field(default=())


def authorizer(rules: Iterable[Rule]) -> Authorizer:
    """An authorizer that allows what the rules do, and nothing else."""
    return _Rules(rules).allows


# ------------------------------------------------------------------- what matches, for authorizer and explanation


def has_all(principal: Principal, wanted: Mapping[str, str]) -> bool:
    """Whether the client has all attributes of a map."""
    return bool(wanted) and all(principal.attributes.get(name) == value for name, value in wanted.items())


def fits(pattern: str, principal: Principal) -> bool:
    """Whether the client identifier is as a pattern says; a `*` in a value that is put in is no wildcard.

    Raises Unusable.
    """
    pieces, end = [""], 0
    for found in _STAR_OR_TOKEN.finditer(pattern):
        pieces[-1] += pattern[end : found.start()]
        end = found.end()
        if found[0] == "*":
            pieces.append("")
        else:
            pieces[-1] += _value(found, principal)
    pieces[-1] += pattern[end:]
    client_id = principal.client_id
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return client_id == first
    if len(client_id) < len(first) + len(last) or not client_id.startswith(first) or not client_id.endswith(last):
        return False
    at = len(first)
    for piece in pieces[1:-1]:
        start = client_id.find(piece, at, len(client_id) - len(last))
        if start < 0:
            return False
        at = start + len(piece)
    return True


def filled(text: str, principal: Principal) -> str:
    """`text` with the client's values put in. Raises Unusable."""
    return _TOKEN.sub(lambda token: _value(token, principal), text) if _LIKE_A_TOKEN in text else text


def topic_for(template: str, principal: Principal) -> str:
    """A rule's topic with the client's values put in. Raises Unusable."""
    topic = filled(template, principal)
    if topic.startswith("$") and not template.startswith("$"):
        raise Unusable(f"the client's own value would make it a topic of the server's: {shown(topic)}")
    return topic


def for_anybody(template: str) -> str:
    """A rule's topic with wildcards in place of the client's values."""
    return _TOKEN.sub("+", template)


def allows(topic: str, action: Action, name: str) -> bool:
    """Whether a topic, with values put in, allows to publish to a Topic Name or to subscribe to a Topic Filter."""
    return matches(topic, name) if action is Action.PUBLISH else covers(topic, name)


def covers(allowed: str, topic_filter: str) -> bool:
    """Whether one Topic Filter matches every Topic Name that another could match (neither with a ShareName)."""
    allowed_levels = allowed.split("/")
    levels = _SAME.get(topic_filter, topic_filter).split("/")
    if allowed_levels[0] in ("+", "#") and levels[0].startswith("$"):  # [MQTT-4.7.2-1]
        return False
    for index, level in enumerate(allowed_levels):
        if level == "#":
            return True
        if index == len(levels) or levels[index] == "#":
            return False
        if level not in ("+", levels[index]):
            return False
    return len(allowed_levels) == len(levels)


def _value(token: re.Match[str], principal: Principal) -> str:
    """What a token stands for. Raises Unusable if the client has no such value, or one that could widen a rule."""
    username, client_id, attribute = token.groups()
    value: str | None
    if username:
        what, value = "user name", principal.username
    elif client_id:
        what, value = "client identifier", principal.client_id
    else:
        what, value = f"attribute {shown(attribute)}", principal.attributes.get(attribute)
    if value is None:
        raise Unusable(f"the client has no {what}")
    if not value:
        raise Unusable(f"the client's {what} is empty")
    if wider := next((character for character in value if character in _WIDER), None):
        raise Unusable(f"the client's {what} {shown(value)} has a {wider!r} in it")
    return value


_MAXIMUM_SHOWN = 100


def shown(text: str) -> str:
    """A name or a value for a message: quoted, on one line, and not too long."""
    return repr(text if len(text) <= _MAXIMUM_SHOWN else f"{text[:_MAXIMUM_SHOWN]}…")


# ------------------------------------------------------------------------------------------------- the authorizer


@final
class _Rules:
    """The rules, found by what they ask of a principal."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = tuple(rules)
        self._by_username: dict[str, list[Rule]] = {}
        self._by_client_id: dict[str, list[Rule]] = {}
        self._by_attribute: dict[tuple[str, str], list[tuple[Mapping[str, str], Rule]]] = {}
        self._permits: dict[object, _Permit] = {}
        self._topics = 0  # of all permits
        frequency = Counter(pair for rule in rules for wanted in rule.attributes for pair in wanted.items())
        for rule in rules:
            for username in rule.usernames:
                self._by_username.setdefault(username, []).append(rule)
            for client_id in rule.client_ids:
                self._by_client_id.setdefault(client_id, []).append(rule)
            for wanted in rule.attributes:
                if wanted:
                    # Under its rarest pair: what everybody has, such as the organization, would lead to all rules.
                    pair = min(wanted.items(), key=frequency.__getitem__)
                    self._by_attribute.setdefault(pair, []).append((wanted, rule))

    def allows(self, principal: Principal, action: Action, name: str) -> bool:
        """The Authorizer."""
        key = (principal.client_id, principal.username, frozenset(principal.attributes.items()))
        permit = self._permits.get(key)
        if permit is None:
            permit = _Permit(principal, self._concerning(principal))
            self._topics += permit.topics
            if len(self._permits) >= MAXIMUM_REMEMBERED_PRINCIPALS or self._topics > MAXIMUM_REMEMBERED_TOPICS:
                self._permits.clear()
                self._topics = permit.topics
            self._permits[key] = permit
        return permit.allows(action, name)

    def _concerning(self, principal: Principal) -> list[Rule]:
        found = list(self._by_client_id.get(principal.client_id, ()))
        if principal.username is not None:
            found += self._by_username.get(principal.username, ())
        for pair in principal.attributes.items():
            for wanted, rule in self._by_attribute.get(pair, ()):
                if has_all(principal, wanted):
                    found.append(rule)
        return found


@final
class _Permit:
    """What one principal may do."""

    def __init__(self, principal: Principal, rules: Iterable[Rule]) -> None:
        self._connect = False
        self._everything: set[Action] = set()
        self._exact: dict[Action, set[str]] = {Action.PUBLISH: set(), Action.SUBSCRIBE: set()}
        self._wild: dict[Action, dict[str, None]] = {Action.PUBLISH: {}, Action.SUBSCRIBE: {}}
        for rule in rules:
            for resource in rule.resources:
                if _is_for_client(resource, principal):
                    self._add(resource, principal)
        self.topics = sum(map(len, (*self._exact.values(), *self._wild.values())))

    def _add(self, resource: Resource, principal: Principal) -> None:
        if resource.action is Action.CONNECT:
            self._connect = True
        elif not resource.topics:
            self._everything.add(resource.action)
        for template in resource.topics if resource.action is not Action.CONNECT else ():
            try:
                topic = topic_for(template, principal)
            except Unusable:
                continue
            if "+" in topic or "#" in topic:
                self._wild[resource.action][topic] = None
            else:
                self._exact[resource.action].add(topic)

    def allows(self, action: Action, name: str) -> bool:
        if action is Action.CONNECT:
            return self._connect
        if action in self._everything or name in self._exact[action]:
            return True
        return any(allows(topic, action, name) for topic in self._wild[action])


def _is_for_client(resource: Resource, principal: Principal) -> bool:
    return not resource.client_ids or any(_fits(pattern, principal) for pattern in resource.client_ids)


def _fits(pattern: str, principal: Principal) -> bool:
    try:
        return fits(pattern, principal)
    except Unusable:
        return False
