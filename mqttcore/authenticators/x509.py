"""Authentication by the client certificate of the TLS handshake, as the Azure IoT Operations broker does it.

The chain is verified again here, from the certificates that the client presented and with the broker's time, so that
what decides does not depend on how the handshake was configured or resumed.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from attrs import frozen
from cryptography.exceptions import UnsupportedAlgorithm
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
    load_pem_x509_certificates,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from mqttcore.auth import Authentication, Authenticator, AuthRequest, Denied, Granted, NotRelevant, Trace
from mqttcore.authenticators.chain_diagnosis import (
    KINDS,
    VERSION_1,
    Refusal,
    check_validity,
    diagnose,
    has_issued,
    is_authority,
    key_kind,
    name,
    one_line,
)
from mqttcore.authenticators.distinguished_names import DistinguishedName, of_certificate, parse
from mqttcore.authenticators.revocation import check_revocation, revocation_lists

METHOD = "X509"
"""What traces call this method."""
MAXIMUM_CERTIFICATES = 10
"""Certificates that a client may present; real chains have two to four."""
MINIMUM_RSA_BITS = 2048
"""The shortest RSA key in a chain, bits."""


@frozen
class TrustAnchors:
    """The certificates of the authorities, root or intermediate, whose clients are let in, and CRLs of theirs."""

    certificates: tuple[Certificate, ...]
    revocations: tuple[CertificateRevocationList, ...] = ()


@frozen
class SubjectAttributes:
    """The attributes that the certificate with this subject gives; `label` is what a trace calls the entry."""

    label: str
    subject: DistinguishedName
    attributes: Mapping[str, str]


def subject_attributes(label: str, subject: str, attributes: Mapping[str, str]) -> SubjectAttributes:
    """An entry from what a user wrote. Raises ValueError that says what is wrong with the subject."""
    try:
        return SubjectAttributes(label, parse(subject), dict(attributes))
    except ValueError as error:
        raise ValueError(f"the subject of {label!r}, {subject!r}, is no distinguished name: {error}") from None


def trust_anchors(pem: bytes) -> TrustAnchors:
    """Every certificate and every CRL in a PEM text; what else is there is passed over.

    Raises ValueError, with all that is wrong in one line: a certificate or CRL that cannot be read, a certificate that
    is no authority's, or none at all.
    """
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError("there is no certificate (-----BEGIN CERTIFICATE-----) to trust")
    with _oddities_ignored():
        try:
            certificates = tuple(dict.fromkeys(load_pem_x509_certificates(pem)))
            refusals = [refusal for each in certificates if (refusal := _why_no_anchor(each)) is not None]
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(f"a certificate cannot be read: {one_line(error)}") from None
    if refusals:
        raise ValueError("; ".join(refusals))
    return TrustAnchors(certificates, revocation_lists(pem))


def _oddities_ignored() -> AbstractContextManager[object]:
    # The library warns of names against the standards and the like, and puts up with them. A client must not be able
    # to write to the broker's standard error.
    return warnings.catch_warnings(action="ignore")


def x509(anchors: TrustAnchors, entries: Iterable[SubjectAttributes] = ()) -> Authenticator:
    """An authenticator for clients whose certificate leads to one of `anchors`.

    The user name is the CN of the client's certificate, and empty if it has no CN or several. The attributes are those
    of the first certificate, from the client's on to the anchor, that an entry is for. The credential expires when the
    first certificate of its chain does, and cannot be renewed on the connection. Raises ValueError when two entries
    are for one subject.
    """
    by_subject: dict[DistinguishedName, SubjectAttributes] = {}
    for entry in entries:
        other = by_subject.setdefault(entry.subject, entry)
        if other is not entry:
            raise ValueError(f"{other.label!r} and {entry.label!r} are for the same subject; join them in one entry")
    with _oddities_ignored():
        verifier = _Verifier(anchors)

    def authenticate(request: AuthRequest) -> Authentication:
        if not request.certificates:
            return NotRelevant("no client certificate was presented")
        try:
            with _oddities_ignored():
                presented = _read(request.certificates)
                chain = verifier.verify(presented, request.time)
                subjects = [of_certificate(certificate.subject) for certificate in chain]
                username = _common_name(chain[0])
                expires_at = min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
        except Refusal as error:
            return Denied(str(error))
        except Exception as error:
            # The bytes are whatever the client sent; what a parser makes of them must not decide in its favour.
            return Denied(f"the certificates cannot be judged: {type(error).__name__}")
        attributes: Mapping[str, str] = {}
        for position, subject in enumerate(subjects, 1):
            if (found := by_subject.get(subject)) is not None:
                attributes = found.attributes
                yield Trace(METHOD, "attributes", f"entry {found.label!r} is for certificate {position} of the chain")
                break
        return Granted(username=username, attributes=attributes, expires_at=expires_at, renewable=False)

    return authenticate


def _read(certificates: Sequence[bytes]) -> list[Certificate]:
    if len(certificates) > MAXIMUM_CERTIFICATES:
        raise Refusal(f"{len(certificates)} certificates were presented; {MAXIMUM_CERTIFICATES} are allowed")
    found: dict[Certificate, None] = {}
    for position, der in enumerate(certificates, 1):
        try:
            found[load_der_x509_certificate(der)] = None
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Refusal(f"certificate {position} of the chain cannot be read: {one_line(error)}") from None
    return list(found)


class _Verifier:
    """Builds and judges chains from a client's certificate to one of a set of anchors."""

    def __init__(self, anchors: TrustAnchors) -> None:
        self._anchors = anchors.certificates
        self._revocations = anchors.revocations
        tops = [each for each in self._anchors if not any(has_issued(other, each) for other in self._anchors)]
        self._lower = [each for each in self._anchors if each not in tops]
        # A chain ends at the first anchor that it reaches. So that it goes up to the highest in the set, whose
        # attributes may be asked for, the highest are tried first on their own.
        self._stores = [Store(each) for each in (tops, list(self._anchors)) if each]

    def verify(self, presented: Sequence[Certificate], time: float) -> list[Certificate]:
        """The chain from the client's certificate to the anchor. Raises Refusal."""
        leaf, *others = presented
        now = datetime.fromtimestamp(time, UTC)
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
            check_revocation(chain, self._revocations, now)
            return chain
        raise Refusal(diagnose(presented, self._anchors, now) or one_line(error))


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


def _why_no_anchor(certificate: Certificate) -> str | None:
    """Why a certificate cannot be trusted as an authority's; None if it can."""
    if certificate.version is Version.v1:
        return f"{name(certificate)} {VERSION_1}, which cannot say that it is an authority's"
    if not is_authority(certificate):
        # A client's certificate in this place would vouch for itself.
        return f"{name(certificate)} is not the certificate of an authority (basicConstraints CA:TRUE)"
    return None


def _common_name(certificate: Certificate) -> str:
    # Not None, which would let the client choose in CONNECT; and not one of several, among which the authority did
    # not choose.
    names = {attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    only = names.pop() if len(names) == 1 else ""
    return only if isinstance(only, str) else ""
