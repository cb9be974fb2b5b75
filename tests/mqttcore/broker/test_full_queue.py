"""The queue of a session that is full: which messages are dropped, by the limit `drop_oldest`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttcore import PubAck, Publish
from tests.mqttcore.broker.support import Network, Peer

NEVER = 0xFFFF_FFFF


def fits(sizes: list[int], count: int, size: int) -> bool:
    return len(sizes) <= count and sum(sizes) <= size


@given(
    sizes=st.lists(st.integers(0, 1500), max_size=12),
    count=st.integers(1, 5),
    quota=st.integers(0, 3),
    qos=st.integers(1, 2),
)
def test_the_newest_that_fit_are_kept(sizes: list[int], count: int, quota: int, qos: int) -> None:
    """Against what a reader of its name expects: whatever is in flight, and the newest of all others that fit."""
    net = Network(maximum_queued_messages=count, maximum_queued_bytes=1024, drop_oldest=True)
    peer = net.connect("a", session_expiry_interval=NEVER, receive_maximum=max(1, quota))
    peer.auto = False
    peer.subscribe("t")
    if not quota:
        peer.cut()
    waiting: list[int] = []
    in_flight: list[int] = []
    for size in sizes:
        net.publish("t", bytes(size), qos=qos)
        if len(in_flight) < quota and sum(item + 1 for item in in_flight) < 1024:
            in_flight.append(size)
        elif size + 1 <= 1024:
            waiting.append(size)
            while not fits([item + 1 for item in waiting], count, 1024):
                del waiting[0]
    assert [len(payload) for payload in peer.payloads()] == in_flight
    assert net.broker.counters.queue_full_dropped == len(sizes) - len(in_flight) - len(waiting)
    session = net.broker.sessions["a"]
    assert session.queued_bytes == sum(size + 1 for size in waiting)
    if quota:
        peer.cut()
    again = net.resume("a")
    assert [len(payload) for payload in again.payloads()] == in_flight + waiting
    assert session.pending == 0


def test_without_it_the_oldest_are_kept() -> None:
    net = Network(maximum_queued_messages=2)
    peer = net.connect("a", session_expiry_interval=NEVER)
    peer.subscribe("t")
    peer.cut()
    for number in range(5):
        net.publish("t", b"%d" % number, qos=1)
    assert net.resume("a").payloads() == [b"0", b"1"]
    assert net.broker.counters.queue_full_dropped == 3


@pytest.mark.parametrize("drop_oldest", [False, True])
def test_what_has_expired_takes_no_room(drop_oldest: bool) -> None:
    net = Network(maximum_queued_messages=2, drop_oldest=drop_oldest)
    peer = net.connect("a", session_expiry_interval=NEVER)
    peer.subscribe("t")
    peer.cut()
    net.publish("t", b"old", qos=1, message_expiry_interval=5)
    net.publish("t", b"lasting", qos=1)
    net.advance(6)
    net.publish("t", b"new", qos=1)
    assert net.resume("a").payloads() == [b"lasting", b"new"]
    assert net.broker.counters.queue_full_dropped == 0


@given(before=st.integers(0, 6), after=st.integers(0, 6), quota=st.integers(1, 3))
def test_retained_messages_keep_their_place_between_what_is_left(before: int, after: int, quota: int) -> None:
    """They follow what waited when they were asked for and go before what came later, however much was dropped."""
    net = Network(maximum_queued_messages=3, drop_oldest=True)
    net.publish("kept", b"kept", qos=1, retain=True)
    peer = net.connect("a", receive_maximum=quota)
    peer.auto = False
    peer.subscribe("t")
    for payload in [b"in flight"] * quota + [b"before"] * before:
        net.publish("t", payload, qos=1)
    peer.subscribe("kept")
    for _ in range(after):
        net.publish("t", b"after", qos=1)
    queue = ([b"before"] * before + [b"after"] * after)[-3:]
    place = queue.count(b"before")
    expected = [b"in flight"] * quota + queue[:place] + [b"kept"] + queue[place:]
    got = []
    while packets := peer.take(Publish):
        got += [packet.payload for packet in packets]
        for packet in packets:
            assert packet.packet_id
            peer.send(PubAck(packet.packet_id))
    assert got == expected


def members(net: Network, *client_ids: str) -> list[Peer]:
    peers = net.connects(*client_ids, session_expiry_interval=100)
    for peer in peers:
        peer.subscribe("$share/g/t")
    return peers


def test_a_member_of_a_share_with_room_comes_first() -> None:
    net = Network(maximum_queued_messages=2, drop_oldest=True)
    a, b = members(net, "a", "b")
    a.subscribe("other")
    for peer in (a, b):
        peer.cut()
    for topic in ("other", "other", "t", "t"):
        net.publish(topic, topic.encode(), qos=1)
    assert net.broker.counters.queue_full_dropped == 0
    assert net.resume("a").payloads() == [b"other"] * 2
    assert net.resume("b").payloads() == [b"t"] * 2


def test_a_share_that_is_full_drops_its_oldest_in_turn() -> None:
    net = Network(maximum_queued_messages=2, drop_oldest=True)
    for peer in members(net, "a", "b"):
        peer.cut()
    for number in range(10):
        net.publish("t", b"%d" % number, qos=1)
    assert net.broker.counters.queue_full_dropped == 6
    assert sorted(net.resume("a").payloads() + net.resume("b").payloads()) == [b"6", b"7", b"8", b"9"]


def test_what_a_member_leaves_behind_finds_its_place() -> None:
    net = Network(maximum_queued_messages=2, drop_oldest=True)
    for peer in members(net, "a", "b"):
        peer.cut()
    for number in range(4):
        net.publish("t", b"%d" % number, qos=1)
    net.connect("a").disconnect()  # Clean Start 1 ends its session
    assert net.broker.counters.queue_full_dropped == 2
    assert net.broker.sessions["b"].pending == 2
    assert net.resume("b").payloads() == [b"0", b"2"]
