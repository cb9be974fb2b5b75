"""Warnings: what is legal and surely not meant."""

from collections.abc import Iterable, Sequence

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
from trio_broker.resources.device import Device
from trio_broker.resources.listener import Listener, ListenerPort
from trio_broker.resources.problems import Problems, listed, shown

_NAMES: dict[type[Method], str] = {
    Custom: "Custom",
    ServiceAccountToken: "ServiceAccountToken",
    X509: "X509",
    Password: "Password",
    Scram: "Scram",
}
_NEEDED_AUDIENCES = {"default": {"aio-internal"}, "authn": {"aio-internal", "aio-mq"}}
"""By name of the product's own BrokerAuthentication: one of these is what the product's components ask tokens for."""
_CARRIES_SECRETS = {Custom: "passwords", ServiceAccountToken: "tokens", Password: "passwords"}


def warn_about_order(authentication: BrokerAuthentication, problems: Problems) -> None:
    """Warn about methods that are never asked, or only while a custom server gives no answer."""
    first: dict[type[Method], Method] = {}
    methods = authentication.methods
    for method in methods:
        kind = type(method)
        # A second custom server is asked while the first gives no answer. All others judge what they find relevant,
        # and what is not relevant to one is not relevant to the next of its kind.
        if kind in first and kind is not Custom:
            name = _NAMES[kind]
            hint = "; put its audiences into that one" if kind is ServiceAccountToken else ""
            path = first[kind].place.path.rpartition(".")[2]
            problems.warn(method.place, f"this {name} is never asked: {path} before it is for the same clients{hint}")
        first.setdefault(kind, method)
    if Custom in first and (behind := methods[methods.index(first[Custom]) + 1 :]):
        names = listed(dict.fromkeys(_NAMES[type(method)] for method in behind), "and")
        message = f"Custom judges every client: {names} behind it will be asked only while its server gives no answer"
        problems.warn(first[Custom].place, message)


def warn_about_default(authentication: BrokerAuthentication, problems: Problems) -> None:
    """Warn if one of the product's own resources is redefined so that its components could not get in."""
    needed = _NEEDED_AUDIENCES.get(authentication.identity.name, set())
    audiences = {
        audience
        for method in authentication.methods
        if isinstance(method, ServiceAccountToken)
        for audience in method.settings.audiences
    }
    if needed and not needed & audiences:
        wanted = listed(sorted(needed))
        message = (
            f"{authentication.identity} takes no service account token for {wanted}:"
            " in a cluster, the product's own components would lose their access"
        )
        problems.warn(authentication.identity.place, message)


def warn_about_devices(
    authentications: Iterable[BrokerAuthentication], devices: Sequence[Device], problems: Problems
) -> None:
    """Warn about a device registry that has nobody in it, or that nobody looks into."""
    asking = [
        method
        for authentication in authentications
        for method in authentication.methods
        if isinstance(method, X509) and method.additional_validation is AdditionalValidation.AZURE_DEVICE_REGISTRY
    ]
    if not devices:
        for method in asking:
            message = "additionalValidation is AzureDeviceRegistry, and there is no Device: X509 will let nobody in"
            problems.warn(method.place, message)
    elif not asking:
        message = "no X509 has additionalValidation AzureDeviceRegistry: it does not matter which devices are enabled"
        problems.warn(devices[0].identity.place, message)


def warn_about_port(port: ListenerPort, authentication: BrokerAuthentication | None, problems: Problems) -> None:
    """Warn about a port without TLS where credentials are in danger, or never relevant."""
    if port.tls or authentication is None:
        return
    secrets = dict.fromkeys(
        _CARRIES_SECRETS[type(method)] for method in authentication.methods if type(method) in _CARRIES_SECRETS
    )
    if secrets:
        problems.warn(port.place, f"the port has no TLS: {listed(secrets, 'and')} cross the network for all to read")
    if any(isinstance(method, X509) for method in authentication.methods):
        problems.warn(port.place, "the port has no TLS, and so no client certificates: X509 can never be relevant")


def warn_about_services(listeners: list[Listener], problems: Problems) -> None:
    """Warn about two listeners with one service name, which the product refuses."""
    first: dict[tuple[str, str], Listener] = {}
    for listener in listeners:
        other = first.setdefault((listener.identity.namespace, listener.service_name), listener)
        if other is not listener:
            message = f"serviceName {shown(listener.service_name)} is also {other.identity}'s; the product refuses that"
            problems.warn(listener.identity.place, message)
