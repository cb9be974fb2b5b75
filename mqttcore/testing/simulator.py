"""A broker and its clients in one process, in no time: a network in memory with a virtual clock.

    simulator = Simulator(seed=1)
    alice = simulator.client("alice", clean_start=False, session_expiry_interval=3600)
    alice.subscribe("news/#", qos=1)
    alice.cut()
    simulator.client("bob").publish("news/today", b"rain", qos=1)
    simulator.advance(60)
    alice.reconnect()
    assert alice.payloads() == [b"rain"]

Every call has its consequences before it returns, as far as they take no time; `advance` and `settle` let time pass.
The same seed and the same calls give the same run, byte by byte.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Any, final

from attrs import frozen

from mqttcore.auth import Effect, Failed, Reply
from mqttcore.broker import Broker, Close, Flush, Link, Perform, Policy, Report, Transport
from mqttcore.broker.reports import Event as Reported
from mqttcore.client import Event
from mqttcore.limits import Limits
from mqttcore.packets import Connect, Packet, Publish
from mqttcore.testing.ends import End, Observer, RawPeer, SimulatedClient
from mqttcore.testing.wires import PERFECT, Pipe, Wire

LINGER = 10.0
"""How long a client may take to read the last words of a connection that the broker has ended, seconds."""
MAXIMUM_STEPS_AT_ONCE = 1_000_000
"""Steps that may be due at one moment: more are clients who keep each other busy without end."""


@frozen
class Arrival:
    """A packet has arrived at the client of that name, or at the broker from it."""

    time: float
    client: str
    at_broker: bool
    packet: Packet


@frozen
class Told:
    """The broker has reported something."""

    time: float
    event: Reported


@final
class Simulator:
    """A broker, any number of clients, and the time between them. `now` is monotonic seconds and begins at 0.

    `seed` decides everything that is left to chance, and `random` is there for a test's own choices. `policy` holds
    for those who connect without one of their own; without it, `limits` alone do. `wire` is how the bytes travel.
    `wall_offset` is Unix time at `now` 0. `perform` answers what authenticators ask for; without it everything
    fails. `watch` is told of every packet when it arrives, just before it is acted on, and of every report.
    `report_traffic` is the Broker's.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        wire: Wire = PERFECT,
        wall_offset: float = 0.0,
        perform: Callable[[Effect], Reply] = lambda _effect: Failed("nobody performs it"),
        watch: Callable[[Arrival | Told], None] | None = None,
        report_traffic: bool = False,
    ) -> None:
        limits = Limits() if limits is None else limits
        self.now = 0.0
        self.random = Random(seed)
        self.policy = Policy(limits=limits) if policy is None else policy
        self.wire = wire
        self.broker = Broker(
            limits, seed=self.random.randbytes(32), wall_offset=wall_offset, report_traffic=report_traffic
        )
        self.reports: list[Reported] = []
        self._perform = perform
        self._watch = watch
        self._connections: dict[Link, Connection] = {}
        self._agenda: list[tuple[float, int, bool, Callable[[], object]]] = []
        self._serial = 0
        self._under_way = 0  # entries of the agenda that are bytes about to arrive
        self._stepping = False

    # ------------------------------------------------------------------------------------------------ who is there

    def client(
        self,
        client_id: str,
        *,
        wire: Wire | None = None,
        policy: Policy | None = None,
        client_limits: Limits | None = None,
        on_event: Callable[[SimulatedClient, Event], None] | None = None,
        **connect: Any,
    ) -> SimulatedClient:
        """A client that begins to connect now; `connect` has further fields of its Connect.

        `on_event` is called with whatever happens to it, and may use it.
        """
        client = SimulatedClient(self, Connect(client_id=client_id, **connect), wire, policy, client_limits, on_event)
        client.reconnect()
        return client

    def peer(self, *, wire: Wire | None = None, policy: Policy | None = None) -> RawPeer:
        """A connection for packets and bytes of one's own choice; nothing has been sent on it."""
        peer = RawPeer(self)
        peer.connection = self.connection(peer, "", wire, policy)
        return peer

    def connection(self, end: End, name: str, wire: Wire | None, policy: Policy | None) -> "Connection":
        """A new connection of `end` to the broker; for the ends themselves."""
        link = self.broker.open(self.now, Transport(name or "peer"), self.policy if policy is None else policy)
        found = self._connections[link] = Connection(self, end, link, name, self.wire if wire is None else wire)
        return found

    def publish(self, topic: str, payload: bytes = b"", **fields: Any) -> None:
        """A message of the broker's own. Raises LocalProtocolError if it cannot be encoded."""
        self.broker.publish(Publish(topic, payload, **fields), self.now)
        self.catch_up()

    # ---------------------------------------------------------------------------------------------------- the time

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Have `action` called at a time, at once if it has passed."""
        self._enter(when, False, action)

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while self._step(end):
            pass
        self.now = max(self.now, end)

    def settle(self, within: float = 3600.0) -> None:
        """Let time pass until no bytes are under way. Raises TimeoutError if that takes more than `within` seconds."""
        self.run_until(lambda: not self._under_way, within)

    def run_until(self, condition: Callable[[], object], within: float = 3600.0) -> None:
        """Let time pass until `condition` holds. Raises TimeoutError if that takes more than `within` seconds."""
        end = self.now + within
        self.catch_up()
        while not condition():
            if not self._step(end):
                raise TimeoutError(f"what was waited for did not happen within {within:g} seconds of virtual time")
            self.catch_up()

    def catch_up(self) -> None:
        """Do what is due now. Every call of a client's or a peer's ends with it."""
        if self._stepping:
            return
        for _ in range(MAXIMUM_STEPS_AT_ONCE):
            if not self._step(self.now):
                return
        raise RuntimeError(f"after {MAXIMUM_STEPS_AT_ONCE} steps there is still something to do at the same moment")

    def schedule(self, when: float, action: Callable[[], None]) -> None:
        """As `at`, for bytes under way."""
        self._under_way += 1
        self._enter(when, True, action)

    def _enter(self, when: float, moving: bool, action: Callable[[], object]) -> None:
        self._serial += 1
        heappush(self._agenda, (max(when, self.now), self._serial, moving, action))

    def _step(self, end: float) -> bool:
        """Do the next thing, if it is due by `end`."""
        self._dispatch()
        agenda = self._agenda
        broker_at = self.broker.next_deadline()
        when = min(agenda[0][0] if agenda else inf, broker_at)
        if when > end or self._stepping:
            return False
        self.now = max(self.now, when)
        self._stepping = True
        try:
            if broker_at <= self.now:
                self.broker.handle_timeout(self.now)
            else:
                _, _, moving, action = heappop(agenda)
                self._under_way -= moving
                action()
        finally:
            self._stepping = False
        self._dispatch()
        return True

    # -------------------------------------------------------------------------------------------------- the broker

    def _dispatch(self) -> None:
        while actions := self.broker.take_actions():
            for action in actions:
                if isinstance(action, Flush):
                    self._connections[action.link].flush()
                elif isinstance(action, Report):
                    self.reports.append(action.event)
                    if self._watch is not None:
                        self._watch(Told(self.now, action.event))
                elif isinstance(action, Close):
                    self._connections.pop(action.link).close(abrupt=action.abrupt)
                else:
                    self._answer(action)

    def _answer(self, perform: Perform) -> None:
        reply = self._perform(perform.effect)
        self.at(self.now, lambda: self.broker.resume(perform, reply, self.now))

    @property
    def watched(self) -> bool:
        """Whether somebody wants to know what arrives."""
        return self._watch is not None

    def arrived(self, client: str, at_broker: bool, packet: Packet) -> None:
        """Tell whoever watches of a packet."""
        assert self._watch is not None  # or nobody would read packets
        self._watch(Arrival(self.now, client, at_broker, packet))


@final
class Connection:
    """One connection between a client's end and the broker's: two pipes."""

    def __init__(self, simulator: Simulator, end: End, link: Link, name: str, wire: Wire) -> None:
        self.link = link
        self.open = True  # as the client's end sees it
        self._simulator = simulator
        self._end = end
        self._name = name
        self._closed = False  # by the broker
        self.up = self._pipe(wire, self._to_broker, self._client_ended, lambda: None, bounded=False)
        self.down = self._pipe(wire, self._to_client, self._broker_ended, self.flush, bounded=True)
        self._seen_by_broker, self._seen_by_client = Observer(end), Observer(end)

    def _pipe(
        self,
        wire: Wire,
        deliver: Callable[[bytes], None],
        ended: Callable[[], None],
        room: Callable[[], None],
        *,
        bounded: bool,
    ) -> Pipe:
        simulator = self._simulator
        return Pipe(
            simulator.random,
            wire,
            lambda: simulator.now,
            simulator.schedule,
            deliver=deliver,
            ended=ended,
            cut=self.cut,
            room=room,
            bounded=bounded,
        )

    def cut(self) -> None:
        """Break it; both sides notice at once, and what is under way is lost."""
        self.up.stop()
        self.down.stop()
        if not self._closed:
            self._simulator.broker.lost(self.link, self._simulator.now)
        self._end_client()

    def drop(self) -> None:
        """From now on what is sent is lost, and neither side is told."""
        self.up.stop()
        self.down.stop()

    def leave(self) -> None:
        """The client's side closes: what it has sent still arrives, and then the end."""
        self.open = False
        self.down.stop()
        self.up.finish()

    def abandon(self) -> None:
        """The client's side is gone, and the broker is not told."""
        self.open = False
        self.drop()

    def flush(self) -> None:
        """The broker has output, or there is room again."""
        simulator = self._simulator
        while not self._closed and not self.down.full:
            data = simulator.broker.take_output(self.link, simulator.now)
            if not data:
                break
            self.down.put(data)
        self._pause()

    def close(self, *, abrupt: bool) -> None:
        """The broker is done."""
        simulator = self._simulator
        if abrupt:
            self._closed = True
            self.up.stop()
            self.down.stop()
            simulator.at(simulator.now, self._end_client)
            return
        while data := simulator.broker.take_output(self.link, simulator.now):
            self.down.put(data)
        self._closed = True
        self.up.reading = True  # and lost
        self.down.finish()
        if self.down.waiting:
            simulator.at(simulator.now + LINGER, self.cut)

    def _pause(self) -> None:
        reading = self._closed or not self.link.paused
        if reading and not self.up.reading:
            self._simulator.at(self._simulator.now, self.up.wake)
        self.up.reading = reading

    def _to_broker(self, data: bytes) -> None:
        if self._closed:
            return
        for packet in self._seen_by_broker.feed(data):
            self._simulator.arrived(self._end.name, True, packet)
        self._simulator.broker.receive(self.link, data, self._simulator.now)
        self._pause()

    def _client_ended(self) -> None:
        if not self._closed:
            self._simulator.broker.lost(self.link, self._simulator.now)

    def _to_client(self, data: bytes) -> None:
        for packet in self._seen_by_client.feed(data):
            self._simulator.arrived(self._end.name, False, packet)
        self._end.receive(data)

    def _broker_ended(self) -> None:
        self.up.stop()
        self._end_client()

    def _end_client(self) -> None:
        if self.open:
            self.open = False
            self._end.lost()
