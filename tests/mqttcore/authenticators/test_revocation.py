"""Certificate revocation lists: who is refused by them, and who is not."""

import base64
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    CertificateBuilder,
    CertificateRevocationList,
    CertificateRevocationListBuilder,
    Name,
    NameAttribute,
    RevokedCertificate,
    RevokedCertificateBuilder,
    load_der_x509_certificate,
    load_der_x509_crl,
    load_pem_x509_crl,
)
from hypothesis import example, given
from hypothesis import strategies as st

from mqttcore.auth import AuthRequest, Denied, Exchange, Granted, Principal, Standing, Verdict
from mqttcore.authenticators.revocation import (
    REMEMBERED_AUTHORITIES,
    Link,
    Revocations,
    is_in_the_name_of,
    is_signed_by,
)
from mqttcore.authenticators.x509 import METHOD, TrustAnchors, revoked_by, trust_anchors, x509
from tests.mqttcore.authenticators.certificates import AUTHORITY, DAY, NOW, Identity, issue, key

ROOT = issue("root", extensions=AUTHORITY)
INTERMEDIATE = issue("intermediate", ROOT, extensions=AUTHORITY)
DEVICE = issue("device", INTERMEDIATE)
OTHER = issue("other", INTERMEDIATE)
STRANGER = issue("stranger", extensions=AUTHORITY)
# object identifiers in DER, of the same length
SECP256R1, UNKNOWN_CURVE = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030163")


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
    revocations = crl(INTERMEDIATE, DEVICE, issuer=issuer)
    assert isinstance(decide(revocations), Denied)
    named = [
        each for each in (ROOT, INTERMEDIATE) if is_in_the_name_of(load_pem_x509_crl(revocations), each.certificate)
    ]
    assert named == [INTERMEDIATE]


def test_a_revoked_client_does_not_take_others_with_it() -> None:
    assert isinstance(decide(crl(INTERMEDIATE, DEVICE), device=OTHER), Granted)


@pytest.mark.parametrize("kind", ["EC", "RSA", "Ed25519", "X25519", "an unknown curve"])
def test_a_list_is_signed_by_nobody_but_its_authority_whatever_keys_others_have(kind: str) -> None:
    revocations = load_pem_x509_crl(crl(ROOT))
    assert is_signed_by(revocations, ROOT.certificate)
    if kind == "X25519":
        builder = CertificateBuilder(ROOT.certificate.subject, ROOT.certificate.subject, None, 1, NOW - DAY, NOW + DAY)
        assert isinstance(ROOT.key, EllipticCurvePrivateKey)
        other = builder.public_key(X25519PrivateKey.generate().public_key()).sign(ROOT.key, hashes.SHA256())
    elif kind == "an unknown curve":
        other = load_der_x509_certificate(ROOT.der.replace(SECP256R1, UNKNOWN_CURVE))
    else:
        other = issue("root", kind=kind, own=key(kind, 1), extensions=AUTHORITY).certificate
    assert not is_signed_by(revocations, other)


def test_a_list_that_cannot_be_read_is_a_mistake_in_the_configuration() -> None:
    broken = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    with pytest.raises(ValueError, match=r"^a CRL cannot be read: (?!None$)"):
        trust_anchors(ROOT.pem + broken)


def test_a_list_of_a_version_that_does_not_exist_is_a_mistake_too() -> None:
    der = load_pem_x509_crl(crl(ROOT)).public_bytes(Encoding.DER)
    version_2 = b"\x02\x01\x01\x30"
    assert version_2 in der
    text = base64.encodebytes(der.replace(version_2, b"\x02\x01\x0a\x30", 1))
    with pytest.raises(ValueError, match="a CRL cannot be read: 10 is not a valid CRL version"):
        trust_anchors(ROOT.pem + b"-----BEGIN X509 CRL-----\n" + text + b"-----END X509 CRL-----\n")


def test_a_list_whose_issuer_cannot_be_read_is_a_mistake_too() -> None:
    der = load_pem_x509_crl(crl(ROOT)).public_bytes(Encoding.DER)
    broken = load_der_x509_crl(der.replace(b"root", b"\xff" * 4)).public_bytes(Encoding.PEM)
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
        [crl(INTERMEDIATE, OTHER, validity=LAST_WEEK)],
        [crl(INTERMEDIATE, OTHER, validity=NEXT_WEEK)],
        [crl(INTERMEDIATE, DEVICE, signer=STRANGER)],
        [crl(STRANGER, DEVICE)],
        [crl(ROOT, DEVICE)],  # which did not issue it
        [crl(INTERMEDIATE, DEVICE, issuer=STRANGER.certificate.subject)],
    ],
)
def test_only_the_word_of_its_authority_ends_a_connection(lists: list[bytes]) -> None:
    assert review(anchors(ROOT, lists=lists)) is None
    good = crl(INTERMEDIATE, DEVICE)
    assert review(anchors(ROOT, lists=[*lists, good])) == REVOKED  # they do not stand in its way either


SECOND = dt.timedelta(seconds=1)


@pytest.mark.parametrize("validity", [LAST_WEEK, NEXT_WEEK, (NOW - DAY, NOW - SECOND), (NOW + SECOND, NOW + DAY)])
def test_a_list_that_names_the_client_ends_its_connection_whatever_the_dates(
    validity: tuple[dt.datetime, dt.datetime],
) -> None:
    trusted = anchors(ROOT, lists=[crl(INTERMEDIATE, DEVICE, validity=validity)])
    assert review(trusted) == REVOKED
    assert review(trusted, presented=[OTHER, INTERMEDIATE]) is None
    refused = verdict_on([OTHER, INTERMEDIATE], trusted)
    assert isinstance(refused, Denied)
    assert "out of date" in refused.message


def test_an_authority_that_is_trusted_no_longer_ends_no_connection_and_saves_none() -> None:
    assert review(anchors(STRANGER, lists=[crl(STRANGER, OTHER)])) is None
    assert review(anchors(STRANGER, lists=[crl(INTERMEDIATE, DEVICE)])) == REVOKED
    known = [DEVICE, INTERMEDIATE, ROOT]
    reason = review(anchors(STRANGER, lists=[crl(ROOT, INTERMEDIATE)]), presented=known)
    assert reason == "'CN=intermediate' has been revoked by 'CN=root'"


def test_authorities_that_vouch_for_each_other_are_looked_at_once() -> None:
    one = issue("one", issue("two"), extensions=AUTHORITY)
    two = issue("two", one, extensions=AUTHORITY)
    presented = [issue("device", one), one, two]
    reason = review(anchors(STRANGER, lists=[crl(two, one)]), presented=presented)
    assert reason == "'CN=one' has been revoked by 'CN=two'"
    assert review(anchors(STRANGER, lists=[crl(two, one, signer=STRANGER)]), presented=presented) is None


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


# ------------------------------------------------------------------------------------------- what is done only once


class Watched:
    """A list that counts what is asked of it."""

    def __init__(self, pem: bytes) -> None:
        self._list = load_pem_x509_crl(pem)
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self._list, name)

    def __iter__(self) -> Iterator[RevokedCertificate]:
        self.asked["entries"] += 1
        return iter(self._list)

    def among(self, *authorities: Identity) -> TrustAnchors:
        return TrustAnchors(tuple(each.certificate for each in authorities), (cast("CertificateRevocationList", self),))


CHECK = "is_signature_valid"


@pytest.mark.parametrize(
    ("authorities", "later"),
    [([ROOT, INTERMEDIATE], {}), ([ROOT], {CHECK: 1})],
    ids=["the authority is an anchor", "the authority is presented"],
)
def test_long_lists_are_not_gone_through_for_each_client(authorities: list[Identity], later: dict[str, int]) -> None:
    watched = Watched(crl(INTERMEDIATE, OTHER))
    judge = x509(watched.among(*authorities))
    assert watched.asked["entries"] == 1
    assert watched.asked[CHECK] == len(authorities) - 1  # with the key of the anchor in its name, not with others
    watched.asked.clear()
    for client in [DEVICE, OTHER] * 3:
        request = AuthRequest(certificates=(client.der, INTERMEDIATE.der), time=NOW.timestamp())
        exchange = Exchange(judge, request, 0)
        exchange.start()
        assert isinstance(exchange.verdict, Granted if client is DEVICE else Denied)
    assert watched.asked == later

    speaks_against = revoked_by(watched.among(*authorities))
    watched.asked.clear()
    for client in [DEVICE, OTHER] * 3:
        reason = speaks_against(standing(client, INTERMEDIATE), NOW.timestamp())
        assert (reason is None) == (client is DEVICE)
    assert watched.asked == later


def test_how_many_authorities_a_list_remembers_is_bounded() -> None:
    watched = Watched(crl(INTERMEDIATE, DEVICE))
    speaks_against = revoked_by(watched.among(ROOT))
    renewed = [issue("intermediate", ROOT, extensions=AUTHORITY) for _ in range(REMEMBERED_AUTHORITIES + 1)]

    def checks(*authorities: Identity) -> int:
        watched.asked.clear()
        for authority in authorities:
            assert speaks_against(standing(DEVICE, authority), NOW.timestamp()) == REVOKED
        return watched.asked[CHECK]

    assert checks(*renewed[1:], *renewed[1:]) == REMEMBERED_AUTHORITIES
    assert checks(renewed[0], *renewed[2:]) == 1  # and the longest unused is forgotten
    assert checks(renewed[1]) == 1


# Home-made authorities count.
FIRST = issue("first", number=1, extensions=AUTHORITY)
SECOND_CA = issue("second", number=1, extensions=AUTHORITY)
BELOW = issue("below", FIRST, number=1, extensions=AUTHORITY)
COUNTED = [issue(f"{ca.certificate.serial_number}", ca, number=n) for ca in (FIRST, SECOND_CA, BELOW) for n in (1, 2)]


def chains_looked_at(trusted: TrustAnchors, presented: Sequence[Identity]) -> int:
    looked = 0
    thorough = Revocations.why_revoked

    def counting(revocations: Revocations, links: Iterable[Link]) -> str | None:
        nonlocal looked
        looked += 1
        return thorough(revocations, links)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Revocations, "why_revoked", counting)
        review(trusted, presented=presented)
    return looked


def test_equal_numbers_by_other_authorities_do_not_make_the_review_slow() -> None:
    one, two, other, *_ = COUNTED
    trusted = anchors(FIRST, SECOND_CA, lists=[crl(FIRST, one), crl(FIRST, two)])
    assert chains_looked_at(trusted, [one]) == chains_looked_at(trusted, [two]) == 1
    assert chains_looked_at(trusted, [other]) == 0
    assert (
        chains_looked_at(trusted, [issue("third", FIRST, number=3)]) == 0
    )  # though the anchor's number is in the list
    under = anchors(FIRST, BELOW, lists=[crl(FIRST, BELOW)])
    assert chains_looked_at(under, [other]) == 1  # who may be under a revoked anchor is looked at


def test_a_certificate_whose_issuer_cannot_be_read_does_not_hide_another() -> None:
    der = issue("device", ROOT, number=DEVICE.certificate.serial_number).der
    unreadable = der.replace(b"root", b"\xff" * 4)
    revoked = anchors(ROOT, lists=[crl(INTERMEDIATE, DEVICE), crl(ROOT, INTERMEDIATE)])
    presented = Standing(METHOD, (OTHER.der, unreadable, INTERMEDIATE.der), Principal("client"))
    reason = revoked_by(revoked)(presented, NOW.timestamp())
    assert reason == "'CN=intermediate' has been revoked by 'CN=root'"


def test_a_certificate_whose_subject_cannot_be_read_keeps_nobody_in_whose_authority_is_trusted_no_longer() -> None:
    unreadable = issue("unreadable", ROOT, extensions=AUTHORITY).der.replace(b"unreadable", b"\xff" * 10)
    revoked = anchors(SECOND_CA, lists=[crl(INTERMEDIATE, DEVICE)])
    presented = Standing(METHOD, (DEVICE.der, unreadable, INTERMEDIATE.der), Principal("client"))
    assert revoked_by(revoked)(presented, NOW.timestamp()) == REVOKED


@given(
    st.lists(
        st.builds(crl, st.sampled_from([FIRST, SECOND_CA, BELOW]), st.sampled_from([BELOW, FIRST, *COUNTED])),
        max_size=3,
    ),
    st.lists(st.sampled_from([FIRST, SECOND_CA, BELOW]), min_size=1, unique=True),
    st.lists(st.sampled_from([*COUNTED, BELOW, FIRST]), min_size=1, max_size=4),
)
def test_a_quick_review_finds_what_a_thorough_one_finds(
    lists: list[bytes], authorities: list[Identity], presented: list[Identity]
) -> None:
    trusted = anchors(*authorities, lists=lists)
    quick = review(trusted, presented=presented)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Revocations, "may_concern", lambda self, presented: True)
        assert quick == review(trusted, presented=presented)


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
@example([DEVICE.der, b"no certificate"], NOW.timestamp())
def test_a_review_never_raises(certificates: list[bytes], time: float) -> None:
    judge = revoked_by(anchors(ROOT, lists=[crl(INTERMEDIATE, DEVICE), crl(ROOT, INTERMEDIATE)]))
    reason = judge(Standing(METHOD, tuple(certificates), Principal("client")), time)
    assert reason is None or "has been revoked" in reason
