"""Certificates of every kind, good and bad."""

import datetime as dt
from collections.abc import Sequence
from functools import cache

from attrs import field, frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    CertificateBuilder,
    ExtendedKeyUsage,
    ExtensionType,
    Name,
    NameAttribute,
    load_der_x509_certificate,
    random_serial_number,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

AUTHORITY = (BasicConstraints(True, None),)
FOR_SERVERS = (ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),)


@cache
def key(kind: str, number: int = 0) -> PrivateKey:
    """The same key for the same arguments: RSA keys take long to make."""
    if kind == "EC":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 1024 if kind == "short RSA" else 2048)


@frozen
class Identity:
    """A certificate and its key."""

    certificate: Certificate
    key: PrivateKey = field(repr=False)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def dn(text: str | Name) -> Name:
    """`text` from a CN alone, or as RFC 4514 has it."""
    if isinstance(text, Name):
        return text
    return Name.from_rfc4514_string(text) if "=" in text else Name([NameAttribute(NameOID.COMMON_NAME, text)])


def issue(
    subject: str | Name,
    issuer: Identity | None = None,
    *,
    own: PrivateKey | None = None,
    kind: str = "EC",
    extensions: Sequence[ExtensionType] = (),
    critical: bool = False,
    number: int | None = None,
    validity: tuple[dt.datetime, dt.datetime] = (NOW - DAY, NOW + 30 * DAY),
) -> Identity:
    """A certificate, self-signed without an issuer; the key is of `kind` and of its subject's own unless given."""
    own = own or key(kind, hash(subject))
    issuer_name = issuer.certificate.subject if issuer else dn(subject)
    builder = CertificateBuilder(
        issuer_name, dn(subject), own.public_key(), number or random_serial_number(), *validity
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical)
    signing = issuer.key if issuer else own
    algorithm = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Identity(builder.sign(signing, algorithm), own)


def length(data: bytes) -> bytes:
    if len(data) < 128:
        return bytes([len(data)])
    return b"\x81" + bytes([len(data)]) if len(data) < 256 else b"\x82" + len(data).to_bytes(2, "big")


def tagged(tag: int, data: bytes) -> bytes:
    """A DER value."""
    return bytes([tag]) + length(data) + data


def version_1(identity: Identity, issuer: Identity) -> Identity:
    """The certificate again as X.509 version 1, which the library reads and does not write."""
    der = identity.certificate.tbs_certificate_bytes
    header = 4 if der[1] == 0x82 else 3
    content = der[header:]
    assert content[:5] == b"\xa0\x03\x02\x01\x02"  # the version
    tbs = tagged(0x30, content[5:])
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return Identity(
        load_der_x509_certificate(tagged(0x30, tbs + algorithm + tagged(0x03, b"\0" + signature))), identity.key
    )
