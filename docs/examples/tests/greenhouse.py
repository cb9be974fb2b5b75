"""An application to be tested: a thermometer on threads, a heater on asyncio and a frost alarm on Trio."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import aiomqtt
import paho.mqtt.client as paho
import trio
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from mqttcore import Subscription
from trio_broker.client import Client, ClientError

TEMPERATURE = "greenhouse/temperature"
ONLINE = "greenhouse/thermometer/online"
HEATING = "greenhouse/heating"
COLD = 18.0
RETRY = 0.05
SILENCE = 3600.0


class Thermometer:
    """Publishes temperatures, and whether it is there."""

    def __init__(self, host: str, port: int) -> None:
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, "thermometer", protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
        )
        self._client.will_set(ONLINE, "no", qos=1, retain=True)
        self._client.connect(host, port)
        self._client.loop_start()
        self._client.publish(ONLINE, "yes", qos=1, retain=True)

    def report(self, celsius: float) -> None:
        self._client.publish(TEMPERATURE, f"{celsius:.1f}", qos=1).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def heater(host: str, port: int, username: str | None = None) -> None:
    """Heats while it is cold; connects again when the connection breaks."""
    while True:
        try:
            async with aiomqtt.Client(
                host, port, identifier="heater", username=username, protocol=aiomqtt.ProtocolVersion.V5
            ) as client:
                await client.subscribe(TEMPERATURE, qos=1)
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    cold = float(message.payload) < COLD
                    await client.publish(HEATING, "on" if cold else "off", qos=1)
        except aiomqtt.MqttError:
            await asyncio.sleep(RETRY)


async def frost_alarm(connect: Callable[[], AbstractAsyncContextManager[Client]], ring: Callable[[str], None]) -> None:
    """Rings when it freezes, when nobody says how cold it is for an hour, and when the connection ends."""
    try:
        async with connect() as client:
            await client.subscribe(Subscription(TEMPERATURE, qos=1))
            while True:
                with trio.move_on_after(SILENCE) as scope:
                    if float((await client.receive()).payload) < 0:
                        ring("frost")
                if scope.cancelled_caught:
                    ring("silence")
    except ClientError as error:
        ring(f"no connection: {error}")
