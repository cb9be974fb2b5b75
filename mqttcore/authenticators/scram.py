"""SCRAM-SHA-256 (RFC 5802, RFC 7677) as enhanced authentication in several steps: an extension for local use.

client-first comes in CONNECT or AUTH 0x19, server-first goes out and client-final comes in by AUTH 0x18, and
server-final goes out with the CONNACK or AUTH 0x00. There is no channel binding.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256, shake_256
from hmac import compare_digest, digest

from attrs import field, frozen

from mqttcore.auth import (
    Authentication,
    Authenticator,
    AuthRequest,
    Challenge,
    Denied,
    Granted,
    NotRelevant,
    Response,
)
from mqttcore.codes import ReasonCode

METHOD = "SCRAM-SHA-256"
MINIMUM_ITERATIONS = 4096
"""RFC 7677, section 4."""
MAXIMUM_MESSAGE = 4096
"""Bytes of a client's message."""

_NAME = re.compile(r"([^=]|=2C|=3D)+", re.DOTALL)


@frozen
class Verifier:
    """What is kept of a user's password (RFC 5802, section 3): neither the password nor a key to log in with."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


class _Refused(Exception):
    """The client's message is wrong; the text says in what."""


def scram_sha_256(users: Mapping[str, Verifier]) -> Authenticator:
    """An authenticator for `users`, user name to verifier; at least one. An unknown user is answered as a known one
    until the end.

    Raises ValueError if `users` is empty.
    """
    if not users:
        raise ValueError("there must be at least one user")
    # Salts for users that do not exist: always the same for one name, and not to be told from real ones.
    pretended = sha256(b"".join(users[name].server_key for name in sorted(users))).digest()
    somebody = next(iter(users.values()))

    def authenticate(request: AuthRequest) -> Authentication:
        if request.authentication_method != METHOD:
            return NotRelevant(f"the Authentication Method is not {METHOD}")
        try:
            binding, username, client_nonce, client_first = _client_first(request.authentication_data)
            known = users.get(username)
            verifier = known or Verifier(
                somebody.iterations,
                shake_256(pretended + username.encode()).digest(len(somebody.salt)),
                somebody.stored_key,
                somebody.server_key,
            )
            nonce = client_nonce + b64encode(request.entropy[:18]).decode()
            server_first = f"r={nonce},s={b64encode(verifier.salt).decode()},i={verifier.iterations}"
            response = yield Challenge(server_first.encode())
            if not isinstance(response, Response):
                raise _Refused("the client did not answer")
            proof, without_proof = _client_final(response.data, binding, nonce)
        except _Refused as error:
            return Denied(str(error))
        signed = ",".join((client_first, server_first, without_proof)).encode()
        signature = digest(verifier.stored_key, signed, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not compare_digest(sha256(client_key).digest(), verifier.stored_key) or known is None:
            return Denied("the user name or the password is wrong", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        server_final = b"v=" + b64encode(digest(verifier.server_key, signed, "sha256"))
        return Granted(username=username, data=server_final)

    return authenticate


def _fields(text: str, names: str) -> list[str]:
    """The values of `names`, which must be what the message consists of, extensions at its end aside."""
    parts = text.split(",")
    if len(parts) < len(names) or any(part[:2] != f"{name}=" for part, name in zip(parts, names, strict=False)):
        raise _Refused(f"the message is not of the form {', '.join(f'{name}=…' for name in names)}")
    return [part[2:] for part in parts[: len(names)]]


def _text(data: bytes | None) -> str:
    if not data or len(data) > MAXIMUM_MESSAGE:
        raise _Refused("the client's message is missing or too long")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _Refused("the client's message is not UTF-8") from None


def _client_first(data: bytes | None) -> tuple[str, str, str, str]:
    binding, _, rest = _text(data).partition(",")
    identity, _, bare = rest.partition(",")
    if binding not in ("n", "y"):
        raise _Refused("channel binding is not supported")
    if identity:
        raise _Refused("acting for another identity is not supported")
    name, nonce = _fields(bare, "nr")
    if not nonce or not nonce.isascii() or not nonce.isprintable():
        raise _Refused("the nonce is empty or not printable ASCII")
    if not _NAME.fullmatch(name):
        raise _Refused("the user name is not encoded as RFC 5802 says")
    return binding, name.replace("=2C", ",").replace("=3D", "="), nonce, bare


def _client_final(data: bytes | None, binding: str, nonce: str) -> tuple[bytes, str]:
    text = _text(data)
    without_proof, comma, proof = text.rpartition(",p=")
    returned_binding, returned = _fields(without_proof, "cr")
    if not comma or returned_binding != b64encode(f"{binding},,".encode()).decode():
        raise _Refused("the channel binding is not that of the first message")
    if not compare_digest(returned.encode(), nonce.encode()):
        raise _Refused("the nonce is not the one that was sent")
    try:
        raw = b64decode(proof, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != sha256().digest_size:
        raise _Refused("the proof is not 32 bytes in Base64")
    return raw, without_proof
