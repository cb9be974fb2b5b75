"""Section 4.3 of MQTT 5.0: packet identifiers, and what is unacknowledged for how long, broker to client."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import ConnAck, Connect, Packet, PubAck, PubComp, Publish, PubRec, PubRel, ReasonCode
from mqttcore.client import Client
from mqttcore.codec import encode
from tests.mqttcore.broker.support import Network, Peer
from tests.mqttcore.support import packets_in


def subscribed(net: Network, client_id: str = "a", **fields: Any) -> Peer:
    """A client that acknowledges nothing by itself."""
    peer = net.connect(client_id, session_expiry_interval=100, **fields)
    peer.auto = False
    peer.subscribe("t")
    return peer


def tell(client: Client, *packets: Packet) -> None:
    """Have a client receive packets, and take what it has to say about them."""
    client.receive(b"".join(encode(packet) for packet in packets), 0.0)
    while client.next_event() is not None:
        pass


def resumed(net: Network, **fields: Any) -> Peer:
    """The same client on a new connection."""
    peer = net.peer()
    peer.auto = False
    peer.send(Connect(client_id="a", clean_start=False, session_expiry_interval=100, **fields))
    assert peer.take(ConnAck)[0].session_present
    return peer


@pytest.mark.conformance("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1", "MQTT-4.3.2-2", "MQTT-4.3.3-2")
@settings(max_examples=40)
@given(
    levels=st.lists(st.integers(1, 2), min_size=1, max_size=30),
    acknowledged=st.sets(st.integers(0, 29)),
    more=st.lists(st.integers(1, 2), max_size=30),
)
def test_each_message_has_an_identifier_that_no_other_has(
    levels: list[int], acknowledged: set[int], more: list[int]
) -> None:
    net = Network()
    peer = subscribed(net)
    for qos in levels:
        net.publish("t", qos=qos)
    first = peer.take(Publish)
    kept = set()
    for number, packet in enumerate(first):
        assert packet.packet_id
        if number in acknowledged and packet.qos == 1:
            peer.send(PubAck(packet.packet_id))
        else:
            kept.add(packet.packet_id)
    for qos in more:
        net.publish("t", qos=qos)
    second = [packet.packet_id for packet in peer.take(Publish)]
    assert len({packet.packet_id for packet in first}) == len(first)
    assert len({*second}) == len(second) == len(more)
    assert not kept & {*second}
    assert None not in second
    assert 0 not in second
    assert not any(packet.dup for packet in first)


@pytest.mark.conformance("MQTT-4.3.2-3", "MQTT-4.4.0-1")
def test_qos_1_is_unacknowledged_until_its_puback() -> None:
    net = Network()
    peer = subscribed(net, receive_maximum=1)
    net.publish("t", b"1", qos=1)
    net.publish("t", b"2", qos=1)
    packet_id = peer.expect(Publish).packet_id
    assert packet_id
    peer.send(PubAck(packet_id + 1), PubComp(packet_id))  # what is no answer to it
    assert not peer.received
    peer.cut()
    again = resumed(net, receive_maximum=1)
    packet = again.expect(Publish)
    assert (packet.packet_id, packet.payload, packet.dup) == (packet_id, b"1", True)
    again.send(PubAck(packet_id))
    assert again.expect(Publish).payload == b"2"


@pytest.mark.conformance("MQTT-2.2.1-5", "MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6")
def test_qos_2_is_sent_again_until_its_pubrec_and_then_its_pubrel_until_its_pubcomp() -> None:
    net = Network()
    peer = subscribed(net)
    net.publish("t", b"1", qos=2)
    packet_id = peer.expect(Publish).packet_id
    assert packet_id
    for _ in range(2):
        peer.send(PubAck(packet_id), PubComp(packet_id))  # what is no answer to it
        peer.cut()
        peer = resumed(net)
        packet = peer.expect(Publish)
        assert (packet.packet_id, packet.payload, packet.dup) == (packet_id, b"1", True)
    peer.send(PubRec(packet_id))
    assert peer.expect(PubRel) == PubRel(packet_id)
    for _ in range(2):
        peer.send(PubAck(packet_id))
        peer.cut()
        peer = resumed(net)
        assert peer.expect(PubRel) == PubRel(packet_id)
    peer.send(PubComp(packet_id))
    peer.cut()
    assert not resumed(net).received


@pytest.mark.conformance("MQTT-4.3.3-9")
@pytest.mark.parametrize("times", [1, 3])
def test_after_a_refusal_the_identifier_stands_for_a_new_message(times: int) -> None:
    net = Network(maximum_topic_levels=1)
    a, b = net.connects("a", "b")
    b.subscribe("#")
    for _ in range(times):
        a.send(Publish("too/deep", b"no", qos=2, packet_id=7))
        assert a.expect(PubRec) == PubRec(7, ReasonCode.TOPIC_NAME_INVALID)
    a.send(Publish("fine", b"yes", qos=2, packet_id=7))
    assert a.expect(PubRec) == PubRec(7)
    assert b.payloads() == [b"yes"]
    a.send(PubRel(7))
    assert a.expect(PubComp) == PubComp(7)


@pytest.mark.conformance("MQTT-4.4.0-2")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_message_is_not_sent_again(qos: int) -> None:
    net = Network()
    peer = subscribed(net)
    net.publish("t", b"1", qos=qos)
    packet_id = peer.expect(Publish).packet_id
    assert packet_id
    peer.send((PubAck if qos == 1 else PubRec)(packet_id, ReasonCode.UNSPECIFIED_ERROR))
    peer.cut()
    assert not net.resume("a").received


@pytest.mark.conformance("MQTT-4.3.1-1")
@pytest.mark.parametrize("published", [0, 1, 2])
def test_qos_0_goes_out_with_qos_0_and_without_dup(published: int) -> None:
    net = Network()
    a, b = net.connects("a", "b")
    b.subscribe("t", qos=0)
    dup = published > 0
    a.send(Publish("t", b"x", qos=published, dup=dup, packet_id=7 if published else None))
    packet = b.expect(Publish)
    assert (packet.qos, packet.dup, packet.packet_id) == (0, False, None)


@pytest.mark.conformance("MQTT-4.3.3-13", "MQTT-4.3.3-11")
def test_a_qos_2_exchange_goes_on_after_the_message_has_expired() -> None:
    net = Network()
    a = net.connect("a")
    b = subscribed(net, client_id="b", receive_maximum=1)
    net.publish("t", b"keeps b busy", qos=2)
    a.send(Publish("t", b"x", qos=2, packet_id=5, message_expiry_interval=10))
    assert a.expect(PubRec) == PubRec(5)
    net.advance(20)
    a.send(Publish("t", b"x", qos=2, packet_id=5, dup=True, message_expiry_interval=10))
    assert a.expect(PubRec) == PubRec(5)
    a.send(PubRel(5))
    assert a.expect(PubComp) == PubComp(5)
    first = b.expect(Publish)
    assert first.packet_id
    b.send(PubRec(first.packet_id), PubComp(first.packet_id))
    assert not b.take(Publish)


@pytest.mark.conformance("MQTT-4.6.0-5")
def test_a_message_of_qos_0_does_not_overtake_the_retained_one_of_its_topic() -> None:
    net = Network()
    publisher = net.connect("publisher")
    names = [f"t/{number}" for number in range(20)]
    for number, name in enumerate(names):
        publisher.publish(name, b"old", number % 2, retain=True)
    peer = net.connect("a", receive_maximum=1)
    peer.auto = False
    peer.subscribe("t/#")
    for name in names:
        publisher.publish(name, b"new")
    received = peer.take(Publish)
    for _ in names:
        for packet in received:
            if packet.qos and packet.packet_id in peer.unacknowledged:
                peer.send(PubAck(packet.packet_id))
        received += peer.take(Publish)
    for name in names[::2]:
        payloads = [packet.payload for packet in received if packet.topic == name]
        assert payloads in ([b"old"], [b"old", b"new"])


@pytest.mark.conformance("MQTT-4.6.0-1", "MQTT-4.6.0-4")
def test_a_client_sends_again_and_releases_in_order() -> None:
    first = Client(Connect(client_id="c"), 0.0)
    tell(first, ConnAck())
    for qos in (2, 1, 2, 2, 1):
        first.publish(Publish("t", qos=qos), 0.0)
    first.take_output()
    tell(first, PubRec(4), PubRec(1))
    assert packets_in(first.take_output()) == [PubRel(4), PubRel(1)]
    second = Client(Connect(client_id="c", clean_start=False), 0.0, session=first.session)
    second.take_output()
    tell(second, ConnAck(session_present=True))
    again = packets_in(second.take_output())
    assert again[:2] == [PubRel(4), PubRel(1)]
    assert [getattr(packet, "packet_id", None) for packet in again[2:]] == [2, 3, 5]
    assert all(isinstance(packet, Publish) and packet.dup for packet in again[2:])
