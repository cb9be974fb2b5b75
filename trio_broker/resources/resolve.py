"""From typed resources to one configuration: references followed, material checked, and what spans resources."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from attrs import define, field

from mqttcore.authenticators.effects import HttpServer
from mqttcore.authenticators.x509 import SubjectAttributes
from trio_broker.resources.advice import (
    warn_about_default,
    warn_about_devices,
    warn_about_order,
    warn_about_port,
    warn_about_services,
)
from trio_broker.resources.authentication import (
    X509,
    AdditionalValidation,
    BrokerAuthentication,
    Custom,
    Method,
    Password,
    Scram,
    ServiceAccountToken,
)
from trio_broker.resources.authorization import BrokerAuthorization
from trio_broker.resources.broker import Broker
from trio_broker.resources.configuration import (
    Authentication,
    AutomaticTls,
    BrokerSettings,
    Configuration,
    CustomSettings,
    ManualTls,
    MethodSettings,
    PasswordSettings,
    Port,
    ScramSettings,
    X509Settings,
)
from trio_broker.resources.device import Device, enabled_by_name
from trio_broker.resources.identity import Kind, Reference
from trio_broker.resources.links import Links
from trio_broker.resources.listener import Listener, ListenerPort, ServiceType, Tls
from trio_broker.resources.objects import Bundle, ServiceAccount
from trio_broker.resources.pem import PemChecker
from trio_broker.resources.problems import Place, Problems, shown
from trio_broker.resources.references import References
from trio_broker.resources.resources import Resources
from trio_broker.resources.subjects import read_toml_attributes, without_repeated
from trio_broker.resources.users import read_password_users, read_scram_users


def resolve(
    resources: Resources,
    stand_ins: Mapping[tuple[Kind, str], Bundle | None],
    *,
    complete: bool,
    now: datetime,
    problems: Problems,
    origin: Place,
) -> Configuration | None:
    """The configuration; None with problems. `origin` is where a set without listeners comes from."""
    resolver = _Resolver(resources, References(resources, stand_ins, complete, problems), problems, now)
    configuration = resolver.configuration()
    if complete and not resources.of(Listener):
        problems.add(origin, "there is no BrokerListener, and so no port to listen on")
    return None if problems.problems else configuration


@define
class _Resolver:
    _resources: Resources
    _references: References
    _problems: Problems
    _now: datetime
    _links: Links = field(init=False)
    _pem: PemChecker = field(init=False)
    _devices: Mapping[str, bool] = field(init=False)
    _authentications: dict[tuple[str, str], Authentication | None] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._links = Links(self._resources, self._references, self._problems)
        self._pem = PemChecker(self._problems, self._now)
        self._devices = enabled_by_name(self._resources.of(Device), self._problems)

    def configuration(self) -> Configuration:
        listeners = self._resources.of(Listener)
        self._check_service_types(listeners)
        self._check_port_numbers(listeners)
        warn_about_services(listeners, self._problems)
        self._links.check_listener_refs(listeners)
        ports = tuple(self._port(listener, port) for listener in listeners for port in listener.ports)
        authentications = self._resources.of(BrokerAuthentication)
        for authentication in authentications:
            # Those that no port uses have problems worth telling, too.
            self._authentication(authentication)
            warn_about_order(authentication, self._problems)
            warn_about_default(authentication, self._problems)
        warn_about_devices(authentications, self._resources.of(Device), self._problems)
        self._references.warn_about_unused()
        accounts = {
            (account.identity.namespace, account.identity.name): MappingProxyType(dict(account.annotations))
            for account in self._resources.of(ServiceAccount)
        }
        authorizations = {
            (each.identity.namespace, each.identity.name): each.policy
            for each in self._resources.of(BrokerAuthorization)
        }
        return Configuration(
            ports=ports,
            service_accounts=MappingProxyType(accounts),
            broker=self._broker(),
            devices=self._devices,
            authorizations=MappingProxyType(authorizations),
        )

    def _check_service_types(self, listeners: list[Listener]) -> None:
        first: dict[ServiceType, Listener] = {}
        for listener in listeners:
            other = first.setdefault(listener.service_type, listener)
            if other is not listener:
                service_type = listener.service_type.value
                message = f"there may be one listener of serviceType {service_type}, and {other.identity.name} is one"
                self._problems.add(listener.service_type_place, message)

    def _check_port_numbers(self, listeners: list[Listener]) -> None:
        first: dict[int, Place] = {}
        for port in (port for listener in listeners for port in listener.ports):
            other = first.setdefault(port.number, port.place)
            if other is not port.place:
                message = f"port {port.number} is taken: {other.file}:{other.line}"
                self._problems.add(port.place, message)

    def _port(self, listener: Listener, port: ListenerPort) -> Port:
        authentication = self._links.authentication(listener, port)
        authorization = self._links.authorization(listener, port)
        warn_about_port(port, authentication, self._problems)
        return Port(
            listener=listener.identity.name,
            namespace=listener.identity.namespace,
            service_name=listener.service_name,
            number=port.number,
            websocket=port.websocket,
            tls=self._tls(port.tls) if port.tls else None,
            authentication=self._authentication(authentication) if authentication else None,
            authorization=authorization.policy if authorization else None,
        )

    def _tls(self, tls: Tls) -> ManualTls | AutomaticTls | None:
        if tls.spec is not None:
            return AutomaticTls(tls.spec)
        bundle = self._references.bundle(tls.secret)
        pair = self._pem.key_pair(bundle) if bundle else None
        return ManualTls(*pair) if pair else None

    def _authentication(self, authentication: BrokerAuthentication) -> Authentication:
        key = (authentication.identity.namespace, authentication.identity.name)
        known = self._authentications.get(key)
        if known is None:
            settings = (self._method(method) for method in authentication.methods)
            methods = tuple(method for method in settings if method)
            known = self._authentications[key] = Authentication(key[1], key[0], methods)
        return known

    def _method(self, method: Method) -> MethodSettings | None:
        match method:
            case Custom():
                return self._custom(method)
            case ServiceAccountToken():
                return method.settings
            case X509():
                return self._x509(method)
            case Password():
                bundle = self._references.bundle(method.secret)
                return PasswordSettings(read_password_users(bundle, self._problems)) if bundle else None
            case Scram():
                bundle = self._references.bundle(method.secret)
                return ScramSettings(read_scram_users(bundle, self._problems)) if bundle else None

    def _custom(self, method: Custom) -> CustomSettings:
        ca, client = self._references.bundle(method.ca), self._references.bundle(method.client_certificate)
        chain, key = (self._pem.key_pair(client) if client else None) or (None, None)
        return CustomSettings(
            HttpServer(
                url=method.endpoint,
                ca_pem=self._pem.bundle(ca) if ca else None,
                client_cert_pem=chain,
                client_key_pem=key,
                headers=method.headers,
            )
        )

    def _x509(self, method: X509) -> X509Settings:
        ca = self._references.bundle(method.trusted_ca)
        attributes = method.attributes or self._attributes(method.attributes_secret)
        trusted = self._pem.bundle(ca, authorities=True) if ca else None
        asked = method.additional_validation is AdditionalValidation.AZURE_DEVICE_REGISTRY
        return X509Settings(trusted or b"", attributes, self._devices if asked else None)

    def _attributes(self, reference: Reference | None) -> tuple[SubjectAttributes, ...]:
        bundle = self._references.bundle(reference)
        if bundle is None:
            return ()
        if not bundle.data:
            self._problems.add(bundle.identity.place, f"{bundle.identity} is empty; it must hold a TOML file")
        found = [entry for datum in bundle.data.values() for entry in read_toml_attributes(datum, self._problems)]
        return without_repeated(found, self._problems)

    def _broker(self) -> BrokerSettings:
        brokers = self._resources.of(Broker)
        for broker in brokers[1:]:
            self._problems.add(
                broker.identity.place, f"there may be one Broker, and {shown(brokers[0].identity.name)} is one"
            )
        return brokers[0].settings if brokers else BrokerSettings()
