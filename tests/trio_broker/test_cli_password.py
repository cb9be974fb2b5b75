"""trio-broker password: what it prints is what the methods Password and Scram take."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mqttcore.auth import AuthRequest, Denied, Granted, Response
from mqttcore.authenticators.effects import VerifyPassword
from mqttcore.authenticators.scram import scram_sha_256
from tests.mqttcore.authenticators.conversation import converse
from tests.mqttcore.authenticators.test_scram import client_final, client_first
from tests.trio_broker.resources.support import authentication, loads
from trio_broker.cli import main
from trio_broker.effects import verify_password
from trio_broker.resources import PasswordSettings, ScramSettings

COMMAND = [sys.executable, "-m", "trio_broker", "password"]


class Terminal:
    """Standard input that is a pipe, and what the command does with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, stdin: bytes, *options: str) -> tuple[object, str, str]:
        """Exit status, output and errors."""
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            main(["password", *options])
        return caught.value.code, *self._capsys.readouterr()

    def printed(self, stdin: bytes, *options: str) -> str:
        status, output, errors = self.run(stdin, *options)
        assert (status, errors) == (0, "")
        [line] = output.splitlines(keepends=True)
        assert line.isascii()
        return line


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


def settings(kind: str, line: str, tmp_path: Path) -> object:
    """What a manifest makes of the line, by way of --secret."""
    users = tmp_path / "users"
    users.mkdir()
    (users / "ann").write_text(line)
    loaded = loads(
        authentication(f"- method: {kind}\n  {kind.lower()}Settings: {{secretName: users}}"), secrets={"users": users}
    )
    assert loaded.problems == ()
    assert loaded.configuration is not None
    [found] = loaded.configuration.ports
    assert found.authentication is not None
    return found.authentication.methods[0]


@pytest.mark.parametrize(
    ("secret", "end"),
    [
        (b"sesame", b""),
        (b"sesame", b"\n"),
        (b"sesame", b"\r\n"),
        (b"sesame", b"\nnext line\n"),
        ("Öffne dich".encode(), b"\n"),
        (b" x ", b"\n"),
        (b"\xff\xfe", b"\n"),
        (b"x" * 65_535, b"\r\n"),
    ],
)
def test_a_hash(terminal: Terminal, tmp_path: Path, secret: bytes, end: bytes) -> None:
    found = settings("Password", terminal.printed(secret + end), tmp_path)
    assert isinstance(found, PasswordSettings)
    effect = VerifyPassword(found.users["ann"], secret)
    assert verify_password(effect.hash, effect.password) is True
    assert verify_password(effect.hash, secret + b"x") is False
    assert effect.hash.startswith("$argon2id$v=19$m=")


@pytest.mark.parametrize("secret", ["sesame", "Öffne dich"])
def test_a_verifier(terminal: Terminal, tmp_path: Path, secret: str) -> None:
    line = terminal.printed(secret.encode() + b"\n", "--scram")
    found = settings("Scram", line, tmp_path)
    assert isinstance(found, ScramSettings)
    request = AuthRequest(
        authentication_method="SCRAM-SHA-256", authentication_data=client_first("ann"), entropy=bytes(32)
    )
    for tried, kind in ((secret, Granted), (secret + "x", Denied)):
        verdict = converse(
            scram_sha_256(found.users),
            request,
            lambda effect, tried=tried: Response(client_final(tried, client_first("ann"), effect.data)),  # type: ignore[misc]
        ).verdict
        assert isinstance(verdict, kind)


@pytest.mark.parametrize("options", [[], ["--scram"]])
def test_no_two_are_the_same(terminal: Terminal, options: list[str]) -> None:
    assert len({terminal.printed(b"sesame", *options) for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "the password is empty"),
        (b"\n", "the password is empty"),
        (b"x" * 65_536, "the password is longer than the 65535 bytes that MQTT can carry"),
        (b"x" * 1_000_000, "the password is longer than the 65535 bytes that MQTT can carry"),
    ],
)
def test_a_mistake(terminal: Terminal, stdin: bytes, message: str) -> None:
    assert terminal.run(stdin) == (2, "", f"trio-broker: {message}\n")


def test_at_a_terminal_the_result_alone_goes_to_the_file(tmp_path: Path) -> None:
    near, far = pty.openpty()
    prompts = b""
    with (tmp_path / "ann").open("wb") as file:
        with subprocess.Popen(
            COMMAND, stdin=far, stdout=file, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stderr is not None
            for prompt in (b"Password: ", b"confirmation: "):
                while not prompts.endswith(prompt):
                    read = os.read(process.stderr.fileno(), 100)
                    assert read, prompts
                    prompts += read
                os.write(near, b"sesame\n")
            assert process.wait(60) == 0
    os.close(near)
    os.close(far)
    text = (tmp_path / "ann").read_text()
    assert re.fullmatch(r"\$argon2id\$\S+\n", text)
    assert verify_password(text.strip(), b"sesame") is True
