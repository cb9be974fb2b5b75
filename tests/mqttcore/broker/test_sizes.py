"""The client's Maximum Packet Size (section 3.1.2.11.4): what is larger is dropped and counts as delivered."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqttcore import Connect, Disconnect, Publish, ReasonCode, Subscribe, wire
from mqttcore.codec import encode
from tests.mqttcore.broker.support import Network, subscription


def size_of(publish: Publish) -> int:
    return len(encode(publish))


@pytest.mark.conformance("MQTT-3.1.2-24", "MQTT-3.1.2-25")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("excess", [-1, 0, 1, 100])
def test_a_message_that_is_too_large_is_dropped(qos: int, excess: int) -> None:
    net = Network()
    payload = b"x" * 200
    limit = size_of(Publish("t", payload, qos=qos, packet_id=1 if qos else None)) - excess
    b, other = net.connect("b", maximum_packet_size=limit), net.connect("other")
    for peer in (b, other):
        peer.subscribe("t")
    net.publish("t", b"before", qos=qos)
    net.publish("t", payload, qos=qos)
    net.publish("t", b"after", qos=qos)
    assert b.payloads() == [b"before", *[payload] * (excess <= 0), b"after"]
    assert other.payloads() == [b"before", payload, b"after"]
    assert net.broker.sessions["b"].pending == 0
    assert net.broker.counters.too_large_dropped == (excess > 0)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_that_no_packet_can_hold_with_what_is_added_for_a_client_is_dropped(
    qos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Network()
    b, other = net.connects("b", "other")
    b.subscribe("t", identifier=1)
    other.subscribe("t")
    monkeypatch.setattr(wire, "VARIABLE_BYTE_MAXIMUM", 300)  # instead of 256 MiB
    payload = b"x" * (302 - size_of(Publish("t", qos=qos, packet_id=1 if qos else None)))
    net.publish("t", payload, qos=qos)
    net.publish("t", b"after", qos=qos)
    assert b.payloads() == [b"after"]
    assert other.payloads() == [payload, b"after"]
    assert net.broker.sessions["b"].pending == 0
    assert net.broker.counters.too_large_dropped == 1


def test_an_alias_is_introduced_where_there_is_room_for_it() -> None:
    net = Network()
    full = bytes(100)
    b = net.connect("b", topic_alias_maximum=1, maximum_packet_size=size_of(Publish("topic", full)))
    b.subscribe("topic")
    for payload in (full, b"less", full):
        net.publish("topic", payload)
    received = b.take(Publish)
    assert [packet.payload for packet in received] == [full, b"less", full]
    assert [(packet.topic, packet.topic_alias) for packet in received] == [("topic", None), ("topic", 1), ("", 1)]


def test_those_that_waited_are_dropped_for_a_client_that_returns_with_less_room() -> None:
    net = Network()
    b = net.connect("b", session_expiry_interval=100)
    b.auto = False
    b.subscribe("t")
    net.publish("t", b"x" * 100, qos=1)
    net.publish("t", b"y", qos=2)
    b.cut()
    net.publish("t", b"z" * 100, qos=2)
    net.publish("t", b"u", qos=1)
    again = net.resume("b", maximum_packet_size=50)
    assert again.payloads() == [b"y", b"u"]
    assert net.broker.sessions["b"].pending == 0
    assert net.broker.counters.too_large_dropped == 2


def test_one_too_large_does_not_use_up_quota() -> None:
    net = Network()
    b = net.connect("b", maximum_packet_size=50, receive_maximum=1)
    b.subscribe("t")
    for number in range(20):
        net.publish("t", b"%d" % number if number % 2 else b"x" * 100, qos=1)
    assert b.payloads() == [b"%d" % number for number in range(1, 20, 2)]


def test_retained_ones_and_shared_ones_too() -> None:
    net = Network()
    for number in range(10):
        net.publish(f"t/{number}", b"x" * (100 if number % 2 else 1), retain=True, qos=number % 3)
    b = net.connect("b", maximum_packet_size=50)
    b.subscribe("t/#", "$share/g/u")
    assert len(b.take(Publish)) == 5
    b.received.clear()
    net.publish("u", b"x" * 100, qos=1)
    assert not b.received


@settings(deadline=None, max_examples=100)
@given(
    st.integers(30, 40),
    st.lists(st.tuples(st.sampled_from(["", "a", "ab", "abcd"]), st.integers(0, 40)), min_size=1, max_size=10),
    st.integers(0, 2),
    st.integers(0, 2),
)
@example(30, [("", 20), ("", 24)], 1, 0)  # the alias is longer than the name
def test_whatever_fits_is_delivered(limit: int, messages: list[tuple[str, int]], aliases: int, qos: int) -> None:
    net = Network()
    b = net.connect("b", maximum_packet_size=limit, topic_alias_maximum=aliases)
    b.subscribe("#")
    expected = []
    for end, length in messages:
        topic, payload = f"/{end}", b"x" * length
        net.publish(topic, payload, qos=qos)
        if size_of(Publish(topic, payload, qos=qos, packet_id=1 if qos else None)) <= limit:
            expected.append((topic, payload, qos))
    assert b.messages() == expected


@pytest.mark.conformance("MQTT-3.14.2-3")
def test_reason_strings_are_left_out_first() -> None:
    net = Network()
    b = net.connect("b", maximum_packet_size=30)
    b.send(Connect(client_id="b"))
    last = b.expect(Disconnect)
    assert last.reason_code is ReasonCode.PROTOCOL_ERROR
    assert last.reason_string is None


def test_an_answer_that_cannot_be_sent_ends_the_connection() -> None:
    net = Network()
    b = net.connect("b", maximum_packet_size=30)
    b.send(Subscribe(1, tuple(subscription(f"{number}") for number in range(40))))
    assert b.closed
    net.publish("1")
    assert not b.take(Publish)
    assert not net.broker.links


@pytest.mark.conformance("MQTT-3.2.2-15")
@pytest.mark.parametrize("version_size", [(5, 128), (4, 128)])
def test_what_clients_send_is_bounded_too(version_size: tuple[int, int]) -> None:
    version, maximum = version_size
    net = Network(maximum_packet_size=maximum)
    a, b = net.connect("a", protocol_version=version), net.connect("b")
    b.subscribe("t")
    overhead = len(encode(Publish("t"), version))
    a.publish("t", b"x" * (maximum - overhead))
    assert len(b.take(Publish)) == 1
    a.publish("t", b"x" * (maximum - overhead + 1))
    assert a.ended_with() is (ReasonCode.PACKET_TOO_LARGE if version == 5 else None)
    assert not b.received


def test_a_large_packet_is_refused_before_it_is_there() -> None:
    net = Network(maximum_packet_size=1000)
    a = net.connect("a")
    a.send_bytes(b"\x30\xff\xff\xff\x7f")
    assert a.ended_with() is ReasonCode.PACKET_TOO_LARGE
