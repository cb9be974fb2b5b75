"""Shared subscriptions (section 4.8.2): one member gets each message, and what becomes of it when that member goes."""

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import (
    V5,
    V311,
    ConnAck,
    Connect,
    PubAck,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
    SubAck,
    Subscribe,
    Subscription,
)
from mqttcore.message import Heading, Run
from tests.mqttcore.broker.support import Network, Peer, subscription

QOS = pytest.mark.parametrize("qos", [0, 1, 2])


def members(net: Network, count: int, qos: int = 2, **fields: Any) -> list[Peer]:
    peers = [net.connect(f"m{number}", **fields) for number in range(count)]
    for peer in peers:
        peer.subscribe("$share/g/t/#", qos=qos)
    return peers


class TestTurns:
    @QOS
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_each_message_goes_to_one_and_all_get_their_share(self, qos: int, count: int) -> None:
        net = Network()
        peers = members(net, count)
        for number in range(20 * count):
            net.publish("t/x", b"%d" % number, qos=qos)
        got = [peer.payloads() for peer in peers]
        assert [len(payloads) for payloads in got] == [20] * count
        assert sorted(itertools.chain(*got), key=int) == [b"%d" % number for number in range(20 * count)]

    def test_shares_are_apart_and_beside_ordinary_subscriptions(self) -> None:
        net = Network()
        a, b, c = net.connects("a", "b", "c")
        for peer in (a, b):
            peer.subscribe("$share/g/t", "$share/h/t", "$share/g/+")
        c.subscribe("t", "$share/h/t")
        for _ in range(30):
            net.publish("t", b"x")
        counts = [len(peer.payloads()) for peer in (a, b, c)]
        # 30 for each of the three shares, and 30 for the ordinary subscription
        assert sum(counts) == 120
        assert counts == [15 + 10 + 15, 15 + 10 + 15, 30 + 10]

    def test_identifiers_and_flags_are_those_of_the_shared_subscription(self) -> None:
        net = Network()
        a = net.connect("a")
        a.subscribe(subscription("$share/g/t", 1, retain_as_published=True), identifier=7)
        a.subscribe(subscription("t", 0), identifier=8)
        net.publish("t", b"x", qos=2, retain=True)
        received = {packet.subscription_identifiers: (packet.qos, packet.retain) for packet in a.take(Publish)}
        assert received == {(7,): (1, True), (8,): (0, False)}

    def test_the_publisher_may_be_the_one(self) -> None:
        net = Network()
        a = net.connect("a")
        a.subscribe("$share/g/t")
        a.publish("t", b"x", 1)
        assert a.payloads() == [b"x"]

    def test_version_4_can_share_too(self) -> None:
        net = Network()
        a, b = net.connect("a", protocol_version=V311), net.connect("b", protocol_version=V5)
        for peer in (a, b):
            peer.subscribe("$share/g/t")
        for _ in range(10):
            net.publish("t")
        assert len(a.take(Publish)) == len(b.take(Publish)) == 5

    @pytest.mark.conformance("MQTT-4.8.2-3")
    @pytest.mark.parametrize("granted", [0, 1, 2])
    @QOS
    def test_the_qos_granted_to_the_chosen_one_holds(self, granted: int, qos: int) -> None:
        net = Network()
        a, b = net.connects("a", "b")
        a.subscribe("$share/g/t", qos=granted)
        b.subscribe("$share/g/t", qos=2)
        for _ in range(10):
            net.publish("t", qos=qos)
        assert Counter(packet.qos for packet in a.take(Publish)) == {min(granted, qos): 5}
        assert Counter(packet.qos for packet in b.take(Publish)) == {qos: 5}

    def test_members_come_and_go(self) -> None:
        net = Network()
        a, b, c = members(net, 3)
        total = 0
        for leave in (b, a):
            for _ in range(12):
                net.publish("t/x")
            total += 12
            leave.unsubscribe("$share/g/t/#")
        for _ in range(12):
            net.publish("t/x")
        counts = [len(peer.take(Publish)) for peer in (a, b, c)]
        assert counts == [4 + 6, 4, 4 + 6 + 12]
        c.unsubscribe("$share/g/t/#")
        net.publish("t/x")
        assert not net.broker._distributor._subscriptions._root.children


class TestReadiness:
    @QOS
    def test_one_that_does_not_read_is_passed_over(self, qos: int) -> None:
        net = Network(output_high_water=1024)
        a, b = members(net, 2)
        a.reading = False
        for _ in range(50):
            net.publish("t/x", b"x" * 100, qos=qos)
        assert len(b.take(Publish)) >= 50 - 11
        a.read()
        assert net.broker.counters.qos0_dropped == 0

    def test_one_that_does_not_acknowledge_is_passed_over(self) -> None:
        net = Network()
        a, b = members(net, 2, receive_maximum=3)
        a.auto = False
        for _ in range(50):
            net.publish("t/x", qos=1)
        assert (len(a.take(Publish)), len(b.take(Publish))) == (3, 47)

    @QOS
    def test_those_who_are_connected_come_first(self, qos: int) -> None:
        net = Network()
        a, b = members(net, 2, session_expiry_interval=100)
        a.cut()
        for _ in range(10):
            net.publish("t/x", qos=qos)
        assert len(b.take(Publish)) == 10
        assert net.broker.sessions["m0"].pending == 0

    @QOS
    def test_with_nobody_there_it_waits_for_one(self, qos: int) -> None:
        net = Network()
        for peer in members(net, 3, session_expiry_interval=100):
            peer.cut()
        for number in range(9):
            net.publish("t/x", b"%d" % number, qos=qos)
        got = [net.resume(f"m{number}", session_expiry_interval=100).payloads() for number in range(3)]
        assert [len(payloads) for payloads in got] == [3 * (qos > 0)] * 3
        assert net.broker.counters.share_without_member == 9 * (qos == 0)

    def test_it_waits_for_one_who_may_get_it(self) -> None:
        net = Network()
        for client_id, qos in (("a", 0), ("b", 1)):
            peer = net.connect(client_id, session_expiry_interval=100)
            peer.subscribe("$share/g/t", qos=qos)
            peer.cut()
        for _ in range(4):
            net.publish("t", qos=1)
        assert len(net.resume("b").take(Publish)) == 4

    def test_a_full_queue_is_passed_over(self) -> None:
        net = Network(maximum_queued_messages=2)
        a, b = members(net, 2, session_expiry_interval=100)
        a.subscribe("other")
        a.cut()
        b.cut()
        for topic in ("other", "other", "t/x", "t/x"):
            net.publish(topic, topic.encode(), qos=1)
        assert net.resume("m0").payloads() == [b"other"] * 2
        assert net.resume("m1").payloads() == [b"t/x"] * 2
        assert net.broker.counters.queue_full_dropped == 0


class TestRedistribution:
    @pytest.mark.conformance("MQTT-4.8.2-5")
    @pytest.mark.parametrize("ending", ["clean start", "expiry", "disconnect"])
    @pytest.mark.parametrize("qos", [1, 2])
    def test_what_was_not_begun_goes_to_another(self, ending: str, qos: int) -> None:
        net = Network()
        a, b = members(net, 2, receive_maximum=2, session_expiry_interval=100)
        for peer in (a, b):
            peer.auto = False
            peer.reading = False
        for number in range(10):
            net.publish("t/x", b"%d" % number, qos=qos)
        b.auto = True
        b.read()
        before = b.payloads()
        assert len(before) < 10
        a.disconnect(session_expiry_interval=0 if ending == "disconnect" else 100)
        if ending == "clean start":
            net.connect("m0").disconnect()
        elif ending == "expiry":
            net.advance(100)
        begun = 0 if qos == 1 else 2
        assert len({*before, *b.payloads()}) == 10 - begun

    def test_nobody_else_is_no_error(self) -> None:
        net = Network()
        [a] = members(net, 1, session_expiry_interval=10)
        a.cut()
        net.publish("t/x", qos=1)
        net.advance(10)
        assert not net.broker.sessions

    def test_expired_messages_are_not_redistributed(self) -> None:
        net = Network()
        [a] = members(net, 1, session_expiry_interval=10)
        a.cut()
        net.publish("t/x", b"old", qos=1, message_expiry_interval=5)
        net.publish("t/x", b"new", qos=1, message_expiry_interval=50)
        b = net.connect("b")
        b.subscribe("$share/g/t/#")
        net.advance(10)
        assert b.payloads() == [b"new"]

    @pytest.mark.conformance("MQTT-4.8.2-4")
    def test_interrupted_qos_2_is_finished_with_its_member(self) -> None:
        net = Network()
        a, b = members(net, 2, session_expiry_interval=100)
        a.auto = b.auto = False
        for number in range(4):
            net.publish("t/x", b"%d" % number, qos=2)
        mine = a.take(Publish)
        assert len(mine) == 2
        assert mine[0].packet_id
        a.send(PubRec(mine[0].packet_id))
        a.cut()
        net.advance(50)
        again = net.resume("m0", session_expiry_interval=100)
        assert [packet.packet_id for packet in again.take(PubRel)] == [mine[0].packet_id, mine[1].packet_id]
        [second] = again.take(Publish)
        assert (second.packet_id, second.payload, second.dup) == (mine[1].packet_id, mine[1].payload, True)
        assert len(b.take(Publish)) == 2

    @pytest.mark.conformance("MQTT-4.8.2-6")
    @pytest.mark.parametrize("qos", [1, 2])
    def test_a_refusal_is_final_for_the_share(self, qos: int) -> None:
        net = Network()
        a, b = members(net, 2)
        a.auto = b.auto = False
        net.publish("t/x", qos=qos)
        [chosen] = [peer for peer in (a, b) if peer.received]
        packet = chosen.expect(Publish)
        assert packet.packet_id
        refusal = PubAck if qos == 1 else PubRec
        chosen.send(refusal(packet.packet_id, ReasonCode.NOT_AUTHORIZED))
        chosen.disconnect()
        assert not a.received
        assert not b.received

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("publish"), st.integers(1, 2)),
                st.tuples(st.sampled_from(["cut", "return", "forget", "leave", "join"]), st.integers(0, 2)),
            ),
            max_size=40,
        )
    )
    def test_nothing_is_lost_or_doubled_while_somebody_stays(self, steps: list[tuple[str, int]]) -> None:
        net = Network()
        keeper = net.connect("keeper", session_expiry_interval=0xFFFF_FFFF)
        keeper.subscribe("$share/g/t")
        peers: list[Peer | None] = [None, None, None]
        got: list[bytes] = []
        sent = 0
        for step, which in steps:
            if step == "publish":
                net.publish("t", b"%d" % sent, qos=which)
                sent += 1
                continue
            peer = peers[which]
            connected = peer is not None and peer.closed is None
            if step == "return" and not connected:
                if peer is not None:
                    got += peer.payloads()
                new = net.peer()
                new.send(Connect(client_id=f"{which}", clean_start=False, session_expiry_interval=1000))
                new.take(ConnAck)
                peers[which] = new
            elif peer is not None and connected:
                if step == "cut":
                    peer.cut()
                elif step == "forget":
                    peer.disconnect(session_expiry_interval=0)
                elif step == "leave":
                    peer.unsubscribe("$share/g/t")
                elif step == "join":
                    peer.subscribe("$share/g/t")
        net.advance(1000)  # whoever is away is forgotten, and what waited for him goes to the others
        for left in [keeper, *peers]:
            if left is not None:
                got += left.payloads()
        assert sorted(got, key=int) == [b"%d" % number for number in range(sent)]


def test_a_code_below_0x80_is_no_refusal() -> None:
    net = Network()
    [a] = members(net, 1)
    a.auto = False
    net.publish("t/x", qos=2)
    [packet] = a.take(Publish)
    assert packet.packet_id
    a.send(PubRec(packet.packet_id, ReasonCode.NO_MATCHING_SUBSCRIBERS))
    assert a.take(PubRel) == [PubRel(packet.packet_id)]


@pytest.mark.parametrize("share_name", [None, "g"])
def test_of_a_run_nothing_is_sent_that_what_is_added_for_the_receiver_makes_too_large(share_name: str | None) -> None:
    net = Network(maximum_packet_size=268_435_460, output_high_water=2**40)
    subscriber = net.connect("c")
    subscriber.send(Subscribe(1, (Subscription("$share/g/t" if share_name else "t"),), subscription_identifier=1))
    subscriber.expect(SubAck)
    distributor = net.broker._distributor
    # Packets of this size would take a gigabyte: the heading alone says that they are so large.
    heading = Heading(b"t", 268_435_450, 0, False)
    distributor.publish_run(distributor.route(b"t"), Run(heading, [b"", b""]), net.now)
    net.settle()
    assert subscriber.received == []
    assert net.broker.counters.too_large_dropped == 2
