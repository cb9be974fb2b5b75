"""The local certificate authority: what issues certificates where there is no cert-manager.

It has a root and an intermediate with elliptic-curve keys, and the same with RSA keys, since all keys of a client's
chain have to be of one kind. Times are Unix seconds, and come in as arguments.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from attrs import field, frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509 import (
    AuthorityKeyIdentifier,
    BasicConstraints,
    Certificate,
    CertificateBuilder,
    DNSName,
    ExtendedKeyUsage,
    ExtensionNotFound,
    ExtensionType,
    GeneralName,
    IPAddress,
    KeyUsage,
    Name,
    NameAttribute,
    ObjectIdentifier,
    SubjectAlternativeName,
    SubjectKeyIdentifier,
    load_pem_x509_certificates,
    random_serial_number,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mqttcore.authenticators.chain_diagnosis import UNREADABLE
from trio_broker.errors import ConfigurationError
from trio_broker.resources.configuration import KeyAlgorithm

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Address = IPv4Address | IPv6Address

ORGANIZATION = "trio-broker local authority"
"""The O of every authority of ours; the clients' certificates have it in their issuer."""
DAY = 86_400.0
AUTHORITY_LIFETIME = 3650 * DAY
AUTHORITY_RENEWAL = 30 * DAY
"""An authority that is not valid for this much longer, in seconds, is replaced."""
BACKDATED = 300.0
"""Seconds by which a certificate is valid before it was made: not all clocks agree."""
SERVER_LIFETIME = 90 * DAY
CLIENT_LIFETIME = 365 * DAY
MAXIMUM_COMMON_NAME = 64
"""Bytes of a CN, RFC 5280."""
DNS_NAMES = ("localhost", "aio-broker", "aio-mq-dmqtt-frontend")
ADDRESSES: tuple[Address, ...] = (ip_address("127.0.0.1"), ip_address("::1"))
"""What clients in the documentation, on this machine and in a cluster, call the broker."""

_EC_P256 = partial(ec.generate_private_key, ec.SECP256R1())
_RSA_2048 = partial(rsa.generate_private_key, 65537, 2048)
_GENERATE: Mapping[KeyAlgorithm, Callable[[], PrivateKey]] = {
    KeyAlgorithm.EC256: _EC_P256,
    KeyAlgorithm.EC384: partial(ec.generate_private_key, ec.SECP384R1()),
    KeyAlgorithm.EC521: partial(ec.generate_private_key, ec.SECP521R1()),
    KeyAlgorithm.ED25519: Ed25519PrivateKey.generate,
    KeyAlgorithm.RSA2048: _RSA_2048,
    KeyAlgorithm.RSA4096: partial(rsa.generate_private_key, 65537, 4096),
    KeyAlgorithm.RSA8192: partial(rsa.generate_private_key, 65537, 8192),
}
_PRIVATE_KEY = re.compile(rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----\n?", re.DOTALL)


def renewal_time(not_before: float, not_after: float, renew_before: float | None = None) -> float:
    """When a certificate is due for renewal: `renew_before` seconds before its end.

    Without it, or if the certificate lives no longer than that, when two thirds of its life are over.
    """
    lifetime = not_after - not_before
    if renew_before is None or renew_before >= lifetime:
        renew_before = lifetime / 3
    return not_after - renew_before


@frozen
class Issued:
    """A certificate, those between it and the root, and its key."""

    certificates: tuple[Certificate, ...] = field(repr=lambda chain: repr(chain[0].subject.rfc4514_string()))
    key: PrivateKey = field(repr=lambda _: "<hidden>", eq=False)

    @property
    def not_before(self) -> float:
        """Unix seconds."""
        return self.certificates[0].not_valid_before_utc.timestamp()

    @property
    def not_after(self) -> float:
        """Unix seconds."""
        return self.certificates[0].not_valid_after_utc.timestamp()

    @property
    def chain_pem(self) -> bytes:
        """The certificates, the own one first."""
        return certificates_pem(self.certificates)

    @property
    def key_pem(self) -> bytes:
        """The private key, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """From certificates and one key. Raises ValueError if it is something else, or they do not belong together."""
        found = _PRIVATE_KEY.findall(pem)
        if len(found) != 1:
            raise ValueError("there is not one private key")
        try:
            certificates = load_pem_x509_certificates(pem)
            key = load_pem_private_key(found[0], None)
            belongs = key.public_key() == certificates[0].public_key()
        except UNREADABLE as error:
            raise ValueError(str(error)) from None
        if not belongs or not isinstance(key, PrivateKey):
            raise ValueError("the private key does not belong to the certificate")
        return cls(tuple(certificates), key)

    def is_for(self, algorithm: KeyAlgorithm, dns_names: Iterable[str], addresses: Iterable[Address]) -> bool:
        """Whether it has a key of this kind and exactly these names."""
        try:
            value = self.certificates[0].extensions.get_extension_for_class(SubjectAlternativeName).value
        except ExtensionNotFound:
            return False
        return self.has_key(algorithm) and set(value) == set(_general_names(dns_names, addresses))

    def has_key(self, algorithm: KeyAlgorithm) -> bool:
        """Whether its key is of this kind."""
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return algorithm.value == f"Ec{self.key.key_size}"
            case rsa.RSAPrivateKey():
                return algorithm.value == f"Rsa{self.key.key_size}"
        return algorithm is KeyAlgorithm.ED25519


@frozen
class LocalAuthority:
    """A root and an intermediate for elliptic-curve keys, and for RSA keys. The keys of the roots are not kept.

    In each of them the certificates are the intermediate's and the root's, and the key is the intermediate's.
    """

    ec: Issued
    rsa: Issued

    @classmethod
    def create(cls, now: float) -> Self:
        """A new one."""
        return cls(_hierarchy("EC", _EC_P256, now), _hierarchy("RSA", _RSA_2048, now))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """What `pem` was. Raises ValueError if it is something else."""
        parts = [match.end() for match in _PRIVATE_KEY.finditer(pem)]
        if len(parts) != 2:
            raise ValueError("there are not two private keys")
        found = cls(Issued.from_pem(pem[: parts[0]]), Issued.from_pem(pem[parts[0] :]))
        for issued in (found.ec, found.rsa):
            if len(issued.certificates) != 2 or not isinstance(issued.key, SigningKey):
                raise ValueError("there are not an intermediate and a root")
        return found

    @property
    def pem(self) -> bytes:
        """All of it, with the private keys."""
        return b"".join(issued.chain_pem + issued.key_pem for issued in (self.ec, self.rsa))

    @property
    def roots_pem(self) -> bytes:
        """The roots: what to trust, on either side."""
        return certificates_pem(issued.certificates[-1] for issued in (self.ec, self.rsa))

    @property
    def chain_pem(self) -> bytes:
        """The intermediates, each with its root behind it."""
        return self.ec.chain_pem + self.rsa.chain_pem

    def is_due(self, now: float) -> bool:
        """Whether it is time for another one."""
        return now >= min(self.ec.not_after, self.rsa.not_after) - AUTHORITY_RENEWAL

    def has_issued(self, issued: Issued) -> bool:
        """Whether this authority, and not an earlier one, issued a certificate."""
        return issued.certificates[1:2] in (self.ec.certificates[:1], self.rsa.certificates[:1])

    def issue_server(
        self,
        now: float,
        *,
        dns_names: Iterable[str] = DNS_NAMES,
        addresses: Iterable[Address] = ADDRESSES,
        algorithm: KeyAlgorithm = KeyAlgorithm.EC256,
        lifetime: float = SERVER_LIFETIME,
        previous: Issued | None = None,
    ) -> Issued:
        """A server certificate for these names that is valid for `lifetime` seconds, or as long as the authority is.

        The key is that of `previous` where that is given and of the algorithm. Raises ConfigurationError for a name
        that is none. A long RSA key takes seconds.
        """
        names = _general_names(dns_names, addresses)
        if not names:
            raise ConfigurationError("a server certificate needs a DNS name or an IP address")
        key = previous.key if previous is not None and previous.has_key(algorithm) else _GENERATE[algorithm]()
        common_name = next((name.value for name in names if isinstance(name, DNSName)), "")
        fits = 0 < len(common_name) <= MAXIMUM_COMMON_NAME
        subject = Name([NameAttribute(NameOID.COMMON_NAME, common_name)] if fits else [])
        validity = now - BACKDATED, now + lifetime
        alternatives: list[tuple[ExtensionType, bool]] = [(SubjectAlternativeName(names), not fits)]
        return self._issue(subject, key, validity, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def issue_client(
        self,
        common_name: str,
        now: float,
        *,
        rsa_key: bool = False,
        lifetime: float = CLIENT_LIFETIME,
        expired: bool = False,
    ) -> Issued:
        """A client certificate that is valid for `lifetime` seconds, or was and expired a day ago.

        Raises ConfigurationError for a name that a certificate cannot have.
        """
        subject = Name([NameAttribute(NameOID.COMMON_NAME, check_common_name(common_name))])
        key = _RSA_2048() if rsa_key else _EC_P256()
        validity = (now - DAY - lifetime, now - DAY) if expired else (now - BACKDATED, now + lifetime)
        return self._issue(subject, key, validity, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def _issue(
        self,
        subject: Name,
        key: PrivateKey,
        validity: tuple[float, float],
        purpose: ObjectIdentifier,
        extensions: list[tuple[ExtensionType, bool]],
    ) -> Issued:
        # A chain has keys of one kind. That rule is for clients, who have no Ed25519 keys.
        issuer = self.rsa if isinstance(key, rsa.RSAPrivateKey) else self.ec
        not_before, not_after = validity
        certificate = _sign(
            subject,
            key,
            issuer,
            (not_before, min(not_after, issuer.not_after)),
            [
                (BasicConstraints(False, None), True),
                (_key_usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPrivateKey)), True),
                (ExtendedKeyUsage([purpose]), False),
                *extensions,
            ],
        )
        return Issued((certificate, issuer.certificates[0]), key)


def certificates_pem(certificates: Iterable[Certificate]) -> bytes:
    """The certificates in PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def check_common_name(name: str) -> str:
    """The name, if a certificate can have it as its CN. Raises ConfigurationError."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name!r} is not Unicode text, and no CN") from None
    if not 0 < size <= MAXIMUM_COMMON_NAME:
        raise ConfigurationError(f"a CN has 1 to {MAXIMUM_COMMON_NAME} bytes, and {name!r} has {size}")
    if not name.isprintable():
        raise ConfigurationError(f"{name!r} has characters that cannot be printed, and is no CN")
    return name


def _general_names(dns_names: Iterable[str], addresses: Iterable[Address]) -> list[GeneralName]:
    names: list[GeneralName] = []
    for name in dict.fromkeys(dns_names):
        try:
            names.append(DNSName(name))
        except ValueError:
            raise ConfigurationError(f"{name!r} is no DNS name; write an international one in its xn-- form") from None
    return names + [IPAddress(address) for address in dict.fromkeys(addresses)]


def _hierarchy(kind: str, generate: Callable[[], SigningKey], now: float) -> Issued:
    validity = now - BACKDATED, now + AUTHORITY_LIFETIME
    usage = _key_usage(key_cert_sign=True, crl_sign=True), True
    root_key, key = generate(), generate()
    root = Issued(
        (_sign(_authority_name(f"{kind} root"), root_key, None, validity, [(BasicConstraints(True, 1), True), usage]),),
        root_key,
    )
    name = _authority_name(f"{kind} intermediate")
    intermediate = _sign(name, key, root, validity, [(BasicConstraints(True, 0), True), usage])
    return Issued((intermediate, *root.certificates), key)


def _authority_name(common_name: str) -> Name:
    return Name(
        [
            NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            NameAttribute(NameOID.COMMON_NAME, f"{ORGANIZATION} {common_name}"),
        ]
    )


def _sign(
    subject: Name,
    key: PrivateKey,
    issuer: Issued | None,
    validity: tuple[float, float],
    extensions: list[tuple[ExtensionType, bool]],
) -> Certificate:
    """A certificate by `issuer`, or self-signed."""
    signing = issuer.key if issuer else key
    assert isinstance(signing, SigningKey)
    not_before, not_after = (datetime.fromtimestamp(int(time), UTC) for time in validity)
    builder = CertificateBuilder(
        issuer.certificates[0].subject if issuer else subject,
        subject,
        key.public_key(),
        random_serial_number(),
        not_before,
        not_after,
    )
    for extension, critical in (
        *extensions,
        (SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical)
    return builder.sign(signing, hashes.SHA256())


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> KeyUsage:
    return KeyUsage(digital_signature, False, key_encipherment, False, False, key_cert_sign, crl_sign, False, False)
