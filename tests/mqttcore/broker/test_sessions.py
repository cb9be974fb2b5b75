"""Sessions that outlive their connections (section 4.1 and 4.4): what waits, what is sent again, in which order."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import V5, V311, Connect, PubAck, PubComp, Publish, PubRec, PubRel, ReasonCode
from mqttcore.broker.reports import SessionEnded
from tests.mqttcore.broker.support import Network, Peer, assert_empty, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


def connect(net: Network, client_id: str = "a", version: int = V5, **fields: Any) -> Peer:
    """A client whose session lasts, in either version."""
    if version == V5:
        fields.setdefault("session_expiry_interval", 0xFFFF_FFFF)
    return net.connect(client_id, clean_start=False, protocol_version=version, **fields)


def resume(net: Network, client_id: str = "a", version: int = V5, **fields: Any) -> Peer:
    if version == V5:
        fields.setdefault("session_expiry_interval", 0xFFFF_FFFF)
    return net.resume(client_id, protocol_version=version, **fields)


class TestAway:
    @pytest.mark.conformance("MQTT-4.5.0-1", "MQTT3-3.1.2-5")
    @VERSIONS
    @pytest.mark.parametrize("granted", [0, 1, 2])
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_qos_1_and_2_wait(self, version: int, granted: int, qos: int) -> None:
        net = Network()
        peer = connect(net, version=version)
        peer.subscribe("t/+", qos=granted)
        peer.cut()
        for number in range(10):
            net.publish(f"t/{number}", b"%d" % number, qos=qos)
        again = resume(net, version=version)
        effective = min(granted, qos)
        expected = [(f"t/{number}", b"%d" % number, effective) for number in range(10)]
        assert again.messages() == (expected if effective else [])
        again.received.clear()
        again.cut()
        assert not resume(net, version=version).received

    @VERSIONS
    def test_subscriptions_last_with_their_options(self, version: int) -> None:
        net = Network()
        peer = connect(net, version=version)
        options = {"no_local": True, "retain_as_published": True} if version == V5 else {}
        peer.subscribe(subscription("t", 1, **options), identifier=7 if version == V5 else None)
        peer.cut()
        again = resume(net, version=version)
        again.publish("t", b"own", 1)
        net.publish("t", b"x", qos=2, retain=True)
        *own, packet = again.take(Publish)
        assert len(own) == (version == V311)
        assert packet.qos == 1
        assert packet.retain == (version == V5)
        assert packet.subscription_identifiers == ((7,) if version == V5 else ())

    def test_a_session_may_change_its_version(self) -> None:
        net = Network()
        peer = connect(net, version=V311)
        peer.subscribe("t")
        peer.cut()
        net.publish("t", b"x", qos=2, content_type="c")
        again = resume(net, version=V5)
        [packet] = again.take(Publish)
        assert packet.content_type == "c"
        again.cut()
        net.publish("t", b"y", qos=1, content_type="c")
        assert resume(net, version=V311).payloads() == [b"y"]

    @pytest.mark.parametrize(
        ("limits", "kept"),
        [({"maximum_queued_messages": 3}, 3), ({"maximum_queued_bytes": 1024}, 10), ({}, 20)],
    )
    def test_the_queue_is_bounded_and_the_oldest_are_kept(self, limits: dict[str, Any], kept: int) -> None:
        net = Network(**limits)
        peer = connect(net)
        peer.subscribe("t")
        peer.cut()
        for number in range(20):
            net.publish("t", b"%99d" % number, qos=1)  # 100 bytes with the topic
        assert net.broker.counters.queue_full_dropped == 20 - kept
        assert resume(net).payloads() == [b"%99d" % number for number in range(kept)]
        session = net.broker.sessions["a"]
        assert (session.pending, session.queued_bytes) == (0, 0)


class TestResend:
    @pytest.mark.conformance("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.2-2", "MQTT-4.3.3-6", "MQTT3-4.4.0-1")
    @VERSIONS
    def test_what_is_unacknowledged_is_sent_again_in_order(self, version: int) -> None:
        net = Network()
        peer = connect(net, version=version)
        peer.auto = False
        peer.subscribe("t")
        for number in range(6):
            net.publish("t", b"%d" % number, qos=1 + number % 2)
        first = peer.take(Publish)
        assert [packet.packet_id for packet in first] == [1, 2, 3, 4, 5, 6]
        assert not any(packet.dup for packet in first)
        peer.send(PubAck(3), PubRec(4))
        peer.take(PubRel)
        net.advance(1e6)
        assert not peer.received  # never again on the same connection
        peer.cut()
        net.publish("t", b"6", qos=1)
        again = resume(net, version=version)
        assert [packet.packet_id for packet in again.take(PubRel) if packet.packet_id == 4] == [4]
        second = again.take(Publish)
        assert [(packet.packet_id, packet.payload, packet.dup) for packet in second] == [
            (1, b"0", True), (2, b"1", True), (5, b"4", True), (6, b"5", True), (7, b"6", False),
        ]  # fmt: skip

    @pytest.mark.conformance("MQTT-4.3.3-5")
    def test_pubrels_are_sent_again_first_and_finish(self) -> None:
        net = Network()
        peer = connect(net)
        peer.auto = False
        peer.subscribe("t")
        for _ in range(3):
            net.publish("t", qos=2)
        peer.send(PubRec(2), PubRec(1))
        peer.cut()
        for _ in range(3):
            peer = net.peer()
            peer.auto = False
            peer.send(Connect(client_id="a", clean_start=False, session_expiry_interval=100))
            kinds = [(type(packet).__name__, getattr(packet, "packet_id", 0)) for packet in peer.received]
            assert kinds == [("ConnAck", 0), ("PubRel", 2), ("PubRel", 1), ("Publish", 3)]
            peer.cut()
        last = resume(net)
        assert not net.broker.sessions["a"].pending
        last.cut()
        assert not resume(net).received

    @pytest.mark.conformance("MQTT-4.9.0-1", "MQTT-4.9.0-2", "MQTT-3.3.4-9")
    @pytest.mark.parametrize("receive_maximum", [1, 2, 5])
    def test_the_receive_maximum_of_the_new_connection_holds(self, receive_maximum: int) -> None:
        net = Network()
        peer = connect(net, receive_maximum=10)
        peer.auto = False
        peer.subscribe("t")
        for number in range(20):
            net.publish("t", b"%d" % number, qos=1 + number % 2)
        peer.cut()
        again = resume(net, receive_maximum=receive_maximum)  # the referee counts
        assert again.payloads() == [b"%d" % number for number in range(20)]

    @pytest.mark.conformance("MQTT-4.3.3-10")
    def test_inbound_qos_2_outlives_the_connection(self) -> None:
        net = Network()
        other = net.connect("other")
        other.subscribe("t")
        peer = connect(net)
        peer.send(Publish("t", b"1", qos=2, packet_id=5))
        for _ in range(3):
            peer.cut()
            peer = resume(net)
            peer.send(Publish("t", b"1", qos=2, packet_id=5, dup=True))
            assert peer.take(PubRec) == [PubRec(5)]
        peer.send(PubRel(5))
        assert peer.take(PubComp) == [PubComp(5)]
        assert other.payloads() == [b"1"]

    def test_a_pubrel_whose_pubcomp_was_lost_is_answered_as_the_first(self) -> None:
        net = Network()
        peer = connect(net)
        peer.send(Publish("t", b"1", qos=2, packet_id=5), PubRel(5), PubRel(6))
        assert peer.take(PubComp) == [PubComp(5), PubComp(6, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)]
        peer.cut()
        peer = resume(net)
        peer.send(PubRel(5))
        assert peer.take(PubComp) == [PubComp(5)]

    @pytest.mark.conformance("MQTT-3.1.2-4")
    def test_clean_start_forgets_all_of_it(self) -> None:
        net = Network()
        other = net.connect("other")
        other.subscribe("in")
        peer = connect(net)
        peer.auto = False
        peer.subscribe("t")
        net.publish("t", qos=1)
        net.publish("t", qos=2)
        peer.send(PubRec(2), Publish("in", b"1", qos=2, packet_id=9))
        peer.cut()
        net.publish("t", qos=1)
        fresh = net.connect("a", clean_start=True)
        assert not fresh.received
        net.publish("t", qos=1)
        assert not fresh.received
        fresh.send(Publish("in", b"2", qos=2, packet_id=9, dup=True))
        assert other.payloads() == [b"1", b"2"]
        [report] = net.take_reports(SessionEnded)
        assert (report.client_id, report.discarded) == ("a", 3)

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("publish"), st.integers(1, 2)),
                st.tuples(st.just("cut"), st.integers(1, 4)),
                st.tuples(st.just("answer"), st.integers(1, 3)),
            ),
            max_size=50,
        ),
        st.sampled_from([V311, V5]),
    )
    def test_qos_1_comes_at_least_once_and_qos_2_exactly_once_through_any_breaks(
        self, steps: list[tuple[str, int]], version: int
    ) -> None:
        net = Network()
        peer = connect(net, version=version)
        peer.auto = False
        peer.subscribe("t")
        got: dict[int, list[bytes]] = {1: [], 2: []}
        known: set[int] = set()  # the client's QoS 2 state
        waiting: list[Publish | PubRel] = []
        sent = 0

        def collect() -> None:
            waiting.extend(packet for packet in peer.received if isinstance(packet, Publish | PubRel))
            peer.received.clear()

        def answer() -> None:
            packet = waiting.pop(0)
            assert packet.packet_id
            if isinstance(packet, PubRel):
                known.discard(packet.packet_id)
                peer.send(PubComp(packet.packet_id))
            elif packet.qos == 1:
                got[1].append(packet.payload)
                peer.send(PubAck(packet.packet_id))
            else:
                if packet.packet_id not in known:
                    got[2].append(packet.payload)
                    known.add(packet.packet_id)
                peer.send(PubRec(packet.packet_id))

        for step, count in steps:
            if step == "publish":
                net.publish("t", b"%d" % sent, qos=count)
                sent += 1
            elif step == "cut":
                peer.cut()
                waiting.clear()
                fields: dict[str, Any] = {"receive_maximum": count} if version == V5 else {}
                peer = net.peer()
                peer.auto = False
                expiry = 0xFFFF_FFFF if version == V5 else None
                connect_packet = Connect(
                    client_id="a", clean_start=False, protocol_version=version, session_expiry_interval=expiry, **fields
                )
                peer.send(connect_packet)
            else:
                for _ in range(min(count, len(waiting))):
                    answer()
            collect()
        while waiting:
            answer()
            collect()
        both = {int(payload): qos for qos in (1, 2) for payload in got[qos]}
        assert sorted(both) == [*range(sent)]
        assert [int(payload) for payload in got[2]] == sorted(number for number, qos in both.items() if qos == 2)
        firsts = list(dict.fromkeys(int(payload) for payload in got[1]))
        assert firsts == sorted(firsts)
        assert not net.broker.sessions["a"].pending


class TestEnd:
    @pytest.mark.conformance("MQTT-4.1.0-2")
    @pytest.mark.parametrize("interval", [1, 100, 0xFFFF_FFFE])
    def test_nothing_is_left(self, interval: int) -> None:
        net = Network()
        peer = connect(net, session_expiry_interval=interval)
        peer.auto = False
        peer.subscribe("a/b", "a/+/#", "$share/g/x/#")
        net.publish("a/b", qos=1)
        peer.send(Publish("z", qos=2, packet_id=1))
        peer.cut()
        net.publish("a/b", qos=1)
        session = net.broker.sessions["a"]
        net.advance(interval)
        assert not net.broker.sessions
        assert (session.pending, session.queued_bytes, session.unreleased) == (0, 0, set())
        assert net.broker.next_deadline() == float("inf")
        assert_empty(net.broker)
        [report] = net.take_reports(SessionEnded)
        assert (report.client_id, report.discarded) == ("a", 2)

    def test_never_is_never(self) -> None:
        net = Network()
        connect(net, session_expiry_interval=0xFFFF_FFFF).cut()
        net.advance(1e10)
        assert net.broker.sessions
        assert net.broker.next_deadline() == float("inf")

    def test_the_time_counts_from_the_last_connection(self) -> None:
        net = Network()
        for _ in range(5):
            peer = connect(net, session_expiry_interval=10)
            net.advance(50)
            peer.cut()
            net.advance(9)
            assert net.broker.sessions
        net.advance(1)
        assert not net.broker.sessions
