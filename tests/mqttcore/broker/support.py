"""A network in memory: any number of peers on one Broker, a virtual clock, and a referee who reads every packet.

A Peer speaks packets or bytes and can stop reading, so that output piles up. Whatever arrives at it is checked
against what holds on every connection: nothing before CONNACK, nothing after DISCONNECT, its Receive Maximum, its
Maximum Packet Size, its Topic Alias Maximum, packet identifiers that are free. Time moves only by `Network.advance`,
and the broker is driven by its own deadlines alone: nothing polls.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import evolve

from mqttcore import (
    V5,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Limits,
    Packet,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
    Session,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
)
from mqttcore.auth import Action, Authenticator, Principal
from mqttcore.broker import Broker, Close, Flush, Link, Perform, Policy, Report, Transport
from mqttcore.broker.reports import Event
from mqttcore.client import Client
from mqttcore.client import Event as ClientEvent
from mqttcore.codec import decode, encode
from mqttcore.framing import FrameBuffer

WALL = 1_000_000.0
"""Unix time when the virtual clock is at 0."""

FRAME_MAXIMUM = 268_435_460

_P = TypeVar("_P", bound=Packet)
_E = TypeVar("_E", bound=Event)
_C = TypeVar("_C", bound=ClientEvent)


class Network:
    """Peers, a Broker, and the time between them.

    `limits` hold for the broker and, unless a policy says otherwise, for its port.
    """

    def __init__(self, policy: Policy | None = None, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.policy = Policy(limits=self.limits) if policy is None else policy
        self.now = 0.0
        self.broker = Broker(self.limits, seed=b"s" * 32, wall_offset=WALL)
        self.peers: dict[Link, Peer | ClientEnd] = {}
        self.clients: list[ClientEnd] = []
        self.reports: list[Event] = []
        self.performs: list[Perform] = []

    def policy_with(
        self,
        authenticate: Authenticator | None = None,
        authorize: Callable[[Principal, Action, str], bool] | None = None,
        **limits: Any,
    ) -> Policy:
        """A port's policy with the network's limits, changed by `limits`."""
        return Policy(limits=evolve(self.limits, **limits), authenticate=authenticate, authorize=authorize)

    def peer(self, policy: Policy | None = None, transport: Transport | None = None) -> "Peer":
        """A connection that has sent nothing yet."""
        transport = Transport(f"peer {len(self.peers)}") if transport is None else transport
        link = self.broker.open(self.now, transport, self.policy if policy is None else policy)
        peer = self.peers[link] = Peer(self, link)
        return peer

    def client(self, connect: Connect, session: Session | None = None) -> "ClientEnd":
        """A Client of this package on a connection of its own; `session` is that of an earlier one."""
        link = self.broker.open(self.now, Transport(f"client {connect.client_id}"), self.policy)
        end = ClientEnd(self, link, Client(connect, self.now, session=session))
        self.peers[link] = end
        self.clients.append(end)
        end.flush()
        return end

    def connect(self, client_id: str = "", policy: Policy | None = None, **fields: Any) -> "Peer":
        """A peer that the broker has accepted; its CONNACK is `connack`."""
        peer = self.peer(policy)
        peer.send(Connect(client_id=client_id, **fields))
        peer.connack = peer.expect(ConnAck)
        assert peer.connack.reason_code is ReasonCode.SUCCESS
        return peer

    def resume(self, client_id: str, policy: Policy | None = None, **fields: Any) -> "Peer":
        """A peer that carries on with its session, which may have more to say than CONNACK."""
        peer = self.peer(policy)
        peer.send(Connect(client_id=client_id, clean_start=False, **fields))
        [peer.connack] = peer.take(ConnAck)
        assert peer.connack.session_present
        return peer

    def connects(self, *client_ids: str, **fields: Any) -> "list[Peer]":
        """Several accepted peers."""
        return [self.connect(client_id, **fields) for client_id in client_ids]

    def settle(self) -> None:
        """Do what the broker asks for until it asks for nothing more."""
        while actions := self.broker.take_actions():
            for action in actions:
                if isinstance(action, Report):
                    self.reports.append(action.event)
                    continue
                peer = self.peers[action.link]
                assert peer.closed is None, f"{action} after Close"
                if isinstance(action, Perform):
                    self.performs.append(action)
                elif isinstance(action, Flush):
                    peer.drain()
                else:
                    assert isinstance(action, Close)
                    peer.drain()
                    peer.closed = "abrupt" if action.abrupt else "in order"

    def advance(self, seconds: float) -> None:
        """Let time pass, calling the broker at its deadlines and at no other moment."""
        end = self.now + seconds
        rounds = 0
        while (deadline := self.next_deadline()) <= end:
            rounds = 0 if deadline > self.now else rounds + 1
            assert rounds < 10, "a deadline that stays due"
            self.now = max(self.now, deadline)
            if self.broker.next_deadline() <= self.now:
                self.broker.handle_timeout(self.now)
                self.settle()
            for client in self.clients:
                client.handle_timeout()
        self.now = end

    def next_deadline(self) -> float:
        """When the broker or a Client has to be called next."""
        return min([self.broker.next_deadline(), *(end.client.next_deadline() for end in self.clients)])

    def perform(self, reply: Any) -> Perform:
        """Reply to the oldest effect that waits."""
        action = self.performs.pop(0)
        self.broker.resume(action, reply, self.now)
        self.settle()
        return action

    def take_reports(self, kind: type[_E]) -> list[_E]:
        """The reports of one kind, which are then no longer there."""
        found: list[_E] = [event for event in self.reports if isinstance(event, kind)]
        self.reports = [event for event in self.reports if not isinstance(event, kind)]
        return found

    def publish(self, topic: str, payload: bytes = b"", **fields: Any) -> None:
        """A message of the server's own."""
        self.broker.publish(Publish(topic, payload, **fields), self.now)
        self.settle()


class Peer:
    """One client's end of a connection. `auto` acknowledges what arrives; without `reading` nothing arrives."""

    def __init__(self, network: Network, link: Link) -> None:
        self.network = network
        self.link = link
        self.version = V5
        self.auto = True
        self.reading = True
        self.closed: str | None = None
        self.received: list[Packet] = []
        self.connack = ConnAck()
        self.unacknowledged: dict[int, int] = {}  # packet identifier -> QoS of what the broker has sent
        self.sizes: list[int] = []
        self._frames = FrameBuffer(FRAME_MAXIMUM)
        self._connect = Connect()
        self._aliases: dict[int, str] = {}
        self._packet_id = 0
        self._over = False
        self._connected = False

    # ------------------------------------------------------------------------------------------------- sending

    def send_bytes(self, *chunks: bytes) -> None:
        """Send bytes as they are, chunk by chunk."""
        for chunk in chunks:
            self.network.broker.receive(self.link, chunk, self.network.now)
            self.network.settle()

    def send(self, *packets: Packet) -> None:
        """Send packets in one chunk."""
        self.send_bytes(self.encoded(*packets))

    def encoded(self, *packets: Packet) -> bytes:
        """The bytes of packets that are about to be sent, in the protocol version of the last CONNECT."""
        data = b""
        for packet in packets:
            if isinstance(packet, Connect):
                self.version = packet.protocol_version
                self._connect = packet
            elif isinstance(packet, PubAck | PubComp) or (isinstance(packet, PubRec) and packet.reason_code.is_failure):
                self.unacknowledged.pop(packet.packet_id, None)
            data += encode(packet, self.version)
        return data

    def cut(self) -> None:
        """Break the connection without a word."""
        self.network.broker.lost(self.link, self.network.now)
        self.network.settle()

    def disconnect(self, reason_code: ReasonCode = ReasonCode.SUCCESS, **fields: Any) -> None:
        """Say goodbye."""
        self.send(Disconnect(reason_code, **fields))

    def next_id(self) -> int:
        """A packet identifier that was not used before."""
        self._packet_id += 1
        return self._packet_id

    def subscribe(
        self, *filters: str | Subscription, qos: int = 2, identifier: int | None = None, **options: Any
    ) -> list[int]:
        """Subscribe and give the SUBACK's codes."""
        subscriptions = tuple(Subscription(item, qos, **options) if isinstance(item, str) else item for item in filters)
        packet_id = self.next_id()
        self.send(Subscribe(packet_id, subscriptions, subscription_identifier=identifier))
        [suback] = self.take(SubAck)
        assert suback.packet_id == packet_id  # [MQTT-3.8.4-2] [MQTT-2.2.1-6]
        assert len(suback.reason_codes) == len(filters)  # [MQTT-3.8.4-6]
        return list(suback.reason_codes)

    def unsubscribe(self, *filters: str) -> list[int]:
        """Unsubscribe and give the UNSUBACK's codes."""
        packet_id = self.next_id()
        self.send(Unsubscribe(packet_id, filters))
        [unsuback] = self.take(UnsubAck)
        assert unsuback.packet_id == packet_id  # [MQTT-3.10.4-5] [MQTT-2.2.1-6]
        return list(unsuback.reason_codes)

    def publish(self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> ReasonCode | None:
        """Publish, complete the exchange, and give the code of PUBACK or PUBREC; None for QoS 0."""
        if not qos:
            self.send(Publish(topic, payload, **fields))
            return None
        packet_id = self.next_id()
        self.send(Publish(topic, payload, qos=qos, packet_id=packet_id, **fields))
        if qos == 1:
            [puback] = self.take(PubAck)
            assert puback.packet_id == packet_id  # [MQTT-4.3.2-4] [MQTT-2.2.1-5]
            return puback.reason_code
        [pubrec] = self.take(PubRec)
        assert pubrec.packet_id == packet_id  # [MQTT-4.3.3-8] [MQTT-2.2.1-5]
        if not pubrec.reason_code.is_failure:
            self.send(PubRel(packet_id))
            assert self.take(PubComp) == [PubComp(packet_id)]  # [MQTT-4.3.3-11]
        return pubrec.reason_code

    # ------------------------------------------------------------------------------------------------ receiving

    def read(self, reading: bool = True) -> None:
        """Begin to read again, or stop."""
        self.reading = reading
        self.drain()
        self.network.settle()

    def drain(self) -> None:
        """Take the output as a shell does: until there is none."""
        while self.reading and self.closed is None and self._take():
            pass

    def read_once(self) -> int:
        """Take one portion of output; how many bytes it was."""
        return self._take()

    def _take(self) -> int:
        data = self.network.broker.take_output(self.link, self.network.now)
        if not data:
            return 0
        self._frames.feed(data)
        while True:
            before = len(self._frames)
            frame = self._frames.next_frame()
            if frame is None:
                break
            self.sizes.append(before - len(self._frames))
            packet = decode(*frame, self.version)
            self._judge(packet, self.sizes[-1])
            self.received.append(packet)
            if self.auto:
                self._acknowledge(packet)
        return len(data)

    def _judge(self, packet: Packet, size: int) -> None:
        connect = self._connect
        assert not self._over, f"{packet} after the last packet"  # [MQTT-3.14.4-1]
        assert size <= (connect.maximum_packet_size or FRAME_MAXIMUM)  # [MQTT-3.1.2-24]
        if not self._connected:
            assert isinstance(packet, ConnAck | Auth), f"{packet} before CONNACK"  # [MQTT-3.2.0-1] [MQTT-3.14.0-1]
        if isinstance(packet, ConnAck):
            assert not self._connected  # [MQTT-3.2.0-2]
            self._connected = not packet.reason_code.is_failure
            self._over = not self._connected
        elif isinstance(packet, Disconnect):
            assert self.version == V5
            assert packet.session_expiry_interval is None  # [MQTT-3.14.2-2]
            self._over = True
        elif isinstance(packet, Publish):
            self._judge_publish(packet)
        elif isinstance(packet, PubRel):
            assert self.unacknowledged.setdefault(packet.packet_id, 2) == 2
        elif isinstance(packet, Auth):  # [MQTT-4.12.0-5] [MQTT-4.12.0-6]
            assert packet.authentication_method == connect.authentication_method is not None
        if connect.request_problem_information is False and not isinstance(packet, Publish | ConnAck | Disconnect):
            assert not getattr(packet, "reason_string", None)  # [MQTT-3.1.2-29]
            assert not getattr(packet, "user_properties", None)

    def _judge_publish(self, packet: Publish) -> None:
        if packet.qos:
            assert packet.packet_id is not None
            assert packet.packet_id not in self.unacknowledged, "a packet identifier in use"  # [MQTT-2.2.1-4]
            self.unacknowledged[packet.packet_id] = packet.qos
            assert len(self.unacknowledged) <= (self._connect.receive_maximum or 65_535)  # [MQTT-3.3.4-9]
        alias = packet.topic_alias
        if alias is not None:
            assert alias <= (self._connect.topic_alias_maximum or 0)  # [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
            if packet.topic:
                self._aliases[alias] = packet.topic
            else:
                assert alias in self._aliases  # [MQTT-3.3.2-7]

    def _acknowledge(self, packet: Packet) -> None:
        # Straight to the broker: what follows from it comes through the actions of the settling that goes on.
        answer: Packet
        match packet:
            case Publish(qos=1, packet_id=int(packet_id)):
                answer = PubAck(packet_id)
                del self.unacknowledged[packet_id]
            case Publish(qos=2, packet_id=int(packet_id)):
                answer = PubRec(packet_id)
            case PubRel(packet_id):
                answer = PubComp(packet_id)
                del self.unacknowledged[packet_id]
            case _:
                return
        self.network.broker.receive(self.link, encode(answer, self.version), self.network.now)

    def topic_of(self, packet: Publish) -> str:
        """The Topic Name of a received PUBLISH, which may have come as an alias set before."""
        return packet.topic or self._aliases[packet.topic_alias or 0]

    def take(self, kind: type[_P]) -> list[_P]:
        """The packets of one kind that have arrived, which are then no longer there."""
        found: list[_P] = [packet for packet in self.received if isinstance(packet, kind)]
        self.received = [packet for packet in self.received if not isinstance(packet, kind)]
        return found

    def expect(self, kind: type[_P]) -> _P:
        """The only packet that has arrived; it is of this kind."""
        assert [type(packet) for packet in self.received] == [kind], self.received
        [packet] = self.take(kind)
        return packet

    def messages(self) -> list[tuple[str, bytes, int]]:
        """Topic, payload and QoS of the messages that have arrived, which are then no longer there."""
        return [(self.topic_of(packet), packet.payload, packet.qos) for packet in self.take(Publish)]

    def payloads(self) -> list[bytes]:
        """The payloads of the messages that have arrived, which are then no longer there."""
        return [packet.payload for packet in self.take(Publish)]

    def ended(self) -> Packet | None:
        """The last word of a connection that the broker has closed; None for none."""
        assert self.closed is not None
        word = self.received[-1] if self.received else None
        return word if isinstance(word, ConnAck | Disconnect) else None

    def ended_with(self) -> ReasonCode | None:
        """The reason code of the last word of a connection that the broker has closed."""
        word = self.ended()
        return word.reason_code if isinstance(word, ConnAck | Disconnect) else None


class ClientEnd:
    """A Client of this package, wired to the broker; `events` are what it has told."""

    def __init__(self, network: Network, link: Link, client: Client) -> None:
        self.network = network
        self.link = link
        self.client = client
        self.closed: str | None = None
        self.events: list[ClientEvent] = []

    def flush(self) -> None:
        """Send what the client has to send, now that something was asked of it."""
        self._send()
        self.network.settle()

    def drain(self) -> None:
        """Take the broker's output as a shell does."""
        while self.closed is None and (data := self.network.broker.take_output(self.link, self.network.now)):
            self.client.receive(data, self.network.now)
            self._send()

    def handle_timeout(self) -> None:
        """Do what is due."""
        if self.client.next_deadline() <= self.network.now:
            self.client.handle_timeout(self.network.now)
            self.flush()

    def cut(self) -> None:
        """Break the connection without a word."""
        self.network.broker.lost(self.link, self.network.now)
        self.network.settle()
        self.end()

    def end(self) -> None:
        """The stream is over."""
        self.client.receive_eof(self.network.now)
        self._take_events()
        self.network.clients.remove(self)

    def take(self, kind: type[_C]) -> list[_C]:
        """The events of one kind, which are then no longer there."""
        found: list[_C] = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def _take_events(self) -> None:
        while (event := self.client.next_event()) is not None:
            self.events.append(event)

    def _send(self) -> None:
        self._take_events()
        while data := self.client.take_output():
            self.network.broker.receive(self.link, data, self.network.now)
            self._take_events()


def subscription(topic_filter: str, qos: int = 2, **options: Any) -> Subscription:
    """A Subscription, QoS 2 unless told."""
    return Subscription(topic_filter, qos, **options)


def assert_empty(broker: Broker) -> None:
    """Nothing is left of the clients that were: no link, session, deadline, subscription or reference to a session."""
    assert not broker.links
    assert not broker.sessions
    assert broker.next_deadline() == float("inf")
    distributor = broker._distributor
    subscriptions = distributor._subscriptions
    assert not subscriptions._exact
    assert not subscriptions._root.children
    assert not broker._handshake._connects
