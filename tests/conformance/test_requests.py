"""Sections 3.8 to 3.11 of MQTT 5.0: SUBSCRIBE and UNSUBSCRIBE and their answers, for any identifiers and filters."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import V5, V311, Publish, ReasonCode, SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe
from mqttcore.topics import check_topic_filter
from tests.mqttcore.broker.support import Network, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])

IDENTIFIERS = st.integers(1, 65_535)
NAMES = st.sampled_from(["a", "a/b", "a/+", "#", "$share/g/a", "1/2/3/4", "b"])


@pytest.mark.conformance("MQTT-2.2.1-6", "MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1")
@VERSIONS
@settings(max_examples=40)
@given(packet_id=IDENTIFIERS, wanted=st.lists(st.tuples(NAMES, st.integers(0, 2)), min_size=1, max_size=8))
def test_a_subscribe_gets_one_suback_with_its_identifier_and_a_code_per_filter_in_order(
    version: int, packet_id: int, wanted: list[tuple[str, int]]
) -> None:
    peer = Network(maximum_topic_levels=3).connect("a", protocol_version=version)
    peer.send(Subscribe(packet_id, tuple(Subscription(*item) for item in wanted)))
    suback = peer.expect(SubAck)
    refused = ReasonCode.TOPIC_FILTER_INVALID if version == V5 else ReasonCode.UNSPECIFIED_ERROR
    codes = tuple(refused if name == "1/2/3/4" else ReasonCode(qos) for name, qos in wanted)
    assert (suback.packet_id, suback.reason_codes) == (packet_id, codes)


@pytest.mark.conformance(
    "MQTT-2.2.1-6", "MQTT-3.10.4-1", "MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6", "MQTT-3.11.3-1"
)
@settings(max_examples=40)
@given(packet_id=IDENTIFIERS, there=st.sets(NAMES), named=st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_an_unsubscribe_gets_one_unsuback_with_its_identifier_and_a_code_per_filter_in_order(
    packet_id: int, there: set[str], named: list[str]
) -> None:
    net = Network()
    peer = net.connect("a")
    for name in there:
        peer.subscribe(name)
    peer.send(Unsubscribe(packet_id, tuple(named)))
    unsuback = peer.expect(UnsubAck)
    codes = tuple(ReasonCode.SUCCESS if name in there else ReasonCode.NO_SUBSCRIPTION_EXISTED for name in named)
    assert (unsuback.packet_id, unsuback.reason_codes) == (packet_id, codes)
    assert {*net.broker.sessions["a"].subscriptions} == there - {*named}


@pytest.mark.conformance("MQTT-3.10.4-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic_filter", ["t", "+", "#", "$share/g/t"])
def test_after_unsubscribe_nothing_more_is_sent_or_queued(topic_filter: str, qos: int) -> None:
    net = Network()
    peer = net.connect("a", session_expiry_interval=100)
    peer.subscribe(topic_filter)
    net.publish("t", b"before", qos=qos)
    assert peer.payloads() == [b"before"]
    assert peer.unsubscribe(topic_filter) == [0]
    net.publish("t", b"after", qos=qos)
    assert not peer.take(Publish)
    peer.cut()
    net.publish("t", b"away", qos=qos)
    assert not net.resume("a").received


@pytest.mark.conformance("MQTT-3.3.4-5")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_copy_for_each_match_has_the_identifier_of_its_own_subscription(qos: int) -> None:
    net = Network()
    net.publish("t", b"retained", qos=qos, retain=True)
    peer = net.connect("a")
    names = ["t", "+", "$share/g/t", "$share/h/+"]
    for identifier, name in enumerate(names, 1):
        peer.subscribe(name, identifier=identifier)
    copies = [packet.subscription_identifiers for packet in peer.take(Publish)]
    assert copies == [(1,), (2,)]  # a retained message is sent for each subscription that is not shared
    net.publish("t", b"x", qos=qos)
    copies = [packet.subscription_identifiers for packet in peer.take(Publish)]
    assert sorted(copies) == [(1, 2), (3,), (4,)]


@pytest.mark.conformance("MQTT-3.8.4-3", "MQTT-3.8.4-5")
def test_a_filter_that_is_named_twice_counts_as_it_was_named_last() -> None:
    net = Network()
    peer = net.connect("a")
    peer.subscribe(subscription("t", 2), subscription("t", 0))
    net.publish("t", b"x", qos=2)
    assert peer.messages() == [("t", b"x", 0)]
    assert [*net.broker.sessions["a"].subscriptions] == ["t"]


@pytest.mark.conformance("MQTT-3.8.3-5")
@pytest.mark.parametrize("options", [0x40, 0x80, 0xC0])
def test_reserved_subscription_options_end_the_connection(options: int) -> None:
    peer = Network().connect("a")
    peer.send_bytes(b"\x82\x07\0\1\0\0\1t" + bytes((options,)))
    assert peer.ended_with() is ReasonCode.MALFORMED_PACKET


@pytest.mark.conformance("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@pytest.mark.parametrize("name", ["g", "G", "é", "$", " "])
def test_any_other_share_name_will_do(name: str) -> None:
    check_topic_filter(f"$share/{name}/a/#")
    net = Network()
    peer = net.connect("a")
    assert peer.subscribe(f"$share/{name}/a/#") == [2]
    net.publish("a/b", b"x")
    assert peer.payloads() == [b"x"]


# The same to a reader, or to who normalizes: case, composed and decomposed letters, spaces, a mark of byte order.
ALIKE = ["caf\u00e9", "cafe\u0301", "CAF\u00c9", "caf\u00e9 ", "\ufeffcaf\u00e9", "cafe"]


@pytest.mark.conformance("MQTT-4.7.3-4")
@pytest.mark.parametrize("pattern", ["{}", "{}/+", "{}/#", "+/{}", "$share/g/{}", "$share/g/{}/+"])
@pytest.mark.parametrize("one", ALIKE)
def test_topics_and_filters_are_compared_character_by_character(pattern: str, one: str) -> None:
    topic = pattern.removeprefix("$share/g/").replace("+", "x").replace("#", "x/y")
    net = Network()
    peer = net.connect("a")
    for other in ALIKE:
        net.publish(topic.format(other), other.encode(), retain=True)
    peer.subscribe(pattern.format(one))
    assert [packet.payload for packet in peer.take(Publish)] == [one.encode()] * ("$share" not in pattern)
    for other in ALIKE:
        net.publish(topic.format(other), other.encode())
    assert peer.messages() == [(topic.format(one), one.encode(), 0)]
    assert peer.unsubscribe(*(pattern.format(other) for other in ALIKE)) == [0x11 * (other != one) for other in ALIKE]
