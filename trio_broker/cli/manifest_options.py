"""The options of every command that reads manifests, and what they say."""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click
from attrs import frozen

from trio_broker.tokens import Tokens, TokensJwks, TokensKubernetes, TokensLocal, TokensOidc

if TYPE_CHECKING:
    from trio_broker.resources import Configuration, Loaded, Problem

T = TypeVar("T")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


@frozen
class Resolve:
    """Connect to `address` and `address_port` where `host` and `port` are meant; the certificate must be `host`'s."""

    host: str
    port: int
    address: str
    address_port: int


@frozen(kw_only=True)
class ManifestOptions:
    """What the options say; `tokens` is None where the default is to hold."""

    manifests: tuple[Path, ...]
    configmaps: dict[str, Path]
    secrets: dict[str, Path]
    resolve: tuple[Resolve, ...]
    tokens: Tokens | None

    def load(self) -> "Loaded":
        """Read the manifests."""
        # Imported here, so that a broker without manifests does not carry cryptography and YAML in memory.
        from trio_broker.resources import load

        return load(self.manifests, configmaps=self.configmaps, secrets=self.secrets)

    def sources(self) -> tuple[Path, ...]:
        """All that decides what `load` reads, as it is now."""
        from trio_broker.resources import list_sources

        return list_sources(self.manifests, (*self.configmaps.values(), *self.secrets.values()))

    def configuration(self) -> "Configuration":
        """The configuration, with warnings on standard error; with problems, these and exit status 2."""
        return self.configuration_and_warnings()[0]

    def configuration_and_warnings(self) -> "tuple[Configuration, tuple[Problem, ...]]":
        """As `configuration`, and the warnings as well."""
        loaded = self.load()
        tell_problems(loaded)
        if loaded.configuration is None:
            raise click.exceptions.Exit(2)
        return loaded.configuration, loaded.warnings


def tell_problems(loaded: "Loaded") -> None:
    """Write problems and warnings to standard error, one per line."""
    _tell("error", loaded.problems)
    _tell("warning", loaded.warnings)


def _tell(kind: str, problems: "Iterable[Problem]") -> None:
    for problem in problems:
        click.echo(f"{kind}: {problem}", err=True)


def _stand_ins(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not name or not path:
            raise click.BadParameter(f"{value!r}: write NAME=PATH")
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice; put its files into one directory")
        if not Path(path).exists():
            raise click.BadParameter(f"there is no file or directory {path!r}")
        found[name] = Path(path)
    return found


def parse_resolve(value: str) -> Resolve:
    """HOST:PORT=ADDRESS:PORT; IPv6 addresses in brackets. Raises click.BadParameter."""
    wanted, equals, actual = value.partition("=")
    try:
        if not equals:
            raise ValueError("there is no equals sign")
        host, port = _host_and_port(wanted)
        address, address_port = _host_and_port(actual)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}; write HOST:PORT=ADDRESS:PORT") from None
    return Resolve(host.lower(), port, address, address_port)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, number = text.rpartition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= 65_535):
        raise ValueError(f"{number!r} is not a port")
    if host.startswith("[") and host.endswith("]"):
        return str(ip_address(host[1:-1])), int(number)
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host")
    return host, int(number)


def _resolves(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Resolve, ...]:
    found: dict[tuple[str, int], Resolve] = {}
    for resolve in map(parse_resolve, values):
        if found.setdefault((resolve.host, resolve.port), resolve) != resolve:
            raise click.BadParameter(f"{resolve.host}:{resolve.port} is given twice")
    return tuple(found.values())


def parse_tokens(value: str) -> Tokens:
    """kubernetes[:KUBECONFIG], jwks:FILE-OR-URL, oidc:ISSUER or local[:DIR]. Raises click.BadParameter."""
    kind, colon, rest = value.partition(":")
    match kind:
        case "kubernetes":
            return TokensKubernetes(_file(rest) if colon else None)
        case "jwks":
            is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", rest)
            return TokensJwks(_https_url(rest) if is_url else _file(rest))
        case "oidc":
            return TokensOidc(_https_url(rest))
        case "local":
            if colon and not rest:
                raise click.BadParameter("'local:' lacks its directory")
            return TokensLocal(Path(rest)) if colon else TokensLocal()
    choices = "kubernetes[:KUBECONFIG], jwks:FILE-OR-URL, oidc:ISSUER or local[:DIR]"
    raise click.BadParameter(f"{value!r} is not {choices}")


def _file(text: str) -> Path:
    if not text or not Path(text).is_file():
        raise click.BadParameter(f"there is no file {text!r}")
    return Path(text)


def _https_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host, parts = None, None, urlsplit("")
    if parts.scheme != "https" or not host or port == 0 or "@" in parts.netloc or not text.isprintable():
        raise click.BadParameter(f"{text!r} is not an https:// URL")
    return text


def _tokens(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> Tokens | None:
    return None if value is None else parse_tokens(value)


_OPTIONS = (
    click.argument("manifests", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[MANIFEST]..."),
    click.option(
        "--configmap", "configmaps", multiple=True, callback=_stand_ins, metavar="NAME=PATH",
        help="A file, or a directory of files, stands in for this ConfigMap; may be repeated.",
    ),
    click.option(
        "--secret", "secrets", multiple=True, callback=_stand_ins, metavar="NAME=PATH",
        help="A file, or a directory of files, stands in for this Secret; may be repeated.",
    ),
    click.option(
        "--resolve", multiple=True, callback=_resolves, metavar="HOST:PORT=ADDRESS:PORT",
        help="Reach this custom server there; its certificate must be for HOST. May be repeated.",
    ),
    click.option(
        "--tokens", callback=_tokens, metavar="SOURCE",
        help="What service account tokens are checked with: kubernetes[:KUBECONFIG], jwks:FILE-OR-URL, oidc:ISSUER or"
        " local[:DIR].  [in a cluster kubernetes, else local]",
    ),
)  # fmt: skip


def manifest_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command MANIFEST... and its options, as a ManifestOptions named `manifests`."""

    @wraps(command)
    def with_options(
        *,
        manifests: tuple[Path, ...],
        configmaps: dict[str, Path],
        secrets: dict[str, Path],
        resolve: tuple[Resolve, ...],
        tokens: Tokens | None,
        **others: Any,
    ) -> T:
        options = ManifestOptions(
            manifests=manifests, configmaps=configmaps, secrets=secrets, resolve=resolve, tokens=tokens
        )
        return command(manifests=options, **others)

    decorated: Callable[..., T] = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
