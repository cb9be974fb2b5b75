"""The messages of a publisher, encoded once and sent over and over: as they are sent, and as they have to arrive."""

from collections.abc import Callable, Sequence
from typing import final

from bench.generator import packets
from bench.generator.scenarios import Traffic

SPARE = 4
"""Windows that a publisher's messages make up, at least; more than two tell them apart."""
PACED = 64
"""Messages of a publisher that no window bounds."""
ALIAS = 1
"""The Topic Alias of a publisher's topic."""


def topic(publisher: int, index: int) -> str:
    """A Topic Name of a publisher's; all have the same length."""
    return f"bench/{publisher:05}/{index:05}"


def other_filter(number: int) -> str:
    """A Topic Filter, of one of three shapes, that matches no topic that is published to."""
    levels = f"bench/other/{number // 1000:05}/{number % 1000:05}"
    return levels + ("", "/+", "/#")[number % 3]


def payload(publisher: int, slot: int, size: int) -> bytes:
    """The payload of a slot; it is no other's."""
    return (publisher.to_bytes(4, "big") + slot.to_bytes(4, "big")).ljust(size, b".")


def packet_id(slot: int) -> int:
    """The Packet Identifier of the message of a slot, from its publisher."""
    return slot + 1


def packet_id_at(publish: bytes) -> int:
    """Where the Packet Identifier of a PUBLISH is, or would be."""
    at = len(publish) - len(packets.body_of(publish))
    return at + 2 + int.from_bytes(publish[at : at + 2], "big")


@final
class Edition:
    """A publisher's messages: one for each slot."""

    def __init__(self, scenario: Traffic, version: int, publisher: int) -> None:
        self._scenario = scenario
        self._version = version
        self._publisher = publisher
        self._properties = [
            packets.user_property(f"name{number}", f"value of {number}") for number in range(scenario.user_properties)
        ]
        least = PACED if scenario.rate else SPARE * scenario.window
        self.slots = -(-least // scenario.topics) * scenario.topics

    def sent(self) -> list[bytes]:
        """As the publisher sends them."""
        name = "" if self._scenario.topic_alias else None
        return [self._sent(slot, name) for slot in range(self.slots)]

    def lead(self) -> bytes | None:
        """What is sent instead of the very first one."""
        return self._sent(0, None) if self._scenario.topic_alias else None

    def arriving(self) -> list[bytes]:
        """As each subscriber gets them, without the two bytes of the Packet Identifier."""
        found = []
        for slot in range(self.slots):
            packet = self._packet(slot, None, self._properties)
            at = packet_id_at(packet)
            found.append(packet[:at] + packet[at + 2 :] if self._scenario.qos else packet)
        return found

    def _sent(self, slot: int, name: str | None) -> bytes:
        alias = [packets.topic_alias(ALIAS)] if self._scenario.topic_alias else []
        return self._packet(slot, name, alias + self._properties)

    def _packet(self, slot: int, name: str | None, properties: Sequence[bytes]) -> bytes:
        scenario = self._scenario
        return packets.publish(
            topic(self._publisher, slot % scenario.topics) if name is None else name,
            payload(self._publisher, slot, scenario.payload),
            self._version,
            scenario.qos,
            packet_id(slot),
            *properties,
        )


@final
class Ring:
    """Packets of one size, one for each slot, as the transport carries them; sent in pieces."""

    __slots__ = ("_all", "_join", "_size", "lead", "slots")

    def __init__(self, edition: Edition, framed: Callable[[bytes], bytes], joined: bool) -> None:
        """`framed` gives what the transport carries: a packet, or with `joined` all that is sent in one go."""
        each = edition.sent() if joined else [framed(packet) for packet in edition.sent()]
        self._join = framed if joined else None
        lead = edition.lead()
        self.slots = len(each)
        self.lead = None if lead is None else framed(lead)
        self._size = len(each[0])
        assert all(len(packet) == self._size for packet in each)
        self._all = memoryview(b"".join(each))

    def part(self, slot: int, count: int) -> memoryview:
        """So many packets from a slot on; the ring must not end before."""
        part = self._all[slot * self._size : (slot + count) * self._size]
        return part if self._join is None else memoryview(self._join(bytes(part)))

    def fitting(self, size: int) -> int:
        """How many packets are about so many bytes, at least one."""
        return max(1, size // self._size)
