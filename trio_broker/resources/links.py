"""Which authentication and authorization a port has: by its own references, or by listenerRef in the older form."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from attrs import define, field

from trio_broker.resources.authentication import BrokerAuthentication
from trio_broker.resources.authorization import BrokerAuthorization
from trio_broker.resources.configuration import Authorization
from trio_broker.resources.defaults import AUTHENTICATION_NAMES, LISTENER_NAMES, product_authentication
from trio_broker.resources.identity import Identity, Kind, Reference
from trio_broker.resources.listener import Listener, ListenerPort
from trio_broker.resources.problems import Place, Problems
from trio_broker.resources.references import References
from trio_broker.resources.resources import Resources


class _Linked(Protocol):
    @property
    def identity(self) -> Identity: ...
    @property
    def listener_refs(self) -> tuple[Reference, ...]: ...


L = TypeVar("L", bound=_Linked)


@define
class Links:
    """Finds the resources of each port."""

    _resources: Resources
    _references: References
    _problems: Problems
    _defaults: dict[tuple[str, str], BrokerAuthentication] = field(factory=dict, init=False)

    def authentication(self, listener: Listener, port: ListenerPort) -> BrokerAuthentication | None:
        """The port's authentication; None without one, or with a problem."""
        if listener.switches is not None:
            return self._switched_authentication(listener, listener.switches.authentication)
        reference = port.authentication
        if reference is None:
            return None
        found = self._references.follow(reference)
        if isinstance(found, BrokerAuthentication):
            return found
        if reference.name in AUTHENTICATION_NAMES:
            return self._default(reference.name, reference.namespace, reference.place)
        self._references.report(reference)
        return None

    def authorization(self, listener: Listener, port: ListenerPort) -> BrokerAuthorization | None:
        """The port's authorization; None without one, or with a problem."""
        if listener.switches is not None:
            return self._switched_authorization(listener, listener.switches.authorization)
        reference = port.authorization
        if reference is None:
            return None
        found = self._references.follow(reference)
        if isinstance(found, BrokerAuthorization):
            return found
        self._references.report(reference)
        return None

    def check_listener_refs(self, listeners: Sequence[Listener]) -> None:
        """Every listenerRef must lead to a listener in which it has effect."""
        linked: list[BrokerAuthentication | BrokerAuthorization] = []
        linked += self._resources.of(BrokerAuthentication)
        linked += self._resources.of(BrokerAuthorization)
        for resource in linked:
            for reference in resource.listener_refs:
                found = self._references.follow(reference)
                if not isinstance(found, Listener):
                    self._references.report(reference)
                else:
                    self._check_effect(resource, reference, found)

    def _check_effect(
        self, resource: BrokerAuthentication | BrokerAuthorization, reference: Reference, listener: Listener
    ) -> None:
        authenticates = isinstance(resource, BrokerAuthentication)
        if listener.switches is None:
            name = "authenticationRef" if authenticates else "authorizationRef"
            used = [port.authentication if authenticates else port.authorization for port in listener.ports]
            if not any(link and link.name == resource.identity.name for link in used):
                message = f"{listener.identity} has ports, for which listenerRef has no effect: write {name} there"
                self._problems.add(reference.place, message)
            return
        switch = listener.switches.authentication if authenticates else listener.switches.authorization
        if switch is None:
            self._mark_used(resource.identity)
            name = "authenticationEnabled" if authenticates else "authorizationEnabled"
            self._problems.warn(
                reference.place, f"{listener.identity} does not say {name}: true, so this has no effect"
            )

    def _default(self, name: str, namespace: str, place: Place) -> BrokerAuthentication:
        return self._defaults.setdefault((name, namespace), product_authentication(name, namespace, place))

    def _switched_authentication(self, listener: Listener, switch: Place | None) -> BrokerAuthentication | None:
        if switch is None:
            return None
        found = self._naming(listener, self._resources.of(BrokerAuthentication), switch)
        if not found and listener.identity.name in LISTENER_NAMES:
            name = AUTHENTICATION_NAMES[LISTENER_NAMES.index(listener.identity.name)]
            return self._default(name, listener.identity.namespace, switch)
        if not found:
            self._problems.add(switch, f"no BrokerAuthentication names {listener.identity.name} in its listenerRef")
        return found[0] if found else None

    def _switched_authorization(self, listener: Listener, switch: Place | None) -> BrokerAuthorization | None:
        if switch is None:
            return None
        found = self._naming(listener, self._resources.of(BrokerAuthorization), switch)
        if found:
            return found[0]
        message = f"no BrokerAuthorization names {listener.identity.name} in its listenerRef, so everything is denied"
        self._problems.warn(switch, message)
        identity = Identity(Kind.AUTHORIZATION, listener.identity.namespace, "nothing", switch)
        return BrokerAuthorization(identity, Authorization(identity.name, identity.namespace), ())

    def _naming(self, listener: Listener, resources: Sequence[L], switch: Place) -> list[L]:
        target = (listener.identity.namespace, listener.identity.name)
        found = [
            resource
            for resource in resources
            if any((reference.namespace, reference.name) == target for reference in resource.listener_refs)
        ]
        for resource in found:
            self._mark_used(resource.identity)
        if len(found) > 1:
            message = f"{found[0].identity} and {found[1].identity} both name {listener.identity.name} in listenerRef"
            self._problems.add(switch, message)
        return found

    def _mark_used(self, identity: Identity) -> None:
        self._references.follow(Reference(identity.kind, identity.namespace, identity.name, identity.place))
