"""Tests on asyncio. asyncio.run, since no plugin for asyncio is needed; with pytest-asyncio they are as short."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from greenhouse import HEATING, TEMPERATURE, heater

from trio_broker.testing import Connected, Published, Refused, RunningBroker, Subscribed

BY_SERVER = """
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: greenhouse}
spec:
  ports: [{port: 1884, authenticationRef: by-server}]
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: by-server}
spec:
  authenticationMethods:
    - method: Custom
      customSettings: {endpoint: "https://auth-server:8443", caCertConfigMap: custom-auth-ca}
"""


@asynccontextmanager
async def running_heater(broker: RunningBroker) -> AsyncIterator[None]:
    task = asyncio.create_task(heater(broker.host, broker.port, username="heater"))
    try:
        yield
    finally:
        while not task.done():  # before Python 3.12 asyncio.wait_for, which aiomqtt uses, may swallow a cancellation
            task.cancel()
            await asyncio.wait([task], timeout=0.1)


@pytest.mark.parametrize(("temperature", "heating"), [("17.9", b"on"), ("18.0", b"off")])
def test_it_heats_while_it_is_cold(mqtt_broker: RunningBroker, temperature: str, heating: bytes) -> None:
    async def test() -> None:
        async with running_heater(mqtt_broker):
            await mqtt_broker.wait_for_async(Subscribed, topic_filter=TEMPERATURE)
            mqtt_broker.publish(TEMPERATURE, temperature, qos=1)
            message = await mqtt_broker.wait_for_async(Published, topic=HEATING)
            assert message.payload == heating

    asyncio.run(test())


@pytest.mark.mqtt_broker(manifests=BY_SERVER)
def test_it_comes_back_when_its_credential_has_expired(mqtt_broker: RunningBroker) -> None:
    async def test() -> None:
        async with running_heater(mqtt_broker):
            await mqtt_broker.wait_for_async(Subscribed, topic_filter=TEMPERATURE)
            mqtt_broker.expire("heater")
            await mqtt_broker.wait_for_async(Subscribed, count=2, topic_filter=TEMPERATURE)

    asyncio.run(test())
    assert [request.username for request in mqtt_broker.custom_server.requests] == ["heater", "heater"]


@pytest.mark.mqtt_broker(manifests=BY_SERVER)
def test_it_goes_on_trying_while_the_authentication_server_is_away(mqtt_broker: RunningBroker) -> None:
    async def test() -> None:
        mqtt_broker.custom_server.vanish()
        async with running_heater(mqtt_broker):
            await mqtt_broker.wait_for_async(Refused, count=2, client_id="heater")
            mqtt_broker.custom_server.grant("heater")
            await mqtt_broker.wait_for_async(Connected, client_id="heater")

    asyncio.run(test())
    assert [decision.outcome for decision in mqtt_broker.decisions][-1] == "granted"
