"""The Trio shell of the broker: accepts connections, does what the core asks for, and keeps its time."""

import errno
import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterable

import trio
from structlog.typing import FilteringBoundLogger

from mqttcore.auth import Effect, Failed, Reply
from mqttcore.broker import Broker, Flush, Link, Perform, Policy, Report, Transport
from mqttcore.broker.reports import Event
from trio_broker.entrances import Entrance, Guests, SocketEntrance, StreamEntrance
from trio_broker.errors import HandshakeError, TransportError
from trio_broker.limits import ServerLimits
from trio_broker.link import Wire
from trio_broker.listeners import Address, Listener, join, network_of
from trio_broker.logs import EventLog, make_logger
from trio_broker.poller import Poller
from trio_broker.reports import write_report
from trio_broker.transports import GONE

TASK = "connection"
"""What Trio calls the task of a connection, each the same string."""
ACCEPTS_PER_TURN = 64
"""Connections that one listener accepts before other tasks have their turn."""
HOUSEKEEPING = 10.0
"""Seconds between two looks at the wall clock and at the log's counts."""
LATE = 0.2
"""Seconds by which the timer may wake too late without anybody being given time for it."""
LONGEST_GRACE = 1.0
"""Seconds that are given at most."""
SHORTEST_NAP = 0.001
"""Seconds that the timer sleeps at least: a deadline that never passes cannot stop everything else."""

# What accept() reports about a client that has gone while it waited; it says nothing about the listener.
CLIENT_GONE = {
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOPROTOOPT,
    errno.EPERM,
    errno.EPROTO,
    errno.ETIMEDOUT,
}

Performer = Callable[[Effect], Awaitable[Reply]]
"""Performs an authenticator's effect; a failure is the reply `Failed`."""


async def perform_nothing(effect: Effect) -> Reply:
    """The performer for authenticators that need nothing from outside."""
    return Failed("unsupported")


class Server:
    """Runs a Broker on Trio. `serve` listens, `serve_stream` takes one connection, `stop` ends both.

    Tasks of one Trio loop share the broker, so nothing here locks.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        limits: ServerLimits | None = None,
        perform: Performer = perform_nothing,
        logger: FilteringBoundLogger | None = None,
        wall_clock: Callable[[], float] = time.time,
        on_report: Callable[[Event], None] | None = None,
    ) -> None:
        """`wall_clock` gives Unix seconds, by which credentials expire; a test gives one that goes by Trio's clock.

        `on_report` is called with each event of the broker when that has been logged.
        """
        self.broker = broker
        self._wall_clock = wall_clock
        self._on_report = on_report
        self.limits = limits or ServerLimits()
        self.perform = perform
        self.log = EventLog(logger or make_logger(), self.limits)
        self._wires: dict[Link, Wire] = {}
        self._listeners: set[Listener] = set()
        self._nursery: trio.Nursery | None = None
        self.poller = Poller()
        self._guests = Guests(self.limits)
        self._stopping = trio.Event()
        self._empty = trio.Event()
        # Armed only while the timer sleeps.
        self._alarm = trio.CancelScope(deadline=-math.inf)

    @property
    def open_links(self) -> int:
        """Connections whose handshakes are done."""
        return len(self._wires)

    async def serve(
        self,
        listeners: Iterable[Listener] = (),
        *,
        task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections until `stop`; `nursery.start` gives the addresses.

        Closes the listeners. Cancellation ends all connections at once, without a last word.
        """
        listeners = tuple(listeners)
        addresses = tuple(listener.address for listener in listeners)
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._keep_time)
                self._nursery.start_soon(self.poller.run, self.dispatch)
                self.listen(listeners)
                task_status.started(addresses)
                await self._stopping.wait()
                self.unlisten(tuple(self._listeners))
                await self._take_leave()
                self._nursery.cancel_scope.cancel()
        finally:
            self.unlisten(tuple(self._listeners))
            for wire in self._wires.values():
                wire.abort()
            self._nursery = None
            self.poller.close()
            self.log.close()

    def listen(self, listeners: Iterable[Listener]) -> None:
        """Accept connections of these listeners, too, while `serve` runs. Closes them when it is about to end."""
        nursery = self._nursery
        for listener in listeners:
            if nursery is None or self._stopping.is_set():
                _close_listener(listener)
                continue
            self._listeners.add(listener)
            # What it accepts has these from it.
            listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # For clients without Keep Alive whose host has vanished.
            listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            nursery.start_soon(self._accept, listener, nursery)

    def unlisten(self, listeners: Iterable[Listener]) -> None:
        """Close these listeners. Connections that they have accepted stay, unless their handshakes are under way."""
        for listener in listeners:
            self._listeners.discard(listener)
            _close_listener(listener)

    async def serve_stream(
        self,
        stream: trio.abc.Stream,
        policy: Policy | None = None,
        *,
        peer: str = "memory",
        name: str = "tcp",
        certificates: tuple[bytes, ...] = (),
    ) -> None:
        """Serve one client over any Trio stream until it is gone; `serve` must be running meanwhile.

        `peer` and `name` are its address and protocol in the log, `certificates` (DER, its own first) what it has
        presented. Closes the stream. Raises RuntimeError unless `serve` runs, for nothing else keeps the time.
        """
        if self._nursery is None and not self._stopping.is_set():
            raise RuntimeError("serve_stream needs serve to run: await nursery.start(server.serve)")

        try:
            await self._converse(StreamEntrance(stream, policy or Policy(), peer, name, certificates))
        finally:
            await trio.aclose_forcefully(stream)

    def stop(self) -> None:
        """Stop accepting, send DISCONNECT 0x8B to all, and return from `serve` in `shutdown_timeout`."""
        self._stopping.set()

    def cut(self, link: Link) -> None:
        """End a connection at once without a last word, as when its network fails: the client's Will is due."""
        if (wire := self._wires.get(link)) is not None:
            wire.abort()
            self.lost(link)
            self.dispatch()

    def dispatch(self) -> None:
        """Do what the core wants done, in its order, without waiting."""
        wires = self._wires
        now = trio.current_time()
        while actions := self.broker.take_actions():
            for action in actions:
                if isinstance(action, Report):
                    self._report(action.event)
                elif (wire := wires.get(action.link)) is not None:
                    try:
                        if isinstance(action, Flush):
                            wire.flush(now)
                        elif isinstance(action, Perform):
                            wire.start(action)
                        elif action.abrupt:
                            wire.abort()
                        else:
                            wire.close(action.expected)
                    except Exception as error:
                        self.failed(action.link, error)
        self._set_alarm()

    def _set_alarm(self) -> None:
        deadline = self.broker.next_deadline()
        if deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    def failed(self, link: Link, error: Exception) -> None:
        """Log a fault of ours with its traceback, and end the one connection that met it."""
        self.log.failure(
            "internal_error",
            error,
            address=link.transport.peer,
            client_id=link.client_id,
            protocol=link.transport.name,
        )
        if (wire := self._wires.get(link)) is not None:
            wire.abort()

    def lost(self, link: Link) -> None:
        """Tell the broker that nothing more comes over this link; what follows is to be dispatched."""
        try:
            self.broker.lost(link, trio.current_time())
        except Exception as error:
            self.failed(link, error)

    def effect_failed(self, perform: Perform, error: Exception) -> None:
        """Log that a performer raised; only the type of what, because its text may hold credentials."""
        self.log.write(
            "error",
            "effect_failed",
            perform.link.transport.peer,
            client_id=perform.link.client_id,
            effect=type(perform.effect).__name__,
            reason=type(error).__name__,
        )

    def transport_failed(self, link: Link, error: TransportError) -> None:
        """Log why a connection ended below MQTT."""
        self.log.write(
            "warning",
            "transport_failed",
            link.transport.peer,
            client_id=link.client_id,
            protocol=link.transport.name,
            reason=str(error),
        )

    def _report(self, event: Event) -> None:
        try:
            write_report(self.log, event)
            if self._on_report is not None:
                self._on_report(event)
        except Exception as error:
            self.log.failure("internal_error", error)

    async def _keep_time(self) -> None:
        while True:
            now = trio.current_time()
            self.log.tick(now)
            self.broker.wall_offset = self._wall_clock() - now
            try:
                self.broker.handle_timeout(now)
            except Exception as error:
                self.log.failure("internal_error", error)
            self.dispatch()
            wake = max(min(self.broker.next_deadline(), now + HOUSEKEEPING), now + SHORTEST_NAP)
            with trio.CancelScope(deadline=wake) as self._alarm:
                await trio.sleep_forever()
            late = trio.current_time() - self._alarm.deadline
            if late > LATE:
                # Something took its time, or the process was stopped. What clients have sent meanwhile is read first:
                # their Keep Alive is not to be judged by our silence.
                await trio.sleep(min(late, LONGEST_GRACE))

    async def _take_leave(self) -> None:
        try:
            self.broker.shutdown(trio.current_time())
        except Exception as error:
            self.log.failure("internal_error", error)
        self.dispatch()
        with trio.move_on_after(self.limits.shutdown_timeout):
            while self._wires:
                self._empty = trio.Event()
                await self._empty.wait()

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        while listener.socket.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(listener.socket)
                for _ in range(ACCEPTS_PER_TURN):
                    sock, address = listener.socket.accept()
                    self._admit(listener, nursery, sock, address)
            except BlockingIOError:
                continue
            except trio.ClosedResourceError:
                return
            except OSError as error:
                if listener.socket.fileno() >= 0 and error.errno not in CLIENT_GONE:
                    self.log.write("error", "accept_failed", join(listener.address), reason=error.strerror)
                    await trio.sleep(self.limits.accept_retry_delay)

    def _admit(
        self,
        listener: Listener,
        nursery: trio.Nursery,
        sock: socket.socket,
        address: Address,
    ) -> None:
        peer = address[:2]
        refusal = self._guests.refusal(listener, network_of(peer[0]))
        if refusal:
            sock.close()
            self.log.write("warning", "connection_refused", join(peer), protocol=listener.name, reason=refusal)
            return
        nursery.start_soon(self._converse, SocketEntrance(self._guests, listener, sock, peer), name=TASK)

    async def _converse(self, entrance: Entrance) -> None:
        """One connection from its handshakes to its end; whatever happens to it stays in here."""
        link: Link | None = None
        try:
            async with trio.open_nursery() as nursery:
                pipe, certificates = await entrance.open(self.limits)
                policy = entrance.policy()
                if self._stopping.is_set() or policy is None:
                    nursery.cancel_scope.cancel()
                    return
                transport = Transport(peer=entrance.peer, name=entrance.name, certificates=certificates)
                link = self.broker.open(trio.current_time(), transport, policy)
                wire = self._wires[link] = Wire(self, link, pipe, nursery)
                self._set_alarm()
                await wire.read()
        except* HandshakeError as group:
            for error in group.exceptions:
                self.log.write("warning", "handshake_failed", entrance.peer, protocol=entrance.name, reason=str(error))
        except* GONE:
            pass
        except* Exception as group:
            self.log.failure("internal_error", group, address=entrance.peer, protocol=entrance.name)
        finally:
            if link is not None:
                self._forget(link)
            entrance.leave()

    def _forget(self, link: Link) -> None:
        del self._wires[link]
        if not link.closed:
            self.lost(link)
            self.dispatch()
        if not self._wires:
            self._empty.set()


def _close_listener(listener: Listener) -> None:
    if listener.socket.fileno() >= 0:
        trio.lowlevel.notify_closing(listener.socket)
        listener.socket.close()


async def serve(
    broker: Broker,
    listeners: Iterable[Listener],
    *,
    limits: ServerLimits | None = None,
    perform: Performer = perform_nothing,
    logger: FilteringBoundLogger | None = None,
    task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a broker on these listeners until cancelled; `nursery.start` gives the addresses."""
    server = Server(broker, limits=limits, perform=perform, logger=logger)
    await server.serve(listeners, task_status=task_status)
