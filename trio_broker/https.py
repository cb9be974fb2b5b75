"""HTTPS requests whose failures are values: verified, pooled, and bounded in time, number and size.

httpcore carries them: it is the small transport under httpx, runs on Trio natively over h11, and lets the name that is
verified differ from the address that is connected to.
"""

import ssl
from collections import deque
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
        self._origin = httpcore.URL(server.url).origin
        self._context = _context(server)
        self._backend = _Resolving(resolve)
        # Not httpcore's pool: that looks at every connection beside every other one whenever a request begins or ends.
        self._turn = trio.Semaphore(limits.http_connections)
        self._kept: deque[httpcore.AsyncHTTPConnection] = deque()  # those used last are on the right
        self._retired = False

    async def request(
        self, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> HttpAnswer | Failed:
        """The answer to one request, or why there is none; within `http_timeout` seconds either way."""
        with trio.move_on_after(self._limits.http_timeout):
            async with self._turn:
                answer = await self._try(method, path, headers, body)
                if answer is None:
                    # As a rule the server was closing a kept connection, and the others too. To ask twice does no harm.
                    await self.aclose()
                    answer = await self._try(method, path, headers, body)
            return answer or Failed("the server closed the connection, or what it sent is not HTTP")
        return Failed(f"no complete answer within {self._limits.http_timeout:g} seconds")

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        while self._kept:
            await self._kept.pop().aclose()

    async def retire(self) -> None:
        """Keep no connection any more. Requests that are under way get their answers."""
        self._retired = True
        await self.aclose()

    async def _connection(self) -> httpcore.AsyncHTTPConnection:
        while self._kept and self._kept[0].has_expired():
            await self._kept.popleft().aclose()
        while self._kept:
            connection = self._kept.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore.AsyncHTTPConnection(
            self._origin, self._context, keepalive_expiry=KEEP_ALIVE, network_backend=self._backend
        )

    async def _try(
        self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes | None
    ) -> HttpAnswer | Failed | None:
        url = self._server.url.rstrip("/") + path
        answered = False
        connection = await self._connection()
        try:
            async with connection.stream(
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
        finally:
            if connection.is_available() and not self._retired:
                self._kept.append(connection)
            else:
                with trio.CancelScope(shield=True):  # closing does not wait
                    await connection.aclose()

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
        # httpcore takes the cause of some away, but not the context.
        found = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else found.__cause__ or found.__context__
    return None


def _told(error: OSError | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'the connection ended').replace('_', ' ').lower()}"
    # Trio puts the address before the reason.
    return "no connection" if error is None else f"no connection: {str(error.strerror).rpartition(': ')[2]}"


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
        return _Plain(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))


@final
class _Plain(httpcore.AsyncNetworkStream):
    """A TCP connection that is about to speak TLS. httpcore would leave it open if that were cancelled."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            with trio.CancelScope(shield=True):  # closing a socket does not wait
                await self._stream.aclose()
            raise


def _context(server: HttpServer) -> ssl.SSLContext:
    try:
        if server.ca_pem is None:
            context = ssl.create_default_context()
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # What is not ASCII stands between the certificates.
            context.load_verify_locations(cadata=server.ca_pem.decode("ascii", "ignore"))
        # The same on every Python: newer ones would refuse CAs that `openssl req` makes, older ones intermediates.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if server.client_cert_pem is not None:
            load_key_pair(context, server.client_cert_pem, server.client_key_pem or b"")
    except (OSError, ValueError):
        raise ValueError(f"the certificates or the key for {server.url} cannot be used") from None
    return context
