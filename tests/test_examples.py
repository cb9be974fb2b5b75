"""docs/examples: the core on asyncio, as processes and with somebody else's client."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt import publish, subscribe
from paho.mqtt.enums import MQTTProtocolVersion

from tests.processes import DEADLINE, ROOT, broker, listening

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with listening(tmp_path, [str(EXAMPLES / "asyncio_broker.py"), "0"]) as ports:
        yield ports["mqtt"]


def run_client(port: int) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "asyncio_client.py", str(port)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout


def test_the_client_and_the_broker(port: int) -> None:
    assert run_client(port) == "demo/hello Hello, world\n"


def test_the_client_and_the_trio_broker(tmp_path: Path) -> None:
    with broker(tmp_path) as ports:
        assert run_client(ports["mqtt"]) == "demo/hello Hello, world\n"


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_the_broker_and_paho(port: int, version: MQTTProtocolVersion) -> None:
    payload = bytes(range(256)) * 4096  # more than a socket takes at once
    publish.single("demo/a", payload, 2, True, "127.0.0.1", port, protocol=version)
    message = subscribe.simple(  # type: ignore[no-untyped-call]
        "demo/#", 2, hostname="127.0.0.1", port=port, protocol=version
    )
    assert (message.topic, message.qos, message.retain) == ("demo/a", 2, True)
    assert message.payload == payload
