"""Why rules allow an action or do not: the rule that does, or the one that comes nearest and what it lacks.

It looks at every rule, with the same functions as the authorizer: for whoever writes rules, not for a running broker.
"""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from attrs import frozen

from mqttcore.auth import Action, Principal
from mqttcore.broker.authorization import Resource, Rule
from mqttcore.broker.authorization_client_ids import Pattern
from mqttcore.broker.authorization_principals import has_all
from mqttcore.broker.authorization_topics import allows, for_anybody, topic_for
from mqttcore.broker.authorization_values import Unusable, filled, shown

MAXIMUM_LISTED = 5
"""Names that a reason lists."""


# A rule for another comes nearer than one for the client about quite different topics.
_ANOTHER = 0.1


@frozen(kw_only=True)
class Explanation:
    """Why an action is allowed, or what would be needed.

    `rule` and `resource` count from 0: the resource that allows it or comes nearest, None where no rule is about the
    action. `reasons` say what of it matches if `allowed`, else what of it does not.
    """

    allowed: bool
    rule: int | None = None
    resource: int | None = None
    reasons: tuple[str, ...] = ()


@frozen
class _Condition:
    """One of a resource's conditions: whether it holds, how near it comes (below 1) if not, and why."""

    holds: bool
    nearness: float
    reason: str


def explain(rules: Iterable[Rule], principal: Principal, action: Action, name: str) -> Explanation:
    """What the authorizer of these rules decides about an action, and why; `name` is as for an Authorizer."""
    nearest = Explanation(allowed=False)
    best: tuple[float, ...] = ()
    for number, rule in enumerate(rules):
        meant = _meant(rule, principal)
        for place, resource in enumerate(rule.resources):
            if resource.action is not action:
                continue
            conditions = [meant, *_conditions(resource, principal, name)]
            if all(condition.holds for condition in conditions):
                reasons = tuple(condition.reason for condition in conditions)
                return Explanation(allowed=True, rule=number, resource=place, reasons=reasons)
            missing = [condition for condition in conditions if not condition.holds]
            score = (-len(missing), sum(condition.nearness for condition in missing))
            if score > best:
                best = score
                reasons = tuple(condition.reason for condition in missing)
                nearest = Explanation(allowed=False, rule=number, resource=place, reasons=reasons)
    return nearest


def _conditions(resource: Resource, principal: Principal, name: str) -> Iterator[_Condition]:
    if resource.client_ids:
        yield _client_id(resource, principal)
    if resource.action is not Action.CONNECT:
        yield _topic(resource, principal, name)


def _meant(rule: Rule, principal: Principal) -> _Condition:
    """Whether the rule is for the client."""
    if principal.username in rule.usernames:
        return _Condition(True, 1, f"it is for the user name {shown(principal.username or '')}")
    if principal.client_id in rule.client_ids:
        return _Condition(True, 1, f"it is for the client identifier {shown(principal.client_id)}")
    lacking, nearness = "", -1.0
    for wanted in rule.attributes:
        if has_all(principal, wanted):
            pairs = (f"{shown(name)[1:-1]} = {shown(value)}" for name, value in wanted.items())
            return _Condition(True, 1, f"it is for clients with {_listed(pairs)}")
        different = {name: value for name, value in wanted.items() if principal.attributes.get(name) != value}
        if wanted and 1 - len(different) / len(wanted) > nearness:
            nearness = 1 - len(different) / len(wanted)
            lacking = _listed(_difference(name, value, principal) for name, value in different.items())
    wishes = []
    if rule.usernames:
        wishes.append(f"user name {_listed(map(shown, rule.usernames))} (the client has {_own(principal.username)})")
    if rule.client_ids:
        wishes.append(f"client identifier {_listed(map(shown, rule.client_ids))}")
    if lacking:
        wishes.append(f"attribute {lacking}")
    return _Condition(False, max(nearness, _ANOTHER), f"it is for {' or '.join(wishes) or 'nobody'}")


def _difference(name: str, value: str, principal: Principal) -> str:
    return f"{shown(name)[1:-1]} = {shown(value)} (the client has {_own(principal.attributes.get(name))})"


def _own(value: str | None) -> str:
    return "none" if value is None else shown(value)


def _client_id(resource: Resource, principal: Principal) -> _Condition:
    reasons = []
    for pattern in resource.client_ids:
        try:
            text = _for_client(pattern, filled(pattern, principal))
            if Pattern(pattern).fits(principal):
                return _Condition(True, 1, f"the client identifier {shown(principal.client_id)} fits {text}")
            reasons.append(text)
        except Unusable as unusable:
            reasons.append(f"{shown(pattern)} ({unusable})")
    return _Condition(False, 0.5, f"the client identifier {shown(principal.client_id)} does not fit {_listed(reasons)}")


def _topic(resource: Resource, principal: Principal, name: str) -> _Condition:
    """Whether a topic of the resource matches the Topic Name, or covers the Topic Filter."""
    action = resource.action
    if not resource.topics:
        return _Condition(True, 1, "it is for all topics")
    verbs = ("matches", "match") if action is Action.PUBLISH else ("covers", "cover all of")
    number = len(resource.topics)
    which = "its topic" if number == 1 else f"the nearest of its {number} topics:"
    nearest = _Condition(False, -1, "")
    for template in resource.topics:
        try:
            topic = topic_for(template, principal)
        except Unusable as unusable:
            text, why = shown(template), f": {unusable}"
        else:
            text, why = _for_client(template, topic), ""
            if allows(topic, action, name):
                return _Condition(True, 1, f"its topic {text} {verbs[0]} {shown(name)}")
        nearness = _nearness(for_anybody(template), action, name)
        if nearness > nearest.nearness:
            nearest = _Condition(False, nearness, f"{which} {text} does not {verbs[1]} {shown(name)}{why}")
    return nearest


def _nearness(topic: str, action: Action, name: str) -> float:
    """How much of a name a topic allows, from 0 to below 1; `topic` has wildcards for the client's values."""
    if allows(topic, action, name):
        return 0.99  # if only the client had another value
    allowed, levels = topic.split("/"), name.split("/")
    same = list(takewhile(lambda pair: pair[0] in ("+", pair[1]), zip(allowed, levels, strict=False)))
    return (len(same) + 0.5 * (len(allowed) == len(levels))) / (len(levels) + 1) if same else 0


def _for_client(template: str, own: str) -> str:
    return shown(template) if own == template else f"{shown(template)} ({shown(own)} for this client)"


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    if len(found) > MAXIMUM_LISTED:
        found[MAXIMUM_LISTED:] = [f"{len(found) - MAXIMUM_LISTED} others"]
    return ", ".join(found)
