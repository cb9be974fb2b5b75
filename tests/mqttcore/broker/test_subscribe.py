"""SUBSCRIBE and UNSUBSCRIBE (sections 3.8 to 3.11), topic matching (4.7) and what a subscription's options do."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import V5, V311, Publish, ReasonCode, SubAck, Subscribe, Unsubscribe
from mqttcore.topics import matches
from tests.mqttcore.broker.support import Network, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])

LEVELS = st.sampled_from(["", "a", "b", "$a"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS | st.just("+"), max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)


class TestSuback:
    @pytest.mark.conformance("MQTT-3.8.4-1", "MQTT-3.8.4-5", "MQTT-3.8.4-7", "MQTT-3.9.3-1")
    @VERSIONS
    def test_codes_stand_in_the_order_of_the_filters(self, version: int) -> None:
        net = Network(maximum_topic_levels=3)
        peer = net.connect("a", protocol_version=version)
        codes = peer.subscribe(
            subscription("a", 2),
            subscription("1/2/3/4", 1),
            subscription("b", 0),
            subscription("c", 1),
            subscription("a", 1),
        )
        assert codes == [2, ReasonCode.TOPIC_FILTER_INVALID if version == V5 else 0x80, 0, 1, 1]
        net.publish("a", qos=2)
        assert [packet.qos for packet in peer.take(Publish)] == [1]  # the last one holds

    @pytest.mark.conformance("MQTT-3.2.2-10")
    @pytest.mark.parametrize("maximum", [0, 1, 2])
    def test_a_maximum_qos_lowers_what_is_granted(self, maximum: int) -> None:
        net = Network(maximum_qos=maximum)
        peer = net.connect("a")
        assert peer.subscribe(*(subscription(f"{qos}", qos) for qos in range(3))) == [min(q, maximum) for q in range(3)]

    @pytest.mark.parametrize(
        ("limits", "bad", "good", "code"),
        [
            ({"maximum_topic_levels": 2}, "a/b/c", "a/b", ReasonCode.TOPIC_FILTER_INVALID),
            ({"maximum_topic_levels": 2}, "$share/g/a/b/c", "$share/g/a/b", ReasonCode.TOPIC_FILTER_INVALID),
            ({"maximum_subscriptions": 1}, "b", "a", ReasonCode.QUOTA_EXCEEDED),
        ],
    )
    @VERSIONS
    def test_refused_filters(self, limits: dict[str, Any], bad: str, good: str, code: ReasonCode, version: int) -> None:
        peer = Network(**limits).connect("a", protocol_version=version)
        refused = code if version == V5 else 0x80
        assert peer.subscribe(good, bad, good) == [2, refused, 2]
        assert peer.subscribe(bad) == [refused]
        assert peer.unsubscribe(bad, good) == ([0x11, 0] if version == V5 else [])
        assert peer.closed is None

    @pytest.mark.parametrize(
        ("limit", "topic_filter", "identifier", "code"),
        [
            ("wildcard_subscription_available", "a/+", None, ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
            ("wildcard_subscription_available", "#", None, ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
            ("shared_subscription_available", "$share/g/a", None, ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
            ("subscription_identifiers_available", "a", 7, ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED),
        ],
    )
    def test_what_the_connack_ruled_out_is_a_protocol_error(
        self, limit: str, topic_filter: str, identifier: int | None, code: ReasonCode
    ) -> None:  # sections 3.2.2.3.11 to 3.2.2.3.13
        limits: dict[str, Any] = {limit: False}
        net = Network(**limits)
        peer = net.connect("a")
        peer.send(Subscribe(1, (subscription("ok"), subscription(topic_filter)), subscription_identifier=identifier))
        assert peer.ended_with() is code
        if identifier is None:
            old = net.connect("b", protocol_version=V311)
            assert old.subscribe("ok", topic_filter) == [2, 0x80]

    @pytest.mark.conformance("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.8.2-1", "MQTT-4.8.2-2")
    @VERSIONS
    @pytest.mark.parametrize(
        "topic_filter", ["a#", "a/#/b", "a+", "#/", "$share/g", "$share//a", "$share/+/a", "$share/g/"]
    )
    def test_a_malformed_filter_ends_the_connection(self, version: int, topic_filter: str) -> None:
        net = Network()
        for kind in (0x82, 0xA2):
            peer = net.connect("a", protocol_version=version)
            raw = topic_filter.encode()
            body = b"\0\1" + b"\0" * (version == V5) + bytes((0, len(raw))) + raw + b"\0" * (kind == 0x82)
            peer.send_bytes(bytes((kind, len(body))) + body)
            assert peer.ended_with() is (ReasonCode.TOPIC_FILTER_INVALID if version == V5 else None)


class TestUnsubscribe:
    @pytest.mark.conformance("MQTT-3.10.4-1", "MQTT-3.10.4-4", "MQTT-3.10.4-6", "MQTT-3.11.3-1")
    def test_filters_are_compared_literally(self) -> None:
        net = Network()
        peer = net.connect("a")
        peer.subscribe("a/+", "a/b", "$share/g/a/b")
        assert peer.unsubscribe("#", "a/#", "a/c", "a/b", "a/b", "$share/h/a/b") == [0x11, 0x11, 0x11, 0, 0x11, 0x11]
        net.publish("a/b")
        assert len(peer.take(Publish)) == 2
        assert peer.unsubscribe("$share/g/a/b", "a/+") == [0, 0]
        net.publish("a/b")
        assert not peer.received

    @pytest.mark.conformance("MQTT-3.10.4-5", "MQTT3-3.10.4-5")
    @VERSIONS
    def test_it_is_answered_even_if_there_was_nothing(self, version: int) -> None:
        peer = Network().connect("a", protocol_version=version)
        assert peer.unsubscribe("a", "b") == ([0x11, 0x11] if version == V5 else [])

    @pytest.mark.conformance("MQTT-3.10.4-2", "MQTT-3.10.4-3")
    @pytest.mark.parametrize("qos", [1, 2])
    def test_deliveries_begun_are_finished(self, qos: int) -> None:
        net = Network()
        peer = net.connect("a", session_expiry_interval=100)
        peer.auto = False
        peer.subscribe("t")
        net.publish("t", b"1", qos=qos)
        peer.unsubscribe("t")
        net.publish("t", b"2", qos=qos)
        assert peer.payloads() == [b"1"]
        peer.cut()
        again = net.resume("a")
        assert again.payloads() == [b"1"]
        assert not net.broker.sessions["a"].pending


class TestOptions:
    @pytest.mark.conformance("MQTT-3.8.3-3")
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_no_local_keeps_ones_own_messages_away(self, qos: int) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        for peer in (a, b):
            peer.subscribe(subscription("t", 2, no_local=True))
        a.publish("t", b"a", qos)
        b.publish("t", b"b", qos)
        net.publish("t", b"server")
        assert a.payloads() == [b"b", b"server"]
        assert b.payloads() == [b"a", b"server"]

    @pytest.mark.conformance(
        "MQTT-3.3.4-2", "MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.8.4-3", "MQTT-3.3.1-12", "MQTT-3.3.1-13"
    )
    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.tuples(FILTERS, st.integers(0, 2), st.booleans(), st.booleans()), max_size=6), TOPICS)
    def test_overlapping_subscriptions_give_one_copy(
        self, wanted: list[tuple[str, int, bool, bool]], topic: str
    ) -> None:
        net = Network()
        a = net.connect("a")
        for number, (topic_filter, qos, no_local, keep) in enumerate(wanted, 1):
            options = {"no_local": no_local, "retain_as_published": keep, "retain_handling": 2}
            a.subscribe(subscription(topic_filter, qos, **options), identifier=number)
        final = {item[0]: (number, *item[1:]) for number, item in enumerate(wanted, 1)}
        for own in (True, False):
            matching = [item for name, item in final.items() if matches(name, topic) and not (own and item[2])]
            if own:
                a.publish(topic, b"x", 2, retain=True)
            else:
                net.publish(topic, b"x", qos=2, retain=True)
            received = a.take(Publish)
            assert len(received) == (1 if matching else 0)
            for packet in received:
                assert packet.qos == max(item[1] for item in matching)
                assert packet.retain == any(item[3] for item in matching)
                assert sorted(packet.subscription_identifiers) == sorted(item[0] for item in matching)

    @pytest.mark.conformance("MQTT-3.3.2-3", "MQTT-4.5.0-1", "MQTT-4.7.2-1")
    @settings(deadline=None, max_examples=50)
    @given(st.lists(FILTERS, max_size=8), st.lists(FILTERS, max_size=4), st.lists(TOPICS, max_size=8))
    def test_who_gets_what_agrees_with_matching_one_by_one(
        self, wanted: list[str], unwanted: list[str], topics: list[str]
    ) -> None:
        net = Network()
        peers = [net.connect(f"{number}") for number in range(3)]
        for number, topic_filter in enumerate(wanted):
            peers[number % 3].subscribe(topic_filter)
        for topic in topics:  # every topic has been routed before
            net.publish(topic)
        for peer in peers:
            peer.received.clear()
        for topic_filter in unwanted:
            peers[0].unsubscribe(topic_filter)
        for topic in topics:
            net.publish(topic, b"x")
            for number, peer in enumerate(peers):
                kept = [item for item in wanted[number::3] if number or item not in unwanted]
                assert peer.messages() == [(topic, b"x", 0)] * any(matches(item, topic) for item in kept)

    @pytest.mark.conformance("MQTT-3.8.4-3")
    def test_identifiers_follow_the_latest_subscribe(self) -> None:
        net = Network()
        a = net.connect("a")
        for identifier in (1, 268_435_455, None, 3):
            a.subscribe("t", identifier=identifier)
            net.publish("t", qos=1)
            [packet] = a.take(Publish)
            assert packet.subscription_identifiers == (() if identifier is None else (identifier,))

    def test_version_4_gets_no_identifiers_and_its_own_messages(self) -> None:
        net = Network()
        a = net.connect("a", protocol_version=V311)
        a.subscribe("t")
        a.publish("t", b"x", 1, retain=True)
        [packet] = a.take(Publish)
        assert not packet.retain

    @pytest.mark.conformance("MQTT-4.7.2-1")
    def test_dollar_topics_match_only_filters_that_name_them(self) -> None:
        net = Network()
        a = net.connect("a")
        a.subscribe("#", "+/x", "+/#")
        net.publish("$SYS/x", b"1")
        assert not a.received
        a.subscribe("$SYS/+")
        net.publish("$SYS/x", b"2")
        assert a.payloads() == [b"2"]

    @pytest.mark.parametrize("levels", [50, 255])
    def test_deep_wildcards_cost_little(self, levels: int) -> None:
        net = Network()
        a = net.connect("a")
        a.subscribe("/".join(["+"] * levels) + "/#", "/".join(["a", "+"] * (levels // 2)), "/".join(["a"] * levels))
        for _ in range(100):
            net.publish("/".join(["a"] * levels), b"x")
        assert len(a.take(Publish)) == 100


@pytest.mark.conformance("MQTT-3.8.4-4", "MQTT3-3.8.4-3")
@VERSIONS
def test_replacing_a_subscription_loses_no_message(version: int) -> None:
    net = Network()
    a = net.connect("a", protocol_version=version)
    sent = []
    for number in range(50):
        a.subscribe("t/#", qos=2)
        net.publish("t/x", b"%d" % number, qos=2)
        sent.append(b"%d" % number)
    assert a.payloads() == sent


def test_requests_in_one_chunk_are_handled_in_order() -> None:
    net = Network()
    a = net.connect("a")
    a.send(
        Subscribe(1, (subscription("t"),)), Publish("t", b"1"), Unsubscribe(2, ("t",)), Publish("t", b"2"),
        Subscribe(3, (subscription("t"),)), Publish("t", b"3"),
    )  # fmt: skip
    assert [type(packet).__name__ for packet in a.received] == ["SubAck", "Publish", "UnsubAck", "SubAck", "Publish"]
    assert a.payloads() == [b"1", b"3"]
    assert [packet.packet_id for packet in a.take(SubAck)] == [1, 3]
