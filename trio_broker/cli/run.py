"""trio-broker run: the broker, as manifests say or open to everybody on this machine."""

from functools import partial
from pathlib import Path
from typing import Literal

import click
import trio
from attrs import frozen

from mqttcore.broker import Policy
from mqttcore.limits import Limits
from trio_broker.cli import PROGRAM, program_version, typed
from trio_broker.cli.manifest_options import ManifestOptions, manifest_options
from trio_broker.cli.profile_option import profile_option
from trio_broker.cli.serving import Plan, Reload, raise_file_limit, run_plan, survive_hangup
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Listener, close_listeners, open_listeners
from trio_broker.logs import Level
from trio_broker.profiles import PROFILES
from trio_broker.server import Server
from trio_broker.settings import Settings, parse_settings
from trio_broker.tls import server_context
from trio_broker.watch import signature

DEFAULT_PORT = 1883


class _PortType(click.ParamType[int]):
    name = "port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text.isascii() and text.isdigit() and int(text) <= 65_535:
            return int(text)
        return self.fail(f"{text!r} is not a port: a number from 0 (any free one) to 65535", param, ctx)


PORT = _PortType()
FILE = click.Path(path_type=Path)


@frozen
class _Ports:
    """The options that say what is listened on where there is no manifest; None is what was not given."""

    port: int | None
    ws_port: int | None
    tls_port: int | None
    wss_port: int | None
    tls_cert: Path | None
    tls_key: Path | None

    def certificate_files(self) -> tuple[Path, ...]:
        """The files with the certificate and its key, none without TLS. Raises ConfigurationError."""
        if self.tls_port is None and self.wss_port is None:
            if self.tls_cert is not None or self.tls_key is not None:
                raise ConfigurationError("--tls-cert and --tls-key are of no use without --tls-port or --wss-port")
            return ()
        if self.tls_cert is None or self.tls_key is None:
            raise ConfigurationError("TLS needs both --tls-cert FILE and --tls-key FILE")
        return self.tls_cert, self.tls_key

    def given(self) -> list[str]:
        names = {
            "--port": self.port,
            "--ws-port": self.ws_port,
            "--tls-port": self.tls_port,
            "--wss-port": self.wss_port,
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
        }
        return [name for name, value in names.items() if value is not None]


@click.command()
@manifest_options
@click.option("--bind", multiple=True, metavar="ADDRESS", help="Listen here; may be repeated.  [127.0.0.1 and ::1]")
@click.option("--port", type=PORT, help=f"MQTT over TCP; 0 is a free port.  [{DEFAULT_PORT}]")
@click.option("--ws-port", type=PORT, help="MQTT over WebSocket.")
@click.option("--tls-port", type=PORT, help="MQTT over TLS, with --tls-cert and --tls-key.")
@click.option("--wss-port", type=PORT, help="MQTT over WebSocket over TLS, with --tls-cert and --tls-key.")
@click.option("--tls-cert", type=FILE, help="PEM file with the broker's certificate and those between it and a root.")
@click.option("--tls-key", type=FILE, help="PEM file with the certificate's private key.")
@profile_option
@click.option("--watch", is_flag=True, help="Reload when a manifest changes, or a file that goes with it.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a limit; see trio-broker limits.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def run(
    manifests: ManifestOptions,
    bind: tuple[str, ...],
    profile: str,
    settings: tuple[str, ...],
    log_format: Literal["text", "json"],
    log_level: Level,
    watch: bool,
    **ports: int | Path | None,
) -> None:
    """Run the broker until SIGINT or SIGTERM; a second one ends it at once. Logs go to standard error.

    With MANIFEST, a YAML file or a directory of them, listeners, TLS, authentication and authorization are as the
    manifests say. Without, the broker lets everybody in. SIGHUP has it read all files again; what is wrong with them is
    logged, and then nothing changes.
    """
    survive_hangup()
    try:
        wanted_limits = parse_settings(settings)
        raise_file_limit()
        wanted = _Ports(**ports)  # type: ignore[arg-type]
        if manifests.manifests:
            planned = _by_manifests(manifests, bind, wanted, profile, wanted_limits, watch)
        else:
            limits = wanted_limits.limits(PROFILES[profile])
            planned = _open_to_all(bind, wanted, limits, wanted_limits.server_limits, watch)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    run_plan(planned, log_format, log_level)


def _by_manifests(
    manifests: ManifestOptions, bind: tuple[str, ...], ports: _Ports, profile: str, settings: Settings, watch: bool
) -> Plan:
    if given := ports.given():
        raise click.UsageError(f"{given[0]} does not go with manifests, which say what is listened on")
    # Imported here, so that a broker without manifests does not carry cryptography, YAML and HTTP in memory.
    from trio_broker.cli.planning import plan
    from trio_broker.deployment import Deployment

    seen = signature(manifests.sources())  # before they are read
    configuration, warnings = manifests.configuration_and_warnings()
    deployment = Deployment(
        profile=profile,
        settings=settings,
        bind=bind,
        tokens=manifests.tokens,
        resolve={(item.host, item.port): (item.address, item.address_port) for item in manifests.resolve},
    )
    deployment.start(configuration, warnings)
    apply = partial(deployment.reload, manifests.load)
    return plan(deployment, reload=Reload(apply=apply, sources=manifests.sources, seen=seen, watch=watch))


def _open_to_all(
    bind: tuple[str, ...], ports: _Ports, limits: Limits, server_limits: ServerLimits, watch: bool
) -> Plan:
    files = ports.certificate_files()
    if watch and not files:
        raise ConfigurationError("--watch has nothing to watch: there are neither manifests nor a TLS certificate")
    seen = signature(files)  # before they are read
    context = server_context(*files) if files else None
    policy = Policy(limits=limits)
    listeners: list[Listener] = []
    try:
        for option, number, tls, websocket in (
            ("--port", DEFAULT_PORT if ports.port is None else ports.port, None, False),
            ("--tls-port", ports.tls_port, context, False),
            ("--ws-port", ports.ws_port, None, True),
            ("--wss-port", ports.wss_port, context, True),
        ):
            if number is not None:
                listeners += open_listeners(
                    number, bind, server_limits.listen_backlog, policy, option=option, context=tls, websocket=websocket
                )
    except ConfigurationError:
        close_listeners(listeners)
        raise
    return Plan(
        limits=limits,
        server_limits=server_limits,
        listeners=listeners,
        banner=_banner(listeners),
        reload=Reload(
            apply=partial(_reload_certificate, files, listeners), sources=lambda: files, seen=seen, watch=watch
        ),
    )


async def _reload_certificate(files: tuple[Path, ...], listeners: list[Listener], server: Server) -> None:
    """Show whoever connects from now on what the files hold; nothing changes if they cannot be used."""
    if not files:
        server.log.write("info", "reloaded", outcome="there is nothing to reload: neither manifests nor a certificate")
        return
    try:
        context = await trio.to_thread.run_sync(lambda: server_context(*files))
    except ConfigurationError as error:
        server.log.write("error", "reload_refused", reason=str(error))
        return
    for listener in listeners:
        if listener.tls is not None:
            listener.tls = context
    server.log.write("info", "reloaded", outcome="the certificate has been read again")


def _banner(listeners: list[Listener]) -> str:
    first = listeners[0]
    where = "" if first.address[1] == DEFAULT_PORT else f" --port {first.address[1]}"
    lines = [f"{PROGRAM} {program_version()} is listening on"]
    lines += [f"  {listener.url}" for listener in listeners]
    lines += [
        "Authentication is off: whoever reaches these addresses may publish and subscribe.",
        "Try it, in two other terminals:",
        f"  {typed()} sub{where} -t 'demo/#'",
        f"  {typed()} pub{where} -t demo/hello -m 'Hello, world'",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)
