"""A broker in a thread of its own: where it listens, who may ask it for something, and how it ends."""

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from paho.mqtt import publish

from mqttcore import Connect
from mqttcore.broker import Broker
from tests.trio_broker.testing.support import MANIFEST
from trio_broker.client import open_client
from trio_broker.errors import ConfigurationError
from trio_broker.testing import (
    BrokerFault,
    Connected,
    Decided,
    Published,
    RunningBroker,
    run_broker,
    threaded,
)


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_it_listens_for_the_time_of_a_block(tmp_path: Path) -> None:
    with run_broker(tmp_path / "broker") as broker:
        port = broker.port
        assert broker.url == f"mqtt://{broker.host}:{port}"
        assert broker.ports == {1883: port}
        assert is_open(port)
        publish.single("t", b"x", 1, hostname=broker.host, port=port)
        assert [message.payload for message in broker.received] == [b"x"]
    assert not is_open(port)
    assert not (tmp_path / "broker").exists()  # nothing was asked for that needs files
    assert "connected" in broker.log


def test_brokers_run_side_by_side() -> None:
    with run_broker() as one, run_broker() as other:
        assert one.port != other.port
        publish.single("t", hostname=one.host, port=one.port)
        one.wait_for(Published)
        assert other.events == []


def test_ports_for_tls_and_websocket() -> None:
    async def main(broker: RunningBroker) -> None:
        tls = broker.tls_context()
        async with open_client(Connect(client_id="tls"), host="localhost", port=broker.tls_port, tls=tls):
            pass
        async with open_client(
            Connect(client_id="ws"), host="127.0.0.1", port=broker.websocket_port, websocket="/mqtt"
        ):
            pass

    with run_broker(tls=True, websocket=True) as broker:
        trio.run(main, broker)
        assert [event.transport.name for event in broker.events if isinstance(event, Connected)] == ["tls", "ws"]
        assert set(broker.ports) == {1883, 8883, 8080}
    with run_broker() as broker:
        with pytest.raises(LookupError, match="tls=True"):
            broker.tls_port  # noqa: B018


def test_limits_and_profile() -> None:
    async def main(broker: RunningBroker) -> None:
        async with open_client(Connect(), host=broker.host, port=broker.port) as client:
            assert (client.connack.maximum_qos, client.connack.server_keep_alive) == (1, 7)

    with run_broker(profile="aio", limits={"server_keep_alive": 7}) as broker:
        trio.run(main, broker)


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        (lambda: run_broker(profile="xio"), ConfigurationError, "there is no profile 'xio'; there are mqtt5, aio"),
        (lambda: run_broker(limits={"maximum_qo": 1}), ConfigurationError, "did you mean maximum_qos"),
        (lambda: run_broker(manifests="broker.yaml"), ConfigurationError, r"write Path\('broker.yaml'\) for a file"),
        (lambda: run_broker(manifests=MANIFEST, tls=True), TypeError, "for a broker without manifests"),
        (
            lambda: run_broker(manifest=""),  # type: ignore[call-arg]
            TypeError,
            "there is no option 'manifest'; there are manifests, ",
        ),
    ],
)
def test_what_cannot_be_is_told(start: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        with start():  # type: ignore[attr-defined]
            pass


def test_manifests_and_what_stands_in_for_their_references(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "broker.yaml").write_text(MANIFEST.replace("custom-auth-ca", "our-ca"))
    with pytest.raises(ConfigurationError, match="our-ca"), run_broker(manifests=tmp_path / "manifests"):
        pass
    with run_broker(manifests=[tmp_path / "manifests"], local_ca=["client-ca", "our-ca"]) as broker:
        assert broker.port == broker.ports[1883]
        assert set(broker.ports) == {1883, 8883, 8884, 8885}


def test_it_can_be_asked_from_trio_and_from_asyncio() -> None:
    async def on_trio(broker: RunningBroker) -> Connected:
        async with open_client(Connect(client_id="a"), host=broker.host, port=broker.port):
            assert broker.sessions["a"].connected
            return await broker.wait_for_async(Connected, client_id="a")

    async def on_asyncio(broker: RunningBroker) -> Connected:
        waiting = asyncio.create_task(broker.wait_for_async(Connected, count=2, client_id="a"))
        await asyncio.to_thread(trio.run, on_trio, broker)
        return await waiting

    with run_broker() as broker:
        first = trio.run(on_trio, broker)
        assert asyncio.run(on_asyncio(broker)) is not first


def test_what_a_condition_raises_is_raised() -> None:
    with run_broker() as broker, pytest.raises(ZeroDivisionError):
        broker.wait_for(lambda: 1 / 0)


def boom(*_: object) -> None:
    raise ValueError("a mistake of ours")


def test_a_fault_is_raised_at_the_end_and_while_the_test_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "receive", boom)
    with pytest.raises(BrokerFault, match="ValueError: a mistake of ours") as raised:
        with run_broker() as broker:
            with socket.create_connection((broker.host, broker.port)) as sock:
                sock.sendall(b"x")
                with pytest.raises(BrokerFault):
                    broker.wait_for(Connected)
    assert raised.value.__cause__ is not None
    assert "Traceback" in broker.log


def test_a_fault_of_what_performs_effects_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_broker.https.HttpsClient.request", boom)
    with pytest.raises(BrokerFault, match="a mistake of ours"), run_broker(manifests=MANIFEST) as broker:

        async def main() -> None:
            tls = broker.tls_context()
            with pytest.raises(Exception, match="0x87"):
                async with open_client(Connect(), host=broker.host, port=broker.ports[8885], tls=tls):
                    pass

        trio.run(main)
        assert [event.outcome for event in broker.events if isinstance(event, Decided)] == ["unavailable"]


def test_a_broker_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_broker.server.Server.listen", boom)
    with pytest.raises(BrokerFault, match="a mistake of ours"), run_broker():
        raise AssertionError("it has not started")


def test_a_broker_that_hangs_when_it_starts_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(threaded, "START_TIMEOUT", 0.05)
    monkeypatch.setattr(threaded, "STOP_TIMEOUT", 0.05)

    def get_stuck(*_: object) -> None:
        release.wait()

    monkeypatch.setattr("trio_broker.server.Server.listen", get_stuck)
    with pytest.raises(BrokerFault, match=r"has not ended within 0.05 seconds(.|\n)*get_stuck") as raised:
        with run_broker():
            raise AssertionError("it has not started")
    assert "has not started within 0.05 seconds" in str(raised.value.__context__)
    release.set()
    for thread in threading.enumerate():
        if thread.name == "mqtt broker":
            thread.join()


def test_no_wait_is_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded, "CALL_TIMEOUT", 0.05)
    monkeypatch.setattr(threaded, "STOP_TIMEOUT", 0.05)
    release = threading.Event()

    def get_stuck() -> None:
        release.wait()

    with pytest.raises(BrokerFault, match=r"has not ended within 0.05 seconds(.|\n)*get_stuck"):
        with run_broker() as broker:
            with pytest.raises(BrokerFault, match=r"has not answered within 0.05 seconds(.|\n)*get_stuck"):
                broker._call(get_stuck)
    release.set()
    broker._thread.join()
