"""A connection in the client's role: CONNECT, CONNACK, authentication, and what a server may not say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.states import CLIENT, Phase
from mqttcore.testing import strategies
from tests.mqttcore.support import Hostile, client, converse, events, sent, streams, tell


def opened(connect: p.Connect | None = None) -> Connection:
    """A client's connection that has sent its CONNECT."""
    connection = Connection(CLIENT, Limits(), 0.0)
    connection.send(connect or p.Connect(), 0.0)
    connection.take_output()
    return connection


def refused(connection: Connection, *packets: p.Packet) -> ReasonCode:
    """With which reason code the connection ends because of `packets`."""
    *_, closed = tell(connection, *packets)
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "us"
    return closed.reason_code


@pytest.mark.conformance("MQTT-3.2.2-7", "MQTT-4.13.2-1", "MQTT-3.2.2-8")
@pytest.mark.parametrize("code", [code for code in ReasonCode if code.is_failure])
def test_a_refusal_ends_the_connection(code: ReasonCode) -> None:
    connection = opened()
    data = bytes((0x20, 3, 0, code, 0))
    connection.receive(data, 0.0)
    found = events(connection)
    assert connection.phase is Phase.CLOSED
    assert connection.take_output() == b""
    if len(found) == 2:
        assert found == [
            p.ConnAck(reason_code=code),
            ConnectionClosed(code, f"CONNACK 0x{code:02X} from the peer", "peer"),
        ]
    else:  # no reason code of CONNACK
        [closed] = found
        assert isinstance(closed, ConnectionClosed)
        assert closed.reason_code is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("clean_start", [True, False])
@pytest.mark.parametrize("present", [True, False])
def test_session_present(version: int, clean_start: bool, present: bool) -> None:
    connection = opened(p.Connect(client_id="c", clean_start=clean_start, protocol_version=version))
    connack = p.ConnAck(session_present=present)
    if clean_start and present:
        assert refused(connection, connack) is ReasonCode.PROTOCOL_ERROR
    else:
        assert tell(connection, connack) == [connack]


@pytest.mark.conformance("MQTT-4.12.0-5", "MQTT-4.12.0-6")
@pytest.mark.parametrize("ours", [None, "m"])
@pytest.mark.parametrize("theirs", [None, "m", "other"])
def test_connack_names_the_method_of_the_connect(ours: str | None, theirs: str | None) -> None:
    connection = opened(p.Connect(authentication_method=ours))
    connack = p.ConnAck(authentication_method=theirs)
    if ours == theirs:
        assert tell(connection, connack) == [connack]
    else:
        assert refused(connection, connack) is ReasonCode.PROTOCOL_ERROR


def test_mqtt_3_1_1_cannot_ask_for_a_method() -> None:
    connection = Connection(CLIENT, Limits(), 0.0)
    with pytest.raises(LocalProtocolError):
        connection.send(p.Connect(protocol_version=V311, authentication_method="m"), 0.0)
    assert (connection.phase, connection.take_output()) == (Phase.START, b"")


def test_what_mqtt_3_1_1_cannot_announce_does_not_hold() -> None:
    connect = p.Connect(protocol_version=V311, receive_maximum=1, topic_alias_maximum=1)
    connection = client(connect)
    publishes = [p.Publish("t", qos=1, packet_id=packet_id) for packet_id in (1, 2, 3)]
    assert tell(connection, *publishes) == publishes


def auth(code: ReasonCode = ReasonCode.CONTINUE_AUTHENTICATION, method: str = "m") -> p.Auth:
    return p.Auth(code, authentication_method=method, authentication_data=b"data")


METHOD = p.Connect(authentication_method="m")


@pytest.mark.conformance("MQTT-4.12.0-3")
def test_enhanced_authentication() -> None:
    connection = opened(METHOD)
    for _ in range(2):
        assert tell(connection, auth()) == [auth()]
        connection.send(auth(), 0.0)
        assert sent(connection) == [auth()]
    connack = p.ConnAck(authentication_method="m", authentication_data=b"proof")
    assert tell(connection, connack) == [connack]
    assert connection.connected


@pytest.mark.conformance("MQTT-4.12.0-4")
def test_the_server_may_refuse_without_an_answer_to_its_challenge() -> None:
    connection = opened(METHOD)
    tell(connection, auth())
    refusal = p.ConnAck(reason_code=ReasonCode.NOT_AUTHORIZED)
    assert tell(connection, refusal)[0] == refusal


@pytest.mark.conformance("MQTT-4.12.0-5", "MQTT-4.12.1-1")
@pytest.mark.parametrize("method", ["other", None])
def test_auth_names_the_method(method: str | None) -> None:
    connection = opened(METHOD)
    tell(connection, auth())
    with pytest.raises(LocalProtocolError):
        connection.send(p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method=method), 0.0)
    other = client(METHOD)
    with pytest.raises(LocalProtocolError):
        other.send(p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method=method), 0.0)
    assert connection.take_output() == other.take_output() == b""


def test_a_challenge_for_another_method() -> None:
    connection = opened(METHOD)
    assert refused(connection, auth(method="other")) is ReasonCode.PROTOCOL_ERROR
    assert connection.take_output() == b""  # no DISCONNECT: the server has not accepted anything yet


def test_traffic_flows_during_re_authentication() -> None:
    connection = client(METHOD)
    connection.send(auth(ReasonCode.RE_AUTHENTICATE), 0.0)
    connection.send(p.PingReq(), 0.0)
    flow: list[p.Packet] = [p.PingResp(), p.Publish("t"), auth()]
    assert tell(connection, *flow) == flow
    connection.send(p.Publish("t"), 0.0)
    connection.send(auth(), 0.0)
    assert tell(connection, p.Auth(authentication_method="m")) == [p.Auth(authentication_method="m")]
    assert connection.phase is Phase.CONNECTED_WITH_METHOD


def test_an_auth_that_is_all_defaults_ends_a_re_authentication() -> None:
    connection = client(METHOD)
    connection.send(auth(ReasonCode.RE_AUTHENTICATE), 0.0)
    assert tell(connection, p.Auth()) == [p.Auth()]
    assert connection.phase is Phase.CONNECTED_WITH_METHOD


@pytest.mark.conformance("MQTT-4.12.1-2")
def test_the_server_ends_a_re_authentication_that_fails() -> None:
    connection = client(METHOD)
    connection.send(auth(ReasonCode.RE_AUTHENTICATE), 0.0)
    word = p.Disconnect(ReasonCode.NOT_AUTHORIZED)
    assert tell(connection, word) == [
        word,
        ConnectionClosed(ReasonCode.NOT_AUTHORIZED, "DISCONNECT 0x87 from the peer", "peer"),
    ]


@pytest.mark.conformance("MQTT-3.14.2-2")
@pytest.mark.parametrize("interval", [0, 9])
def test_the_server_has_no_session_expiry_interval_in_disconnect(interval: int) -> None:
    connection = client(p.Connect(session_expiry_interval=9))
    assert refused(connection, p.Disconnect(session_expiry_interval=interval)) is ReasonCode.PROTOCOL_ERROR
    [word] = sent(connection)
    assert isinstance(word, p.Disconnect)
    assert word.reason_code is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize("before", [None, 0, 9])
@pytest.mark.parametrize("after", [None, 0, 9])
def test_disconnect_does_not_bring_a_session_expiry_interval_to_life(before: int | None, after: int | None) -> None:
    connection = client(p.Connect(session_expiry_interval=before))
    packet = p.Disconnect(session_expiry_interval=after)
    if after and not before:
        with pytest.raises(LocalProtocolError):
            connection.send(packet, 0.0)
        assert connection.connected
    else:
        connection.send(packet, 0.0)
        assert connection.take_output() == encode(packet)


def test_what_is_sent_before_connack_goes_out() -> None:
    connection = Connection(CLIENT, Limits(), 0.0)
    early: list[p.Packet] = [p.Connect(), p.Subscribe(1, (p.Subscription("t"),)), p.Publish("t"), p.Disconnect()]
    for packet in early:
        connection.send(packet, 0.0)
    assert sent(connection) == early


@pytest.mark.conformance("MQTT-3.14.4-1", "MQTT-3.14.4-2")
def test_after_disconnect_nothing_is_sent_or_read() -> None:
    connection = client()
    connection.send(p.Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE), 0.0)
    with pytest.raises(LocalProtocolError):
        connection.send(p.Publish("t"), 0.0)
    assert connection.take_output() == b"\xe0\x01\x04"
    closed = ConnectionClosed(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, "DISCONNECT 0x04 was sent", "us")
    assert tell(connection, p.Publish("t")) == [closed]


def test_the_end_of_the_stream_comes_after_what_came_before_it() -> None:
    connection = client()
    connection.receive(encode(p.Publish("t")) + b"\x30", 0.0)
    connection.receive_eof(0.0)
    publish, closed = events(connection)
    assert publish == p.Publish("t")
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "eof"
    connection.receive_eof(1.0)
    assert events(connection) == []


@given(data=st.data(), version=st.sampled_from([V311, V5]), method=st.sampled_from([None, "m"]))
@settings(max_examples=70)
def test_events_and_output_do_not_depend_on_the_chunks(data: st.DataObject, version: int, method: str | None) -> None:
    connect = p.Connect(protocol_version=version, authentication_method=method if version == V5 else None)
    stream = data.draw(streams(CLIENT, version))
    whole = converse(opened(connect), [stream])
    assert converse(opened(connect), data.draw(strategies.chunks(stream))) == whole
    assert isinstance(whole[0][-1], ConnectionClosed)


@given(stream=st.binary(max_size=60), connected=st.booleans())
def test_any_bytes_at_all(stream: bytes, connected: bool) -> None:
    found, _ = converse(client(METHOD) if connected else opened(METHOD), [stream])
    assert isinstance(found[-1], ConnectionClosed)


class HostileServer(Hostile):
    role = CLIENT


TestHostileServer = HostileServer.TestCase
TestHostileServer.settings = settings(max_examples=50, stateful_step_count=20)
