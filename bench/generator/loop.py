"""The generator's one wait for all of its sockets, and the clients that are at their other end."""

import select
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bench.generator import packets
from bench.generator.errors import RunFailed
from bench.generator.target import Target
from bench.generator.wire import Wire

EVENTS = 512
"""Sockets that are looked at in one turn."""
NAP = 0.05
"""Seconds that a turn waits for something to happen, at most."""
OPENING = 64
"""Connections that are being opened at a time."""
FILTERS = 100
"""Topic Filters of one SUBSCRIBE."""


class Receiver(Protocol):
    """What takes the bytes that come for a client when its handshakes are done."""

    def receive(self, data: bytes) -> None:
        """Take bytes, in any chunks."""


class Nobody:
    """The receiver of a client for which nothing may come."""

    def receive(self, data: bytes) -> None:
        """Raises RunFailed."""
        raise RunFailed(f"a packet came unasked: {describe(data)}")


class Client:
    """One connection, from CONNECT and SUBSCRIBE on; then its `receiver` has it."""

    def __init__(
        self,
        loop: "Loop",
        client_id: str,
        receiver: Receiver,
        filters: Sequence[str] = (),
        qos: int = 0,
        *,
        enhanced: bool = False,
    ) -> None:
        """`enhanced` is for the target's Authentication Method instead of user name and password."""
        target = self.target = loop.target
        self.wire = Wire(target)
        self.receiver = receiver
        self.ready = False
        self._loop = loop
        if enhanced:
            assert target.method is not None
            extra = packets.authentication(target.method, target.credentials)
            self._connect = packets.connect(client_id, target.version, None, None, extra)
        else:
            self._connect = packets.connect(client_id, target.version, target.username, target.password)
        self._subscribes = [
            packets.subscribe(1 + at // FILTERS, filters[at : at + FILTERS], qos, target.version)
            for at in range(0, len(filters), FILTERS)
        ]
        self._subacks = len(self._subscribes)
        self._connected = False
        self._buffer = b""
        loop.add(self)
        self._shake_hands()

    def send(self, framed: bytes | memoryview) -> None:
        """Send what `wire.framed` has made of packets."""
        wire = self.wire
        wire.send(framed)
        if wire.blocked:
            self._loop.want_room(self)

    def on_readable(self) -> None:
        """Something has arrived."""
        if self.wire.open:
            data = self.wire.receive()
            if data:
                if self.ready:
                    self.receiver.receive(data)
                else:
                    self._begin(data)
        else:
            self._shake_hands()

    def on_writable(self) -> None:
        """There is room again."""
        self.wire.send_rest()
        if not self.wire.blocked:
            self._loop.has_room(self)

    def close(self) -> None:
        """Leave, with DISCONNECT if that is possible at once."""
        if self.ready and not self.wire.blocked:
            self.wire.send(self.wire.framed(packets.DISCONNECT))
        self._loop.remove(self)
        self.wire.close()

    def _shake_hands(self) -> None:
        early = self.wire.advance()
        if self.wire.open:
            self.send(self.wire.framed(self._connect))
            if early:
                self._begin(early)

    def _begin(self, data: bytes) -> None:
        found, rest = packets.split(self._buffer + data)
        for number, packet in enumerate(found):
            if self.ready:
                rest = b"".join(found[number:]) + rest
                break
            self._on_packet(packet)
        if self.ready and rest:
            self.receiver.receive(rest)
        else:
            self._buffer = rest

    def _on_packet(self, packet: bytes) -> None:
        kind, body = packet[0] >> 4, packets.body_of(packet)
        if kind == packets.CONNACK and not self._connected and body[1] == 0:
            self._connected = True
            for each in self._subscribes:
                self.send(self.wire.framed(each))
        elif kind == packets.SUBACK and self._connected and self._subacks:
            if refused := [code for code in _suback_codes(body, self.target.version) if code >= packets.FAILURE]:
                raise RunFailed(f"{len(refused)} subscriptions were refused, the first with 0x{refused[0]:02X}")
            self._subacks -= 1
        else:
            raise RunFailed(f"the connection did not come about: {describe(packet)}")
        self.ready = self._connected and not self._subacks


def _suback_codes(body: bytes, version: int) -> bytes:
    return body[3 + body[2] :] if version == packets.V5 else body[2:]


def describe(packet: bytes) -> str:
    """The beginning of a packet, for a message."""
    return f"0x{packet[:12].hex()}{'...' if len(packet) > 12 else ''} ({len(packet)} bytes)"


class Loop:
    """Waits for the sockets of all clients, and has them handle what there is."""

    def __init__(self, target: Target, patience: float) -> None:
        """`patience` is how long nothing may happen that is waited for, seconds."""
        self.target = target
        self.patience = patience
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}

    def add(self, client: Client) -> None:
        """Have its socket waited for."""
        self._clients[client.wire.fileno()] = client
        self._epoll.register(client.wire.fileno(), select.EPOLLIN)

    def remove(self, client: Client) -> None:
        """Have it waited for no more."""
        if self._clients.pop(client.wire.fileno(), None) is not None:
            self._epoll.unregister(client.wire.fileno())

    def want_room(self, client: Client) -> None:
        """Call its `on_writable` when there is room."""
        self._epoll.modify(client.wire.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def has_room(self, client: Client) -> None:
        """There is enough room for it."""
        self._epoll.modify(client.wire.fileno(), select.EPOLLIN)

    def turn(self, wait: float = NAP) -> bool:
        """Handle what has happened, after waiting up to so many seconds for it; whether anything has."""
        if 0 < wait < NAP:
            select.select([self._epoll], (), (), wait)  # epoll itself counts in milliseconds
            wait = 0
        happened = self._epoll.poll(wait, EVENTS)
        for descriptor, events in happened:
            client = self._clients.get(descriptor)
            if client is None:
                continue
            if events & select.EPOLLOUT:
                client.on_writable()
            if events & ~select.EPOLLOUT:
                client.on_readable()
        return bool(happened)

    def turn_until(self, done: Callable[[], bool], what: str) -> None:
        """Turn until it is done. Raises RunFailed, which names `what` was waited for."""
        give_up = time.perf_counter() + self.patience
        while not done():
            if self.turn():
                give_up = time.perf_counter() + self.patience
            elif time.perf_counter() > give_up:
                raise RunFailed(f"waited for {what} in vain")

    def open(self, makers: Iterable[Callable[[], Client]]) -> list[Client]:
        """Make clients, a few at a time, until all of them are ready."""
        clients: list[Client] = []
        opening: list[Client] = []
        for make in makers:
            clients.append(make())
            opening.append(clients[-1])
            if len(opening) >= OPENING:
                self._await_some(opening, OPENING // 2)
        self._await_some(opening, 0)
        return clients

    def _await_some(self, opening: list[Client], most: int) -> None:
        def few() -> bool:
            opening[:] = [client for client in opening if not client.ready]
            return len(opening) <= most

        self.turn_until(few, "CONNACK and SUBACK")

    def close(self) -> None:
        """Close all connections, and what the system keeps for the wait."""
        for client in [*self._clients.values()]:
            try:
                client.close()
            except RunFailed:
                self._clients.pop(client.wire.fileno(), None)
                client.wire.close()
        self._epoll.close()
