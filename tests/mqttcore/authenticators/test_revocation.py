"""Certificate revocation lists: who is refused by them, and who is not."""

import datetime as dt
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateRevocationListBuilder, Name, NameAttribute, RevokedCertificateBuilder
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import AuthRequest, Denied, Exchange, Granted, Principal, Standing, Verdict
from mqttcore.authenticators.x509 import METHOD, TrustAnchors, revoked_by, trust_anchors, x509
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
    return verdict_on([device, INTERMEDIATE], anchors(ROOT, lists=lists))


def anchors(*authorities: Identity, lists: Sequence[bytes] = ()) -> TrustAnchors:
    return trust_anchors(b"".join((*(each.pem for each in authorities), *lists)))


def verdict_on(presented: Sequence[Identity], trusted: TrustAnchors) -> Verdict:
    request = AuthRequest(certificates=tuple(each.der for each in presented), time=NOW.timestamp())
    exchange = Exchange(x509(trusted), request, 0)
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


# ------------------------------------------------------------------------------------- clients that are connected


def standing(*presented: Identity, method: str = METHOD) -> Standing:
    return Standing(method, tuple(each.der for each in presented), Principal("client", "device"))


def review(*trusted: TrustAnchors, presented: Sequence[Identity] = (DEVICE, INTERMEDIATE)) -> str | None:
    return revoked_by(*trusted)(standing(*presented), NOW.timestamp())


REVOKED = "'CN=device' has been revoked by 'CN=intermediate'"
LAST_WEEK = NOW - 9 * DAY, NOW - 2 * DAY
NEXT_WEEK = NOW + 2 * DAY, NOW + 9 * DAY


def test_a_client_whose_certificate_is_revoked_may_not_stay() -> None:
    trusted = anchors(ROOT, lists=[crl(INTERMEDIATE, OTHER), crl(INTERMEDIATE, DEVICE)])
    assert review(trusted) == REVOKED
    assert review(trusted, presented=[OTHER, INTERMEDIATE]) == "'CN=other' has been revoked by 'CN=intermediate'"
    assert review(trusted, presented=[issue("third", INTERMEDIATE), INTERMEDIATE]) is None


@pytest.mark.parametrize("presented", [[DEVICE, INTERMEDIATE], [DEVICE]])
def test_a_client_under_a_revoked_authority_may_not_stay(presented: list[Identity]) -> None:
    trusted = anchors(ROOT, INTERMEDIATE, lists=[crl(ROOT, INTERMEDIATE)])
    assert review(trusted, presented=presented) == "'CN=intermediate' has been revoked by 'CN=root'"


def test_one_method_that_says_revoked_is_enough() -> None:
    lists = [crl(INTERMEDIATE, DEVICE)]
    assert review(anchors(STRANGER), anchors(ROOT), anchors(ROOT, lists=lists)) == REVOKED
    assert review(anchors(ROOT, lists=[crl(INTERMEDIATE)]), anchors(ROOT)) is None
    assert review() is None


@pytest.mark.parametrize(
    "lists",
    [
        [crl(INTERMEDIATE, DEVICE, validity=LAST_WEEK)],
        [crl(INTERMEDIATE, DEVICE, validity=NEXT_WEEK)],
        [crl(INTERMEDIATE, DEVICE, signer=STRANGER)],
        [crl(STRANGER, DEVICE)],
        [crl(ROOT, DEVICE)],  # which did not issue it
        [crl(INTERMEDIATE, DEVICE, issuer=STRANGER.certificate.subject)],
    ],
)
def test_only_the_word_of_its_authority_in_force_ends_a_connection(lists: list[bytes]) -> None:
    assert review(anchors(ROOT, lists=lists)) is None
    good = crl(INTERMEDIATE, DEVICE)
    assert review(anchors(ROOT, lists=[*lists, good])) == REVOKED  # they do not stand in its way either


def test_an_authority_that_is_trusted_no_longer_ends_no_connection_and_saves_none() -> None:
    assert review(anchors(STRANGER, lists=[crl(STRANGER, OTHER)])) is None
    assert review(anchors(STRANGER, lists=[crl(INTERMEDIATE, DEVICE)])) == REVOKED
    known = [DEVICE, INTERMEDIATE, ROOT]
    reason = review(anchors(STRANGER, lists=[crl(ROOT, INTERMEDIATE)]), presented=known)
    assert reason == "'CN=intermediate' has been revoked by 'CN=root'"


def test_authorities_that_vouch_for_each_other_are_looked_at_once() -> None:
    one = issue("one", issue("two"), extensions=AUTHORITY)
    two = issue("two", one, extensions=AUTHORITY)
    trusted = anchors(STRANGER, lists=[crl(two, one)])
    reason = review(trusted, presented=[issue("device", one), one, two])
    assert reason == "'CN=one' has been revoked by 'CN=two'"


def test_what_is_not_in_the_chain_does_not_matter() -> None:
    trusted = anchors(ROOT, lists=[crl(ROOT, INTERMEDIATE)])
    direct = issue("device", ROOT)
    assert review(trusted, presented=[direct, INTERMEDIATE]) is None


def test_the_chain_that_the_client_was_let_in_by_is_what_counts() -> None:
    crossed = issue("intermediate", STRANGER, extensions=AUTHORITY)
    trusted = anchors(ROOT, lists=[crl(STRANGER, crossed)])
    presented = [DEVICE, crossed, INTERMEDIATE, STRANGER]
    assert isinstance(verdict_on(presented, trusted), Granted)
    assert review(trusted, presented=presented) is None


@pytest.mark.parametrize("method", ["", "Custom", "ServiceAccountToken"])
def test_clients_of_other_methods_are_not_looked_at(method: str) -> None:
    trusted = anchors(ROOT, lists=[crl(INTERMEDIATE, DEVICE)])
    assert revoked_by(trusted)(standing(DEVICE, INTERMEDIATE, method=method), NOW.timestamp()) is None


LISTS = [
    crl(authority, *revoked, signer=signer, validity=validity)
    for authority, revoked in [
        (INTERMEDIATE, ()),
        (INTERMEDIATE, (DEVICE,)),
        (INTERMEDIATE, (OTHER,)),
        (ROOT, (INTERMEDIATE,)),
        (ROOT, (DEVICE, OTHER)),
        (STRANGER, (DEVICE, INTERMEDIATE)),
    ]
    for signer in (authority, STRANGER)
    for validity in [(NOW - DAY, NOW + DAY), LAST_WEEK]
]


@given(
    st.lists(st.sampled_from(LISTS), max_size=3),
    st.lists(st.sampled_from([ROOT, INTERMEDIATE, STRANGER]), min_size=1, unique=True),
    st.sampled_from([DEVICE, OTHER]),
    st.lists(st.sampled_from([ROOT, INTERMEDIATE, STRANGER, DEVICE, OTHER])),
)
def test_the_review_and_the_next_connect_agree(
    lists: list[bytes], authorities: list[Identity], device: Identity, others: list[Identity]
) -> None:
    trusted = anchors(*authorities, lists=lists)
    verdict, reason = verdict_on([device, *others], trusted), review(trusted, presented=[device, *others])
    if isinstance(verdict, Granted):
        assert reason is None
    else:
        assert isinstance(verdict, Denied)
        if "has been revoked" in verdict.message:
            assert reason == verdict.message
    if not lists:
        assert reason is None


@given(st.lists(st.binary(max_size=40) | st.sampled_from([DEVICE.der, ROOT.der]), max_size=12), st.floats())
def test_a_review_never_raises(certificates: list[bytes], time: float) -> None:
    judge = revoked_by(anchors(ROOT, lists=[crl(INTERMEDIATE, DEVICE), crl(ROOT, INTERMEDIATE)]))
    reason = judge(Standing(METHOD, tuple(certificates), Principal("client")), time)
    assert reason is None or "has been revoked" in reason
