"""What is wrong with a chain of certificates, in words for whoever made them."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    ExtendedKeyUsage,
    ExtensionNotFound,
    InvalidVersion,
    Version,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

UNREADABLE = (ValueError, UnsupportedAlgorithm, InvalidVersion)
"""What the library raises for a certificate or a list that it cannot read."""
KINDS = ("EC", "RSA")
"""The kinds of keys that a chain may have, all of one kind."""
VERSION_1 = "is a certificate of X.509 version 1"
MAXIMUM_NAME = 100
"""Characters of a certificate's subject in a message."""

Extension = TypeVar("Extension", BasicConstraints, ExtendedKeyUsage)


class Refusal(Exception):
    """The chain is not good; the message says why."""


def diagnose(presented: Sequence[Certificate], anchors: Sequence[Certificate], now: datetime) -> str | None:
    """Why a chain that the verifier refuses is not good; None if it is nothing of the usual."""
    try:
        return _diagnose(presented, anchors, now)
    except Refusal as refusal:
        return str(refusal)
    except Exception:
        # Extensions and names are parsed only now, and the client chose their bytes. It is refused in any case.
        return None


def _diagnose(presented: Sequence[Certificate], anchors: Sequence[Certificate], now: datetime) -> str | None:
    leaf = certificate = presented[0]
    if is_authority(leaf):
        return f"{name(leaf)} is the certificate of an authority (CA:TRUE); a client needs one of its own"
    purposes = _extension(leaf, ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        return f"{name(leaf)} is not for clients: its extended key usage has no clientAuth"
    known = list(dict.fromkeys([*anchors, *presented[1:]]))
    for _ in range(len(known)):
        namesakes = [each for each in known if each.subject == certificate.issuer]
        issuer = next((each for each in namesakes if _signed(each, certificate)), None)
        if issuer is None or issuer == certificate:
            return _dead_end(certificate, namesakes)
        check_validity(issuer, now)
        if issuer.version is Version.v1:
            return f"{name(issuer)}, an authority, {VERSION_1}; version 3 is needed"
        if not is_authority(issuer):
            return f"{name(issuer)} is not an authority (no basicConstraints CA:TRUE) and issued {name(certificate)}"
        if key_kind(issuer) != key_kind(leaf):
            return (
                "the keys of a chain must be all EC or all RSA:"
                f" that of {name(leaf)} is {key_kind(leaf)}, that of {name(issuer)} {key_kind(issuer)}"
            )
        if issuer in anchors:
            return None
        certificate = issuer
    return None


def _dead_end(certificate: Certificate, namesakes: Sequence[Certificate]) -> str:
    """Why a chain does not go on from a certificate; `namesakes` are known and have the name of its issuer."""
    issuer = quoted(certificate.issuer.rfc4514_string())
    if certificate.issuer == certificate.subject:
        return f"{name(certificate)} is self-signed and not among the trusted authorities"
    if namesakes:
        return f"{name(certificate)} is not signed with the key of the {issuer} that is known here"
    return (
        f"{name(certificate)} was issued by {issuer},"
        " which is neither trusted nor among the certificates that the client presented"
    )


def check_validity(certificate: Certificate, now: datetime) -> None:
    """Raise Refusal unless the certificate is inside its validity."""
    if now < certificate.not_valid_before_utc:
        raise Refusal(f"{name(certificate)} is not valid before {_time(certificate.not_valid_before_utc)}")
    if now > certificate.not_valid_after_utc:
        raise Refusal(f"{name(certificate)} expired at {_time(certificate.not_valid_after_utc)}")


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def key_kind(certificate: Certificate) -> str:
    """One of KINDS. Raises Refusal for any other."""
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        raise Refusal(f"the key of {name(certificate)} cannot be read; EC and RSA keys are accepted") from None
    if isinstance(key, EllipticCurvePublicKey):
        return "EC"
    if isinstance(key, RSAPublicKey):
        return "RSA"
    kind = type(key).__name__.removesuffix("PublicKey")
    raise Refusal(f"the key of {name(certificate)} is {kind}; EC and RSA keys are accepted")


def has_issued(authority: Certificate, certificate: Certificate) -> bool:
    """Whether it is the authority, other than itself, that issued a certificate."""
    try:
        # A name may have one certificate that is self-signed and others by other authorities: the first ends a chain.
        self_issued = certificate.issuer == certificate.subject
        named = authority.subject == certificate.issuer
    except ValueError:  # a name that cannot be read: it is nobody's
        return False
    return not self_issued and named and _signed(authority, certificate)


def _signed(authority: Certificate, certificate: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def is_authority(certificate: Certificate) -> bool:
    """Whether it says CA:TRUE."""
    constraints = _extension(certificate, BasicConstraints)
    return constraints is not None and constraints.ca


def _extension(certificate: Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except ExtensionNotFound:
        return None


def name(certificate: Certificate) -> str:
    """The subject of a certificate, for a message."""
    return quoted(certificate.subject.rfc4514_string())


def quoted(subject: str) -> str:
    """A name for a message: of bounded length, and without characters that would spoil a log."""
    if not subject:
        return "(a certificate without a subject)"
    return repr(subject if len(subject) <= MAXIMUM_NAME else f"{subject[:MAXIMUM_NAME]}…")


def one_line(error: Exception | None) -> str:
    """What the library says, without the wrapping."""
    text = " ".join(str(error).partition(" (encountered processing")[0].split())
    for prefix in _WRAPPING:
        text = text.removeprefix(prefix)
    return text[: 2 * MAXIMUM_NAME]


_WRAPPING = (
    "validation failed: ",
    "candidates exhausted: ",
    "Python extension validator failed: ",
    "ValueError: ",
)
