"""What reaches a subscriber beside what is to reach it: every packet that may come is known beforehand."""

import struct
import time
from collections.abc import Callable, Mapping
from typing import Protocol, final

from bench.generator import packets
from bench.generator.errors import RunFailed
from bench.generator.flow import Flow, Member
from bench.generator.loop import describe
from bench.generator.messages import packet_id_at

Known = Mapping[bytes, tuple[int, int]]
"""What may come, without the two bytes of its Packet Identifier, to the number of its publisher and its slot."""


class Arrived(Protocol):
    """Told of messages that have arrived."""

    def __call__(self, publisher: int, first: int, count: int, now: float) -> None:
        """So many from the `first` on, by the order of their publisher."""


@final
class Inbox:
    """The receiver of one subscriber: judges messages, and acknowledges them.

    Where all packets have the same size, they are told apart without looking into them; at the first one that is not
    known, it looks into all from then on.
    """

    def __init__(
        self,
        known: Known,
        flows: Mapping[int, Flow | Member],
        arrived: Arrived,
        qos: int = 0,
        *,
        answer: Callable[[bytes], None] = lambda framed: None,
        framed: Callable[[bytes], bytes] = lambda packet: packet,
    ) -> None:
        """`flows` are by the numbers of publishers; `answer` sends what `framed` has made of packets."""
        self.unknown = 0
        """Packets that nobody has published, or not to this subscriber."""
        self.unreleased = 0
        """QoS 2 messages that await PUBREL."""
        self._known = known
        self._flows = flows
        self._arrived = arrived
        self._qos = qos
        self._answer = answer
        self._before_id = {
            kind: framed(kind + b"\0\0")[:-2] for kind in (packets.PUBACK, packets.PUBREC, packets.PUBCOMP)
        }
        example = next(iter(known))
        head = packet_id_at(example)
        self._first = example[:1]
        self._layout = struct.Struct(f"{head}s2s{len(example) - head}s" if qos else f"{len(example)}s")
        self._alike = qos < 2 and len({len(packet) for packet in known}) == 1
        self._rest = b""

    def receive(self, data: bytes) -> None:
        """Take bytes, in any chunks."""
        now = time.perf_counter()
        data = self._rest + data
        if self._alike:
            whole = len(data) // self._layout.size * self._layout.size
            data = data[self._take_alike(data[:whole]) :]
            if data[:1] not in (b"", self._first):
                self._alike = False
        if not self._alike:
            found, data = packets.split(data)
            if answers := b"".join([self._take(packet) for packet in found]):
                self._answer(answers)
        self._rest = data
        self.tell(now)

    def tell(self, now: float) -> None:
        """Tell of what has arrived."""
        for number, flow in self._flows.items():
            if news := flow.news():
                self._arrived(number, flow.received - news, news, now)

    def _take_alike(self, data: bytes) -> int:
        """Count packets, until one is not known; how many bytes those are."""
        if self._qos:
            return self._take_alike_with_ids(data)
        known = self._known
        flows = self._flows
        used = 0
        for (packet,) in self._layout.iter_unpack(data):
            where = known.get(packet)
            if where is None:
                self._alike = False
                break
            publisher, slot = where
            flows[publisher].take(slot)
            used += len(packet)
        return used

    def _take_alike_with_ids(self, data: bytes) -> int:
        known = self._known
        flows = self._flows
        ids = []
        for head, packet_id, tail in self._layout.iter_unpack(data):
            where = known.get(head + tail)
            if where is None:
                self._alike = False
                break
            publisher, slot = where
            flows[publisher].take(slot)
            ids.append(packet_id)
        if ids:
            before = self._before_id[packets.PUBACK]
            self._answer(before + before.join(ids))
        return len(ids) * self._layout.size

    def _take(self, packet: bytes) -> bytes:
        """Count a packet, and give the answer to it."""
        if packet.startswith(packets.PUBREL):
            self.unreleased -= 1
            return self._before_id[packets.PUBCOMP] + packet[2:4]
        if packet[0] >> 4 != packets.PUBLISH:
            raise RunFailed(f"a subscriber was sent {describe(packet)}")
        message = bytes([packet[0] & ~packets.DUP]) + packet[1:]
        answer = b""
        if qos := packet[0] >> 1 & 3:
            at = packet_id_at(packet)
            message = message[:at] + message[at + 2 :]
            answer = self._before_id[packets.PUBACK if qos == 1 else packets.PUBREC] + packet[at : at + 2]
            self.unreleased += qos == 2
        where = self._known.get(message)
        if where is None:
            self.unknown += 1
            return answer
        publisher, slot = where
        self._flows[publisher].take(slot)
        return answer


@final
class Stream:
    """The receiver of a subscriber with one publisher, at QoS 0: all that it is to get, byte for byte, is known.

    At the first byte that is another it hands over to its inbox.
    """

    def __init__(self, laps: bytes, flow: Flow, inbox: Inbox) -> None:
        """`laps` is what a lap of the ring comes to at the subscriber, twice; `flow` is the only one of `inbox`."""
        self._laps = laps
        self._lap = len(laps) // 2
        self._size = self._lap // flow.slots
        self._flow = flow
        self._inbox = inbox
        self._broken = False
        self._at = 0  # in the lap

    def receive(self, data: bytes) -> None:
        """Take bytes, in any chunks."""
        if self._broken:
            self._inbox.receive(data)
            return
        now = time.perf_counter()
        at = self._at
        end = at + len(data)
        if self._laps[at:end] != data:
            self._broken = True
            self._inbox.receive(self._laps[at - at % self._size : at] + data)
            return
        self._flow.go_on(end // self._size - at // self._size)
        self._at = end % self._lap
        self._inbox.tell(now)
