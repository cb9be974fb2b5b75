"""What manifests come to: one immutable value, with every reference resolved to bytes. Its repr shows no secret."""

from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

from attrs import field, frozen

from mqttcore.authenticators.effects import HttpServer
from mqttcore.authenticators.scram import Verifier
from mqttcore.authenticators.x509 import SubjectAttributes
from mqttcore.hidden import hidden


def _names_only(users: Mapping[str, object]) -> str:
    return f"<{len(users)} users>"


class KeyAlgorithm(Enum):
    """The private key of a server certificate."""

    EC256 = "Ec256"
    EC384 = "Ec384"
    EC521 = "Ec521"
    ED25519 = "Ed25519"
    RSA2048 = "Rsa2048"
    RSA4096 = "Rsa4096"
    RSA8192 = "Rsa8192"


class RotationPolicy(Enum):
    """Whether a renewed certificate has a new key."""

    ALWAYS = "Always"
    NEVER = "Never"


class IssuerKind(Enum):
    """The kinds of cert-manager's own issuers."""

    ISSUER = "Issuer"
    CLUSTER_ISSUER = "ClusterIssuer"


@frozen(kw_only=True)
class CertificateSpec:
    """The server certificate that is to be issued: certManagerCertificateSpec with its defaults filled in.

    `duration` is how long it is valid and `renew_before` how long before its end it is renewed, in seconds.
    """

    issuer_name: str
    issuer_kind: IssuerKind
    issuer_group: str = "cert-manager.io"
    duration: float = 2_592_000.0
    renew_before: float = 864_000.0
    algorithm: KeyAlgorithm = KeyAlgorithm.EC256
    rotation_policy: RotationPolicy = RotationPolicy.ALWAYS
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = ()


@frozen
class ManualTls:
    """A server certificate from a Secret: its chain, own certificate first, and its key, both in PEM."""

    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=hidden)


@frozen
class AutomaticTls:
    """A server certificate that the broker issues itself."""

    spec: CertificateSpec


@frozen
class CustomSettings:
    """Method Custom: a server is asked. Its URL ends without a slash."""

    server: HttpServer


@frozen
class ServiceAccountTokenSettings:
    """Method ServiceAccountToken: a token for one of the audiences."""

    audiences: tuple[str, ...]


@frozen
class X509Settings:
    """Method X509: trusted CA certificates, and CRLs beside them, in PEM; and attributes by subject.

    `devices` are those of the configuration if clients must be enabled devices, and None if not.
    """

    trusted_ca_pem: bytes = field(repr=False)
    attributes: tuple[SubjectAttributes, ...] = ()
    devices: Mapping[str, bool] | None = None


@frozen
class PasswordSettings:
    """Method Password, an extension: user names to Argon2id hashes in the PHC string format; at least one."""

    users: Mapping[str, str] = field(repr=_names_only)


@frozen
class ScramSettings:
    """Method Scram, an extension: user names to SCRAM-SHA-256 verifiers; at least one."""

    users: Mapping[str, Verifier] = field(repr=_names_only)


MethodSettings = CustomSettings | ServiceAccountTokenSettings | X509Settings | PasswordSettings | ScramSettings

METHOD_NAMES: Mapping[type[MethodSettings], str] = {
    CustomSettings: "Custom",
    ServiceAccountTokenSettings: "ServiceAccountToken",
    X509Settings: "X509",
    PasswordSettings: "Password",
    ScramSettings: "Scram",
}
"""What each method is called in manifests, logs and traces."""


@frozen
class Authentication:
    """A BrokerAuthentication: its methods, in the order in which they are tried; at least one."""

    name: str
    namespace: str
    methods: tuple[MethodSettings, ...]


class ResourceMethod(Enum):
    """What a broker resource of a rule allows."""

    CONNECT = "Connect"
    PUBLISH = "Publish"
    SUBSCRIBE = "Subscribe"


class StateStoreMethod(Enum):
    """What a state store resource of a rule allows."""

    READ = "Read"
    WRITE = "Write"
    READ_WRITE = "ReadWrite"


class KeyType(Enum):
    """How the keys of a state store resource are written."""

    PATTERN = "Pattern"
    STRING = "String"
    BINARY = "Binary"


@frozen(kw_only=True)
class Principals:
    """Whom a rule is for: ANY user name, client identifier or attribute map; of a map ALL pairs. Empty: nobody."""

    usernames: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()
    attributes: tuple[Mapping[str, str], ...] = ()


@frozen(kw_only=True)
class BrokerResource:
    """What a rule allows.

    `client_ids` have `*` as a wildcard; empty is any. `topics` are Topic Filters without ShareName; empty is any.
    Both may hold `{principal.username}`, `{principal.clientId}` and `{principal.attributes.<name>}`, in a topic
    each as a whole level.
    """

    method: ResourceMethod
    client_ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


@frozen(kw_only=True)
class StateStoreResource:
    """What a rule allows on the state store, which this broker does not have; Binary keys are in Base64."""

    method: StateStoreMethod
    key_type: KeyType
    keys: tuple[str, ...]


@frozen(kw_only=True)
class Rule:
    """One rule that allows; nothing else is allowed."""

    principals: Principals
    broker_resources: tuple[BrokerResource, ...] = ()
    state_store_resources: tuple[StateStoreResource, ...] = ()


@frozen
class Authorization:
    """A BrokerAuthorization; without rules it denies everything. `cache` makes no difference here."""

    name: str
    namespace: str
    rules: tuple[Rule, ...] = ()
    cache: bool = field(default=True, eq=False)


@frozen(kw_only=True)
class Port:
    """A port and what holds on it. Without `authentication` everybody is let in."""

    listener: str
    namespace: str
    service_name: str
    number: int
    websocket: bool = False
    tls: ManualTls | AutomaticTls | None = None
    authentication: Authentication | None = None
    authorization: Authorization | None = None


class MemoryProfile(Enum):
    """The Broker's memoryProfile."""

    TINY = "Tiny"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class QueueStrategy(Enum):
    """What happens when the queue of a subscriber is full."""

    NONE = "None"
    DROP_OLDEST = "DropOldest"


@frozen(kw_only=True)
class BrokerSettings:
    """The Broker's limits; None is what the manifest does not say. Intervals are seconds, sizes bytes."""

    memory_profile: MemoryProfile | None = None
    maximum_session_expiry: int | None = None
    maximum_message_expiry: int | None = None
    maximum_packet_size: int | None = None
    receive_maximum: int | None = None
    maximum_keep_alive: int | None = None
    queue_length: int | None = None
    queue_strategy: QueueStrategy | None = None


@frozen(kw_only=True)
class Configuration:
    """What a set of manifests asks for: at least one port, and everything that the ports need.

    `service_accounts` has each ServiceAccount's annotations, as they are, by namespace and name; `devices` whether
    each Device is enabled, by name; `authorizations` each BrokerAuthorization by namespace and name, also those that no
    port uses.
    """

    ports: tuple[Port, ...]
    service_accounts: Mapping[tuple[str, str], Mapping[str, str]]
    broker: BrokerSettings = BrokerSettings()
    devices: Mapping[str, bool] = field(factory=lambda: MappingProxyType({}))
    authorizations: Mapping[tuple[str, str], Authorization] = field(factory=lambda: MappingProxyType({}))

    @property
    def custom_servers(self) -> set[HttpServer]:
        """The servers that the ports' methods Custom ask."""
        return {
            method.server
            for port in self.ports
            if port.authentication is not None
            for method in port.authentication.methods
            if isinstance(method, CustomSettings)
        }
