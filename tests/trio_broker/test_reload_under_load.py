"""200 clients exchange QoS 1 messages while certificates, methods and ports change every second.

RELOADS=60 in the environment has it go on for a minute.
"""

import json
import os
import signal
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from mqttcore import Connect, Publish, ReasonCode, Subscription
from mqttcore.authenticators.service_account import METHOD
from tests.trio_broker.deployments import free_port
from tests.trio_broker.test_cli_run import Process, started
from trio_broker.client import Client, ClientError, open_client
from trio_broker.pki import LocalAuthority
from trio_broker.tokens.issuer import LocalIssuer

RELOADS = int(os.environ.get("RELOADS", "5"))
PAIRS = 100
PAUSE = 0.1
"""Seconds between two messages of a publisher."""
API = "mqttbroker.iotoperations.azure.com/v1"


class Site:
    """Manifests that are never the same for two rounds, and those who connect to their broker."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "site.yaml"
        self.authority = LocalAuthority.create(time.time())
        self.issuer = LocalIssuer(directory / "issuer")
        self.plain, self.secure, *self.passing = (free_port() for _ in range(4))

    def write(self, round_: int) -> None:
        """The manifests of a round: another certificate, another method in front, another port beside."""
        certificate = self.authority.issue_server(time.time())
        methods: list[dict[str, Any]] = [
            {"method": "ServiceAccountToken", "serviceAccountTokenSettings": {"audiences": ["site", f"round-{round_}"]}}
        ]
        if round_ % 2:
            methods.insert(0, {"method": "X509", "x509Settings": {"trustedClientCaCert": "client-ca"}})
        references = {"authenticationRef": "accounts", "authorizationRef": "pairs"}
        manual = {"mode": "Manual", "manual": {"secretName": "server"}}
        rules = [
            {
                "principals": {"attributes": [{"namespace": "azure-iot-operations"}]},
                "brokerResources": [
                    {"method": "Connect"},
                    {"method": "Publish", "topics": ["pairs/+"]},
                    {"method": "Subscribe", "topics": ["pairs/+"]},
                ],
            }
        ]
        documents = [
            _resource("BrokerListener", "site", ports=[
                {"port": self.plain, **references},
                {"port": self.secure, "tls": manual, **references},
                {"port": self.passing[round_ % 2], "tls": manual, **references},
            ]),
            _resource("BrokerAuthentication", "accounts", authenticationMethods=methods),
            _resource("BrokerAuthorization", "pairs", authorizationPolicies={"rules": rules}),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "server"},
                "data": {
                    "tls.crt": b64encode(certificate.chain_pem).decode(),
                    "tls.key": b64encode(certificate.key_pem).decode(),
                },
            },
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "client-ca"},
                "data": {"ca.crt": self.authority.roots_pem.decode()},
            },
        ]  # fmt: skip
        new = self.file.with_suffix(".new")
        new.write_text(yaml.safe_dump_all(documents))
        new.replace(self.file)

    @asynccontextmanager
    async def client(self, client_id: str, port: int, audience: str = "site") -> AsyncIterator[Client]:
        """A connected client; on every port but the plain one over TLS."""
        token = self.issuer.mint("robot", audiences=[audience], now=time.time(), duration=3600)
        connect = Connect(client_id=client_id, authentication_method=METHOD, authentication_data=token.encode())
        context = None
        if port != self.plain:
            context = ssl.create_default_context(cadata=self.authority.roots_pem.decode())
        async with open_client(connect, host="127.0.0.1", port=port, tls=context) as client:
            yield client


def _resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


class Pair:
    """A publisher and a subscriber on two ports, and what went from the one to the other."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.topic = f"pairs/{number}"
        self.sent = 0
        self.received: list[int] = []

    async def subscribe(self, client: Client) -> None:
        await client.subscribe(Subscription(self.topic, qos=1))

    async def read(self, client: Client) -> None:
        async for message in client.messages():
            self.received.append(int(message.payload))

    async def publish(self, client: Client, stop: trio.Event) -> None:
        await trio.sleep(PAUSE * self.number / PAIRS)  # not all at the same moment
        while not stop.is_set():
            assert await client.publish(Publish(self.topic, b"%d" % self.sent, qos=1)) is ReasonCode.SUCCESS
            self.sent += 1
            await trio.sleep(PAUSE)


class Log:
    """The broker's log, line by line."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.changed = trio.Event()

    async def read(self, file: Path) -> None:
        async with await trio.open_file(file, "rb") as log:
            rest = b""
            while True:
                data = await log.read()
                *lines, rest = (rest + data).split(b"\n")
                if lines:
                    # Before the banner there may be warnings for people.
                    self.lines += [json.loads(line) for line in lines if line.startswith(b"{")]
                    self.changed.set()
                    self.changed = trio.Event()
                await trio.sleep(0.01)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]

    async def until(self, name: str, count: int) -> None:
        while len(self.events(name)) < count:
            await self.changed.wait()


async def exchange(site: Site, process: Process, log: Log) -> list[Pair]:
    """Let the pairs talk while the site changes."""
    pairs = [Pair(number) for number in range(PAIRS)]
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        running = 0

        async def run(pair: Pair) -> None:
            nonlocal running
            ports = (site.plain, site.secure) if pair.number % 2 else (site.secure, site.plain)
            async with (
                site.client(f"subscriber-{pair.number}", ports[0]) as subscriber,
                site.client(f"publisher-{pair.number}", ports[1]) as publisher,
                trio.open_nursery() as reading,
            ):
                await pair.subscribe(subscriber)
                reading.start_soon(pair.read, subscriber)
                running += 1
                await pair.publish(publisher, stop)
                while len(pair.received) < pair.sent:
                    await trio.sleep(0.01)
                assert subscriber.connected
                assert publisher.connected
                reading.cancel_scope.cancel()

        for pair in pairs:
            nursery.start_soon(run, pair)
        while running < PAIRS:
            await trio.sleep(0.01)
        for round_ in range(1, RELOADS + 1):
            begun = trio.current_time()
            site.write(round_)
            process.process.send_signal(signal.SIGHUP)
            await log.until("reloaded", round_)
            await newcomers(site, round_)
            await trio.sleep_until(begun + 1.0)
        stop.set()
    return pairs


async def newcomers(site: Site, round_: int) -> None:
    """What a round has brought holds: its audience and its port; the earlier round's do not."""
    async with site.client("newcomer", site.passing[round_ % 2], audience=f"round-{round_}"):
        pass
    for port, audience in ((site.passing[1 - round_ % 2], "site"), (site.plain, f"round-{round_ - 1}")):
        try:
            async with site.client("latecomer", port, audience=audience):
                raise AssertionError(f"port {port} and audience {audience} should be no more")
        except ClientError:
            pass


@pytest.mark.timeout(200 + 10 * RELOADS)
async def test_nothing_is_lost_and_nobody_leaves(tmp_path: Path) -> None:
    site, log = Site(tmp_path), Log()
    site.write(0)
    file = tmp_path / "log.json"
    file.touch()
    with trio.fail_after(100 + 10 * RELOADS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.read, file)
            arguments = [str(site.file), f"--tokens=local:{tmp_path}/issuer", "--bind=127.0.0.1", "--log-format=json"]
            async with started(*arguments, log=file) as process:
                pairs = await exchange(site, process, log)
                assert process.process.returncode is None
            nursery.cancel_scope.cancel()
    assert len(log.events("reloaded")) == RELOADS
    assert not log.events("reload_refused")
    for pair in pairs:
        assert pair.sent > 0
        assert pair.received == list(range(pair.sent))
    assert not [line for line in log.events("disconnected") if line["reason_code"] != "0x00"]
    print(f"{RELOADS} reloads, {sum(pair.sent for pair in pairs)} messages")
