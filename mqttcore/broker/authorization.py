"""Allow-only rules, compiled once into an authorizer whose cost does not grow with what is for others.

What no rule allows is denied. `{principal.username}`, `{principal.clientId}` and `{principal.attributes.<name>}` in a
resource stand for the client's own values; one that is missing, or that could widen the rule, matches nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import final

from attrs import frozen

from mqttcore.auth import Action, Authorizer, Principal
from mqttcore.broker.authorization_client_ids import ByClientId, Pattern
from mqttcore.broker.authorization_principals import ByPrincipal
from mqttcore.broker.authorization_topics import TopicSet, levels_of
from mqttcore.broker.authorization_values import tokens_by_value

MAXIMUM_REMEMBERED_PRINCIPALS = 10_000
"""Principals for which it is remembered what concerns them."""
MAXIMUM_REMEMBERED_TOPICS = 200_000
"""Topics of rules that are put together for one of these, of all together."""
MAXIMUM_REMEMBERED_DECISIONS = 100_000
"""Decisions about Topic Names and Topic Filters, of all principals together."""
MAXIMUM_REMEMBERED_DECISIONS_OF_ONE = 100
"""Decisions of one principal."""
LONGEST_REMEMBERED_NAME = 200
"""Characters of the client identifier and the user name of a principal that is remembered, of both together."""
LONGEST_REMEMBERED_TOPIC = 200
"""Characters of a Topic Name or Topic Filter whose decision is remembered."""

_SHARED_FROM = 16  # topics of one grant: fewer are put together with the client's others


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
            Pattern(pattern)
        for topic in self.topics:
            levels_of(topic)


@frozen(kw_only=True)
class Rule:
    """Whom a rule is for, and what it allows.

    A client is meant when any of `usernames` or `client_ids` is its own, or all pairs of any map in `attributes` are;
    a map without pairs is for nobody.
    """

    usernames: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()
    attributes: tuple[Mapping[str, str], ...] = ()
    resources: tuple[Resource, ...] = ()


def authorizer(rules: Iterable[Rule]) -> Authorizer:
    """An authorizer that allows what the rules do, and nothing else. What it remembers is forgotten with it."""
    return _Rules(rules).allows


@final
class _Allowance:
    """What some resources allow to publish and to subscribe to, whomever they are for."""

    __slots__ = ("publish", "subscribe")

    def __init__(self) -> None:
        self.publish = TopicSet()
        self.subscribe = TopicSet()

    def add(self, resource: Resource) -> None:
        if resource.action is Action.CONNECT:
            return
        topics = self.publish if resource.action is Action.PUBLISH else self.subscribe
        topics.everything |= not resource.topics
        for topic in resource.topics:
            topics.add(topic)


@final
class _Grant:
    """Resources for the same clients. Many topics are compiled here, once for all; few, for each client with its
    others, so that a client whom many rules are for does not cost a walk for each of them.
    """

    __slots__ = ("allowance", "connect", "resources", "topics")

    def __init__(self) -> None:
        self.resources: list[Resource] = []
        self.topics = 0
        self.connect = False
        self.allowance: _Allowance | None = None

    def add(self, resource: Resource) -> None:
        self.resources.append(resource)
        self.topics += max(1, len(resource.topics))
        self.connect |= resource.action is Action.CONNECT

    def compile(self) -> None:
        if self.topics >= _SHARED_FROM:
            self.allowance = _Allowance()
            for resource in self.resources:
                self.allowance.add(resource)


@final
class _Resources:
    """The resources of all rules with the same principals."""

    __slots__ = ("_for_all", "_narrowed", "_narrowing")

    def __init__(self) -> None:
        self._for_all: _Grant | None = None
        self._narrowed: dict[tuple[str, ...], _Grant] | None = None  # by the patterns for client identifiers
        self._narrowing: ByClientId[_Grant] | None = None

    def add(self, resource: Resource) -> None:
        if not resource.client_ids:
            if self._for_all is None:
                self._for_all = _Grant()
            self._for_all.add(resource)
            return
        if self._narrowed is None or self._narrowing is None:
            self._narrowed, self._narrowing = {}, ByClientId()
        grant = self._narrowed.get(resource.client_ids)
        if grant is None:
            grant = self._narrowed[resource.client_ids] = _Grant()
            for pattern in resource.client_ids:
                self._narrowing.add(pattern, grant)
        grant.add(resource)

    def compile(self) -> None:
        """Make ready, once all is added."""
        if self._for_all is not None:
            self._for_all.compile()
        for grant in self._narrowed.values() if self._narrowed is not None else ():
            grant.compile()
        self._narrowed = None

    def concerning(self, principal: Principal) -> Iterator[_Grant]:
        """What is for a client with these principals, each once."""
        if self._for_all is not None:
            yield self._for_all
        if self._narrowing is not None:
            yield from dict.fromkeys(self._narrowing.find(principal))


@final
class _Permit:
    """What one client may do: what was compiled for many, and what is put together for it alone when it is first asked
    about a topic.
    """

    __slots__ = ("_allowances", "_grants", "_own", "connect", "decisions", "remembered", "topics")

    def __init__(self, principal: Principal, grants: Iterable[_Grant]) -> None:
        self._grants = tuple(grants)
        self.topics = 0  # that may be put together for it
        self.connect = False
        for grant in self._grants:
            self.connect |= grant.connect
            if grant.allowance is None:
                self.topics += grant.topics
        self._own: dict[str, list[str]] = {}
        self._allowances: list[_Allowance] | None = None
        self.decisions: dict[tuple[bool, str], bool] = {}
        self.remembered = len(principal.client_id) + len(principal.username or "") <= LONGEST_REMEMBERED_NAME

    def allows(self, principal: Principal, action: Action, name: str) -> bool:
        if self._allowances is None:
            self._own = tokens_by_value(principal)
            self._allowances = self._put_together()
        publish = action is Action.PUBLISH
        return any(
            (allowance.publish if publish else allowance.subscribe).allows(action, name, self._own)
            for allowance in self._allowances
        )

    def _put_together(self) -> list[_Allowance]:
        allowances = [grant.allowance for grant in self._grants if grant.allowance is not None]
        if self.topics:
            together = _Allowance()
            for grant in self._grants:
                if grant.allowance is None:
                    for resource in grant.resources:
                        together.add(resource)
            allowances.append(together)
        return allowances


@final
class _Rules:
    """The rules, found by what they ask of a principal, and what is remembered of principals."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._resources: ByPrincipal[_Resources] = ByPrincipal()
        self._permits: dict[object, _Permit] = {}
        self._topics = 0  # of all permits
        self._decisions = 0
        found: dict[object, _Resources] = {}
        for rule in rules:
            maps = tuple(tuple(sorted(wanted.items())) for wanted in rule.attributes)
            principals = rule.usernames, rule.client_ids, maps
            resources = found.get(principals)
            if resources is None:
                resources = found[principals] = _Resources()
                self._resources.add(*principals, resources)
            for resource in rule.resources:
                resources.add(resource)
        self._resources.compile()
        for resources in found.values():
            resources.compile()

    def allows(self, principal: Principal, action: Action, name: str) -> bool:
        """The Authorizer."""
        permit = self._permit(principal)
        if action is Action.CONNECT:
            return permit.connect
        key = (action is Action.PUBLISH, name)
        decision = permit.decisions.get(key)
        if decision is None:
            decision = permit.allows(principal, action, name)
            if permit.remembered and len(name) <= LONGEST_REMEMBERED_TOPIC:
                self._remember(permit, key, decision)
        return decision

    def _permit(self, principal: Principal) -> _Permit:
        key = (principal.client_id, principal.username, tuple(principal.attributes.items()))
        permit = self._permits.get(key)
        if permit is None:
            grants = (grant for each in self._resources.find(principal) for grant in each.concerning(principal))
            permit = _Permit(principal, grants)
            if not permit.remembered:
                return permit
            full = len(self._permits) >= MAXIMUM_REMEMBERED_PRINCIPALS
            if full or self._topics + permit.topics > MAXIMUM_REMEMBERED_TOPICS:
                self._permits.clear()
                self._topics = self._decisions = 0
            self._permits[key] = permit
            self._topics += permit.topics
        return permit

    def _remember(self, permit: _Permit, key: tuple[bool, str], decision: bool) -> None:
        if len(permit.decisions) >= MAXIMUM_REMEMBERED_DECISIONS_OF_ONE:
            self._decisions -= len(permit.decisions)
            permit.decisions.clear()
        if self._decisions >= MAXIMUM_REMEMBERED_DECISIONS:
            for each in self._permits.values():
                each.decisions.clear()
            self._decisions = 0
        permit.decisions[key] = decision
        self._decisions += 1
