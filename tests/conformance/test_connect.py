"""Sections 3.1 and 3.2 of MQTT 5.0: what CONNECT has to hold, and who is refused how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttcore import (
    V5,
    V311,
    Auth,
    ConnAck,
    Connect,
    LocalProtocolError,
    MalformedPacket,
    PingReq,
    PingResp,
    Publish,
    ReasonCode,
    Subscribe,
    Will,
)
from mqttcore.auth import Authentication, AuthRequest, Denied
from mqttcore.client import Client
from mqttcore.codec import decode, encode
from mqttcore.wire import write_binary
from tests.mqttcore.broker.support import Network, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


@pytest.mark.conformance("MQTT-3.1.3-3", "MQTT-3.1.3-1")
@VERSIONS
@given(
    client_id=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    will=st.none() | st.just(Will(topic="will/topic", payload=b"will payload")),
    username=st.none() | st.just("user name"),
    password=st.none() | st.just(b"pass word"),
)
def test_the_fields_of_the_payload_stand_in_their_order(
    version: int, client_id: str, will: Will | None, username: str | None, password: bytes | None
) -> None:
    if version == V311 and username is None:
        password = None
    connect = Connect(
        client_id=client_id, will=will, username=username, password=password, protocol_version=version, keep_alive=7
    )
    fields = [client_id.encode()]
    if will is not None:
        fields += [will.topic.encode(), will.payload]
    fields += [item for item in (username and username.encode(), password) if item]
    payload = b"".join(map(write_binary, fields))
    if version == V5 and will is not None:
        first = write_binary(client_id.encode())
        payload = first + b"\0" + payload[len(first) :]  # Will Properties
    data = encode(connect)
    assert data.endswith(b"\0\7" + b"\0" * (version == V5) + payload)
    assert decode(data[0], data[2:], V5) == connect


@pytest.mark.conformance("MQTT-3.1.3-3")
@pytest.mark.parametrize("body", [b"\0\4MQTT\5\2\0\0\0", b"\0\4MQTT\4\2\0\0", b"\0\4MQTT\5\2\0\0\0\0"])
def test_a_connect_without_client_identifier_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode(0x10, body, V5)


def refuses_the_identifier(request: AuthRequest) -> Authentication:
    return Denied("no such device", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)
    yield


@pytest.mark.conformance("MQTT-3.1.3-8", "MQTT-3.2.2-7")
def test_a_client_identifier_that_is_refused_in_version_5() -> None:
    net = Network()
    peer = net.peer(net.policy_with(refuses_the_identifier))
    peer.send(Connect(client_id="a"))
    assert peer.expect(ConnAck).reason_code is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    assert peer.closed
    assert not net.broker.sessions


@pytest.mark.conformance("MQTT3-3.1.3-9")
def test_a_client_identifier_that_is_refused_in_version_4() -> None:
    net = Network()
    peer = net.peer(net.policy_with(refuses_the_identifier))
    peer.reading = False
    peer.send(Connect(client_id="a", protocol_version=V311))
    assert peer.closed
    assert net.broker.take_output(peer.link, net.now) == b"\x20\x02\x00\x02"


@pytest.mark.conformance("MQTT-3.1.3-2", "MQTT-3.1.2-5")
def test_sessions_are_told_apart_by_their_client_identifiers() -> None:
    net = Network()
    names = ["a", "A", "a ", "á", "a\u0301"]
    for name in names:
        peer = net.connect(name, session_expiry_interval=100)
        peer.subscribe(f"to/{names.index(name)}")
        peer.cut()
    for number, name in enumerate(names):
        net.publish(f"to/{number}", name.encode(), qos=1)
    for name in names:
        assert net.resume(name, session_expiry_interval=100).payloads() == [name.encode()]


@pytest.mark.conformance("MQTT-4.1.0-1")
@pytest.mark.parametrize("before", [None, 5])
@pytest.mark.parametrize("interval", [0, 5])
def test_the_session_stays_while_the_connection_is_open(before: int | None, interval: int) -> None:
    net = Network()
    if before is not None:  # whose session was about to end
        net.connect("a", session_expiry_interval=before).cut()
        net.advance(before - 1)
    peer = net.connect("a", clean_start=False, session_expiry_interval=interval)
    assert peer.connack.session_present is (before is not None)
    peer.send(Publish("t", qos=2, packet_id=9))
    peer.subscribe("mine")
    net.advance(1_000_000)
    net.publish("mine", b"x", qos=1)
    assert peer.payloads() == [b"x"]
    assert net.broker.sessions["a"].unreleased == {9}


@pytest.mark.conformance("MQTT-3.1.2-23")
@pytest.mark.parametrize("earlier", [1, 50, 0xFFFF_FFFF])
@pytest.mark.parametrize(("interval", "lives"), [(1, 0.9), (100, 99.9), (0xFFFF_FFFF, 1e9)])
def test_the_session_outlives_the_connection_by_the_interval_of_that_connection(
    earlier: int, interval: int, lives: float
) -> None:
    net = Network()
    net.connect("a", session_expiry_interval=earlier).cut()
    net.advance(0.5)
    net.resume("a", session_expiry_interval=interval).cut()
    net.advance(lives)
    assert net.connect("a", clean_start=False).connack.session_present


@pytest.mark.conformance("MQTT-3.1.4-6")
def test_nothing_that_follows_a_refused_connect_is_done() -> None:
    net = Network(maximum_qos=0)
    watcher = net.connect("watcher")
    watcher.subscribe("#")
    peer = net.peer()
    peer.send(
        Connect(client_id="a", will=Will(topic="w", qos=1)),
        Subscribe(1, (subscription("t"),)),
        Publish("t", b"early", retain=True),
    )
    assert [type(packet) for packet in peer.received] == [ConnAck]
    assert peer.closed
    peer.send(Publish("t", b"late"))
    assert not watcher.received
    assert not len(net.broker._distributor.retained)


@pytest.mark.conformance("MQTT-3.2.2-6", "MQTT-3.2.2-7")
@VERSIONS
def test_a_refusal_says_that_no_session_is_present(version: int) -> None:
    net = Network(maximum_qos=0)
    interval = 100 if version == V5 else None
    net.connect("a", clean_start=False, session_expiry_interval=interval, protocol_version=version).cut()
    peer = net.peer()
    peer.send(Connect(client_id="a", clean_start=False, will=Will(topic="w", qos=1), protocol_version=version))
    connack = peer.expect(ConnAck)
    assert connack.reason_code.is_failure
    assert not connack.session_present
    assert peer.closed
    assert "a" in net.broker.sessions


@pytest.mark.conformance("MQTT-3.1.4-5")
@VERSIONS
@pytest.mark.parametrize("clean_start", [True, False])
def test_an_accepted_connect_is_answered_by_connack_of_success(version: int, clean_start: bool) -> None:
    peer = Network().peer()
    peer.send(Connect(client_id="a", clean_start=clean_start, protocol_version=version))
    assert peer.expect(ConnAck).reason_code is ReasonCode.SUCCESS
    assert peer.closed is None


@pytest.mark.conformance("MQTT-3.12.4-1")
@VERSIONS
def test_every_pingreq_is_answered(version: int) -> None:
    peer = Network().connect("a", protocol_version=version)
    peer.send(PingReq(), PingReq())
    assert peer.take(PingResp) == [PingResp(), PingResp()]


@pytest.mark.conformance("MQTT-3.14.0-1", "MQTT-3.2.0-1")
@pytest.mark.parametrize("after", [b"", b"\x10", b"\xe0\0", b"\x10\x05\0\4MQT"])
def test_there_is_no_disconnect_before_connack(after: bytes) -> None:
    net = Network(connect_timeout=5)
    peer = net.peer()
    peer.send_bytes(after)
    net.advance(5)
    assert peer.closed
    assert not peer.received
    other = net.peer()
    net.broker.shutdown(net.now)
    net.settle()
    assert other.closed
    assert not other.received


@pytest.mark.conformance("MQTT-4.12.0-7")
def test_a_client_without_a_method_has_nothing_to_authenticate_with() -> None:
    client = Client(Connect(client_id="c"), 0.0)
    client.receive(encode(ConnAck()), 0.0)
    assert client.next_event() == ConnAck()
    client.take_output()
    for call in (client.authenticate, client.reauthenticate):
        with pytest.raises(LocalProtocolError, match="CONNECT named no Authentication Method"):
            call(b"x", 0.0)
    for code in (ReasonCode.CONTINUE_AUTHENTICATION, ReasonCode.RE_AUTHENTICATE):
        with pytest.raises(LocalProtocolError):
            client.connection.send(Auth(code, authentication_method="m"), 0.0)
    assert client.take_output() == b""
