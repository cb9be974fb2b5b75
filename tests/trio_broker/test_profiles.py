"""The profiles as a client sees them, and what has the last word on a limit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.codec import encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.events import ConnectionClosed, Event
from mqttcore.limits import Limits
from mqttcore.packets import (
    ConnAck,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Will,
)
from tests.trio_broker.deployments import free_port
from tests.trio_broker.support import Peer, running
from tests.trio_broker.test_cli_run import started
from trio_broker.assembly import limits_of
from trio_broker.cli import main
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits
from trio_broker.profiles import DEFAULT_PROFILE, PROFILES
from trio_broker.resources import BrokerSettings, MemoryProfile, QueueStrategy
from trio_broker.settings import ALL_LIMITS, parse_settings, show

AIO = PROFILES["aio"]


@asynccontextmanager
async def dialled(profile: str, **fields: Any) -> AsyncIterator[tuple[Peer, ConnAck]]:
    """A client in memory that a broker of the profile has accepted, and what it was told then."""
    with trio.fail_after(10):
        async with running(limits=PROFILES[profile]) as run:
            peer = Peer(run.open_memory())
            answer = await peer.connect("a", **fields)
            yield peer, answer
            await peer.stream.aclose()


async def answer_to(data: bytes, **fields: Any) -> Event:
    """What a client of the profile aio gets for bytes that its own side would not send."""
    async with dialled("aio", **fields) as (peer, _):
        await peer.stream.send_all(data)
        return await peer.receive()


async def test_what_aio_announces() -> None:
    async with dialled("aio", request_response_information=True, topic_alias_maximum=10) as (_, answer):
        assert answer == ConnAck(
            maximum_qos=1,
            receive_maximum=100,
            maximum_packet_size=64 * 1024 * 1024,
            subscription_identifiers_available=False,
        )


async def test_what_mqtt5_announces() -> None:
    async with dialled("mqtt5", request_response_information=True) as (_, answer):
        assert answer == ConnAck(receive_maximum=1000, maximum_packet_size=64 * 1024 * 1024, topic_alias_maximum=100)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (Publish("t", qos=2, packet_id=1), ReasonCode.QOS_NOT_SUPPORTED),
        (Publish("t", topic_alias=1), ReasonCode.TOPIC_ALIAS_INVALID),
        (
            Subscribe(1, (Subscription("t"),), subscription_identifier=1),
            ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
        ),
    ],
)
async def test_what_aio_refuses(packet: Packet, code: ReasonCode) -> None:
    word = await answer_to(encode(packet, V5))
    assert isinstance(word, Disconnect)
    assert word.reason_code is code


async def test_aio_refuses_a_packet_by_its_size() -> None:
    word = await answer_to(b"\x30\xfd\xff\xff\x1f")  # two bytes more than 64 MiB, with its fixed header
    assert isinstance(word, Disconnect)
    assert word.reason_code is ReasonCode.PACKET_TOO_LARGE


async def test_aio_closes_on_qos_2_of_mqtt_3_1_1() -> None:
    data = encode(Publish("t", qos=2, packet_id=1), V311)
    assert isinstance(await answer_to(data, version=V311), ConnectionClosed)


async def test_aio_refuses_a_will_of_qos_2() -> None:
    async with running(limits=AIO) as run:
        peer = Peer(run.open_memory())
        answer = await peer.connect("a", will=Will(topic="t", qos=2))
        assert answer.reason_code is ReasonCode.QOS_NOT_SUPPORTED
        await peer.stream.aclose()


async def test_aio_grants_qos_1_and_assigns_no_topic_alias() -> None:
    async with dialled("aio", topic_alias_maximum=10) as (peer, _):
        await peer.send(Subscribe(1, (Subscription("t", 2),)))
        assert await peer.receive() == SubAck(1, (ReasonCode.GRANTED_QOS_1,))
        for _ in range(2):
            await peer.send(Publish("t"))
            assert await peer.receive() == Publish("t")


@pytest.mark.parametrize("profile", PROFILES)
async def test_sys_may_be_subscribed_to_and_is_silent(profile: str) -> None:
    async with dialled(profile) as (peer, _):
        await peer.send(Subscribe(1, (Subscription("$SYS/#"),)))
        assert await peer.receive() == SubAck(1, (ReasonCode.GRANTED_QOS_0,))
        await peer.send(PingReq())
        assert await peer.receive() == PingResp()


@pytest.mark.parametrize("profile", PROFILES)
async def test_qos_0_does_not_wait_for_who_is_away(profile: str) -> None:
    async with running(limits=PROFILES[profile]) as run:
        away = Peer(run.open_memory())
        await away.connect("away", session_expiry_interval=100)
        await away.send(Subscribe(1, (Subscription("t", 1),)))
        await away.receive()
        await away.send(Disconnect())
        assert isinstance(await away.receive(), ConnectionClosed)
        publisher = Peer(run.open_memory())
        await publisher.connect("publisher")
        await publisher.send(Publish("t", b"0"), Publish("t", b"1", qos=1, packet_id=1))
        await publisher.receive()
        again = Peer(run.open_memory())
        await again.connect("away", clean_start=False, session_expiry_interval=100)
        word = await again.receive()
        assert isinstance(word, Publish)
        assert word.payload == b"1"
        for peer in (away, publisher, again):
            await peer.stream.aclose()


# -------------------------------------------------------------------------------------------- who has the last word

BROKER: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    # of a Broker resource: the limit that it stands for, and its values
    "maximum_session_expiry": ("maximum_session_expiry", st.integers(0, 4_294_967_295)),
    "maximum_message_expiry": ("maximum_message_expiry", st.integers(0, 4_294_967_295)),
    "maximum_packet_size": ("maximum_packet_size", st.integers(128, 268_435_456)),
    "receive_maximum": ("receive_maximum", st.integers(1, 65_535)),
    "maximum_keep_alive": ("server_keep_alive", st.integers(0, 65_535)),
    "queue_length": ("maximum_queued_messages", st.integers(1, 1_000_000)),
}


def values(limit: str) -> st.SearchStrategy[Any]:
    """Values that `--set` takes for a limit."""
    found = ALL_LIMITS[limit]
    if isinstance(found.default, bool):
        return st.booleans()
    return st.integers(int(found.metadata["low"]) + 1, int(found.metadata["high"]))


LIMITS = st.sampled_from([limit.name for limit in Limits.__attrs_attrs__])


@given(
    profile=st.sampled_from([*PROFILES]),
    broker=st.fixed_dictionaries({}, optional={name: strategy for name, (_, strategy) in BROKER.items()}),
    strategy=st.none() | st.sampled_from(QueueStrategy),
    settings=st.lists(LIMITS.flatmap(lambda name: st.tuples(st.just(name), values(name))), max_size=5),
)
def test_what_is_more_explicit_wins(
    profile: str, broker: dict[str, Any], strategy: QueueStrategy | None, settings: list[tuple[str, Any]]
) -> None:
    resource = BrokerSettings(**broker, queue_strategy=strategy)
    found = parse_settings(f"{name}={show(value)}" for name, value in settings)
    limits = found.limits(limits_of(resource, PROFILES[profile]))
    expected = {limit.name: getattr(PROFILES[profile], limit.name) for limit in Limits.__attrs_attrs__}
    expected |= {BROKER[name][0]: value for name, value in broker.items()}
    if strategy is not None:
        expected["drop_oldest"] = strategy is QueueStrategy.DROP_OLDEST
    expected |= dict(settings)
    assert limits == Limits(**expected)
    assert found.server_limits == ServerLimits()


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        (MemoryProfile.TINY, 4),
        (MemoryProfile.LOW, 16),
        (MemoryProfile.MEDIUM, 64),
        (MemoryProfile.HIGH, 256),
    ],
)
def test_a_memory_profile_is_a_packet_size_unless_there_is_one(memory: MemoryProfile, size: int) -> None:
    assert limits_of(BrokerSettings(memory_profile=memory), AIO).maximum_packet_size == size * 1024 * 1024
    assert limits_of(BrokerSettings(memory_profile=memory, maximum_packet_size=999), AIO).maximum_packet_size == 999


def test_what_no_limit_can_be() -> None:
    with pytest.raises(ConfigurationError, match=r"^Broker: advanced\.clients: .*maximum_packet_size"):
        limits_of(BrokerSettings(maximum_packet_size=1), AIO)


# ---------------------------------------------------------------------------------------------------- the commands


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """The values that `trio-broker limits` prints, by name."""
    with pytest.raises(SystemExit) as caught:
        main(["limits", *arguments])
    assert caught.value.code == 0
    _, *rows = capsys.readouterr().out.splitlines()
    return {row.split()[0]: row.split()[1] for row in rows}


def test_limits_are_those_of_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    plain, aio = listed(capsys), listed(capsys, "--profile", "aio")
    assert plain == listed(capsys, "--profile", DEFAULT_PROFILE)
    assert plain == {name: show(limit.default) for name, limit in ALL_LIMITS.items()}
    assert {name: value for name, value in aio.items() if value != plain[name]} == {
        "maximum_qos": "1",
        "receive_maximum": "100",
        "topic_alias_maximum": "0",
        "assigned_topic_aliases": "0",
        "subscription_identifiers_available": "no",
    }
    assert aio["maximum_packet_size"] == "67108864"
    assert aio.keys() == plain.keys()


@pytest.mark.parametrize("command", ["run", "up", "limits"])
def test_a_profile_that_there_is_not(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--profile", "aoi"])
    assert caught.value.code == 2
    assert "'aoi' is not one of 'mqtt5', 'aio'" in capsys.readouterr().err


MANIFESTS = """
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {{name: default}}
spec: {{ports: [{{port: {port}}}]}}
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: Broker
metadata: {{name: default}}
spec:
  memoryProfile: Tiny
  advanced:
    clients:
      maxReceiveMaximum: 50
      maxKeepAliveSeconds: 60
      maxMessageExpirySeconds: 5
      subscriberQueueLimit: {{length: 10, strategy: DropOldest}}
"""


async def test_run_takes_profile_manifest_and_settings_in_this_order(tmp_path: Path) -> None:
    manifest = tmp_path / "broker.yaml"
    manifest.write_text(MANIFESTS.format(port=free_port()))
    async with started(str(manifest), "--profile", "aio", "--set", "server_keep_alive=77") as broker:
        peer = await broker.dial()
        assert await peer.connect("a", keep_alive=100) == ConnAck(
            maximum_qos=1,
            receive_maximum=50,
            maximum_packet_size=4 * 1024 * 1024,
            subscription_identifiers_available=False,
            server_keep_alive=77,
        )
        await peer.send(Subscribe(1, (Subscription("t"),)))
        await peer.receive()
        await peer.send(Publish("t", message_expiry_interval=9))
        assert await peer.receive() == Publish("t", message_expiry_interval=5)
        await peer.stream.aclose()


async def test_run_without_manifests_has_a_profile_too() -> None:
    async with started("--port", "0", "--profile", "aio", "--set", "receive_maximum=7") as broker:
        peer = await broker.dial()
        answer = await peer.connect("a")
        assert (answer.maximum_qos, answer.receive_maximum) == (1, 7)
        await peer.stream.aclose()
