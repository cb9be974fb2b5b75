"""HTTPS requests whose failures are values: verified, pooled, and bounded in time, number and size.

httpcore carries them: it is the small transport under httpx, runs on Trio natively over h11, and lets the name that is
verified differ from the address that is connected to.
"""

import ssl
from collections.abc import Iterable, Mapping
from typing import Any, final

import httpcore
import trio

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import HttpAnswer, HttpServer
from trio_broker.limits import ServerLimits
from trio_broker.tls import load_key_pair

Address = tuple[str, int]

KEEP_ALIVE = 30.0
"""Seconds that a connection is kept for the next request."""


@final
class HttpsClient:
    """Requests to one server. `resolve` has the addresses to connect to instead of a name's own."""

    def __init__(self, server: HttpServer, limits: ServerLimits, resolve: Mapping[Address, Address]) -> None:
        """Raises ValueError if the certificates or the key cannot be used."""
        self._server = server
        self._limits = limits
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_context(server),
            max_connections=limits.http_connections,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=_Resolving(resolve),
        )

    async def request(
        self, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> HttpAnswer | Failed:
        """The answer to one request, or why there is none; within `http_timeout` seconds either way."""
        with trio.move_on_after(self._limits.http_timeout):
            answer = await self._try(method, path, headers, body)
            if answer is None:  # as a rule the server was closing a kept connection; to ask twice does no harm
                answer = await self._try(method, path, headers, body)
            return answer or Failed("the server closed the connection, or what it sent is not HTTP")
        return Failed(f"no complete answer within {self._limits.http_timeout:g} seconds")

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._pool.aclose()

    async def _try(
        self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes | None
    ) -> HttpAnswer | Failed | None:
        url = self._server.url.rstrip("/") + path
        answered = False
        try:
            async with self._pool.stream(
                method, url, headers=[*self._server.headers, *headers], content=body
            ) as response:
                answered = True
                return await self._read(response)
        except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError) as error:
            if answered:
                return Failed("the server's answer breaks off")
            cause = _cause(error)
            return Failed(_told(cause)) if isinstance(cause, ssl.SSLError) else None
        except httpcore.ConnectError as error:
            return Failed(_told(_cause(error)))
        except Exception as error:
            return Failed(type(error).__name__)  # its text may hold a header

    async def _read(self, response: httpcore.Response) -> HttpAnswer | Failed:
        received = bytearray()
        too_long = False
        # Cancelled, not left half-way: that would leave generators of httpcore to the garbage collector.
        with trio.CancelScope() as scope:
            async for chunk in response.aiter_stream():
                received += chunk
                if len(received) > self._limits.http_answer_bytes:
                    too_long = True
                    scope.cancel()
                    received.clear()
        if too_long:
            return Failed(f"the answer is longer than {self._limits.http_answer_bytes} bytes")
        return HttpAnswer(response.status, bytes(received))


def _cause(error: BaseException) -> OSError | None:
    """The system's or OpenSSL's own error at the root of one of httpcore's."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and (found.strerror or isinstance(found, ssl.SSLError)):
            return found
        found = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else found.__cause__
    return None


def _told(error: OSError | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'the connection ended').replace('_', ' ').lower()}"
    return "no connection" if error is None else f"no connection: {error.strerror}"


@final
class _Resolving(httpcore.AsyncNetworkBackend):
    """Connects where `resolve` says; TLS goes on to verify the name of the URL."""

    def __init__(self, resolve: Mapping[Address, Address]) -> None:
        self._resolve = resolve
        self._backend = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        host, port = self._resolve.get((host.lower(), port), (host, port))
        return await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)


def _context(server: HttpServer) -> ssl.SSLContext:
    try:
        # What is not ASCII stands between the certificates.
        cadata = None if server.ca_pem is None else server.ca_pem.decode("ascii", "ignore")
        context = ssl.create_default_context(cadata=cadata)
        # The same on every Python: newer ones would refuse CAs that `openssl req` makes, older ones intermediates.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if server.client_cert_pem is not None:
            load_key_pair(context, server.client_cert_pem, server.client_key_pem or b"")
    except (OSError, ValueError):
        raise ValueError(f"the certificates or the key for {server.url} cannot be used") from None
    return context
