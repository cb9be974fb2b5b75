"""Published signing keys: a JWKS in a file, at a URL, or where an OpenID Connect issuer says."""

import json
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, final

import trio

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import HttpAnswer, HttpServer, JsonWebKeys, TokenReviewed
from trio_broker.https import HttpsClient
from trio_broker.limits import ServerLimits

KEYS_MAXIMUM_AGE = 300.0
"""Seconds that fetched keys are used without being fetched anew."""
KEYS_MINIMUM_AGE = 10.0
"""Seconds between two fetches at least, whatever keys tokens name."""

Fetch = Callable[[], Awaitable[JsonWebKeys | Failed]]
Accounts = Callable[[str, str], Mapping[str, str]]
"""The annotations of the ServiceAccount with this namespace and name, empty if there is none."""


@final
class PublishedKeys:
    """Keys that are fetched and kept for a while; verification itself is the authenticator's."""

    def __init__(self, fetch: Fetch, accounts: Accounts) -> None:
        self._fetch = fetch
        self._accounts = accounts
        self._keys: JsonWebKeys | Failed = Failed("not fetched yet")
        self._good: JsonWebKeys | None = None
        self._fetched_at = -inf
        self._lock = trio.Lock()

    async def keys(self, key_id: str | None) -> JsonWebKeys | Failed:
        """The keys; those of the last fetch that succeeded while the source cannot be reached."""
        async with self._lock:
            age = trio.current_time() - self._fetched_at
            known = self._good is not None and (key_id is None or any(key.get("kid") == key_id for key in self._good))
            if age >= KEYS_MAXIMUM_AGE or (not known and age >= KEYS_MINIMUM_AGE):
                fetched = await self._fetch()
                self._fetched_at = trio.current_time()
                self._keys = fetched
                if not isinstance(fetched, Failed):
                    self._good = fetched
        return self._keys if self._good is None else self._good

    async def annotations(self, namespace: str, name: str) -> Mapping[str, str] | Failed:
        """What the manifests say about the ServiceAccount."""
        return self._accounts(namespace, name)

    async def review(self, token: str, audiences: tuple[str, ...]) -> TokenReviewed | Failed:
        """Not asked for where tokens are verified by their signature."""
        return Failed("there is no API server to review tokens")

    async def aclose(self) -> None:
        """Nothing stays open between fetches."""


def from_file(path: Path) -> Fetch:
    """Fetches a JWKS file."""

    async def fetch() -> JsonWebKeys | Failed:
        try:
            return read_jwks(await trio.Path(path).read_bytes())
        except OSError as error:
            return Failed(f"{path}: {error.strerror}")

    return fetch


def from_url(url: str, limits: ServerLimits, ca_pem: bytes | None = None) -> Fetch:
    """Fetches the JWKS at an https URL."""

    async def fetch() -> JsonWebKeys | Failed:
        body = await _get(url, limits, ca_pem)
        return body if isinstance(body, Failed) else read_jwks(body)

    return fetch


def from_issuer(issuer: str, limits: ServerLimits, ca_pem: bytes | None = None) -> Fetch:
    """Fetches the JWKS that the issuer's discovery document names (OpenID Connect Discovery 1.0, section 4)."""

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

    return fetch


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
