"""BrokerAuthentication: methods in order, in every spelling that users have in their files."""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from urllib.parse import urlsplit

from attrs import field, frozen

from mqttcore.authenticators.x509 import SubjectAttributes
from trio_broker.resources.configuration import ServiceAccountTokenSettings
from trio_broker.resources.document import Sequence
from trio_broker.resources.identity import Identity, Kind, Reference, read_reference, read_secret_reference
from trio_broker.resources.problems import Place, listed, nearest, shown
from trio_broker.resources.reader import Fields, Item
from trio_broker.resources.subjects import read_authorization_attributes

DEFAULT_TRUSTED_CA = "client-ca"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_RESERVED_HEADERS = ("connection", "content-length", "content-type", "host", "transfer-encoding")
"""Headers that the broker itself sets on each request."""


class AdditionalValidation(Enum):
    """What else is checked of a client certificate."""

    NONE = "None"
    AZURE_DEVICE_REGISTRY = "AzureDeviceRegistry"


@frozen
class Custom:
    """Method Custom, with its references not yet resolved."""

    endpoint: str
    ca: Reference | None
    client_certificate: Reference | None
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    place: Place


@frozen
class X509:
    """Method X509, with its references not yet resolved; attributes stand here or in a Secret."""

    trusted_ca: Reference | None
    attributes: tuple[SubjectAttributes, ...]
    attributes_secret: Reference | None
    additional_validation: AdditionalValidation
    place: Place


@frozen
class ServiceAccountToken:
    """Method ServiceAccountToken."""

    settings: ServiceAccountTokenSettings
    place: Place


@frozen
class Password:
    """Method Password; each key of the Secret is a user."""

    secret: Reference | None
    place: Place


@frozen
class Scram:
    """Method Scram; each key of the Secret is a user."""

    secret: Reference | None
    place: Place


Method = Custom | X509 | ServiceAccountToken | Password | Scram


@frozen
class BrokerAuthentication:
    """A BrokerAuthentication; `listener_refs` only in the older form."""

    identity: Identity
    methods: tuple[Method, ...]
    listener_refs: tuple[Reference, ...]


@frozen
class _Spelling:
    """A method's current name, what else it was called, and the keys of its settings: current first, then older."""

    name: str
    older_names: tuple[str, ...]
    key: str
    older_keys: tuple[str, ...]


_SPELLINGS = (
    _Spelling("Custom", (), "customSettings", ("custom",)),
    _Spelling("ServiceAccountToken", ("sat",), "serviceAccountTokenSettings", ("serviceAccountToken", "sat")),
    _Spelling("X509", ("x509Credentials",), "x509Settings", ("x509Credentials", "x509")),
    _Spelling("Password", (), "passwordSettings", ()),
    _Spelling("Scram", (), "scramSettings", ()),
)
_BY_NAME = {name.casefold(): spelling for spelling in _SPELLINGS for name in (spelling.name, *spelling.older_names)}


def read_authentication(identity: Identity, spec: Fields) -> BrokerAuthentication:
    """A BrokerAuthentication's spec."""
    item = spec.required("authenticationMethods")
    entries = item.items() if item else []
    if item and isinstance(item.node, Sequence) and not entries:
        item.add("must have at least one method, or nobody could be let in")
    methods = tuple(method for entry in entries if (method := _read_method(identity, entry)))
    return BrokerAuthentication(identity, methods, read_listener_refs(identity, spec))


def read_listener_refs(identity: Identity, spec: Fields) -> tuple[Reference, ...]:
    """The older form's `listenerRef`: the listeners that a resource is for."""
    item = spec.optional("listenerRef")
    references = [read_reference(entry, Kind.LISTENER, identity.namespace) for entry in (item.items() if item else ())]
    return tuple(reference for reference in references if reference)


def _read_method(identity: Identity, entry: Item) -> Method | None:
    with entry.fields() as fields:
        fields.refuse(
            {
                "usernamePassword": "the previews' usernamePassword is not supported; use method: Password",
                "svid": "the previews' svid (SPIFFE) is not supported",
            }
        )
        method_item = fields.optional("method")
        keys = {key: spelling for spelling in _SPELLINGS for key in (spelling.key, *spelling.older_keys)}
        settings = {key: item for key in keys if (item := fields.optional(key))}
        spelling = _spelling(fields, method_item, settings)
        if spelling is None:
            return None
        for key, item in settings.items():
            if keys[key] is not spelling:
                item.add(f"belongs to method {keys[key].name}, and the method is {spelling.name}", spelling.key)
        own = [key for key in settings if keys[key] is spelling]
        if len(own) > 1:
            settings[own[1]].add(f"{listed(own, 'and')} mean the same: keep one of them")
        return _read_settings(identity, spelling, fields, settings[own[0]] if own else None)


def _spelling(fields: Fields, method_item: Item | None, settings: Mapping[str, Item]) -> _Spelling | None:
    if method_item:
        name = method_item.text()
        spelling = _BY_NAME.get(name.casefold())
        if spelling is None and name:
            names = [known.name for known in _SPELLINGS]
            method_item.add(f"{shown(name)} is not {listed(names)}", nearest(name, names))
        return spelling
    if fields.broken:
        return None
    # The oldest files have no method: the key of the settings says it.
    bare = {spelling.name: spelling for spelling in _SPELLINGS if any(key in settings for key in spelling.older_keys)}
    if len(bare) == 1 and len(settings) == 1:
        return next(iter(bare.values()))
    suggestion = ""
    if len(settings) == 1:
        [key] = settings
        suggestion = next(f"method: {spelling.name}" for spelling in _SPELLINGS if spelling.key == key)
    fields.add("method is missing" if len(settings) < 2 else "there must be one method in each entry", suggestion)
    return None


def _read_settings(identity: Identity, spelling: _Spelling, entry: Fields, item: Item | None) -> Method | None:
    readers: dict[str, Callable[[str, Fields, Place], Method]] = {
        "Custom": _read_custom,
        "ServiceAccountToken": _read_service_account_token,
        "X509": _read_x509,
        "Password": _read_password,
        "Scram": _read_scram,
    }
    if item is None and spelling.name == "X509":
        reference = Reference(Kind.CONFIG_MAP, identity.namespace, DEFAULT_TRUSTED_CA, entry.place)
        return X509(reference, (), None, AdditionalValidation.NONE, entry.place)
    if item is None:
        entry.add(f"{spelling.key} is missing")
        return None
    with item.fields() as fields:
        return readers[spelling.name](identity.namespace, fields, entry.place)


def _read_custom(namespace: str, fields: Fields, place: Place) -> Custom:
    endpoint = fields.required("endpoint")
    ca = read_reference(fields.explicit("caCertConfigMap", "caCert"), Kind.CONFIG_MAP, namespace)
    client = None
    if auth := fields.optional("auth"):
        with auth.fields() as kinds:
            if x509 := kinds.required("x509"):
                with x509.fields() as settings:
                    settings.refuse({"keyVault": "Azure Key Vault is not supported; use secretName"})
                    client = read_secret_reference(settings, namespace, required=True)
    headers = fields.optional("headers")
    return Custom(
        _read_endpoint(endpoint) if endpoint else "", ca, client, _read_headers(headers) if headers else (), place
    )


def _read_endpoint(item: Item) -> str:
    text = item.text()
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        item.add("is not a URL such as https://auth-server:8443")
        return ""
    if parts.scheme != "https":
        suggestion = f"https://{text.partition('://')[2]}" if parts.scheme == "http" and "@" not in text else ""
        item.add("must begin with https://", shown(suggestion) if suggestion else "")
    elif not host or port == 0 or not text.isascii() or not text.isprintable() or " " in text:
        item.add("is not a URL such as https://auth-server:8443")
    elif parts.username is not None or parts.password is not None:
        item.add("must not have a user name or password; put credentials under headers")
    elif parts.query or parts.fragment or "?" in text or "#" in text:
        item.add("must end with the path: the broker adds the query itself")
    return text.rstrip("/")


def _read_headers(item: Item) -> tuple[tuple[str, str], ...]:
    headers: dict[str, tuple[str, str]] = {}
    for name, value in item.pairs():
        text = value.any_text()
        if not _HEADER_NAME.fullmatch(name):
            value.add("is not the name of an HTTP header")
        elif name.casefold() in _RESERVED_HEADERS:
            value.add("the broker sets this header itself")
        elif name.casefold() in headers:
            value.add(f"is the same header as {headers[name.casefold()][0]}")
        elif not _HEADER_VALUE.fullmatch(text) or text != text.strip():
            value.add("the value of an HTTP header has printable ASCII characters, and no space at its ends")
        headers[name.casefold()] = (name, text)
    return tuple(headers.values())


def _read_service_account_token(namespace: str, fields: Fields, place: Place) -> ServiceAccountToken:
    item = fields.required("audiences")
    audiences = item.texts() if item else ()
    if item and isinstance(item.node, Sequence) and not audiences:
        item.add("must have at least one audience")
    return ServiceAccountToken(ServiceAccountTokenSettings(audiences), place)


def _read_x509(namespace: str, fields: Fields, place: Place) -> X509:
    ca_item = fields.optional("trustedClientCaCert", "trustedClientCaCertConfigMap")
    attributes_item = fields.optional("authorizationAttributes")
    secret_item = fields.optional("attributes")
    validation = fields.explicit("additionalValidation")
    if attributes_item and secret_item:
        secret_item.add("authorizationAttributes stands beside it: keep one of them")
    secret = None
    if secret_item:
        with secret_item.fields() as settings:
            settings.refuse({"keyVault": "Azure Key Vault is not supported; use secretName"})
            secret = read_secret_reference(settings, namespace, required=True)
    default = Reference(Kind.CONFIG_MAP, namespace, DEFAULT_TRUSTED_CA, fields.place)
    return X509(
        read_reference(ca_item, Kind.CONFIG_MAP, namespace) if ca_item else default,
        read_authorization_attributes(attributes_item) if attributes_item else (),
        secret,
        validation.choice(AdditionalValidation) if validation else AdditionalValidation.NONE,
        place,
    )


def _read_password(namespace: str, fields: Fields, place: Place) -> Password:
    return Password(read_secret_reference(fields, namespace, required=True), place)


def _read_scram(namespace: str, fields: Fields, place: Place) -> Scram:
    return Scram(read_secret_reference(fields, namespace, required=True), place)
