"""The Message Expiry Interval (section 3.3.2.3.3): what waits too long is not delivered."""

import pytest

from mqttcore import V311, PubAck, Publish, PubRec, PubRel
from tests.mqttcore.broker.support import Network


@pytest.mark.conformance("MQTT-3.3.2-6")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("interval", [0, 1, 10, 0xFFFF_FFFF])
def test_at_once_it_is_passed_on_whole(qos: int, interval: int) -> None:
    net = Network()
    a, b, old = net.connect("a"), net.connect("b"), net.connect("c", protocol_version=V311)
    for peer in (b, old):
        peer.subscribe("t")
    a.publish("t", b"x", qos, message_expiry_interval=interval)
    assert b.take(Publish)[0].message_expiry_interval == interval
    assert old.payloads() == [b"x"]


@pytest.mark.conformance("MQTT-3.3.2-6")
@pytest.mark.parametrize("waited", [0.0, 0.25, 4.0, 9.25])
def test_the_time_spent_waiting_is_taken_off(waited: float) -> None:
    net = Network()
    b = net.connect("b", session_expiry_interval=1000)
    b.subscribe("t")
    b.cut()
    net.publish("t", qos=1, message_expiry_interval=10)
    net.publish("t", qos=1)
    net.advance(waited)
    intervals = [packet.message_expiry_interval for packet in net.resume("b").take(Publish)]
    assert intervals == [round(10 - waited), None]


@pytest.mark.conformance("MQTT-3.3.2-5")
def test_what_has_expired_is_not_delivered() -> None:
    net = Network()
    b = net.connect("b", session_expiry_interval=1000)
    b.subscribe("t")
    b.cut()
    for interval in (1, 20, 5, 30):
        net.publish("t", b"%d" % interval, qos=2, message_expiry_interval=interval)
    net.advance(10)
    assert net.resume("b").payloads() == [b"20", b"30"]
    session = net.broker.sessions["b"]
    assert (session.pending, session.queued_bytes, session.expired) == (0, 0, 2)


@pytest.mark.parametrize("receive_maximum", [1, 2])
def test_it_holds_for_what_waits_for_quota(receive_maximum: int) -> None:
    net = Network()
    b = net.connect("b", receive_maximum=receive_maximum)
    b.auto = False
    b.subscribe("t")
    for number in range(4):
        net.publish("t", b"%d" % number, qos=1, message_expiry_interval=10 if number < 3 else 100)
    net.advance(11)
    first = b.take(Publish)
    b.auto = True
    for packet in first:
        assert packet.packet_id
        b.send(PubAck(packet.packet_id))
    assert [(packet.payload, packet.message_expiry_interval) for packet in b.take(Publish)] == [(b"3", 89)]


@pytest.mark.conformance("MQTT-4.3.3-7", "MQTT-4.3.3-13", "MQTT-4.4.0-1")
def test_what_was_sent_no_longer_expires() -> None:
    net = Network()
    b = net.connect("b", session_expiry_interval=1000)
    b.auto = False
    b.subscribe("t")
    for qos in (1, 2, 2):
        net.publish("t", b"%d" % qos, qos=qos, message_expiry_interval=5)
    b.send(PubRec(3))
    b.cut()
    net.advance(100)
    again = net.resume("b")
    packets = again.take(Publish)
    assert [(packet.payload, packet.dup, packet.message_expiry_interval) for packet in packets] == [
        (b"1", True, 0), (b"2", True, 0),
    ]  # fmt: skip
    assert {packet.packet_id for packet in again.take(PubRel)} == {2, 3}
    assert not net.broker.sessions["b"].pending


@pytest.mark.conformance("MQTT-3.3.2-5")
def test_a_slow_reader_gets_no_expired_message() -> None:
    net = Network(output_high_water=1024)
    other = net.connect("other", keep_alive=10)
    b = net.connect("b")
    b.subscribe("t")
    b.read(False)
    for number in range(20):
        net.publish("t", b"%200d" % number, qos=1, message_expiry_interval=10)
    net.advance(15)  # nothing but the other client's Keep Alive tells the broker the time
    assert other.closed
    b.read()
    got = b.payloads()
    assert 0 < len(got) < 10
    assert got == [b"%200d" % number for number in range(len(got))]


def test_the_expiry_of_a_session_tells_the_time_too() -> None:
    net = Network(output_high_water=1024)
    net.connect("other", session_expiry_interval=15).cut()
    b = net.connect("b")
    b.subscribe("t")
    b.read(False)
    for number in range(20):
        net.publish("t", b"%200d" % number, qos=1, message_expiry_interval=10)
    net.advance(15)
    b.read()
    assert 0 < len(b.payloads()) < 10


def test_reading_alone_tells_the_time_too() -> None:
    net = Network(output_high_water=1024)
    b = net.connect("b")
    b.auto = False
    b.subscribe("t")
    b.read(False)
    net.advance(20)
    for number in range(20):
        net.publish("t", b"%200d" % number, qos=1, message_expiry_interval=10)
    net.advance(15)
    b.read()
    assert 0 < len(b.payloads()) < 10
