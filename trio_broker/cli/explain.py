"""trio-broker explain: what the broker would decide about credentials, and why."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from mqttcore.auth import (
    Action,
    AuthRequest,
    Challenge,
    Denied,
    Effect,
    Exchange,
    Granted,
    NotRelevant,
    Principal,
    Unavailable,
    Verdict,
)
from mqttcore.authenticators.chain_diagnosis import UNREADABLE
from mqttcore.broker import refusal_code
from mqttcore.limits import Limits
from trio_broker import assembly
from trio_broker.cli.explain_rules import Wanted, judge, judge_connect, refusal, wanted
from trio_broker.cli.manifest_options import ManifestOptions, manifest_options
from trio_broker.effects import Performer
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits
from trio_broker.resources import METHOD_NAMES, Authentication, Configuration, Port
from trio_broker.resources.problems import printable


def _secret(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> bytes | None:
    """@FILE is the file's content without a final newline; anything else stands for itself."""
    if value is None or not value.startswith("@"):
        return None if value is None else os.fsencode(value)
    try:
        return Path(value[1:]).read_bytes().removesuffix(b"\n")
    except OSError as error:
        raise click.BadParameter(f"{value[1:]}: {error.strerror}") from None


def _chain(_ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> tuple[bytes, ...]:
    if value is None:
        return ()
    try:
        certificates = load_pem_x509_certificates(value.read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{value}: {error.strerror}") from None
    except UNREADABLE:
        raise click.BadParameter(f"{value} holds no certificate in PEM") from None
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)


@click.command()
@manifest_options
@click.option("--port", type=click.IntRange(1, 65_535), required=True, help="The port that the client connects to.")
@click.option("--cert", "chain", type=click.Path(path_type=Path), callback=_chain, metavar="FILE",
              help="The client's certificate and those that it sends along, in PEM.")  # fmt: skip
@click.option("--username", metavar="U")
@click.option("--password", callback=_secret, metavar="@FILE", help="The password, or @ and the file with it.")
@click.option("--auth-method", metavar="M", help="The Authentication Method of CONNECT or AUTH.")
@click.option("--auth-data", callback=_secret, metavar="@FILE", help="The Authentication Data, or @ and its file.")
@click.option("--client-id", default="explain", show_default=True)
@click.option("--action", type=click.Choice([action.value for action in Action]),
              help="What the client wants to do; publish and subscribe with --topic.")  # fmt: skip
@click.option("--topic", metavar="T", help="The Topic Name or Topic Filter of --action.")
@click.option("--re-auth", is_flag=True, help="As a connected client's re-authentication (AUTH 0x19).")
def explain(
    manifests: ManifestOptions,
    port: int,
    chain: tuple[bytes, ...],
    username: str | None,
    password: bytes | None,
    auth_method: str | None,
    auth_data: bytes | None,
    client_id: str,
    action: str | None,
    topic: str | None,
    re_auth: bool,
) -> None:
    """Say what the broker would decide for these credentials, method by method, and what their owner may do, by which
    rule; without starting it.

    Servers that the manifests name are really asked. Exit status: 0 the client gets in, and may do what --action says;
    1 it does not, or may not; 2 bad usage.
    """
    if not manifests.manifests:
        raise click.UsageError("give at least one MANIFEST")
    if auth_data is not None and auth_method is None:
        raise click.UsageError("--auth-data needs --auth-method")
    doing = wanted(action, topic)
    if re_auth and doing is not None and doing.action is Action.CONNECT:
        raise click.UsageError("--action connect does not go with --re-auth, for which the client is connected")
    configuration = manifests.configuration()
    asked = _port(configuration, port)
    request = AuthRequest(
        client_id=client_id,
        username=None if re_auth else username,
        password=None if re_auth else password,
        authentication_method=auth_method,
        authentication_data=auth_data,
        certificates=() if re_auth else chain,
        time=time.time(),
        re_authentication=re_auth,
        entropy=os.urandom(32),
    )
    if asked.authentication is None:
        _tell_open(asked, request)
        _tell_free(doing)
        return
    click.echo(f"Port {port} ({asked.listener}) authenticates by {asked.authentication.name}.")
    try:
        rules = None if asked.authorization is None else assembly.rules(asked.authorization)
        verdict = trio.run(_explain, asked.authentication, manifests, configuration, request)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    if not isinstance(verdict, Granted):
        raise click.exceptions.Exit(1)
    principal = Principal(client_id, username if verdict.username is None else verdict.username, verdict.attributes)
    _tell_granted(verdict, principal)
    if asked.authorization is not None and rules is not None:
        click.echo(f"What clients may do is up to BrokerAuthorization {asked.authorization.name}:")
        if not re_auth:
            _insist(judge_connect(rules, principal), Action.CONNECT)
    click.echo(f"The broker answers {'AUTH' if re_auth else 'CONNACK'} 0x00.")
    if rules is None:
        _tell_free(doing)
    elif doing is not None and doing.action is not Action.CONNECT:
        _insist(judge(rules, principal, doing), doing.action)


def _insist(allowed: bool, action: Action) -> None:
    if not allowed:
        click.echo(refusal(action))
        raise click.exceptions.Exit(1)


def _port(configuration: Configuration, number: int) -> Port:
    for port in configuration.ports:
        if port.number == number:
            return port
    known = ", ".join(str(port.number) for port in configuration.ports)
    raise click.UsageError(f"the manifests open no port {number}; they open {known}")


def _tell_open(port: Port, request: AuthRequest) -> None:
    click.echo(f"Port {port.number} ({port.listener}) has no authentication.")
    if request.authentication_method is not None:
        click.echo("The client names an Authentication Method, which nobody there handles: CONNACK 0x8C.")
        raise click.exceptions.Exit(1)
    click.echo("User names, passwords and certificates are not looked at: CONNACK 0x00.")


def _tell_free(doing: Wanted | None) -> None:
    if doing is not None:
        click.echo("The port has no authorization: every client may do everything.")


async def _explain(
    authentication: Authentication, manifests: ManifestOptions, configuration: Configuration, request: AuthRequest
) -> Verdict | None:
    """The verdict; None if the client would have to say more."""
    limits = ServerLimits()
    verification = assembly.token_verification(manifests.tokens, lambda: configuration.service_accounts, limits)
    resolve = {(item.host, item.port): (item.address, item.address_port) for item in manifests.resolve}
    performer = Performer(verification.source, limits=limits, resolve=resolve)
    authenticate = assembly.login(authentication, verification).authenticate
    exchange = Exchange(authenticate, request, Limits().authentication_steps)
    step: Effect | Verdict = exchange.start()
    try:
        while isinstance(step, Effect) and not isinstance(step, Challenge):
            step = exchange.resume(await performer.perform(step))
    finally:
        await performer.aclose()
    names = [METHOD_NAMES[type(method)] for method in authentication.methods]
    for trace in exchange.trace:
        click.echo(f"  {trace.method}: {trace.outcome}{f': {trace.message}' if trace.message else ''}")
        if trace.method in names and trace.outcome != "attributes":
            names.remove(trace.method)
    if isinstance(step, Effect):
        click.echo(f"  {names[0]}: would go on: the broker asks the client for more with AUTH 0x18")
        return None
    for name in names:
        click.echo(f"  {name}: not tried")
    if not isinstance(step, Granted):
        _tell_refusal(step, request)
    return step


def _tell_granted(verdict: Granted, principal: Principal) -> None:
    click.echo(f"The credentials are good, of {printable(principal.username or '(no user name)')}.")
    for name, value in sorted(verdict.attributes.items()):
        click.echo(printable(f"  attribute {name} = {value}"))
    if verdict.expires_at is None:
        click.echo("  The credential does not expire.")
    else:
        moment = datetime.fromtimestamp(verdict.expires_at, UTC)
        click.echo(f"  The credential expires at {moment:%Y-%m-%dT%H:%M:%SZ}.")


def _tell_refusal(verdict: Denied | NotRelevant | Unavailable, request: AuthRequest) -> None:
    if request.re_authentication and isinstance(verdict, Unavailable):
        click.echo("No verdict is possible now; the old credential stays in force. The broker answers AUTH 0x18.")
        return
    code = refusal_code(verdict, re_authentication=request.re_authentication)
    packet = "DISCONNECT" if request.re_authentication else "CONNACK"
    click.echo(f"The client does not get in. The broker answers {packet} 0x{code:02X} ({code.name}).")
