"""The custom authentication server, API 0.5.0: what is sent to it, byte for byte, and what its answers mean."""

import json
import ssl
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqttcore.auth import AuthRequest, Denied, Effect, Failed, Granted, Reply, Unavailable, Verdict
from mqttcore.authenticators.custom import MAXIMUM_MESSAGE, custom
from mqttcore.authenticators.effects import HttpAnswer, HttpPost, HttpServer
from mqttcore.codes import CONNACK_CODES, ReasonCode
from tests.mqttcore.authenticators.certificates import issue
from tests.mqttcore.authenticators.conversation import Conversation, converse

SERVER = HttpServer(url="https://auth-server:8443/base", headers=(("x-key", "sesame"),))
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
REQUEST = AuthRequest(username="ann", password=b"sesame", time=NOW)


def decide(*replies: Reply, request: AuthRequest = REQUEST) -> Conversation:
    """What comes of these replies, all of which are needed."""
    left = list(replies)
    found = converse(custom(SERVER), request, lambda effect: left.pop(0))
    assert not left
    return found


def judged(status: int, body: bytes | dict[str, Any]) -> Verdict:
    return decide(HttpAnswer(status, body if isinstance(body, bytes) else json.dumps(body).encode())).verdict


def body_of(request: AuthRequest) -> bytes:
    [post] = decide(HttpAnswer(200, b"{}"), request=request).effects
    assert isinstance(post, HttpPost)
    return post.body


# -------------------------------------------------------------------------------------------------- what is sent

LEAF, ISSUER = issue("leaf"), issue("issuer")


def escaped(pem: bytes) -> bytes:
    return pem.replace(b"\n", b"\\n")


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (AuthRequest(), b'{"type": "connect"}'),
        (AuthRequest(username="ann"), b'{"type": "connect", "username": "ann"}'),
        (AuthRequest(username="", password=b""), b'{"type": "connect", "username": "", "password": ""}'),
        (
            AuthRequest(username='ä"\\\n', password=b"\xff\xfe\xfd"),
            b'{"type": "connect", "username": "\\u00e4\\"\\\\\\n", "password": "//79"}',
        ),
        (
            AuthRequest(certificates=(LEAF.der, ISSUER.der)),
            b'{"type": "connect", "certs": "' + escaped(LEAF.pem + ISSUER.pem) + b'"}',
        ),
        (
            AuthRequest(authentication_method="K8S-SAT"),
            b'{"type": "connect", "enhancedAuthentication": {"method": "K8S-SAT"}}',
        ),
        (
            AuthRequest(
                username="ann",
                password=b"pass",
                certificates=(LEAF.der,),
                authentication_method="m",
                authentication_data=b"\x00\x01",
            ),
            b'{"type": "connect", "username": "ann", "password": "cGFzcw==", "certs": "'
            + escaped(LEAF.pem)
            + b'", "enhancedAuthentication": {"method": "m", "data": "AAE="}}',
        ),
        (
            AuthRequest(re_authentication=True, authentication_method="m", authentication_data=b""),
            b'{"type": "auth", "enhancedAuthentication": {"method": "m", "data": ""}}',
        ),
        (
            AuthRequest(
                re_authentication=True,
                authentication_method="m",
                username="ann",
                password=b"old",
                certificates=(LEAF.der,),
                client_id="c",
                peer="p",
            ),
            b'{"type": "auth", "enhancedAuthentication": {"method": "m"}}',
        ),
    ],
)
def test_the_body_of_a_request(request_: AuthRequest, body: bytes) -> None:
    assert body_of(request_) == body


@given(st.binary(min_size=1, max_size=200), st.binary(min_size=1, max_size=200))
def test_certificates_are_a_pem_chain(first: bytes, second: bytes) -> None:
    certs = json.loads(body_of(AuthRequest(certificates=(first, second))))["certs"]
    assert certs == ssl.DER_cert_to_PEM_cert(first) + ssl.DER_cert_to_PEM_cert(second)


@given(st.none() | st.text(), st.none() | st.binary(), st.none() | st.text(), st.none() | st.binary())
def test_any_credentials_arrive(
    username: str | None, password: bytes | None, method: str | None, data: bytes | None
) -> None:
    request = AuthRequest(username=username, password=password, authentication_method=method, authentication_data=data)
    expected: dict[str, Any] = {
        "username": username,
        "password": None if password is None else b64encode(password).decode(),
    }
    if method is not None:
        enhanced = {"method": method, "data": None if data is None else b64encode(data).decode()}
        expected["enhancedAuthentication"] = {name: value for name, value in enhanced.items() if value is not None}
    expected = {"type": "connect"} | {name: value for name, value in expected.items() if value is not None}
    assert json.loads(body_of(request)) == expected


def test_where_it_is_sent() -> None:
    [post] = decide(HttpAnswer(200, b"{}")).effects
    assert isinstance(post, HttpPost)
    assert (post.server, post.path) == (SERVER, "/?api-version=0.5.0")


def test_no_secret_is_shown() -> None:
    found = decide(HttpAnswer(403, b'{"reason": 135, "secret": "sesame"}'))
    assert "sesame" not in repr(found)
    assert b64encode(b"sesame").decode() not in repr(found)


# ------------------------------------------------------------------------------------------------------ it passes


@pytest.mark.parametrize(
    ("body", "granted"),
    [
        (b"{}", Granted()),
        (b' {"expiry": null, "attributes": null} ', Granted()),
        (b'{"attributes": {}}', Granted()),
        (b'{"attributes": {"a": "b", "": "c/d"}}', Granted(attributes={"a": "b", "": "c/d"})),
        (b'{"expiry": "2027-01-15T08:00:01Z"}', Granted(expires_at=NOW + 1)),
        (b'{"expiry": "2027-01-15T09:30:10.5+01:30"}', Granted(expires_at=NOW + 10.5)),
        (b'{"expiry": "2027-01-15t08:00:01.1234567z"}', Granted(expires_at=NOW + 1.123456)),
        (
            b'{"expiry": "2028-12-31T18:59:60.5-05:00"}',
            Granted(expires_at=datetime(2029, 1, 1, tzinfo=UTC).timestamp() + 0.5),
        ),
        (b'{"expiry": "2028-12-31T23:59:60Z"}', Granted(expires_at=datetime(2029, 1, 1, tzinfo=UTC).timestamp())),
        (
            b'{"expiry": "9999-12-31T23:59:59Z", "attributes": {"a": "b"}}',
            Granted(attributes={"a": "b"}, expires_at=253_402_300_799.0),
        ),
    ],
)
def test_a_pass(body: bytes, granted: Granted) -> None:
    assert judged(200, body) == granted


@pytest.mark.parametrize("expiry", ["2027-01-15T08:00:00Z", "2027-01-15T07:59:59.9Z", "1970-01-01T00:00:00Z"])
def test_a_pass_that_has_expired_is_a_denial(expiry: str) -> None:
    assert judged(200, {"expiry": expiry}) == Denied("the server passed the client with an expiry in the past")


def shown(body: bytes) -> str:
    """The id of a test. pytest escapes backslashes anew each time that it collects in one process."""
    return repr(body[:40]).replace("\\", "|")


NOT_A_PASS = [
    b"",
    b" ",
    b"null",
    b"true",
    b"[]",
    b'"{}"',
    b"{",
    b"{} {}",
    b"<html></html>",
    b"\xff\xfe\xfd",
    b'{"expires": "2027-01-15T08:00:01Z"}',
    b'{"attributes": []}',
    b'{"attributes": "a"}',
    b'{"attributes": {"a": 1}}',
    b'{"attributes": {"a": null}}',
    b'{"attributes": {"a": ["b"]}}',
    b'{"expiry": 1900000000}',
    b'{"expiry": true}',
    b'{"expiry": ""}',
    b'{"expiry": "tomorrow"}',
    b'{"expiry": "2027-01-15"}',
    b'{"expiry": "2027-01-15T08:00:01"}',
    b'{"expiry": "2027-01-15 08:00:01Z"}',
    b'{"expiry": "20270115T080001Z"}',
    b'{"expiry": "2027-02-30T08:00:01Z"}',
    b'{"expiry": "2027-01-15T25:00:01Z"}',
    b'{"expiry": "2027-01-15T08:00:01+25:00"}',
    b'{"expiry": "2027-01-15T08:00:01-01:60"}',  # which datetime takes
    b'{"expiry": "2027-01-15T24:00:00Z"}',  # which datetime takes from Python 3.13 on
    b'{"expiry": "2027-01-15T08:00:01Z\\n"}',
    b'{"expiry": "9999-12-31T23:59:60Z"}',
    b'{"expiry": "0000-01-01T00:00:00Z"}',
    b"[" * 100_000,
    b'{"attributes": ' + b'{"a":' * 50_000,
    b'{"n": ' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("body", NOT_A_PASS, ids=shown)
def test_a_pass_that_is_none(body: bytes) -> None:
    verdict = judged(200, body)
    assert isinstance(verdict, Unavailable)
    assert verdict.message.startswith("the server's pass is not understood: ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b'{"z": 1, "expires": 1}', "it has a field 'expires'"),
        (b'{"attributes": []}', "attributes is not an object of strings"),
        (b'{"expiry": ""}', "expiry is not a date-time of RFC 3339"),
        (b'{"expiry": "2027-02-30T08:00:01Z"}', "expiry is not a date-time that exists"),
    ],
)
def test_what_is_not_understood(body: bytes, said: str) -> None:
    assert judged(200, body) == Unavailable(f"the server's pass is not understood: {said}")


# ------------------------------------------------------------------------------------------------------- it fails

FAILURES = {code for code in CONNACK_CODES if code >= 0x80}


@pytest.mark.parametrize("reason", [*range(256), 256, -1, -1000, 2**63 - 1, 2**63, 1 - 2**63, -(2**63)])
def test_every_reason(reason: int) -> None:
    verdict = judged(403, {"reason": reason})
    assert isinstance(verdict, Denied)
    assert verdict.reason_code == (reason if reason in FAILURES else ReasonCode.NOT_AUTHORIZED)
    assert verdict.reason_code.is_failure
    told = "of no known form" if reason in (2**63, -(2**63)) else reason
    assert verdict.message == f"the server denied the client with reason {told}"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"reason": null}',
        b'{"reason": "138"}',
        b'{"reason": 138.0}',
        b'{"reason": true}',
        b'{"reason": [138]}',
        b'{"reason": {}}',
        b'{"Reason": 138}',
        b'{"reason": 1e400}',
        b'{"reason": NaN}',
        *(body for body in NOT_A_PASS if not body.startswith(b'{"exp') and b"attributes" not in body),
    ],
    ids=shown,
)
def test_a_denial_without_a_reason_stays_one(body: bytes) -> None:
    verdict = judged(403, body)
    assert isinstance(verdict, Denied)
    assert verdict.reason_code is ReasonCode.NOT_AUTHORIZED


def test_the_message_is_for_the_log() -> None:
    verdict = judged(403, {"reason": 5, "message": "no such device"})
    assert verdict == Denied("the server denied the client with reason 5: no such device")
    verdict = judged(403, {"reason": 5, "message": "x" * 10_000})
    assert isinstance(verdict, Denied)
    assert len(verdict.message) < MAXIMUM_MESSAGE + 100
    for message in (None, 5, ["x"]):
        assert judged(403, {"reason": 138, "message": message}) == Denied(
            "the server denied the client with reason 138", ReasonCode.BANNED
        )


def test_a_denial_may_say_more() -> None:
    assert judged(403, {"reason": 138, "trace": [1]}) == Denied(
        "the server denied the client with reason 138", ReasonCode.BANNED
    )


# ------------------------------------------------------------------------------------------------ neither of both


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason": 138}'])
@pytest.mark.parametrize("status", [100, 201, 204, 301, 302, 307, 400, 401, 404, 405, 409, 429, 500, 502, 503, 599])
def test_any_other_status(status: int, body: bytes) -> None:
    assert judged(status, body) == Unavailable(
        f"the server answered with HTTP status {status}, which neither passes nor fails"
    )


@pytest.mark.parametrize(
    ("reply", "message"),
    [(Failed("no connection"), "no connection"), (None, "no answer"), (True, "no answer"), ({}, "no answer")],
)
def test_no_answer(reply: Reply, message: str) -> None:
    assert decide(reply).verdict == Unavailable(f"the server could not be asked: {message}")


# ------------------------------------------------------------------------------------------------------- versions


def versions(*supported: object) -> HttpAnswer:
    return HttpAnswer(422, json.dumps({"supportedVersions": supported}).encode())


@pytest.mark.parametrize("supported", [["0.5.0"], ["0.4.0", "0.5.0"], ["1.0.0", 5, None, "0.5.0"]])
def test_another_try_with_a_version_that_both_know(supported: list[object]) -> None:
    found = decide(versions(*supported), HttpAnswer(200, b'{"attributes": {"a": "b"}}'))
    assert found.verdict == Granted(attributes={"a": "b"})
    first, second = found.effects
    assert isinstance(second, HttpPost)
    assert second == first
    assert second.path == "/?api-version=0.5.0"


@pytest.mark.parametrize("body", [b'{"supportedVersions": ["0.5.0"]}', b"", b'{"supportedVersions": []}'])
def test_another_try_is_made_once(body: bytes) -> None:
    found = decide(versions("0.5.0"), HttpAnswer(422, body))
    assert isinstance(found.verdict, Unavailable)
    assert "422" in found.verdict.message


def test_another_try_that_fails() -> None:
    assert decide(versions("0.5.0"), Failed("down")).verdict == Unavailable("the server could not be asked: down")
    verdict = decide(versions("0.5.0"), HttpAnswer(403, b'{"reason": 138}')).verdict
    assert verdict == Denied("the server denied the client with reason 138", ReasonCode.BANNED)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"0.5.0",
        b'{"supportedVersions": null}',
        b'{"supportedVersions": "0.5.0"}',
        b'{"supportedVersions": {"0.5.0": true}}',
        b'{"supportedVersions": [["0.5.0"], 0.5]}',
        b'{"supportedVersions": ["0.5", "0.50.0", " 0.5.0", "1.0.0"]}',
        b'{"versions": ["0.5.0"]}',
        b"[" * 100_000,
    ],
    ids=shown,
)
def test_no_version_that_both_know(body: bytes) -> None:
    assert judged(422, body) == Unavailable("the server speaks none of the API versions 0.5.0")


# -------------------------------------------------------------------------------------------------- and all others

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(["0.5.0", 135]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["expiry", "attributes", "reason", "message", "supportedVersions", "other"])
bodies = st.one_of(
    st.binary(max_size=50),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(names, values | st.datetimes().map(lambda moment: moment.isoformat() + "Z"), max_size=3).map(
        lambda fields: json.dumps(fields).encode()
    ),
    st.dictionaries(names, values, max_size=2).map(lambda fields: json.dumps(fields).encode("utf-16")),
)
answers = st.builds(HttpAnswer, st.sampled_from([200, 403, 422]) | st.integers(0, 999), bodies)


@given(answers, answers | st.builds(Failed, st.text()))
@example(HttpAnswer(403, b'{"reason": 0}'), Failed(""))
@example(HttpAnswer(403, b'{"message": "\\ud800"}'), Failed(""))
@example(HttpAnswer(200, b'{"\\ud800": 1}'), Failed(""))
def test_any_answers(first: HttpAnswer, second: HttpAnswer | Failed) -> None:
    replies: list[HttpAnswer | Failed] = [first, second]

    def perform(effect: Effect) -> Reply:
        assert isinstance(effect, HttpPost)
        return replies.pop(0)

    found = converse(custom(SERVER), REQUEST, perform, steps=2)
    last = first if replies else second
    assert not isinstance(found.verdict, Denied) or not found.verdict.message.startswith("the authenticator")
    status = last.status if isinstance(last, HttpAnswer) else None
    if status == 403:
        assert isinstance(found.verdict, Denied)
        assert found.verdict.reason_code.is_failure
        assert found.verdict.reason_code in CONNACK_CODES
    elif isinstance(found.verdict, Granted):
        assert status == 200
        assert found.verdict.expires_at is None or found.verdict.expires_at > NOW
        assert found.verdict.username is None
    else:
        expired = isinstance(found.verdict, Denied) and "past" in found.verdict.message
        assert expired or isinstance(found.verdict, Unavailable)
