"""trio-broker run: the broker as a process."""

import gc
import secrets
import signal
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import click
import trio
from attrs import frozen

from mqttcore.broker import Broker, Policy
from mqttcore.limits import Limits
from trio_broker.cli import PROGRAM, program_version
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Listener, open_sockets
from trio_broker.logs import Level, make_logger
from trio_broker.server import Server
from trio_broker.settings import parse_settings
from trio_broker.tls import server_context

if sys.platform != "win32":
    import resource

DEFAULT_PORT = 1883
LOCAL = ("127.0.0.1", "::1")
"""Where a broker without --bind listens: nobody else's machine reaches it."""

Stop = (signal.SIGINT, signal.SIGTERM)


@frozen
class _Port:
    option: str
    number: int
    tls: ssl.SSLContext | None = None
    websocket: bool = False


class _PortType(click.ParamType[int]):
    name = "port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text.isascii() and text.isdigit() and int(text) <= 65_535:
            return int(text)
        return self.fail(f"{text!r} is not a port: a number from 0 (any free one) to 65535", param, ctx)


PORT = _PortType()
FILE = click.Path(path_type=Path)


@click.command()
@click.option("--bind", multiple=True, metavar="ADDRESS", help="Listen here; may be repeated. [127.0.0.1 and ::1]")
@click.option("--port", type=PORT, default=DEFAULT_PORT, show_default=True, help="MQTT over TCP; 0 is a free port.")
@click.option("--ws-port", type=PORT, help="MQTT over WebSocket.")
@click.option("--tls-port", type=PORT, help="MQTT over TLS, with --tls-cert and --tls-key.")
@click.option("--wss-port", type=PORT, help="MQTT over WebSocket over TLS, with --tls-cert and --tls-key.")
@click.option("--tls-cert", type=FILE, help="PEM file with the broker's certificate and those between it and a root.")
@click.option("--tls-key", type=FILE, help="PEM file with the certificate's private key.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a limit; see trio-broker limits.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def run(
    bind: tuple[str, ...],
    port: int,
    ws_port: int | None,
    tls_port: int | None,
    wss_port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    settings: tuple[str, ...],
    log_format: Literal["text", "json"],
    log_level: Level,
) -> None:
    """Run the broker until SIGINT or SIGTERM; a second one ends it at once. Logs go to standard error."""
    try:
        limits, server_limits = parse_settings(settings)
        context = _tls_context(tls_cert, tls_key, wanted=tls_port is not None or wss_port is not None)
        ports = [_Port("--port", port)]
        if tls_port is not None:
            ports.append(_Port("--tls-port", tls_port, tls=context))
        if ws_port is not None:
            ports.append(_Port("--ws-port", ws_port, websocket=True))
        if wss_port is not None:
            ports.append(_Port("--wss-port", wss_port, tls=context, websocket=True))
        raise_file_limit()
        listeners = _open(ports, bind, limits, server_limits)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    broker = Broker(limits, seed=secrets.token_bytes(32), wall_offset=time.time() - time.monotonic())
    server = Server(broker, limits=server_limits, logger=make_logger(log_format, log_level))
    # What is loaded by now stays: the collector need not look at it again, nor so often at what comes.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    # A second signal, which Python's own handlers would turn into an exception somewhere in a task.
    for number in Stop:
        signal.signal(number, signal.SIG_DFL)
    trio.run(_run, server, listeners)


async def _run(server: Server, listeners: list[Listener]) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(*Stop) as signals:
            await nursery.start(server.serve, listeners)
            with suppress(BrokenPipeError):  # who started us may not care
                click.echo(_banner(listeners))
            async for _ in signals:
                server.stop()
                break
        # Outside, a signal has its default effect again.


def _tls_context(certificate: Path | None, key: Path | None, *, wanted: bool) -> ssl.SSLContext | None:
    if not wanted:
        if certificate is not None or key is not None:
            raise ConfigurationError("--tls-cert and --tls-key are of no use without --tls-port or --wss-port")
        return None
    if certificate is None or key is None:
        raise ConfigurationError("TLS needs both --tls-cert FILE and --tls-key FILE")
    return server_context(certificate, key)


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have."""
    # Every connection is an open file, and the usual soft limit of 1024 is for programs that use select().
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open(ports: list[_Port], bind: tuple[str, ...], limits: Limits, bounds: ServerLimits) -> list[Listener]:
    listeners: list[Listener] = []
    policy = Policy(limits=limits)
    try:
        for port in ports:
            sockets = open_sockets(
                bind or LOCAL,
                port.number,
                bounds.listen_backlog,
                optional=() if bind else LOCAL[1:],
                option=port.option,
            )
            listeners += [
                Listener(socket=sock, policy=policy, tls=port.tls, websocket=port.websocket) for sock in sockets
            ]
    except ConfigurationError:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


def _banner(listeners: list[Listener]) -> str:
    first = listeners[0]
    where = "" if first.address[1] == DEFAULT_PORT else f" --port {first.address[1]}"
    lines = [f"{PROGRAM} {program_version()} is listening on"]
    lines += [f"  {listener.url}" for listener in listeners]
    lines += [
        "Authentication is off: whoever reaches these addresses may publish and subscribe.",
        "Try it, in two other terminals:",
        f"  {PROGRAM} sub{where} -t 'demo/#'",
        f"  {PROGRAM} pub{where} -t demo/hello -m 'Hello, world'",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)
