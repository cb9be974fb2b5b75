"""trio-broker cert create: the files that it writes, and those that it leaves alone."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from trio_broker import cli
from trio_broker.pki import DAY, Issued


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority for all tests: to make one takes a moment."""
    return tmp_path_factory.mktemp("cert") / ".session"


@pytest.fixture(autouse=True)
def place(session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".session").symlink_to(session)
    session.mkdir(exist_ok=True)
    monkeypatch.setattr(cli, "COMMANDS", tuple(dict.fromkeys((*cli.COMMANDS, "cert"))))
    return tmp_path


def create(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["cert", "create", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert caught.value.code == 0
    return captured.out


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["cert", *arguments])
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("trio-broker: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("trio-broker: ").rstrip("\n")


def read(place: Path, name: str) -> Issued:
    return Issued.from_pem((place / f"{name}_cert.pem").read_bytes() + (place / f"{name}_key.pem").read_bytes())


def files(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} - {".session"}


def test_three_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = create(capsys, "thermostat")
    assert files(place) == {"thermostat_cert.pem", "thermostat_key.pem", "chain.pem"}
    assert [line.split()[0] for line in said.splitlines()] == ["thermostat_cert.pem", "thermostat_key.pem", "chain.pem"]
    assert "valid until" in said
    issued = read(place, "thermostat")
    assert issued.certificates[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "thermostat"
    assert isinstance(issued.key, ec.EllipticCurvePrivateKey)
    assert issued.not_after - issued.not_before == pytest.approx(365 * DAY, abs=600)
    assert (place / "thermostat_key.pem").stat().st_mode & 0o777 == 0o600
    assert (place / "chain.pem").read_bytes() == (place / ".session" / "chain.pem").read_bytes()
    # As clients load them.
    context = ssl.create_default_context(cafile=str(place / "chain.pem"))
    context.load_cert_chain(place / "thermostat_cert.pem", place / "thermostat_key.pem")


def test_the_kind_of_key_and_the_life(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys, "a", "--key", "rsa", "--days", "3")
    issued = read(place, "a")
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    assert issued.not_after - issued.not_before == pytest.approx(3 * DAY, abs=600)
    assert "expired" in create(capsys, "b", "--expired", "--days", "3")
    issued = read(place, "b")
    assert issued.not_after - issued.not_before == pytest.approx(3 * DAY, abs=600)


def test_another_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = create(capsys, "a", "--out", "new/place", "--dir", ".session")
    assert files(place) == {"new"}
    assert files(place / "new" / "place") == {"a_cert.pem", "a_key.pem", "chain.pem"}
    assert "new/place/a_key.pem" in said
    create(capsys, "a", "--out", ".session")


@pytest.mark.parametrize(
    ("name", "file"), [("../a", "%2E.%2Fa"), ("a b", "a%20b"), ("ü", "%C3%BC"), ("/etc/passwd", "%2Fetc%2Fpasswd")]
)
def test_no_name_leads_elsewhere(place: Path, capsys: pytest.CaptureFixture[str], name: str, file: str) -> None:
    create(capsys, name)
    assert files(place) == {f"{file}_cert.pem", f"{file}_key.pem", "chain.pem"}


def test_a_name_may_begin_with_a_hyphen(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys, "--", "-a")
    assert "%2Da_cert.pem" in files(place)


def test_again_is_another_certificate(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys, "a")
    first = read(place, "a")
    create(capsys, "a")
    assert read(place, "a") != first


def test_the_files_of_others_are_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys, "b")
    (place / "a_key.pem").write_text("precious")
    line = mistake(capsys, "create", "a")
    assert line == "a_key.pem is there without a_cert.pem; choose another place with --out"
    for name in ("a_cert.pem", "chain.pem"):
        (place / name).write_text("another's")
        line = mistake(capsys, "create", "a")
        assert line == f"{name} is not of the local authority; choose another place with --out"
        (place / name).write_bytes((place / "b_cert.pem").read_bytes())
    assert (place / "a_key.pem").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fly"], "No such command 'fly'"),
        (["create"], "Missing argument 'CN'"),
        (["create", ""], "a CN has 1 to 64 bytes, and '' has 0; see trio-broker cert create --help"),
        (["create", "a" * 65], "has 65"),
        (["create", "a\tb"], r"'a\tb' has characters that cannot be printed, and is no CN"),
        (["create", "a", "--days", "0"], "0 is not in the range 1<=x<=3650"),
        (["create", "a", "--key", "dsa"], "'dsa' is not one of 'ec', 'rsa'"),
        (["create", "a", "--dir", "/dev/null/x"], "/dev/null/x/authority.pem: Not a directory"),
        (["create", "a", "--out", "/dev/null/x"], "/dev/null/x/a_cert.pem: Not a directory"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert line in mistake(capsys, *arguments)
