"""Certificate revocation lists (RFC 5280, section 5) of the authorities in a chain."""

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import Certificate, CertificateRevocationList, load_pem_x509_crl

from mqttcore.authenticators.chain_diagnosis import Refusal, name, one_line
from mqttcore.authenticators.distinguished_names import of_certificate

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
        subject = of_certificate(authority.subject)
        named = [each for each in lists if of_certificate(each.issuer) == subject]
        signed = [each for each in named if _is_signed_by(each, authority)]
        if named and not signed:
            raise Refusal(f"the CRL of {name(authority)} is not signed by it")
        for each in signed:
            if each.last_update_utc > now or (each.next_update_utc is not None and each.next_update_utc < now):
                raise Refusal(f"the CRL of {name(authority)} is out of date: put a newer one beside the CA certificate")
            if each.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                raise Refusal(f"{name(certificate)} has been revoked by {name(authority)}")


def _is_signed_by(revocations: CertificateRevocationList, authority: Certificate) -> bool:
    key = authority.public_key()
    try:
        return revocations.is_signature_valid(key)  # type: ignore[arg-type]  # another kind of key is a TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
