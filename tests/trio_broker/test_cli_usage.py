"""trio-broker pub and sub: what is wrong before anything is sent, and the help."""

from pathlib import Path

import pytest

from trio_broker.cli import main


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pub", "-t", "t"), "exactly one of -m, -f, -s, -l and -n"),
        (("pub", "-t", "t", "-m", "x", "-n"), "exactly one of -m, -f, -s, -l and -n"),
        (("pub", "-t", "a/#", "-n"), "a Topic Name must not contain wildcards"),
        (("pub", "-t", "", "-n"), "at least one character"),
        (("pub", "-t", "t", "-n", "-q", "3"), "3 is not in the range 0<=x<=2"),
        (("pub", "-t", "t", "-n", "--user-property", "x"), "write KEY=VALUE"),
        (("pub", "-t", "t", "-n", "-c"), "-c needs -i"),
        (("pub", "-t", "t", "-n", "-x", "no"), "'no' is not a number of seconds"),
        (("pub", "-t", "t", "-n", "-x", "-2"), "-2 is not between 0 and 4294967295"),
        (("pub", "-t", "t", "-n", "--will-qos", "0"), "--will-qos is of no use without --will-topic"),
        (("pub", "-t", "t", "-n", "--auth-data", "x"), "--auth-data is of no use without --auth-method"),
        (("pub", "-t", "t", "-n", "--key", __file__), "give --cert too"),
        (("pub", "-t", "t", "-n", "-P", "x", "--password-file", __file__), "exclude each other"),
        (("pub", "-t", "t", "-n", "-P", "x", "-V", "311"), "give -u too"),
        (
            ("pub", "-t", "t", "-n", "--content-type", "x", "-V", "311"),
            "--content-type exists in MQTT 5 only",
        ),
        (("pub", "-t", "t", "-n", "-x", "1", "-V", "mqttv311"), "--session-expiry-interval exists in MQTT 5"),
        (("sub", "-t", "t", "--no-local", "-V", "mqttv311"), "--no-local exists in MQTT 5 only"),
        (("sub", "-t", "a/#/b"), "must fill a level of its own"),
        (("sub", "-t", "t", "-v", "--json"), "-v and --json exclude each other"),
        (("sub",), "Missing option '-t' / '--topic'"),
        (("sub", "-t", "t", "--insecure"), "No such option"),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    assert message in usage_error(capsys, *arguments)


def test_bad_files_of_secrets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def problem(path: Path) -> str:
        return usage_error(capsys, "sub", "-t", "t", "--auth-method", "M", "--auth-data", f"@{path}")

    assert f"{tmp_path}/none cannot be read: No such file or directory" in problem(tmp_path / "none")
    (tmp_path / "empty").write_text("\n")
    assert "it is empty" in problem(tmp_path / "empty")
    (tmp_path / "long").write_bytes(bytes(65_536))
    assert "it has more than 65535 bytes" in problem(tmp_path / "long")


@pytest.mark.parametrize("name", ["pub", "sub"])
def test_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code in (0, None)
    text = capsys.readouterr().out
    for title in ("Connection:", "Who you are:", "Session and flow control:", "Exit status: 0"):
        assert title in text
    assert "--insecure" not in text
