"""Tests on Trio, in memory and on a virtual clock: an hour takes no time."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
from greenhouse import SILENCE, TEMPERATURE, frost_alarm
from trio.testing import MockClock

from mqttcore import Connect
from trio_broker.client import Client
from trio_broker.testing import MemoryBroker, Subscribed

MANIFEST = Path(__file__).parents[1] / "broker.yaml"


@asynccontextmanager
async def running_alarm(broker: MemoryBroker, token: str = "") -> AsyncIterator[list[str]]:
    """The alarm, and what it rings for."""

    def connect() -> AbstractAsyncContextManager[Client]:
        method, data = ("K8S-SAT", token.encode()) if token else (None, None)
        return broker.open_client(
            Connect(client_id="alarm", authentication_method=method, authentication_data=data),
        )

    rung: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(frost_alarm, connect, rung.append)
        await broker.wait_for_async(Subscribed, client_id="alarm")
        yield rung
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_it_rings_for_frost(mqtt_memory_broker: MemoryBroker, autojump_clock: MockClock) -> None:
    async with running_alarm(mqtt_memory_broker) as rung:
        mqtt_memory_broker.publish(TEMPERATURE, "0.1", qos=1)
        mqtt_memory_broker.publish(TEMPERATURE, "-0.1", qos=1)
        await mqtt_memory_broker.wait_for_async(lambda: rung)
        assert rung == ["frost"]


@pytest.mark.trio
async def test_it_rings_when_nothing_is_heard(mqtt_memory_broker: MemoryBroker, autojump_clock: MockClock) -> None:
    async with running_alarm(mqtt_memory_broker) as rung:
        await trio.sleep(SILENCE / 2)
        mqtt_memory_broker.publish(TEMPERATURE, "20")
        await trio.sleep(SILENCE - 1)
        assert not rung
        await trio.sleep(2)
        assert rung == ["silence"]


@pytest.mark.trio
@pytest.mark.mqtt_broker(manifests=MANIFEST)
async def test_it_rings_when_its_token_has_expired(mqtt_memory_broker: MemoryBroker, autojump_clock: MockClock) -> None:
    token = mqtt_memory_broker.token("alarm", lifetime=600)
    async with running_alarm(mqtt_memory_broker, token) as rung:
        mqtt_memory_broker.clock.advance(590)
        assert not rung
        mqtt_memory_broker.clock.advance(11)
        await mqtt_memory_broker.wait_for_async(lambda: rung)
        assert rung[0].startswith("no connection")
