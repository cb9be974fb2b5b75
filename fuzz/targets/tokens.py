"""Service account tokens, verified by signature and by review.

Input: which of the two, whose keys, then the token: one that is known with bytes changed, one that is put together from
a header, claims and a signature, or any bytes.
"""

import json
from base64 import urlsafe_b64encode
from typing import Any

from fuzz import material
from fuzz.source import Source
from fuzz.verdicts import run
from mqttcore.auth import AuthRequest, Effect, Granted, Reply
from mqttcore.authenticators.effects import ReviewToken, ServiceAccountAnnotations, SigningKeys, TokenReviewed
from mqttcore.authenticators.service_account import METHOD, by_signature, by_token_review
from trio_broker.tokens.keys import read_jwks

BY_REVIEW = by_token_review(material.AUDIENCES)
BY_SIGNATURE = by_signature(material.AUDIENCES, material.ISSUER)
BY_ANY_ISSUER = by_signature(material.AUDIENCES, None)
EFFECTS = 2
SIGNED = {token.rpartition(".")[0] for token in material.TOKENS}
FOREIGN = {token.rpartition(".")[0] for token in material.BAD_TOKENS}
ACCOUNT = "system:serviceaccount:default:thermostat"
OWN_KEYS = tuple(material.JWKS["keys"])


def check(data: bytes) -> None:
    """A verdict after two effects at most, and nothing of the token in a message.

    By signature a token is good only if the issuer has signed these claims, whatever is in the header. By review one is
    good only if its own claims have an expiry, a number that is yet to come, which then is the credential's.
    """
    source = Source(data)
    kind = source.below(4)
    keys = _any_keys(source) if kind == 3 else OWN_KEYS
    raw = _token(source)
    request = AuthRequest(
        **({"username": METHOD, "password": raw} if source.flag() else _enhanced(raw)), time=material.TIME
    )

    def perform(effect: Effect) -> Reply:
        match effect:
            case SigningKeys(key_id):
                assert key_id is None or isinstance(key_id, str)
                return keys
            case ReviewToken(token):
                assert token == raw.decode("ascii").strip()
                return TokenReviewed(authenticated=True, username=ACCOUNT, audiences=material.AUDIENCES)
            case ServiceAccountAnnotations("default", "thermostat"):
                return {}
        raise AssertionError(effect)

    authenticator = (BY_REVIEW, BY_SIGNATURE, BY_ANY_ISSUER, BY_SIGNATURE)[kind]
    verdict, _ = run(authenticator, request, perform, EFFECTS)
    claims = _claims(raw)
    if isinstance(verdict, Granted):
        assert claims is not None
        assert verdict.username == ACCOUNT
        assert verdict.expires_at == claims["exp"]
        assert kind == 0 or raw.decode().strip().rpartition(".")[0] in (SIGNED | FOREIGN if kind == 2 else SIGNED)
    elif kind == 1:
        assert raw.decode("latin-1") not in material.TOKENS


def _enhanced(raw: bytes) -> dict[str, Any]:
    return {"authentication_method": METHOD, "authentication_data": raw}


def _any_keys(source: Source) -> Reply:
    keys = read_jwks(source.take(400))
    return (*keys, *OWN_KEYS[: source.below(3)]) if isinstance(keys, tuple) else keys


def _token(source: Source) -> bytes:
    known = (*material.TOKENS, *material.BAD_TOKENS)
    match source.below(3):
        case 0:
            token = bytearray(source.pick(known).encode())
            for _ in range(source.below(4)):
                token[source.below(len(token))] = source.byte()
            return bytes(token)
        case 1:
            header, claims, signature = source.pick(known).split(".")
            parts = [source.pick((given, _encoded(source.take(300)))) for given in (header, claims, signature)]
            return ".".join(parts).encode()
        case _:
            return source.rest()


def _encoded(part: bytes) -> str:
    return urlsafe_b64encode(part).decode().rstrip("=")


def _claims(raw: bytes) -> dict[str, Any] | None:
    try:
        claims = json.loads(material.decoded(raw.decode("ascii").strip().split(".")[1]))
    except (ValueError, IndexError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None
