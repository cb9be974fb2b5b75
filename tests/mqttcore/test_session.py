"""Session State: packet identifiers, what is sent again and in which order, quota, expiry, bounds."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mqttcore import packets as p
from mqttcore.codes import ReasonCode
from mqttcore.limits import Limits
from mqttcore.message import Message
from mqttcore.session import Awaiting, Delivery, Session

NOT_FOUND = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
REFUSED = ReasonCode.NOT_AUTHORIZED


def delivery(qos: int = 1, payload: bytes = b"", expires_at: float = float("inf")) -> Delivery:
    return Delivery(Message(b"t", payload, qos, False, expires_at=expires_at), qos, retain=False)


def session(*, quota: int = 65_535, **limits: Any) -> Session:
    """A session whose client is connected."""
    made = Session(Limits(**limits))
    assert made.resume(quota) == []
    return made


def under_way(made: Session, *qos: int) -> list[Delivery]:
    """Messages that have been sent for the first time."""
    for level in qos:
        assert made.enqueue(delivery(level))
    return everything(made)


def everything(made: Session, now: float = 0.0) -> list[Delivery]:
    """What can be sent now."""
    found = []
    while (item := made.next_publish(now)) is not None:
        found.append(item)
    return found


class Life(RuleBasedStateMachine):
    """One session through any number of connections, with a peer that may answer anything at any time."""

    @initialize(
        inflight=st.integers(1, 6),
        queued=st.integers(1, 6),
        last_id=st.sampled_from([0, 65_530, 65_535]),
        quota=st.integers(0, 8),
    )
    def begin(self, inflight: int, queued: int, last_id: int, quota: int) -> None:
        self.limits = Limits(inflight_maximum=inflight, maximum_queued_messages=queued, maximum_queued_bytes=1024)
        self.session = Session(self.limits)
        self.session._last_id = last_id  # to come to the end of the identifiers in few steps
        self.quota = 0
        self.now = 0.0
        self.on_the_way: dict[int, Delivery] = {}  # sent on this connection, and not settled
        self.order: list[Delivery] = []  # of first sending
        self.requests: set[int] = set()
        self.to_resend: list[Delivery] = []
        if quota:  # else it begins with no connection
            self.reconnect(quota)

    @rule(qos=st.integers(1, 2), size=st.integers(0, 400), life=st.sampled_from([0.0, 1.5, float("inf")]))
    def enqueue(self, qos: int, size: int, life: float) -> None:
        waiting, size_before = len(self.session.queue), self.session.queued_bytes
        added = self.session.enqueue(delivery(qos, bytes(size), self.now + life))
        room = waiting < self.limits.maximum_queued_messages and size_before + size + 1 <= 1024
        assert added is room
        assert len(self.session.queue) == waiting + room

    @rule()
    def send(self) -> None:
        has_quota, in_use = self.session.has_quota, set(self.session.inflight) | self.requests
        item = self.session.next_publish(self.now)
        assert has_quota is (len(self.on_the_way) < min(self.quota, self.limits.inflight_maximum))
        if self.to_resend:
            assert item is (self.to_resend.pop(0) if has_quota else None)
        if item is None:
            assert not has_quota or not self.session.backlog
            return
        assert item.dup is (item in self.order)
        if not item.dup:
            assert item.packet_id not in in_use
            assert 1 <= item.packet_id <= 65_535
            assert not item.message.expired(self.now)
            self.order.append(item)
        self.on_the_way[item.packet_id] = item

    @rule()
    def request(self) -> None:
        packet_id = self.session.allocate_id()
        assert packet_id not in set(self.session.inflight) | self.requests
        assert 1 <= packet_id <= 65_535
        if len(self.requests) < 5:
            self.requests.add(packet_id)
            self.session.requests.add(packet_id)

    @rule(data=st.data(), code=st.sampled_from([ReasonCode.SUCCESS, REFUSED]))
    def the_peer_answers(self, data: st.DataObject, code: ReasonCode) -> None:
        known = sorted(self.session.inflight)
        packet_id = data.draw(st.sampled_from(known) if known else st.integers(1, 65_535))
        kind: Any = data.draw(st.sampled_from([p.PubAck, p.PubRec, p.PubComp]))
        item = self.session.inflight.get(packet_id)
        awaiting = Awaiting.NOTHING if item is None else item.awaiting
        answer = self.session.on_packet(kind(packet_id, code))
        if kind is p.PubRec and code is ReasonCode.SUCCESS:
            found = awaiting in (Awaiting.PUBREC, Awaiting.PUBCOMP)
            assert answer == p.PubRel(packet_id, ReasonCode.SUCCESS if found else NOT_FOUND)
        else:
            assert answer is None
        if item is None:
            return
        settled = {
            Awaiting.PUBACK: kind is p.PubAck,
            Awaiting.PUBREC: kind is p.PubRec and code is REFUSED,
            Awaiting.PUBCOMP: kind is p.PubComp or (kind is p.PubRec and code is REFUSED),
        }[awaiting]
        assert (packet_id not in self.session.inflight) is settled
        if settled:
            self.on_the_way.pop(packet_id, None)
            self.order.remove(item)
        elif awaiting is Awaiting.PUBREC and item.awaiting is Awaiting.PUBCOMP:
            self.on_the_way[packet_id] = item  # it takes no quota while it waits to be sent again, but does now
        if settled or item.awaiting is not awaiting:
            self.to_resend = [other for other in self.to_resend if other is not item]

    @rule(quota=st.integers(1, 8))
    def reconnect(self, quota: int) -> None:
        again = self.session.resume(quota)
        self.quota = quota
        self.requests.clear()
        waiting = {item.packet_id: item for item in self.order if item.awaiting is Awaiting.PUBCOMP}
        assert {packet.packet_id for packet in again} == set(waiting)
        self.on_the_way = waiting
        self.to_resend = [item for item in self.order if item.awaiting is not Awaiting.PUBCOMP]

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_accounts_are_right(self) -> None:
        assert self.session.queued_bytes == sum(item.message.size for item in self.session.queue)
        assert self.session.inflight_bytes == sum(item.message.size for item in self.session.inflight.values())
        assert self.session.pending == len(self.order) + len(self.session.queue)
        assert set(self.session.inflight) == {item.packet_id for item in self.order}
        assert self.session.backlog is bool(self.to_resend or self.session.queue)
        assert not set(self.session.inflight) & self.requests
        # PUBRELs from an earlier connection may be more
        sent_now = [item for item in self.on_the_way.values() if item.awaiting is not Awaiting.PUBCOMP]
        assert len(sent_now) <= min(self.quota, self.limits.inflight_maximum)


TestLife = pytest.mark.conformance(
    "MQTT-2.2.1-3",
    "MQTT-2.2.1-4",
    "MQTT-2.2.1-5",
    "MQTT-3.3.1-1",
    "MQTT-3.3.2-5",
    "MQTT-4.3.2-1",
    "MQTT-4.3.2-2",
    "MQTT-4.3.2-3",
    "MQTT-4.3.3-1",
    "MQTT-4.3.3-2",
    "MQTT-4.3.3-3",
    "MQTT-4.3.3-4",
    "MQTT-4.3.3-5",
    "MQTT-4.3.3-6",
    "MQTT-4.4.0-1",
    "MQTT-4.4.0-2",
    "MQTT-4.6.0-1",
    "MQTT-4.9.0-1",
    "MQTT-4.9.0-2",
)(Life.TestCase)
TestLife.settings = settings(max_examples=100, stateful_step_count=40)


@pytest.mark.conformance("MQTT-2.2.1-3", "MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
def test_identifiers_go_round_past_those_in_use() -> None:
    made = session()
    first, second = under_way(made, 1, 2)
    made.requests.add(70)
    for _ in range(65_600):
        [item] = under_way(made, 1)
        assert item.packet_id not in (first.packet_id, second.packet_id, 70)
        assert made.acknowledged(item.packet_id) is item


def test_a_message_has_no_identifier_before_it_is_sent() -> None:
    made = session(quota=1)
    one, two = (Delivery(delivery(qos).message, qos, False, identifiers=(3,)) for qos in (1, 2))
    assert made.enqueue(one)
    assert made.enqueue(two)
    assert everything(made) == [one]
    assert (one.packet_id, one.awaiting, one.identifiers) == (1, Awaiting.PUBACK, (3,))
    assert (two.packet_id, two.awaiting, two.identifiers) == (0, Awaiting.NOTHING, (3,))


def test_nothing_is_sent_before_there_is_a_connection() -> None:
    made = Session(Limits())
    made.enqueue(delivery())
    assert everything(made) == []
    assert not made.has_quota
    made.resume(1)
    assert len(everything(made)) == 1


def test_there_is_an_identifier_even_when_all_but_one_are_in_use() -> None:
    made = session()
    made.requests.update(set(range(1, 65_536)) - {40_000})
    assert made.allocate_id() == 40_000
    assert made.allocate_id() == 40_000


@pytest.mark.conformance("MQTT-4.6.0-4", "MQTT-4.6.0-1", "MQTT-4.4.0-1")
def test_publishes_are_sent_again_in_their_order_and_pubrels_in_that_of_their_pubrecs() -> None:
    made = session()
    items = under_way(made, 2, 1, 2, 2, 1, 2)
    for index in (3, 0):
        made.received(items[index].packet_id)
    made.received(items[3].packet_id)  # a PUBREC that comes twice
    assert made.resume(100) == [p.PubRel(items[3].packet_id), p.PubRel(items[0].packet_id)]
    again = everything(made)
    assert again == [items[index] for index in (1, 2, 4, 5)]
    assert all(item.dup for item in again)
    assert everything(made) == []  # once per connection


def test_new_messages_wait_behind_those_sent_again() -> None:
    made = session()
    old = under_way(made, 1, 1, 1)
    made.enqueue(delivery(1, b"new"))
    made.resume(2)
    assert everything(made) == old[:2]
    assert not made.has_quota
    made.acknowledged(old[0].packet_id)
    assert everything(made) == old[2:]
    made.acknowledged(old[1].packet_id)
    [new] = everything(made)
    assert (new.message.payload, new.dup) == (b"new", False)


def test_a_smaller_receive_maximum_counts_the_pubrels_too() -> None:
    made = session()
    items = under_way(made, 2, 2, 2)
    for item in items:
        made.received(item.packet_id)
    made.enqueue(delivery())
    made.resume(2)
    for item in items[:2]:
        assert everything(made) == []
        assert made.completed(item.packet_id) is item
    assert len(everything(made)) == 1


def test_an_answer_that_comes_before_the_message_is_sent_again_settles_it() -> None:
    made = session()
    one, two, three = under_way(made, 1, 2, 2)
    made.resume(1)
    made.acknowledged(one.packet_id)
    made.received(two.packet_id, REFUSED)
    assert everything(made) == [three]
    made.resume(1)
    assert made.received(three.packet_id) == p.PubRel(three.packet_id)
    assert everything(made) == []


@pytest.mark.conformance("MQTT-4.3.3-7", "MQTT-4.3.3-13")
@pytest.mark.parametrize("qos", [1, 2])
def test_what_has_been_sent_no_longer_expires(qos: int) -> None:
    made = session()
    made.enqueue(delivery(qos, expires_at=10.0))
    [item] = everything(made, 10.0)
    made.resume(5)
    assert everything(made, 1e9) == [item]
    assert made.expired == 0


@pytest.mark.parametrize(("theirs", "ours", "sent"), [(3, 5, 3), (5, 3, 3), (65_535, 1000, 6)])
def test_the_lower_bound_on_messages_in_flight_holds(theirs: int, ours: int, sent: int) -> None:
    assert len(under_way(session(quota=theirs, inflight_maximum=ours), *[1, 2] * 3)) == sent


@pytest.mark.conformance("MQTT-3.3.2-5")
def test_what_expires_while_it_waits_is_not_sent() -> None:
    made = session()
    lives = (5.0, 20.0, 5.0, float("inf"))
    for life in lives:
        made.enqueue(delivery(expires_at=life))
    assert [item.message.expires_at for item in everything(made, 6.0)] == [20.0, float("inf")]
    assert (made.expired, made.queued_bytes, made.pending) == (2, 0, 2)


def test_the_queue_has_bounds_and_what_has_been_sent_is_outside_them() -> None:
    made = session(maximum_queued_messages=2, maximum_queued_bytes=2000)
    for _ in range(10):
        under_way(made, 1)
    assert made.enqueue(delivery(payload=bytes(1000)))
    assert not made.enqueue(delivery(payload=bytes(1000)))
    assert made.enqueue(delivery(payload=bytes(998)))
    assert not made.enqueue(delivery())
    assert made.pending == 12


@given(
    drop_oldest=st.booleans(),
    count=st.integers(1, 4),
    steps=st.lists(st.tuples(st.integers(0, 1100), st.sampled_from([0.0, 2.0, float("inf")]), st.integers(0, 2))),
)
@example(drop_oldest=True, count=4, steps=[(300, float("inf"), 0)] * 3 + [(1000, float("inf"), 0)])  # three go for one
def test_what_a_full_queue_keeps(drop_oldest: bool, count: int, steps: list[tuple[int, float, int]]) -> None:
    """It is the longest end of what was to wait that is within the bounds and leaves out no more than may go."""
    made = session(maximum_queued_messages=count, maximum_queued_bytes=1024, drop_oldest=drop_oldest)
    [sent] = under_way(made, 1)

    def fits(items: list[Delivery]) -> bool:
        return len(items) <= count and sum(item.message.size for item in items) <= 1024

    for now, (size, life, reads) in enumerate(steps):
        before, taken, expired = [*made.queue], made.taken, made.expired
        item = delivery(payload=bytes(size), expires_at=now + life)
        dropped = made.make_room(item.message, now)
        kept = made.enqueue(item)
        may_go = 0
        while may_go < len(before) and (drop_oldest or before[may_go].message.expired(now)):
            may_go += 1
        ends = [[*before[gone:], item] for gone in range(may_go + 1) if fits([*before[gone:], item])]
        assert kept is bool(ends)
        if ends:
            assert [*made.queue] == ends[0]
        else:  # too large, or nothing but what has expired has gone
            assert [*made.queue] == (before if not fits([item]) else before[may_go:])
        gone = len(before) + kept - len(made.queue)
        assert (made.taken - taken, made.expired - expired + dropped) == (gone, gone)
        assert [*made.inflight.values()] == [sent]
        for _ in range(reads):
            if (read := made.next_publish(now)) is not None:
                made.acknowledged(read.packet_id)


def test_clear_forgets_everything() -> None:
    made = session()
    under_way(made, 1, 2)
    made.resume(1)
    made.enqueue(delivery(payload=b"abc"))
    made.accept(9)
    made.requests.add(50)
    made.clear()
    assert (made.pending, made.queued_bytes, made.inflight_bytes) == (0, 0, 0)
    assert (made.backlog, made.requests) == (False, set())
    assert made.accept(9)
    assert made.resume(5) == []
    assert everything(made) == []


@pytest.mark.conformance("MQTT-3.1.2-25")
def test_a_message_that_cannot_be_sent_is_done_with() -> None:
    made = session(quota=1)
    [item] = under_way(made, 2)
    made.drop(item)
    assert (made.pending, made.has_quota) == (0, True)


def test_expects_pubrec() -> None:
    made = session()
    one, two = under_way(made, 1, 2)
    assert not made.expects_pubrec(one.packet_id)
    assert not made.expects_pubrec(999)
    assert made.expects_pubrec(two.packet_id)
    made.received(two.packet_id)
    assert not made.expects_pubrec(two.packet_id)


@pytest.mark.conformance("MQTT-2.2.1-5", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12")
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=40))
def test_a_qos_2_message_of_the_peer_is_taken_once(steps: list[tuple[bool, int]]) -> None:
    made = Session(Limits())
    known: set[int] = set()
    for publish, packet_id in steps:
        if publish:
            assert made.accept(packet_id) is (packet_id not in known)
            known.add(packet_id)
        else:
            code = ReasonCode.SUCCESS if packet_id in known else NOT_FOUND
            assert made.on_packet(p.PubRel(packet_id)) == p.PubComp(packet_id, code)
            known.discard(packet_id)
        made.resume(5)  # a new connection changes nothing
        assert made.unreleased == known
