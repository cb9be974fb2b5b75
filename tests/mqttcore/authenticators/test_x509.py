"""X.509: chains good and bad, what they give, and what is said about them."""

import datetime as dt
from collections.abc import Sequence

import pytest
from cryptography.x509 import (
    BasicConstraints,
    DNSName,
    ExtendedKeyUsage,
    KeyUsage,
    Name,
    NameAttribute,
    ObjectIdentifier,
    SubjectAlternativeName,
    UnrecognizedExtension,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from mqttcore.auth import AuthRequest, Denied, Exchange, Granted, NotRelevant, Trace, Verdict
from mqttcore.authenticators.chain_verification import MAXIMUM_CERTIFICATES
from mqttcore.authenticators.x509 import (
    SubjectAttributes,
    subject_attributes,
    trust_anchors,
    x509,
)
from mqttcore.codes import ReasonCode
from tests.mqttcore.authenticators.certificates import AUTHORITY, DAY, FOR_SERVERS, NOW, Identity, issue, key, version_1

Chain = Sequence[Identity]

ROOT = issue("root", extensions=AUTHORITY)
INTERMEDIATE = issue("intermediate", ROOT, extensions=AUTHORITY)
DEVICE = issue("device", INTERMEDIATE)

RSA_ROOT = issue("rsa-root", kind="RSA", extensions=AUTHORITY)
RSA_INTERMEDIATE = issue("rsa-intermediate", RSA_ROOT, kind="RSA", extensions=AUTHORITY)

LAST_WEEK = NOW - 9 * DAY, NOW - 2 * DAY
THE_LIBRARY_SAYS = "something, in words that its next version may change"
NEXT_WEEK = NOW + 2 * DAY, NOW + 9 * DAY


def key_usage(*, sign_certificates: bool) -> KeyUsage:
    return KeyUsage(True, False, False, False, False, sign_certificates, sign_certificates, False, False)


def request(chain: Chain, time: dt.datetime = NOW) -> AuthRequest:
    return AuthRequest(certificates=tuple(each.der for each in chain), time=time.timestamp())


def decide(
    trusted: Chain, presented: AuthRequest, entries: Sequence[SubjectAttributes] = ()
) -> tuple[Verdict, list[Trace]]:
    anchors = trust_anchors(b"".join(each.pem for each in trusted))
    exchange = Exchange(x509(anchors, entries), presented, 0)
    exchange.start()
    assert exchange.verdict is not None
    return exchange.verdict, exchange.trace


def grant(trusted: Chain, presented: Chain, *entries: SubjectAttributes, time: dt.datetime = NOW) -> Granted:
    verdict, _ = decide(trusted, request(presented, time), entries)
    assert isinstance(verdict, Granted), verdict
    return verdict


def denial(trusted: Chain, presented: Chain, time: dt.datetime = NOW) -> str:
    verdict, trace = decide(trusted, request(presented, time))
    assert isinstance(verdict, Denied), verdict
    assert verdict.reason_code is ReasonCode.NOT_AUTHORIZED
    assert not trace
    return verdict.message


# --------------------------------------------------------------------------------------------- who gets in


def test_without_a_certificate_it_is_not_relevant() -> None:
    verdict, trace = decide([ROOT], AuthRequest(username="device", password=b"x"))
    assert verdict == NotRelevant("no client certificate was presented")
    assert not trace


@pytest.mark.parametrize(
    ("trusted", "presented"),
    [
        pytest.param([ROOT], [DEVICE, INTERMEDIATE], id="root trusted"),
        pytest.param([ROOT], [DEVICE, INTERMEDIATE, ROOT], id="root presented as well"),
        pytest.param([ROOT], [DEVICE, RSA_ROOT, INTERMEDIATE], id="disorderly, with one that is not needed"),
        pytest.param([ROOT], [DEVICE, INTERMEDIATE, INTERMEDIATE, DEVICE], id="doubled"),
        pytest.param([INTERMEDIATE], [DEVICE], id="intermediate as anchor"),
        pytest.param([INTERMEDIATE], [DEVICE, INTERMEDIATE], id="intermediate as anchor and presented"),
        pytest.param([ROOT, INTERMEDIATE], [DEVICE], id="root and intermediate trusted"),
        pytest.param([RSA_ROOT, ROOT], [DEVICE, INTERMEDIATE], id="one of several roots"),
        pytest.param([ROOT], [issue("device", ROOT)], id="issued by the root"),
        pytest.param(
            [RSA_ROOT], [issue("device", RSA_INTERMEDIATE, kind="RSA"), RSA_INTERMEDIATE], id="all keys are RSA"
        ),
        pytest.param(
            [INTERMEDIATE],
            [issue("device", INTERMEDIATE, extensions=[SubjectAlternativeName([DNSName("device")])])],
            id="with a subject alternative name",
        ),
        pytest.param(
            [INTERMEDIATE],
            [issue("device", INTERMEDIATE, extensions=[ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])])],
            id="for clients",
        ),
        pytest.param(
            [issue("root", extensions=(*AUTHORITY, key_usage(sign_certificates=True)), critical=True)],
            [issue("device", ROOT)],
            id="authority with key usage",
        ),
        pytest.param(
            # The keys above the anchor are nobody's business.
            [issue("intermediate", RSA_ROOT, extensions=AUTHORITY), RSA_ROOT],
            [DEVICE],
            id="anchor issued by an anchor of another kind",
        ),
    ],
)
def test_good_chains(trusted: Chain, presented: Chain) -> None:
    verdict = grant(trusted, presented)
    assert verdict.username == "device"
    assert verdict.expires_at == (NOW + 30 * DAY).timestamp()
    assert not verdict.renewable
    assert verdict.method == "X509"
    assert verdict.attributes == {}


def with_wrong_key() -> list[Identity]:
    other = issue("intermediate", ROOT, own=key("EC", 7), extensions=AUTHORITY)
    return [DEVICE, other]


def crossed_authorities() -> list[Identity]:
    one = issue("one", issue("two"), extensions=AUTHORITY)
    two = issue("two", one, extensions=AUTHORITY)
    return [issue("device", one), one, two]


def ed25519_chain() -> tuple[list[Identity], list[Identity]]:
    root = issue("ed-root", kind="Ed25519", extensions=AUTHORITY)
    return [root], [issue("device", root, kind="Ed25519")]


@pytest.mark.parametrize(
    ("trusted", "presented", "message"),
    [
        pytest.param(
            [ROOT],
            [DEVICE],
            "'CN=device' was issued by 'CN=intermediate', which is neither trusted nor among the certificates"
            " that the client presented",
            id="intermediate missing",
        ),
        pytest.param(
            [RSA_ROOT],
            [DEVICE, INTERMEDIATE],
            "'CN=intermediate' was issued by 'CN=root', which is neither trusted nor among the certificates"
            " that the client presented",
            id="wrong authority",
        ),
        pytest.param(
            [RSA_ROOT],
            [DEVICE, INTERMEDIATE, ROOT],
            "'CN=root' is self-signed and not among the trusted authorities",
            id="wrong authority, and its root presented",
        ),
        pytest.param(
            [issue("root", own=key("EC", 8), extensions=AUTHORITY)],
            [DEVICE, INTERMEDIATE],
            "'CN=intermediate' is not signed with the key of the 'CN=root' that is known here",
            id="authority of the same name",
        ),
        pytest.param(
            [ROOT],
            with_wrong_key(),
            "'CN=device' is not signed with the key of the 'CN=intermediate' that is known here",
            id="intermediate of the same name",
        ),
        pytest.param(
            [ROOT],
            [issue("device")],
            "'CN=device' is self-signed and not among the trusted authorities",
            id="self-signed",
        ),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, validity=LAST_WEEK)],
            "'CN=device' expired at 2029-12-30 00:00:00 UTC",
            id="expired",
        ),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, validity=NEXT_WEEK)],
            "'CN=device' is not valid before 2030-01-03 00:00:00 UTC",
            id="not yet valid",
        ),
        pytest.param(
            [ROOT],
            [DEVICE, issue("intermediate", ROOT, extensions=AUTHORITY, validity=LAST_WEEK)],
            "'CN=intermediate' expired at 2029-12-30 00:00:00 UTC",
            id="intermediate expired",
        ),
        pytest.param(
            [issue("intermediate", ROOT, extensions=AUTHORITY, validity=NEXT_WEEK)],
            [DEVICE],
            "'CN=intermediate' is not valid before 2030-01-03 00:00:00 UTC",
            id="anchor not yet valid",
        ),
        pytest.param(
            [issue("root", extensions=AUTHORITY, validity=LAST_WEEK)],
            [DEVICE, INTERMEDIATE],
            "'CN=root' expired at 2029-12-30 00:00:00 UTC",
            id="root expired",
        ),
        pytest.param(
            [ROOT],
            [issue("other", DEVICE), DEVICE, INTERMEDIATE],
            "'CN=device' is not an authority (no basicConstraints CA:TRUE) and issued 'CN=other'",
            id="leaf used as authority",
        ),
        pytest.param(
            [ROOT],
            [DEVICE, issue("intermediate", ROOT, extensions=[BasicConstraints(False, None)])],
            "'CN=intermediate' is not an authority (no basicConstraints CA:TRUE) and issued 'CN=device'",
            id="CA:FALSE used as authority",
        ),
        pytest.param(
            [ROOT],
            [INTERMEDIATE],
            "'CN=intermediate' is the certificate of an authority (CA:TRUE); a client needs one of its own",
            id="authority as client",
        ),
        pytest.param(
            [ROOT],
            [ROOT],
            "'CN=root' is the certificate of an authority (CA:TRUE); a client needs one of its own",
            id="anchor as client",
        ),
        pytest.param(
            [ROOT],
            [DEVICE, issue("intermediate", ROOT, extensions=(*AUTHORITY, key_usage(sign_certificates=False)))],
            "the key usage of an authority does not allow it to sign certificates",
            id="authority that may not sign",
        ),
        pytest.param(
            [issue("intermediate", ROOT, extensions=(*AUTHORITY, *FOR_SERVERS))],
            [DEVICE],
            "the extended key usage of an authority does not allow it to issue client certificates",
            id="authority for servers",
        ),
        pytest.param(
            [issue("root", extensions=(BasicConstraints(True, 0),))],
            [DEVICE, INTERMEDIATE],
            THE_LIBRARY_SAYS,
            id="path length",
        ),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, extensions=FOR_SERVERS)],
            "'CN=device' is not for clients: its extended key usage has no clientAuth",
            id="for servers",
        ),
        pytest.param(
            [ROOT],
            [
                issue(
                    "device",
                    ROOT,
                    extensions=[UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\0")],
                    critical=True,
                )
            ],
            THE_LIBRARY_SAYS,
            id="critical extension",
        ),
        pytest.param(
            [ROOT],
            [version_1(issue("device", ROOT), ROOT)],
            "'CN=device' is a certificate of X.509 version 1; version 3 is needed"
            " (openssl x509 -req makes it with -extfile)",
            id="version 1",
        ),
        pytest.param(
            [ROOT],
            [DEVICE, version_1(INTERMEDIATE, ROOT)],
            "'CN=intermediate', an authority, is a certificate of X.509 version 1; version 3 is needed",
            id="intermediate of version 1",
        ),
        pytest.param(
            [RSA_ROOT],
            [issue("device", RSA_ROOT)],
            "the keys of a chain must be all EC or all RSA: that of 'CN=device' is EC, that of 'CN=rsa-root' RSA",
            id="mixed, EC below RSA",
        ),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, kind="RSA")],
            "the keys of a chain must be all EC or all RSA: that of 'CN=device' is RSA, that of 'CN=root' EC",
            id="mixed, RSA below EC",
        ),
        pytest.param(
            [RSA_ROOT],
            [DEVICE, issue("intermediate", RSA_ROOT, extensions=AUTHORITY)],
            "the keys of a chain must be all EC or all RSA: that of 'CN=device' is EC, that of 'CN=rsa-root' RSA",
            id="mixed, only the root is RSA",
        ),
        pytest.param(*ed25519_chain(), "the key of 'CN=device' is Ed25519; EC and RSA keys are accepted", id="Ed25519"),
        pytest.param(
            [RSA_ROOT],
            [issue("device", RSA_ROOT, kind="short RSA")],
            "the RSA key of 'CN=device' has 1024 bits; 2048 are needed",
            id="short key",
        ),
        pytest.param(
            [issue("short", kind="short RSA", extensions=AUTHORITY)],
            [issue("device", issue("short", kind="short RSA", extensions=AUTHORITY), kind="RSA")],
            THE_LIBRARY_SAYS,
            id="authority with a short key",
        ),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, extensions=[UnrecognizedExtension(BasicConstraints.oid, b"?")])],
            THE_LIBRARY_SAYS,
            id="extension that cannot be read",
        ),
        pytest.param(
            [ROOT],
            [issue(Name([]), INTERMEDIATE, own=key("EC"))],
            "(a certificate without a subject) was issued by 'CN=intermediate', which is neither trusted nor among"
            " the certificates that the client presented",
            id="no subject",
        ),
        pytest.param([ROOT], crossed_authorities(), THE_LIBRARY_SAYS, id="a circle"),
        pytest.param(
            [ROOT],
            [DEVICE] + [issue(f"other-{number}", ROOT) for number in range(MAXIMUM_CERTIFICATES)],
            "11 certificates were presented; 10 are allowed",
            id="too many",
        ),
    ],
)
def test_bad_chains(trusted: Chain, presented: Chain, message: str) -> None:
    said = denial(trusted, presented)
    assert said == message or (message is THE_LIBRARY_SAYS and said)
    assert "Certificate(" not in said


def test_a_key_of_an_unknown_kind_is_denied() -> None:
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    verdict, _ = decide([ROOT], AuthRequest(certificates=(DEVICE.der.replace(p256, unknown),), time=NOW.timestamp()))
    assert verdict == Denied("the key of 'CN=device' cannot be read; EC and RSA keys are accepted")


def test_a_certificate_of_a_version_that_does_not_exist_is_denied() -> None:
    version_3, version_10 = bytes.fromhex("a003020102"), bytes.fromhex("a003020109")
    assert version_3 in DEVICE.der
    certificates = (DEVICE.der.replace(version_3, version_10),)
    verdict, _ = decide([ROOT], AuthRequest(certificates=certificates, time=NOW.timestamp()))
    assert verdict == Denied("certificate 1 of the chain cannot be read: 9 is not a valid X509 version")


def test_another_chain_that_is_good_counts() -> None:
    # The intermediate has two certificates: by an authority whose keys are of another kind, and by one of its own kind.
    crossed = issue("intermediate", RSA_ROOT, extensions=AUTHORITY)
    expired = issue("intermediate", ROOT, extensions=AUTHORITY, validity=LAST_WEEK)
    for others in ([crossed, expired, INTERMEDIATE], [INTERMEDIATE, expired, crossed]):
        grant([RSA_ROOT, ROOT], [DEVICE, *others])


# ---------------------------------------------------------------------------------- how long, and who it is


def test_the_validity_of_every_certificate_counts_to_the_fraction_of_a_second() -> None:
    short = issue("intermediate", ROOT, extensions=AUTHORITY, validity=(NOW - 5 * DAY, NOW + DAY))
    instant = dt.timedelta(milliseconds=1)
    verdict = grant([ROOT], [DEVICE, short])
    assert verdict.expires_at == (NOW + DAY).timestamp()
    grant([ROOT], [DEVICE, short], time=NOW + DAY)
    assert (
        denial([ROOT], [DEVICE, short], NOW + DAY + instant) == "'CN=intermediate' expired at 2030-01-02 00:00:00 UTC"
    )
    grant([ROOT], [DEVICE, INTERMEDIATE], time=NOW - DAY)
    early = denial([ROOT], [DEVICE, short], NOW - DAY - instant)
    assert early == "'CN=device' is not valid before 2029-12-31 00:00:00 UTC"


def test_an_expired_root_does_not_shut_out_the_clients_of_a_trusted_intermediate() -> None:
    expired = issue("root", extensions=AUTHORITY, validity=LAST_WEEK)
    entry = subject_attributes("root", "CN = root", {"a": "b"})
    verdict = grant([expired, INTERMEDIATE], [DEVICE, INTERMEDIATE], entry)
    assert not verdict.attributes  # the root is in no valid chain


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1e300, 1e300])
def test_a_time_out_of_bounds_is_a_denial(time: float) -> None:
    verdict, _ = decide([ROOT], AuthRequest(certificates=(DEVICE.der, INTERMEDIATE.der), time=time))
    assert isinstance(verdict, Denied)
    assert verdict.message in (f"the certificates cannot be judged: {name}" for name in ("ValueError", "OverflowError"))


@pytest.mark.parametrize(
    ("subject", "username"),
    [
        ("CN=device,O=Contoso", "device"),
        ("O=Contoso", ""),
        ("CN=one,CN=two", ""),
        ("CN=one,O=Contoso,CN=one", "one"),
        ("CN=a/b \\+#é", "a/b +#é"),
    ],
)
def test_the_user_name_is_the_common_name(subject: str, username: str) -> None:
    # Never None: the user name of CONNECT would take its place.
    assert grant([ROOT], [issue(subject, ROOT)]).username == username


def test_names_that_break_the_standards_are_read_without_a_word() -> None:
    with pytest.warns(UserWarning, match="length"):
        country = NameAttribute(NameOID.COUNTRY_NAME, "USA", _validate=False)
    root = issue(Name([country]), own=key("EC"), extensions=AUTHORITY)
    with pytest.warns(UserWarning, match="length"):
        device = issue("device", root)
    grant([root], [issue(Name([country, *device.certificate.subject]), root, own=key("EC"))])
    assert grant([root], [device], entry("C = USA")).attributes == {"attribute": "yes"}
    assert "'C=USA'" in denial([ROOT], [device])


# ------------------------------------------------------------------------------------------------ attributes

SITE = issue("CN = Site,O=Contoso,C=US".replace(" ", ""), extensions=AUTHORITY)
LINE = issue("CN=Line 1,OU=Site,O=Contoso", SITE, extensions=AUTHORITY)
FAN = issue("CN=fan,O=Contoso", LINE)


def entry(subject: str, value: str = "yes") -> SubjectAttributes:
    return subject_attributes(f"label of {subject}", subject, {"attribute": value})


@pytest.mark.parametrize(
    ("subjects", "decides", "position"),
    [
        (["CN = fan, O = Contoso", "CN = Site, O = Contoso, C = US"], 0, 1),
        (["C=US,O=Contoso,CN=Site", "O=Contoso,CN=fan"], 1, 1),
        (["CN=Line 1,OU=Site,O=Contoso", "CN=Site,O=Contoso,C=US"], 0, 2),
        (["CN=Site,O=Contoso,C=US", "O=Contoso,OU=Site,CN=Line 1"], 1, 2),
        (["CN=Site,O=Contoso,C=US", "CN=fan"], 0, 3),
    ],
)
@pytest.mark.parametrize(
    ("trusted", "presented"), [([SITE], [FAN, LINE]), ([SITE, LINE], [FAN]), ([LINE, SITE], [FAN, LINE, SITE])]
)
def test_the_first_certificate_with_an_entry_decides(
    subjects: list[str], decides: int, position: int, trusted: Chain, presented: Chain
) -> None:
    entries = [entry(subject, str(number)) for number, subject in enumerate(subjects)]
    verdict, trace = decide(trusted, request(presented), entries)
    assert isinstance(verdict, Granted)
    assert verdict.attributes == {"attribute": str(decides)}
    message = f"entry {entries[decides].label!r} is for certificate {position} of the chain"
    assert trace == [Trace("X509", "attributes", message)]


def test_a_certificate_outside_the_chain_gives_no_attributes() -> None:
    entries = entry("CN=Site,O=Contoso,C=US"), entry("CN=root"), entry("CN=fan"), entry("CN=fan,O=contoso,C=US")
    assert not grant([LINE], [FAN, LINE, SITE, ROOT], *entries).attributes  # the chain ends at the line


def test_the_chain_goes_up_to_the_highest_anchor() -> None:
    # No anchor is self-signed, and of two that a third issued, one is trusted.
    upper = issue("upper", ROOT, extensions=AUTHORITY)
    lower = issue("lower", upper, extensions=AUTHORITY)
    device = issue("device", lower)
    assert grant([lower, upper], [device], entry("CN=upper")).attributes == {"attribute": "yes"}
    # Neither is above the other.
    again = issue("upper", lower, extensions=AUTHORITY)
    grant([lower, again], [device])


def test_two_entries_for_one_subject_are_refused() -> None:
    anchors = trust_anchors(ROOT.pem)
    with pytest.raises(ValueError, match="'label of CN=a,O=b' and 'label of O = B, CN = A' are for the same subject"):
        x509(anchors, [entry("CN=a,O=b"), entry("O = B, CN = A")])


def test_a_subject_that_is_no_name_is_refused() -> None:
    with pytest.raises(
        ValueError, match="the subject of 'root', 'root', is no distinguished name: 'root' has no equals"
    ):
        subject_attributes("root", "root", {})


# --------------------------------------------------------------------------------------------- trust anchors


def test_every_certificate_is_trusted_once() -> None:
    anchors = trust_anchors(b"text\n" + ROOT.pem + b"\n" + RSA_ROOT.pem + ROOT.key_pem + ROOT.pem)
    assert anchors.certificates == (ROOT.certificate, RSA_ROOT.certificate)


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "there is no certificate (-----BEGIN CERTIFICATE-----) to trust"),
        (ROOT.key_pem, "there is no certificate (-----BEGIN CERTIFICATE-----) to trust"),
        (DEVICE.pem, "'CN=device' is not the certificate of an authority (basicConstraints CA:TRUE)"),
        (issue("self-signed leaf").pem + ROOT.pem, "'CN=self-signed leaf' is not the certificate of an authority"),
        (
            issue("device", extensions=[BasicConstraints(False, None)]).pem,
            "'CN=device' is not the certificate of an authority",
        ),
        (
            version_1(ROOT, ROOT).pem,
            "'CN=root' is a certificate of X.509 version 1, which cannot say that it is an authority's",
        ),
        (ROOT.pem.replace(b"MII", b"MIJ"), "a certificate cannot be read: "),
        (ROOT.pem[:200], "a certificate cannot be read: "),
        (DEVICE.pem + issue("other").pem, "(basicConstraints CA:TRUE); 'CN=other' is not the certificate"),
    ],
)
def test_what_cannot_be_trusted(pem: bytes, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at
        trust_anchors(pem)
    assert message in str(caught.value)
    assert not str(caught.value).endswith("None")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------- arbitrary bytes

AUTHENTICATE = x509(trust_anchors(ROOT.pem), [entry("CN=root")])


def verdict_on(certificates: tuple[bytes, ...]) -> Verdict:
    """Without the exchange, which would turn an exception into a denial."""
    generator = AUTHENTICATE(AuthRequest(certificates=certificates, time=NOW.timestamp()))
    with pytest.raises(StopIteration) as caught:
        while True:
            next(generator)
    verdict = caught.value.value
    assert isinstance(verdict, Verdict)
    return verdict


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=12))
@example([DEVICE.der, b"no certificate"])
def test_bytes_that_are_no_certificates_are_denied(certificates: list[bytes]) -> None:
    verdict = verdict_on(tuple(certificates))
    assert isinstance(verdict, Denied)
    assert "\n" not in verdict.message


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    """The bytes with some of them changed, dropped or doubled."""
    data = bytearray(original)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        end = draw(st.integers(start, min(start + 8, len(data))))
        data[start:end] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(data[start:end]) * 2)))
    return bytes(data)


@given(mutations(DEVICE.der), mutations(INTERMEDIATE.der), st.permutations(range(3)))
def test_changed_certificates_are_denied(device: bytes, intermediate: bytes, order: list[int]) -> None:
    certificates = [(device, intermediate, ROOT.der)[position] for position in order]
    verdict = verdict_on(tuple(certificates))
    if isinstance(verdict, Granted):
        # Whatever was done to the rest, what was signed is what was there.
        assert certificates[0] == DEVICE.der
        assert intermediate == INTERMEDIATE.der
        assert verdict.username == "device"
    else:
        assert isinstance(verdict, Denied)
        assert verdict.message
        assert "\n" not in verdict.message
        assert len(verdict.message) < 1_000


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=16)


@given(NAMES, NAMES)
def test_whatever_the_names_the_one_of_the_certificate_counts(common: str, organization: str) -> None:
    subject = Name([NameAttribute(NameOID.COMMON_NAME, common), NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    good = issue(subject, ROOT, own=key("EC"))
    verdict = verdict_on((good.der,))
    assert isinstance(verdict, Granted)
    assert verdict.username == common
    assert verdict.attributes == {"attribute": "yes"}
    bad = verdict_on((issue(subject, INTERMEDIATE, own=key("EC")).der,))
    assert isinstance(bad, Denied)
    assert bad.message.isprintable()
