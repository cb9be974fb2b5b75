"""The command with a manifest, a custom server that is somebody else's, and clients: from YAML to CONNACK."""

import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from mqttcore import Connect, Publish, ReasonCode
from tests.trio_broker.custom_server import NAME, CustomServer, Site, custom_server, fails, passes
from tests.trio_broker.deployments import free_port
from tests.trio_broker.test_cli_run import Process, started
from trio_broker.client import ClientError, open_client

MANIFEST = """\
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata:
  name: custom
spec:
  authenticationMethods:
    - method: Custom
      customSettings:
        endpoint: https://{name}:8443/check
        caCertConfigMap: custom-ca
        auth:
          x509:
            secretRef: custom-client
        headers:
          x-site: seattle
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata:
  name: custom
spec:
  ports:
    - port: {port}
      authenticationRef: custom
"""


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def server(site: Site) -> Iterator[CustomServer]:
    with custom_server(site.context(NAME, clients=site.authority)) as running:
        yield running


@asynccontextmanager
async def broker(site: Site, server: CustomServer, directory: Path, *options: str) -> AsyncIterator[Process]:
    (directory / "broker.yaml").write_text(MANIFEST.format(name=NAME, port=free_port()))
    (directory / "ca.pem").write_bytes(site.ca_pem)
    site.write_client_pair(directory / "client")
    arguments = [
        str(directory / "broker.yaml"),
        f"--configmap=custom-ca={directory}/ca.pem",
        f"--secret=custom-client={directory}/client",
        f"--resolve={NAME}:8443=127.0.0.1:{server.port}",
        "--bind=127.0.0.1",
        "--log-format=json",
        "--log-level=debug",
        *options,
    ]
    with trio.fail_after(60):
        async with started(*arguments) as process:
            yield process


class Log:
    """What the broker has written to standard error."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.text = ""
        self._capfd = capfd

    async def line(self, *parts: str) -> str:
        """The first line with all of `parts`, once it is there."""
        while True:
            self.text += self._capfd.readouterr().err
            for line in self.text.splitlines():
                if all(part in line for part in parts):
                    return line
            await trio.sleep(0.01)


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Log:
    return Log(capfd)


async def test_the_server_decides(site: Site, server: CustomServer, tmp_path: Path, log: Log) -> None:
    async with broker(site, server, tmp_path) as process:
        where: dict[str, Any] = {"host": "127.0.0.1", "port": process.port("mqtt")}
        async with open_client(Connect(client_id="c", username="ann", password=b"\xffsesame"), **where) as client:
            assert await client.publish(Publish("t", b"x", qos=1)) is ReasonCode.NO_MATCHING_SUBSCRIBERS
        [request] = server.requests
        assert request.path == "/check/?api-version=0.5.0"
        assert request.headers["Host"] == f"{NAME}:8443"
        assert request.headers["x-site"] == "seattle"
        assert request.headers["content-type"] == "application/json"
        assert request.json == {"type": "connect", "username": "ann", "password": "/3Nlc2FtZQ=="}

        for reason, code in [(0x8A, ReasonCode.BANNED), (0, ReasonCode.NOT_AUTHORIZED)]:
            server.answer = lambda request, reason=reason: fails(reason=reason, message="not today")  # type: ignore[misc]
            with pytest.raises(ClientError) as caught:
                async with open_client(Connect(client_id="c", username="ann", password=b"sesame"), **where):
                    pass
            assert caught.value.reason_code is code
        await log.line('"refused"', "0x8A", "the server denied the client with reason 138: not today")
        await log.line('"refused"', "0x87", "the server denied the client with reason 0: not today")
    assert "sesame" not in log.text
    assert "/3Nlc2FtZQ==" not in log.text


# --------------------------------------------------------------- re-authentication, as bytes that owe nothing to us


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


def properties(*values: bytes) -> bytes:
    return bytes([len(b"".join(values))]) + b"".join(values)


METHOD = b"\x15" + text(b"token")


def auth(code: int, data: bytes | None = None) -> bytes:
    return packet(0xF0, bytes([code]) + properties(METHOD, *([] if data is None else [b"\x16" + text(data)])))


CONNECT = packet(
    0x10,
    text(b"MQTT")
    + b"\x05\x06\x00\x3c"  # version 5, clean start, Will, 60 s
    + properties(METHOD, b"\x16" + text(b"first"))
    + text(b"raw")
    + properties()
    + text(b"will")
    + text(b"gone"),
)
TRANSIENT, SUCCESS = auth(0x18), auth(0x00)


@frozen
class Raw:
    """Bytes out, packets in."""

    stream: trio.SocketStream

    async def read(self) -> bytes:
        """The next packet; empty at the end."""
        head = await self.exactly(2)
        return head + await self.exactly(head[1]) if head else b""

    async def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = bytes(await self.stream.receive_some(count - len(data)))
            if not more:
                assert not data
                return b""
            data += more
        return data


def told(server: CustomServer) -> list[tuple[str, bytes]]:
    """The kinds of requests and the authentication data in them."""
    bodies = [request.json for request in server.requests]
    assert {body["enhancedAuthentication"]["method"] for body in bodies} <= {"token"}
    return [(body["type"], b64decode(body["enhancedAuthentication"]["data"])) for body in bodies]


async def test_reauthentication_and_expiry(site: Site, server: CustomServer, tmp_path: Path) -> None:
    def in_seconds(seconds: float) -> str:
        return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat().replace("+00:00", "Z")

    server.answer = lambda request: passes(expiry=in_seconds(600))
    async with broker(site, server, tmp_path, "--set=reauthentication_interval=0.01") as process:
        port = process.port("mqtt")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            raw = Raw(stream)
            await stream.send_all(CONNECT)
            connack = await raw.read()
            assert connack[0] == 0x20
            assert connack[3] == 0x00
            assert told(server) == [("connect", b"first")]

            await trio.to_thread.run_sync(server.stop)
            for code in (0x19, 0x19, 0x18):
                await stream.send_all(auth(code, b"second"))
                assert await raw.read() == TRANSIENT
                await stream.send_all(b"\xc0\x00")  # the old credential holds
                assert await raw.read() == b"\xd0\x00"

            with custom_server(site.context(NAME, clients=site.authority), server.port) as again:
                again.answer = lambda request: passes(expiry=in_seconds(1.5))
                await stream.send_all(auth(0x18, b"third"))
                began = time.monotonic()
                assert await raw.read() == SUCCESS
                assert told(again) == [("auth", b"third")]
                again.answer = lambda request: passes()
                watcher = Connect(client_id="watcher", authentication_method="token", authentication_data=b"w")
                async with open_client(watcher, host="127.0.0.1", port=port) as client:
                    await client.subscribe("will")
                    assert await raw.read() == b""  # no DISCONNECT
                    assert 1 < time.monotonic() - began < 30
                    assert (await client.receive()).payload == b"gone"

                await denied(port, again)


async def denied(port: int, server: CustomServer) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        raw = Raw(stream)
        await stream.send_all(CONNECT)
        assert (await raw.read())[3] == 0x00
        server.answer = lambda request: fails(reason=0x86)
        await stream.send_all(auth(0x19, b"wrong"))
        assert await raw.read() in (b"\xe0\x02\x87\x00", b"\xe0\x01\x87")
        assert await raw.read() == b""


async def test_a_server_that_is_not_who_it_should_be(site: Site, tmp_path: Path, log: Log) -> None:
    with custom_server(site.context("auth-server.elsewhere")) as impostor:
        async with broker(site, impostor, tmp_path) as process:
            with pytest.raises(ClientError) as caught:
                async with open_client(
                    Connect(client_id="c", password=b"p"), host="127.0.0.1", port=process.port("mqtt")
                ):
                    pass
            assert caught.value.reason_code is ReasonCode.NOT_AUTHORIZED
            await log.line('"refused"', "the server's certificate was refused: Hostname mismatch")
        assert not impostor.requests
