"""Users of the methods Password and Scram, from a Secret: each key is a user name, its value what proves a password."""

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from mqttcore.authenticators.scram import MINIMUM_ITERATIONS, Verifier
from mqttcore.authenticators.service_account import METHOD as SERVICE_ACCOUNT
from trio_broker.resources.objects import Bundle
from trio_broker.resources.problems import Problems, shown

T = TypeVar("T")
_BASE64 = r"[A-Za-z0-9+/]"
_ARGON2ID = re.compile(
    rf"\$argon2id\$v=19\$m=(\d{{1,10}}),t=(\d{{1,10}}),p=(\d{{1,8}})\$({_BASE64}{{11,86}})\$({_BASE64}{{16,172}})"
)
_SCRAM = re.compile(rf"SCRAM-SHA-256\$(\d{{1,10}}):({_BASE64}+={{0,2}})\$({_BASE64}{{43}}=):({_BASE64}{{43}}=)")
MAXIMUM_MEMORY = 4_194_304
"""KiB of memory that checking a password may take."""
MAXIMUM_ITERATIONS = 10_000_000


def read_password_users(bundle: Bundle, problems: Problems) -> Mapping[str, str]:
    """User names to Argon2id hashes."""
    users = _read(bundle, problems, _argon2id)
    for name in users:
        if name.startswith(SERVICE_ACCOUNT):
            text = f"{shown(name)} cannot log in: a user name that begins with {SERVICE_ACCOUNT} stands for a token"
            problems.add(bundle.data[name].place, text)
    if len({hashed.split("$")[3] for hashed in users.values()}) > 1:
        text = f"the hashes of {bundle.identity} differ in cost (m, t, p): how long a check takes tells who exists"
        problems.warn(bundle.identity.place, text)
    return users


def read_scram_users(bundle: Bundle, problems: Problems) -> Mapping[str, Verifier]:
    """User names to SCRAM-SHA-256 verifiers."""
    users = _read(bundle, problems, _verifier)
    if len({(verifier.iterations, len(verifier.salt)) for verifier in users.values()}) > 1:
        text = f"the verifiers of {bundle.identity} differ in iterations or salt length, which tells who exists"
        problems.warn(bundle.identity.place, text)
    return users


def _read(bundle: Bundle, problems: Problems, parse: Callable[[str], T]) -> Mapping[str, T]:
    users = {}
    if not bundle.data:
        problems.add(bundle.identity.place, f"{bundle.identity} is empty, so that nobody could log in")
    for name, datum in bundle.data.items():
        if not name:
            problems.add(datum.place, "a user name must not be empty")
        try:
            # A file ends with a line break.
            text = datum.content.removesuffix(b"\n").removesuffix(b"\r").decode("ascii")
            users[name] = parse(text)
        except ValueError as error:
            reason = "is not ASCII text" if isinstance(error, UnicodeDecodeError) else str(error)
            problems.add(datum.place, f"the value under key {shown(name)} of {bundle.identity} {reason}")
    return MappingProxyType(users)


def _argon2id(text: str) -> str:
    match = _ARGON2ID.fullmatch(text)
    if match is None:
        raise ValueError("is not an Argon2id hash: $argon2id$v=19$m=…,t=…,p=…$salt$hash")
    memory, passes, lanes = (int(number) for number in match.group(1, 2, 3))
    if not (1 <= lanes <= 2**24 - 1 and 1 <= passes <= 2**32 - 1 and 8 * lanes <= memory <= MAXIMUM_MEMORY):
        raise ValueError(
            f"is an Argon2id hash with impossible parameters (m at least 8 times p and at most {MAXIMUM_MEMORY})"
        )
    if any(len(part) % 4 == 1 for part in match.group(4, 5)):
        raise ValueError("is not an Argon2id hash: its salt or hash is not Base64")
    return text


def _verifier(text: str) -> Verifier:
    match = _SCRAM.fullmatch(text)
    if match is None:
        raise ValueError("is not a verifier: SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
    iterations = int(match[1])
    if not MINIMUM_ITERATIONS <= iterations <= MAXIMUM_ITERATIONS:
        raise ValueError(
            f"is a verifier with a number of iterations that is not from {MINIMUM_ITERATIONS} to {MAXIMUM_ITERATIONS}"
        )
    try:
        salt, stored_key, server_key = (b64decode(part, validate=True) for part in match.group(2, 3, 4))
    except ValueError:
        raise ValueError("is not a verifier: its salt or a key is not Base64") from None
    return Verifier(iterations, salt, stored_key, server_key)
