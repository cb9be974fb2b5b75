"""trio-broker up: a development environment in one command, no manifest needed."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click
import jwt
import trio

from trio_broker.cli import typed
from trio_broker.cli.planning import plan
from trio_broker.cli.profile_option import profile_option
from trio_broker.cli.serving import raise_file_limit, run_plan
from trio_broker.deployment import Deployment
from trio_broker.errors import ConfigurationError
from trio_broker.logs import EventLog, Level
from trio_broker.pki_files import CHAIN_FILE, PRIVATE, ROOTS_FILE, client_certificate, open_authority, write_file
from trio_broker.resources import (
    Authentication,
    AutomaticTls,
    CertificateSpec,
    Configuration,
    IssuerKind,
    Port,
    ServiceAccountTokenSettings,
    X509Settings,
)
from trio_broker.resources.identity import DEFAULT_NAMESPACE
from trio_broker.settings import parse_settings
from trio_broker.tokens import SESSION_DIRECTORY, TokensLocal
from trio_broker.tokens.issuer import LocalIssuer

ACCOUNT = "mqtt-client"
"""The service account of the token that is written."""
AUDIENCES = ("aio-internal", "aio-mq")
"""The audiences of the product's own default authentication, and of the token."""
TOKEN_FILE = "token.txt"
TOKEN_LIFETIME = 3600.0
"""Seconds that the token is valid."""
RETRY = 60.0
"""Seconds until a replacement of the token that failed is tried again."""
LONGEST_NAP = 60.0
"""Seconds between two looks at the wall clock, which may be set, and goes on while the machine sleeps."""
TOKEN_REPLACED_AT = 0.8
"""The part of its life after which the token is replaced, as the kubelet does."""
OPEN_PORT, X509_PORT, TOKEN_PORT, CLUSTER_PORT, WEBSOCKET_PORT = 1883, 8883, 8884, 18883, 8080


class _TokenFile:
    """The file with a service account token that is always good for a while."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._path = directory / TOKEN_FILE
        self._issuer = LocalIssuer(directory)
        self._now = now

    def refresh(self) -> float:
        """Replace the token, atomically, if that is due; the seconds until it is due again.

        Raises ConfigurationError.
        """
        now = self._now()
        due = self._due(now)
        if due <= now:
            token = self._issuer.mint(ACCOUNT, audiences=AUDIENCES, now=now, duration=TOKEN_LIFETIME)
            write_file(self._path, token.encode(), PRIVATE)
            due = now + TOKEN_REPLACED_AT * TOKEN_LIFETIME
        return due - now

    def _due(self, now: float) -> float:
        """When the token that is there has lived long enough; in the past if it is none of ours, or not valid yet."""
        key = jwt.PyJWK(self._issuer.jwks()["keys"][0])
        try:
            claims = jwt.decode(
                self._path.read_bytes(),
                key,
                algorithms=["ES256"],
                audience=AUDIENCES[0],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except (OSError, jwt.PyJWTError, KeyError, TypeError, ValueError):
            return 0.0
        # One from the future was made before the wall clock was set back.
        return 0.0 if issued > now else issued + TOKEN_REPLACED_AT * (expires - issued)

    async def keep(self, log: EventLog) -> None:
        """Replace the token whenever that is due."""
        while True:
            try:
                due_in = self.refresh()
            except ConfigurationError as error:
                log.write("error", "token_not_replaced", reason=str(error))
                due_in = RETRY
            await trio.sleep(min(due_in, LONGEST_NAP))


@click.command()
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=SESSION_DIRECTORY,
              show_default=True, help="The session directory: keys, certificates, the token.")  # fmt: skip
@profile_option
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a limit; see trio-broker limits.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def up(
    directory: Path, profile: str, settings: tuple[str, ...], log_format: Literal["text", "json"], log_level: Level
) -> None:
    """Run a broker for development on this machine, with everything that clients need to get in.

    Port 1883 is open, 8883 is TLS with X.509 or else a token, 8884 and 18883 are TLS with a service account token, and
    8080 is an open WebSocket. The session directory gets a local CA, certificates for server and client, a token that
    is replaced in time, and its issuer; what is there and still good is used again.
    """
    try:
        wanted_limits = parse_settings(settings)
        raise_file_limit()
        now = time.time()
        authority = open_authority(directory, now)
        certificate, key = directory / "client.crt", directory / "client.key"
        client_certificate(certificate, key, ACCOUNT, authority, now)
        token = _TokenFile(directory)
        token.refresh()
        deployment = Deployment(
            profile=profile,
            settings=wanted_limits,
            bind=(),
            tokens=TokensLocal(directory),
            resolve={},
            elsewhere="manifests of your own and `trio-broker run`",
        )
        deployment.start(_configuration(authority.roots_pem))
        planned = plan(deployment, tasks=[token.keep], epilogue=_epilogue(directory))
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    run_plan(planned, log_format, log_level)


def _configuration(trusted_ca_pem: bytes) -> Configuration:
    tokens = ServiceAccountTokenSettings(AUDIENCES)
    by_token = Authentication("default", DEFAULT_NAMESPACE, (tokens,))
    by_certificate = Authentication("x509-or-token", DEFAULT_NAMESPACE, (X509Settings(trusted_ca_pem), tokens))
    tls = AutomaticTls(CertificateSpec(issuer_name="local", issuer_kind=IssuerKind.ISSUER))

    def port(number: int, *, authentication: Authentication | None = None, websocket: bool = False) -> Port:
        return Port(
            listener="default",
            namespace=DEFAULT_NAMESPACE,
            service_name="aio-broker",
            number=number,
            websocket=websocket,
            tls=None if authentication is None else tls,
            authentication=authentication,
        )

    ports = (
        port(OPEN_PORT),
        port(X509_PORT, authentication=by_certificate),
        port(TOKEN_PORT, authentication=by_token),
        port(CLUSTER_PORT, authentication=by_token),
        port(WEBSOCKET_PORT, websocket=True),
    )
    return Configuration(ports=ports, service_accounts={})


def _epilogue(directory: Path) -> str:
    def file(name: str) -> str:
        return shlex.quote(str(directory.resolve() / name))

    variables = {
        "AIO_BROKER_HOSTNAME": "localhost",
        "AIO_BROKER_TCP_PORT": str(TOKEN_PORT),
        "AIO_MQTT_USE_TLS": "true",
        "AIO_TLS_CA_FILE": file(ROOTS_FILE),
        "AIO_SAT_FILE": file(TOKEN_FILE),
        "AIO_MQTT_CLIENT_ID": ACCOUNT,
        "AIO_MQTT_CLEAN_START": "true",
        "AIO_MQTT_KEEP_ALIVE": "60",
        "AIO_MQTT_SESSION_EXPIRY": "3600",
    }
    certificates = {"AIO_TLS_CERT_FILE": file("client.crt"), "AIO_TLS_KEY_FILE": file("client.key")}
    chain = file(CHAIN_FILE)
    return "\n".join(
        [
            "For clients of the vendor's SDKs, with a token:",
            *(f"  export {name}={value}" for name, value in variables.items()),
            f"or, with a certificate, AIO_BROKER_TCP_PORT={X509_PORT}, no AIO_SAT_FILE, and:",
            *(f"  export {name}={value}" for name, value in certificates.items()),
            "To try it, in other terminals:",
            f"  {typed()} sub --host localhost --port {TOKEN_PORT} --cafile {chain} --auth-method K8S-SAT"
            f" --auth-data @{file(TOKEN_FILE)} -t '#' -v",
            f"  mosquitto_pub -V mqttv5 --host localhost --port {TOKEN_PORT} --cafile {chain} --topic world"
            " --message hello -D CONNECT authentication-method K8S-SAT"
            f" -D CONNECT authentication-data $(cat {file(TOKEN_FILE)})",
            f"  mosquitto_pub -V mqttv5 -h localhost -p {X509_PORT} --cafile {chain} -q 1 -t hello -m world"
            f" -i thermostat --cert {file('client.crt')} --key {file('client.key')}",
        ]
    )
