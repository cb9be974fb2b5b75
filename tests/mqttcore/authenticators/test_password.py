"""User names and passwords: who is asked about, what it costs, and what is told."""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import AuthRequest, Denied, Failed, Granted, NotRelevant, Reply, Unavailable
from mqttcore.authenticators.effects import VerifyPassword
from mqttcore.authenticators.password import password
from mqttcore.codes import ReasonCode
from tests.mqttcore.authenticators.conversation import Conversation, converse

HASHES = {"ann": "hash of ann", "bob": "hash of bob"}
REQUEST = AuthRequest(username="ann", password=b"sesame")
WRONG = Denied("the user name or the password is wrong", ReasonCode.BAD_USER_NAME_OR_PASSWORD)


def decide(request: AuthRequest, reply: Reply) -> Conversation:
    return converse(password(HASHES), request, lambda effect: reply)


@pytest.mark.parametrize("name", HASHES)
def test_the_right_password(name: str) -> None:
    found = decide(evolve(REQUEST, username=name), True)
    assert found.effects == (VerifyPassword(HASHES[name], b"sesame"),)
    assert found.verdict == Granted(username=name)


def test_the_wrong_password() -> None:
    assert decide(REQUEST, False).verdict == WRONG


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("name", ["eve", "", "Ann", "ann ", "hash of ann"])
def test_a_stranger_costs_what_a_user_does_and_is_told_the_same(name: str, right: bool) -> None:
    found = decide(evolve(REQUEST, username=name), right)
    [effect] = found.effects
    assert isinstance(effect, VerifyPassword)
    assert effect.hash in HASHES.values()
    assert effect.password == b"sesame"
    assert found.verdict == WRONG


@pytest.mark.parametrize("right", [True, False])
def test_a_user_without_a_hash_is_not_let_in_by_another_one(right: bool) -> None:
    found = converse(password({"ann": "hash of ann", "bob": ""}), evolve(REQUEST, username="bob"), lambda effect: right)
    assert found.effects == (VerifyPassword("", b"sesame"),)


@pytest.mark.parametrize("secret", [b"", b"\xff\x00", bytes(65_535)])
def test_passwords_are_bytes(secret: bytes) -> None:
    assert decide(evolve(REQUEST, password=secret), True).effects == (VerifyPassword("hash of ann", secret),)


@pytest.mark.parametrize(
    "fields",
    [
        {"username": None},
        {"password": None},
        {"username": None, "password": None},
        {"authentication_method": "K8S-SAT"},
        {"authentication_method": ""},
        {"username": "K8S-SAT"},
        {"username": "K8S-SAT/ann"},
    ],
)
def test_not_its_business(fields: dict[str, Any]) -> None:
    found = decide(evolve(REQUEST, **fields), True)
    assert not found.effects
    assert isinstance(found.verdict, NotRelevant)


def test_a_check_that_fails_is_no_judgement() -> None:
    assert decide(REQUEST, Failed("out of memory")).verdict == Unavailable(
        "the password could not be checked: out of memory"
    )


def test_without_users() -> None:
    with pytest.raises(ValueError, match=r"^there must be at least one user$"):
        password({})


def test_no_secret_is_shown() -> None:
    found = decide(REQUEST, False)
    assert "sesame" not in repr(found)
    assert "hash of ann" not in repr(found)


@given(
    st.sampled_from([*HASHES, "eve"]) | st.text(max_size=5),
    st.sampled_from([True, False, None, 1, "True", b"", object(), Granted(), Failed("x")]),
)
def test_only_true_lets_in(name: str, reply: Reply) -> None:
    verdict = decide(evolve(REQUEST, username=name), reply).verdict
    if name in HASHES and reply is True:
        assert verdict == Granted(username=name)
    else:
        assert isinstance(verdict, Denied | Unavailable | NotRelevant)
