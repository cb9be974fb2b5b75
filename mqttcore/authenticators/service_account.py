"""Kubernetes service account tokens: reviewed by an API server, or verified here against the issuer's keys."""

import re
from collections.abc import Mapping
from typing import Any

import jwt
from attrs import frozen

from mqttcore.auth import (
    Authentication,
    Authenticator,
    AuthRequest,
    Denied,
    Failed,
    Granted,
    NotRelevant,
    Unavailable,
)
from mqttcore.authenticators.effects import (
    JsonWebKeys,
    ReviewToken,
    ServiceAccountAnnotations,
    SigningKeys,
    TokenReviewed,
)

METHOD = "K8S-SAT"
"""The Authentication Method, and what an older client's user name begins with."""
ANNOTATION_PREFIXES = ("aio-mq-broker-auth/", "aio-broker-auth/")
"""What annotations that become attributes begin with; of two with the same name the later prefix's holds."""
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}
"""Signature algorithms that are accepted, with the key type and curve that each needs; neither "none" nor a shared
secret.
"""

MAXIMUM_REASON = 200
"""Characters of an API server's reason that are passed on."""

# A namespace is a DNS label, a service account's name a DNS subdomain: only the latter has dots.
_SUBJECT = re.compile(r"system:serviceaccount:([a-z0-9]([-a-z0-9]*[a-z0-9])?):([a-z0-9]([-a-z0-9.]*[a-z0-9])?)")
_WINDOW = 12


class _Refused(Exception):
    """The token is not good; the text says why, without any of it."""


@frozen
class _Account:
    namespace: str
    name: str

    @property
    def username(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"


def by_token_review(audiences: tuple[str, ...]) -> Authenticator:
    """An authenticator that has an API server review the token (TokenReview) for one of `audiences`.

    The expiry is the token's own `exp`, believed only once the review has passed; a token without one is refused.
    """

    def authenticate(request: AuthRequest) -> Authentication:
        if not _relevant(request):
            return NotRelevant(f"neither is the Authentication Method {METHOD} nor does the user name begin so")
        try:
            token = _token(request)
            review = yield ReviewToken(token, audiences)
            if not isinstance(review, TokenReviewed):
                return Unavailable(f"the token could not be reviewed: {_kind(review)}")
            if not review.authenticated:
                raise _Refused(f"the API server does not accept the token{_reason(review.error, token)}")
            if not set(review.audiences) & set(audiences):
                raise _Refused(f"the API server reviewed the token for none of the audiences {', '.join(audiences)}")
            account = _account(review.username)
            expires_at = _expiry(_unverified_claims(token), request.time)
        except _Refused as error:
            return Denied(str(error))
        return (yield from _grant(account, expires_at))

    return authenticate


def by_signature(audiences: tuple[str, ...], issuer: str | None) -> Authenticator:
    """An authenticator that verifies the token itself: signature, `aud`, `exp`, `nbf`, `sub`, and `iss` unless
    `issuer` is None.
    """

    def authenticate(request: AuthRequest) -> Authentication:
        if not _relevant(request):
            return NotRelevant(f"neither is the Authentication Method {METHOD} nor does the user name begin so")
        try:
            token = _token(request)
            algorithm, key_id = _header(token)
            keys = yield SigningKeys(key_id)
            if not isinstance(keys, tuple):
                return Unavailable(f"the keys of the tokens' issuer could not be had: {_kind(keys)}")
            claims = _verify(token, algorithm, key_id, keys)
            if issuer is not None and claims.get("iss") != issuer:
                raise _Refused(f"the token's issuer is not {issuer}")
            if not _audiences(claims) & set(audiences):
                raise _Refused(f"the token is for none of the audiences {', '.join(audiences)}")
            expires_at = _expiry(claims, request.time)
            not_before = _number(claims, "nbf")
            if not_before is not None and not_before > request.time:
                raise _Refused(f"the token is not valid for another {not_before - request.time:.0f} seconds")
            account = _account(claims.get("sub"))
        except _Refused as error:
            return Denied(str(error))
        return (yield from _grant(account, expires_at))

    return authenticate


def attributes_from(annotations: Mapping[str, str], namespace: str, name: str) -> dict[str, str]:
    """A service account's attributes: its annotations that are meant to be, and where it is found unless one says
    otherwise.
    """
    attributes = {"namespace": namespace, "serviceAccountName": name}
    for prefix in ANNOTATION_PREFIXES:
        for key, value in annotations.items():
            if key.startswith(prefix) and len(key) > len(prefix):
                attributes[key[len(prefix) :]] = value
    return attributes


def _relevant(request: AuthRequest) -> bool:
    return request.authentication_method == METHOD or (request.username or "").startswith(METHOD)


def _token(request: AuthRequest) -> str:
    raw = request.authentication_data if request.authentication_method == METHOD else request.password
    if not raw:
        raise _Refused("there is no token")
    try:
        return raw.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _Refused("the token is not a JSON Web Token") from None


def _grant(account: _Account, expires_at: float) -> Authentication:
    annotations = yield ServiceAccountAnnotations(account.namespace, account.name)
    if not isinstance(annotations, Mapping):
        return Unavailable(f"the attributes of {account.username} could not be looked up: {_kind(annotations)}")
    attributes = attributes_from(annotations, account.namespace, account.name)
    return Granted(username=account.username, attributes=attributes, expires_at=expires_at)


def _reason(error: str, token: str) -> str:
    # The text is the API server's own, and nothing promises that it does not quote what it was given.
    error = error[:MAXIMUM_REASON]
    quoted = any(error[start : start + _WINDOW] in token for start in range(len(error) - _WINDOW + 1))
    return f": {error}" if error.isprintable() and error and not quoted and token not in error else ""


def _kind(reply: object) -> str:
    return reply.kind if isinstance(reply, Failed) else "no answer"


def _header(token: str) -> tuple[str, str | None]:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _Refused("the token is not a JSON Web Token") from None
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _Refused("the token is signed with an algorithm that is not accepted")
    key_id = header.get("kid")
    return algorithm, key_id if isinstance(key_id, str) else None


def _verify(token: str, algorithm: str, key_id: str | None, keys: JsonWebKeys) -> Mapping[str, Any]:
    fitting = [key for key in keys if _fits(key, algorithm, key_id)]
    if not fitting:
        raise _Refused("the token is signed with a key that its issuer does not have")
    for key in fitting:
        try:
            # The times are checked by the caller, against the time that it was given.
            return jwt.decode(
                token,
                jwt.PyJWK(dict(key), algorithm=algorithm),
                algorithms=[algorithm],
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "verify_iss": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            continue
    raise _Refused("the token's signature is wrong")


def _fits(key: Mapping[str, Any], algorithm: str, key_id: str | None) -> bool:
    key_type, curve = ALGORITHMS[algorithm]
    return (
        key.get("kty") == key_type
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (key_id is None or key.get("kid", key_id) == key_id)
    )


def _unverified_claims(token: str) -> Mapping[str, Any]:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _Refused("the token is not a JSON Web Token") from None
    return claims


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    return {name for name in named if isinstance(name, str)}


def _expiry(claims: Mapping[str, Any], now: float) -> float:
    expires_at = _number(claims, "exp")
    if expires_at is None:
        raise _Refused("the token has no expiry: it is not a bound service account token")
    if expires_at <= now:
        raise _Refused(f"the token expired {now - expires_at:.0f} seconds ago")
    return expires_at


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise _Refused(f"the token's claim {name} is not a time")
    return float(value)


def _account(subject: object) -> _Account:
    found = _SUBJECT.fullmatch(subject) if isinstance(subject, str) else None
    if found is None:
        raise _Refused("the token does not belong to a service account")
    return _Account(found.group(1), found.group(3))
