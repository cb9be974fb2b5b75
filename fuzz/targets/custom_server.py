"""Answers of a custom authentication server.

Input: what the client says, then the status and the body of each answer.
"""

import json
import re
from datetime import datetime, timedelta
from typing import Any

from fuzz import material
from fuzz.source import Source
from fuzz.verdicts import run
from mqttcore.auth import AuthRequest, Denied, Effect, Failed, Granted, Reply, Unavailable, Verdict
from mqttcore.authenticators.custom import MAXIMUM_MESSAGE, custom
from mqttcore.authenticators.effects import HttpAnswer, HttpPost, HttpServer
from mqttcore.codes import CONNACK_CODES

AUTHENTICATOR = custom(HttpServer(url="https://custom.example"))
STATUSES = (200, 403, 422, 200, 403, 400, 204)
DATE_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]+)?(.*)", re.DOTALL)


def check(data: bytes) -> None:
    """Two questions at most, and then the verdict of the API: 200 with an object of known fields grants, 403 denies,
    all else is Unavailable.

    Attributes and expiry are those of the body. A denial has a failure code of CONNACK. The message is bounded, can be
    written to a log, and has no secret.
    """
    source = Source(data)
    re_authentication = source.flag()
    answers = [HttpAnswer(source.pick(STATUSES), source.take(300)) for _ in range(source.below(2))]
    answers.append(HttpAnswer(source.pick((*STATUSES, source.below(1000))), source.rest()))
    asked: list[dict[str, Any]] = []

    def perform(effect: Effect) -> Reply:
        assert isinstance(effect, HttpPost)
        asked.append(json.loads(effect.body))
        return answers[len(asked) - 1] if len(asked) <= len(answers) else Failed("no answer")

    request = AuthRequest(
        username="user",
        password=material.PASSWORD,
        authentication_method="m",
        authentication_data=material.PASSWORD,
        re_authentication=re_authentication,
        certificates=material.GOOD_CHAINS[0],
        time=material.TIME,
    )
    verdict, _ = run(AUTHENTICATOR, request, perform, 2)
    assert all(body["type"] == ("auth" if re_authentication else "connect") for body in asked)
    last = answers[len(asked) - 1] if len(asked) <= len(answers) else None
    _check_verdict(verdict, last, material.TIME)


def _check_verdict(verdict: Verdict, answer: HttpAnswer | None, now: float) -> None:
    body = None if answer is None else _object(answer.body)
    if answer is not None and answer.status == 403:
        assert isinstance(verdict, Denied)
        reason = None if body is None else body.get("reason")
        known = {int(code) for code in CONNACK_CODES.values() if code.is_failure}
        assert verdict.reason_code == (reason if type(reason) is int and reason in known else 0x87)
        assert len(verdict.message) <= MAXIMUM_MESSAGE + 150
        return
    if answer is None or answer.status != 200 or body is None or not body.keys() <= {"expiry", "attributes"}:
        assert isinstance(verdict, Unavailable)
        return
    attributes, expiry = body.get("attributes"), body.get("expiry")
    expires_at = None if expiry is None else _unix(expiry)
    right = attributes is None or (isinstance(attributes, dict) and all(type(v) is str for v in attributes.values()))
    if not right or (expiry is not None and expires_at is None):
        assert isinstance(verdict, Unavailable)
    elif expires_at is not None and expires_at <= now:
        assert isinstance(verdict, Denied)
    else:
        assert isinstance(verdict, Granted)
        assert verdict.attributes == (attributes or {})
        assert verdict.expires_at == expires_at


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unix(text: object) -> float | None:
    """RFC 3339, section 5.6, counted from 1970; None for what is no date-time."""
    found = DATE_TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    date, minute, second, fraction, zone = found.groups()
    offset = re.fullmatch(r"[Zz]|([+-])([0-9]{2}):([0-9]{2})", zone)
    if offset is None or int(second) > 60:
        return None
    sign, hours, minutes = offset.groups()
    shift = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    try:
        moment = datetime.strptime(f"{date} {minute}", "%Y-%m-%d %H:%M")
    except ValueError:
        return None
    micro = int((fraction or ".0")[1:7].ljust(6, "0"))
    past = moment - datetime(1970, 1, 1) + timedelta(seconds=int(second), microseconds=micro)
    return (past + (shift if sign == "-" else -shift)).total_seconds()
