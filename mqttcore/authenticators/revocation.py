"""Certificate revocation lists (RFC 5280, section 5) of the authorities in a chain."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from itertools import pairwise

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import Certificate, CertificateRevocationList, load_pem_x509_crl

from mqttcore.authenticators.chain_diagnosis import UNREADABLE, Refusal, name, one_line
from mqttcore.authenticators.distinguished_names import DistinguishedName, of_certificate

Link = tuple[Certificate, Certificate]
"""A certificate, and that of the authority which issued it."""
REMEMBERED_AUTHORITIES = 16
"""Authorities that are no anchors, of which a list remembers whether it is signed by them."""
_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def revocation_lists(pem: bytes) -> tuple[CertificateRevocationList, ...]:
    """Every list in a PEM text, which may hold certificates as well. Raises ValueError for one that cannot be read."""
    try:
        lists = tuple(load_pem_x509_crl(block) for block in _PEM.findall(pem))
        for each in lists:
            of_certificate(each.issuer)  # which the library reads only now
    except UNREADABLE as error:
        raise ValueError(f"a CRL cannot be read: {one_line(error)}") from None
    return lists


class Revocations:
    """The lists that are there for a set of anchors.

    What takes time with long lists, to check their signatures and to read their entries, is done here and once, and not
    for each client.
    """

    def __init__(self, lists: Iterable[CertificateRevocationList], anchors: Iterable[Certificate]) -> None:
        by_name: dict[DistinguishedName, list[Certificate]] = {}
        for anchor in anchors:
            by_name.setdefault(of_certificate(anchor.subject), []).append(anchor)
        self._by_issuer: dict[DistinguishedName, list[_List]] = {}
        for each in lists:
            issuer = of_certificate(each.issuer)
            self._by_issuer.setdefault(issuer, []).append(_List(each, by_name.get(issuer, ())))
        # A certificate that is its own issuer's ends every chain as an anchor: nobody is asked about it.
        self._anybody = any(
            self._may_name(each) for namesakes in by_name.values() for each in namesakes if each.issuer != each.subject
        )

    def check(self, chain: Sequence[Certificate], now: datetime) -> None:
        """Raise Refusal if an authority of the chain has revoked the certificate below it, or has no list in force.

        An authority that no list names is not asked about; one that has a list is, and then a list that is out of date
        or not signed by it speaks against the client, for nothing tells whom a good one would name.
        """
        for certificate, authority in pairwise(chain):
            named = self._in_the_name_of(authority)
            signed = [each for each in named if each.is_signed_by(authority)]
            if named and not signed:
                raise Refusal(f"the CRL of {name(authority)} is not signed by it")
            for each in signed:
                if not each.is_in_force(now):
                    whose = f"the CRL of {name(authority)}"
                    raise Refusal(f"{whose} is out of date: put a newer one beside the CA certificate")
                if each.has_number_of(certificate):
                    raise Refusal(_revoked(certificate, authority))

    def why_revoked(self, links: Iterable[Link]) -> str | None:
        """Which of the certificates has been revoked by its authority; None if none has.

        The dates of a list do not matter: what an authority has signed about a certificate is so, also when its clock
        is ahead or its next list is late.
        """
        for certificate, authority in links:
            for each in self._in_the_name_of(authority):
                if each.has_number_of(certificate) and each.is_signed_by(authority):
                    return _revoked(certificate, authority)
        return None

    def may_concern(self, presented: Iterable[Certificate]) -> bool:
        """Whether a list, whoever signed it, names one of the certificates or an anchor, which anybody may be under.

        Most certificates are named by no list, and that is quickly seen.
        """
        return self._anybody or any(map(self._may_name, presented))

    def _may_name(self, certificate: Certificate) -> bool:
        # The numbers first: to compare names takes longer.
        issuers = [
            issuer
            for issuer, lists in self._by_issuer.items()
            if any(each.has_number_of(certificate) for each in lists)
        ]
        return bool(issuers) and _issuer(certificate) in issuers

    def _in_the_name_of(self, authority: Certificate) -> Sequence["_List"]:
        return self._by_issuer.get(of_certificate(authority.subject), ())


class _List:
    """A list, with what is asked about it for each client at hand."""

    def __init__(self, revocations: CertificateRevocationList, anchors: Iterable[Certificate]) -> None:
        """`anchors` are those in whose name the list is."""
        self._numbers = frozenset(entry.serial_number for entry in revocations)
        self._begin, self._end = revocations.last_update_utc, revocations.next_update_utc
        self._by_anchor = {each: is_signed_by(revocations, each) for each in anchors}
        self._by_others = lru_cache(REMEMBERED_AUTHORITIES)(partial(is_signed_by, revocations))

    def has_number_of(self, certificate: Certificate) -> bool:
        """Whether it names a certificate, if that is its authority's."""
        return certificate.serial_number in self._numbers

    def is_in_force(self, now: datetime) -> bool:
        return self._begin <= now and (self._end is None or now <= self._end)

    def is_signed_by(self, authority: Certificate) -> bool:
        known = self._by_anchor.get(authority)
        return self._by_others(authority) if known is None else known


def is_in_the_name_of(revocations: CertificateRevocationList, authority: Certificate) -> bool:
    """Whether a list says that it is an authority's."""
    return of_certificate(revocations.issuer) == of_certificate(authority.subject)


def is_signed_by(revocations: CertificateRevocationList, authority: Certificate) -> bool:
    """Whether a list is signed with the key of an authority."""
    try:
        key = authority.public_key()
        return revocations.is_signature_valid(key)  # type: ignore[arg-type]  # another kind of key is a TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _issuer(certificate: Certificate) -> DistinguishedName | None:
    """The name of who issued a certificate; None if it cannot be read, and so is in no chain."""
    try:
        return of_certificate(certificate.issuer)
    except ValueError:
        return None


def _revoked(certificate: Certificate, authority: Certificate) -> str:
    return f"{name(certificate)} has been revoked by {name(authority)}"
