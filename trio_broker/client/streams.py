"""Opening the stream of bytes that a client speaks MQTT over: TCP, TLS, WebSocket, or both of the latter."""

import os
import ssl

import trio

from trio_broker.client.errors import ClientError
from trio_broker.client.websocket import WebSocketStream, open_websocket

PORT = 1883
TLS_PORT = 8883
WEBSOCKET_PORT = 80
WEBSOCKET_TLS_PORT = 443


def default_port(*, tls: bool, websocket: bool) -> int:
    """The port that is meant where none is given."""
    if websocket:
        return WEBSOCKET_TLS_PORT if tls else WEBSOCKET_PORT
    return TLS_PORT if tls else PORT


async def open_stream(
    nursery: trio.Nursery,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    websocket: str | None,
    stream: trio.abc.Stream | None,
) -> trio.abc.Stream:
    """Connect (or take `stream` for the TCP connection), then TLS, then WebSocket at the path `websocket`.

    `nursery` holds the WebSocket's reader. Raises ClientError. Whatever was opened is closed again on
    failure.
    """
    opened = stream if stream is not None else await _connect(host, port)
    try:
        if tls is not None:
            opened = await _start_tls(opened, tls, host)
        if websocket is not None:
            opened = await open_websocket(nursery, opened, host=_host_header(host, port), path=websocket)
    except BaseException:
        await trio.aclose_forcefully(opened)
        raise
    return opened


async def finish(stream: trio.abc.Stream) -> None:
    """Let the server see the end of what we send, while we go on reading.

    TLS knows no such thing, so there TCP ends below it: DISCONNECT has told the server already that this is all.
    """
    try:
        if isinstance(stream, WebSocketStream):
            await stream.aclose()
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if isinstance(transport, trio.abc.HalfCloseableStream):
            await transport.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _connect(host: str, port: int) -> trio.abc.Stream:
    try:
        return await trio.open_tcp_stream(host, port)  # [MQTT-4.2.0-1]
    except OSError as exc:
        raise ClientError(f"cannot connect to {_host_header(host, port)}: {_connect_problem(exc)}") from exc


def _connect_problem(exc: OSError) -> str:
    # When every address of a name failed, trio's text repeats host and port and the cause says why.
    cause = exc.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    told = cause if isinstance(cause, OSError) else exc
    return _system_error(told)


async def _start_tls(stream: trio.abc.Stream, context: ssl.SSLContext, host: str) -> trio.SSLStream[trio.abc.Stream]:
    # https_compatible: many servers close without close_notify, and MQTT knows by itself whether a packet is
    # whole.
    encrypted = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await encrypted.do_handshake()
    except trio.BrokenResourceError as exc:
        await trio.aclose_forcefully(stream)
        raise ClientError(f"TLS handshake with {host} failed: {broken_reason(exc)}") from exc
    return encrypted


def broken_reason(exc: trio.BrokenResourceError) -> str:
    """Why a stream broke, for a person."""
    cause = exc.__cause__
    if isinstance(cause, trio.BrokenResourceError):
        return broken_reason(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate does not verify: {cause.verify_message}"
    if isinstance(cause, ssl.SSLEOFError):
        return "the server closed the connection (does it speak TLS on this port?)"
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or "protocol error").replace("_", " ").lower()
        if reason == "wrong version number":
            return "the server does not speak TLS on this port"
        return f"TLS: {reason}"
    if isinstance(cause, OSError):
        return _system_error(cause)
    return str(exc) or "the connection broke"


def _system_error(exc: OSError) -> str:
    # Trio puts the address into the text. A failed look-up has a negative number and a text of its own.
    if exc.errno is not None and exc.errno > 0:
        return os.strerror(exc.errno).lower()
    return (exc.strerror or str(exc)).lower()


def _host_header(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
