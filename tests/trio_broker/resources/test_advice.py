"""Warnings about what is legal and surely not meant."""

import argon2
import pytest

from tests.trio_broker.resources.support import authentication, client_ca, listener, secret, together, warnings
from tests.trio_broker.resources.test_authentication import HASH, VERIFIER

CUSTOM = "- custom: {endpoint: 'https://a'}"
SAT = "- sat: {audiences: [aio-internal]}"
X509 = "- x509: {}"
PASSWORD = "- {method: Password, passwordSettings: {secretName: users}}"
SCRAM = "- {method: Scram, scramSettings: {secretName: verifiers}}"


def warned(*methods: str, name: str = "auth", tls: bool = True) -> list[str]:
    """The warnings of an authentication with these methods."""
    used = "\n".join(methods)
    text = authentication(used, name=name)
    if not tls:
        text = text.replace(next(line for line in text.splitlines() if " tls: " in line) + "\n", "")
    more = []
    if X509 in methods:
        more.append(client_ca())
    if PASSWORD in methods:
        more.append(secret("users", ada=HASH.encode()))
    if SCRAM in methods:
        more.append(secret("verifiers", ada=VERIFIER.encode()))
    return warnings(together(text, *more))


@pytest.mark.parametrize(
    "methods",
    [
        (SAT, X509),
        (X509, SAT, PASSWORD, SCRAM),
        (PASSWORD, SCRAM, SAT, X509, CUSTOM),
        (X509, SAT, CUSTOM),
    ],
)
def test_methods_that_can_all_be_reached(methods: tuple[str, ...]) -> None:
    assert warned(*methods) == []


@pytest.mark.parametrize(
    ("method", "name"), [(SAT, "ServiceAccountToken"), (X509, "X509"), (PASSWORD, "Password"), (SCRAM, "Scram")]
)
def test_the_second_of_a_kind_is_never_asked(method: str, name: str) -> None:
    [warning] = warned(method, method)
    assert warning.startswith(f"0.yaml:16: spec.authenticationMethods[1]: this {name} is never asked")
    assert "authenticationMethods[0] before it is for the same clients" in warning


def test_what_is_behind_a_custom_server_is_asked_only_without_its_answer() -> None:
    [warning] = warned(SAT, CUSTOM, X509, PASSWORD)
    assert warning == (
        "0.yaml:16: spec.authenticationMethods[1]: Custom judges every client:"
        " X509 and Password behind it will be asked only while its server gives no answer"
    )
    [warning] = warned(CUSTOM, CUSTOM)
    assert "Custom behind it will be asked only while" in warning


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ((SAT,), ["tokens cross the network"]),
        ((PASSWORD, SAT), ["passwords and tokens cross the network"]),
        ((SCRAM,), []),
        ((X509,), ["X509 can never be relevant"]),
    ],
)
def test_a_port_without_tls(methods: tuple[str, ...], expected: list[str]) -> None:
    found = warned(*methods, tls=False)
    assert len(found) == len(expected)
    for warning, text in zip(found, expected, strict=True):
        assert "the port has no TLS" in warning
        assert text in warning


@pytest.mark.parametrize(
    ("name", "method", "lost"),
    [
        ("default", SAT, False),
        ("default", SAT.replace("aio-internal", "aio-mq"), True),
        ("default", X509, True),
        ("authn", SAT, False),
        ("authn", SAT.replace("aio-internal", "aio-mq"), False),
        ("authn", SAT.replace("aio-internal", "mine"), True),
        ("mine", X509, False),
    ],
)
def test_the_products_components_lose_their_access(name: str, method: str, lost: bool) -> None:
    found = warned(method, name=name)
    assert any("the product's own components would lose their access" in warning for warning in found) is lost


def test_hashes_of_different_cost() -> None:
    other = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("x")
    users = secret("users", ada=HASH.encode(), bob=other.encode())
    assert "differ in cost (m, t, p)" in warnings(together(authentication(PASSWORD), users))[0]
    verifiers = secret("verifiers", ada=VERIFIER.encode(), bob=VERIFIER.replace("4096", "8192").encode())
    assert "differ in iterations or salt length" in warnings(together(authentication(SCRAM), verifiers))[0]


def test_nothing_to_warn_about() -> None:
    assert warnings(listener()) == []
