"""Clients that come and go, stay, or authenticate anew: what a broker pays for without a message."""

import time
from functools import partial
from typing import final

from bench.generator import packets
from bench.generator.errors import RunFailed
from bench.generator.loop import Client, Loop, Nobody, describe
from bench.generator.scenarios import Connects, Idle, Reauthentications


@final
class Comings:
    """Connects clients one after another, so many at a time, each of which leaves when it is connected."""

    def __init__(self, scenario: Connects, loop: Loop) -> None:
        self.ages: list[tuple[float, int]] = []
        """How long it took from the opening of the connection to CONNACK, seconds."""
        self._scenario = scenario
        self._loop = loop

    def run(self, connections: int) -> None:
        """Have so many come and go. Raises RunFailed."""
        here: dict[Client, float] = {}
        numbers = iter(range(connections))
        while True:
            while len(here) < self._scenario.together and (number := next(numbers, None)) is not None:
                began = time.perf_counter()
                here[Client(self._loop, f"visitor-{number}", Nobody())] = began
            if not here:
                return
            self._loop.turn_until(lambda: any(client.ready for client in here), "CONNACK")
            now = time.perf_counter()
            for client in [each for each in here if each.ready]:
                self.ages.append((now - here.pop(client), 1))
                client.close()


def hold(scenario: Idle, loop: Loop, seconds: float) -> None:
    """Open connections and hold them for so long. Raises RunFailed."""
    loop.open(partial(Client, loop, f"idler-{number}", Nobody()) for number in range(scenario.connections))
    until = time.perf_counter() + seconds
    while (left := until - time.perf_counter()) > 0:
        loop.turn(left)


@final
class Renewer:
    """The receiver of a client that re-authenticates as soon as it is told that it has."""

    def __init__(self, renewals: "Renewals") -> None:
        self.client: Client | None = None
        self._renewals = renewals
        self._began = 0.0
        self._rest = b""

    def begin(self) -> None:
        """Send AUTH 0x19."""
        assert self.client is not None
        self._began = time.perf_counter()
        self.client.send(self._renewals.request(self.client))

    def receive(self, data: bytes) -> None:
        """Take what comes in answer to it."""
        found, self._rest = packets.split(self._rest + data)
        for packet in found:
            body = packets.body_of(packet)
            if packet[0] >> 4 != packets.AUTH or (body and body[0]):
                raise RunFailed(f"a re-authentication was answered with {describe(packet)}")
            self._renewals.ages.append((time.perf_counter() - self._began, 1))
            if self._renewals.going_on:
                self.begin()
            else:
                self._renewals.busy -= 1


@final
class Renewals:
    """Clients that re-authenticate all the time."""

    def __init__(self, scenario: Reauthentications, loop: Loop) -> None:
        self.ages: list[tuple[float, int]] = []
        """How long each re-authentication took, seconds."""
        self.going_on = False
        self.busy = 0
        self._loop = loop
        self._renewers = [Renewer(self) for _ in range(scenario.connections)]

    def open(self) -> None:
        """Have all clients connected."""
        for number, renewer in enumerate(self._renewers):
            renewer.client = Client(self._loop, f"renewer-{number}", renewer, enhanced=True)
        self._loop.turn_until(lambda: all(each.client and each.client.ready for each in self._renewers), "CONNACK")

    def request(self, client: Client) -> bytes:
        """AUTH 0x19."""
        target = self._loop.target
        assert target.method is not None
        return client.wire.framed(packets.auth(packets.RE_AUTHENTICATE, target.method, target.credentials))

    def run(self, seconds: float) -> None:
        """Go on for so long. Raises RunFailed."""
        self.going_on = True
        self.busy = len(self._renewers)
        until = time.perf_counter() + seconds
        for renewer in self._renewers:
            renewer.begin()

        def done() -> bool:
            self.going_on = time.perf_counter() < until
            return not self.busy

        self._loop.turn_until(done, "AUTH 0x00")
