"""A custom authentication server, API 0.5.0: asked over HTTPS whether a client may connect or stay."""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from textwrap import wrap
from typing import Any

from mqttcore.auth import Authentication, Authenticator, AuthRequest, Denied, Failed, Granted, Unavailable
from mqttcore.authenticators.effects import HttpAnswer, HttpPost, HttpServer
from mqttcore.codes import CONNACK_CODES, ReasonCode

VERSIONS = ("0.5.0",)
"""The versions of the API that are spoken here, the preferred one first."""
MAXIMUM_MESSAGE = 256
"""Characters of a server's message that are kept for the log."""

# RFC 3339, section 5.6; what `datetime.fromisoformat` takes beside it is not a date-time there.
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)", re.ASCII)


class _NotUnderstood(Exception):
    """The server's answer is not one of the API's; the text says in what."""


def custom(server: HttpServer) -> Authenticator:
    """An authenticator that leaves the decision to `server`.

    A 200 grants, a 403 denies, with the server's reason where MQTT has it. Any other answer, and none, is Unavailable.
    """

    def authenticate(request: AuthRequest) -> Authentication:
        body = _request_body(request)
        answer = yield HttpPost(server, f"/?api-version={VERSIONS[0]}", body)
        if isinstance(answer, HttpAnswer) and answer.status == 422:
            common = _common_version(answer.body)
            if common is None:
                return Unavailable(f"the server speaks none of the API versions {', '.join(VERSIONS)}")
            answer = yield HttpPost(server, f"/?api-version={common}", body)
        if not isinstance(answer, HttpAnswer):
            kind = answer.kind if isinstance(answer, Failed) else "no answer"
            return Unavailable(f"the server could not be asked: {kind}")
        return _verdict(answer, request.time)

    return authenticate


def _request_body(request: AuthRequest) -> bytes:
    body: dict[str, Any] = {"type": "auth" if request.re_authentication else "connect"}
    if not request.re_authentication:
        if request.username is not None:
            body["username"] = request.username
        if request.password is not None:
            body["password"] = b64encode(request.password).decode()
        if request.certificates:
            body["certs"] = "".join(_pem(certificate) for certificate in request.certificates)
    if request.authentication_method is not None:
        enhanced = {"method": request.authentication_method}
        if request.authentication_data is not None:
            enhanced["data"] = b64encode(request.authentication_data).decode()
        body["enhancedAuthentication"] = enhanced
    return json.dumps(body).encode()


def _pem(certificate: bytes) -> str:
    lines = wrap(b64encode(certificate).decode(), 64)
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def _verdict(answer: HttpAnswer, now: float) -> Granted | Denied | Unavailable:
    if answer.status == 403:
        return _denial(answer.body)
    if answer.status != 200:
        return Unavailable(f"the server answered with HTTP status {answer.status}, which neither passes nor fails")
    try:
        granted = _pass(answer.body)
    except _NotUnderstood as error:
        return Unavailable(f"the server's pass is not understood: {error}")
    if granted.expires_at is not None and granted.expires_at <= now:
        return Denied("the server passed the client with an expiry in the past")
    return granted


def _pass(body: bytes) -> Granted:
    fields = _json_object(body)
    unknown = sorted(set(fields) - {"expiry", "attributes"})
    if unknown:
        raise _NotUnderstood(f"it has a field {unknown[0][:MAXIMUM_MESSAGE]!r}")
    attributes = fields.get("attributes")
    if attributes is None:
        attributes = {}
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise _NotUnderstood("attributes is not an object of strings")
    expiry = fields.get("expiry")
    return Granted(attributes=attributes, expires_at=None if expiry is None else _unix(expiry))


def _denial(body: bytes) -> Denied:
    try:
        fields = _json_object(body)
    except _NotUnderstood as error:
        return Denied(f"the server denied the client; its reason is not understood: {error}")
    message = fields.get("message")
    told = f": {message[:MAXIMUM_MESSAGE]}" if isinstance(message, str) else ""
    reason = fields.get("reason")
    code = ReasonCode.NOT_AUTHORIZED
    # A denial stays one whatever its reason says: what is no failure of CONNACK becomes "Not authorized".
    if isinstance(reason, int) and CONNACK_CODES.get(reason, ReasonCode.SUCCESS).is_failure:
        code = ReasonCode(reason)
    return Denied(f"the server denied the client with reason {_shown(reason)}{told}", code)


def _shown(reason: object) -> str:
    return str(reason) if isinstance(reason, int) and -(2**63) < reason < 2**63 else "of no known form"


def _common_version(body: bytes) -> str | None:
    try:
        supported = _json_object(body).get("supportedVersions")
    except _NotUnderstood:
        return None
    if not isinstance(supported, list):
        return None
    return next((version for version in VERSIONS if version in supported), None)


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _NotUnderstood("it is not JSON") from None
    if not isinstance(value, dict):
        raise _NotUnderstood("it is not a JSON object")
    return value


def _unix(text: object) -> float:
    if not isinstance(text, str) or not _DATE_TIME.fullmatch(text):
        raise _NotUnderstood("expiry is not a date-time of RFC 3339")
    leap = text[17:19] == "60"  # a leap second; Unix time gives it the number of the second after it
    try:
        moment = datetime.fromisoformat((f"{text[:17]}59{text[19:]}" if leap else text).upper())
        return (moment + timedelta(seconds=leap)).timestamp()
    except (ValueError, OverflowError):
        raise _NotUnderstood("expiry is not a date-time that exists") from None
