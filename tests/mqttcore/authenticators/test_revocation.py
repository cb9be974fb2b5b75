"""Certificate revocation lists: who is refused by them, and who is not."""

import datetime as dt

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateRevocationListBuilder, Name, NameAttribute, RevokedCertificateBuilder

from mqttcore.auth import AuthRequest, Denied, Exchange, Granted, Verdict
from mqttcore.authenticators.x509 import trust_anchors, x509
from tests.mqttcore.authenticators.certificates import AUTHORITY, DAY, NOW, Identity, issue

ROOT = issue("root", extensions=AUTHORITY)
INTERMEDIATE = issue("intermediate", ROOT, extensions=AUTHORITY)
DEVICE = issue("device", INTERMEDIATE)
OTHER = issue("other", INTERMEDIATE)
STRANGER = issue("stranger", extensions=AUTHORITY)


def crl(
    authority: Identity,
    *revoked: Identity,
    signer: Identity | None = None,
    validity: tuple[dt.datetime, dt.datetime] = (NOW - DAY, NOW + DAY),
    issuer: Name | None = None,
) -> bytes:
    builder = CertificateRevocationListBuilder(issuer or authority.certificate.subject, *validity)
    for each in revoked:
        entry = RevokedCertificateBuilder(each.certificate.serial_number, NOW - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    key = (signer or authority).key
    assert not isinstance(key, Ed25519PrivateKey)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def decide(*lists: bytes, device: Identity = DEVICE) -> Verdict:
    anchors = trust_anchors(ROOT.pem + b"".join(lists))
    request = AuthRequest(certificates=(device.der, INTERMEDIATE.der), time=NOW.timestamp())
    exchange = Exchange(x509(anchors), request, 0)
    exchange.start()
    assert exchange.verdict is not None
    return exchange.verdict


@pytest.mark.parametrize(
    "lists",
    [
        [],
        [crl(INTERMEDIATE)],
        [crl(INTERMEDIATE, OTHER), crl(ROOT, OTHER)],
        [crl(STRANGER, DEVICE)],  # another authority's word is none
        [crl(INTERMEDIATE, DEVICE, signer=STRANGER), crl(INTERMEDIATE)],  # forged, beside a good one
    ],
)
def test_who_is_not_revoked_gets_in(lists: list[bytes]) -> None:
    assert isinstance(decide(*lists), Granted)


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ([crl(INTERMEDIATE, DEVICE)], "has been revoked"),
        ([crl(INTERMEDIATE), crl(INTERMEDIATE, OTHER, DEVICE)], "has been revoked"),
        ([crl(ROOT, INTERMEDIATE)], "has been revoked"),
        ([crl(INTERMEDIATE, signer=STRANGER)], "is not signed by it"),
        ([crl(INTERMEDIATE, validity=(NOW - 3 * DAY, NOW - DAY))], "out of date"),
        ([crl(INTERMEDIATE, validity=(NOW + DAY, NOW + 3 * DAY))], "out of date"),
        ([crl(ROOT, validity=(NOW - 3 * DAY, NOW - DAY))], "out of date"),
    ],
)
def test_a_list_that_names_the_client_or_cannot_be_believed_refuses_it(lists: list[bytes], reason: str) -> None:
    verdict = decide(*lists)
    assert isinstance(verdict, Denied)
    assert reason in verdict.message


def test_names_are_compared_as_names() -> None:  # RFC 5280, section 7.1
    subject = INTERMEDIATE.certificate.subject
    issuer = Name([NameAttribute(each.oid, str(each.value).upper()) for each in subject])
    assert issuer != subject
    assert isinstance(decide(crl(INTERMEDIATE, DEVICE, issuer=issuer)), Denied)


def test_a_revoked_client_does_not_take_others_with_it() -> None:
    assert isinstance(decide(crl(INTERMEDIATE, DEVICE), device=OTHER), Granted)


def test_a_list_that_cannot_be_read_is_a_mistake_in_the_configuration() -> None:
    broken = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    with pytest.raises(ValueError, match="a CRL cannot be read"):
        trust_anchors(ROOT.pem + broken)
