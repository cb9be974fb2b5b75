"""How each real client is started, and how its output is read."""

import json
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import attrs

from tests.interop.harness import Endpoint, Message, Options, Program, Transport, program
from tests.processes import ROOT

NODE_PACKAGES = ROOT / ".interop"


class Peer(Protocol):
    """One MQTT implementation as a subscriber and as a publisher."""

    @property
    def name(self) -> str: ...

    @property
    def transports(self) -> tuple[Transport, ...]: ...

    @property
    def large_over_websocket(self) -> bool:
        """Whether it can publish more over WebSocket than the kernel takes at once."""

    def missing(self) -> str | None:
        """What has to be installed before this client can run."""

    @asynccontextmanager
    def start(self, endpoint: Endpoint, options: Options) -> AsyncIterator[Program]:
        """Connect, subscribe and stay; leaving the context kills the process."""

    async def publish(self, endpoint: Endpoint, options: Options) -> None:
        """Connect, publish the messages, disconnect."""


@attrs.frozen
class Script:
    """A program of ours around a client library: options as JSON in, events as JSON lines out."""

    name: str
    argv: tuple[str, ...]
    needs: Path | None = None
    transports: tuple[Transport, ...] = ("tcp", "tls", "ws", "wss")
    large_over_websocket: bool = True

    def missing(self) -> str | None:
        if shutil.which(self.argv[0]) is None:
            return self.argv[0]
        if self.needs is not None and not self.needs.exists():
            return str(self.needs)
        return None

    @asynccontextmanager
    async def start(self, endpoint: Endpoint, options: Options) -> AsyncIterator[Program]:
        fields = (
            attrs.asdict(endpoint)
            | attrs.asdict(options)
            | {
                "messages": [message.to_json() for message in options.messages],
                "will": options.will and options.will.to_json(),
            }
        )
        name = f"{self.name} {options.client_id}"
        async with program(list(self.argv), json.dumps(fields).encode(), json.loads, name) as running:
            yield running

    async def publish(self, endpoint: Endpoint, options: Options) -> None:
        async with self.start(endpoint, options) as running:
            await running.finish()


@attrs.frozen
class Mosquitto:
    """Debian's mosquitto_pub and mosquitto_sub; no WebSocket before 2.1."""

    name: str = "mosquitto"
    transports: tuple[Transport, ...] = ("tcp", "tls")
    large_over_websocket: bool = False

    def missing(self) -> str | None:
        return next((tool for tool in ("mosquitto_pub", "mosquitto_sub") if shutil.which(tool) is None), None)

    @asynccontextmanager
    async def start(self, endpoint: Endpoint, options: Options) -> AsyncIterator[Program]:
        # -d tells when the subscription is granted; the output is line buffered only on a terminal.
        argv = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-F", _FORMAT, *_common(endpoint, options)]
        for topic_filter in options.filters or ("resumed/without/filter",):
            argv += ["-t", topic_filter]
        if not options.clean:
            argv += ["-c"] if options.version == 4 else ["-c", "-x", str(options.expiry)]
        if (will := options.will) is not None:
            argv += ["--will-topic", will.topic, "--will-qos", str(will.qos)]
            argv += ["--will-payload", will.payload.decode()] if will.payload else []
            argv += ["--will-retain"] if will.retain else []
            argv += _properties(will, options, "will")
        async with program(argv, b"", _parse, f"mosquitto_sub {options.client_id}") as running:
            yield running

    async def publish(self, endpoint: Endpoint, options: Options) -> None:
        for message in options.messages:
            argv = ["mosquitto_pub", *_common(endpoint, options), "-t", message.topic]
            argv[argv.index("-q") + 1] = str(message.qos)
            argv += ["-s"] if message.payload else ["-n"]
            argv += ["-r"] if message.retain else []
            argv += _properties(message, options, "publish")
            async with program(argv, message.payload, _parse, f"mosquitto_pub {message.topic}") as running:
                await running.finish()


_FORMAT = json.dumps(
    {
        "topic": "%t",
        "payload": "%x",
        "qos": "%q",
        "retain": "%r",
        "content_type": "%C",
        "response_topic": "%R",
        "correlation_data": "%D",
        "user_properties": "%P",
    }
)
_SUBSCRIBED = re.compile(rb"Subscribed \(mid: \d+\): (.*)")


def _common(endpoint: Endpoint, options: Options) -> list[str]:
    argv = [
        "-h",
        endpoint.host,
        "-p",
        str(endpoint.port),
        "-i",
        options.client_id,
        "-V",
        f"{options.version}",
    ]
    argv[-1] = {4: "mqttv311", 5: "mqttv5"}[options.version]
    argv += ["-k", str(options.keep_alive), "-q", str(options.qos)]
    if endpoint.transport == "tls":
        argv += ["--cafile", endpoint.ca]
    return argv


def _properties(message: Message, options: Options, command: str) -> list[str]:
    if options.version == 4:
        return []
    single = {
        "content-type": message.content_type,
        "response-topic": message.response_topic,
        "correlation-data": message.correlation_data,
    }
    argv: list[str] = []
    for name, value in single.items():
        argv += ["-D", command, name, value] if value else []
    for name, value in message.user_properties:
        argv += ["-D", command, "user-property", name, value]
    return argv


def _parse(line: bytes) -> dict[str, Any] | None:
    if granted := _SUBSCRIBED.match(line):
        assert b"128" not in granted[1], f"subscription refused: {line!r}"
        return {"event": "ready", "session_present": None}
    if not line.startswith(b"{"):
        return None  # what -d says of every packet
    fields: dict[str, Any] = json.loads(line)
    pairs = [pair.split(":") for pair in fields["user_properties"].split()]
    return fields | {
        "event": "message",
        "qos": int(fields["qos"]),
        "retain": fields["retain"] == "1",
        "user_properties": pairs,
    }


def _peers() -> Iterator[Peer]:
    yield Mosquitto()
    for name in ("paho", "aiomqtt"):
        module = f"tests.interop.clients.{name}_client"
        # eclipse-paho/paho.mqtt.python#887: paho, and so aiomqtt, forgets a packet that is not sent at once.
        yield Script(name, (sys.executable, "-m", module), large_over_websocket=False)
    yield Script(
        "mqttjs",
        ("node", "tests/interop/clients/mqttjs_client.mjs", str(NODE_PACKAGES)),
        needs=NODE_PACKAGES / "node_modules" / "mqtt",
    )


PEERS = {peer.name: peer for peer in _peers()}
