"""Allow-only rules, compiled into an authorizer whose cost does not grow with rules that are for others.

What no rule allows is denied. `{principal.username}`, `{principal.clientId}` and `{principal.attributes.<name>}` in a
resource stand for the client's own values; a value that is missing, or that could widen the rule, matches nothing.
"""

import re
from collections.abc import Iterable, Mapping
from typing import final

from attrs import field, frozen

from mqttcore.auth import Action, Authorizer, Principal
from mqttcore.topics import matches

MAXIMUM_REMEMBERED_PRINCIPALS = 10_000
"""Principals whose rules are kept put together."""

_TOKEN = re.compile(r"\{principal\.(?:(username)|(clientId)|attributes\.([^{}]+))\}")


@frozen(kw_only=True)
class Resource:
    """What a rule allows: an action, on client identifiers (`*` is a wildcard) and on Topic Filters; empty is any."""

    action: Action
    client_ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


@frozen(kw_only=True)
class Rule:
    """Whom a rule is for, and what it allows.

    A client is meant when any of `usernames` or `client_ids` is its own, or all pairs of any map in `attributes` are.
    """

    usernames: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()
    attributes: tuple[Mapping[str, str], ...] = ()
    resources: tuple[Resource, ...] = field(default=())


def authorizer(rules: Iterable[Rule]) -> Authorizer:
    """An authorizer that allows what the rules do, and nothing else."""
    return _Rules(rules).allows


def covers(allowed: str, topic_filter: str) -> bool:
    """Whether one Topic Filter matches every Topic Name that another could match (neither with a ShareName)."""
    allowed_levels = allowed.split("/")
    levels = topic_filter.split("/")
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


@final
class _Rules:
    """The rules, found by what they ask of a principal."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_username: dict[str, list[Rule]] = {}
        self._by_client_id: dict[str, list[Rule]] = {}
        self._by_attribute: dict[tuple[str, str], list[tuple[Mapping[str, str], Rule]]] = {}
        self._permits: dict[object, _Permit] = {}
        for rule in rules:
            for username in rule.usernames:
                self._by_username.setdefault(username, []).append(rule)
            for client_id in rule.client_ids:
                self._by_client_id.setdefault(client_id, []).append(rule)
            for wanted in rule.attributes:
                for pair in wanted.items():  # under the first: a client that lacks it is not asked further
                    self._by_attribute.setdefault(pair, []).append((wanted, rule))
                    break

    def allows(self, principal: Principal, action: Action, name: str) -> bool:
        """The Authorizer."""
        key = (principal.client_id, principal.username, frozenset(principal.attributes.items()))
        permit = self._permits.get(key)
        if permit is None:
            if len(self._permits) >= MAXIMUM_REMEMBERED_PRINCIPALS:
                self._permits.clear()
            permit = self._permits[key] = _Permit(principal, self._concerning(principal))
        return permit.allows(action, name)

    def _concerning(self, principal: Principal) -> list[Rule]:
        found = list(self._by_client_id.get(principal.client_id, ()))
        if principal.username is not None:
            found += self._by_username.get(principal.username, ())
        attributes = principal.attributes
        for pair in attributes.items():
            for wanted, rule in self._by_attribute.get(pair, ()):
                if all(attributes.get(name) == value for name, value in wanted.items()):
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

    def _add(self, resource: Resource, principal: Principal) -> None:
        if resource.action is Action.CONNECT:
            self._connect = True
        elif not resource.topics:
            self._everything.add(resource.action)
        for template in resource.topics if resource.action is not Action.CONNECT else ():
            topic = _topic(template, principal)
            if topic is None:
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
        match = matches if action is Action.PUBLISH else covers
        return any(match(topic, name) for topic in self._wild[action])


def _is_for_client(resource: Resource, principal: Principal) -> bool:
    return not resource.client_ids or any(_fits(pattern, principal) for pattern in resource.client_ids)


def _fits(pattern: str, principal: Principal) -> bool:
    """Whether the client identifier is as a pattern says; a `*` in a value that is put in is no wildcard."""
    pieces = []
    for piece in pattern.split("*"):
        literal = _substituted(piece, principal)
        if literal is None:
            return False
        pieces.append(literal)
    client_id = principal.client_id
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return client_id == first
    if len(client_id) < len(first) + len(last) or not client_id.startswith(first) or not client_id.endswith(last):
        return False
    at = len(first)
    for piece in pieces[1:-1]:
        found = client_id.find(piece, at, len(client_id) - len(last))
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _topic(template: str, principal: Principal) -> str | None:
    """A rule's topic with the client's values put in; None if it matches nothing."""
    if "{" not in template:
        return template
    levels = template.split("/")
    for index, level in enumerate(levels):
        if not _TOKEN.search(level):
            continue
        value = _substituted(level, principal)
        if not value or (index == 0 and value.startswith("$")):
            return None
        levels[index] = value
    return "/".join(levels)


def _substituted(text: str, principal: Principal) -> str | None:
    """`text` with the client's values in place of its tokens; None if one is missing or holds what could widen a
    rule.
    """
    missing = False

    def value(token: re.Match[str]) -> str:
        nonlocal missing
        username, client_id, attribute = token.groups()
        found: str | None
        if username:
            found = principal.username
        elif client_id:
            found = principal.client_id
        else:
            found = principal.attributes.get(attribute)
        if found is None or any(character in found for character in "/+#"):
            missing = True
            return ""
        return found

    result = _TOKEN.sub(value, text)
    return None if missing else result
