"""Retained messages (section 3.3.1.3): stored, replaced, deleted, expired, bounded, and sent to new subscriptions."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqttcore import V5, V311, PubAck, Publish, PubRec, ReasonCode, Subscribe, Subscription
from mqttcore.broker.distribution import FILTERS_COMPARED, RETAINED_AT_ONCE, RETAINED_NODES
from mqttcore.codec import encode
from mqttcore.topics import matches
from tests.mqttcore.broker.support import Network, Peer, subscription
from tests.mqttcore.broker.test_subscribe import FILTERS, TOPICS

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
QOS = pytest.mark.parametrize("qos", [0, 1, 2])


def retained_by(net: Network, topic_filter: str = "#") -> dict[str, bytes]:
    peer = net.connect("reader", receive_maximum=65_535)
    peer.subscribe(topic_filter)
    received = peer.take(Publish)
    assert all(packet.retain for packet in received)
    peer.disconnect()
    found = {packet.topic: packet.payload for packet in received}
    assert len(found) == len(received)
    return found


def one_for_whom_something_waits() -> tuple[Network, Peer]:
    """A client that has got what is retained on t, and does not acknowledge what it gets of s."""
    net = Network()
    net.publish("t", b"old", retain=True)
    b = net.connect("b", receive_maximum=1)
    b.auto = False
    b.subscribe("t", "s")
    net.publish("s", b"in flight", qos=1)
    net.publish("s", b"waits", qos=1)
    return net, b


def acknowledged(peer: Peer) -> list[Publish]:
    """All that a client gets that has not acknowledged anything so far."""
    peer.auto = True
    first = [packet for packet in peer.received if isinstance(packet, Publish)]
    for packet in first:
        if packet.packet_id is not None:
            peer.send(PubAck(packet.packet_id) if packet.qos == 1 else PubRec(packet.packet_id))
    return peer.take(Publish)


class TestStore:
    @pytest.mark.conformance("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-7", "MQTT-3.3.1-8")
    @QOS
    @VERSIONS
    def test_the_last_one_is_kept(self, qos: int, version: int) -> None:
        net = Network()
        a, b = net.connect("a", protocol_version=version), net.connect("b")
        b.subscribe("t")
        a.publish("t", b"1", qos, retain=True)
        a.publish("t", b"2", qos, retain=True)
        a.publish("t", b"3", qos)
        assert retained_by(net) == {"t": b"2"}
        a.publish("t", b"", qos)
        assert retained_by(net) == {"t": b"2"}
        a.publish("t", b"", qos, retain=True)
        assert retained_by(net) == {}
        assert b.payloads() == [b"1", b"2", b"3", b"", b""]  # deleting is delivered as usual

    @pytest.mark.conformance("MQTT-4.7.2-1")
    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.tuples(TOPICS, st.sampled_from([b"", b"x", b"y"]), st.booleans(), st.integers(0, 2)), max_size=30),
        st.lists(FILTERS, min_size=1, max_size=5),
    )
    @example([("$x/b", b"x", True, 0), ("a/b", b"y", True, 0)], ["#", "+/b", "$x/+"])
    def test_what_is_retained_agrees_with_a_dict(
        self, published: list[tuple[str, bytes, bool, int]], wanted: list[str]
    ) -> None:
        net = Network()
        a = net.connect("a")
        model: dict[str, bytes] = {}
        for topic, payload, retain, qos in published:
            a.publish(topic, payload, qos, retain=retain)
            if retain:
                model.pop(topic, None)
                if payload:
                    model[topic] = payload
        for topic_filter in wanted:
            expected = {topic: payload for topic, payload in model.items() if matches(topic_filter, topic)}
            assert retained_by(net, topic_filter) == expected
        for topic in model:
            a.publish(topic, retain=True)
        retained = net.broker._distributor.retained
        assert (len(retained), retained.bytes, retained._root.children) in [(0, 0, {}), (0, 0, None)]

    def test_properties_are_kept(self) -> None:
        net = Network()
        fields: dict[str, Any] = {
            "content_type": "x", "user_properties": (("a", "b"), ("a", "c")), "correlation_data": b"1",
            "response_topic": "r", "payload_format_indicator": 1,
        }  # fmt: skip
        net.publish("t", b"1", retain=True, **fields)
        b = net.connect("b")
        b.subscribe("t", identifier=9)
        assert b.expect(Publish) == Publish("t", b"1", retain=True, subscription_identifiers=(9,), **fields)

    @pytest.mark.parametrize("stored", [0, 1, 2])
    @pytest.mark.parametrize("granted", [0, 1, 2])
    def test_the_lower_qos_counts(self, stored: int, granted: int) -> None:
        net = Network()
        net.publish("t", b"1", qos=stored, retain=True)
        b = net.connect("b")
        b.subscribe("t", qos=granted)
        assert b.messages() == [("t", b"1", min(stored, granted))]


class TestHandling:
    @pytest.mark.conformance("MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11", "MQTT-3.8.4-4")
    @pytest.mark.parametrize("handling", [0, 1, 2])
    @pytest.mark.parametrize("keep", [False, True])
    def test_when_they_are_sent(self, handling: int, keep: bool) -> None:
        net = Network()
        net.publish("t", b"1", retain=True)
        b = net.connect("b", session_expiry_interval=100)

        def subscribe(peer: Peer) -> int:
            peer.subscribe(subscription("t", retain_handling=handling, retain_as_published=keep))
            received = peer.take(Publish)
            assert all(packet.retain for packet in received)  # whatever Retain As Published says
            return len(received)

        assert [subscribe(b) for _ in range(3)] == [[1, 1, 1], [1, 0, 0], [0, 0, 0]][handling]
        b.cut()
        b = net.resume("b", session_expiry_interval=100)
        assert not b.received
        assert subscribe(b) == (handling == 0)
        b.unsubscribe("t")
        assert subscribe(b) == (handling != 2)

    @pytest.mark.conformance("MQTT-3.3.1-12", "MQTT-3.3.1-13")
    @pytest.mark.parametrize("keep", [False, True])
    @QOS
    def test_the_flag_of_a_live_message(self, keep: bool, qos: int) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        b.subscribe(subscription("t", 2, retain_as_published=keep))
        a.publish("t", b"1", qos, retain=True)
        a.publish("t", b"2", qos, retain=False)
        assert [packet.retain for packet in b.take(Publish)] == [keep, False]

    def test_shared_subscriptions_get_none(self) -> None:
        net = Network()
        net.publish("t", b"1", retain=True)
        b = net.connect("b")
        b.subscribe("$share/g/t", "$share/g/#")
        assert not b.received

    @pytest.mark.conformance("MQTT-3.8.4-5")
    def test_one_per_subscription_of_a_subscribe(self) -> None:
        net = Network()
        net.publish("a/b", b"1", retain=True)
        b = net.connect("b")
        b.subscribe("a/+", "a/#", "c")
        assert b.payloads() == [b"1", b"1"]

    @pytest.mark.conformance("MQTT-3.8.3-3")
    @QOS
    def test_no_local_holds_for_retained_messages(self, qos: int) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        a.publish("t/a", b"1", qos, retain=True)
        b.publish("t/b", b"2", qos, retain=True)
        a.subscribe(subscription("t/+", no_local=True))
        assert a.payloads() == [b"2"]


class TestExpiry:
    @pytest.mark.conformance("MQTT-3.3.2-5", "MQTT-3.3.2-6")
    @pytest.mark.parametrize("interval", [0, 1, 10, 0xFFFF_FFFF])
    def test_they_are_gone_when_their_time_has_passed(self, interval: int) -> None:
        net = Network()
        net.publish("t", b"1", retain=True, message_expiry_interval=interval)
        if interval:
            net.advance(interval * 0.5)
            b = net.connect("b")
            b.subscribe("t")
            assert b.expect(Publish).message_expiry_interval == round(interval * 0.5)
            b.disconnect()
            net.advance(interval * 0.5)
        else:
            net.advance(0)
        assert not len(net.broker._distributor.retained)
        assert net.broker._distributor.retained.bytes == 0
        assert retained_by(net) == {}
        assert net.broker.next_deadline() == float("inf")

    def test_a_replacement_has_its_own_time(self) -> None:
        net = Network()
        net.publish("t", b"1", retain=True, message_expiry_interval=10)
        net.advance(5)
        net.publish("t", b"2", retain=True, message_expiry_interval=10)
        net.advance(6)
        assert retained_by(net) == {"t": b"2"}
        net.publish("t", b"3", retain=True)
        net.advance(1000)
        assert retained_by(net) == {"t": b"3"}
        net.publish("t", b"4", retain=True, message_expiry_interval=1)
        net.advance(1)
        assert retained_by(net) == {}


class TestBounds:
    @VERSIONS
    @QOS
    def test_number_and_bytes(self, version: int, qos: int) -> None:
        bounds: list[dict[str, Any]] = [{"maximum_retained_messages": 2}, {"maximum_retained_bytes": 10}]
        for limits in bounds:
            net = Network(**limits)
            a = net.connect("a", protocol_version=version)
            for topic in ("a", "b"):
                a.publish(topic, b"1234", qos, retain=True)
            code = a.publish("c", b"1234", qos, retain=True)
            if qos and version == V5:
                assert code is ReasonCode.QUOTA_EXCEEDED
            assert retained_by(net) == {"a": b"1234", "b": b"1234"}
            a.publish("a", b"4321", qos, retain=True)  # in place of another
            a.publish("b", b"", qos, retain=True)
            a.publish("c", b"1", qos, retain=True)
            assert retained_by(net) == {"a": b"4321", "c": b"1"}
            assert net.broker.counters.not_retained == (0 if qos and version == V5 else 1)
            assert a.closed is None


class TestBackpressure:
    @pytest.mark.parametrize("receive_maximum", [1, 7, 65_535])
    @pytest.mark.parametrize("kinds", [(0,), (1,), (2,), (0, 1, 2)])
    def test_none_is_lost_however_slowly_they_are_taken(self, receive_maximum: int, kinds: tuple[int, ...]) -> None:
        net = Network(output_high_water=1024)
        expected = {}
        for number in range(500):
            topic, payload = f"t/{number}", b"%d" % number * 20
            expected[topic] = payload
            net.publish(topic, payload, retain=True, qos=kinds[number % len(kinds)])
        b = net.connect("b", receive_maximum=receive_maximum)
        b.auto = False
        b.reading = False
        b.send_bytes(b"\x82\x09\x00\x01\x00\x00\x03t/#\x02")
        b.auto = True
        portions = 0
        while size := b.read_once():
            net.settle()
            portions += 1
            assert size < 2048 + 10 * 2048
        b.read()
        received = b.take(Publish)
        assert {packet.topic: packet.payload for packet in received} == expected
        assert len(received) == len(expected)
        assert portions > 1

    def test_subscribing_again_and_again_does_not_pile_up(self) -> None:
        net = Network(output_high_water=1024)
        for number in range(100):
            net.publish(f"t/{number}", b"x" * 100, retain=True, qos=1)
        b = net.connect("b", receive_maximum=1)
        b.auto = False
        for _ in range(100):
            b.subscribe("t/#")
        topics = [packet.topic for packet in acknowledged(b)]
        assert {*topics} == {f"t/{number}" for number in range(100)}
        assert len(topics) <= 101

    @pytest.mark.conformance("MQTT-3.10.4-2")
    def test_unsubscribing_ends_it(self) -> None:
        net = Network()
        for number in range(10):
            net.publish(f"t/{number}", b"x", retain=True, qos=1)
        b = net.connect("b", receive_maximum=1)
        b.auto = False
        b.subscribe("t/#")
        b.subscribe(subscription("t/#", 1, retain_handling=1))
        b.unsubscribe("t/#")
        assert len(acknowledged(b)) == 1

    def test_those_not_sent_wait_for_the_client_to_return(self) -> None:
        net = Network()
        for number in range(30):
            net.publish(f"t/{number}", b"%d" % number, retain=True, qos=number % 3)
        b = net.connect("b", receive_maximum=5, session_expiry_interval=100)
        b.auto = False
        b.subscribe("t/#")
        before = {packet.topic for packet in b.take(Publish) if not packet.qos}
        b.cut()
        again = net.resume("b", receive_maximum=5)
        after = again.take(Publish)
        assert all(packet.retain for packet in after)
        expected = {f"t/{number}" for number in range(30) if number % 3}
        assert {packet.topic for packet in after if packet.qos} == expected
        rest = {packet.topic for packet in after if not packet.qos}
        assert rest | before == {f"t/{number}" for number in range(0, 30, 3)}
        assert not rest & before

    def test_a_long_search_lets_others_have_their_turn(self) -> None:
        """The packet that blocked a broker for seconds: a thousand filters, each of which makes it look everywhere."""
        net = Network()
        for number in range(2000):
            net.publish(f"a/b{number}/c", b"x", retain=True)
        b = net.connect("b")
        nodes = 2 + 2000  # that the search of each filter looks at
        at_once = 1 + (RETAINED_AT_ONCE + RETAINED_NODES) // nodes
        waiting = net.broker.sessions["b"].retained
        filters = tuple(Subscription(f"+/+/n{number}") for number in range(1000))
        net.broker.receive(b.link, encode(Subscribe(1, filters)), net.now)
        assert 1000 - 2 * at_once <= len(waiting) < 1000
        assert net.broker.next_deadline() <= net.now
        calls = 0
        while net.broker.next_deadline() <= net.now:
            before, calls = len(waiting), calls + 1
            net.broker.handle_timeout(net.now)
            assert before - len(waiting) <= at_once
        assert calls > 100
        assert not waiting

    @pytest.mark.conformance("MQTT-4.6.0-5")
    @pytest.mark.parametrize("qos", [1, 2])
    def test_a_newer_message_is_not_overtaken_by_the_retained_one(self, qos: int) -> None:
        net = Network()
        a = net.connect("a")
        for number in range(20):
            a.publish(f"t/{number}", b"old", qos, retain=True)
        b = net.connect("b", receive_maximum=1)
        b.auto = False
        b.subscribe("t/#")
        for number in range(20):
            a.publish(f"t/{number}", b"new", qos)
        packets = acknowledged(b)
        assert len(packets) >= 20
        last = {packet.topic: packet.payload for packet in packets}
        assert {*last.values()} == {b"new"}

    def test_a_newer_message_does_not_slip_past_behind_one_that_has_expired(self) -> None:
        # [MQTT-4.6.0-5]
        net = Network()
        net.publish("t", b"old", retain=True, qos=1)
        b = net.connect("b", receive_maximum=1)
        b.auto = False
        b.subscribe("s")
        net.publish("s", b"in flight", qos=1)
        net.publish("s", b"expires while it waits", qos=1, message_expiry_interval=1)
        b.subscribe("t")
        net.publish("t", b"new", qos=1)
        net.advance(2)
        assert [packet.payload for packet in acknowledged(b)] == [b"in flight", b"old", b"new"]

    def test_one_that_is_not_sent_anyway_holds_up_nothing(self) -> None:
        net = Network()
        b = net.connect("b", receive_maximum=1)
        b.auto = False
        b.publish("t", b"its own", 1, retain=True)
        b.subscribe("s")
        net.publish("s", b"in flight", qos=1)
        b.subscribe("t", no_local=True)
        net.publish("t", b"news")
        assert b.payloads() == [b"in flight", b"news"]

    @pytest.mark.parametrize("topic_filter", ["u", "+/u", "$share/g/u"])
    def test_a_search_that_waits_holds_up_what_it_can_find_and_nothing_else(self, topic_filter: str) -> None:
        net, b = one_for_whom_something_waits()
        b.subscribe(topic_filter)
        net.publish("t", b"new")
        assert b.payloads() == [b"old", b"in flight", b"new"]

    def test_of_many_searches_that_wait_it_is_not_asked_what_they_can_find(self) -> None:
        net, b = one_for_whom_something_waits()
        b.subscribe(*(f"u/{number}" for number in range(FILTERS_COMPARED)))
        net.publish("t", b"new")
        b.subscribe("one more")
        net.publish("t", b"newer")
        assert b.payloads() == [b"old", b"in flight", b"new"]
        assert net.broker.counters.qos0_dropped == 1

    @QOS
    def test_a_replacement_is_delivered_once(self, qos: int) -> None:
        net = Network()
        for number in range(5):
            net.publish(f"t/{number}", b"old", retain=True, qos=1)
        b = net.connect("b", receive_maximum=1)
        b.auto = False
        b.subscribe("t/#")
        for number in range(5):
            net.publish(f"t/{number}", b"new" if number % 2 else b"", qos=qos, retain=True)
        payloads = [packet.payload for packet in acknowledged(b)]
        assert payloads.count(b"old") == 1  # the one under way
        assert sorted(payloads) == sorted([b""] * 3 + [b"new"] * 2 + [b"old"])
