"""What follows from one configuration after another, and how the two differ; against a model that knows no caches."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import Action, Authentication, AuthRequest, Granted, Principal
from mqttcore.authenticators.effects import HttpServer
from mqttcore.broker import Policy
from mqttcore.limits import Limits
from tests.mqttcore.authenticators.certificates import AUTHORITY, issue
from trio_broker.assembly import TokenVerification
from trio_broker.errors import ConfigurationError
from trio_broker.resources import Authentication as AuthenticationResource
from trio_broker.resources import (
    Authorization,
    AutomaticTls,
    BrokerResource,
    CertificateSpec,
    Configuration,
    CustomSettings,
    IssuerKind,
    ManualTls,
    MethodSettings,
    Port,
    Principals,
    ResourceMethod,
    Rule,
    ServiceAccountTokenSettings,
    X509Settings,
)
from trio_broker.running import NOTHING, Difference, Running, difference, follow
from trio_broker.tokens.keys import PublishedKeys
from trio_broker.tokens.source import LOCAL, KeySource

NAMESPACE = "azure-iot-operations"
LIMITS = Limits()
CA, OTHER_CA = (issue(name, extensions=AUTHORITY).pem for name in ("ca", "other"))
CLIENT = Principal("client", "user")
TOPICS = ("1", "2", "3")
"""Content number N of a BrokerAuthorization allows to publish to topic N, and nothing else."""
METHODS: tuple[tuple[MethodSettings, ...], ...] = (
    (ServiceAccountTokenSettings(("aio",)),),
    (X509Settings(CA), ServiceAccountTokenSettings(("aio",))),
    (X509Settings(OTHER_CA),),
    (X509Settings(CA, devices={"device": True}),),
    (X509Settings(CA, devices={"device": False}),),
    (CustomSettings(HttpServer(url="https://server", ca_pem=None)),),
)
TLS = (
    None,
    ManualTls(b"chain", b"key"),
    ManualTls(b"another chain", b"key"),
    AutomaticTls(CertificateSpec(issuer_name="i", issuer_kind=IssuerKind.ISSUER)),
    AutomaticTls(CertificateSpec(issuer_name="i", issuer_kind=IssuerKind.ISSUER, dns_names=("name",))),
)


def _by_token(_audiences: tuple[str, ...]) -> Any:
    def authenticate(_request: AuthRequest) -> Authentication:
        return Granted()
        yield

    return authenticate


async def _no_keys() -> Any:
    raise AssertionError


VERIFICATION = TokenVerification(_by_token, PublishedKeys(KeySource(_no_keys, *LOCAL), lambda namespace, name: {}))


def authorization(name: str, content: int) -> Authorization:
    publish = BrokerResource(method=ResourceMethod.PUBLISH, topics=(TOPICS[content],))
    return Authorization(
        name, NAMESPACE, (Rule(principals=Principals(client_ids=("client",)), broker_resources=(publish,)),)
    )


def allowed(policy: Policy) -> set[str]:
    """The topics that the policy allows to publish to."""
    authorize = policy.authorize
    return {topic for topic in TOPICS if authorize is None or authorize(CLIENT, Action.PUBLISH, topic)}


@frozen(kw_only=True)
class PortDraw:
    """A port, with numbers that stand for the content of what it refers to."""

    listener: str = "one"
    websocket: bool = False
    tls: int = 0
    authentication: str | None = None
    authorization: str | None = None


@frozen
class World:
    """What the manifests say: ports by number; contents of BrokerAuthentications and BrokerAuthorizations by name."""

    ports: Mapping[int, PortDraw]
    authentications: Mapping[str, int]
    authorizations: Mapping[str, int]
    limits: Limits = LIMITS

    def configuration(self) -> Configuration:
        return Configuration(
            ports=tuple(self._port(number, drawn) for number, drawn in self.ports.items()),
            service_accounts={},
            authorizations={(NAMESPACE, name): authorization(name, n) for name, n in self.authorizations.items()},
        )

    def _port(self, number: int, drawn: PortDraw) -> Port:
        by, rules = drawn.authentication, drawn.authorization
        return Port(
            listener=drawn.listener,
            namespace=NAMESPACE,
            service_name="service",
            number=number,
            websocket=drawn.websocket,
            tls=TLS[drawn.tls],
            authentication=None
            if by is None
            else AuthenticationResource(by, NAMESPACE, METHODS[self.authentications[by]]),
            authorization=None if rules is None else authorization(rules, self.authorizations[rules]),
        )

    def policy_of(self, number: int) -> object:
        """All that the policy of a port depends on."""
        drawn = self.ports[number]
        return (
            drawn.listener,
            self.limits,
            drawn.authentication and (drawn.authentication, self.authentications[drawn.authentication]),
            drawn.authorization and (drawn.authorization, self.authorizations[drawn.authorization]),
        )

    def shown_by(self, number: int) -> object:
        """All that the TLS handshake of a port depends on."""
        drawn = self.ports[number]
        tls = TLS[drawn.tls]
        methods = () if drawn.authentication is None else METHODS[self.authentications[drawn.authentication]]
        trusted = [method.trusted_ca_pem for method in methods if isinstance(method, X509Settings)]
        return tls and (tls, drawn.listener if isinstance(tls, AutomaticTls) else "", trusted)

    def allowed_by(self, name: str | None) -> set[str]:
        """The topics that a BrokerAuthorization, or none, allows now."""
        if name is None:
            return {*TOPICS}
        return {TOPICS[self.authorizations[name]]} if name in self.authorizations else set()


def worlds() -> st.SearchStrategy[World]:
    names = ("a", "b")

    @st.composite
    def world(draw: st.DrawFn) -> World:
        authentications = draw(st.fixed_dictionaries(dict.fromkeys(names, st.integers(0, len(METHODS) - 1))))
        authorizations = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, st.integers(0, len(TOPICS) - 1))))
        port = st.builds(
            PortDraw,
            listener=st.sampled_from(["one", "two"]),
            websocket=st.booleans(),
            tls=st.integers(0, len(TLS) - 1),
            authentication=st.sampled_from([None, *names]),
            authorization=st.sampled_from([None, *authorizations]),
        )
        numbers = draw(st.lists(st.integers(1, 3), unique=True))
        limits = draw(st.sampled_from([LIMITS, Limits(maximum_qos=1)]))
        return World({number: draw(port) for number in numbers}, authentications, authorizations, limits)

    return world()


class Former:
    """The successors of one port's first policy: as long as the port is open, and then while they are in use."""

    def __init__(self, number: int, policy: Policy) -> None:
        self.number = number
        self.policy = policy
        self.rules: str | None = None
        self.open = True


def step(running: Running, world: World, formers: list[Former]) -> tuple[Running, Difference]:
    after = follow(running, world.configuration(), world.limits, VERIFICATION, {former.policy for former in formers})
    return after, difference(running, after)


@given(st.data())
def test_one_follows_another(data: st.DataObject) -> None:
    running, before = NOTHING, World({}, {}, {})
    formers: list[Former] = []
    for _ in range(data.draw(st.integers(1, 5), label="steps")):
        world = data.draw(st.one_of(worlds(), st.builds(_mixed, st.just(before), worlds(), st.integers(0, 15))))
        formers = [each for each in formers if each.open or data.draw(st.booleans(), label="in use")]
        in_force = {former.policy for former in formers}
        after, found = step(running, world, formers)

        # The ports' own: the same objects, unless something of theirs is other than before.
        assert set(after.policies) == set(world.ports)
        for number, policy in after.policies.items():
            kept = number in before.ports and world.policy_of(number) == before.policy_of(number)
            assert (policy is running.policies.get(number)) == kept
            assert policy.limits == world.limits
            assert (policy.authenticate is None) == (world.ports[number].authentication is None)
            assert policy.name == f"{world.ports[number].listener}:{number}"
            assert policy.rules == (world.ports[number].authorization or "")

        # What was in force has a successor, each another one.
        assert len({*found.policies.values()}) == len(found.policies)
        assert in_force.isdisjoint(found.policies.values())
        assert set(found.policies) <= in_force
        for former in formers:
            former.policy = found.policies.get(former.policy, former.policy)
            former.open = former.open and former.number in world.ports
            if former.open:
                former.rules = world.ports[former.number].authorization
                assert former.policy is after.policies[former.number]
            assert allowed(former.policy) == world.allowed_by(former.rules)
        for number in world.ports:
            if not any(former.open and former.number == number for former in formers):
                formers.append(former := Former(number, after.policies[number]))
                former.rules = world.ports[number].authorization
                assert allowed(former.policy) == world.allowed_by(former.rules)
        assert len({former.policy for former in formers}) == len(formers)
        retired = {former.policy for former in formers if not former.open}
        assert retired == {each.policy for each in after.retired.values()}

        # The rest is what the two worlds say.
        kept_open = [number for number in world.ports if number in before.ports]
        assert found.opened == tuple(number for number in world.ports if number not in before.ports)
        assert found.closed == tuple(number for number in before.ports if number not in world.ports)
        assert {*found.ended} - {*found.closed} == {
            number for number in kept_open if _protocol(world.ports[number]) != _protocol(before.ports[number])
        }
        assert {*found.closed} <= {*found.ended}
        assert {*found.certified} == {
            number for number in kept_open if world.shown_by(number) != before.shown_by(number)
        }

        # Again the same: nothing.
        again, nothing = step(after, world, formers)
        assert nothing == Difference(policies={}, opened=(), closed=(), ended=(), certified=())
        assert all(again.policies[number] is policy for number, policy in after.policies.items())
        assert [*again.retired] == [*after.retired]
        running, before = again, world


def _mixed(before: World, new: World, bits: int) -> World:
    """A world of which a part is as before: else one would seldom be like the next."""
    names = {**new.authorizations, **before.authorizations} if bits & 1 else new.authorizations
    ports = {**before.ports, **new.ports} if bits & 2 else {**new.ports, **before.ports} if bits & 4 else new.ports
    return World(
        {
            number: evolve(drawn, authorization=drawn.authorization if drawn.authorization in names else None)
            for number, drawn in ports.items()
        },
        before.authentications if before.authentications and bits & 8 else new.authentications,
        names,
        before.limits,
    )


def _protocol(port: PortDraw) -> tuple[bool, bool]:
    return port.websocket, port.tls != 0


# -------------------------------------------------------------------------------------------------------- examples

OPEN = PortDraw()
GUARDED = PortDraw(authentication="a", authorization="a")


def world(ports: Mapping[int, PortDraw], authorizations: Mapping[str, int] | None = None) -> World:
    return World(ports, {"a": 0}, {"a": 0} if authorizations is None else authorizations)


def after(*worlds: World) -> list[tuple[Running, Difference]]:
    """What runs after each of these worlds, where all that ever ran is in use."""
    found: list[tuple[Running, Difference]] = []
    formers: list[Former] = []
    running = NOTHING
    for each in worlds:
        running, changed = step(running, each, formers)
        found.append((running, changed))
        formers += [Former(number, policy) for number, policy in running.policies.items()]
        formers += [Former(former.number, former.policy) for former in running.retired.values()]
    return found


def test_what_a_port_leaves_behind_keeps_its_rules_as_long_as_they_are_in_the_manifests() -> None:
    (first, _), (second, closed), (_, reopened) = after(world({1: GUARDED}), world({2: OPEN}), world({1: GUARDED}))
    assert closed.policies == {}
    [former] = second.retired.values()
    assert former.policy is first.policies[1]
    assert reopened.policies == {}


def test_the_rules_of_what_a_port_leaves_behind_go_and_return() -> None:
    states = after(
        world({1: GUARDED}),
        world({2: OPEN}, {}),
        world({2: OPEN}, {"b": 0}),
        world({2: OPEN}, {"a": 1}),
    )
    policies = [next(iter(running.retired.values())).policy for running, _ in states[1:]]
    assert [allowed(policy) for policy in policies] == [set(), set(), {"2"}]
    assert policies[0] is policies[1]
    assert policies[2].authenticate is None


def test_devices_change_the_policies_that_ask_for_them() -> None:
    def devices(enabled: bool) -> Configuration:
        settings = X509Settings(CA, devices={"device": enabled})
        ports = (
            Port(
                listener="l", namespace=NAMESPACE, service_name="s", number=1, tls=TLS[1],
                authentication=AuthenticationResource("a", NAMESPACE, (settings,)),
            ),
            Port(listener="l", namespace=NAMESPACE, service_name="s", number=2),
        )  # fmt: skip
        return Configuration(ports=ports, service_accounts={}, devices={"device": enabled})

    first = follow(NOTHING, devices(True), Limits(), VERIFICATION, ())
    second = follow(first, devices(False), Limits(), VERIFICATION, ())
    changed = difference(first, second)
    assert changed.policies == {first.policies[1]: second.policies[1]}
    assert (changed.certified, changed.ended) == ((), ())
    assert second.policies[1].authorize is first.policies[1].authorize is None


def test_service_accounts_change_no_policy() -> None:
    configuration = world({1: GUARDED}).configuration()
    first = follow(NOTHING, configuration, Limits(), VERIFICATION, ())
    accounts = MappingProxyType({(NAMESPACE, "account"): {"aio-broker-auth/x": "y"}})
    second = follow(first, evolve(configuration, service_accounts=accounts), Limits(), VERIFICATION, ())
    assert difference(first, second) == Difference(policies={}, opened=(), closed=(), ended=(), certified=())
    assert second.configuration.service_accounts is accounts


def test_rules_in_another_namespace_are_called_by_both_names() -> None:
    port = Port(
        listener="l", namespace="site", service_name="s", number=1, authorization=Authorization("rules", "site")
    )
    running = follow(NOTHING, Configuration(ports=(port,), service_accounts={}), Limits(), VERIFICATION, ())
    assert running.policies[1].rules == "site/rules"


def test_what_cannot_be_used_changes_nothing() -> None:
    running = follow(NOTHING, world({1: GUARDED}).configuration(), Limits(), VERIFICATION, ())
    before = (dict(running.policies), dict(running.logins))
    twice = (X509Settings(b"no certificate"),)
    port = Port(
        listener="l", namespace=NAMESPACE, service_name="s", number=1,
        authentication=AuthenticationResource("broken", NAMESPACE, twice),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="BrokerAuthentication broken: there is no certificate"):
        follow(running, Configuration(ports=(port,), service_accounts={}), Limits(), VERIFICATION, ())
    assert (dict(running.policies), dict(running.logins)) == before


def test_its_repr_tells_no_secret() -> None:
    settings = CustomSettings(HttpServer(url="https://server", ca_pem=None, client_key_pem=b"sesame"))
    port = Port(
        listener="l", namespace=NAMESPACE, service_name="s", number=1, tls=ManualTls(b"chain", b"sesame"),
        authentication=AuthenticationResource("a", NAMESPACE, (settings,)),
    )  # fmt: skip
    running = follow(NOTHING, Configuration(ports=(port,), service_accounts={}), Limits(), VERIFICATION, ())
    assert "sesame" not in repr(running)
