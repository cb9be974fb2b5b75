"""Reason String and User Properties of MQTT 5.0: sent while the packet fits the receiver's Maximum Packet Size."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from mqttcore import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    ReasonCode,
    SubAck,
    UnsubAck,
)
from mqttcore.codec import encode
from mqttcore.connection import Connection
from mqttcore.states import CLIENT, SERVER, Role
from tests.mqttcore.support import client, server, server_with, tell

METHOD = Connect(authentication_method="m")
BEGIN = Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m")
GRANTED = (ReasonCode.SUCCESS,)
REFUSED = ConnAck(reason_code=ReasonCode.BANNED)


def accepted(role: Role) -> Connection:
    """A connection with a method, whose peer bounds nothing yet."""
    return server(METHOD) if role is SERVER else client(METHOD)


def reauthenticating(role: Role) -> Connection:
    connection = accepted(role)
    if role is SERVER:
        tell(connection, BEGIN)
    return connection


def connecting(role: Role) -> Connection:
    return server_with(METHOD)


def fits(connection: Connection, packet: Any, explanation: dict[str, Any]) -> None:
    """It goes out whole if it just fits, and bare if it is one byte too large, or more."""
    full, bare = encode(evolve(packet, **explanation)), encode(packet)
    assert len(bare) < len(full)
    for size in range(len(bare), len(full) + 1):
        phase = connection.phase
        connection.peer_maximum_packet_size = size
        connection.send(evolve(packet, **explanation), 0.0)
        assert connection.take_output() == (full if size == len(full) else bare)
        connection.phase = phase  # for the next size


Ready = Callable[[Role], Connection]


@pytest.mark.parametrize(
    ("role", "ready", "packet"),
    [
        pytest.param(SERVER, connecting, REFUSED, marks=pytest.mark.conformance("MQTT-3.2.2-19")),
        pytest.param(SERVER, accepted, PubAck(1), marks=pytest.mark.conformance("MQTT-3.4.2-2")),
        pytest.param(CLIENT, accepted, PubAck(1), marks=pytest.mark.conformance("MQTT-3.4.2-2")),
        pytest.param(SERVER, accepted, PubRec(1), marks=pytest.mark.conformance("MQTT-3.5.2-2")),
        pytest.param(CLIENT, accepted, PubRec(1), marks=pytest.mark.conformance("MQTT-3.5.2-2")),
        pytest.param(SERVER, accepted, PubRel(1), marks=pytest.mark.conformance("MQTT-3.6.2-2")),
        pytest.param(CLIENT, accepted, PubRel(1), marks=pytest.mark.conformance("MQTT-3.6.2-2")),
        pytest.param(SERVER, accepted, PubComp(1), marks=pytest.mark.conformance("MQTT-3.7.2-2")),
        pytest.param(CLIENT, accepted, PubComp(1), marks=pytest.mark.conformance("MQTT-3.7.2-2")),
        pytest.param(SERVER, accepted, SubAck(1, GRANTED), marks=pytest.mark.conformance("MQTT-3.9.2-1")),
        pytest.param(SERVER, accepted, UnsubAck(1, GRANTED), marks=pytest.mark.conformance("MQTT-3.11.2-1")),
        pytest.param(SERVER, accepted, Disconnect(), marks=pytest.mark.conformance("MQTT-3.14.2-3")),
        pytest.param(CLIENT, accepted, Disconnect(), marks=pytest.mark.conformance("MQTT-3.14.2-3")),
        pytest.param(
            SERVER, reauthenticating, Auth(authentication_method="m"), marks=pytest.mark.conformance("MQTT-3.15.2-2")
        ),
        pytest.param(CLIENT, accepted, BEGIN, marks=pytest.mark.conformance("MQTT-3.15.2-2")),
    ],
)
def test_the_reason_string(role: Role, ready: Ready, packet: Packet) -> None:
    fits(ready(role), packet, {"reason_string": "a reason"})


@pytest.mark.parametrize(
    ("role", "ready", "packet"),
    [
        pytest.param(SERVER, connecting, REFUSED, marks=pytest.mark.conformance("MQTT-3.2.2-20")),
        pytest.param(SERVER, accepted, PubAck(1), marks=pytest.mark.conformance("MQTT-3.4.2-3")),
        pytest.param(CLIENT, accepted, PubAck(1), marks=pytest.mark.conformance("MQTT-3.4.2-3")),
        pytest.param(SERVER, accepted, PubRec(1), marks=pytest.mark.conformance("MQTT-3.5.2-3")),
        pytest.param(CLIENT, accepted, PubRec(1), marks=pytest.mark.conformance("MQTT-3.5.2-3")),
        pytest.param(SERVER, accepted, PubRel(1), marks=pytest.mark.conformance("MQTT-3.6.2-3")),
        pytest.param(CLIENT, accepted, PubRel(1), marks=pytest.mark.conformance("MQTT-3.6.2-3")),
        pytest.param(SERVER, accepted, PubComp(1), marks=pytest.mark.conformance("MQTT-3.7.2-3")),
        pytest.param(CLIENT, accepted, PubComp(1), marks=pytest.mark.conformance("MQTT-3.7.2-3")),
        pytest.param(SERVER, accepted, SubAck(1, GRANTED), marks=pytest.mark.conformance("MQTT-3.9.2-2")),
        pytest.param(SERVER, accepted, UnsubAck(1, GRANTED), marks=pytest.mark.conformance("MQTT-3.11.2-2")),
        pytest.param(SERVER, accepted, Disconnect(), marks=pytest.mark.conformance("MQTT-3.14.2-4")),
        pytest.param(CLIENT, accepted, Disconnect(), marks=pytest.mark.conformance("MQTT-3.14.2-4")),
        pytest.param(
            SERVER, reauthenticating, Auth(authentication_method="m"), marks=pytest.mark.conformance("MQTT-3.15.2-3")
        ),
        pytest.param(CLIENT, accepted, BEGIN, marks=pytest.mark.conformance("MQTT-3.15.2-3")),
    ],
)
def test_the_user_properties(role: Role, ready: Ready, packet: Packet) -> None:
    fits(ready(role), packet, {"user_properties": (("name", "value"), ("name", "other"))})
