"""What comes back to a publisher: PUBACK, or PUBREC and PUBCOMP."""

import struct
from collections.abc import Callable
from typing import final

from bench.generator import packets
from bench.generator.errors import RunFailed
from bench.generator.flow import Flow
from bench.generator.loop import describe
from bench.generator.messages import packet_id

_PLAIN = struct.Struct("2s2s")
"""An acknowledgement without a reason code: what goes before the Packet Identifier, and that."""


@final
class Acknowledgements:
    """The receiver of a publisher at QoS 1 or 2, whose Packet Identifiers go by slots; answers PUBREC."""

    def __init__(
        self,
        slots: int,
        acknowledged: Callable[[int], None],
        *,
        answer: Callable[[bytes], None],
        framed: Callable[[bytes], bytes],
    ) -> None:
        """`acknowledged` is told of how many; `answer` sends what `framed` has made of packets."""
        self.flow = Flow(slots)
        self.refused = 0
        self._acknowledged = acknowledged
        self._answer = answer
        self._before_id = framed(packets.PUBREL + b"\0\0")[:-2]
        lap = b"".join(packets.PUBACK + packets.two_bytes(packet_id(slot)) for slot in range(slots))
        self._laps = lap + lap
        self._at = 0  # in the lap, while there were PUBACKs alone, in order and whole
        self._in_order = True
        self._rest = b""

    def receive(self, data: bytes) -> None:
        """Take bytes, in any chunks."""
        end = self._at + len(data)
        if self._in_order and not len(data) % _PLAIN.size and self._laps[self._at : end] == data:
            self.flow.go_on(len(data) // _PLAIN.size)
            self._at = end % (len(self._laps) // 2)
        else:
            self._in_order = False
            self._look_into(self._rest + data)
        if news := self.flow.news():
            self._acknowledged(news)

    def _look_into(self, data: bytes) -> None:
        answers = []
        whole = len(data) // _PLAIN.size * _PLAIN.size
        used = 0
        for kind, identifier in _PLAIN.iter_unpack(data[:whole]):
            if kind == packets.PUBREC:
                answers.append(identifier)
            elif kind in (packets.PUBCOMP, packets.PUBACK):
                self._settle(identifier)
            else:
                break
            used += _PLAIN.size
        found, self._rest = packets.split(data[used:])
        for packet in found:
            answers += self._take(packet)
        if answers:
            self._answer(self._before_id + self._before_id.join(answers))

    def _take(self, packet: bytes) -> list[bytes]:
        """Take one that may have a reason code; the Packet Identifier to answer it with, if any."""
        body = packets.body_of(packet)
        kind = packet[:1]
        if kind not in (packets.PUBACK[:1], packets.PUBREC[:1], packets.PUBCOMP[:1]) or len(body) < 2:
            raise RunFailed(f"a publisher was sent {describe(packet)}")
        if len(body) > 2 and body[2] >= packets.FAILURE:
            self.refused += 1
        elif kind == packets.PUBREC[:1]:
            return [body[:2]]
        self._settle(body[:2])
        return []

    def _settle(self, identifier: bytes) -> None:
        self.flow.take((int.from_bytes(identifier, "big") - 1) % self.flow.slots)
