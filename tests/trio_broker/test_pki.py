"""The local authority: what it issues, what it keeps, and when it makes something anew."""

import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import AuthRequest, Denied, Exchange, Granted, Verdict
from mqttcore.authenticators.x509 import trust_anchors, x509
from trio_broker import ConfigurationError, pki, pki_files
from trio_broker.pki import ADDRESSES, DAY, DNS_NAMES, Issued, LocalAuthority, renewal_time
from trio_broker.pki_files import client_certificate, file_name, open_authority, server_certificate
from trio_broker.resources.configuration import KeyAlgorithm
from trio_broker.tls import server_context

NOW = datetime.now(UTC).timestamp()  # of the handshakes, which look at the clock


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authority") / ".session"


@pytest.fixture
def authority(directory: Path) -> LocalAuthority:
    return open_authority(directory, NOW)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# -------------------------------------------------------------------------------------------- the authority


def test_it_is_kept_with_what_its_clients_need(directory: Path, authority: LocalAuthority) -> None:
    assert {path.name for path in directory.iterdir()} == {"authority.pem", "broker-ca.crt", "chain.pem"}
    assert mode(directory) == 0o700
    assert mode(directory / "authority.pem") == 0o600
    assert mode(directory / "chain.pem") == 0o644
    before = (directory / "chain.pem").stat().st_mtime_ns
    assert open_authority(directory, NOW + 1000 * DAY) == authority
    assert (directory / "chain.pem").stat().st_mtime_ns == before
    for name in ("chain.pem", "broker-ca.crt"):
        assert b"PRIVATE KEY" not in (directory / name).read_bytes()
    assert (directory / "broker-ca.crt").read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert (directory / "chain.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 4


def test_no_key_is_in_the_representation(authority: LocalAuthority) -> None:
    assert repr(authority).count("<hidden>") == 2
    assert "PRIVATE" not in repr(authority)


def test_lost_public_files_are_written_again(tmp_path: Path) -> None:
    first = open_authority(tmp_path, NOW)
    (tmp_path / "broker-ca.crt").unlink()
    (tmp_path / "chain.pem").write_text("something else")
    assert open_authority(tmp_path, NOW) == first
    assert (tmp_path / "broker-ca.crt").read_bytes() == first.roots_pem
    assert (tmp_path / "chain.pem").read_bytes() == first.chain_pem


def test_before_its_end_it_is_replaced_and_so_is_what_it_issued(tmp_path: Path) -> None:
    first = open_authority(tmp_path, NOW)
    server = server_certificate(tmp_path, "tls", first, NOW)
    before = server.path.read_bytes()
    end = first.ec.not_after
    assert open_authority(tmp_path, end - pki.AUTHORITY_RENEWAL - 1) == first
    late = end - pki.AUTHORITY_RENEWAL
    second = open_authority(tmp_path, late)
    assert second != first
    assert open_authority(tmp_path, late) == second
    again = server_certificate(tmp_path, "tls", second, NOW)
    assert again.path.read_bytes() != before
    assert second.has_issued(Issued.from_pem(again.path.read_bytes()))
    assert not first.has_issued(Issued.from_pem(again.path.read_bytes()))


@pytest.mark.parametrize("links", [True, False])
def test_of_two_that_start_together_one_makes_the_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    other = LocalAuthority.create(NOW)
    create = LocalAuthority.create

    def create_and_be_late(now: float) -> LocalAuthority:
        (tmp_path / "authority.pem").write_bytes(other.pem)
        return create(now)

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "no links here")

    if links:
        monkeypatch.setattr(LocalAuthority, "create", create_and_be_late)
    else:
        monkeypatch.setattr("os.link", refuse)
    found = open_authority(tmp_path, NOW)
    assert (found == other) is links
    assert open_authority(tmp_path, NOW) == found
    assert {path.name for path in tmp_path.iterdir()} == {"authority.pem", "broker-ca.crt", "chain.pem"}


@pytest.mark.parametrize("damage", ["empty", "text", "half", "swapped keys", "one key", "leaf"])
def test_an_authority_that_cannot_be_read_is_not_replaced(
    tmp_path: Path, damage: str, authority: LocalAuthority
) -> None:
    ours, rsa = authority.ec, authority.rsa
    content = {
        "empty": b"",
        "text": b"hello",
        "half": authority.pem[: len(authority.pem) // 2],
        "swapped keys": ours.chain_pem + rsa.key_pem + rsa.chain_pem + ours.key_pem,
        "one key": ours.chain_pem + ours.key_pem,
        "leaf": authority.issue_client("a", NOW).chain_pem[:600] + ours.key_pem * 2,
    }[damage]
    path = tmp_path / "authority.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"authority\.pem is no authority \(.+\); remove it to have") as caught:
        open_authority(tmp_path, NOW)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_chain_without_its_root_is_no_authority(authority: LocalAuthority) -> None:
    alone = Issued(authority.ec.certificates[:1], authority.ec.key)
    with pytest.raises(ValueError, match="there are not an intermediate and a root"):
        LocalAuthority.from_pem(alone.chain_pem + alone.key_pem + authority.rsa.chain_pem + authority.rsa.key_pem)


@pytest.mark.parametrize(
    ("name", "message"), [("file", "Not a directory|File exists"), ("file/below", "Not a directory")]
)
def test_a_directory_that_is_none(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=message):
        open_authority(tmp_path / name, NOW)


# ------------------------------------------------------------------------------------- server certificates


@pytest.mark.parametrize(
    "algorithm", [algorithm for algorithm in KeyAlgorithm if algorithm.value not in ("Rsa4096", "Rsa8192")]
)
def test_a_server_certificate_convinces_the_strictest_clients(
    directory: Path, authority: LocalAuthority, algorithm: KeyAlgorithm
) -> None:
    stored = server_certificate(directory, algorithm.value, authority, NOW, algorithm=algorithm)
    assert mode(stored.path) == 0o600
    issued = Issued.from_pem(stored.path.read_bytes())
    assert issued.has_key(algorithm)
    names = issued.certificates[0].extensions.get_extension_for_class(SubjectAlternativeName).value
    assert names.get_values_for_type(DNSName) == list(DNS_NAMES)
    assert names.get_values_for_type(IPAddress) == list(ADDRESSES)
    server = server_context(stored.path, stored.path)
    for trusted in ("broker-ca.crt", "chain.pem"):
        client = ssl.create_default_context(cafile=str(directory / trusted))
        client.verify_flags |= ssl.VERIFY_X509_STRICT
        for name in ("localhost", "aio-broker", "aio-mq-dmqtt-frontend", "127.0.0.1", "::1"):
            shake_hands(server, client, name)
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, client, "example.test")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (near, far, near, far):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert near.version() is not None


def test_a_server_certificate_is_used_again_until_it_is_due(tmp_path: Path, authority: LocalAuthority) -> None:
    def get(now: float, **options: object) -> tuple[bytes, float]:
        stored = server_certificate(tmp_path, "tls", authority, now, lifetime=30 * DAY, **options)  # type: ignore[arg-type]
        return stored.path.read_bytes(), stored.renewal_time

    first, due = get(NOW)
    assert due == pytest.approx(NOW + 20 * DAY, abs=300)
    assert get(due - 1) == (first, due)
    second, later = get(due)
    assert second != first
    assert later > due
    third, latest = get(due + 1, renew_before=2 * DAY)
    assert third == second
    assert latest == pytest.approx(due + 28 * DAY, abs=300)
    # One from the future is of no use: the clock was wrong then, or is now.
    assert get(NOW - DAY)[0] != second


@pytest.mark.parametrize(
    "options",
    [
        {"dns_names": ["localhost"]},
        {"dns_names": [*DNS_NAMES, "broker.example"]},
        {"addresses": [ip_address("127.0.0.1")]},
        {"algorithm": KeyAlgorithm.EC384},
        {"algorithm": KeyAlgorithm.RSA2048},
        {"algorithm": KeyAlgorithm.ED25519},
    ],
)
def test_another_name_or_algorithm_is_another_certificate(
    tmp_path: Path, authority: LocalAuthority, options: dict[str, object]
) -> None:
    first = server_certificate(tmp_path, "tls", authority, NOW).path.read_bytes()
    reordered = server_certificate(tmp_path, "tls", authority, NOW, dns_names=[*reversed(DNS_NAMES), "localhost"])
    assert reordered.path.read_bytes() == first
    second = server_certificate(tmp_path, "tls", authority, NOW, **options).path.read_bytes()  # type: ignore[arg-type]
    assert second != first
    assert server_certificate(tmp_path, "tls", authority, NOW, **options).path.read_bytes() == second  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [True, False])
def test_the_key_is_kept_if_so_wished(tmp_path: Path, authority: LocalAuthority, keep: bool) -> None:
    first = Issued.from_pem(server_certificate(tmp_path, "a/b", authority, NOW, keep_key=keep).path.read_bytes())
    stored = server_certificate(tmp_path, "a/b", authority, NOW + 80 * DAY, keep_key=keep)
    second = Issued.from_pem(stored.path.read_bytes())
    assert second.certificates[0] != first.certificates[0]
    assert (second.key_pem == first.key_pem) is keep
    stored = server_certificate(
        tmp_path, "a/b", authority, NOW + 80 * DAY, keep_key=keep, algorithm=KeyAlgorithm.ED25519
    )
    assert Issued.from_pem(stored.path.read_bytes()).has_key(KeyAlgorithm.ED25519)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_server_certificate_is_replaced(tmp_path: Path, authority: LocalAuthority, content: bytes) -> None:
    (tmp_path / "server-tls.pem").write_bytes(content)
    stored = server_certificate(tmp_path, "tls", authority, NOW)
    assert authority.has_issued(Issued.from_pem(stored.path.read_bytes()))


def test_a_self_made_certificate_without_names_is_not_taken_for_ours(authority: LocalAuthority) -> None:
    client = authority.issue_client("a", NOW)
    assert not client.is_for(KeyAlgorithm.EC256, [], [])
    assert not authority.issue_server(NOW, algorithm=KeyAlgorithm.ED25519).has_key(KeyAlgorithm.EC256)


def test_nothing_outlives_the_authority(authority: LocalAuthority) -> None:
    end = authority.ec.not_after
    assert authority.issue_server(NOW, lifetime=1e9).not_after == end
    assert authority.issue_client("a", NOW, lifetime=1e9).not_after == end
    assert authority.issue_client("a", NOW, lifetime=DAY).not_after == int(NOW + DAY)


@pytest.mark.parametrize(
    ("dns_names", "addresses", "message"),
    [
        (["münchen.example"], [], "'münchen.example' is no DNS name; write an international one in its xn-- form"),
        ([], [], "a server certificate needs a DNS name or an IP address"),
    ],
)
def test_names_of_servers_that_cannot_be(
    authority: LocalAuthority, dns_names: list[str], addresses: list[pki.Address], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        authority.issue_server(NOW, dns_names=dns_names, addresses=addresses)
    assert str(caught.value) == message


def test_a_server_needs_no_name_that_fits_into_a_cn(authority: LocalAuthority) -> None:
    for dns_names, addresses in (([f"{'a' * 60}.example"], []), ([], ADDRESSES)):
        certificate = authority.issue_server(NOW, dns_names=dns_names, addresses=addresses).certificates[0]
        assert not list(certificate.subject)
        assert certificate.extensions.get_extension_for_class(SubjectAlternativeName).critical


@given(st.floats(0, 1e9), st.floats(1, 1e9), st.none() | st.floats(0, 1e9))
def test_renewal_is_before_the_end_and_not_before_the_beginning(
    not_before: float, lifetime: float, renew_before: float | None
) -> None:
    time = renewal_time(not_before, not_before + lifetime, renew_before)
    assert not_before <= time <= not_before + lifetime


def test_the_time_of_renewal() -> None:
    assert renewal_time(0, 90) == 60
    assert renewal_time(0, 90, 10) == 80
    assert renewal_time(0, 90, 90) == 60


# ------------------------------------------------------------------------------------- client certificates


def judge(authority: LocalAuthority, issued: Issued, now: float = NOW) -> Verdict:
    certificates = tuple(
        ssl.PEM_cert_to_DER_cert(pki.certificates_pem([each]).decode()) for each in issued.certificates
    )
    exchange = Exchange(x509(trust_anchors(authority.roots_pem)), AuthRequest(certificates=certificates, time=now), 0)
    exchange.start()
    assert exchange.verdict is not None
    return exchange.verdict


@pytest.mark.parametrize("rsa_key", [False, True])
def test_a_client_certificate_is_accepted_while_it_is_valid(authority: LocalAuthority, rsa_key: bool) -> None:
    issued = authority.issue_client("thermostat", NOW, rsa_key=rsa_key, lifetime=7 * DAY)
    verdict = judge(authority, issued)
    assert isinstance(verdict, Granted)
    assert verdict.username == "thermostat"
    assert verdict.expires_at == issued.not_after == int(NOW + 7 * DAY)
    assert isinstance(judge(authority, issued, NOW + 8 * DAY), Denied)
    assert isinstance(judge(LocalAuthority.create(NOW), issued), Denied)


def test_an_expired_client_certificate_is_denied_for_that(authority: LocalAuthority) -> None:
    verdict = judge(authority, authority.issue_client("thermostat", NOW, expired=True))
    assert isinstance(verdict, Denied)
    assert "'CN=thermostat' expired at" in verdict.message


def test_the_certificate_of_a_server_is_not_for_clients(authority: LocalAuthority) -> None:
    verdict = judge(authority, authority.issue_server(NOW))
    assert isinstance(verdict, Denied)
    assert "no clientAuth" in verdict.message


def test_a_client_certificate_is_used_again(tmp_path: Path, authority: LocalAuthority) -> None:
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"

    def get(name: str = "client", now: float = NOW) -> Issued:
        issued = client_certificate(certificate, key, name, authority, now)
        assert Issued.from_pem(certificate.read_bytes() + key.read_bytes()).key_pem == issued.key_pem
        return issued

    first = get()
    assert (mode(certificate), mode(key)) == (0o644, 0o600)
    assert get().chain_pem == first.chain_pem
    assert get("other").chain_pem != first.chain_pem
    second = get()
    assert get(now=NOW + 300 * DAY).chain_pem != second.chain_pem
    key.unlink()
    third = get()
    key.write_bytes(second.key_pem)
    assert get().chain_pem != third.chain_pem


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a CN has 1 to 64 bytes, and '' has 0"),
        ("é" * 33, "has 66"),
        ("a\nb", r"'a\nb' has characters that cannot be printed, and is no CN"),
        ("\udc80", "is not Unicode text, and no CN"),
    ],
)
def test_names_of_clients_that_cannot_be(authority: LocalAuthority, name: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        authority.issue_client(name, NOW)
    assert message in str(caught.value)


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=64), st.text(st.characters(codec="utf-8"), min_size=1)
)
def test_every_name_has_a_file_of_its_own(one: str, other: str) -> None:
    name = file_name(one)
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\ :*?\"'$")
    assert name[0] not in ".-~"
    assert (file_name(other) == name) is (other == one)


def test_ordinary_names_stay_as_they_are() -> None:
    assert file_name("thermostat-1.site_A") == "thermostat-1.site_A"
    assert file_name("../x") == "%2E.%2Fx"


def test_whose_a_file_is(tmp_path: Path, authority: LocalAuthority) -> None:
    path = tmp_path / "x.pem"
    assert pki_files.is_ours(path)
    for content, ours in ((authority.chain_pem, True), (b"garbage", False), (b"", False)):
        path.write_bytes(content)
        assert pki_files.is_ours(path) is ours
    with pytest.raises(ConfigurationError, match="Is a directory"):
        pki_files.is_ours(tmp_path)


def test_a_key_of_an_unknown_kind_is_no_key(authority: LocalAuthority) -> None:
    issued = authority.issue_client("a", NOW)
    der = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    pem = ssl.DER_cert_to_PEM_cert(der.replace(p256, unknown)).replace("CERTIFICATE", "PRIVATE KEY")
    with pytest.raises(ValueError, match=r"."):
        Issued.from_pem(issued.chain_pem + pem.encode())


def test_a_key_of_another_kind_is_no_private_key_of_ours(authority: LocalAuthority) -> None:
    issued = authority.issue_client("a", NOW)
    other = Issued(issued.certificates, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ValueError, match="the private key does not belong to the certificate"):
        Issued.from_pem(other.chain_pem + other.key_pem)
