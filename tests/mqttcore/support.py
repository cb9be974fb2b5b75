"""What the tests of the core share: connections at a given point of their life, and somebody at the other end."""

from collections.abc import Iterable

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqttcore import packets as p
from mqttcore.codec import decode, encode, frame
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError
from mqttcore.events import ConnectionClosed, Event
from mqttcore.framing import FrameBuffer
from mqttcore.limits import Limits
from mqttcore.message import message_from
from mqttcore.session import Session, Terms
from mqttcore.states import CLIENT, SERVER, Role
from mqttcore.testing import strategies
from mqttcore.testing.malformed import malformed_packets

ANY_SIZE = 268_435_460


def events(connection: Connection) -> list[Event]:
    """All events that a connection has."""
    found = []
    while (event := connection.next_event()) is not None:
        found.append(event)
    return found


def packets_in(data: bytes, version: int = V5) -> list[p.Packet]:
    """The packets that an output consists of, to the last byte."""
    frames = FrameBuffer(ANY_SIZE)
    frames.feed(data)
    found = []
    while (frame := frames.next_frame()) is not None:
        found.append(decode(*frame, version))
    assert len(frames) == 0
    return found


def sent(connection: Connection) -> list[p.Packet]:
    """The packets in a connection's output, which is taken."""
    return packets_in(connection.take_output(), connection.version)


def tell(connection: Connection, *packets: p.Packet, now: float = 0.0) -> list[Event]:
    """Have a connection receive packets, and give the events that follow."""
    connection.receive(b"".join(encode(packet, connection.version) for packet in packets), now)
    return events(connection)


def server_with(connect: p.Connect, limits: Limits | None = None, now: float = 0.0) -> Connection:
    """A server's connection that has just received `connect`."""
    connection = Connection(SERVER, limits or Limits(), now)
    connection.receive(encode(connect), now)
    assert events(connection) == [connect]
    return connection


def server(
    connect: p.Connect | None = None,
    connack: p.ConnAck | None = None,
    limits: Limits | None = None,
    now: float = 0.0,
) -> Connection:
    """A server's connection after its CONNACK, with nothing in its output."""
    connect = connect or p.Connect()
    connection = server_with(connect, limits, now)
    connection.send(connack or p.ConnAck(authentication_method=connect.authentication_method), now)
    connection.take_output()
    return connection


def client(
    connect: p.Connect | None = None,
    connack: p.ConnAck | None = None,
    limits: Limits | None = None,
    now: float = 0.0,
) -> Connection:
    """A client's connection after its CONNACK, with nothing in its output."""
    connect = connect or p.Connect()
    connack = connack or p.ConnAck(authentication_method=connect.authentication_method)
    connection = Connection(CLIENT, limits or Limits(), now)
    connection.send(connect, now)
    connection.take_output()
    assert tell(connection, connack, now=now) == [connack]
    return connection


def answer(event: p.Packet, connection: Connection) -> p.Packet | None:
    """What a cooperative owner of a connection in either role says to a packet."""
    method = connection.authentication_method
    match event:
        case p.Connect(authentication_method=None):
            return p.ConnAck()
        case p.Connect():
            return p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method=method)
        case p.Auth(reason_code=ReasonCode.RE_AUTHENTICATE):
            return p.Auth(authentication_method=method)
        case p.Auth(reason_code=ReasonCode.CONTINUE_AUTHENTICATION) if connection.role is CLIENT:
            return p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method=method)
        case p.Auth(reason_code=ReasonCode.CONTINUE_AUTHENTICATION):
            return (
                p.Auth(authentication_method=method)
                if connection.connected
                else p.ConnAck(authentication_method=method)
            )
        case p.Publish(qos=1, packet_id=int(packet_id)):
            return p.PubAck(packet_id)
        case p.Publish(qos=2, packet_id=int(packet_id)):
            return p.PubRec(packet_id)
        case p.PubRec():
            return p.PubRel(event.packet_id)
        case p.PubRel():
            return p.PubComp(event.packet_id)
        case p.Subscribe():
            return p.SubAck(event.packet_id, tuple(ReasonCode(item.qos) for item in event.subscriptions))
        case p.Unsubscribe():
            return p.UnsubAck(event.packet_id, (ReasonCode.SUCCESS,) * len(event.topic_filters))
        case p.PingReq():
            return p.PingResp()
        case _:
            return None


def converse(connection: Connection, chunks: Iterable[bytes], *, eof: bool = True) -> tuple[list[Event], bytes]:
    """The events of a connection that receives `chunks` and whose owner answers all it can; and all its output."""
    heard: list[Event] = []
    said = b""

    def listen() -> None:
        nonlocal said
        while (event := connection.next_event()) is not None:
            heard.append(event)
            reply = None if isinstance(event, ConnectionClosed) else answer(event, connection)
            if reply is not None:
                try:
                    connection.send(reply, 0.0)
                except LocalProtocolError:
                    heard.append(ConnectionClosed(ReasonCode.SUCCESS, "the answer was refused", "us"))
        said += connection.take_output()

    for chunk in chunks:
        connection.receive(chunk, 0.0)
        listen()
    connection.receive_eof(0.0)
    listen()
    return heard, said


# What a peer in a role says on the whole, as bytes: with these more of a random conversation makes sense.
def _usual(peer: Role, version: int) -> st.SearchStrategy[p.Packet]:
    kinds: list[st.SearchStrategy[p.Packet]] = [
        strategies.publishes(version, from_client=peer is CLIENT),
        strategies.pubacks(version),
        strategies.pubrecs(version),
        strategies.pubrels(version),
        strategies.pubcomps(version),
    ]
    if peer is CLIENT:
        kinds += [strategies.subscribes(version), strategies.unsubscribes(version), st.just(p.PingReq())]
    else:
        kinds += [strategies.subacks(version), strategies.unsubacks(version), st.just(p.PingResp())]
    if version == V5:
        codes = st.sampled_from([ReasonCode.RE_AUTHENTICATE, ReasonCode.CONTINUE_AUTHENTICATION])
        kinds.append(st.builds(lambda code: p.Auth(code, authentication_method="m"), codes))
    return st.one_of(kinds)


@st.composite
def streams(draw: st.DrawFn, role: Role, version: int) -> bytes:
    """What a connection in `role` may be told by its peer: packets, most of them in place, and a broken end or none."""
    peer = role.peer
    methods = st.sampled_from([None, "m"]) if version == V5 else st.none()
    if peer is CLIENT:
        first: p.Packet = p.Connect(authentication_method=draw(methods), protocol_version=version)
    else:
        first = p.ConnAck(authentication_method=draw(methods))
    usual, any_packet = _usual(peer, version), strategies.packets(version)
    packets = [first, *draw(st.lists(usual, max_size=5)), *draw(st.lists(any_packet, max_size=2))]
    if draw(st.integers(0, 9)) == 0:
        del packets[0]
    data = b"".join(encode(packet, version) for packet in packets)
    bad = draw(st.none() | malformed_packets(version))
    if bad is not None:
        data += frame(*bad)
    return data + draw(
        st.sampled_from([b"", b"\xc0", b"\x30\xff", b"\x10\xff\xff\xff\x7f\x00\x06MQIsdp\x03", bytes(9)])
    )


class Hostile(RuleBasedStateMachine):
    """A connection whose peer sends anything at any moment, and whose owner tries anything: it never breaks."""

    role: Role = SERVER

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        limits = Limits(maximum_connect_size=200, maximum_packet_size=300, maximum_early_data=1024)
        self.connection = Connection(self.role, limits, self.now)
        self.over = False

    @rule(data=st.data(), version=st.sampled_from([V311, V5]))
    def a_conversation(self, data: st.DataObject, version: int) -> None:
        self.connection.receive(data.draw(streams(self.role, version)), self.now)

    @rule(data=st.data())
    def a_packet_in_place(self, data: st.DataObject) -> None:
        version = self.connection.version
        self.connection.receive(encode(data.draw(_usual(self.role.peer, version)), version), self.now)

    @rule(data=st.binary(max_size=20))
    def any_bytes(self, data: bytes) -> None:
        self.connection.receive(data, self.now)

    @rule()
    def an_event_is_answered(self) -> None:
        event = self.connection.next_event()
        assert not (self.over and event is not None)
        if isinstance(event, ConnectionClosed):
            self.over = True
        elif event is not None:
            reply = answer(event, self.connection)
            if reply is not None:
                self._send(reply)

    @rule(packet=strategies.unchecked_packets())
    def anything_is_sent(self, packet: p.Packet) -> None:
        self._send(packet)

    @rule(data=st.data())
    def something_sensible_is_sent(self, data: st.DataObject) -> None:
        self._send(data.draw(_usual(self.role, self.connection.version)))

    @rule()
    def it_is_opened(self) -> None:
        self._send(p.ConnAck(maximum_packet_size=300) if self.role is SERVER else p.Connect(keep_alive=5))

    def _send(self, packet: p.Packet) -> None:
        phase, queued = self.connection.phase, list(self.connection.out)
        try:
            self.connection.send(packet, self.now)
        except LocalProtocolError:
            assert (self.connection.phase, self.connection.out) == (phase, queued)

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, 20.0, 1e6]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.connection.handle_timeout(self.now)

    @rule()
    def the_stream_ends(self) -> None:
        self.connection.receive_eof(self.now)

    @invariant()
    def what_it_says_can_be_understood(self) -> None:
        packets_in(self.connection.take_output(), self.connection.version)


class Server:
    """A server for one client at a time: a Session and whatever Connection the client has now.

    `received` is what the client published, each as often as it was taken for new.
    """

    def __init__(self, connack: p.ConnAck | None = None, *, has_session: bool = False) -> None:
        self.session = Session(Limits())
        self.has_session = has_session
        self.received: list[bytes] = []
        self.packets: list[p.Packet] = []
        self._connack = connack or p.ConnAck()
        self.connection = Connection(SERVER, Limits(), 0.0)

    def open(self) -> None:
        """The client begins a new network connection."""
        self.connection = Connection(SERVER, Limits(), 0.0)

    def publish(self, payload: bytes, qos: int) -> None:
        """A message for the client."""
        message = message_from(p.Publish("to/client", payload), 0.0)
        assert self.session.enqueue((message, Terms(qos, retain=False)))
        self._pump()

    def receive(self, data: bytes, now: float = 0.0) -> None:
        """Take bytes from the client, and answer them."""
        self.connection.receive(data, now)
        while (event := self.connection.next_event()) is not None:
            if not isinstance(event, ConnectionClosed):
                self.packets.append(event)
                self._handle(event, now)
        self._pump()

    def _handle(self, event: p.Packet, now: float) -> None:
        match event:
            case p.Connect():
                present = self.has_session and not event.clean_start
                if not present:
                    self.session.clear()
                self.has_session = True
                self.connection.send(evolve(self._connack, session_present=present), now)
                for again in self.session.resume(self.connection.peer_receive_maximum):
                    self.connection.send(again, now)
                return
            case p.Publish(qos=2, packet_id=int(packet_id)):
                if self.session.accept(packet_id):
                    self.received.append(event.payload)
            case p.Publish():
                self.received.append(event.payload)
            case p.PubAck() | p.PubRec() | p.PubRel() | p.PubComp():
                reply_to = self.session.on_packet(event)
                if reply_to is not None:
                    self.connection.send(reply_to, now)
                return
            case _:
                pass
        reply_packet = answer(event, self.connection)
        if reply_packet is not None:
            self.connection.send(reply_packet, now)

    def _pump(self) -> None:
        connection = self.connection
        while connection.connected and (sending := self.session.next_publish(0.0)) is not None:
            packet_id, (message, terms), dup = sending
            connection.out.append(message.encode(V5, terms.qos, terms.retain, dup, packet_id, 0.0))
