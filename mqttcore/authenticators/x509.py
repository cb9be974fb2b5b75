"""Authentication by the client certificate of the TLS handshake, as the Azure IoT Operations broker does it.

The chain is verified again here, from the certificates that the client presented and with the broker's time, so that
what decides does not depend on how the handshake was configured or resumed.
"""

from collections.abc import Iterable, Mapping

from attrs import frozen
from cryptography.x509 import Certificate, CertificateRevocationList, Version, load_pem_x509_certificates
from cryptography.x509.oid import NameOID

from mqttcore.auth import (
    Authentication,
    Authenticator,
    AuthRequest,
    Denied,
    Granted,
    NotRelevant,
    Review,
    Standing,
    Trace,
)
from mqttcore.authenticators.chain_diagnosis import UNREADABLE, VERSION_1, Refusal, is_authority, name, one_line, quoted
from mqttcore.authenticators.chain_verification import Verifier, oddities_ignored, read_presented
from mqttcore.authenticators.distinguished_names import DistinguishedName, of_certificate, parse
from mqttcore.authenticators.revocation import revocation_lists

METHOD = "X509"
"""What traces call this method."""


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
    with oddities_ignored():
        try:
            certificates = tuple(dict.fromkeys(load_pem_x509_certificates(pem)))
            refusals = [refusal for each in certificates if (refusal := _why_no_anchor(each)) is not None]
        except UNREADABLE as error:
            raise ValueError(f"a certificate cannot be read: {one_line(error)}") from None
    if refusals:
        raise ValueError("; ".join(refusals))
    with oddities_ignored():
        return TrustAnchors(certificates, revocation_lists(pem))


def x509(
    anchors: TrustAnchors, entries: Iterable[SubjectAttributes] = (), devices: Mapping[str, bool] | None = None
) -> Authenticator:
    """An authenticator for clients whose certificate leads to one of `anchors`.

    The user name is the CN of the client's certificate, and empty if it has no CN or several. The attributes are those
    of the first certificate, from the client's on to the anchor, that an entry is for. With `devices`, the names in a
    device registry and whether each is enabled, the CN must be that of an enabled device. The credential expires when
    the first certificate of its chain does, and cannot be renewed on the connection. Raises ValueError when two entries
    are for one subject.
    """
    by_subject: dict[DistinguishedName, SubjectAttributes] = {}
    for entry in entries:
        other = by_subject.setdefault(entry.subject, entry)
        if other is not entry:
            raise ValueError(f"{other.label!r} and {entry.label!r} are for the same subject; join them in one entry")
    verifier = _verifier(anchors)

    def authenticate(request: AuthRequest) -> Authentication:
        if not request.certificates:
            return NotRelevant("no client certificate was presented")
        try:
            with oddities_ignored():
                chain = verifier.verify(read_presented(request.certificates), request.time)
                subjects = [of_certificate(certificate.subject) for certificate in chain]
                username = _common_name(chain[0])
                expires_at = min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
        except Refusal as error:
            return Denied(str(error))
        except Exception as error:
            # The bytes are whatever the client sent; what a parser makes of them must not decide in its favour.
            return Denied(f"the certificates cannot be judged: {type(error).__name__}")
        if devices is not None and (reason := _why_not_enrolled(username, devices)) is not None:
            return Denied(reason)
        attributes: Mapping[str, str] = {}
        for position, subject in enumerate(subjects, 1):
            if (found := by_subject.get(subject)) is not None:
                attributes = found.attributes
                yield Trace(METHOD, "attributes", f"entry {found.label!r} is for certificate {position} of the chain")
                break
        return Granted(username=username, attributes=attributes, expires_at=expires_at, renewable=False, method=METHOD)

    return authenticate


def revoked_by(*anchors: TrustAnchors) -> Review:
    """A review of clients that X509 let in: has a certificate of theirs been revoked?

    Only a CRL that names the certificate, signed by who issued it, ends a connection, whatever its dates. A CRL that is
    badly signed, or out of date and does not name it, or an authority that is trusted no longer, refuses clients when
    they connect. One of `anchors` that has the CRL is enough. The review never raises.
    """
    verifiers = [_verifier(each) for each in anchors if each.revocations]

    def review(standing: Standing, time: float) -> str | None:
        if standing.method != METHOD or not verifiers:
            return None
        try:
            with oddities_ignored():
                presented = read_presented(standing.certificates)
                for verifier in verifiers:
                    if (reason := verifier.why_revoked(presented, time)) is not None:
                        return reason
        except Exception:
            # The client was let in with these certificates. What a parser makes of them today is no revocation.
            return None
        return None

    return review


def enrolled_in(devices: Mapping[str, bool]) -> Review:
    """A review of clients that X509 let in: is each still an enabled device? The names are those of x509()."""

    def review(standing: Standing, time: float) -> str | None:
        if standing.method != METHOD:
            return None
        return _why_not_enrolled(standing.principal.username or "", devices)

    return review


def _verifier(anchors: TrustAnchors) -> Verifier:
    with oddities_ignored():
        return Verifier(anchors.certificates, anchors.revocations)


def _why_not_enrolled(common_name: str, devices: Mapping[str, bool]) -> str | None:
    if not common_name:
        return "the client's certificate has no single Common Name, which would be that of its device"
    if common_name not in devices:
        return f"no device {quoted(common_name)} is registered"
    return None if devices[common_name] else f"the device {quoted(common_name)} is disabled"


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
