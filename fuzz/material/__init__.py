"""Certificates, tokens and passwords that the targets know, made for this and good for nothing else."""

import json
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256
from hmac import digest
from pathlib import Path
from typing import Any

from mqttcore.authenticators.scram import Verifier

_MADE: dict[str, Any] = json.loads(Path(__file__).with_name("material.json").read_text())

TIME: float = _MADE["time"]
"""When the certificates and tokens are valid, Unix seconds."""
ANCHORS: bytes = _MADE["anchors"].encode()
GOOD_CHAINS = tuple(tuple(map(bytes.fromhex, chain)) for chain in _MADE["good"])
BAD_CHAINS = tuple(tuple(map(bytes.fromhex, chain)) for chain in _MADE["bad"])
JWKS: dict[str, Any] = _MADE["jwks"]
TOKENS: tuple[str, ...] = tuple(_MADE["tokens"])
BAD_TOKENS: tuple[str, ...] = tuple(_MADE["bad_tokens"])
AUDIENCES = ("aio-internal",)
ISSUER = "https://issuer.example"

USER = "user"
PASSWORD = b"a password that is nowhere to be seen"
ENTROPY = bytes(range(32))
_SALT, _ITERATIONS = b"salt of the user", 4096
_SALTED = pbkdf2_hmac("sha256", PASSWORD, _SALT, _ITERATIONS)
_CLIENT_KEY = digest(_SALTED, b"Client Key", "sha256")
VERIFIER = Verifier(
    iterations=_ITERATIONS,
    salt=_SALT,
    stored_key=sha256(_CLIENT_KEY).digest(),
    server_key=digest(_SALTED, b"Server Key", "sha256"),
)
CLIENT_FIRST = b"n,,n=user,r=nonce"
STRANGER_FIRST = b"n,,n=stranger,r=nonce"


def client_final(server_first: bytes, client_first: bytes = CLIENT_FIRST) -> bytes:
    """The answer, with the password of USER, to a challenge that followed `client_first`."""
    nonce = server_first.partition(b",")[0].removeprefix(b"r=")
    without_proof = b"c=" + b64encode(b"n,,") + b",r=" + nonce
    signed = b",".join((client_first.removeprefix(b"n,,"), server_first, without_proof))
    signature = digest(VERIFIER.stored_key, signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(_CLIENT_KEY, signature, strict=True))
    return without_proof + b",p=" + b64encode(proof)


def decoded(part: str) -> bytes:
    """A part of a token, from base64url without padding. Raises ValueError."""
    return b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
