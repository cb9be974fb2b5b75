"""Every cell of (phase, sender, packet): accepted, or refused with the reason code that is named for it."""

import pytest

from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.states import CLIENT, SERVER, TRANSITIONS, Phase, Role, Trigger, trigger
from tests.mqttcore.support import events, packets_in, tell

SAMPLES: dict[Trigger, p.Packet] = {
    Trigger.CONNECT: p.Connect(),
    Trigger.CONNECT_WITH_METHOD: p.Connect(authentication_method="m"),
    Trigger.CONNACK: p.ConnAck(),
    Trigger.CONNACK_REFUSED: p.ConnAck(reason_code=ReasonCode.NOT_AUTHORIZED),
    Trigger.PUBLISH: p.Publish("t", qos=1, packet_id=1),
    Trigger.PUBACK: p.PubAck(1),
    Trigger.PUBREC: p.PubRec(1),
    Trigger.PUBREL: p.PubRel(1),
    Trigger.PUBCOMP: p.PubComp(1),
    Trigger.SUBSCRIBE: p.Subscribe(1, (p.Subscription("t"),)),
    Trigger.SUBACK: p.SubAck(1, (ReasonCode.SUCCESS,)),
    Trigger.UNSUBSCRIBE: p.Unsubscribe(1, ("t",)),
    Trigger.UNSUBACK: p.UnsubAck(1, (ReasonCode.SUCCESS,)),
    Trigger.PINGREQ: p.PingReq(),
    Trigger.PINGRESP: p.PingResp(),
    Trigger.DISCONNECT: p.Disconnect(),
    Trigger.AUTH_SUCCESS: p.Auth(authentication_method="m"),
    Trigger.AUTH_CONTINUE: p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m"),
    Trigger.AUTH_REAUTHENTICATE: p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"),
}

T = Trigger
FLOWS = {T.PUBLISH, T.PUBACK, T.PUBREC, T.PUBREL, T.PUBCOMP, T.DISCONNECT}
CLIENT_FLOWS = FLOWS | {T.SUBSCRIBE, T.UNSUBSCRIBE, T.PINGREQ}
SERVER_FLOWS = FLOWS | {T.SUBACK, T.UNSUBACK, T.PINGRESP}

# What the chapters of the specification permit, phase by phase: (the client may send, the server may send).
PERMITTED: dict[Phase, tuple[set[Trigger], set[Trigger]]] = {
    Phase.START: ({T.CONNECT, T.CONNECT_WITH_METHOD}, set()),
    Phase.CONNECTING: (CLIENT_FLOWS, {T.CONNACK, T.CONNACK_REFUSED}),
    Phase.AUTHENTICATING: ({T.DISCONNECT}, {T.AUTH_CONTINUE, T.CONNACK, T.CONNACK_REFUSED}),
    Phase.CHALLENGED: ({T.AUTH_CONTINUE, T.DISCONNECT}, {T.CONNACK_REFUSED}),
    Phase.CONNECTED: (CLIENT_FLOWS, SERVER_FLOWS),
    Phase.CONNECTED_WITH_METHOD: (CLIENT_FLOWS | {T.AUTH_REAUTHENTICATE}, SERVER_FLOWS),
    Phase.REAUTHENTICATING: (CLIENT_FLOWS, SERVER_FLOWS | {T.AUTH_CONTINUE, T.AUTH_SUCCESS}),
    Phase.RECHALLENGED: (CLIENT_FLOWS | {T.AUTH_CONTINUE, T.AUTH_REAUTHENTICATE}, SERVER_FLOWS),
    Phase.CLOSED: (set(), set()),
}

# The packets that lead from START to a phase.
PATHS: dict[Phase, list[tuple[Role, Trigger]]] = {
    Phase.START: [],
    Phase.CONNECTING: [(CLIENT, T.CONNECT)],
    Phase.AUTHENTICATING: [(CLIENT, T.CONNECT_WITH_METHOD)],
    Phase.CHALLENGED: [(CLIENT, T.CONNECT_WITH_METHOD), (SERVER, T.AUTH_CONTINUE)],
    Phase.CONNECTED: [(CLIENT, T.CONNECT), (SERVER, T.CONNACK)],
    Phase.CONNECTED_WITH_METHOD: [(CLIENT, T.CONNECT_WITH_METHOD), (SERVER, T.CONNACK)],
    Phase.REAUTHENTICATING: [
        (CLIENT, T.CONNECT_WITH_METHOD),
        (SERVER, T.AUTH_CONTINUE),
        (CLIENT, T.AUTH_CONTINUE),
        (SERVER, T.CONNACK),
        (CLIENT, T.AUTH_REAUTHENTICATE),
    ],
    Phase.RECHALLENGED: [
        (CLIENT, T.CONNECT_WITH_METHOD),
        (SERVER, T.CONNACK),
        (CLIENT, T.AUTH_REAUTHENTICATE),
        (SERVER, T.AUTH_CONTINUE),
    ],
    Phase.CLOSED: [(CLIENT, T.CONNECT), (SERVER, T.CONNACK), (CLIENT, T.DISCONNECT)],
}
CELLS = [(phase, sender, kind) for phase in Phase for sender in Role for kind in Trigger]
PAUSED = (Phase.CONNECTING, Phase.AUTHENTICATING)
CONNECTED = (Phase.CONNECTED, Phase.CONNECTED_WITH_METHOD, Phase.REAUTHENTICATING, Phase.RECHALLENGED)


def sample(kind: Trigger, phase: Phase, version: int = V5) -> p.Packet:
    """A packet for a cell; CONNACK names the method of the CONNECT that leads to `phase`."""
    if version == V311 and kind is T.CONNECT:
        return p.Connect(protocol_version=V311)
    if kind is T.CONNACK and phase not in (Phase.START, Phase.CONNECTING, Phase.CONNECTED, Phase.CLOSED):
        return p.ConnAck(authentication_method="m")
    return SAMPLES[kind]


def at(phase: Phase, role: Role, version: int = V5) -> Connection:
    """A connection in `role` that has come to `phase`, its output taken and its events read."""
    connection = Connection(role, Limits(), 0.0)
    for sender, kind in PATHS[phase]:
        packet = sample(kind, phase, version)
        if sender is role:
            connection.send(packet, 0.0)
        else:
            assert tell(connection, packet)[0] == packet
    events(connection)
    connection.take_output()
    assert connection.phase is phase
    return connection


def permitted(phase: Phase, sender: Role, kind: Trigger) -> bool:
    return kind in PERMITTED[phase][sender is SERVER]


@pytest.mark.conformance(
    "MQTT-3.1.0-1",
    "MQTT-3.1.0-2",
    "MQTT-3.1.2-30",
    "MQTT-3.2.0-1",
    "MQTT-3.2.0-2",
    "MQTT-3.14.0-1",
    "MQTT-3.14.4-1",
    "MQTT-4.12.0-2",
    "MQTT-4.12.0-3",
    "MQTT-4.12.0-7",
)
@pytest.mark.parametrize("phase", Phase)
def test_the_table_lists_what_the_specification_permits(phase: Phase) -> None:
    for sender in Role:
        listed = {kind for before, by, kind in TRANSITIONS if before is phase and by is sender}
        assert listed == PERMITTED[phase][sender is SERVER]


@pytest.mark.conformance("MQTT-3.2.2-7", "MQTT-3.14.4-2")
def test_every_packet_of_success_leads_on() -> None:
    after = {key: phase for key, phase in TRANSITIONS.items() if phase is not key[0]}
    ends = {kind for (_, _, kind), phase in after.items() if phase is Phase.CLOSED}
    assert ends == {T.DISCONNECT, T.CONNACK_REFUSED}
    for phase in PATHS:
        assert at(phase, CLIENT).phase is phase
        assert at(phase, SERVER).phase is phase


@pytest.mark.parametrize(("phase", "sender", "kind"), CELLS)
def test_what_a_peer_sends(phase: Phase, sender: Role, kind: Trigger) -> None:
    connection = at(phase, sender.peer)
    packet = sample(kind, phase)
    found = tell(connection, packet)
    output = packets_in(connection.take_output())
    if phase is Phase.CLOSED:
        assert (found, output, len(connection.frames)) == ([], [], 0)
    elif sender is CLIENT and phase in PAUSED:
        assert (found, output) == ([], [])  # it is not read before the verdict on the CONNECT
        assert connection.phase is phase
    elif permitted(phase, sender, kind):
        assert output == []
        assert found[0] == packet
        assert connection.phase is TRANSITIONS[phase, sender, kind]
        assert len(found) == 1 + (connection.phase is Phase.CLOSED)
    else:
        assert [type(event) for event in found] == [ConnectionClosed]
        assert [type(word) for word in output] == last_word(phase, sender)
        for word in output:
            assert isinstance(word, p.Disconnect | p.ConnAck)
            assert word.reason_code is ReasonCode.PROTOCOL_ERROR
        assert connection.phase is Phase.CLOSED


def last_word(phase: Phase, offender: Role) -> list[type]:
    """How one that has been told something out of place takes its leave. [MQTT-4.13.1-1]"""
    if phase in CONNECTED:
        return [p.Disconnect]
    return [p.ConnAck] if phase is Phase.CHALLENGED and offender is CLIENT else []


@pytest.mark.parametrize(("phase", "sender", "kind"), CELLS)
def test_what_this_side_sends(phase: Phase, sender: Role, kind: Trigger) -> None:
    connection = at(phase, sender)
    packet = sample(kind, phase)
    if permitted(phase, sender, kind):
        connection.send(packet, 0.0)
        assert connection.take_output() == encode(packet)
        assert connection.phase is TRANSITIONS[phase, sender, kind]
    else:
        with pytest.raises(LocalProtocolError):
            connection.send(packet, 0.0)
        assert connection.take_output() == b""
        assert connection.phase is phase


AUTHS = (T.AUTH_SUCCESS, T.AUTH_CONTINUE, T.AUTH_REAUTHENTICATE)
NO_METHOD = (Phase.START, Phase.CONNECTING, Phase.CONNECTED, Phase.CLOSED)


@pytest.mark.parametrize(
    ("phase", "sender", "kind"),
    [cell for cell in CELLS if cell[0] in NO_METHOD and cell[2] not in (*AUTHS, T.CONNECT_WITH_METHOD)],
)
def test_what_a_peer_sends_in_mqtt_3_1_1(phase: Phase, sender: Role, kind: Trigger) -> None:
    connection = at(phase, sender.peer, V311)
    found = tell(connection, sample(kind, phase, V311))
    assert connection.take_output() == b""  # it has no packet that names an error
    if phase is Phase.CLOSED or (sender is CLIENT and phase is Phase.CONNECTING):
        assert found == []
    elif permitted(phase, sender, kind) and (sender, kind) != (SERVER, T.DISCONNECT):
        assert trigger(found[0]) is kind  # type: ignore[arg-type]
    else:
        assert [type(event) for event in found] == [ConnectionClosed]


@pytest.mark.parametrize("role", Role)
def test_mqtt_3_1_1_has_no_auth(role: Role) -> None:
    connection = at(Phase.CONNECTED, role, V311)
    with pytest.raises(LocalProtocolError):
        connection.send(SAMPLES[T.AUTH_CONTINUE], 0.0)
    connection.receive(encode(SAMPLES[T.AUTH_CONTINUE]), 0.0)
    [closed] = events(connection)
    assert isinstance(closed, ConnectionClosed)
    assert closed.reason_code is ReasonCode.MALFORMED_PACKET
    assert connection.take_output() == b""


@pytest.mark.conformance("MQTT-3.15.2-1")
def test_auth_has_three_reason_codes() -> None:
    connection = at(Phase.CONNECTED_WITH_METHOD, SERVER)
    with pytest.raises(LocalProtocolError):
        connection.send(p.Auth(ReasonCode.NOT_AUTHORIZED, authentication_method="m"), 0.0)
