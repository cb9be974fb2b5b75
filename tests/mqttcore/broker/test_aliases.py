"""Topic Aliases (section 3.3.2.3.4), those that clients use and those that the broker assigns."""

import pytest

from mqttcore import V311, Publish, ReasonCode
from tests.mqttcore.broker.support import Network


class TestInbound:
    @pytest.mark.conformance("MQTT-3.3.2-12")
    def test_an_alias_stands_for_its_topic(self) -> None:
        net = Network(topic_alias_maximum=3)
        a, b = net.connects("a", "b")
        b.subscribe("#")
        for alias in (1, 2, 3):
            a.publish(f"t/{alias}", b"set", topic_alias=alias)
        for alias in (3, 1, 2, 1):
            a.publish("", b"use", alias % 3, topic_alias=alias)
        expected = [(f"t/{alias}", b"set", 0) for alias in (1, 2, 3)]
        assert b.messages() == expected + [(f"t/{alias}", b"use", alias % 3) for alias in (3, 1, 2, 1)]

    def test_it_can_be_set_anew(self) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe("#")
        for topic in ("x", "", "y", "", ""):
            a.publish(topic, topic_alias=1)
        assert [topic for topic, _, _ in b.messages()] == ["x", "x", "y", "y", "y"]

    def test_it_is_not_forwarded(self) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe("#")
        a.publish("x", topic_alias=1)
        a.publish("", topic_alias=1)
        assert b.take(Publish) == [Publish("x"), Publish("x")]

    @pytest.mark.conformance("MQTT-3.3.2-7")
    def test_it_ends_with_the_connection(self) -> None:
        net = Network()
        a = net.connect("a", session_expiry_interval=100)
        a.publish("x", topic_alias=1)
        a.cut()
        again = net.resume("a")
        again.publish("", topic_alias=1)
        assert again.ended_with() is ReasonCode.PROTOCOL_ERROR

    def test_each_connection_has_its_own(self) -> None:
        net = Network()
        a, b, c = net.connects("a", "b", "c")
        c.subscribe("#")
        a.publish("x", topic_alias=1)
        b.publish("y", topic_alias=1)
        a.publish("", topic_alias=1)
        assert [topic for topic, _, _ in c.messages()] == ["x", "y", "x"]

    @pytest.mark.conformance("MQTT-3.3.2-8")
    def test_alias_0_is_invalid(self) -> None:
        a = Network().connect("a")
        a.send_bytes(b"\x30\x07\x00\x01t\x03\x23\x00\x00")
        assert a.ended_with() is ReasonCode.TOPIC_ALIAS_INVALID

    def test_a_refused_message_sets_its_alias_all_the_same(self) -> None:
        net = Network(maximum_topic_levels=1)
        a = net.connect("a")
        assert a.publish("x/y", b"", 1, topic_alias=1) is ReasonCode.TOPIC_NAME_INVALID
        assert a.publish("", b"", 1, topic_alias=1) is ReasonCode.TOPIC_NAME_INVALID


class TestOutbound:
    @pytest.mark.conformance("MQTT-3.1.2-26", "MQTT-3.1.2-27", "MQTT-3.3.2-10", "MQTT-3.3.2-11")
    @pytest.mark.parametrize("asked", [None, 0, 1, 3, 65_535])
    @pytest.mark.parametrize("most", [0, 2, 100])
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_as_many_as_both_allow(self, asked: int | None, most: int, qos: int) -> None:
        net = Network(assigned_topic_aliases=most)
        b = net.connect("b", topic_alias_maximum=asked)
        b.subscribe("#")
        for _ in range(3):
            for number in range(5):
                net.publish(f"t/{number}", b"%d" % number, qos=qos)
        packets = b.received  # the referee has judged each
        used = {packet.topic_alias for packet in packets if isinstance(packet, Publish)} - {None}
        assert len(used) == min(asked or 0, most, 5)
        assert [packet.topic for packet in packets if isinstance(packet, Publish)].count("") == 2 * len(used)
        assert b.messages() == [(f"t/{number}", b"%d" % number, qos) for number in range(5)] * 3

    @pytest.mark.conformance("MQTT-3.3.2-7")
    def test_a_new_connection_begins_anew(self) -> None:
        net = Network()
        b = net.connect("b", topic_alias_maximum=5, session_expiry_interval=100)
        b.subscribe("#")
        b.auto = False
        net.publish("x", b"1", qos=1)
        net.publish("x", b"2", qos=1)
        b.cut()
        again = net.resume("b", topic_alias_maximum=5)
        assert again.messages() == [("x", b"1", 1), ("x", b"2", 1)]
        third = net.connect("b", topic_alias_maximum=0)
        third.subscribe("#")
        net.publish("x")
        assert third.take(Publish) == [Publish("x")]

    @pytest.mark.parametrize("qos", [0, 1])
    def test_they_go_with_everything_else(self, qos: int) -> None:
        net = Network()
        b = net.connect("b", topic_alias_maximum=5)
        b.subscribe("#", identifier=3)
        for _ in range(2):
            net.publish("x", b"1", qos=qos, content_type="c", message_expiry_interval=9, retain=True)
        first, second = b.take(Publish)
        for packet in (first, second):
            assert (packet.content_type, packet.message_expiry_interval, packet.subscription_identifiers) == (
                "c",
                9,
                (3,),
            )
        assert (first.topic, first.topic_alias, second.topic, second.topic_alias) == ("x", 1, "", 1)

    def test_a_message_dropped_for_want_of_room_sets_none(self) -> None:
        net = Network(output_high_water=1024)
        b = net.connect("b", topic_alias_maximum=5)
        b.subscribe("#")
        b.read(False)
        for number in range(5):
            net.publish(f"t/{number}", b"x" * 600)
        b.read()
        for number in range(5):
            net.publish(f"t/{number}")
        topics = [topic for topic, _, _ in b.messages()]  # every alias was set before its use
        assert topics == ["t/0", "t/1", *(f"t/{number}" for number in range(5))]

    def test_version_4_has_none(self) -> None:
        net = Network()
        b = net.connect("b", protocol_version=V311)
        b.subscribe("#")
        net.publish("x")
        net.publish("x")
        assert [topic for topic, _, _ in b.messages()] == ["x", "x"]
