"""MQTT 3.1.1 where it asks for something else than MQTT 5.0 does. Version 4 is its protocol level."""

from collections.abc import Callable

import pytest

from mqttcore import (
    V5,
    V311,
    ConnAck,
    Connect,
    Limits,
    LocalProtocolError,
    MalformedPacket,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Will,
)
from mqttcore.auth import Action, Principal
from mqttcore.client import Client
from mqttcore.codec import decode, encode, frame
from mqttcore.connection import Connection
from mqttcore.states import CLIENT
from mqttcore.wire import write_binary
from tests.mqttcore.broker.support import Network, Peer, subscription

QOS = pytest.mark.parametrize("qos", [0, 1, 2])


def lasting(net: Network, client_id: str = "a") -> Peer:
    """A client with Clean Session 0."""
    return net.connect(client_id, clean_start=False, protocol_version=V311)


@pytest.mark.conformance("MQTT3-3.1.2-2")
@pytest.mark.parametrize("protocol", [b"\0\4MQTT\0", b"\0\4MQTT\3", b"\0\6MQIsdp\3"])
@pytest.mark.parametrize("size", [1, 1000])
def test_an_unsupported_level_is_answered_by_connack_1_even_if_the_packet_is_too_large(
    protocol: bytes, size: int
) -> None:
    net = Network(maximum_connect_size=128)
    peer = net.peer()
    peer.reading = False
    peer.send_bytes(frame(0x10, protocol + b"\2\0\0" + write_binary(b"a" * size)))
    assert peer.closed
    assert net.broker.take_output(peer.link, net.now) == b"\x20\2\0\1"


@pytest.mark.conformance("MQTT3-3.1.2-7")
@pytest.mark.parametrize("ending", [Peer.cut, Peer.disconnect, lambda peer: peer.network.connect("a")])
def test_retained_messages_outlive_the_session(ending: Callable[[Peer], object]) -> None:
    net = Network()
    peer = net.connect("a", clean_start=True, protocol_version=V311)
    peer.publish("t", b"x", 1, retain=True)
    session = net.broker.sessions["a"]
    ending(peer)
    assert net.broker.sessions.get("a") is not session
    other = net.connect("b", protocol_version=V311)
    other.subscribe("t")
    assert other.payloads() == [b"x"]


@pytest.mark.conformance("MQTT3-3.1.2-5")
@pytest.mark.parametrize("ending", [Peer.cut, Peer.disconnect])
def test_qos_1_and_2_wait_for_a_client_that_is_away(ending: Callable[[Peer], object]) -> None:
    net = Network()
    peer = lasting(net)
    peer.subscribe("t/+")
    ending(peer)
    for qos in range(3):
        net.publish("t/x", b"%d" % qos, qos=qos)
    net.publish("other", b"3", qos=1)
    net.advance(1e9)
    assert net.resume("a", protocol_version=V311).messages() == [("t/x", b"1", 1), ("t/x", b"2", 2)]


@pytest.mark.conformance("MQTT3-3.1.2-6")
def test_a_clean_session_takes_nothing_over_and_leaves_nothing() -> None:
    net = Network()
    first = lasting(net)
    first.auto = False
    first.subscribe("t")
    net.publish("t", b"1", qos=1)
    first.cut()
    clean = net.connect("a", clean_start=True, protocol_version=V311)
    net.publish("t", b"2", qos=1)
    assert not clean.received
    clean.subscribe("t")
    clean.cut()
    assert not net.broker.sessions
    assert not lasting(net).connack.session_present


@pytest.mark.conformance("MQTT3-3.1.2-22")
def test_a_password_needs_a_user_name() -> None:
    body = b"\0\4MQTT\4\x42\0\0\0\1a\0\1p"
    with pytest.raises(MalformedPacket):
        decode(0x10, body, V311)
    peer = Network().peer()
    peer.send_bytes(bytes((0x10, len(body))) + body)
    assert peer.ended() is None
    connect = Connect(client_id="a", password=b"p", protocol_version=V311)
    with pytest.raises(LocalProtocolError):
        encode(connect)


@pytest.mark.conformance("MQTT3-3.1.3-6")
def test_a_client_without_identifier_gets_one_that_it_is_not_told() -> None:
    net = Network()
    peers = [net.connect("", clean_start=True, protocol_version=V311) for _ in range(10)]
    assert len(net.broker.sessions) == 10
    assert "" not in net.broker.sessions
    assert {peer.connack for peer in peers} == {ConnAck()}


@pytest.mark.conformance("MQTT3-3.1.3-7")
def test_a_client_without_identifier_asks_for_a_clean_session() -> None:
    lasting_connect = Connect(client_id="", clean_start=False, protocol_version=V311)
    connection = Connection(CLIENT, Limits(), 0.0)
    with pytest.raises(LocalProtocolError):
        connection.send(lasting_connect, 0.0)
    assert connection.take_output() == b""
    with pytest.raises(LocalProtocolError):
        Client(lasting_connect, 0.0)
    for connect in (
        Connect(client_id="", clean_start=True, protocol_version=V311),
        Connect(client_id="a", clean_start=False, protocol_version=V311),
        Connect(client_id="", clean_start=False),
    ):
        assert Client(connect, 0.0).take_output() == encode(connect)


@pytest.mark.conformance("MQTT3-3.1.3-8")
def test_a_client_without_identifier_and_clean_session_is_refused() -> None:
    net = Network()
    peer = net.peer()
    peer.reading = False
    peer.send(Connect(client_id="", clean_start=False, protocol_version=V311))
    assert peer.closed
    assert net.broker.take_output(peer.link, net.now) == b"\x20\x02\0\2"


@pytest.mark.conformance("MQTT3-3.1.4-1", "MQTT3-3.2.2-6")
@pytest.mark.parametrize(
    "body",
    [
        b"\0\4MQTT\4\3\0\0\0\1a",  # the reserved connect flag
        b"\0\4MQTT\4\x0a\0\0\0\1a",  # Will QoS without a Will
        b"\0\4MQTT\4\x1e\0\0\0\1a\0\1w\0\0",  # Will QoS 3
        b"\0\4MQTT\4\2\0\0\0\2a",  # cut off
        b"\0\4MQTT\4\2\0\0\0\1a\0",  # too long
        b"\0\4MQTT\4\2\0\0\0\3\xed\xa0\x80",  # not UTF-8
    ],
)
def test_a_malformed_connect_is_not_answered(body: bytes) -> None:
    net = Network()
    peer = net.peer()
    peer.send_bytes(bytes((0x10, len(body))) + body)
    assert peer.closed
    assert not peer.received
    assert not net.broker.sessions


@pytest.mark.conformance("MQTT3-3.2.0-1")
def test_connack_comes_before_everything_that_waits() -> None:
    net = Network()
    first = lasting(net)
    first.auto = False
    first.subscribe("t")
    net.publish("t", b"1", qos=2)
    net.publish("t", b"2", qos=1)
    first.send(PubRec(1))
    first.cut()
    again = net.peer()
    again.auto = False
    connect = Connect(client_id="a", clean_start=False, protocol_version=V311)
    again.send(connect, Subscribe(9, (subscription("x"),)), Publish("y", qos=1, packet_id=3))
    kinds = [type(packet).__name__ for packet in again.received]
    assert kinds[0] == "ConnAck"
    assert sorted(kinds[1:]) == ["PubAck", "PubRel", "Publish", "SubAck"]


@pytest.mark.conformance("MQTT3-3.3.1-6", "MQTT3-3.3.1-8", "MQTT3-3.8.4-3")
@QOS
def test_every_subscribe_is_sent_what_is_retained(qos: int) -> None:
    net = Network()
    net.publish("t/a", b"1", qos=qos, retain=True)
    net.publish("t/b", b"2", qos=qos, retain=True)
    peer = net.connect("a", protocol_version=V311)
    for _ in range(3):
        peer.subscribe("t/+")
        received = peer.take(Publish)
        assert sorted(packet.payload for packet in received) == [b"1", b"2"]
        assert all(packet.retain for packet in received)


@pytest.mark.conformance("MQTT3-3.3.1-9")
@QOS
def test_for_a_subscription_that_was_there_retain_is_0(qos: int) -> None:
    net = Network()
    publisher, subscriber = net.connects("a", "b", protocol_version=V311)
    subscriber.subscribe("t")
    for retain in (True, False):
        publisher.publish("t", b"x", qos, retain=retain)
        [packet] = subscriber.take(Publish)
        assert not packet.retain


@pytest.mark.conformance("MQTT3-3.3.1-7", "MQTT-3.3.1-5")
@pytest.mark.parametrize("version", [V311, V5])
def test_a_retained_message_that_is_not_stored_ends_the_one_before_it(version: int) -> None:
    net = Network(maximum_retained_bytes=10)
    publisher, subscriber = net.connect("a", protocol_version=version), net.connect("b")
    subscriber.subscribe("t")
    publisher.publish("t", b"old", 0, retain=True, **({"message_expiry_interval": 5} if version == V5 else {}))
    publisher.publish("t", b"too large for it", 0, retain=True)
    assert subscriber.payloads() == [b"old", b"too large for it"]
    late = net.connect("c")
    late.subscribe("t")
    assert not late.received
    publisher.publish("t", b"new", 0, retain=True)
    net.advance(1000)
    late.subscribe("t")
    assert late.payloads() == [b"new", b"new"]


@pytest.mark.conformance("MQTT-4.5.0-1", "MQTT3-3.3.1-7")
@QOS
def test_a_message_that_cannot_be_retained_is_delivered_all_the_same(qos: int) -> None:
    net = Network(maximum_retained_bytes=10)
    publisher, subscriber = net.connect("a", protocol_version=V311), net.connect("b")
    subscriber.subscribe("t")
    publisher.publish("t", b"old", qos, retain=True)
    publisher.publish("t", b"too large for it", qos, retain=True)
    assert subscriber.payloads() == [b"old", b"too large for it"]
    late = net.connect("c")
    late.subscribe("t")
    assert not late.received


def denies_publishing(principal: Principal, action: Action, name: str) -> bool:
    return action is not Action.PUBLISH


@pytest.mark.conformance("MQTT3-3.3.5-2")
def test_a_publish_that_is_not_allowed_is_acknowledged_as_usual() -> None:
    net = Network()
    watcher = net.connect("watcher")
    watcher.subscribe("#")
    peer = net.connect("a", net.policy_with(authorize=denies_publishing), protocol_version=V311)
    peer.reading = False
    peer.send(Publish("t"), Publish("t", qos=1, packet_id=1), Publish("t", qos=2, packet_id=2), PubRel(2))
    assert peer.closed is None
    answers = net.broker.take_output(peer.link, net.now)
    assert answers == encode(PubAck(1), V311) + encode(PubRec(2), V311) + encode(PubComp(2), V311)
    assert not watcher.received


@pytest.mark.conformance("MQTT3-3.8.3-2", "MQTT3-3.9.3-2")
@pytest.mark.parametrize("topic_filter", ["#", "+", "a/+/b", "a/#"])
def test_wildcards_are_refused_if_they_are_not_supported(topic_filter: str) -> None:
    net = Network(wildcard_subscription_available=False)
    peer = net.connect("a", protocol_version=V311)
    assert peer.subscribe("t", topic_filter) == [2, 0x80]
    assert [*net.broker.sessions["a"].subscriptions] == ["t"]


@pytest.mark.conformance("MQTT3-3.8.3-4")
@pytest.mark.parametrize("requested", [3, 4, 5, 8, 0x10, 0x20, 0x40, 0x80, 0xFF])
def test_a_requested_qos_with_other_bits_ends_the_connection(requested: int) -> None:
    net = Network()
    peer = net.connect("a", protocol_version=V311)
    peer.send_bytes(b"\x82\x06\0\1\0\1t" + bytes((requested,)))
    assert peer.closed
    assert not peer.received


@pytest.mark.conformance("MQTT3-3.1.4-2", "MQTT3-4.8.0-1")
@pytest.mark.parametrize(
    "end",
    [
        lambda peer: peer.network.connect("a"),
        lambda peer: peer.send_bytes(b"\x10\x0d\0\4MQTT\4\2\0\0\0\1a"),
        lambda peer: peer.send_bytes(b"\x36\x05\0\1t\0\1"),
        lambda peer: peer.send_bytes(b"\xf0\0"),
        lambda peer: peer.send_bytes(b"\x20\2\0\0"),
    ],
    ids=["taken over", "second CONNECT", "QoS 3", "AUTH", "CONNACK"],
)
def test_the_server_ends_a_connection_without_a_word(end: Callable[[Peer], object]) -> None:
    net = Network()
    peer = net.connect("a", protocol_version=V311)
    end(peer)
    assert peer.closed
    assert not peer.received


@pytest.mark.conformance("MQTT3-3.1.2-8", "MQTT3-3.14.4-3")
@pytest.mark.parametrize("clean_start", [True, False])
def test_a_will_is_due_at_once_and_after_no_disconnect(clean_start: bool) -> None:
    net = Network()
    watcher = net.connect("watcher")
    watcher.subscribe("#")
    for end, due in ((Peer.cut, True), (Peer.disconnect, False)):
        end(net.connect("a", will=Will(topic="w", payload=b"gone"), clean_start=clean_start, protocol_version=V311))
        assert watcher.payloads() == [b"gone"] * due
        net.connect("a", clean_start=clean_start, protocol_version=V311).cut()  # without a Will of its own
        net.advance(1e9)
        assert not watcher.received
