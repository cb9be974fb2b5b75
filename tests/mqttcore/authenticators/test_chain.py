"""The authentication flow: every method in every state and every order, against an oracle that just looks it up."""

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from itertools import permutations, product
from typing import Any

import jwt
import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import (
    Authentication,
    Authenticator,
    AuthRequest,
    Challenge,
    Denied,
    Effect,
    Failed,
    Granted,
    NotRelevant,
    Reply,
    Response,
    Trace,
    Unavailable,
    Verdict,
    outcome,
)
from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.custom import custom
from mqttcore.authenticators.effects import (
    HttpAnswer,
    HttpPost,
    HttpServer,
    ReviewToken,
    ServiceAccountAnnotations,
    TokenReviewed,
    VerifyPassword,
)
from mqttcore.authenticators.password import password
from mqttcore.authenticators.scram import scram_sha_256
from mqttcore.authenticators.service_account import by_token_review
from mqttcore.authenticators.x509 import trust_anchors, x509
from mqttcore.codes import ReasonCode
from tests.mqttcore.authenticators.certificates import AUTHORITY, DAY, NOW, issue
from tests.mqttcore.authenticators.conversation import converse
from tests.mqttcore.authenticators.test_scram import VERIFIER, client_first

TIME = NOW.timestamp()
TOKEN = jwt.encode({"exp": int(TIME) + 600}, bytes(32), "HS256").encode()
ROOT = issue("root", extensions=AUTHORITY)
DEVICE = issue("device", ROOT)
EXPIRED = issue("expired", ROOT, validity=(NOW - 9 * DAY, NOW - DAY))
ACCOUNT = "system:serviceaccount:ns:sa"

METHODS = {
    "Custom": Method("Custom", custom(HttpServer(url="https://auth"))),
    "SAT": Method("SAT", by_token_review(("aud",))),
    "X509": Method("X509", x509(trust_anchors(ROOT.pem))),
}
ORDERS = [order for size in (1, 2, 3) for order in permutations(METHODS, size)]

CUSTOM: Mapping[str, Reply] = {
    "valid": HttpAnswer(200, b"{}"),
    "invalid": HttpAnswer(403, b'{"reason": 138}'),
    "unreachable": Failed("no connection"),
    "server at fault": HttpAnswer(500, b""),
}
REVIEW: Mapping[str, Reply] = {
    "valid": TokenReviewed(True, ACCOUNT, ("aud",)),
    "invalid": TokenReviewed(False, error="no"),
    "other audience": TokenReviewed(True, ACCOUNT, ("other",)),
    "unreachable": Failed("no connection"),
    "no attributes": TokenReviewed(True, ACCOUNT, ("aud",)),
}
CERTIFICATES = {"absent": (), "valid": (DEVICE.der,), "invalid": (EXPIRED.der,)}
SAT_STATES = [("absent", ""), *product(REVIEW, ("method", "username"))]

# What each state is in the terms of the flow.
OUTCOMES = {
    "valid": "granted",
    "invalid": "denied",
    "other audience": "denied",
    "absent": "not relevant",
    "unreachable": "unavailable",
    "server at fault": "unavailable",
    "no attributes": "unavailable",
}
DENIALS = {"Custom": ReasonCode.BANNED, "SAT": ReasonCode.NOT_AUTHORIZED, "X509": ReasonCode.NOT_AUTHORIZED}
USERNAMES = {"Custom": None, "SAT": ACCOUNT, "X509": "device"}


@frozen
class World:
    """The state that each method is in for the credentials of a client."""

    custom: str
    sat: str
    token_in: str
    x509: str

    def request(self) -> AuthRequest:
        request = AuthRequest(time=TIME, username="u", certificates=CERTIFICATES[self.x509])
        match self.token_in:
            case "method":
                return evolve(request, authentication_method="K8S-SAT", authentication_data=TOKEN)
            case "username":
                return evolve(request, username="K8S-SAT", password=TOKEN)
        return request

    def perform(self, effect: Effect) -> Reply:
        match effect:
            case HttpPost():
                return CUSTOM[self.custom]
            case ReviewToken():
                return REVIEW[self.sat]
            case ServiceAccountAnnotations():
                return Failed("no connection") if self.sat == "no attributes" else {}
        raise AssertionError(effect)

    def outcomes(self) -> dict[str, str]:
        return {"Custom": OUTCOMES[self.custom], "SAT": OUTCOMES[self.sat], "X509": OUTCOMES[self.x509]}


WORLDS = [World(state, *sat, certificate) for state, sat, certificate in product(CUSTOM, SAT_STATES, CERTIFICATES)]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_every_row_of_the_flow(order: tuple[str, ...]) -> None:
    authenticator = chain([METHODS[name] for name in order])
    for world in WORLDS:
        found = converse(authenticator, world.request(), world.perform)
        outcomes = world.outcomes()
        decided = [name for name in order if outcomes[name] in ("granted", "denied")]
        asked = order[: order.index(decided[0]) + 1] if decided else order
        assert [(step.method, step.outcome) for step in found.trace] == [(name, outcomes[name]) for name in asked], (
            world
        )
        assert all(step.message for step in found.trace if step.outcome != "granted"), world
        verdict = found.verdict
        if decided and outcomes[decided[0]] == "granted":
            assert isinstance(verdict, Granted), world
            assert verdict.username == USERNAMES[decided[0]], world
            assert verdict.method == decided[0], world
        elif decided:
            assert isinstance(verdict, Denied), world
            assert verdict.reason_code is DENIALS[decided[0]], world
        elif "unavailable" in [outcomes[name] for name in order]:
            assert isinstance(verdict, Unavailable), world
        elif world.token_in == "method":
            assert isinstance(verdict, Denied), world
            assert verdict.reason_code is ReasonCode.BAD_AUTHENTICATION_METHOD, world
        else:
            assert isinstance(verdict, NotRelevant), world


def test_no_method_is_asked_in_vain() -> None:
    # A token goes to nobody before its method's turn, nor after the verdict.
    world = World("valid", "valid", "method", "valid")
    first = {order: converse(chain([METHODS[name] for name in order]), world.request(), world.perform).effects
             for order in ORDERS if len(order) == 3}  # fmt: skip
    for order, effects in first.items():
        kinds = [type(effect) for effect in effects]
        assert (
            kinds
            == {
                "Custom": [HttpPost],
                "SAT": [ReviewToken, ServiceAccountAnnotations],
                "X509": [],
            }[order[0]]
        )


def settled(verdict: Verdict) -> Authenticator:
    def authenticate(_request: AuthRequest) -> Authentication:
        return verdict
        yield

    return authenticate


VERDICTS = [
    Granted(username="u", attributes={"a": "b"}, expires_at=5.0, data=b"d", renewable=False),
    Denied("wrong", ReasonCode.BAD_USER_NAME_OR_PASSWORD),
    NotRelevant("not mine"),
    Unavailable("down"),
]


@given(st.lists(st.sampled_from(VERDICTS), max_size=8), st.sampled_from([None, "m"]))
def test_any_verdicts_in_a_row(verdicts: list[Verdict], method: str | None) -> None:
    authenticator = chain(Method(f"m{number}", settled(verdict)) for number, verdict in enumerate(verdicts))
    found = converse(authenticator, AuthRequest(authentication_method=method), lambda effect: None)
    final = [number for number, verdict in enumerate(verdicts) if isinstance(verdict, Granted | Denied)]
    down = [number for number, verdict in enumerate(verdicts) if isinstance(verdict, Unavailable)]
    asked = verdicts[: final[0] + 1] if final else verdicts
    assert found.trace == tuple(
        Trace(f"m{number}", outcome(verdict), "" if isinstance(verdict, Granted) else verdict.message)
        for number, verdict in enumerate(asked)
    )
    if final:
        verdict = verdicts[final[0]]
        named = evolve(verdict, method=f"m{final[0]}") if isinstance(verdict, Granted) else verdict
        assert found.verdict == named
    elif down:
        assert found.verdict == Unavailable(f"m{down[0]}: down")
    elif method is not None:
        message = "no method handles this Authentication Method"
        assert found.verdict == Denied(message, ReasonCode.BAD_AUTHENTICATION_METHOD)
    else:
        assert found.verdict == NotRelevant("no method is relevant to these credentials")


def test_the_same_authenticator_serves_many_at_once() -> None:
    authenticator = chain([METHODS["SAT"], METHODS["X509"], METHODS["Custom"]])
    one, other = World("valid", "invalid", "method", "absent"), World("valid", "absent", "", "absent")
    exchanges = [authenticator(world.request()) for world in (one, other)]
    assert isinstance(next(exchanges[0]), ReviewToken)
    steps = [next(exchanges[1]), next(exchanges[1]), next(exchanges[1])]
    assert [type(step) for step in steps] == [Trace, Trace, HttpPost]
    end = exchanges[0].send(REVIEW["invalid"])
    assert isinstance(end, Trace)
    assert (end.method, end.outcome) == ("SAT", "denied")


def breaking(request: AuthRequest) -> Authentication:
    yield VerifyPassword("h", request.password or b"")
    raise RuntimeError(f"it was {request.password!r}")


def test_a_method_that_fails_denies_and_nobody_takes_its_place() -> None:
    authenticator = chain([Method("broken", breaking), Method("next", settled(Granted()))])
    found = converse(authenticator, AuthRequest(password=b"sesame"), lambda effect: True)
    assert found.verdict == Denied("the authenticator failed with RuntimeError")


# --------------------------------------------------------------------- whatever clients present and servers reply

EVERYTHING = chain(
    [
        METHODS["SAT"],
        METHODS["X509"],
        Method("Password", password({"ann": "hash of ann", "bob": "hash of bob"})),
        Method("Scram", scram_sha_256({"ann": VERIFIER})),
        METHODS["Custom"],
    ]
)
secrets = st.none() | st.sampled_from([TOKEN, client_first("ann"), client_first("eve")]) | st.binary(max_size=20)
requests = st.builds(
    AuthRequest,
    username=st.none() | st.sampled_from(["ann", "bob", "eve", "K8S-SAT", "K8S-SAT?x", ""]) | st.text(max_size=5),
    password=secrets,
    authentication_method=st.none() | st.sampled_from(["K8S-SAT", "SCRAM-SHA-256", "other"]),
    authentication_data=secrets,
    certificates=st.sampled_from([*CERTIFICATES.values(), (b"rubbish",), (EXPIRED.der, DEVICE.der)]),
    re_authentication=st.booleans(),
    time=st.just(TIME),
    entropy=st.just(bytes(range(32))),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
bodies = st.one_of(
    st.sampled_from([b"{}", b'{"expiry": "2999-01-01T00:00:00Z"}', b'{"supportedVersions": ["0.5.0"]}']),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
)
any_replies: st.SearchStrategy[Reply] = st.one_of(
    st.sampled_from([True, False, None, 1, "yes", {}, (), Granted(username="ann"), Failed("down")]),
    st.builds(HttpAnswer, st.sampled_from([200, 403, 422, 500]) | st.integers(100, 599), bodies),
    st.sampled_from(list(REVIEW.values())),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    st.builds(Response, st.none() | st.binary(max_size=40)),
)


@given(requests, st.data())
def test_nobody_is_let_in_but_for_the_credentials_presented(request: AuthRequest, data: st.DataObject) -> None:
    found = converse(EVERYTHING, request, lambda effect: data.draw(any_replies, type(effect).__name__), steps=8)
    assert found.trace
    assert isinstance(found.verdict, Granted) == (found.trace[-1].outcome == "granted")
    if isinstance(found.verdict, Granted):
        method = found.trace[-1].method
        asked = list(zip(found.effects, found.replies, strict=True))
        assert JUSTIFIED[method](request, asked), (method, asked)


Asked = list[tuple[Effect, Reply]]


def _by_token(request: AuthRequest, asked: Asked) -> bool:
    token = request.authentication_data if request.authentication_method == "K8S-SAT" else request.password
    review, answer = asked[0]
    return (
        isinstance(review, ReviewToken)
        and token is not None
        and review.token == token.decode().strip()
        and isinstance(answer, TokenReviewed)
        and answer.authenticated
        and "aud" in answer.audiences
    )


def _by_password(request: AuthRequest, asked: Asked) -> bool:
    expected = VerifyPassword(f"hash of {request.username}", request.password or b"")
    return asked[-1] == (expected, True) and request.username in ("ann", "bob")


def _by_custom(request: AuthRequest, asked: Asked) -> bool:
    post, answer = asked[-1]
    if not isinstance(post, HttpPost) or not isinstance(answer, HttpAnswer):
        return False
    body = json.loads(post.body)
    enhanced = body.get("enhancedAuthentication", {})
    presented: list[Any] = [request.authentication_method, request.authentication_data]
    told: list[Any] = [enhanced.get("method"), _decoded(enhanced.get("data"))]
    if request.authentication_method is None:
        presented[1] = None
    if not request.re_authentication:
        presented += [request.username, request.password, len(request.certificates)]
        told += [body.get("username"), _decoded(body.get("password")), body.get("certs", "").count("BEGIN CERT")]
    return answer.status == 200 and presented == told


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text, validate=True)


JUSTIFIED: Mapping[str, Callable[[AuthRequest, Asked], bool]] = {
    "SAT": _by_token,
    "X509": lambda request, asked: request.certificates == (DEVICE.der,),
    "Password": _by_password,
    "Scram": lambda request, asked: False,  # nobody here knows a proof
    "Custom": _by_custom,
}


def test_a_challenge_within_a_chain_reaches_the_client() -> None:
    request = AuthRequest(
        authentication_method="SCRAM-SHA-256", authentication_data=client_first("ann"), entropy=bytes(32), time=TIME
    )
    found = converse(EVERYTHING, request, lambda effect: None)
    assert [type(effect) for effect in found.effects] == [Challenge]
    assert [(step.method, step.outcome) for step in found.trace] == [
        ("SAT", "not relevant"),
        ("X509", "not relevant"),
        ("Password", "not relevant"),
        ("Scram", "denied"),
    ]
