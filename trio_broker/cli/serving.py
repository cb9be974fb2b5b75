"""The broker as a process: listeners, background tasks and signals, whatever they were planned from."""

import gc
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import click
import trio
from attrs import field, frozen

from mqttcore.broker import Broker, Policy
from mqttcore.limits import Limits
from trio_broker import assembly
from trio_broker.effects import Performer
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Listener, open_sockets
from trio_broker.logs import Level, make_logger
from trio_broker.port_tls import PortTls, renew_certificates
from trio_broker.resources import METHOD_NAMES, Configuration, Port
from trio_broker.server import Server, perform_nothing
from trio_broker.tokens import SESSION_DIRECTORY, Tokens, TokensLocal

if sys.platform != "win32":
    import resource

LOCAL = ("127.0.0.1", "::1")
"""Where a broker without --bind listens: nobody else's machine reaches it."""
STOP = (signal.SIGINT, signal.SIGTERM)

Address = tuple[str, int]
Task = Callable[[], Awaitable[None]]


@frozen(kw_only=True)
class Plan:
    """What is to run; `banner` is printed when all listeners listen."""

    limits: Limits
    server_limits: ServerLimits
    listeners: Sequence[Listener]
    banner: str
    performer: Performer | None = None
    certificates: Sequence[PortTls] = ()
    tasks: Sequence[Task] = field(default=())


def listen(
    number: int, bind: Sequence[str], limits: ServerLimits, policy: Policy, *, option: str = "--port",
    context: ssl.SSLContext | None = None, websocket: bool = False,
) -> list[Listener]:  # fmt: skip
    """Listeners for one port on all addresses. Raises ConfigurationError, which names `option`."""
    sockets = open_sockets(
        bind or LOCAL, number, limits.listen_backlog, optional=() if bind else LOCAL[1:], option=option
    )
    return [Listener(socket=sock, policy=policy, tls=context, websocket=websocket) for sock in sockets]


def plan(
    configuration: Configuration,
    *,
    limits: Limits,
    server_limits: ServerLimits,
    bind: Sequence[str],
    tokens: Tokens | None,
    resolve: dict[Address, Address],
    tasks: Sequence[Task] = (),
    epilogue: str = "",
) -> Plan:
    """What runs a configuration. Raises ConfigurationError; nothing is left open then."""
    verification = assembly.token_verification(tokens, configuration.service_accounts, server_limits)
    directory = tokens.directory if isinstance(tokens, TokensLocal) else SESSION_DIRECTORY
    listeners: list[Listener] = []
    certificates: list[PortTls] = []
    lines = []
    try:
        for port in configuration.ports:
            policy = assembly.policy(port, limits, verification)
            tls = None if port.tls is None else PortTls(port, directory, time.time())
            opened = listen(port.number, bind, server_limits, policy, option="another port in the BrokerListener",
                            context=None if tls is None else tls.context, websocket=port.websocket)  # fmt: skip
            listeners += opened
            certificates += [] if tls is None else [tls]
            lines += [f"  {listener.url:<28} {_told(port)}" for listener in opened]
    except BaseException:
        close(listeners)
        raise
    return Plan(
        limits=limits,
        server_limits=server_limits,
        listeners=listeners,
        banner="\n".join(
            ["trio-broker is listening on", *lines, *([epilogue] if epilogue else []), "Ctrl-C stops it."]
        ),
        performer=Performer(verification.source, limits=server_limits, resolve=resolve),
        certificates=certificates,
        tasks=tasks,
    )


def _told(port: Port) -> str:
    if port.authentication is None:
        return f"{port.listener}: no authentication, everybody may do everything"
    return f"{port.listener}: {', then '.join(METHOD_NAMES[type(method)] for method in port.authentication.methods)}"


def close(listeners: Sequence[Listener]) -> None:
    """Close the sockets of listeners that will not be served."""
    for listener in listeners:
        listener.socket.close()


def run_plan(planned: Plan, log_format: Literal["text", "json"], log_level: Level) -> None:
    """Run until SIGINT or SIGTERM; a second one ends the process at once."""
    broker = Broker(planned.limits, seed=secrets.token_bytes(32), wall_offset=time.time() - time.monotonic())
    server = Server(
        broker,
        limits=planned.server_limits,
        perform=perform_nothing if planned.performer is None else planned.performer.perform,
        logger=make_logger(log_format, log_level),
    )
    # What is loaded by now stays: the collector need not look at it again, nor so often at what comes.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    # A second signal, which Python's own handlers would turn into an exception somewhere in a task.
    for number in STOP:
        signal.signal(number, signal.SIG_DFL)
    trio.run(_run, server, planned)


async def _run(server: Server, planned: Plan) -> None:
    async with trio.open_nursery() as background:
        background.start_soon(renew_certificates, planned.certificates, server.log)
        for task in planned.tasks:
            background.start_soon(task)
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(*STOP) as signals:
                await nursery.start(server.serve, planned.listeners)
                click.echo(planned.banner)
                async for _ in signals:
                    server.stop()
                    break
            # Outside, a signal has its default effect again.
        background.cancel_scope.cancel()
    if planned.performer is not None:
        await planned.performer.aclose()


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have."""
    # Every connection is an open file, and the usual soft limit of 1024 is for programs that use select().
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
