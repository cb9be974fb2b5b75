"""Checks that PEM material is what it is meant to be. What is wrong names the resource, the key and the reason."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mqttcore.authenticators.revocation import is_in_the_name_of, is_signed_by, revocation_lists
from mqttcore.authenticators.x509 import trust_anchors
from trio_broker.resources.objects import Bundle, Datum
from trio_broker.resources.problems import Problems, nearest, printable, shown

CERTIFICATE, PRIVATE_KEY = "tls.crt", "tls.key"
"""The keys of a Secret with a certificate."""
MAXIMUM_CERTIFICATES = 1000
"""Certificates in one ConfigMap or Secret."""
T = TypeVar("T")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@frozen
class PemChecker:
    """Checks material as of a moment: a certificate that is not valid then is worth a warning."""

    problems: Problems
    now: datetime

    def key_pair(self, bundle: Bundle) -> tuple[bytes, bytes] | None:
        """The certificate chain and the private key of a Secret; None with problems."""
        chain, key = self._entry(bundle, CERTIFICATE), self._entry(bundle, PRIVATE_KEY)
        certificates = chain.certificates() if chain else []
        public = key.public_key() if key else None
        if chain is None or key is None or public is None or not certificates:
            return None
        if _public_bytes(certificates[0]) != public:
            key.add(f"does not belong to the first certificate under {CERTIFICATE}")
            return None
        chain.warn_about_dates(certificates[:1], self.now)
        return chain.datum.content, key.datum.content

    def bundle(self, bundle: Bundle, *, authorities: bool = False) -> bytes | None:
        """All certificates to trust of a ConfigMap, and CRLs if it has some; None with problems.

        `authorities` says that each must be an authority's, and that CRLs count.
        """
        entries = [_Entry(self.problems, bundle, key, datum) for key, datum in bundle.data.items()]
        trusted: list[x509.Certificate] = []
        for entry in entries:
            certificates = entry.certificates(revocations=True)
            if authorities:
                entry.check_authorities(certificates)
            entry.warn_about_dates(certificates, self.now)
            trusted += certificates
        if not trusted:
            self.problems.add(bundle.identity.place, f"{bundle.identity} holds no certificate")
            return None
        if authorities:
            for entry in entries:
                entry.check_revocations(trusted, self.now)
        return b"".join(entry.datum.content.strip() + b"\n" for entry in entries)

    def _entry(self, bundle: Bundle, key: str) -> "_Entry | None":
        if key in bundle.data:
            return _Entry(self.problems, bundle, key, bundle.data[key])
        text = f"{bundle.identity} has no key {key}, which it needs"
        self.problems.add(bundle.identity.place, text, nearest(key, bundle.data))
        return None


@frozen
class _Entry:
    problems: Problems
    bundle: Bundle
    key: str
    datum: Datum

    def add(self, message: str) -> None:
        self.problems.add(self.datum.place, f"{self._name} {message}")

    @property
    def _name(self) -> str:
        return f"key {shown(self.key)} of {self.bundle.identity}"

    def certificates(self, *, revocations: bool = False) -> list[x509.Certificate]:
        certificates: list[x509.Certificate] = []
        blocks = list(_BLOCK.finditer(self.datum.content))
        if not blocks:
            self.add("holds no certificate in PEM format (-----BEGIN CERTIFICATE-----)")
        if len(blocks) > MAXIMUM_CERTIFICATES:
            self.add(f"holds more than {MAXIMUM_CERTIFICATES} certificates")
            return []
        for number, block in enumerate(blocks, 1):
            if block[1] == b"CERTIFICATE":
                certificate = self._parsed(x509.load_pem_x509_certificate, block[0], f"a certificate (block {number})")
                certificates += [certificate] if certificate else []
            elif block[1] == b"X509 CRL" and revocations:
                self._parsed(x509.load_pem_x509_crl, block[0], f"a CRL (block {number})")
            else:
                self.add(f"holds a {block[1].decode().lower()}, which does not belong there")
        return certificates

    def _parsed(self, load: Callable[[bytes], T], block: bytes, what: str) -> T | None:
        try:
            with warnings.catch_warnings(action="ignore"):
                return load(block)
        except Exception:  # whatever the parsers raise
            self.add(f"holds something that cannot be read as {what}")
            return None

    def public_key(self) -> bytes | None:
        if b"-----BEGIN " not in self.datum.content:
            self.add("holds no private key in PEM format (-----BEGIN PRIVATE KEY-----)")
            return None
        try:
            key = load_pem_private_key(self.datum.content, None)
        except TypeError:
            self.add("is encrypted; write it unencrypted with: openssl pkey -in OLD -out NEW")
        except Exception:  # whatever the parsers raise; their texts may quote the key
            self.add("holds a private key that cannot be read")
        else:
            return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return None

    def check_authorities(self, certificates: Iterable[x509.Certificate]) -> None:
        """A certificate that is trusted must be an authority's: another would vouch for itself."""
        for certificate in certificates:
            try:
                trust_anchors(certificate.public_bytes(Encoding.PEM))
            except ValueError as error:
                self.add(f"cannot be trusted: {printable(str(error))}")

    def check_revocations(self, trusted: Sequence[x509.Certificate], now: datetime) -> None:
        """A CRL that cannot count, or that refuses everybody, is worth a warning."""
        try:
            with warnings.catch_warnings(action="ignore"):
                for revocations in revocation_lists(self.datum.content):
                    for wrong in _wrong_with(revocations, trusted, now):
                        issuer = shown(printable(revocations.issuer.rfc4514_string()))
                        self.problems.warn(self.datum.place, f"the CRL of {issuer} in {self._name} {wrong}")
        except Exception:  # whatever the parsers raise
            self.add("holds a CRL that cannot be read")

    def warn_about_dates(self, certificates: Iterable[x509.Certificate], now: datetime) -> None:
        for certificate in certificates:
            wrong = ""
            if certificate.not_valid_after_utc < now:
                wrong = f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            elif certificate.not_valid_before_utc > now:
                wrong = f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            if wrong:
                self.problems.warn(self.datum.place, f"{_subject(certificate)} in {self._name} {wrong}")


def _wrong_with(
    revocations: x509.CertificateRevocationList, trusted: Sequence[x509.Certificate], now: datetime
) -> Iterator[str]:
    named = [certificate for certificate in trusted if is_in_the_name_of(revocations, certificate)]
    if not named:
        yield "belongs to none of the certificates there: it counts for clients that present that of its authority"
    elif not any(is_signed_by(revocations, certificate) for certificate in named):
        yield "is not signed with the key of that authority: without another, its clients are refused"
    if revocations.next_update_utc is not None and revocations.next_update_utc < now:
        ended = f"{revocations.next_update_utc:%Y-%m-%d %H:%M} UTC"
        yield f"went out of date on {ended}: until there is a newer one, clients of that authority are refused"
    elif revocations.last_update_utc > now:
        begins = f"{revocations.last_update_utc:%Y-%m-%d %H:%M} UTC"
        yield f"is not in force before {begins}: until then, clients of that authority are refused"


def _subject(certificate: x509.Certificate) -> str:
    try:
        with warnings.catch_warnings(action="ignore"):
            return shown(printable(certificate.subject.rfc4514_string()))
    except ValueError:
        return "a certificate"


def _public_bytes(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # a kind of key that cryptography does not know
        return None
