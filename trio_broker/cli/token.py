"""trio-broker token: service account tokens of the local issuer."""

import re
import time
from pathlib import Path

import click

from mqttcore.authenticators.service_account import ANNOTATION_PREFIXES
from trio_broker.errors import ConfigurationError
from trio_broker.resources.duration import parse_duration
from trio_broker.resources.identity import DEFAULT_NAMESPACE
from trio_broker.tokens import SESSION_DIRECTORY
from trio_broker.tokens.issuer import LocalIssuer

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@click.group()
def token() -> None:
    """Tokens of the local issuer, for `trio-broker run --tokens local` and `trio-broker up`."""


def _name(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter(
            f"{value!r}: a service account's name has 1 to 253 of a-z, 0-9, - and ., a letter or digit at both ends"
        )
    return value


def _namespace(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise click.BadParameter(f"{value!r}: a namespace has 1 to 63 of a-z, 0-9 and -, with no - at either end")
    return value


def _audiences(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not all(values):
        raise click.BadParameter("an audience cannot be empty")
    return values


def _duration(_ctx: click.Context, _parameter: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from None


def _annotations(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r}: write KEY=VALUE, for instance aio-broker-auth/group=fleet")
        found[key] = text
    return found


@token.command()
@click.argument("name", callback=_name)
@click.option("--audience", "audiences", multiple=True, required=True, metavar="A", callback=_audiences,
              help="Whom it is for, as the manifest's audiences say; repeatable.")  # fmt: skip
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, callback=_namespace)
@click.option("--duration", default="1h", show_default=True, callback=_duration, help="How long it is valid: 1h, 90m.")
@click.option(
    "--annotation", "annotations", multiple=True, callback=_annotations, metavar="K=V",
    help="Write it to the ServiceAccount's manifest; aio-broker-auth/NAME=V makes an attribute. Repeatable.",
)  # fmt: skip
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=SESSION_DIRECTORY,
    show_default=True, help="The session directory.",
)  # fmt: skip
@click.option("--expired", is_flag=True, help="For tests of clients: a token that has just expired.")
@click.option(
    "--not-yet-valid",
    is_flag=True,
    help="For tests of clients: a token whose validity begins only when --duration has passed.",
)
def create(
    name: str,
    audiences: tuple[str, ...],
    namespace: str,
    duration: float,
    annotations: dict[str, str],
    directory: Path,
    expired: bool,
    not_yet_valid: bool,
) -> None:
    """Print a token for the service account NAME, as `kubectl create token` does."""
    if expired and not_yet_valid:
        raise click.UsageError("--expired and --not-yet-valid exclude each other")
    now = time.time()
    if expired:
        now -= duration + 1
    elif not_yet_valid:
        now += duration
    try:
        issuer = LocalIssuer(directory)
        if annotations:
            for key in annotations:
                if not key.startswith(ANNOTATION_PREFIXES):
                    click.echo(f"note: {key} makes no attribute; write aio-broker-auth/{key} for one", err=True)
            issuer.annotate(namespace, name, annotations)
        token = issuer.mint(name, audiences=audiences, now=now, duration=duration, namespace=namespace)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    click.echo(token)
