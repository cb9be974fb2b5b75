"""Published keys: where they come from, when they are fetched anew, and what holds while they cannot be."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import JsonWebKeys
from tests.trio_broker.tokens.https_server import Asked, HttpsServer, https_server
from trio_broker.limits import ServerLimits
from trio_broker.tokens.keys import PublishedKeys, from_file, from_issuer, from_url, read_jwks
from trio_broker.tokens.source import LOCAL, REMOTE, KeySource

ONE: dict[str, Any] = {"kty": "EC", "kid": "one"}
TWO: dict[str, Any] = {"kty": "EC", "kid": "two"}
LIMITS = ServerLimits(http_timeout=20.0, http_answer_bytes=4096)


def jwks(*keys: object) -> dict[str, object]:
    return {"keys": list(keys)}


class Source:
    """Keys that a test replaces; a fetch takes `seconds`."""

    def __init__(self, *keys: Any) -> None:
        self.reply: JsonWebKeys | Failed | Exception = keys
        self.seconds = 0.0
        self.fetches = 0

    async def fetch(self) -> JsonWebKeys | Failed:
        self.fetches += 1
        reply = self.reply
        await trio.sleep(self.seconds)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def published(self) -> PublishedKeys:
        return PublishedKeys(KeySource(self.fetch, *REMOTE), lambda namespace, name: {})


class TestCaching:
    async def test_keys_are_used_for_five_minutes(self, autojump_clock: MockClock) -> None:
        source = Source(ONE)
        published = source.published()
        for _ in range(30):
            assert await published.keys("one") == (ONE,)
            assert await published.keys(None) == (ONE,)
            await trio.sleep(9.9)
        assert source.fetches == 1
        source.reply = (TWO,)
        await trio.sleep(10)
        assert await published.keys("one") == (TWO,)  # a key that was withdrawn
        assert source.fetches == 2

    async def test_an_unknown_key_is_looked_for_at_once_and_then_seldom(self, autojump_clock: MockClock) -> None:
        source = Source(ONE)
        published = source.published()
        await published.keys("one")
        await trio.sleep(10)
        source.reply = (ONE, TWO)
        assert await published.keys("two") == (ONE, TWO)
        assert source.fetches == 2
        for number in range(1000):
            assert await published.keys(f"made up {number}") == (ONE, TWO)
            await trio.sleep(0.1)
        assert 11 <= source.fetches <= 13

    async def test_all_who_wait_share_one_fetch(self, autojump_clock: MockClock) -> None:
        source = Source(ONE)
        source.seconds = 5
        published = source.published()
        found = []

        async def ask(key_id: str | None) -> None:
            found.append(await published.keys(key_id))

        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(ask, (None, "one", f"made up {number}")[number % 3])
        assert found == [(ONE,)] * 500
        assert source.fetches == 1

    async def test_who_has_what_it_needs_does_not_wait(self, autojump_clock: MockClock) -> None:
        source = Source(ONE)
        published = source.published()
        await published.keys("one")
        await trio.sleep(20)
        source.seconds = 10
        async with trio.open_nursery() as nursery:
            nursery.start_soon(published.keys, "made up")
            await wait_all_tasks_blocked()
            assert source.fetches == 2
            before = trio.current_time()
            assert await published.keys("one") == (ONE,)
            assert trio.current_time() == before

    async def test_who_goes_away_does_not_take_the_fetch_along(self, autojump_clock: MockClock) -> None:
        source = Source(ONE)
        source.seconds = 5
        published = source.published()
        for _ in range(50):
            with trio.move_on_after(0.05):
                await published.keys("made up")
        assert source.fetches == 1
        assert await published.keys("one") == (ONE,)
        assert source.fetches == 1

    async def test_the_last_good_keys_stay_while_the_source_is_away(self, autojump_clock: MockClock) -> None:
        source = Source(ONE)
        published = source.published()
        await published.keys("one")
        source.reply = Failed("HTTP status 503")
        for _ in range(100):
            await trio.sleep(10)
            assert await published.keys("one") == (ONE,)
            assert await published.keys("two") == (ONE,)
        assert 95 <= source.fetches <= 101
        source.reply = (TWO,)
        await trio.sleep(10)
        assert await published.keys("one") == (TWO,)

    @pytest.mark.parametrize(
        ("reply", "kind"), [(Failed("HTTP status 503"), "HTTP status 503"), (RuntimeError("secret"), "RuntimeError")]
    )
    async def test_without_any_there_is_a_failure(self, autojump_clock: MockClock, reply: Any, kind: str) -> None:
        source = Source()
        source.reply = reply
        published = source.published()
        for _ in range(100):
            assert await published.keys("one") == Failed(kind)
            await trio.sleep(0.1)
        assert source.fetches == 1
        source.reply = (ONE,)
        await trio.sleep(1)
        assert await published.keys("one") == (ONE,)

    async def test_the_rest_of_a_token_source(self) -> None:
        published = PublishedKeys(KeySource(Source().fetch, *REMOTE), lambda *account: {"account": "/".join(account)})
        assert await published.annotations("plant", "press") == {"account": "plant/press"}
        assert await published.review("token", ("a",)) == Failed("there is no API server to review tokens")
        await published.aclose()


class TestFile:
    async def test_a_change_is_noticed(self, mock_clock: MockClock, tmp_path: Path) -> None:
        path = tmp_path / "jwks.json"
        path.write_text(json.dumps(jwks(ONE)))
        published = PublishedKeys(from_file(path), lambda namespace, name: {})
        assert await published.keys("one") == (ONE,)
        path.write_text(json.dumps(jwks(TWO)))
        assert await published.keys("one") == (ONE,)
        mock_clock.jump(LOCAL[0])
        assert await published.keys("one") == (TWO,)
        path.unlink()
        mock_clock.jump(LOCAL[0])
        assert await published.keys("two") == (TWO,)

    async def test_what_is_wrong_with_it(self, tmp_path: Path) -> None:
        path = tmp_path / "jwks.json"
        assert await from_file(path).fetch() == Failed(f"{path}: No such file or directory")
        path.write_text("keys: []")
        assert await from_file(path).fetch() == Failed("not a JSON Web Key Set")


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"{}", b'{"keys": {}}', b'{"keys": null}', b"[" * 100_000, b"5"])
def test_what_is_no_key_set(body: bytes) -> None:
    assert read_jwks(body) == Failed("not a JSON Web Key Set")


def test_what_is_no_key_is_passed_over() -> None:
    assert read_jwks(json.dumps(jwks(5, ONE, "x", [], None, TWO)).encode()) == (ONE, TWO)
    assert read_jwks(b'{"keys": [], "other": 1}') == ()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[HttpsServer]:
    with https_server(authority) as running:
        yield running


class TestUrl:
    async def test_the_keys(self, server: HttpsServer, authority: trustme.CA) -> None:
        server.answer((200, jwks(ONE, TWO)))
        source = from_url(f"{server.url}/keys?x=y", LIMITS, authority.cert_pem.bytes())
        assert await source.fetch() == (ONE, TWO)
        [asked] = server.asked
        assert (asked.method, asked.path, asked.headers["accept"]) == ("GET", "/keys?x=y", "application/json")
        assert "authorization" not in asked.headers

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (404, {}, "HTTP status 404"),
            (500, jwks(ONE), "HTTP status 500"),
            (302, jwks(ONE), "HTTP status 302"),
            (200, {}, "not a JSON Web Key Set"),
            (200, b"<html>", "not a JSON Web Key Set"),
            (200, b" " * 5000, "the answer is longer than 4096 bytes"),
        ],
    )
    async def test_other_answers(
        self, server: HttpsServer, authority: trustme.CA, status: int, body: object, kind: str
    ) -> None:
        server.answer((status, body))
        assert await from_url(server.url, LIMITS, authority.cert_pem.bytes()).fetch() == Failed(kind)

    async def test_a_server_that_is_not_trusted(self, server: HttpsServer) -> None:
        for ca_pem in (None, trustme.CA().cert_pem.bytes()):
            assert isinstance(await from_url(server.url, LIMITS, ca_pem).fetch(), Failed)
        assert not server.asked

    async def test_a_server_of_another_name(self, authority: trustme.CA) -> None:
        with https_server(authority, "other.test") as server:
            assert isinstance(await from_url(server.url, LIMITS, authority.cert_pem.bytes()).fetch(), Failed)
            assert not server.asked

    async def test_a_ca_that_is_none(self, server: HttpsServer) -> None:
        failed = await from_url(server.url, LIMITS, b"nothing").fetch()
        assert failed == Failed(f"the certificates or the key for {server.url} cannot be used")

    async def test_a_closed_port(self, authority: trustme.CA) -> None:
        with https_server(authority) as server:
            pass
        assert isinstance(await from_url(server.url, LIMITS, authority.cert_pem.bytes()).fetch(), Failed)


class TestIssuer:
    async def fetch(self, issuer: str, authority: trustme.CA) -> JsonWebKeys | Failed:
        return await from_issuer(issuer, LIMITS, authority.cert_pem.bytes()).fetch()

    @pytest.mark.parametrize("path", ["", "/", "/id/cluster", "/id/cluster/"])
    async def test_discovery(self, server: HttpsServer, authority: trustme.CA, path: str) -> None:
        issuer = server.url + path

        def answer(asked: Asked) -> tuple[int, object]:
            if asked.path == f"{path.rstrip('/')}/.well-known/openid-configuration":
                return 200, {"issuer": issuer, "jwks_uri": f"{server.url}/elsewhere/jwks", "more": 1}
            return (200, jwks(ONE)) if asked.path == "/elsewhere/jwks" else (404, {})

        server.answer(answer)
        assert await self.fetch(issuer, authority) == (ONE,)
        assert len(server.asked) == 2

    @pytest.mark.parametrize(
        ("document", "words"),
        [
            ({"issuer": "https://other.test", "jwks_uri": "https://other.test"}, "another issuer's"),
            ({"jwks_uri": "https://other.test"}, "another issuer's"),
            ([], "another issuer's"),
            (b"<html>", "another issuer's"),
            ({"issuer": "URL"}, "names no https address"),
            ({"issuer": "URL", "jwks_uri": "http://localhost/jwks"}, "names no https address"),
            ({"issuer": "URL", "jwks_uri": 5}, "names no https address"),
            ({"issuer": "URL", "jwks_uri": "file:///etc/passwd"}, "names no https address"),
            ({"issuer": "URL", "jwks_uri": "https://"}, ""),
            ({"issuer": "URL", "jwks_uri": "https://[::1"}, ""),
            ({"issuer": "URL", "jwks_uri": "https://localhost:0/\n"}, ""),
        ],
    )
    async def test_other_documents(self, server: HttpsServer, authority: trustme.CA, document: Any, words: str) -> None:
        if isinstance(document, dict) and document.get("issuer") == "URL":
            document = document | {"issuer": server.url}
        server.answer((200, document))
        failed = await self.fetch(server.url, authority)
        assert isinstance(failed, Failed)
        assert words in failed.kind
        assert len(server.asked) == 1

    async def test_the_keys_cannot_be_had(self, server: HttpsServer, authority: trustme.CA) -> None:
        def answer(asked: Asked) -> tuple[int, object]:
            return (
                (503, {}) if asked.path == "/jwks" else (200, {"issuer": server.url, "jwks_uri": f"{server.url}/jwks"})
            )

        server.answer(answer)
        assert await self.fetch(server.url, authority) == Failed("HTTP status 503")
        server.answer((503, {}))
        assert await self.fetch(server.url, authority) == Failed("HTTP status 503")
