"""PUBLISH and its answers (sections 3.3 to 3.7, 4.3): the exchanges, what is forwarded, what is refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import (
    V5,
    V311,
    Disconnect,
    LocalProtocolError,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
)
from tests.mqttcore.broker.support import Network

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
QOS = pytest.mark.parametrize("qos", [0, 1, 2])

PROPERTIES: dict[str, Any] = {
    "payload_format_indicator": 1,
    "content_type": "text/plain",
    "response_topic": "re/ply",
    "correlation_data": b"\0\xff",
    "user_properties": (("b", "1"), ("a", "2"), ("b", "1"), ("", "")),
}


class TestExchange:
    @pytest.mark.conformance("MQTT-3.3.4-1", "MQTT-4.3.2-4", "MQTT-4.3.3-8", "MQTT-4.3.3-11")
    @QOS
    @VERSIONS
    @pytest.mark.parametrize("matched", [False, True])
    def test_the_answer_is_what_the_qos_demands(self, qos: int, version: int, matched: bool) -> None:
        net = Network()
        a, b = net.connect("a", protocol_version=version), net.connect("b")
        if matched:
            b.subscribe("t")
        code = a.publish("t", b"x", qos)
        nobody = version == V5 and not matched
        assert code == (None if not qos else ReasonCode.NO_MATCHING_SUBSCRIBERS if nobody else ReasonCode.SUCCESS)
        assert not a.received
        assert b.messages() == [("t", b"x", qos)] * matched
        assert not b.received[1:] if qos == 2 else not b.received

    @pytest.mark.conformance("MQTT-4.3.3-10", "MQTT-4.3.3-12")
    @VERSIONS
    def test_qos_2_is_delivered_once_however_often_it_is_sent(self, version: int) -> None:
        net = Network()
        a, b = net.connects("a", "b", protocol_version=version)
        b.subscribe("t")
        for _ in range(3):
            a.send(Publish("t", b"1", qos=2, packet_id=7))
            a.send(Publish("t", b"1", qos=2, packet_id=7, dup=True))
            assert a.take(PubRec) == [PubRec(7)] * 2
            assert b.payloads() == [b"1"]
            a.send(PubRel(7), PubRel(7))
            first, second = a.take(PubComp)
            assert first == PubComp(7)
            assert second.packet_id == 7
            if version == V5:
                assert second.reason_code is ReasonCode.PACKET_IDENTIFIER_NOT_FOUND

    @pytest.mark.conformance("MQTT-4.3.2-5", "MQTT-3.3.1-3", "MQTT-4.3.2-2", "MQTT-4.3.2-1")
    def test_qos_1_is_a_new_message_every_time(self) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe("t")
        for dup in (False, True, False):
            a.send(Publish("t", b"1", qos=1, packet_id=7, dup=dup))
            assert a.expect(PubAck) == PubAck(7)
        received = b.take(Publish)
        assert [packet.dup for packet in received] == [False] * 3
        assert len({packet.packet_id for packet in received}) == 3

    def test_a_packet_identifier_of_a_qos_2_exchange_is_in_use(self) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe("t")
        a.send(Publish("t", b"2", qos=2, packet_id=7), Publish("t", b"1", qos=1, packet_id=7))
        assert a.take(PubAck) == [PubAck(7, ReasonCode.PACKET_IDENTIFIER_IN_USE)]
        assert b.payloads() == [b"2"]
        a.send(PubRel(7))
        assert a.take(PubComp) == [PubComp(7)]

    @VERSIONS
    def test_unknown_identifiers_are_answered_and_harmless(self, version: int) -> None:
        a = Network().connect("a", protocol_version=version)
        a.send(PubAck(1), PubComp(2), PubRec(3), PubRel(4))
        pubrel, pubcomp = a.take(PubRel)[0], a.take(PubComp)[0]
        assert (pubrel.packet_id, pubcomp.packet_id) == (3, 4)
        if version == V5:
            assert pubrel.reason_code is pubcomp.reason_code is ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        a.send(PubRec(5, ReasonCode.UNSPECIFIED_ERROR) if version == V5 else PubAck(5))
        assert not a.received
        assert a.closed is None

    @pytest.mark.conformance("MQTT-4.3.3-2", "MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5")
    def test_outbound_qos_2_goes_through_its_steps(self) -> None:
        net = Network()
        b = net.connect("b")
        b.auto = False
        b.subscribe("t")
        net.publish("t", qos=2)
        publish = b.expect(Publish)
        packet_id = publish.packet_id
        assert packet_id
        assert not publish.dup
        b.send(PubComp(packet_id))  # out of turn
        b.send(PubAck(packet_id))
        for _ in range(2):
            b.unacknowledged[packet_id] = 2
            b.send(PubRec(packet_id))
            assert b.expect(PubRel) == PubRel(packet_id)
        assert net.broker.sessions["b"].pending == 1
        b.send(PubComp(packet_id))
        assert net.broker.sessions["b"].pending == 0

    @pytest.mark.conformance("MQTT-4.4.0-2")
    @pytest.mark.parametrize("qos", [1, 2])
    def test_a_refusal_settles_the_message(self, qos: int) -> None:
        net = Network()
        b = net.connect("b", session_expiry_interval=100)
        b.auto = False
        b.subscribe("t")
        net.publish("t", qos=qos)
        packet_id = b.expect(Publish).packet_id
        assert packet_id
        refusal = PubAck if qos == 1 else PubRec
        b.send(refusal(packet_id, ReasonCode.QUOTA_EXCEEDED))
        assert not b.received
        assert not net.broker.sessions["b"].pending
        b.cut()
        assert not net.connect("b", clean_start=False).received

    @pytest.mark.conformance("MQTT-2.2.1-5", "MQTT-4.3.2-4", "MQTT-4.3.3-8", "MQTT-4.3.3-11")
    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=30))
    def test_every_answer_has_the_identifier_of_its_publish_in_order(self, sent: list[tuple[int, int]]) -> None:
        a = Network().connect("a")
        for qos, packet_id in sent:
            a.send(Publish("t", qos=qos, packet_id=packet_id if qos else None))
            if qos == 2:
                a.send(PubRel(packet_id))
        answers = [(type(packet), getattr(packet, "packet_id", None)) for packet in a.received]
        expected: list[tuple[type, int]] = []
        for qos, packet_id in sent:
            kinds: tuple[type, ...] = ((), (PubAck,), (PubRec, PubComp))[qos]
            expected += [(kind, packet_id) for kind in kinds]
        assert answers == expected


class TestForwarding:
    @pytest.mark.conformance(
        "MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-20"
    )
    @QOS
    @pytest.mark.parametrize("name", [*PROPERTIES, None])
    def test_properties_are_passed_on_unchanged(self, qos: int, name: str | None) -> None:
        net = Network()
        a, b, old = *net.connects("a", "b"), net.connect("c", protocol_version=V311)
        b.subscribe("t")
        old.subscribe("t")
        fields = PROPERTIES if name is None else {name: PROPERTIES[name]}
        a.publish("t", b"x", qos, **fields)
        [packet] = b.take(Publish)
        assert packet == Publish("t", b"x", qos=qos, packet_id=packet.packet_id, **fields)
        [packet] = old.take(Publish)
        assert packet == Publish("t", b"x", qos=qos, packet_id=packet.packet_id)

    @pytest.mark.conformance("MQTT-3.3.2-3", "MQTT-4.3.1-1")
    @QOS
    @pytest.mark.parametrize("sender", [V311, V5])
    @pytest.mark.parametrize("receiver", [V311, V5])
    @pytest.mark.parametrize("payload", [b"", b"x", b"\xff" * 100, b"y" * 70_000], ids=len)
    def test_messages_cross_versions(self, qos: int, sender: int, receiver: int, payload: bytes) -> None:
        net = Network()
        a, b = net.connect("a", protocol_version=sender), net.connect("b", protocol_version=receiver)
        b.subscribe("t/+")
        a.publish("t/ü", payload, qos)
        assert b.messages() == [("t/ü", payload, qos)]

    @pytest.mark.conformance("MQTT-3.8.4-8")
    @pytest.mark.parametrize("published", [0, 1, 2])
    @pytest.mark.parametrize("granted", [0, 1, 2])
    def test_the_lower_qos_counts(self, published: int, granted: int) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe("t", qos=granted)
        a.publish("t", qos=published)
        assert b.messages() == [("t", b"", min(published, granted))]

    @pytest.mark.conformance("MQTT-4.6.0-5", "MQTT-4.6.0-6")
    @QOS
    def test_messages_of_one_topic_and_qos_keep_their_order(self, qos: int) -> None:
        net = Network()
        a, b = net.connect("a"), net.connect("b", receive_maximum=2)
        b.subscribe("#")
        b.subscribe("t")
        for number in range(100):
            a.publish("t", b"%d" % number, qos)
        assert b.payloads() == [b"%d" % number for number in range(100)]

    def test_many_packets_in_one_chunk_keep_their_order(self) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe("t")
        for qos in (0, 1, 2):
            a.send(*(Publish("t", b"%d" % i, qos=qos, packet_id=i + 1 if qos else None) for i in range(50)))
            assert b.payloads() == [b"%d" % i for i in range(50)]

    @pytest.mark.conformance("MQTT-4.7.3-4", "MQTT-1.5.4-3")
    def test_topics_are_compared_as_they_are(self) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        topics = ["t", "T", "t/", "/t", "t ", "\ufefft", "caf\u00e9", "cafe\u0301", "t//t"]
        for topic in topics:
            b.subscribe(topic)
            a.publish(topic, topic.encode(), 1)
            assert b.messages() == [(topic, topic.encode(), 1)]
            assert b.unsubscribe(topic) == [0]

    def test_the_server_can_publish(self) -> None:
        net = Network()
        b = net.connect("b")
        b.subscribe("$SYS/#")
        net.publish("$SYS/uptime", b"1", qos=1, retain=True, **PROPERTIES)
        [packet] = b.take(Publish)
        assert packet == Publish("$SYS/uptime", b"1", qos=1, packet_id=packet.packet_id, **PROPERTIES)
        for bad in (Publish("a/+"), Publish("t", qos=3), Publish("t", content_type="\0")):
            with pytest.raises(LocalProtocolError):
                net.broker.publish(bad, net.now)


class TestRefusals:
    @QOS
    @VERSIONS
    @pytest.mark.parametrize("topic", ["$SYS/x", "$SYS/", "1/2/3/4/5"])
    def test_topics_that_clients_may_not_publish_to(self, qos: int, version: int, topic: str) -> None:
        net = Network(maximum_topic_levels=4)
        a, b = net.connect("a", protocol_version=version), net.connect("b")
        b.subscribe("#", "$SYS/#")
        code = a.publish(topic, b"x", qos, retain=True)
        if version == V5:
            assert code == (ReasonCode.TOPIC_NAME_INVALID if qos else None)
        assert not b.received
        assert a.closed is None
        assert not len(net.broker._distributor.retained)

    @QOS
    def test_a_payload_that_is_not_what_it_says(self, qos: int) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe("#")
        if qos:
            assert a.publish("t", b"\xff", qos, payload_format_indicator=1) is ReasonCode.PAYLOAD_FORMAT_INVALID
        else:
            a.publish("t", b"\xff", payload_format_indicator=1)
            assert a.ended_with() is ReasonCode.PAYLOAD_FORMAT_INVALID
        assert not b.received

    @QOS
    def test_a_payload_need_not_be_checked(self, qos: int) -> None:
        net = Network(check_payload_format=False)
        a, b = net.connects("a", "b")
        b.subscribe("#")
        a.publish("t", b"\xff", qos, payload_format_indicator=1)
        assert b.payloads() == [b"\xff"]

    @pytest.mark.conformance("MQTT-3.2.2-14", "MQTT-3.2.2-17", "MQTT-4.13.1-1", "MQTT-4.13.2-1")
    @pytest.mark.parametrize(
        ("limits", "packet", "code"),
        [
            pytest.param(
                {"maximum_qos": 0},
                Publish("t", qos=1, packet_id=1),
                ReasonCode.QOS_NOT_SUPPORTED,
                marks=pytest.mark.conformance("MQTT-3.2.2-11"),
            ),
            ({"maximum_qos": 1}, Publish("t", qos=2, packet_id=1), ReasonCode.QOS_NOT_SUPPORTED),
            (
                {"retain_available": False},
                Publish("t", retain=True),
                ReasonCode.RETAIN_NOT_SUPPORTED,
            ),
            pytest.param(
                {},
                Publish("t", subscription_identifiers=(1,)),
                ReasonCode.PROTOCOL_ERROR,
                marks=pytest.mark.conformance("MQTT-3.3.4-6"),
            ),
            pytest.param(
                {"maximum_packet_size": 200},
                Publish("t", b"x" * 200),
                ReasonCode.PACKET_TOO_LARGE,
                marks=pytest.mark.conformance("MQTT-3.2.2-15"),
            ),
            (
                {"topic_alias_maximum": 3},
                Publish("t", topic_alias=4),
                ReasonCode.TOPIC_ALIAS_INVALID,
            ),
            ({"topic_alias_maximum": 0}, Publish("t", topic_alias=1), ReasonCode.TOPIC_ALIAS_INVALID),
            ({}, Publish("", topic_alias=1), ReasonCode.PROTOCOL_ERROR),
        ],
    )
    def test_what_the_connack_ruled_out_ends_the_connection(
        self, limits: dict[str, Any], packet: Publish, code: ReasonCode
    ) -> None:
        net = Network(**limits)
        a, b = net.connects("a", "b")
        b.subscribe("#")
        a.send(packet)
        assert a.ended_with() is code
        assert not b.received
        assert net.broker.links == {b.link}

    @pytest.mark.conformance("MQTT-3.3.4-7")
    @pytest.mark.parametrize("maximum", [1, 2, 10])
    def test_the_receive_maximum_is_enforced(self, maximum: int) -> None:
        net = Network(receive_maximum=maximum)
        a = net.connect("a")
        for number in range(maximum):
            a.send(Publish("t", qos=2, packet_id=number + 1))
        a.send(Publish("t", qos=2, packet_id=1, dup=True))  # not one more
        for _ in range(100):  # neither PUBRELs nor the settled count
            a.send(PubRel(1), Publish("t", qos=2, packet_id=1))
        assert a.closed is None
        a.received.clear()
        a.send(Publish("t", qos=1, packet_id=100))
        assert a.expect(Disconnect).reason_code is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED

    @pytest.mark.conformance("MQTT-4.3.3-9")
    def test_refused_qos_2_messages_do_not_count_against_the_receive_maximum(self) -> None:
        net = Network(receive_maximum=1, maximum_topic_levels=1)
        a = net.connect("a")
        for number in range(10):
            assert a.publish("a/b", qos=2) is ReasonCode.TOPIC_NAME_INVALID
            a.send(Publish("a", b"", qos=2, packet_id=100 + number), PubRel(100 + number))
            a.received.clear()
        assert a.closed is None
