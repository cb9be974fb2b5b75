"""The clients' ends of a `Simulator`'s connections: whole clients, and peers who send what they like."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar, final

from attrs import evolve

from mqttcore.broker.policy import Policy
from mqttcore.client import Client, Event
from mqttcore.codec import decode, encode
from mqttcore.codes import V5, PacketType, ReasonCode
from mqttcore.connection import FRAME_MAXIMUM
from mqttcore.errors import ProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.framing import FrameBuffer
from mqttcore.limits import Limits
from mqttcore.packets import Connect, Packet, Publish, Subscription
from mqttcore.testing.wires import Wire

if TYPE_CHECKING:
    from mqttcore.testing.simulator import Connection, Simulator

_E = TypeVar("_E", bound=Event)
_P = TypeVar("_P", bound=Packet)


class End(ABC):
    """What every client's end of a connection can do: read or not, and lose the connection in all ways."""

    name = ""
    version = V5
    connection: "Connection"

    def __init__(self, simulator: "Simulator") -> None:
        self.simulator = simulator

    @property
    def reading(self) -> bool:
        """Whether it reads what arrives; set it to False for a client that is slow or hangs."""
        return self.connection.down.reading

    @reading.setter
    def reading(self, reading: bool) -> None:
        self.connection.down.reading = reading
        if reading:
            self.connection.down.wake()
        self.simulator.catch_up()

    def cut(self) -> None:
        """Break the connection: both sides notice at once, and what is under way is lost."""
        self.connection.cut()
        self.simulator.catch_up()

    def drop(self) -> None:
        """Lose everything from now on without telling anybody: Keep Alive finds out, if there is one."""
        self.connection.drop()

    def cut_after(self, *, sent: int | None = None, received: int | None = None) -> None:
        """Cut the connection when the broker has got `sent` more bytes, or this end `received` more."""
        if sent is not None:
            self.connection.up.cut_after(sent)
        if received is not None:
            self.connection.down.cut_after(received)
        self.simulator.catch_up()

    def cut_within(self, kind: PacketType, *, sent: bool = False) -> None:
        """Cut the connection in the middle of the next packet of a kind that the broker sends; `sent`, that this end
        sends.
        """
        (self.connection.up if sent else self.connection.down).cut_within(kind)

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Bytes have arrived."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is over."""


@final
class Observer:
    """Bytes in any pieces to packets, as far as they are packets, for whoever watches the simulator."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._frames = FrameBuffer(FRAME_MAXIMUM) if end.simulator.watched else None

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that are complete with `data`."""
        frames = self._frames
        if frames is None:
            return
        frames.feed(data)
        while True:
            try:
                frame = frames.next_frame()
                if frame is None:
                    return
                packet = decode(*frame, self._end.version)
            except ProtocolError:
                self._frames = None  # what follows means nothing
                return
            yield packet


@final
class SimulatedClient(End):
    """A Client through all its connections, with the session that it keeps between them; `Simulator.client` makes it.

    `events` are what has happened to it and was not taken yet. `client` is the Client of the present connection.
    While `taking` is False the application takes no events, so nothing is acknowledged, and Receive Maximum holds the
    broker back.
    """

    def __init__(
        self,
        simulator: "Simulator",
        connect: Connect,
        wire: Wire | None,
        policy: Policy | None,
        limits: Limits | None,
        on_event: Callable[["SimulatedClient", Event], None] | None,
    ) -> None:
        super().__init__(simulator)
        self.name = connect.client_id
        self.events: list[Event] = []
        self.client: Client
        self._connect = connect
        self._wire = wire
        self._policy = policy
        self._limits = limits
        self._on_event = on_event
        self._taking = True
        self._working = False
        self._armed = inf
        self._begun = False

    # ---------------------------------------------------------------------------------------------- the connection

    def reconnect(self, *, wire: Wire | None = None, **connect: Any) -> None:
        """Connect, with the session of the last connection; `connect` changes fields of Connect from now on.

        A connection that is still there is left without a word, as by a client that has crashed.
        """
        self._connect = evolve(self._connect, **connect)
        self._wire = self._wire if wire is None else wire
        if self._begun and self.connection.open:
            self.connection.abandon()
        simulator = self.simulator
        session = self.client.session if self._begun else None
        self.client = Client(self._connect, simulator.now, limits=self._limits, session=session)
        self.version = self._connect.protocol_version
        self._begun = True
        self.connection = simulator.connection(self, self.name, self._wire, self._policy)
        self._work()

    def disconnect(
        self,
        reason_code: ReasonCode = ReasonCode.NORMAL_DISCONNECTION,
        *,
        session_expiry_interval: int | None = None,
    ) -> None:
        """Say goodbye. Raises LocalProtocolError if the broker has not accepted the client (yet)."""
        self.client.disconnect(self.simulator.now, reason_code, session_expiry_interval=session_expiry_interval)
        self._work()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the client, and the client does not know of an end."""
        return self.client.connected

    # ------------------------------------------------------------------------------------------------- the requests

    def publish(self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> int:
        """Publish; the number that its Delivered will have, 0 for QoS 0. Raises as Client.publish does."""
        publish = Publish(topic, payload, qos=qos, **fields)
        number = self.client.publish(publish, self.simulator.now)
        self._work()
        return number

    def subscribe(
        self,
        *filters: str | Subscription,
        qos: int = 0,
        subscription_identifier: int | None = None,
        **options: Any,
    ) -> int:
        """Subscribe to filters with `qos` and `options`, or to Subscriptions as they are; the SubAck's packet
        identifier.
        """
        subscriptions = tuple(Subscription(item, qos, **options) if isinstance(item, str) else item for item in filters)
        packet_id = self.client.subscribe(
            subscriptions, self.simulator.now, subscription_identifier=subscription_identifier
        )
        self._work()
        return packet_id

    def unsubscribe(self, *filters: str) -> int:
        """Unsubscribe; the UnsubAck's packet identifier."""
        packet_id = self.client.unsubscribe(filters, self.simulator.now)
        self._work()
        return packet_id

    # --------------------------------------------------------------------------------------------------- the events

    def take(self, kind: type[_E]) -> list[_E]:
        """The events of one kind, which are then no longer there."""
        found: list[_E] = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def messages(self) -> list[tuple[str, bytes]]:
        """Topic and payload of the messages that have arrived, which are then no longer there."""
        return [(publish.topic, publish.payload) for publish in self.take(Publish)]

    def payloads(self) -> list[bytes]:
        """The payloads of the messages that have arrived, which are then no longer there."""
        return [publish.payload for publish in self.take(Publish)]

    @property
    def taking(self) -> bool:
        """Whether the application takes its events."""
        return self._taking

    @taking.setter
    def taking(self, taking: bool) -> None:
        self._taking = taking
        self._work()

    # ------------------------------------------------------------------------------------------------- the transport

    def receive(self, data: bytes) -> None:
        """Bytes have arrived."""
        self.client.receive(data, self.simulator.now)
        self._work()

    def lost(self) -> None:
        """The connection is over."""
        self.client.receive_eof(self.simulator.now)
        self._work()

    def _work(self) -> None:
        """Have the application take what there is, and send what it and the client want to send."""
        if self._working:
            return
        self._working = True
        client = self.client
        try:
            while True:
                event = client.next_event() if self._taking else None
                data = client.take_output()
                if data:
                    self.connection.up.put(data)
                if event is None:
                    break
                self.events.append(event)
                if isinstance(event, ConnectionClosed) and self.connection.open:
                    self.connection.leave()
                if self._on_event is not None:
                    self._on_event(self, event)
                    client = self.client  # it may have reconnected
        finally:
            self._working = False
        self._arm()
        self.simulator.catch_up()

    def _arm(self) -> None:
        deadline = self.client.next_deadline()
        if deadline < self._armed:
            self._armed = deadline
            self.simulator.at(deadline, lambda: self._timeout(deadline))

    def _timeout(self, deadline: float) -> None:
        if self._armed != deadline:
            return  # an earlier one has been at work since
        self._armed = inf
        if self.client.next_deadline() <= self.simulator.now:
            self.client.handle_timeout(self.simulator.now)
        self._work()


@final
class RawPeer(End):
    """A connection for packets and bytes of one's own choice. `received` is what has arrived; nothing is answered."""

    def __init__(self, simulator: "Simulator") -> None:
        super().__init__(simulator)
        self.received: list[Packet] = []
        self._frames = FrameBuffer(FRAME_MAXIMUM)

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return not self.connection.open

    def send(self, *packets: Packet) -> None:
        """Send packets in one piece, in the protocol version of the last CONNECT. Raises LocalProtocolError for one
        that cannot be encoded.
        """
        data = b""
        for packet in packets:
            if isinstance(packet, Connect):
                self.version = packet.protocol_version
                self.name = packet.client_id
            data += encode(packet, self.version)
        self.send_bytes(data)

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.up.put(data)
        self.simulator.catch_up()

    def close(self) -> None:
        """Close this end: what was sent still arrives, and then the end of the stream."""
        self.connection.leave()
        self.simulator.catch_up()

    def take(self, kind: type[_P]) -> list[_P]:
        """The packets of one kind that have arrived, which are then no longer there."""
        found: list[_P] = [packet for packet in self.received if isinstance(packet, kind)]
        self.received = [packet for packet in self.received if not isinstance(packet, kind)]
        return found

    def receive(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._frames.feed(data)
        while (frame := self._frames.next_frame()) is not None:
            self.received.append(decode(*frame, self.version))

    def lost(self) -> None:
        """The connection is over."""
