"""trio-broker token create: the token, alone, and the ServiceAccount's manifest."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from mqttcore.auth import AuthRequest, Denied, Effect, Exchange, Granted, Verdict
from mqttcore.authenticators.effects import SigningKeys
from mqttcore.authenticators.service_account import METHOD, by_signature
from trio_broker import cli
from trio_broker.tokens.issuer import ISSUER, LocalIssuer


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def create(capsys: pytest.CaptureFixture[str], *arguments: str, err: str = "") -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["token", "create", *arguments])
    captured = capsys.readouterr()
    assert captured.err == err
    assert caught.value.code == 0
    assert captured.out.count("\n") == 1
    return captured.out.removesuffix("\n")


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["token", "create", *arguments])
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def judged(token: str, directory: str = ".session", audience: str = "aio-internal", late: float = 0.0) -> Verdict:
    issuer = LocalIssuer(Path(directory))
    request = AuthRequest(authentication_method=METHOD, authentication_data=token.encode(), time=time.time() + late)
    exchange = Exchange(by_signature((audience,), ISSUER), request, steps=2)
    step = exchange.start()
    while isinstance(step, Effect):
        keys: Any = tuple(issuer.jwks()["keys"])
        step = exchange.resume(
            keys if isinstance(step, SigningKeys) else issuer.annotations(step.namespace, step.name)  # type: ignore[attr-defined]
        )
    return step


def claims(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})


def test_a_token_that_the_broker_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    token = create(capsys, "press", "--audience", "aio-internal", "--audience", "x")
    assert claims(token)["exp"] - claims(token)["iat"] == 3600
    assert claims(token)["aud"] == ["aio-internal", "x"]
    granted = judged(token)
    assert isinstance(granted, Granted)
    assert granted.username == "system:serviceaccount:azure-iot-operations:press"
    assert isinstance(judged(token, audience="x"), Granted)
    assert isinstance(judged(token, audience="y"), Denied)
    assert isinstance(judged(token, late=3601), Denied)


def test_all_options(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    arguments = ("press.two", "--audience", "a", "--namespace", "plant", "--duration", "1h30m", "--dir", "other/place")
    token = create(
        capsys, *arguments, "--annotation", "aio-broker-auth/group=a=b", "--annotation", "aio-mq-broker-auth/x="
    )
    assert claims(token)["exp"] - claims(token)["iat"] == 5400
    granted = judged(token, "other/place", "a")
    assert isinstance(granted, Granted)
    assert granted.attributes == {"namespace": "plant", "serviceAccountName": "press.two", "group": "a=b", "x": ""}
    assert not (place / ".session").exists()


def test_annotations_stay(capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys, "press", "--audience", "aio-internal", "--annotation", "aio-broker-auth/group=fleet")
    granted = judged(create(capsys, "press", "--audience", "aio-internal"))
    assert isinstance(granted, Granted)
    assert granted.attributes["group"] == "fleet"


def test_an_annotation_that_makes_no_attribute_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    note = "note: group makes no attribute; write aio-broker-auth/group for one\n"
    create(capsys, "press", "--audience", "aio-internal", "--annotation", "group=fleet", err=note)


def test_expired(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = judged(create(capsys, "press", "--audience", "aio-internal", "--expired"))
    assert isinstance(verdict, Denied)
    assert "expired" in verdict.message


def test_not_yet_valid(capsys: pytest.CaptureFixture[str]) -> None:
    token = create(capsys, "press", "--audience", "aio-internal", "--not-yet-valid", "--duration", "10m")
    verdict = judged(token)
    assert isinstance(verdict, Denied)
    assert "is not valid for another" in verdict.message
    assert isinstance(judged(token, late=601), Granted)
    assert isinstance(judged(token, late=1201), Denied)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'NAME'"),
        (["press"], "--audience"),
        (["press", "--audience", ""], "an audience cannot be empty"),
        (["Press", "--audience", "a"], "'Press': a service account's name has"),
        (["../x", "--audience", "a"], "a service account's name has"),
        (["a" * 254, "--audience", "a"], "a service account's name has"),
        (["a..b", "--audience", "a"], "a service account's name has"),
        (["press\n", "--audience", "a"], "a service account's name has"),
        (["press", "--audience", "a", "--namespace", "a.b"], "'a.b': a namespace has"),
        (["press", "--audience", "a", "--namespace", "-a"], "a namespace has"),
        (["press", "--audience", "a", "--duration", "1 hour"], "'1 hour' is not a duration"),
        (["press", "--audience", "a", "--duration", "0s"], "must be more than 0"),
        (["press", "--audience", "a", "--duration", "-1h"], "is not a duration"),
        (["press", "--audience", "a", "--annotation", "x"], "'x': write KEY=VALUE"),
        (["press", "--audience", "a", "--annotation", "=x"], "'=x': write KEY=VALUE"),
        (["press", "--audience", "a", "--expired", "--not-yet-valid"], "exclude each other"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], place: Path, arguments: list[str], words: str) -> None:
    assert words in mistake(capsys, *arguments)
    assert not (place / ".session").exists()


def test_a_directory_that_cannot_be_used(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / ".session").mkdir()
    (place / ".session" / "issuer.key").write_text("not a key")
    assert "not a private key; remove it to have a new one made" in mistake(capsys, "press", "--audience", "a")
    (place / "file").write_text("")
    mistake(capsys, "press", "--audience", "a", "--dir", "file")
