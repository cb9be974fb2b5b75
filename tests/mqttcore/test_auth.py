"""An exchange with an authenticator ends in a verdict whatever happens, and nothing shows a secret."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.auth import (
    MAXIMUM_TRACE,
    Authentication,
    AuthRequest,
    Challenge,
    Denied,
    Effect,
    Exchange,
    Failed,
    Granted,
    NotRelevant,
    Principal,
    Reply,
    Response,
    Trace,
    Unavailable,
    Verdict,
)
from mqttcore.codec import decode, encode
from mqttcore.codes import ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import ProtocolError
from mqttcore.limits import Limits
from mqttcore.states import CLIENT, SERVER
from mqttcore.testing import strategies

SECRET = "sesame-Öffne-dich"
REQUEST = AuthRequest(client_id="c", username="u", password=SECRET.encode())
VERDICTS = [Granted(username="u"), Denied("no"), NotRelevant(), Unavailable("down")]

Step = Callable[[Reply], Any]


def scripted(steps: list[Any], end: Any, closed: list[str]) -> Callable[[AuthRequest], Authentication]:
    """An authenticator that yields `steps` and ends in `end`: a verdict, an exception, or anything else."""

    def authenticate(_request: AuthRequest) -> Authentication:
        try:
            reply = None
            for step in steps:
                reply = yield step
            del reply
            if isinstance(end, Exception):
                raise end
            return end  # type: ignore[no-any-return]
        finally:
            closed.append("closed")

    return authenticate


def run(exchange: Exchange, replies: list[Reply]) -> tuple[list[Effect], Verdict | None]:
    """The effects asked for, and the verdict; None if the replies are at an end first."""
    effects = []
    step = exchange.start()
    for reply in replies:
        if isinstance(step, Verdict):
            break
        effects.append(step)
        step = exchange.resume(reply)
    if isinstance(step, Verdict):
        return effects, step
    return [*effects, step], None


anything = st.sampled_from([None, Failed("unreachable"), Response(b"x"), True, 3, SECRET, Granted(), REQUEST])
ends = st.sampled_from(
    [*VERDICTS, None, True, "granted", Granted, ValueError(SECRET), StopIteration(Granted()), KeyError()]
)
steps_of = st.sampled_from(
    [Challenge(b"x"), Effect(), Trace("password", "denied", "why"), Granted(), None, "effect", Effect]
)


@given(steps=st.lists(steps_of, max_size=8), end=ends, replies=st.lists(anything, max_size=12), bound=st.integers(1, 6))
def test_there_is_a_verdict_after_a_bounded_number_of_effects(
    steps: list[Any], end: Any, replies: list[Reply], bound: int
) -> None:
    closed: list[str] = []
    exchange = Exchange(scripted(steps, end, closed), REQUEST, bound)
    effects, verdict = run(exchange, replies)
    assert not any(isinstance(effect, Trace) for effect in effects)
    assert len(effects) <= bound
    expected = [step for step in steps if not isinstance(step, Trace)][: len(effects)]
    assert effects == expected
    if verdict is None:
        assert len(effects) == len(replies) + 1
        assert exchange.verdict is None
        assert closed == []
        exchange.abandon()
    else:
        good = len(effects) == len([step for step in steps if not isinstance(step, Trace)]) and isinstance(end, Verdict)
        assert verdict == end if good else isinstance(verdict, Denied)
        assert exchange.resume(None) is exchange.verdict is verdict
    assert closed == ["closed"]
    assert isinstance(exchange.verdict, Verdict)
    assert SECRET not in repr(exchange.verdict)
    exchange.abandon()
    assert closed == ["closed"]


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("effects", [0, 1, 3])
def test_a_verdict_is_handed_on_and_is_the_last_word(verdict: Verdict, effects: int) -> None:
    exchange = Exchange(scripted([Challenge()] * effects, verdict, []), REQUEST, effects + 1)
    assert run(exchange, [None] * effects) == ([Challenge()] * effects, verdict)
    exchange.abandon()
    assert exchange.verdict is verdict


def test_the_authenticator_sees_the_request_and_the_replies() -> None:
    seen: list[object] = []

    def authenticate(request: AuthRequest) -> Authentication:
        seen.append(request)
        seen.append((yield Challenge(b"1")))
        seen.append((yield Challenge(b"2")))
        return Granted()

    run(Exchange(authenticate, REQUEST, 5), [Response(b"a"), Failed("gone")])
    assert seen == [REQUEST, Response(b"a"), Failed("gone")]


def test_the_bound_on_steps_is_exact() -> None:
    for bound, ends_well in ((3, True), (2, False)):
        closed: list[str] = []
        exchange = Exchange(scripted([Challenge()] * 3, Granted(), closed), REQUEST, bound)
        effects, verdict = run(exchange, [None] * 10)
        assert len(effects) == bound
        assert isinstance(verdict, Granted if ends_well else Denied)
        assert closed == ["closed"]


def test_a_trace_is_kept_and_costs_no_step() -> None:
    notes = [Trace("password", "denied", str(number)) for number in range(MAXIMUM_TRACE)]
    exchange = Exchange(scripted([*notes, Challenge()], Granted(), []), REQUEST, 1)
    assert run(exchange, [None]) == ([Challenge()], Granted())
    assert exchange.trace == notes


@pytest.mark.timeout(10)
def test_one_who_traces_for_ever_is_stopped() -> None:
    def authenticate(_request: AuthRequest) -> Authentication:
        while True:
            yield Trace("password", "denied")

    exchange = Exchange(authenticate, REQUEST, 1000)
    assert isinstance(exchange.start(), Denied)
    assert len(exchange.trace) == MAXIMUM_TRACE


class Boom(Exception):
    """One whose text has the credentials."""


def raises(_request: AuthRequest) -> Authentication:
    raise Boom(SECRET)


def grants_without_a_generator(_request: AuthRequest) -> Any:
    return Granted()


def raises_at_the_end(request: AuthRequest) -> Authentication:
    yield Challenge()
    raise Boom(SECRET, request)


@pytest.mark.parametrize("authenticate", [raises, grants_without_a_generator, raises_at_the_end])
def test_a_broken_authenticator_grants_nothing_and_tells_nothing(authenticate: Any) -> None:
    exchange = Exchange(authenticate, REQUEST, 5)
    _, verdict = run(exchange, [None])
    assert isinstance(verdict, Denied)
    assert verdict.reason_code is ReasonCode.NOT_AUTHORIZED
    assert SECRET not in repr(verdict)
    assert SECRET not in repr(exchange)


@pytest.mark.parametrize("swallows", [True, False])
def test_a_clean_up_that_fails_changes_nothing(swallows: bool) -> None:
    def authenticate(_request: AuthRequest) -> Authentication:
        try:
            yield Challenge()
        finally:
            if swallows:
                yield Challenge()  # after it has been closed
            else:
                raise Boom(SECRET)
        return Granted()

    exchange = Exchange(authenticate, REQUEST, 5)
    assert exchange.start() == Challenge()
    exchange.abandon()
    assert isinstance(exchange.verdict, Denied)
    assert isinstance(exchange.resume(True), Denied)


def test_an_exchange_that_is_abandoned_before_it_starts() -> None:
    exchange = Exchange(raises, REQUEST, 5)
    exchange.abandon()
    assert isinstance(exchange.verdict, Denied)


def test_only_a_verdict_of_its_own_grants() -> None:
    """A Granted that is yielded, or sent as a reply, grants nothing."""

    def yields(_request: AuthRequest) -> Any:
        yield Granted()
        return Denied()

    assert isinstance(Exchange(yields, REQUEST, 5).start(), Denied)
    exchange = Exchange(scripted([Challenge()], Denied("no"), []), REQUEST, 5)
    exchange.start()
    assert exchange.resume(Granted()) == Denied("no")


# ----------------------------------------------------------------------------------------------------- secrets

secrets = st.text("ABCDEFGHJK", min_size=12, max_size=20).map(lambda text: f"s3cr3t{text}")


def shown(*values: object) -> str:
    return " ".join(f"{value!r} {value}" for value in values)


@given(secret=secrets, base=strategies.connects())
def test_no_repr_shows_a_secret(secret: str, base: p.Connect) -> None:
    raw = secret.encode()
    connect = evolve(base, password=raw, authentication_method="m", authentication_data=raw)
    first, body = encode(connect)[0], encode(connect)
    start = 2 if body[1] < 128 else 3 if body[2] < 128 else 4
    request = AuthRequest(password=raw, authentication_data=raw, certificates=(raw,), entropy=raw)
    values = [
        connect,
        decode(first, body[start:], 5),
        p.ConnAck(authentication_method="m", authentication_data=raw),
        p.Auth(authentication_method="m", authentication_data=raw),
        request,
        Challenge(raw),
        Response(raw),
        Granted(data=raw),
        Exchange(scripted([], Granted(data=raw), []), request, 1),
        Principal("c"),
        Connection(SERVER, Limits(), 0.0),
    ]
    assert secret not in shown(*values)
    assert "<hidden>" in shown(connect, request)


@given(secret=secrets, cut=st.integers(1, 60))
def test_no_error_about_a_connect_shows_its_password(secret: str, cut: int) -> None:
    connect = p.Connect(username="u", password=secret.encode())
    data = encode(connect)
    with pytest.raises(ProtocolError) as caught:
        decode(data[0], data[2 : max(2, len(data) - cut)], 5)
    assert secret not in shown(caught.value)
    with pytest.raises(ProtocolError) as caught:
        Connection(CLIENT, Limits(), 0.0).send(evolve(connect, password=secret.encode() * 6000), 0.0)
    assert secret not in shown(caught.value)


def test_what_is_absent_is_not_called_hidden() -> None:
    assert "<hidden>" not in shown(p.Connect(), p.Auth(), AuthRequest(entropy=b""), Challenge()).replace(
        "entropy=<hidden>", ""
    )
