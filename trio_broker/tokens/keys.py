"""Published signing keys: a JWKS in a file, at a URL, or where an OpenID Connect issuer says."""

import json
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, final

import trio

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import HttpAnswer, HttpServer, JsonWebKeys, TokenReviewed
from trio_broker.https import HttpsClient
from trio_broker.limits import ServerLimits
from trio_broker.tokens.source import LOCAL, REMOTE, KeySource

Accounts = Callable[[str, str], Mapping[str, str]]
"""The annotations of the ServiceAccount with this namespace and name, empty if there is none."""


@final
class PublishedKeys:
    """Keys that are fetched and kept for a while; verification itself is the authenticator's."""

    def __init__(self, source: KeySource, accounts: Accounts) -> None:
        self._source = source
        self._accounts = accounts
        self._keys: JsonWebKeys | None = None
        self._failed = Failed("not fetched yet")
        self._fetched_at = -inf
        self._tried_at = -inf
        self._fetching: trio.Event | None = None

    async def keys(self, key_id: str | None) -> JsonWebKeys | Failed:
        """The keys; those of the last fetch that succeeded while the source cannot be reached.

        Whoever asks while they are being fetched waits for the same fetch, unless what is here will do.
        """
        now = trio.current_time()
        if now - self._fetched_at >= self._source.maximum_age or not self._has(key_id):
            if self._fetching is None and now - self._tried_at >= self._source.minimum_age:
                self._tried_at = now
                self._fetching = trio.Event()
                # Nobody's own task: a client that goes away would take the fetch that others wait for with it.
                trio.lowlevel.spawn_system_task(self._fetch, self._fetching)
            if self._fetching is not None:
                await self._fetching.wait()
        return self._failed if self._keys is None else self._keys

    def _has(self, key_id: str | None) -> bool:
        return self._keys is not None and (key_id is None or any(key.get("kid") == key_id for key in self._keys))

    async def _fetch(self, done: trio.Event) -> None:
        try:
            fetched = await self._source.fetch()
        except Exception as error:  # out of a system task it would end the program
            fetched = Failed(type(error).__name__)
        finally:
            self._fetching = None
            done.set()
        if isinstance(fetched, Failed):
            self._failed = fetched
        else:
            self._keys = fetched
            self._fetched_at = trio.current_time()

    async def annotations(self, namespace: str, name: str) -> Mapping[str, str] | Failed:
        """What the manifests say about the ServiceAccount."""
        return self._accounts(namespace, name)

    async def review(self, token: str, audiences: tuple[str, ...]) -> TokenReviewed | Failed:
        """Not asked for where tokens are verified by their signature."""
        return Failed("there is no API server to review tokens")

    async def aclose(self) -> None:
        """Nothing stays open between fetches."""


def from_file(path: Path) -> KeySource:
    """The keys of a JWKS file."""

    async def fetch() -> JsonWebKeys | Failed:
        try:
            return read_jwks(await trio.Path(path).read_bytes())
        except OSError as error:
            return Failed(f"{path}: {error.strerror}")

    return KeySource(fetch, *LOCAL)


def from_url(url: str, limits: ServerLimits, ca_pem: bytes | None = None) -> KeySource:
    """The keys of the JWKS at an https URL."""

    async def fetch() -> JsonWebKeys | Failed:
        body = await _get(url, limits, ca_pem)
        return body if isinstance(body, Failed) else read_jwks(body)

    return KeySource(fetch, *REMOTE)


def from_issuer(issuer: str, limits: ServerLimits, ca_pem: bytes | None = None) -> KeySource:
    """The keys of the JWKS that an issuer's discovery document names (OpenID Connect Discovery 1.0, section 4)."""

    async def fetch() -> JsonWebKeys | Failed:
        body = await _get(issuer.rstrip("/") + "/.well-known/openid-configuration", limits, ca_pem)
        if isinstance(body, Failed):
            return body
        document = _json_object(body)
        if document.get("issuer") != issuer:
            return Failed("the discovery document is another issuer's")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not url.startswith("https://"):
            return Failed("the discovery document names no https address for the keys")
        body = await _get(url, limits, ca_pem)
        return body if isinstance(body, Failed) else read_jwks(body)

    return KeySource(fetch, *REMOTE)


def read_jwks(body: bytes) -> JsonWebKeys | Failed:
    """The keys of a JSON Web Key Set (RFC 7517, section 5)."""
    keys = _json_object(body).get("keys")
    if not isinstance(keys, list):
        return Failed("not a JSON Web Key Set")
    return tuple(key for key in keys if isinstance(key, dict))


async def _get(url: str, limits: ServerLimits, ca_pem: bytes | None) -> bytes | Failed:
    try:
        client = HttpsClient(HttpServer(url=url, ca_pem=ca_pem), limits, {})
    except ValueError as error:
        return Failed(str(error))
    try:
        answer = await client.request("GET", "", [("accept", "application/json")])
    finally:
        await client.aclose()
    if not isinstance(answer, HttpAnswer):
        return answer
    return answer.body if answer.status == 200 else Failed(f"HTTP status {answer.status}")


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
