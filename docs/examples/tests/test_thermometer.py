"""Tests on plain threads."""

from collections.abc import Iterator

import pytest
from greenhouse import ONLINE, TEMPERATURE, Thermometer

from trio_broker.testing import Connected, Published, RunningBroker


@pytest.fixture
def thermometer(mqtt_broker: RunningBroker) -> Iterator[Thermometer]:
    thermometer = Thermometer(mqtt_broker.host, mqtt_broker.port)
    mqtt_broker.wait_for(Connected, client_id="thermometer")
    yield thermometer
    thermometer.close()


def test_it_reports_the_temperature(mqtt_broker: RunningBroker, thermometer: Thermometer) -> None:
    thermometer.report(21.46)
    message = mqtt_broker.wait_for(Published, topic=TEMPERATURE)
    assert (message.payload, message.qos, message.retain) == (b"21.5", 1, False)


def test_when_its_network_fails_everybody_learns_that_it_is_away(
    mqtt_broker: RunningBroker, thermometer: Thermometer
) -> None:
    mqtt_broker.wait_for(Published, topic=ONLINE, payload=b"yes")
    mqtt_broker.cut("thermometer")
    will = mqtt_broker.received[-1]
    assert (will.topic, will.payload, will.will) == (ONLINE, b"no", True)


def test_when_it_is_switched_off_nothing_is_said(mqtt_broker: RunningBroker, thermometer: Thermometer) -> None:
    thermometer.close()
    mqtt_broker.wait_for(lambda: "thermometer" not in mqtt_broker.sessions)
    assert not any(message.will for message in mqtt_broker.received)
