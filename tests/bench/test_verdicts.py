"""The load generator sees what a broker does wrong."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.generator import packets
from bench.generator.acknowledgements import Acknowledgements
from bench.generator.errors import RunFailed
from bench.generator.flow import Flow, Member
from bench.generator.inbox import Inbox, Stream
from bench.generator.messages import Edition, packet_id, packet_id_at
from bench.generator.run import Amount, run
from bench.generator.scenarios import Traffic
from bench.generator.target import Target
from tests.bench.fake import Tamper, fake_broker

WINDOW = 20
SENT = 30
"""Messages of each publisher: more than a lap of a window, and less than what makes slots ambiguous."""


def edition(publisher: int, qos: int) -> Edition:
    return Edition(Traffic(about="", qos=qos, window=WINDOW), packets.V5, publisher)


class Subscriber:
    """A subscriber of some publishers, with what it counts and says."""

    def __init__(self, publishers: int, qos: int) -> None:
        self.qos = qos
        self.arriving = [edition(number, qos).arriving() for number in range(publishers)]
        self.flows = {number: Flow(len(each)) for number, each in enumerate(self.arriving)}
        self.arrived = [0] * publishers
        self.said = b""
        known = {
            packet: (number, slot) for number, each in enumerate(self.arriving) for slot, packet in enumerate(each)
        }
        self.inbox = Inbox(known, self.flows, self._arrived, qos, answer=self._answer)
        self.receive = self.inbox.receive
        if publishers == 1 and qos == 0:
            self.receive = Stream(b"".join(self.arriving[0]) * 2, self.flows[0], self.inbox).receive

    def _arrived(self, publisher: int, first: int, count: int, now: float) -> None:
        assert first == self.arrived[publisher]
        self.arrived[publisher] += count

    def _answer(self, data: bytes) -> None:
        self.said += data

    def packet(self, publisher: int, number: int, identifier: int) -> bytes:
        packet = self.arriving[publisher][number % len(self.arriving[publisher])]
        at = packet_id_at(packet)
        return packet[:at] + packets.two_bytes(identifier) + packet[at:] if self.qos else packet


def in_chunks(receive: Callable[[bytes], None], data: bytes, sizes: Sequence[int]) -> None:
    for size in sizes:
        receive(data[:size])
        data = data[size:]
    if data:
        receive(data)


CHUNKS = st.lists(st.integers(1, 300), max_size=20)


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 1), st.integers(0, SENT - 1)), max_size=60)
    | st.permutations([(publisher, number) for publisher in (0, 1) for number in range(SENT)]),
    qos=st.integers(0, 2),
    chunks=CHUNKS,
)
def test_every_fault_of_a_stream_is_counted(arrivals: list[tuple[int, int]], qos: int, chunks: list[int]) -> None:
    publishers = 1 + any(publisher for publisher, _ in arrivals)
    subscriber = Subscriber(publishers, qos)
    data = b"".join(subscriber.packet(*each, at + 1) for at, each in enumerate(arrivals))
    in_chunks(subscriber.receive, data, chunks)

    for publisher, flow in subscriber.flows.items():
        numbers = [number for each, number in arrivals if each == publisher]
        first = [number for at, number in enumerate(numbers) if number not in numbers[:at]]
        assert flow.received == subscriber.arrived[publisher] == len(first)
        assert flow.duplicated == len(numbers) - len(first)
        assert flow.reordered == sum(number < max(first[: at + 1]) for at, number in enumerate(first))
    assert subscriber.inbox.unknown == 0
    kind = {0: b"", 1: packets.PUBACK, 2: packets.PUBREC}[qos]
    answers = b"".join(kind + packets.two_bytes(at + 1) for at in range(len(arrivals))) if qos else b""
    assert subscriber.said == answers
    assert subscriber.inbox.unreleased == (len(arrivals) if qos == 2 else 0)


@given(at=st.integers(0, SENT - 1), qos=st.integers(0, 1), publishers=st.integers(1, 2), data=st.data(), chunks=CHUNKS)
def test_an_altered_message_is_unknown(
    at: int, qos: int, publishers: int, data: st.DataObject, chunks: list[int]
) -> None:
    subscriber = Subscriber(publishers, qos)
    sequence = [bytearray(subscriber.packet(0, number, number + 1)) for number in range(SENT)]
    place = data.draw(st.integers(len(sequence[at]) - 8, len(sequence[at]) - 1))
    sequence[at][place] ^= 1 << 6
    in_chunks(subscriber.receive, b"".join(sequence), chunks)
    assert subscriber.inbox.unknown == 1
    assert subscriber.flows[0].received == SENT - 1


@given(laps=st.integers(1, 400), chunks=CHUNKS)
def test_a_good_stream_is_good_for_many_laps(laps: int, chunks: list[int]) -> None:
    subscriber = Subscriber(1, 0)
    in_chunks(subscriber.receive, b"".join(subscriber.packet(0, number, 0) for number in range(laps)), chunks)
    assert subscriber.arrived == [laps]
    assert (subscriber.flows[0].duplicated, subscriber.flows[0].reordered, subscriber.inbox.unknown) == (0, 0, 0)


def test_a_subscriber_is_sent_nothing_but_messages() -> None:
    with pytest.raises(RunFailed, match=r"was sent 0xe000 \(2 bytes\)"):
        Subscriber(1, 0).receive(packets.DISCONNECT)


@given(members=st.lists(st.integers(0, 2), min_size=SENT, max_size=SENT), swapped=st.integers(0, SENT - 2))
def test_members_of_a_share_get_each_message_once_and_their_own_in_order(members: list[int], swapped: int) -> None:
    flow = Flow(4 * WINDOW)
    group = [Member(flow) for _ in range(3)]
    for number, member in enumerate(members):
        group[member].take(number)
    assert flow.received == flow.news() == SENT
    assert (flow.duplicated, sum(member.reordered for member in group)) == (0, 0)

    group[0].take(members.index(members[0]))
    assert flow.duplicated == 1
    group[1].take(SENT + 1)
    group[1].take(SENT)
    assert group[1].reordered == 1


@given(qos=st.integers(1, 2), order=st.permutations(range(SENT)), refused=st.sets(st.integers(0, SENT - 1)))
def test_acknowledgements_are_counted_in_any_order(qos: int, order: list[int], refused: set[int]) -> None:
    said = bytearray()
    acknowledged: list[int] = []
    receiver = Acknowledgements(4 * WINDOW, acknowledged.append, answer=said.extend, framed=lambda packet: packet)
    first = packets.PUBACK if qos == 1 else packets.PUBREC
    for slot in order:
        identifier = packets.two_bytes(packet_id(slot))
        if slot in refused:
            receiver.receive(bytes([first[0], 3]) + identifier + b"\x97")
        else:
            receiver.receive(first + identifier)
            if qos == 2:
                assert said.endswith(packets.PUBREL + identifier)
                receiver.receive(packets.PUBCOMP + identifier)
    assert sum(acknowledged) == SENT
    assert receiver.refused == len(refused)


TAMPERED: dict[str, tuple[Tamper, dict[str, int]]] = {
    "nothing": (lambda count, packet: [packet], {}),
    "lost": (lambda count, packet: [] if count == 7 else [packet], {"lost": 1}),
    "duplicated": (lambda count, packet: [packet] * (1 + (count == 7)), {"duplicated": 1}),
    "altered": (lambda count, packet: [packet[:-1] + b"!" if count == 7 else packet], {"lost": 1, "unknown": 1}),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_run_is_not_good_when_something_was_wrong(what: str) -> None:
    tamper, faults = TAMPERED[what]
    with fake_broker(tamper) as port:
        scenario = Traffic(about="", publishers=1)
        result = run(scenario, Target(port=port), Amount(messages=20, patience=0.2))
    assert result.error == ""
    assert result.faults == faults
    assert result.good == (not faults)
    assert result.figures["count"] == 20 - faults.get("lost", 0)


def test_messages_in_another_order() -> None:
    held: list[bytes] = []

    def swap(count: int, packet: bytes) -> list[bytes]:
        if count == 7:
            held.append(packet)
            return []
        return [packet, *held] if count == 8 else [packet]

    with fake_broker(swap) as port:
        result = run(Traffic(about="", publishers=1), Target(port=port), Amount(messages=20, patience=0.2))
    assert result.faults == {"reordered": 1}


def test_a_broker_that_answers_nonsense_or_is_not_there() -> None:
    with fake_broker(lambda count, packet: [packets.DISCONNECT]) as port:
        result = run(Traffic(about="", publishers=1), Target(port=port), Amount(messages=20, patience=0.2))
    assert "was sent 0xe000" in result.error
    gone = run(Traffic(about="", publishers=1), Target(port=port), Amount(messages=20))
    assert "cannot connect" in gone.error
