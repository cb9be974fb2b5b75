"""BrokerListener: ports, in the current form and in the older flat one."""

import re
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import frozen

from trio_broker.resources.configuration import (
    CertificateSpec,
    IssuerKind,
    KeyAlgorithm,
    RotationPolicy,
)
from trio_broker.resources.document import Sequence
from trio_broker.resources.duration import parse_duration
from trio_broker.resources.identity import (
    Identity,
    Kind,
    Reference,
    read_reference,
    read_secret_reference,
)
from trio_broker.resources.problems import Place, shown
from trio_broker.resources.reader import Fields, Item

DEFAULT_DURATION = 720 * 3600.0
"""Seconds; the product's."""
RENEW_BEFORE_SHARE = 1 / 3
"""Of the duration; cert-manager's."""
_DNS_NAME = re.compile(
    r"(\*\.)?([A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
)
_UNGUARDED = "authorization has no effect without authentication, and everybody would be let in: add {}"


class ServiceType(Enum):
    """The type of the Kubernetes Service; of each there may be one listener."""

    CLUSTER_IP = "ClusterIp"
    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"


class Protocol(Enum):
    """What MQTT is carried by."""

    MQTT = "Mqtt"
    WEB_SOCKETS = "WebSockets"


class TlsMode(Enum):
    """Where the server certificate comes from."""

    MANUAL = "Manual"
    AUTOMATIC = "Automatic"


@frozen
class Tls:
    """Exactly one of a Secret with the certificate, and what certificate to issue."""

    secret: Reference | None
    spec: CertificateSpec | None


@frozen(kw_only=True)
class ListenerPort:
    """A port, with its references not yet resolved."""

    number: int
    place: Place
    websocket: bool = False
    tls: Tls | None = None
    authentication: Reference | None = None
    authorization: Reference | None = None


@frozen
class Switches:
    """The flat form's switches: where authentication and authorization are switched on, if they are."""

    authentication: Place | None
    authorization: Place | None


@frozen
class Listener:
    """A BrokerListener; `switches` is None but in the flat form."""

    identity: Identity
    service_type: ServiceType
    service_type_place: Place
    service_name: str
    ports: tuple[ListenerPort, ...]
    switches: Switches | None


def read_listener(identity: Identity, spec: Fields) -> Listener:
    """A BrokerListener's spec."""
    if item := spec.optional("brokerRef"):
        item.text()
    type_item = spec.optional("serviceType")
    name_item = spec.optional("serviceName")
    switches = None
    if spec.has("port") and not spec.has("ports"):
        ports, switches = _read_flat(identity, spec)
    else:
        ports = _read_ports(identity, spec)
    return Listener(
        identity,
        type_item.choice(ServiceType) if type_item else ServiceType.CLUSTER_IP,
        type_item.place if type_item else spec.place,
        name_item.text() if name_item else identity.name,
        ports,
        switches,
    )


def _read_ports(identity: Identity, spec: Fields) -> tuple[ListenerPort, ...]:
    flat = "belongs to the older form without ports; put it into an entry of ports"
    instead = "is the older form's; put {} into the entry of ports instead"
    spec.refuse(
        {
            "port": flat,
            "nodePort": flat,
            "tls": flat,
            "protocol": flat,
            "authenticationRef": flat,
            "authorizationRef": flat,
            "authenticationEnabled": instead.format("authenticationRef: NAME"),
            "authorizationEnabled": instead.format("authorizationRef: NAME"),
        }
    )
    item = spec.required("ports")
    if item is None:
        return ()
    entries = item.items()
    if isinstance(item.node, Sequence) and not entries:
        item.add("must have at least one port")
    return tuple(port for entry in entries if (port := _read_port(identity, entry)))


def _read_port(identity: Identity, entry: Item) -> ListenerPort | None:
    with entry.fields() as fields:
        number = fields.required("port")
        _read_node_port(fields)
        protocol = fields.optional("protocol")
        tls = fields.explicit("tls")
        port = ListenerPort(
            number=number.integer(1, 65_535) if number else 0,
            place=number.place if number else entry.place,
            websocket=protocol is not None and protocol.choice(Protocol) is Protocol.WEB_SOCKETS,
            tls=read_tls(identity.namespace, tls) if tls else None,
            authentication=read_reference(
                fields.explicit("authenticationRef"), Kind.AUTHENTICATION, identity.namespace
            ),
            authorization=read_reference(fields.explicit("authorizationRef"), Kind.AUTHORIZATION, identity.namespace),
        )
        if port.authorization and not fields.has("authenticationRef"):
            fields.problems.add(port.authorization.place, _UNGUARDED.format("authenticationRef: NAME"))
    return port if number else None


def _read_node_port(fields: Fields) -> None:
    if item := fields.optional("nodePort"):
        item.integer(1, 65_535)


def _read_flat(identity: Identity, spec: Fields) -> tuple[tuple[ListenerPort, ...], Switches]:
    instead = "does not belong to the form without ports; use {}: true and name the listener in its listenerRef"
    spec.refuse(
        {
            "authenticationRef": instead.format("authenticationEnabled"),
            "authorizationRef": instead.format("authorizationEnabled"),
        }
    )
    number = spec.required("port")
    assert number is not None
    _read_node_port(spec)
    protocol = spec.optional("protocol")
    tls = spec.explicit("tls")
    port = ListenerPort(
        number=number.integer(1, 65_535),
        place=number.place,
        websocket=protocol is not None and protocol.choice(Protocol) is Protocol.WEB_SOCKETS,
        tls=read_tls(identity.namespace, tls) if tls else None,
    )
    switches = Switches(
        _switched_on(spec.explicit("authenticationEnabled")), _switched_on(spec.explicit("authorizationEnabled"))
    )
    if switches.authorization and not switches.authentication:
        spec.problems.add(switches.authorization, _UNGUARDED.format("authenticationEnabled: true"))
    return (port,), switches


def _switched_on(item: Item | None) -> Place | None:
    return item.place if item and item.boolean() else None


def read_tls(namespace: str, item: Item) -> Tls | None:
    """The `tls` of a port, with `mode` or, in older files, without."""
    with item.fields() as fields:
        _refuse_key_vault(fields)
        mode_item = fields.optional("mode")
        manual = fields.optional("manual")
        automatic = fields.optional("certManagerCertificateSpec", "automatic")
        if mode_item:
            mode = mode_item.choice(TlsMode)
        elif manual and not automatic:
            mode = TlsMode.MANUAL
        elif automatic and not manual and fields.has("automatic"):
            mode = TlsMode.AUTOMATIC
        elif fields.broken:
            return None
        else:
            fields.add("mode is missing: Manual or Automatic")
            return None
        if mode is TlsMode.MANUAL:
            if automatic:
                automatic.add("belongs to mode Automatic, and the mode is Manual")
            if not manual:
                fields.add("mode Manual needs manual, with the secretName of the certificate's Secret")
                return None
            with manual.fields() as settings:
                _refuse_key_vault(settings)
                secret = read_secret_reference(settings, namespace, required=True)
            return Tls(secret, None)
        if manual:
            manual.add("belongs to mode Manual, and the mode is Automatic")
        if not automatic:
            fields.add("mode Automatic needs certManagerCertificateSpec, with its issuerRef")
            return None
        return Tls(None, _read_certificate_spec(automatic))


def _refuse_key_vault(fields: Fields) -> None:
    fields.refuse(
        {"keyVault": "Azure Key Vault is not supported; put the certificate into a Secret (manual.secretName)"}
    )


def _read_certificate_spec(item: Item) -> CertificateSpec:
    with item.fields() as fields:
        # Where cert-manager would put the certificate: here it goes to nobody but the port.
        for name in ("secretName", "secretNamespace"):
            if text := fields.optional(name):
                text.text()
        name, kind, group = _read_issuer(fields.required("issuerRef"))
        duration = _read_duration(fields.optional("duration"), DEFAULT_DURATION)
        renew_item = fields.optional("renewBefore")
        renew_before = _read_duration(renew_item, duration * RENEW_BEFORE_SHARE)
        if renew_item and renew_before >= duration:
            renew_item.add("must be less than the duration")
        algorithm, rotation = read_private_key(fields.optional("privateKey"))
        dns_names, ip_addresses = _read_san(fields.optional("san"))
    return CertificateSpec(
        issuer_name=name,
        issuer_kind=kind,
        issuer_group=group,
        duration=duration,
        renew_before=renew_before,
        algorithm=algorithm,
        rotation_policy=rotation,
        dns_names=dns_names,
        ip_addresses=ip_addresses,
    )


def _read_issuer(item: Item | None) -> tuple[str, IssuerKind, str]:
    name, kind, group = "", IssuerKind.ISSUER, "cert-manager.io"
    if item is None:
        return name, kind, group
    with item.fields() as fields:
        if name_item := fields.required("name"):
            name = name_item.text()
        if kind_item := fields.required("kind"):
            kind = kind_item.choice(IssuerKind)
        if group_item := fields.optional("group", "apiGroup"):
            group = group_item.text()
    return name, kind, group


def _read_duration(item: Item | None, default: float) -> float:
    text = item.text() if item else ""
    if item and text:
        try:
            return parse_duration(text)
        except ValueError as error:
            item.add(f"{shown(text)} {error}")
    return default


def read_private_key(item: Item | None) -> tuple[KeyAlgorithm, RotationPolicy]:
    """A `privateKey`: algorithm and rotationPolicy."""
    algorithm, rotation = KeyAlgorithm.EC256, RotationPolicy.ALWAYS
    if item is None:
        return algorithm, rotation
    with item.fields() as fields:
        if algorithm_item := fields.optional("algorithm"):
            algorithm = algorithm_item.choice(KeyAlgorithm)
        if rotation_item := fields.optional("rotationPolicy"):
            rotation = rotation_item.choice(RotationPolicy)
    return algorithm, rotation


def _read_san(item: Item | None) -> tuple[tuple[str, ...], tuple[IPv4Address | IPv6Address, ...]]:
    names: list[str] = []
    addresses: list[IPv4Address | IPv6Address] = []
    if item is None:
        return (), ()
    with item.fields() as fields:
        dns, ip = fields.optional("dns"), fields.optional("ip")
        for entry in dns.items() if dns else ():
            text = entry.text()
            if text and (len(text) > 253 or not _DNS_NAME.fullmatch(text)):
                entry.add(f"{shown(text)} is not a DNS name")
            names.append(text)
        for entry in ip.items() if ip else ():
            text = entry.text()
            try:
                addresses.append(ip_address(text.replace("%", "no zone here")))
            except ValueError:
                if text:
                    entry.add(f"{shown(text)} is not an IP address")
    return tuple(names), tuple(addresses)
