"""The brokers that are compared, and how each is started."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.broker import METHOD, PASSWORD, USERNAME
from bench.certificates import Certificates
from bench.generator.target import TRANSPORTS, Transport

OURS = "trio-broker"
PLAIN = "mosquitto"
TUNED = "mosquitto-tuned"
AMQTT = "amqtt"
NAMES = (OURS, PLAIN, TUNED, AMQTT)

MEASURE = (PLAIN, TUNED)
"""The cheaper of these, for each case, is what the others are compared with."""

ASK_TIMEOUT = 10.0
"""Seconds for a broker to tell its release."""

_TUNING = """\
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
log_type error
sys_interval 0
"""
"""What makes mosquitto answer soonest: no waiting for more to send, no bound on what is in flight, no other work."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a broker is started with; `directory` is for its files and gone afterwards."""

    port: int
    transport: Transport
    directory: Path
    certificates: Certificates


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A broker to compare; `version` is the MQTT version that its clients speak, 5 or 4 for 3.1.1.

    `ask` is the command that tells its release. `missing` says why it cannot be started, "" if it can, `leaves_out` why
    it does not run some scenarios.
    """

    name: str
    command: Callable[[Place], list[str]]
    version: int = 5
    transports: tuple[Transport, ...] = TRANSPORTS
    method: str | None = None
    username: str = USERNAME
    password: str = PASSWORD
    ask: Sequence[str] = ()
    missing: str = ""
    leaves_out: Mapping[str, str] = field(default_factory=dict)

    def release(self) -> str:
        """What it says that it is, "" if nobody knows."""
        if not self.ask:
            return ""
        told = subprocess.run(self.ask, capture_output=True, text=True, timeout=ASK_TIMEOUT, check=False).stdout
        found = re.search(r"\d+(\.\d+)+", told)
        return found[0] if found else ""


def known(amqtt: str) -> dict[str, Broker]:
    """The brokers by their names; `amqtt` is the command that starts that one."""
    mosquitto = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") or "mosquitto"
    without = "" if shutil.which(mosquitto) else "mosquitto is not installed: apt-get install mosquitto"
    command = shlex.split(amqtt)
    without_amqtt = (
        "" if shutil.which(command[0]) else f"there is no command {amqtt}: pip install amqtt, --amqtt COMMAND"
    )
    ask = (mosquitto, "-h")
    found = (
        Broker(name=OURS, command=_our_command, method=METHOD, ask=(sys.executable, "-m", "trio_broker", "--version")),
        Broker(name=PLAIN, command=lambda place: _mosquitto(mosquitto, place, ""), ask=ask, missing=without),
        Broker(name=TUNED, command=lambda place: _mosquitto(mosquitto, place, _TUNING), ask=ask, missing=without),
        Broker(
            name=AMQTT,
            command=lambda place: _amqtt(command, place),
            version=4,
            transports=("tcp",),
            ask=(*command, "--version"),
            missing=without_amqtt,
            leaves_out={
                "subs100k": "it would take minutes for the subscriptions",
                "retained": "it does not send all that it retains to a new subscriber",
            },
        ),
    )
    return {broker.name: broker for broker in found}


def custom(text: str) -> Broker:
    """A broker from NAME=COMMAND or, for MQTT 3.1.1, NAME@4=COMMAND, with {port} in the command.

    Raises ValueError.
    """
    name, separator, command = text.partition("=")
    name, _, version = name.partition("@")
    if not separator or not name or "{port}" not in command or version not in ("", "4", "5"):
        raise ValueError(f"{text!r} is not NAME=COMMAND or NAME@4=COMMAND with {{port}} in the command")
    return Broker(
        name=name,
        command=lambda place: [word.replace("{port}", str(place.port)) for word in shlex.split(command)],
        version=int(version or 5),
        transports=("tcp",),
        method=METHOD,
    )


def _our_command(place: Place) -> list[str]:
    option = "--port" if place.transport == "tcp" else f"--{place.transport}-port"
    command = [sys.executable, "-m", "bench.broker", option, str(place.port)]
    if place.transport in ("tls", "wss"):
        command += ["--tls-cert", str(place.certificates.chain), "--tls-key", str(place.certificates.key)]
    return command


def _mosquitto(mosquitto: str, place: Place, tuning: str) -> list[str]:
    if place.transport == "tcp" and not tuning:
        return [mosquitto, "-p", str(place.port)]
    lines = ["allow_anonymous true", "persistence false"]
    websocket = place.transport in ("ws", "wss")
    if websocket:
        lines.append(f"listener 0 {place.directory}/mosquitto.sock")  # with WebSocket alone it does not start
    lines.append(f"listener {place.port} 127.0.0.1")
    if websocket:
        lines.append("protocol websockets")
    if place.transport in ("tls", "wss"):
        lines += [
            f"certfile {place.certificates.chain}",
            f"keyfile {place.certificates.key}",
            "tls_version tlsv1.3",
        ]
    path = place.directory / "mosquitto.conf"
    path.write_text("\n".join(lines) + "\n" + tuning)
    return [mosquitto, "-c", str(path)]


def _amqtt(command: list[str], place: Place) -> list[str]:
    path = place.directory / "amqtt.yaml"
    path.write_text(
        f"""\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{place.port}
    max_connections: 20000
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""
    )
    return [*command, "-c", str(path)]
