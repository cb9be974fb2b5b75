"""Flow control (section 4.9) and backpressure: quotas, the high-water mark, one slow reader among others."""

import pytest

from mqttcore import (
    V5,
    V311,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
)
from mqttcore.broker import Flush
from tests.mqttcore.broker.support import Network, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


class TestSendQuota:
    @pytest.mark.conformance("MQTT-4.9.0-1", "MQTT-4.9.0-2", "MQTT-3.3.4-9")
    @pytest.mark.parametrize("quota", [1, 3, 10])
    @pytest.mark.parametrize("qos", [1, 2])
    def test_no_more_than_the_receive_maximum_is_under_way(self, quota: int, qos: int) -> None:
        net = Network()
        peer = net.connect("a", receive_maximum=quota)
        peer.auto = False
        peer.subscribe("t")
        for number in range(3 * quota):
            net.publish("t", b"%d" % number, qos=qos)
        taken = peer.take(Publish)
        assert len(taken) == quota
        first = taken[0].packet_id
        assert first
        if qos == 1:
            peer.send(PubAck(first))
        else:
            peer.send(PubRec(first))
            peer.take(PubRel)
            assert not peer.take(Publish)  # PUBREC gives no quota back
            peer.send(PubComp(first))
        assert peer.payloads() == [b"%d" % quota]

    @pytest.mark.parametrize("qos", [1, 2])
    def test_what_is_under_way_is_bounded_in_bytes(self, qos: int) -> None:
        net = Network(maximum_queued_bytes=2000)
        peer = net.connect("a", session_expiry_interval=100)
        peer.auto = False
        peer.subscribe("t")
        for number in range(5):
            net.publish("t", b"%d" % number * 900, qos=qos)
        session = net.broker.sessions["a"]
        under_way = peer.take(Publish)
        assert [message.payload[:1] for message in under_way] == [b"0", b"1", b"2"]  # the last one over the bound
        assert len(session.queue) == 2
        peer.cut()
        again = net.resume("a", session_expiry_interval=100)  # what was under way is sent again, bound or not
        assert [payload[:1] for payload in again.payloads()] == [b"0", b"1", b"2", b"3", b"4"]
        assert (session.pending, session.inflight_bytes, session.queued_bytes) == (0, 0, 0)

    @pytest.mark.conformance("MQTT-3.3.4-10", "MQTT-4.9.0-3")
    def test_a_used_up_quota_holds_back_publish_only(self) -> None:
        net = Network()
        peer = net.connect("a", receive_maximum=1)
        peer.auto = False
        peer.subscribe("t")
        net.publish("t", qos=2)
        net.publish("t", qos=2)
        assert len(peer.take(Publish)) == 1
        net.publish("t", b"0", qos=0)
        assert peer.payloads() == [b"0"]
        peer.send(PingReq())
        assert peer.expect(PingResp) == PingResp()
        peer.subscribe("u")
        peer.unsubscribe("u")
        peer.publish("x", qos=1)
        peer.publish("x", qos=2)

    @VERSIONS
    def test_the_brokers_own_bound_holds_too(self, version: int) -> None:
        net = Network(inflight_maximum=5)
        peer = net.connect("a", protocol_version=version)
        peer.auto = False
        peer.subscribe("t")
        for _ in range(20):
            net.publish("t", qos=1)
        assert len(peer.take(Publish)) == 5

    @pytest.mark.conformance("MQTT-2.2.1-4")
    def test_packet_identifiers_go_round(self) -> None:
        net = Network()
        peer = net.connect("a")
        peer.subscribe("t")
        peer.auto = False
        net.publish("t", b"first", qos=1)  # holds identifier 1 all the time
        assert peer.expect(Publish).packet_id == 1
        peer.auto = True
        net.broker.sessions["a"]._last_id = 65_533
        for _ in range(4):
            net.publish("t", qos=1)
        assert [packet.packet_id for packet in peer.take(Publish)] == [65_534, 65_535, 2, 3]


class TestHighWater:
    def test_qos_0_above_it_is_dropped_and_counted(self) -> None:
        net = Network(output_high_water=1024)
        peer = net.connect("a")
        peer.subscribe("t", qos=0)
        peer.read(False)
        for number in range(100):
            net.publish("t", b"%100d" % number)
        peer.read()
        got = peer.payloads()
        assert got == [b"%100d" % number for number in range(len(got))]
        assert 9 <= len(got) <= 11
        assert net.broker.counters.qos0_dropped == 100 - len(got)
        net.publish("t", b"again")
        assert peer.payloads() == [b"again"]

    @pytest.mark.parametrize("qos", [1, 2])
    def test_qos_1_and_2_wait(self, qos: int) -> None:
        net = Network(output_high_water=1024)
        peer = net.connect("a")
        peer.subscribe("t")
        peer.read(False)
        for number in range(100):
            net.publish("t", b"%100d" % number, qos=qos)
        session = net.broker.sessions["a"]
        assert len(session.inflight) + len(session.releasing) <= 11
        assert session.pending == 100
        peer.read()
        assert peer.payloads() == [b"%100d" % number for number in range(100)]
        assert not session.pending

    def test_a_stalled_reader_costs_no_more_than_its_bounds(self) -> None:
        net = Network(output_high_water=4096, maximum_queued_messages=50, inflight_maximum=10)
        peer = net.connect("a")
        peer.subscribe("t")
        peer.read(False)
        for number in range(1000):
            net.publish("t", b"%1000d" % number, qos=number % 3)
        assert sum(map(len, peer.link.out)) < 4096 + 2048
        assert net.broker.sessions["a"].pending <= 60
        counters = net.broker.counters
        assert counters.qos0_dropped + counters.queue_full_dropped >= 1000 - 70
        peer.read()
        numbers = [int(payload) for payload in peer.payloads()]
        assert len(numbers) == 1000 - counters.qos0_dropped - counters.queue_full_dropped
        for kind in range(3):
            assert (same := [number for number in numbers if number % 3 == kind]) == sorted(same)

    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_others_are_not_affected(self, qos: int) -> None:
        net = Network(output_high_water=1024, maximum_queued_messages=10)
        slow, fast, sender = net.connects("slow", "fast", "sender")
        for peer in (slow, fast):
            peer.subscribe("t")
        slow.read(False)
        for number in range(200):
            sender.publish("t", b"%100d" % number, qos)
            assert fast.payloads() == [b"%100d" % number]

    @pytest.mark.parametrize(
        "packets",
        [
            [PingReq()],
            [PubRel(7)],
            [Publish("x", qos=1, packet_id=1)],
            [Publish("x", qos=2, packet_id=1), PubRel(1)],
            [Publish("x/y", b"\xff", qos=1, packet_id=1, payload_format_indicator=1)],
            [Subscribe(1, (subscription("x"),) * 20)],
            [Unsubscribe(1, ("x",) * 20)],
        ],
        ids=lambda packets: type(packets[-1]).__name__,
    )
    def test_answers_do_not_pile_up_for_a_client_that_does_not_read(self, packets: list[Packet]) -> None:
        net = Network(output_high_water=1024)
        peer = net.connect("a")
        peer.read(False)
        for _ in range(5000):
            if peer.link.paused:
                break
            peer.send(*packets)
        assert peer.link.paused
        assert 1024 < sum(map(len, peer.link.out)) < 4096
        peer.read()
        assert not peer.link.paused

    def test_a_flush_is_asked_for_once_until_it_is_answered(self) -> None:
        net = Network()
        peer = net.connect("a")
        peer.subscribe("t")
        for _ in range(5):
            net.broker.publish(Publish("t"), 0.0)
        flushes = [action for action in net.broker.take_actions() if isinstance(action, Flush)]
        assert [flush.link for flush in flushes] == [peer.link]
        net.broker.publish(Publish("t"), 0.0)
        assert net.broker.take_actions() == []
        peer.drain()
        assert len(peer.take(Publish)) == 6
        net.publish("t")
        assert len(peer.take(Publish)) == 1
