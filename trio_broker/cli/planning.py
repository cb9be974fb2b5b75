"""From a configuration to what is to run."""

import time
from collections.abc import Mapping, Sequence
from functools import partial

import click
import trio

from mqttcore.limits import Limits
from trio_broker import assembly
from trio_broker.cli.serving import Plan, Task, close, listen
from trio_broker.effects import Performer
from trio_broker.https import Address
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Listener
from trio_broker.logs import EventLog
from trio_broker.port_tls import PortTls, renew_certificates
from trio_broker.resources import METHOD_NAMES, Configuration, Port
from trio_broker.tokens import SESSION_DIRECTORY, Tokens, TokensLocal

CLOSING_TIMEOUT = 0.5
"""Seconds that the connections to other servers have to be closed in when the broker stops."""


def plan(
    configuration: Configuration,
    *,
    limits: Limits,
    server_limits: ServerLimits,
    bind: Sequence[str],
    tokens: Tokens | None,
    resolve: Mapping[Address, Address],
    tasks: Sequence[Task] = (),
    elsewhere: str = "its BrokerListener",
    epilogue: str = "",
) -> Plan:
    """What runs a configuration. Raises ConfigurationError; nothing is left open then.

    `elsewhere` completes "choose another port with …", for when one is in use.
    """
    limits = assembly.limits_of(configuration.broker, limits)
    for name in assembly.not_applied(configuration.broker):
        click.echo(f"warning: Broker: {name} is not applied yet", err=True)
    verification = assembly.token_verification(tokens, configuration.service_accounts, server_limits)
    directory = tokens.directory if isinstance(tokens, TokensLocal) else SESSION_DIRECTORY
    listeners: list[Listener] = []
    certificates: list[PortTls] = []
    lines = []
    try:
        for port in configuration.ports:
            policy = assembly.policy(port, limits, verification)
            tls = None if port.tls is None else PortTls(port, directory, time.time())
            opened = listen(port.number, bind, server_limits, policy, option=elsewhere,
                            context=None if tls is None else tls.context, websocket=port.websocket)  # fmt: skip
            listeners += opened
            certificates += [] if tls is None else [tls]
            lines += [f"  {listener.url:<28} {_told(port)}" for listener in opened]
    except BaseException:
        close(listeners)
        raise
    performer = Performer(verification.source, limits=server_limits, resolve=resolve)
    return Plan(
        limits=limits,
        server_limits=server_limits,
        listeners=listeners,
        banner="\n".join(
            ["trio-broker is listening on", *lines, *([epilogue] if epilogue else []), "Ctrl-C stops it."]
        ),
        perform=performer.perform,
        tasks=(partial(renew_certificates, certificates), partial(_close_in_the_end, performer), *tasks),
    )


async def _close_in_the_end(performer: Performer, _log: EventLog) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(deadline=trio.current_time() + CLOSING_TIMEOUT, shield=True):
            await performer.aclose()


def _told(port: Port) -> str:
    if port.authentication is None:
        return f"{port.listener}: no authentication, everybody may do everything"
    return f"{port.listener}: {', then '.join(METHOD_NAMES[type(method)] for method in port.authentication.methods)}"
