"""What authenticators ask for is performed, and nobody waits for what somebody else asked for."""

import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import argon2
import pytest
import trio
from trio.testing import MockClock

from mqttcore.auth import Challenge, Effect, Failed
from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.custom import custom
from mqttcore.authenticators.effects import (
    HttpAnswer,
    HttpPost,
    HttpServer,
    JsonWebKeys,
    ReviewToken,
    ServiceAccountAnnotations,
    SigningKeys,
    TokenReviewed,
    VerifyPassword,
)
from mqttcore.authenticators.password import password
from mqttcore.broker import Policy
from mqttcore.codes import ReasonCode
from mqttcore.packets import ConnAck
from tests.trio_broker.custom_server import NAME, Answer, Received, Site, at, custom_server, fails, passes
from tests.trio_broker.support import Peer, Running, listen, running, until
from trio_broker import Listener
from trio_broker.effects import Performer
from trio_broker.limits import ServerLimits

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = CHEAP.hash(b"sesame")


class Tokens:
    """A token source that echoes."""

    closed = False

    async def review(self, token: str, audiences: tuple[str, ...]) -> TokenReviewed | Failed:
        return TokenReviewed(True, token, audiences)

    async def annotations(self, namespace: str, name: str) -> Mapping[str, str] | Failed:
        return {namespace: name}

    async def keys(self, key_id: str | None) -> JsonWebKeys | Failed:
        return ({"kid": key_id},)

    async def aclose(self) -> None:
        self.closed = True


@asynccontextmanager
async def performer(limits: ServerLimits | None = None, **options: Any) -> AsyncIterator[Performer]:
    tokens = Tokens()
    made = Performer(tokens, limits=limits, **options)
    try:
        with trio.fail_after(60):
            yield made
    finally:
        await made.aclose()
    assert tokens.closed


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


@pytest.mark.parametrize(
    ("effect", "reply"),
    [
        (ReviewToken("t", ("a",)), TokenReviewed(True, "t", ("a",))),
        (ServiceAccountAnnotations("ns", "n"), {"ns": "n"}),
        (SigningKeys("k"), ({"kid": "k"},)),
        (VerifyPassword(HASH, b"sesame"), True),
        (VerifyPassword(HASH, b"Sesame"), False),
        (VerifyPassword(HASH, b""), False),
        (VerifyPassword(HASH, b"\xff" * 65_535), False),
        (VerifyPassword(CHEAP.hash(b"other"), b"sesame"), False),
        (VerifyPassword("", b"sesame"), Failed("the stored hash is not one of Argon2")),
        (VerifyPassword("sesame", b"sesame"), Failed("the stored hash is not one of Argon2")),
        (VerifyPassword("$argon2id$\u00e4", b"sesame"), Failed("the stored hash is not one of Argon2")),
        (VerifyPassword("$argon2id$v=19$m=8,t=1,p=1$", b"sesame"), Failed("Argon2: Decoding failed")),
        (Challenge(b"x"), Failed("nobody performs Challenge")),
    ],
)
async def test_every_effect(effect: Effect, reply: object) -> None:
    async with performer() as made:
        assert await made.perform(effect) == reply


async def test_https_to_a_name_of_the_cluster(site: Site) -> None:
    with custom_server(site.context(NAME)) as server:
        async with performer(resolve={(NAME, 443): ("127.0.0.1", server.port)}) as made:
            http = HttpServer(url=f"https://{NAME}", ca_pem=site.ca_pem)
            for _ in range(3):
                assert await made.perform(HttpPost(http, "/?x", b"{}")) == HttpAnswer(200, b"{}")
            assert server.connections == 1
            other = HttpServer(url=f"https://{NAME}", ca_pem=site.ca_pem, headers=(("x-key", "k"),))
            assert await made.perform(HttpPost(other, "/?x", b"{}")) == HttpAnswer(200, b"{}")
            assert server.connections == 2
    assert server.requests[0].headers["content-type"] == "application/json"


async def test_a_server_that_cannot_be_asked_at_all() -> None:
    http = HttpServer(url="https://auth", ca_pem=b"none")
    async with performer() as made:
        for _ in range(2):
            assert await made.perform(HttpPost(http, "/", b"{}")) == Failed(
                "the certificates or the key for https://auth cannot be used"
            )


# ------------------------------------------------------------------------------------------------------- hashing


async def test_hashing_does_not_hold_up_the_loop() -> None:
    expensive = argon2.PasswordHasher(time_cost=4, memory_cost=65_536, parallelism=1)
    hashed = expensive.hash("sesame")
    rounds = 0

    async with performer() as made, trio.open_nursery() as nursery:

        async def turn() -> None:
            nonlocal rounds
            while True:
                await trio.lowlevel.checkpoint()
                rounds += 1

        nursery.start_soon(turn)
        assert await made.perform(VerifyPassword(hashed, b"sesame")) is True
        nursery.cancel_scope.cancel()
    assert rounds > 20  # it would be a handful if the hash kept the interpreter


class Gate:
    """Takes the place of hashing, and takes as long as the test likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.inside = 0
        self._lock = threading.Lock()
        monkeypatch.setattr("trio_broker.effects.verify_password", self.verify)

    def verify(self, _hash: str, _password: bytes) -> bool:
        with self._lock:
            self.inside += 1
        self.open.wait(30)
        return True


@pytest.mark.parametrize("threads", [1, 3])
async def test_hashing_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    gate = Gate(monkeypatch)
    async with performer(ServerLimits(password_threads=threads)) as made:
        replies: list[object] = []

        async def check() -> None:
            replies.append(await made.perform(VerifyPassword("h", b"p")))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(check)
            await until(lambda: gate.inside == threads)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert gate.inside == threads
            gate.open.set()
        assert replies == [True] * 10


async def test_who_leaves_is_not_waited_for_and_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    async with performer(ServerLimits(password_threads=1)) as made:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.perform, VerifyPassword("h", b"p"))
                await until(lambda: gate.inside == 1)
                scope.cancel()
        # An endless stream of connections that ask and leave never has more than one hash under way.
        with trio.move_on_after(0.02):
            await made.perform(VerifyPassword("h", b"p"))
        assert gate.inside == 1
        gate.open.set()
        assert await made.perform(VerifyPassword("h", b"p")) is True


# ------------------------------------------------------------------------------------------- within a whole broker


def port(*methods: Method) -> Listener:
    return listen(policy=Policy(authenticate=chain(methods)))


async def connect(run: Running, listener: Listener, client_id: str, **fields: Any) -> ConnAck:
    return await Peer(await run.dial(listener)).connect(client_id, **fields)


async def test_a_slow_custom_server_delays_nobody_else(site: Site) -> None:
    with custom_server(site.context()) as slow, custom_server(site.context()) as quick:
        slow.answer = slow.never
        asks_slow = Method("Custom", custom(at(slow, site)))
        users = Method("Password", password({"ann": HASH}))
        stuck, mixed, others = port(asks_slow), port(users, asks_slow), port(Method("Custom", custom(at(quick, site))))
        async with performer(ServerLimits(http_connections=2, http_timeout=600)) as made:
            async with running(stuck, mixed, others, perform=made.perform) as run:
                answered: list[ConnAck] = []

                async def wait() -> None:
                    answered.append(await connect(run, stuck, ""))

                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(wait)
                    await until(lambda: slow.at_once == 2)
                    for number in range(5):
                        good = await connect(run, mixed, f"m{number}", username="ann", password=b"sesame")
                        assert good.reason_code is ReasonCode.SUCCESS
                        bad = await connect(run, mixed, f"b{number}", username="ann", password=b"wrong")
                        assert bad.reason_code is ReasonCode.BAD_USER_NAME_OR_PASSWORD
                        assert (await connect(run, others, f"o{number}")).reason_code is ReasonCode.SUCCESS
                    assert slow.at_once == 2
                    assert not answered
                    nursery.cancel_scope.cancel()
            slow.stop()


async def test_a_custom_server_without_an_answer_is_passed_over_in_time(site: Site, patient_clock: MockClock) -> None:
    with custom_server(site.context()) as slow:
        slow.answer = slow.never
        listener = port(Method("Custom", custom(at(slow, site))), Method("Password", password({"ann": HASH})))
        alone = port(Method("Custom", custom(at(slow, site))))
        async with performer(ServerLimits(http_timeout=5)) as made:
            async with running(listener, alone, perform=made.perform) as run:
                connack = await connect(run, listener, "a", username="ann", password=b"sesame")
                assert connack.reason_code is ReasonCode.SUCCESS
                assert (await connect(run, alone, "b")).reason_code is ReasonCode.NOT_AUTHORIZED
        [refused] = run.logged("refused")
        assert refused["reason"] == "Custom: the server could not be asked: no complete answer within 5 seconds"


OUTCOMES: list[tuple[Callable[[Received], Answer], ReasonCode]] = [
    (lambda request: passes(), ReasonCode.SUCCESS),
    (lambda request: passes(expiry="2999-01-01T00:00:00Z", attributes={"a": "b"}), ReasonCode.SUCCESS),
    (lambda request: passes(expiry="2000-01-01T00:00:00Z"), ReasonCode.NOT_AUTHORIZED),
    (lambda request: passes(expires=1), ReasonCode.NOT_AUTHORIZED),
    *((lambda request, reason=reason: fails(reason=reason), code) for reason, code in [
        (0, ReasonCode.NOT_AUTHORIZED),
        (5, ReasonCode.NOT_AUTHORIZED),
        (0x18, ReasonCode.NOT_AUTHORIZED),
        (256, ReasonCode.NOT_AUTHORIZED),
        (0x80, ReasonCode.UNSPECIFIED_ERROR),
        (0x86, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (0x88, ReasonCode.SERVER_UNAVAILABLE),
        (0x8A, ReasonCode.BANNED),
        (0x8B, ReasonCode.NOT_AUTHORIZED),
        (0x9F, ReasonCode.CONNECTION_RATE_EXCEEDED),
    ]),
    (lambda request: Answer(403, b"<html>"), ReasonCode.NOT_AUTHORIZED),
    *((lambda request, status=status: Answer(status, b"{}"), ReasonCode.NOT_AUTHORIZED) for status in (400, 405, 500)),
    (lambda request: Answer(422, b'{"supportedVersions": ["1.0.0"]}'), ReasonCode.NOT_AUTHORIZED),
    (lambda request: Answer(200, bytes(300_000)), ReasonCode.NOT_AUTHORIZED),
    (lambda request: Answer(raw=b"rubbish", then_close=True), ReasonCode.NOT_AUTHORIZED),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "code"), OUTCOMES)
async def test_what_the_client_is_told(site: Site, answer: Callable[[Received], Answer], code: ReasonCode) -> None:
    with custom_server(site.context()) as server:
        server.answer = answer
        listener = port(Method("Custom", custom(at(server, site))))
        async with performer() as made:
            async with running(listener, perform=made.perform) as run:
                connack = await connect(run, listener, "c", username="ann", password=b"sesame")
        assert connack.reason_code is code
        assert connack.reason_string is None
        assert [request.json["password"] for request in server.requests] == ["c2VzYW1l"] * len(server.requests)
        assert "sesame" not in run.file.getvalue()
        assert "c2VzYW1l" not in run.file.getvalue()


async def test_the_version_is_agreed_on(site: Site) -> None:
    answers = [passes(), Answer(422, b'{"supportedVersions": ["0.4.0", "0.5.0"]}')]
    with custom_server(site.context()) as server:
        server.answer = lambda request: answers.pop()
        listener = port(Method("Custom", custom(at(server, site, path="/auth"))))
        async with performer() as made:
            async with running(listener, perform=made.perform) as run:
                assert (await connect(run, listener, "c")).reason_code is ReasonCode.SUCCESS
        assert [request.path for request in server.requests] == ["/auth/?api-version=0.5.0"] * 2


@pytest.mark.parametrize(
    ("version", "fields", "code"),
    [
        (5, {"username": "ann", "password": b"wrong"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (5, {"username": "eve", "password": b"sesame"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (5, {"username": "ann"}, ReasonCode.NOT_AUTHORIZED),
        (5, {}, ReasonCode.NOT_AUTHORIZED),
        (5, {"authentication_method": "other"}, ReasonCode.BAD_AUTHENTICATION_METHOD),
        (4, {"username": "ann", "password": b"wrong"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (4, {}, ReasonCode.NOT_AUTHORIZED),
        (4, {"username": "ann", "password": b"sesame"}, ReasonCode.SUCCESS),
    ],
)
async def test_passwords(version: int, fields: dict[str, Any], code: ReasonCode) -> None:
    listener = port(Method("Password", password({"ann": HASH})))
    async with performer() as made:
        async with running(listener, perform=made.perform) as run:
            dial = partial(connect, run, listener, "c", version=version)
            assert (await dial(**fields)).reason_code is code
