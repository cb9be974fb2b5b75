"""Certificate revocation lists (RFC 5280, section 5) of the authorities in a chain."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import Certificate, CertificateRevocationList, load_pem_x509_crl

from mqttcore.authenticators.chain_diagnosis import Refusal, name, one_line
from mqttcore.authenticators.distinguished_names import of_certificate

Link = tuple[Certificate, Certificate]
"""A certificate, and that of the authority which issued it."""
_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def revocation_lists(pem: bytes) -> tuple[CertificateRevocationList, ...]:
    """Every list in a PEM text, which may hold certificates as well. Raises ValueError for one that cannot be read."""
    try:
        return tuple(load_pem_x509_crl(block) for block in _PEM.findall(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"a CRL cannot be read: {one_line(error)}") from None


def check_revocation(chain: Sequence[Certificate], lists: Sequence[CertificateRevocationList], now: datetime) -> None:
    """Raise Refusal if an authority of the chain has revoked the certificate below it, or has no list that is in force.

    An authority that no list names is not asked about; one that has a list is, and then a list that is out of date or
    not signed by it speaks against the client, for nothing tells whom a good one would name.
    """
    for certificate, authority in pairwise(chain):
        named = [each for each in lists if is_in_the_name_of(each, authority)]
        signed = [each for each in named if is_signed_by(each, authority)]
        if named and not signed:
            raise Refusal(f"the CRL of {name(authority)} is not signed by it")
        for each in signed:
            if not _is_in_force(each, now):
                raise Refusal(f"the CRL of {name(authority)} is out of date: put a newer one beside the CA certificate")
            if _names(each, certificate):
                raise Refusal(_revoked(certificate, authority))


def why_revoked(links: Iterable[Link], lists: Sequence[CertificateRevocationList], now: datetime) -> str | None:
    """Which of the certificates has been revoked by its authority, with a list in force; None if none has."""
    for certificate, authority in links:
        for each in lists:
            if (
                _names(each, certificate)
                and _is_in_force(each, now)
                and is_in_the_name_of(each, authority)
                and is_signed_by(each, authority)
            ):
                return _revoked(certificate, authority)
    return None


def revoked_numbers(lists: Iterable[CertificateRevocationList]) -> frozenset[int]:
    """The serial numbers of all certificates that lists name, whoever issued them."""
    return frozenset(entry.serial_number for each in lists for entry in each)


def is_in_the_name_of(revocations: CertificateRevocationList, authority: Certificate) -> bool:
    """Whether a list says that it is an authority's."""
    return of_certificate(revocations.issuer) == of_certificate(authority.subject)


def is_signed_by(revocations: CertificateRevocationList, authority: Certificate) -> bool:
    """Whether a list is signed with the key of an authority."""
    key = authority.public_key()
    try:
        return revocations.is_signature_valid(key)  # type: ignore[arg-type]  # another kind of key is a TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _is_in_force(revocations: CertificateRevocationList, now: datetime) -> bool:
    end = revocations.next_update_utc
    return revocations.last_update_utc <= now and (end is None or now <= end)


def _names(revocations: CertificateRevocationList, certificate: Certificate) -> bool:
    return revocations.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def _revoked(certificate: Certificate, authority: Certificate) -> str:
    return f"{name(certificate)} has been revoked by {name(authority)}"
