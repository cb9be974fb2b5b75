"""What a broker for a test is to be, and the configuration that comes of it."""

import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict, Unpack
from urllib.parse import urlsplit

from attrs import evolve, frozen

from trio_broker.errors import ConfigurationError
from trio_broker.pki import LocalAuthority
from trio_broker.pki_files import AUTHORITY_FILE, CHAIN_FILE, ROOTS_FILE, open_authority
from trio_broker.profiles import DEFAULT_PROFILE, PROFILES
from trio_broker.resources import (
    Authentication,
    AutomaticTls,
    CertificateSpec,
    Configuration,
    CustomSettings,
    IssuerKind,
    MethodSettings,
    Port,
    Problem,
    load,
)
from trio_broker.resources.identity import DEFAULT_NAMESPACE
from trio_broker.settings import Settings, parse_settings, show
from trio_broker.tokens.issuer import LocalIssuer

Manifests = str | Path | Sequence[str | Path]
"""Manifests: the text of one as str, a file or a directory of files as Path, or several of these."""

LOCAL_CA = ("client-ca", "custom-auth-ca")
"""The ConfigMaps that hold the local authority where nothing else is said: those of the vendor's documentation."""
SHUTDOWN_TIMEOUT = 0.25
"""Seconds for all clients to take their DISCONNECT at the end of a test, unless `limits` say otherwise."""
TCP_PORT, TLS_PORT, WEBSOCKET_PORT = 1883, 8883, 8080
"""The numbers of the ports without manifests."""


class Options(TypedDict, total=False):
    """What a broker for a test may be told. Without manifests its ports are open to everybody."""

    manifests: Manifests
    """What the broker runs by."""
    profile: str
    """A set of limits, as in docs/profiles.md."""
    limits: Mapping[str, bool | int | float]
    """Single limits by name, as `trio-broker limits` lists them."""
    tls: bool
    """Without manifests: a port with TLS, too."""
    websocket: bool
    """Without manifests: a port with WebSocket, too."""
    configmaps: Mapping[str, Path]
    """A file, or a directory of files, that stands in for each of these ConfigMaps."""
    secrets: Mapping[str, Path]
    """The same for Secrets."""
    local_ca: Sequence[str]
    """ConfigMaps that hold the local authority, which issues `certificate`; default LOCAL_CA."""


@frozen
class Setup:
    """The options of one broker, and the directory of its authority, its token issuer and its manifests."""

    directory: Path
    options: Options
    settings: Settings

    @classmethod
    def of(cls, directory: Path, **options: Unpack[Options]) -> "Setup":
        """Raises ConfigurationError, and TypeError for an option that there is not."""
        unknown = sorted(options.keys() - Options.__annotations__.keys())
        if unknown:
            raise TypeError(f"there is no option {unknown[0]!r}; there are {', '.join(Options.__annotations__)}")
        if "manifests" in options and ("tls" in options or "websocket" in options):
            raise TypeError("tls and websocket are for a broker without manifests, which say what ports there are")
        if options.get("profile", DEFAULT_PROFILE) not in PROFILES:
            raise ConfigurationError(f"there is no profile {options['profile']!r}; there are {', '.join(PROFILES)}")
        limits = {"shutdown_timeout": SHUTDOWN_TIMEOUT, **options.get("limits", {})}
        return cls(directory, options, parse_settings(f"{name}={show(value)}" for name, value in limits.items()))

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.options.get("profile", DEFAULT_PROFILE)

    @property
    def ca_file(self) -> Path:
        """The roots of the local authority; the file is there once `authority` has been called."""
        return self.directory / ROOTS_FILE

    def authority(self) -> LocalAuthority:
        """The local authority, the same for all brokers of this process."""
        path = self.directory / AUTHORITY_FILE
        if not path.exists():
            authority = _authority()
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # As open_authority would, but without waiting for the disk.
            for name, content in (
                (AUTHORITY_FILE, authority.pem),
                (ROOTS_FILE, authority.roots_pem),
                (CHAIN_FILE, authority.chain_pem),
            ):
                (self.directory / name).write_bytes(content)
        return open_authority(self.directory, time.time())

    def configuration(self) -> tuple[Configuration, tuple[Problem, ...]]:
        """What the options ask for, and warnings. Raises ConfigurationError."""
        if "manifests" not in self.options:
            ports = [_open_port(TCP_PORT)]
            if self.options.get("tls"):
                self.authority()
                ports.append(_open_port(TLS_PORT, tls=True))
            if self.options.get("websocket"):
                ports.append(_open_port(WEBSOCKET_PORT, websocket=True))
            return Configuration(ports=tuple(ports), service_accounts={}), ()
        return self.read(self.options["manifests"])

    def read(self, manifests: Manifests) -> tuple[Configuration, tuple[Problem, ...]]:
        """The configuration of other manifests, and warnings. Raises ConfigurationError that has all mistakes."""
        roots = self.authority().roots_pem
        LocalIssuer(self.directory).jwks()  # the key is there before the first client asks for it
        local = dict.fromkeys(self.options.get("local_ca", LOCAL_CA), self.ca_file)
        loaded = load(
            self._paths([manifests] if isinstance(manifests, str | Path) else manifests),
            configmaps={**local, **self.options.get("configmaps", {})},
            secrets=self.options.get("secrets"),
        )
        if loaded.configuration is None:
            raise ConfigurationError("\n".join(str(problem) for problem in loaded.problems))
        return _with_custom_servers_of(roots, loaded.configuration), loaded.warnings

    def _paths(self, manifests: Sequence[str | Path]) -> list[Path]:
        paths = []
        for number, manifest in enumerate(manifests, 1):
            if isinstance(manifest, Path):
                paths.append(manifest)
                continue
            if re.fullmatch(r"\S+", manifest):
                raise ConfigurationError(f"{manifest!r} is no text of a manifest; write Path({manifest!r}) for a file")
            path = self.directory / f"manifest-{number}.yaml"
            path.write_text(manifest)
            paths.append(path)
        return paths


@cache
def _authority() -> LocalAuthority:
    # Keys take a quarter of a second: once for all tests.
    return LocalAuthority.create(time.time())


def _open_port(number: int, *, tls: bool = False, websocket: bool = False) -> Port:
    return Port(
        listener="default",
        namespace=DEFAULT_NAMESPACE,
        service_name="aio-broker",
        number=number,
        websocket=websocket,
        tls=AutomaticTls(CertificateSpec(issuer_name="local", issuer_kind=IssuerKind.ISSUER)) if tls else None,
    )


def custom_endpoints(configuration: Configuration) -> set[tuple[str, int]]:
    """Name and port of each custom server."""
    return {
        (parts.hostname or "", parts.port or 443)
        for server in configuration.custom_servers
        for parts in [urlsplit(server.url)]
    }


def _with_custom_servers_of(roots: bytes, configuration: Configuration) -> Configuration:
    """The configuration, with the local authority vouching for all custom servers."""

    def method(settings: MethodSettings) -> MethodSettings:
        if not isinstance(settings, CustomSettings):
            return settings
        return CustomSettings(evolve(settings.server, ca_pem=roots))

    def port(port: Port) -> Port:
        found = port.authentication
        if found is None:
            return port
        methods = tuple(method(settings) for settings in found.methods)
        return evolve(port, authentication=Authentication(found.name, found.namespace, methods))

    return evolve(configuration, ports=tuple(port(each) for each in configuration.ports))
