"""Session State: packet identifiers, what is sent again and in which order, quota, expiry, bounds."""

from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mqttcore import packets as p
from mqttcore.codes import ReasonCode
from mqttcore.limits import Limits
from mqttcore.message import Heading, Message
from mqttcore.session import Delivery, Session, Terms

NOT_FOUND = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
REFUSED = ReasonCode.NOT_AUTHORIZED


class Sent(NamedTuple):
    packet_id: int
    delivery: Delivery
    dup: bool

    @property
    def message(self) -> Message:
        return self.delivery[0]

    @property
    def qos(self) -> int:
        return self.delivery[1].qos


def delivery(qos: int = 1, payload: bytes = b"", expires_at: float = float("inf")) -> Delivery:
    heading = Heading(b"t", len(payload), qos, False, expires_at=expires_at)
    return Message(heading, payload), Terms(qos, retain=False)


def session(*, quota: int = 65_535, **limits: Any) -> Session:
    """A session whose client is connected."""
    made = Session(Limits(**limits))
    assert made.resume(quota) == []
    return made


def under_way(made: Session, *qos: int) -> list[Sent]:
    """Messages that have been sent for the first time."""
    for level in qos:
        assert made.enqueue(delivery(level))
    return everything(made)


def everything(made: Session, now: float = 0.0) -> list[Sent]:
    """What can be sent now."""
    found = []
    while (item := made.next_publish(now)) is not None:
        found.append(Sent(*item))
    return found


def again(items: list[Sent]) -> list[Sent]:
    """As they are sent again."""
    return [item._replace(dup=True) for item in items]


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
        self.on_the_way: set[int] = set()  # sent on this connection, and not settled
        self.order: dict[int, Delivery] = {}  # of first sending, without PUBREC
        self.released: dict[int, Delivery] = {}  # in the order of the PUBRECs
        self.requests: set[int] = set()
        self.to_resend: list[int] = []
        if quota:  # else it begins with no connection
            self.reconnect(quota)

    @rule(qos=st.integers(1, 2), size=st.integers(0, 400), life=st.sampled_from([0.0, 1.5, float("inf")]))
    def enqueue(self, qos: int, size: int, life: float) -> None:
        waiting, size_before = len(self.session.queue), self.session.queued_bytes
        added = self.session.enqueue(delivery(qos, bytes(size), self.now + life))
        room = waiting < self.limits.maximum_queued_messages and size_before + size + 1 <= 1024
        assert added is room
        assert len(self.session.queue) == waiting + room

    def in_use(self) -> set[int]:
        return {*self.session.inflight, *self.session.releasing, *self.requests}

    @rule()
    def send(self) -> None:
        has_quota, in_use = self.session.has_quota, self.in_use()
        item = self.session.next_publish(self.now)
        assert has_quota is (len(self.on_the_way) < min(self.quota, self.limits.inflight_maximum))
        if item is None:
            assert not has_quota or not self.session.backlog
            return
        assert has_quota
        packet_id, sent, dup = item
        assert dup is bool(self.to_resend)
        if dup:
            assert packet_id == self.to_resend.pop(0)
            assert sent == self.order[packet_id]
        else:
            assert packet_id not in in_use
            assert 1 <= packet_id <= 65_535
            assert not sent[0].expired(self.now)
            self.order[packet_id] = sent
        self.on_the_way.add(packet_id)

    @rule(count=st.integers(1, 5), qos=st.integers(1, 2), size=st.integers(0, 300))
    def send_at_once(self, count: int, qos: int, size: int) -> None:
        _, terms = delivery(qos)
        heading = Heading(b"t", size, qos, False)
        messages = [Message(heading, bytes(size)) for _ in range(count)]
        in_use = self.in_use()
        quota = min(self.quota, self.limits.inflight_maximum) - len(self.order) - len(self.released)
        takes = self.session.takes(count, heading.size)
        fits = self.session.inflight_bytes + (count - 1) * heading.size < 1024
        assert takes is (count <= quota and fits and not self.session.backlog)
        if takes:
            packet_ids = self.session.launch_all(messages, terms)
            assert len({*packet_ids} - in_use) == count
            assert all(1 <= packet_id <= 65_535 for packet_id in packet_ids)
            assert [self.session.inflight[packet_id] for packet_id in packet_ids] == [
                (each, terms) for each in messages
            ]
            self.order.update((packet_id, self.session.inflight[packet_id]) for packet_id in packet_ids)
            self.on_the_way.update(packet_ids)

    @rule()
    def request(self) -> None:
        packet_id = self.session.allocate_id()
        assert packet_id not in self.in_use()
        assert 1 <= packet_id <= 65_535
        if len(self.requests) < 5:
            self.requests.add(packet_id)
            self.session.requests.add(packet_id)

    @rule(data=st.data(), code=st.sampled_from([ReasonCode.SUCCESS, REFUSED]))
    def the_peer_answers(self, data: st.DataObject, code: ReasonCode) -> None:
        known = [*self.order, *self.released]
        packet_id = data.draw(st.sampled_from(known) if known else st.integers(1, 65_535))
        kind: Any = data.draw(st.sampled_from([p.PubAck, p.PubRec, p.PubComp]))
        answer = self.session.on_packet(kind(packet_id, code))
        qos = self.order[packet_id][1].qos if packet_id in self.order else 0
        received = kind is p.PubRec and code is ReasonCode.SUCCESS
        if received:
            found = qos == 2 or packet_id in self.released
            assert answer == p.PubRel(packet_id, ReasonCode.SUCCESS if found else NOT_FOUND)
        else:
            assert answer is None
        if (kind is p.PubAck and qos == 1) or (kind is p.PubRec and qos == 2):
            sent = self.order.pop(packet_id)
            self.on_the_way.discard(packet_id)
            if packet_id in self.to_resend:
                self.to_resend.remove(packet_id)
            if received:
                self.released[packet_id] = sent
                self.on_the_way.add(packet_id)  # it takes no quota while it waits to be sent again, but does now
        elif kind is p.PubComp or (kind is p.PubRec and code is REFUSED):
            self.released.pop(packet_id, None)
            self.on_the_way -= {packet_id} - {*self.order}

    @rule(data=st.data(), others=st.sets(st.integers(1, 10)))
    def the_peer_acknowledges_many(self, data: st.DataObject, others: set[int]) -> None:
        packet_ids = data.draw(st.permutations([*self.order, *others]))
        self.session.acknowledged_all(packet_ids)
        for packet_id in packet_ids:
            if packet_id in self.order and self.order[packet_id][1].qos == 1:
                del self.order[packet_id]
                self.on_the_way.discard(packet_id)
                if packet_id in self.to_resend:
                    self.to_resend.remove(packet_id)

    @rule(data=st.data(), others=st.sets(st.integers(1, 10)))
    def the_peer_has_received_many(self, data: st.DataObject, others: set[int]) -> None:
        packet_ids = data.draw(st.permutations([*self.order, *others]))
        count = 0
        for packet_id in packet_ids:
            if packet_id not in self.order or self.order[packet_id][1].qos != 2:
                break
            count += 1
            self.released[packet_id] = self.order.pop(packet_id)
            self.on_the_way.add(packet_id)
            if packet_id in self.to_resend:
                self.to_resend.remove(packet_id)
        assert self.session.received_all(packet_ids) == count

    @rule(quota=st.integers(1, 8))
    def reconnect(self, quota: int) -> None:
        again = self.session.resume(quota)
        self.quota = quota
        self.requests.clear()
        assert [packet.packet_id for packet in again] == [*self.released]
        self.on_the_way = {*self.released}
        self.to_resend = [*self.order]

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_accounts_are_right(self) -> None:
        assert self.session.queued_bytes == sum(message.size for message, _ in self.session.queue)
        assert self.session.inflight_bytes == sum(message.size for message, _ in self.session.inflight.values())
        assert self.session.pending == len(self.order) + len(self.released) + len(self.session.queue)
        assert [*self.session.inflight.items()] == [*self.order.items()]
        assert [*self.session.releasing] == [*self.released]
        assert self.session.backlog is bool(self.to_resend or self.session.queue)
        assert not {*self.session.inflight, *self.session.releasing} & self.requests
        # PUBRELs from an earlier connection may be more
        sent_now = self.on_the_way - {*self.released}
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
        assert made.acknowledged(item.packet_id) is item.delivery[1]


@pytest.mark.conformance("MQTT-2.2.1-3", "MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
def test_identifiers_of_several_messages_go_round_past_those_in_use() -> None:
    made = session()
    [first, second] = under_way(made, 1, 2)
    made.received(second.packet_id)
    made.requests.add(3)
    made._last_id = 65_533
    message, terms = delivery(1)
    assert made.launch_all([message] * 4, terms) == [65_534, 65_535, 4, 5]
    assert (first.packet_id, second.packet_id) == (1, 2)


def test_a_message_has_no_identifier_before_it_is_sent() -> None:
    made = session(quota=1)
    one, two = delivery(1), delivery(2)
    assert made.enqueue(one)
    assert made.enqueue(two)
    assert everything(made) == [(1, one, False)]
    assert made.acknowledged(1) is one[1]
    assert everything(made) == [(2, two, False)]


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
    assert everything(made) == again([items[index] for index in (1, 2, 4, 5)])
    assert everything(made) == []  # once per connection


def test_new_messages_wait_behind_those_sent_again() -> None:
    made = session()
    old = under_way(made, 1, 1, 1)
    made.enqueue(delivery(1, b"new"))
    made.resume(2)
    assert everything(made) == again(old[:2])
    assert not made.has_quota
    made.acknowledged(old[0].packet_id)
    assert everything(made) == again(old[2:])
    made.acknowledged(old[1].packet_id)
    [new] = everything(made)
    assert (new.message.payload, new.dup) == (b"new", False)


@pytest.mark.parametrize("count", [1, 2])
def test_new_messages_that_could_go_at_once_do_not_overtake_those_sent_again(count: int) -> None:
    made = session()
    under_way(made, 1)
    assert made.takes(count, 10)
    made.resume(10)
    assert not made.takes(count, 10)
    everything(made)
    assert made.takes(count, 10)


def test_so_many_bytes_may_be_in_flight_as_may_be_queued() -> None:
    made = session(maximum_queued_bytes=1024)
    assert made.takes(1, 2000)  # the first of them is taken in any case
    assert made.takes(3, 500)
    assert not made.takes(4, 500)


def test_a_smaller_receive_maximum_counts_the_pubrels_too() -> None:
    made = session()
    items = under_way(made, 2, 2, 2)
    for item in items:
        made.received(item.packet_id)
    made.enqueue(delivery())
    made.resume(2)
    for item in items[:2]:
        assert everything(made) == []
        assert made.completed(item.packet_id) is item.delivery[1]
    assert len(everything(made)) == 1


def test_an_answer_that_comes_before_the_message_is_sent_again_settles_it() -> None:
    made = session()
    one, two, three = under_way(made, 1, 2, 2)
    made.resume(1)
    made.acknowledged(one.packet_id)
    made.refused(two.packet_id)
    assert everything(made) == again([three])
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
    assert everything(made, 1e9) == again([item])
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
    assert [item.message.heading.expires_at for item in everything(made, 6.0)] == [20.0, float("inf")]
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
@example(drop_oldest=True, count=4, steps=[(300, float("inf"), 0), (1100, float("inf"), 0)])  # for nothing none goes
def test_what_a_full_queue_keeps(drop_oldest: bool, count: int, steps: list[tuple[int, float, int]]) -> None:
    """It is the longest end of what was to wait that is within the bounds and leaves out no more than may go."""
    made = session(maximum_queued_messages=count, maximum_queued_bytes=1024, drop_oldest=drop_oldest)
    [sent] = under_way(made, 1)

    def fits(items: list[Delivery]) -> bool:
        return len(items) <= count and sum(message.size for message, _ in items) <= 1024

    for now, (size, life, reads) in enumerate(steps):
        before, taken, expired = [*made.queue], made.taken, made.expired
        item = delivery(payload=bytes(size), expires_at=now + life)
        dropped = made.make_room(item[0], now)
        kept = made.enqueue(item)
        may_go = 0
        while may_go < len(before) and (drop_oldest or before[may_go][0].expired(now)):
            may_go += 1
        ends = [[*before[gone:], item] for gone in range(may_go + 1) if fits([*before[gone:], item])]
        assert kept is bool(ends)
        if ends:
            assert [*made.queue] == ends[0]
        else:  # too large, or nothing but what has expired has gone
            assert [*made.queue] == (before if not fits([item]) else before[may_go:])
        gone = len(before) + kept - len(made.queue)
        assert (made.taken - taken, made.expired - expired + dropped) == (gone, gone)
        assert [*made.inflight.values()] == [sent.delivery]
        for _ in range(reads):
            if (read := made.next_publish(now)) is not None:
                made.acknowledged(read[0])


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
    made.drop(item.packet_id)
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
