"""What runs at a time, as one immutable value; which one follows it, and how the two differ."""

from collections.abc import Container, Mapping
from types import MappingProxyType

from attrs import astuple, field, frozen

from mqttcore.auth import Action, Authorizer, Principal
from mqttcore.broker import Policy
from mqttcore.broker.authorization import authorizer
from mqttcore.limits import Limits
from trio_broker.assembly import Login, TokenVerification, login, rules
from trio_broker.resources import Authentication, Authorization, AutomaticTls, Configuration, Port, X509Settings
from trio_broker.resources.identity import DEFAULT_NAMESPACE

Key = tuple[str, str]
"""Namespace and name of a resource."""


@frozen
class Retired:
    """The policy of port `number`, which is no more, for the sessions and retained messages that it has left behind."""

    number: int
    authorization: Authorization | None
    policy: Policy


@frozen(kw_only=True)
class Running:
    """A configuration, and what was made of it. What is equal in one and in the next is the same object in both.

    `policies` are by the number of the port, `retired` by when they were, for a port may come and go, `logins` and
    `authorizers` by namespace and name of the resource.
    """

    configuration: Configuration
    limits: Limits
    policies: Mapping[int, Policy]
    retired: Mapping[int, Retired]
    logins: Mapping[Key, tuple[Authentication, Login]] = field(repr=False)
    authorizers: Mapping[Key, tuple[Authorization, Authorizer]] = field(repr=False)

    @property
    def ports(self) -> Mapping[int, Port]:
        """The ports by number."""
        return {port.number: port for port in self.configuration.ports}


NOTHING = Running(
    configuration=Configuration(ports=(), service_accounts=MappingProxyType({})),
    limits=Limits(),
    policies=MappingProxyType({}),
    retired=MappingProxyType({}),
    logins=MappingProxyType({}),
    authorizers=MappingProxyType({}),
)
"""Before the first configuration."""


def follow(
    running: Running,
    configuration: Configuration,
    limits: Limits,
    verification: TokenVerification,
    in_use: Container[Policy],
) -> Running:
    """What runs with another configuration.

    `limits` hold for its connections; a retired policy that is not `in_use` any more is left out. Raises
    ConfigurationError for what cannot be used.
    """
    authentications = {
        _key(port.authentication): port.authentication for port in configuration.ports if port.authentication
    }
    authorizations = {
        _key(port.authorization): port.authorization for port in configuration.ports if port.authorization
    }
    logins: dict[Key, tuple[Authentication, Login]] = {}
    for key, authentication in authentications.items():
        entrance = running.logins.get(key)
        same = entrance is not None and entrance[0] == authentication
        logins[key] = entrance if entrance and same else (authentication, login(authentication, verification))
    authorizers: dict[Key, tuple[Authorization, Authorizer]] = {}
    # Those that no port goes by may be those of a retired policy.
    for key, authorization in {**configuration.authorizations, **authorizations}.items():
        compiled = running.authorizers.get(key)
        same = compiled is not None and compiled[0] == authorization
        authorizers[key] = compiled if compiled and same else (authorization, authorizer(rules(authorization)))
    policies = {
        port.number: _policy(port, limits, logins, authorizers, running.policies.get(port.number))
        for port in configuration.ports
    }
    retired = {serial: former for serial, former in running.retired.items() if former.policy in in_use}
    serial = max(running.retired, default=0)
    for number, port in running.ports.items():
        if number not in policies:
            serial += 1
            retired[serial] = Retired(number, port.authorization, running.policies[number])
    return Running(
        configuration=configuration,
        limits=limits,
        policies=MappingProxyType(policies),
        retired=MappingProxyType({serial: _judged_anew(former, authorizers) for serial, former in retired.items()}),
        logins=MappingProxyType(logins),
        authorizers=MappingProxyType(authorizers),
    )


def _key(resource: Authentication | Authorization) -> Key:
    return resource.namespace, resource.name


def _policy(
    port: Port,
    limits: Limits,
    logins: Mapping[Key, tuple[Authentication, Login]],
    authorizers: Mapping[Key, tuple[Authorization, Authorizer]],
    before: Policy | None,
) -> Policy:
    authentication, authorization = port.authentication, port.authorization
    entrance = None if authentication is None else logins[_key(authentication)][1]
    policy = Policy(
        limits=limits,
        authenticate=None if entrance is None else entrance.authenticate,
        authorize=None if authorization is None else authorizers[_key(authorization)][1],
        revoked=None if entrance is None else entrance.revoked,
        review=None if entrance is None else entrance.review,
        name=f"{port.listener}:{port.number}",
        rules="" if authorization is None else _label(authorization),
    )
    return policy if before is None or _parts(before) != _parts(policy) else before


def _parts(policy: Policy) -> tuple[object, ...]:
    return astuple(policy, recurse=False)


def _label(authorization: Authorization) -> str:
    if authorization.namespace == DEFAULT_NAMESPACE:
        return authorization.name
    return f"{authorization.namespace}/{authorization.name}"


def _judged_anew(former: Retired, authorizers: Mapping[Key, tuple[Authorization, Authorizer]]) -> Retired:
    """A retired policy with the rules that its BrokerAuthorization has now; with none that allow, if that is gone."""
    if former.authorization is None:
        return former
    authorization, authorize = authorizers.get(_key(former.authorization), (former.authorization, _nothing_is_allowed))
    policy = former.policy
    if policy.authorize is not authorize:
        policy = Policy(limits=policy.limits, authorize=authorize, name=policy.name, rules=policy.rules)
    return Retired(former.number, authorization, policy)


def _nothing_is_allowed(_principal: Principal, _action: Action, _name: str) -> bool:
    return False


@frozen(kw_only=True)
class Difference:
    """What has to be done to get from one to the next; ports by their numbers.

    `policies` take each other's place. Connections of `ended` ports end: these are closed, or speak another protocol.
    `certified` ports show another certificate, or ask for clients' certificates of other authorities.
    """

    policies: Mapping[Policy, Policy]
    opened: tuple[int, ...]
    closed: tuple[int, ...]
    ended: tuple[int, ...]
    certified: tuple[int, ...]


def difference(before: Running, after: Running) -> Difference:
    """The difference between what runs and what is to run."""
    old, new = before.ports, after.ports
    kept = [number for number in new if number in old]
    policies = {before.policies[number]: after.policies[number] for number in kept}
    for serial, former in after.retired.items():
        known = before.retired.get(serial)
        policies[before.policies[former.number] if known is None else known.policy] = former.policy
    return Difference(
        policies={one: other for one, other in policies.items() if one is not other},
        opened=tuple(number for number in new if number not in old),
        closed=tuple(number for number in old if number not in new),
        ended=tuple(number for number in old if number not in new or _protocol(old[number]) != _protocol(new[number])),
        certified=tuple(number for number in kept if _certificates(old[number]) != _certificates(new[number])),
    )


def _protocol(port: Port) -> tuple[bool, bool]:
    return port.websocket, port.tls is not None


def _certificates(port: Port) -> object:
    if port.tls is None:
        return None
    methods = () if port.authentication is None else port.authentication.methods
    trusted = [method.trusted_ca_pem for method in methods if isinstance(method, X509Settings)]
    names = (port.listener, port.namespace, port.service_name) if isinstance(port.tls, AutomaticTls) else ()
    return port.tls, names, trusted
