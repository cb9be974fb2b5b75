"""Why a connection ends or does not send, in words: for the log, and for the peer where the protocol has room."""

from collections.abc import Callable

import pytest

from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import V311, ReasonCode
from mqttcore.connection import FRAME_MAXIMUM, Connection
from mqttcore.errors import LocalProtocolError, ProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.states import CLIENT, SERVER
from tests.mqttcore.support import client, events, sent, server, server_with, tell

Opened = Callable[[], Connection]

METHOD = p.Connect(authentication_method="m")
OTHER_METHOD = p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="other")
QOS_1 = p.Publish("t", qos=1, packet_id=1)
QOS_2 = p.Publish("t", qos=2, packet_id=2)


def connecting(connect: p.Connect | None = None) -> Connection:
    """A client's connection that waits for CONNACK."""
    connection = Connection(CLIENT, Limits(connect_timeout=7.5), 0.0)
    connection.send(connect or p.Connect(), 0.0)
    connection.take_output()
    return connection


def reason(connection: Connection) -> str:
    """What ended the connection."""
    *_, closed = events(connection)
    assert isinstance(closed, ConnectionClosed)
    return closed.reason


@pytest.mark.parametrize(
    ("opened", "packets", "expected"),
    [
        (lambda: server(), [p.Connect()], "CONNECT is not permitted here (the connection is connected)"),
        (lambda: connecting(), [p.PingResp()], "PINGRESP is not permitted here (the connection is connecting)"),
        (
            lambda: connecting(METHOD), [p.ConnAck()],
            "CONNACK names another Authentication Method than CONNECT",
        ),
        (
            lambda: connecting(), [p.ConnAck(session_present=True)],
            "CONNACK says that a session is present after Clean Start 1",
        ),
        (
            lambda: client(p.Connect(protocol_version=V311)), [p.Disconnect()],
            "a server of MQTT 3.1.1 sends no DISCONNECT",
        ),
        (
            lambda: client(), [p.Disconnect(session_expiry_interval=0)],
            "DISCONNECT from the server has a Session Expiry Interval",
        ),
        (
            lambda: server(), [p.Disconnect(session_expiry_interval=1)],
            "DISCONNECT sets a Session Expiry Interval that CONNECT left at 0",
        ),
        (lambda: server(METHOD), [OTHER_METHOD], "AUTH names another Authentication Method than CONNECT"),
        (lambda: server(limits=Limits(maximum_qos=1)), [QOS_2], "QoS 2 is not supported"),
        (
            lambda: server(limits=Limits(retain_available=False)), [p.Publish("t", retain=True)],
            "retained messages are not supported",
        ),
        (
            lambda: server(), [p.Publish("t", subscription_identifiers=(1,))],
            "PUBLISH to a server has a Subscription Identifier",
        ),
        (lambda: server(), [p.Publish("t", topic_alias=2)], "Topic Alias 2 is above the maximum of 0"),
        (
            lambda: server(connack=p.ConnAck(topic_alias_maximum=3)), [p.Publish("", topic_alias=3)],
            "Topic Alias 3 has not been set on this connection",
        ),
        (
            lambda: server(connack=p.ConnAck(receive_maximum=1)), [QOS_1, QOS_2],
            "more than 1 messages are unacknowledged",
        ),
        (
            lambda: server(connack=p.ConnAck(maximum_packet_size=100)), [p.Publish("t", bytes(100))],
            "a packet of 106 bytes is over the limit of 100",
        ),
        (lambda: server(), [p.Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)], "DISCONNECT 0x04 from the peer"),
    ],
)  # fmt: skip
def test_what_the_peer_sends(opened: Opened, packets: list[p.Packet], expected: str) -> None:
    connection = opened()
    connection.receive(b"".join(encode(packet, connection.version) for packet in packets), 0.0)
    assert reason(connection) == expected
    for word in sent(connection):  # it is not told to a server that has not answered, nor in MQTT 3.1.1
        assert isinstance(word, p.Disconnect)
        assert word.reason_string == expected


@pytest.mark.parametrize(
    ("limits", "packets", "expected"),
    [
        (Limits(), [p.Publish("t")], "the first packet is not CONNECT"),
        (Limits(), [METHOD, p.Publish("t", bytes(600_000))], "too much was sent before CONNACK"),
        (
            Limits(maximum_connect_size=128), [p.Connect(client_id="c" * 128)],
            "a packet of 144 bytes is over the limit of 128",
        ),
    ],
)  # fmt: skip
def test_what_a_client_sends_first(limits: Limits, packets: list[p.Packet], expected: str) -> None:
    connection = Connection(SERVER, limits, 0.0)
    connection.receive(b"".join(encode(packet) for packet in packets), 0.0)
    assert reason(connection) == expected
    for word in sent(connection):  # to who speaks MQTT 5.0
        assert isinstance(word, p.ConnAck)
        assert word.reason_string == expected


def test_the_end_of_the_stream() -> None:
    connection = server()
    connection.receive_eof(0.0)
    [closed] = events(connection)
    text = "the peer closed the connection without DISCONNECT"
    assert closed == ConnectionClosed(ReasonCode.UNSPECIFIED_ERROR, text, "eof")


@pytest.mark.parametrize(
    ("opened", "now", "expected"),
    [
        (lambda: Connection(SERVER, Limits(connect_timeout=7.5), 0.0), 7.5, "no CONNECT within 7.5 seconds"),
        (lambda: connecting(), 7.5, "no CONNACK within 7.5 seconds"),
        (
            lambda: server(p.Connect(keep_alive=10)), 15.0,
            "nothing was received for 1.5 times the Keep Alive of 10 seconds",
        ),
        (
            lambda: server(p.Connect(keep_alive=10, protocol_version=V311)), 15.0,
            "nothing was received for 1.5 times the Keep Alive of 10 seconds",
        ),
    ],
)  # fmt: skip
def test_silence(opened: Opened, now: float, expected: str) -> None:
    connection = opened()
    connection.handle_timeout(now)
    assert reason(connection) == expected
    for word in sent(connection):
        assert isinstance(word, p.Disconnect)
        assert word.reason_string == expected


def test_no_pingresp() -> None:
    connection = client(p.Connect(keep_alive=20))
    connection.handle_timeout(15.0)
    connection.handle_timeout(35.0)
    assert reason(connection) == "the server did not answer PINGREQ"


@pytest.mark.parametrize(
    ("opened", "packet", "expected"),
    [
        (lambda: connecting(), p.Connect(), "CONNECT cannot be sent now (the connection is connecting)"),
        (
            lambda: Connection(CLIENT, Limits(), 0.0), p.Connect(protocol_version=V311, authentication_method="m"),
            "MQTT 3.1.1 has no Authentication Method",
        ),
        (
            lambda: Connection(CLIENT, Limits(), 0.0), p.Connect(protocol_version=V311, clean_start=False),
            "MQTT 3.1.1 has no lasting session without a client identifier",
        ),
        (
            lambda: server(), p.Disconnect(session_expiry_interval=0),
            "DISCONNECT from a server has no Session Expiry Interval",
        ),
        (
            lambda: client(), p.Disconnect(session_expiry_interval=1),
            "DISCONNECT cannot set a Session Expiry Interval that CONNECT left at 0",
        ),
        (
            lambda: server_with(METHOD), p.ConnAck(),
            "CONNACK names the Authentication Method of CONNECT, or none if that has none",
        ),
        (
            lambda: client(connack=p.ConnAck(maximum_packet_size=10)), p.Publish("t", bytes(10)),
            "PUBLISH of 16 bytes is over the peer's limit of 10",
        ),
        (lambda: client(connack=p.ConnAck(maximum_qos=1)), QOS_2, "the server accepts no QoS above 1"),
        (
            lambda: client(connack=p.ConnAck(retain_available=False)), p.Publish("t", retain=True),
            "the server accepts no retained messages",
        ),
        (
            lambda: client(), p.Publish("t", subscription_identifiers=(1,)),
            "a PUBLISH from a client has no Subscription Identifier",
        ),
        (lambda: client(), p.Publish("t", topic_alias=2), "Topic Alias 2 is above the peer's maximum of 0"),
        (
            lambda: client(connack=p.ConnAck(topic_alias_maximum=1)), p.Publish("", topic_alias=1),
            "Topic Alias 1 has not been set",
        ),
    ],
)  # fmt: skip
def test_what_is_not_sent(opened: Opened, packet: p.Packet, expected: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        opened().send(packet, 0.0)
    assert str(caught.value) == expected
    assert (caught.value.reason_code is ReasonCode.TOPIC_ALIAS_INVALID) == ("Topic Alias" in expected)


def test_a_refusal_says_why_in_connack() -> None:
    connection = server_with(p.Connect())
    connection.fail(ProtocolError("why", ReasonCode.BANNED))
    assert sent(connection) == [p.ConnAck(reason_code=ReasonCode.BANNED, reason_string="why")]


def test_what_holds_when_the_peers_say_nothing_about_it() -> None:
    """Sections 3.1.2.11 and 3.2.2.3."""
    old = p.Connect(protocol_version=V311)
    for connection in (server(), client(), server(old), client(old), Connection(SERVER, Limits(), 0.0)):
        assert (connection.receive_maximum, connection.peer_receive_maximum) == (65_535, 65_535)
        assert (connection.topic_alias_maximum, connection.peer_topic_alias_maximum) == (0, 0)
        assert connection.peer_maximum_packet_size == FRAME_MAXIMUM
        assert connection.keep_alive == 0
        assert connection.problem_information


def test_a_connection_keeps_no_secrets() -> None:
    connect = p.Connect(
        username="u",
        password=b"secret",
        authentication_method="m",
        authentication_data=b"secret",
        will=p.Will(topic="t", payload=b"large"),
    )
    ours = connecting(connect)
    for connection in (server_with(connect), ours):
        held = [getattr(connection, name) for name in dir(connection)]
        assert "m" in held
        assert connect not in held
        assert connect.password not in held
        assert connect.will not in held
    assert tell(ours, p.ConnAck(authentication_method="m")) == [p.ConnAck(authentication_method="m")]
