"""Messages that are retained, and somebody who subscribes to them later."""

from functools import partial
from typing import final

from bench.generator import packets
from bench.generator.acknowledgements import Acknowledgements
from bench.generator.errors import RunFailed
from bench.generator.loop import Client, Loop, Nobody, describe
from bench.generator.messages import packet_id, payload, topic
from bench.generator.scenarios import Retained


@final
class Keeper:
    """A publisher that has its share of the messages retained, at QoS 1, a window of them at a time."""

    def __init__(self, client: Client, number: int, count: int, scenario: Retained, *, empty: bool) -> None:
        """An `empty` message is one that removes what was retained."""
        self.acknowledgements = Acknowledgements(
            slots := 4 * scenario.window, self._acknowledged, answer=client.send, framed=client.wire.framed
        )
        self.left = count
        client.receiver = self.acknowledgements
        self._client = client
        self._unsent = [
            client.wire.framed(
                packets.retained(
                    topic(number, at),
                    b"" if empty else payload(number, at, scenario.payload),
                    client.target.version,
                    1,
                    packet_id(at % slots),
                )
            )
            for at in reversed(range(count))
        ]
        self._window = scenario.window

    def begin(self) -> None:
        """Send the first window."""
        self._send(self._window)

    def _acknowledged(self, count: int) -> None:
        self.left -= count
        self._send(count)

    def _send(self, count: int) -> None:
        if batch := self._unsent[-count:]:
            del self._unsent[-count:]
            self._client.send(b"".join(reversed(batch)))


@final
class Collector:
    """The receiver of a subscriber that gets all that is retained, in any order."""

    def __init__(self, expected: set[bytes]) -> None:
        self.missing = expected
        self.unknown = 0
        self._rest = b""

    def receive(self, data: bytes) -> None:
        """Take bytes, in any chunks."""
        found, self._rest = packets.split(self._rest + data)
        for packet in found:
            if packet in self.missing:
                self.missing.remove(packet)
            elif packet[0] >> 4 == packets.PUBLISH:
                self.unknown += 1
            else:
                raise RunFailed(f"a subscriber was sent {describe(packet)}")


@final
class Retention:
    """Has messages retained, and fetches them."""

    def __init__(self, scenario: Retained, loop: Loop) -> None:
        self._scenario = scenario
        self._loop = loop
        self._share = scenario.messages // scenario.publishers
        self._clients: list[Client] = []
        self.refused = 0
        """Messages that were not retained."""

    def open(self) -> None:
        """Have the publishers ready."""
        makers = [
            partial(Client, self._loop, f"publisher-{number}", Nobody()) for number in range(self._scenario.publishers)
        ]
        self._clients = self._loop.open(makers)

    def store(self, *, empty: bool = False) -> int:
        """Have all messages retained; how many. With `empty`, none is any more. Raises RunFailed."""
        keepers = [
            Keeper(client, number, self._share, self._scenario, empty=empty)
            for number, client in enumerate(self._clients)
        ]
        for keeper in keepers:
            keeper.begin()
        self._loop.turn_until(lambda: not any(keeper.left for keeper in keepers), "PUBACK")
        self.refused += sum(keeper.acknowledgements.refused for keeper in keepers)
        return self._share * len(keepers)

    def fetch(self) -> int:
        """Subscribe to them, and get them all; how many came that should not have. Raises RunFailed."""
        version = self._loop.target.version
        collector = Collector(
            {
                packets.retained(topic(number, at), payload(number, at, self._scenario.payload), version)
                for number in range(len(self._clients))
                for at in range(self._share)
            }
        )
        Client(self._loop, "late-subscriber", collector, ["bench/#"])
        self._loop.turn_until(lambda: not collector.missing, "retained messages")
        return collector.unknown
