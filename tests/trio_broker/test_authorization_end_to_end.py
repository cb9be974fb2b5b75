"""The manifests of docs/authorization.md, run: who gets in, who may publish and subscribe, and who may not."""

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import frozen

from mqttcore import V5, V311, Connect, Publish, ReasonCode, Subscription, Will
from mqttcore.authenticators.service_account import METHOD
from tests.processes import ROOT
from tests.trio_broker.deployments import free_port
from tests.trio_broker.test_cli_run import Process, started
from trio_broker.client import Client, ClientError, open_client
from trio_broker.tokens.issuer import LocalIssuer

DOCUMENT = ROOT / "docs" / "authorization.md"
DENIED = ReasonCode.NOT_AUTHORIZED


def manifests(port: int) -> str:
    """The example, on another port."""
    [text] = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert text.count("- port: 1884 ") == 1
    return str(text.replace("- port: 1884 ", f"- port: {port} "))


@frozen
class Plant:
    """A broker with the example's rules, and clients with the accounts that it knows."""

    process: Process
    issuer: LocalIssuer

    def connect(
        self, account: str, client_id: str, version: int = V5, **fields: object
    ) -> AbstractAsyncContextManager[Client]:
        token = self.issuer.mint(account, audiences=["plant"], now=time.time(), duration=3600)
        if version == V5:
            fields |= {"authentication_method": METHOD, "authentication_data": token.encode()}
        else:
            fields |= {"username": METHOD, "password": token.encode()}
        connect = Connect(client_id=client_id, protocol_version=version, **fields)  # type: ignore[arg-type]
        return open_client(connect, host="127.0.0.1", port=self.process.port("mqtt"))

    async def refused(self, account: str, client_id: str, version: int = V5, **fields: object) -> None:
        with pytest.raises(ClientError) as caught:
            async with self.connect(account, client_id, version, **fields):
                pass
        assert caught.value.reason_code in (DENIED, 5)


async def publish(client: Client, topic: str, payload: bytes = b"") -> ReasonCode | None:
    """The reason code of a QoS 1 message that was refused, None if it was taken."""
    try:
        await client.publish(Publish(topic, payload, qos=1))
    except ClientError as error:
        return error.reason_code
    return None


async def subscribe(client: Client, topic_filter: str) -> int | None:
    """The reason code of a subscription that was refused, None if it was granted."""
    try:
        await client.subscribe(Subscription(topic_filter, 1))
    except ClientError as error:
        return error.reason_code
    return None


@asynccontextmanager
async def plant(directory: Path) -> AsyncIterator[Plant]:
    issuer = LocalIssuer(directory / "issuer")
    issuer.annotate("azure-iot-operations", "gate", {"aio-broker-auth/building": "17"})
    issuer.annotate(
        "azure-iot-operations",
        "chief",
        {
            "aio-broker-auth/organization": "contoso",
            "aio-broker-auth/role": "operator",
            "aio-broker-auth/building": "18",
        },
    )
    issuer.annotate(
        "azure-iot-operations",
        "plus",
        {"aio-broker-auth/organization": "contoso", "aio-broker-auth/building": "+"},
    )
    (directory / "plant.yaml").write_text(manifests(free_port()))
    arguments = [
        str(directory / "plant.yaml"),
        f"--tokens=local:{directory}/issuer",
        "--log-format=json",
        "--set=log_lines_per_address=1000",
    ]
    with trio.fail_after(60):
        async with started(*arguments, "--bind=127.0.0.1") as process:
            yield Plant(process, issuer)


async def test_the_documented_example(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with plant(tmp_path) as broker:
        for account, client_id in (
            ("fan", "18-fan"),  # not of its building
            ("fan", "17"),
            ("gate", "17-gate"),  # a rule for it, but none that lets it connect
            ("nobody", "17-fan"),
            ("plus", "+-fan"),  # a value that would be a wildcard
            ("plus", "17-fan"),
        ):
            for version in (V311, V5):
                await broker.refused(account, client_id, version)
        async with broker.connect("dashboard", "any/thing") as dashboard:
            assert await subscribe(dashboard, "$share/screens/sensors/#") is None
            assert await subscribe(dashboard, "$share/screens/#") is DENIED
            assert await publish(dashboard, "sensors/17/17-fan/speed") is DENIED
            for version in (V311, V5):
                async with broker.connect("fan", "17-fan", version) as fan:
                    refused = 0x80 if version == V311 else DENIED
                    for topic_filter in ("commands/17-fan/#", "commands/17-fan", "news"):
                        assert await subscribe(fan, topic_filter) is None
                    for topic_filter in (
                        "#",
                        "commands/#",
                        "commands/+",
                        "commands/17-gate",
                        "+",
                        "$share/g/sensors/#",
                    ):
                        assert await subscribe(fan, topic_filter) == refused
                    for topic in ("sensors/18/17-fan", "sensors/17/17-gate", "news", "commands/17-fan"):
                        assert await publish(fan, topic, b"denied") is (None if version == V311 else DENIED)
                    assert await publish(fan, "sensors/17/17-fan/speed", b"1200") is None
                    message = await dashboard.receive()
                    assert (message.topic, message.payload) == ("sensors/17/17-fan/speed", b"1200")
                    async with broker.connect("chief", "18-chief", version) as chief:
                        assert await publish(chief, "news", b"lunch") is None
                    assert (await fan.receive()).payload == b"lunch"
            await broker.refused("fan", "17-fan", will=Will(topic="news"))
            async with broker.connect("fan", "17-fan", will=Will(topic="sensors/17/17-fan", payload=b"gone")) as fan:
                await fan.leave(send_will=True)
            assert (await dashboard.receive()).payload == b"gone"
    log = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    denied = {(line["client_id"], line["action"], line["topic"]) for line in log if line["event"] == "denied"}
    assert ("any/thing", "subscribe", "$share/screens/#") in denied
    assert ("17-fan", "publish", "sensors/18/17-fan") in denied
