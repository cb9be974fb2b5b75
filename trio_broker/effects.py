"""Performs what authenticators ask for: HTTPS requests, token reviews, password hashing."""

from collections.abc import Container, Mapping
from typing import Protocol, final

import argon2
import trio

from mqttcore.auth import Effect, Failed, Reply
from mqttcore.authenticators.effects import (
    HttpPost,
    HttpServer,
    JsonWebKeys,
    ReviewToken,
    ServiceAccountAnnotations,
    SigningKeys,
    TokenReviewed,
    VerifyPassword,
)
from trio_broker.https import Address, HttpsClient
from trio_broker.limits import ServerLimits

JSON = (("content-type", "application/json"), ("accept", "application/json"))


class TokenSource(Protocol):
    """Where service account tokens are verified; every failure is a reply."""

    async def review(self, token: str, audiences: tuple[str, ...]) -> TokenReviewed | Failed:
        """Have a token reviewed."""

    async def annotations(self, namespace: str, name: str) -> Mapping[str, str] | Failed:
        """A ServiceAccount's annotations, empty if there is no such account."""

    async def keys(self, key_id: str | None) -> JsonWebKeys | Failed:
        """The keys that tokens are signed with, fetched anew if `key_id` is not among them."""

    async def aclose(self) -> None:
        """Close what is open."""


@final
class Performer:
    """Performs effects for a whole broker. A slow server delays nobody who does not ask it.

    `resolve` has the addresses to connect to instead of a custom server's (name, port).
    """

    def __init__(
        self,
        tokens: TokenSource,
        *,
        limits: ServerLimits | None = None,
        resolve: Mapping[Address, Address] | None = None,
    ) -> None:
        self._tokens = tokens
        self._limits = limits or ServerLimits()
        self._resolve = {} if resolve is None else resolve  # a mapping that is empty now may not stay so
        self._clients: dict[HttpServer, HttpsClient] = {}
        self._named: Container[HttpServer] | None = None  # custom servers; None before anybody has said which
        self._hashing = trio.CapacityLimiter(self._limits.password_threads)

    async def perform(self, effect: Effect) -> Reply:
        """The reply to an effect, Failed if it could not be performed."""
        match effect:
            case HttpPost(server, path, body):
                try:
                    client = await self._client(server)
                except ValueError as error:
                    return Failed(str(error))
                return await client.request("POST", path, JSON, body)
            case ReviewToken(token, audiences):
                return await self._tokens.review(token, audiences)
            case ServiceAccountAnnotations(namespace, name):
                return await self._tokens.annotations(namespace, name)
            case SigningKeys(key_id):
                return await self._tokens.keys(key_id)
            case VerifyPassword(password_hash, password):
                return await trio.to_thread.run_sync(
                    verify_password, password_hash, password, limiter=self._hashing, abandon_on_cancel=True
                )
        return Failed(f"nobody performs {type(effect).__name__}")

    async def keep(self, servers: Container[HttpServer]) -> None:
        """Keep no connections to custom servers other than these. What is under way there comes to its end."""
        self._named = servers
        gone = [server for server in self._clients if server not in servers]
        for client in [self._clients.pop(server) for server in gone]:
            await client.retire()

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        for client in self._clients.values():
            await client.aclose()
        await self._tokens.aclose()

    async def _client(self, server: HttpServer) -> HttpsClient:
        client = self._clients.get(server)
        if client is None:
            client = HttpsClient(server, self._limits, self._resolve)
            if self._named is None or server in self._named:
                self._clients[server] = client
            else:
                await client.retire()  # a further request of an exchange that began before
        return client


def verify_password(password_hash: str, password: bytes) -> bool | Failed:
    """Whether the password is the one that was hashed, with Argon2; takes its time."""
    try:
        return argon2.PasswordHasher().verify(password_hash, password)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except argon2.exceptions.VerificationError as error:
        return Failed(f"Argon2: {error}")  # such as "Memory allocation error"
    except (argon2.exceptions.InvalidHashError, UnicodeEncodeError):
        return Failed("the stored hash is not one of Argon2")
