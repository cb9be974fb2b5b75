"""Builds the chain from a client's certificate to a trusted authority, and judges it."""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import (
    AuthorityKeyIdentifier,
    BasicConstraints,
    Certificate,
    CertificateRevocationList,
    ExtendedKeyUsage,
    KeyUsage,
    SubjectAlternativeName,
    Version,
    load_der_x509_certificate,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from mqttcore.authenticators.chain_diagnosis import (
    KINDS,
    UNREADABLE,
    VERSION_1,
    Refusal,
    check_validity,
    diagnose,
    has_issued,
    key_kind,
    name,
    one_line,
)
from mqttcore.authenticators.revocation import Link, Revocations

MAXIMUM_CERTIFICATES = 10
"""Certificates that a client may present; real chains have two to four."""
MINIMUM_RSA_BITS = 2048
"""The shortest RSA key in a chain, bits."""


def oddities_ignored() -> AbstractContextManager[object]:
    """Without the library's warnings about names against the standards and the like, with which it puts up.

    A client must not be able to write to the broker's standard error.
    """
    return warnings.catch_warnings(action="ignore")


def read_presented(certificates: Sequence[bytes]) -> list[Certificate]:
    """The certificates that a client presented in DER, each once. Raises Refusal."""
    if len(certificates) > MAXIMUM_CERTIFICATES:
        raise Refusal(f"{len(certificates)} certificates were presented; {MAXIMUM_CERTIFICATES} are allowed")
    found: dict[Certificate, None] = {}
    for position, der in enumerate(certificates, 1):
        try:
            found[load_der_x509_certificate(der)] = None
        except UNREADABLE as error:
            raise Refusal(f"certificate {position} of the chain cannot be read: {one_line(error)}") from None
    return list(found)


class Verifier:
    """Builds and judges chains from a client's certificate to one of a set of anchors, and asks for revocations."""

    def __init__(self, anchors: Iterable[Certificate], revocations: Iterable[CertificateRevocationList]) -> None:
        self._anchors = tuple(anchors)
        self._revocations = Revocations(revocations, self._anchors)
        tops = [each for each in self._anchors if not any(has_issued(other, each) for other in self._anchors)]
        self._lower = [each for each in self._anchors if each not in tops]
        # A chain ends at the first anchor that it reaches. So that it goes up to the highest in the set, whose
        # attributes may be asked for, the highest are tried first on their own.
        self._stores = [Store(each) for each in (tops, list(self._anchors)) if each]

    def verify(self, presented: Sequence[Certificate], time: float) -> list[Certificate]:
        """The chain from the client's certificate to the anchor, none of it revoked. Raises Refusal."""
        now = datetime.fromtimestamp(time, UTC)
        chain = self._chain(presented, now)
        self._revocations.check(chain, now)
        return chain

    def why_revoked(self, presented: Sequence[Certificate], time: float) -> str | None:
        """Which certificate of a client has been revoked, whatever the dates of the list; None if none has.

        The chain is the one that `verify` goes by. If there is none any more, every certificate is looked at that
        vouches for the client's: what an authority has revoked stays so when the authority is no longer trusted.
        """
        if not self._revocations.may_concern(presented):
            return None
        now = datetime.fromtimestamp(time, UTC)
        try:
            links: Iterable[Link] = pairwise(self._chain(presented, now))
        except Refusal:
            links = self._vouching(presented)
        return self._revocations.why_revoked(links)

    def _chain(self, presented: Sequence[Certificate], now: datetime) -> list[Certificate]:
        leaf, *others = presented
        if leaf.version is Version.v1:
            raise Refusal(f"{name(leaf)} {VERSION_1}; version 3 is needed (openssl x509 -req makes it with -extfile)")
        check_validity(leaf, now)
        kind = key_kind(leaf)
        key = leaf.public_key()
        if isinstance(key, RSAPublicKey) and key.key_size < MINIMUM_RSA_BITS:  # the library asks authorities only
            raise Refusal(f"the RSA key of {name(leaf)} has {key.key_size} bits; {MINIMUM_RSA_BITS} are needed")
        error = None
        for store in self._stores:
            builder = PolicyBuilder().store(store).time(now.replace(tzinfo=None))
            builder = builder.extension_policies(ca_policy=_AUTHORITY[kind], ee_policy=_CLIENT)
            try:
                chain = builder.build_client_verifier().verify(leaf, [*others, *self._lower]).chain
            except VerificationError as failure:
                error = failure
                continue
            for certificate in chain:  # the library looks at whole seconds
                check_validity(certificate, now)
            return chain
        raise Refusal(diagnose(presented, self._anchors, now) or one_line(error))

    def _vouching(self, presented: Sequence[Certificate]) -> Iterable[Link]:
        known = dict.fromkeys([*presented[1:], *self._anchors])
        reached = [presented[0]]
        for certificate in reached:
            for authority in known:
                if has_issued(authority, certificate):
                    yield certificate, authority
                    if authority not in reached:
                        reached.append(authority)


def _may_sign(policy: Policy, certificate: Certificate, usage: KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the key usage of an authority does not allow it to sign certificates")


def _may_issue_clients(policy: Policy, certificate: Certificate, usage: ExtendedKeyUsage | None) -> None:
    # As OpenSSL has it: where an authority is restricted to purposes, that of clients must be among them.
    if usage is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise ValueError("the extended key usage of an authority does not allow it to issue client certificates")


def _authority(kind: str) -> ExtensionPolicy:
    """The policy for authorities in a chain whose keys are all of one kind."""

    def same_kind(policy: Policy, certificate: Certificate, constraints: BasicConstraints) -> None:
        if key_kind(certificate) != kind:
            raise ValueError("a key is of another kind")

    return (
        ExtensionPolicy.permit_all()
        .require_present(BasicConstraints, Criticality.AGNOSTIC, same_kind)
        .may_be_present(KeyUsage, Criticality.AGNOSTIC, _may_sign)
        .may_be_present(ExtendedKeyUsage, Criticality.AGNOSTIC, _may_issue_clients)
    )


# The library's defaults are those for web servers. Devices have certificates without a subject alternative name and
# without the key identifier of who issued them; authorities made with "openssl req" have no key usage.
_CLIENT = (
    ExtensionPolicy.webpki_defaults_ee()
    .may_be_present(SubjectAlternativeName, Criticality.AGNOSTIC, None)
    .may_be_present(AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
)
_AUTHORITY = {kind: _authority(kind) for kind in KINDS}
