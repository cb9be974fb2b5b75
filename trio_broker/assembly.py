"""From what manifests say to what the core runs: authenticators, rules, limits."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, assert_never

from attrs import evolve, frozen

from mqttcore.auth import Action, Authenticator, Review
from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.custom import custom
from mqttcore.authenticators.password import password
from mqttcore.authenticators.scram import scram_sha_256
from mqttcore.authenticators.service_account import by_signature, by_token_review
from mqttcore.authenticators.x509 import TrustAnchors, enrolled_in, revoked_by, trust_anchors, x509
from mqttcore.broker.authorization import Resource, Rule
from mqttcore.connection import FRAME_MAXIMUM
from mqttcore.limits import Limits
from trio_broker.effects import TokenSource
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits
from trio_broker.resources import (
    METHOD_NAMES,
    Authentication,
    Authorization,
    BrokerSettings,
    CustomSettings,
    MemoryProfile,
    MethodSettings,
    PasswordSettings,
    QueueStrategy,
    ResourceMethod,
    ScramSettings,
    ServiceAccountTokenSettings,
    X509Settings,
)
from trio_broker.tokens import Tokens, TokensJwks, TokensKubernetes, TokensLocal, TokensOidc
from trio_broker.tokens.issuer import ISSUER, LocalIssuer
from trio_broker.tokens.keys import PublishedKeys, from_file, from_issuer, from_url
from trio_broker.tokens.kubernetes import KubernetesTokens, from_kubeconfig, in_cluster

MEBIBYTE = 1_048_576
ServiceAccounts = Callable[[], Mapping[tuple[str, str], Mapping[str, str]]]
"""The annotations of the ServiceAccounts in the manifests in force, by namespace and name."""


@frozen
class TokenVerification:
    """How service account tokens are verified: the method for a tuple of audiences, and the source that it asks."""

    authenticate: Callable[[tuple[str, ...]], Authenticator]
    source: TokenSource


def token_verification(tokens: Tokens | None, accounts: ServiceAccounts, limits: ServerLimits) -> TokenVerification:
    """What `--tokens` chooses; without it the API server inside a cluster, the local issuer elsewhere.

    Raises ConfigurationError.
    """
    if tokens is None:
        cluster = in_cluster()
        if cluster is not None:
            return TokenVerification(by_token_review, KubernetesTokens(cluster, limits))
        tokens = TokensLocal()

    def in_manifests(namespace: str, name: str) -> Mapping[str, str]:
        return accounts().get((namespace, name), {})

    match tokens:
        case TokensKubernetes(kubeconfig):
            access = in_cluster() if kubeconfig is None else None
            return TokenVerification(by_token_review, KubernetesTokens(access or from_kubeconfig(kubeconfig), limits))
        case TokensJwks(Path() as file):
            return TokenVerification(partial(by_signature, issuer=None), PublishedKeys(from_file(file), in_manifests))
        case TokensJwks(str() as url):
            return TokenVerification(
                partial(by_signature, issuer=None), PublishedKeys(from_url(url, limits), in_manifests)
            )
        case TokensOidc(issuer):
            return TokenVerification(
                partial(by_signature, issuer=issuer), PublishedKeys(from_issuer(issuer, limits), in_manifests)
            )
        case TokensLocal(directory):
            return _local(directory, accounts)
        case _:
            raise AssertionError(tokens)


def _local(directory: Path, accounts: ServiceAccounts) -> TokenVerification:
    issuer = LocalIssuer(directory)

    def annotations(namespace: str, name: str) -> Mapping[str, str]:
        return {**issuer.annotations(namespace, name), **accounts().get((namespace, name), {})}

    return TokenVerification(partial(by_signature, issuer=ISSUER), PublishedKeys(issuer.source(), annotations))


@frozen(kw_only=True)
class Login:
    """What a BrokerAuthentication comes to: who is let in, and who may stay."""

    authenticate: Authenticator
    revoked: Review | None
    review: Review | None


def login(authentication: Authentication, verification: TokenVerification) -> Login:
    """The methods of a BrokerAuthentication as one. Raises ConfigurationError for what cannot be used."""
    # A client's certificate is judged by the first of them, whatever comes of it.
    by_certificate = next((method for method in authentication.methods if isinstance(method, X509Settings)), None)
    devices = None if by_certificate is None else by_certificate.devices
    try:
        return Login(
            authenticate=chain(
                Method(METHOD_NAMES[type(settings)], _method(settings, verification))
                for settings in authentication.methods
            ),
            revoked=None if by_certificate is None else revoked_by(anchors(by_certificate)),
            review=None if devices is None else enrolled_in(devices),
        )
    except ValueError as error:
        raise ConfigurationError(f"BrokerAuthentication {authentication.name}: {error}") from None


def _method(settings: MethodSettings, verification: TokenVerification) -> Authenticator:
    match settings:
        case CustomSettings(server):
            return custom(server)
        case ServiceAccountTokenSettings(audiences):
            return verification.authenticate(audiences)
        case X509Settings(_, attributes, devices):
            return x509(anchors(settings), attributes, devices)
        case PasswordSettings(users):
            return password(users)
        case ScramSettings(verifiers):
            return scram_sha_256(verifiers)
        case _:
            assert_never(settings)


def anchors(settings: X509Settings) -> TrustAnchors:
    """The certificates that a method X509 trusts."""
    return _trust_anchors(settings.trusted_ca_pem)


# The method, the review of those who are connected and the handshake of each port ask for the same ones.
_trust_anchors = lru_cache(maxsize=4)(trust_anchors)


_PACKET_SIZES = {
    MemoryProfile.TINY: 4 * MEBIBYTE,
    MemoryProfile.LOW: 16 * MEBIBYTE,
    MemoryProfile.MEDIUM: 64 * MEBIBYTE,
    MemoryProfile.HIGH: 256 * MEBIBYTE,
}


def limits_of(settings: BrokerSettings, limits: Limits) -> Limits:
    """`limits`, but for what the Broker resource says. Raises ConfigurationError for what is out of range."""
    packet_size = settings.maximum_packet_size
    if packet_size is None and settings.memory_profile is not None:
        packet_size = min(_PACKET_SIZES[settings.memory_profile], FRAME_MAXIMUM)
    strategy = settings.queue_strategy
    values: dict[str, Any] = {
        "maximum_session_expiry": settings.maximum_session_expiry,
        "maximum_message_expiry": settings.maximum_message_expiry,
        "maximum_packet_size": packet_size,
        "receive_maximum": settings.receive_maximum,
        "server_keep_alive": settings.maximum_keep_alive,
        "maximum_queued_messages": settings.queue_length,
        "drop_oldest": None if strategy is None else strategy is QueueStrategy.DROP_OLDEST,
    }
    try:
        return evolve(limits, **{name: value for name, value in values.items() if value is not None})
    except ValueError as error:
        raise ConfigurationError(f"Broker: advanced.clients: {error.args[0]}") from None


_ACTIONS = {
    ResourceMethod.CONNECT: Action.CONNECT,
    ResourceMethod.PUBLISH: Action.PUBLISH,
    ResourceMethod.SUBSCRIBE: Action.SUBSCRIBE,
}


def rules(authorization: Authorization) -> list[Rule]:
    """The rules of a BrokerAuthorization, in their order. Raises ConfigurationError for what cannot be used."""
    try:
        return [
            Rule(
                usernames=rule.principals.usernames,
                client_ids=rule.principals.client_ids,
                attributes=rule.principals.attributes,
                resources=tuple(
                    Resource(action=_ACTIONS[resource.method], client_ids=resource.client_ids, topics=resource.topics)
                    for resource in rule.broker_resources
                ),
            )
            for rule in authorization.rules
        ]
    except ValueError as error:
        raise ConfigurationError(f"BrokerAuthorization {authorization.name}: {error}") from None
