"""A client as a value machine: a Connection in the client role and the Session that outlives it.

    client = Client(Connect(client_id="c", keep_alive=60), now)
    transport.write(client.take_output())          # after every call
    client.receive(data, now)                      # what the transport delivered
    while (event := client.next_event()): …        # ConnAck, Publish, Delivered, SubAck, …, last ConnectionClosed
    client.handle_timeout(now)                     # at client.next_deadline()

Acknowledgements are sent as messages are taken out with `next_event`, so an application that takes them slowly holds
its server back through the Receive Maximum of its CONNECT.
"""

from collections import deque
from typing import final

from attrs import evolve, frozen

from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError, PacketTooLarge, ProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.message import message_from
from mqttcore.session import Session, Terms
from mqttcore.states import CLIENT

MAXIMUM_REQUESTS = 1000
"""SUBSCRIBEs and UNSUBSCRIBEs that may be unanswered at a time."""


@frozen
class Delivered:
    """A QoS 1 or 2 message has reached the server, or been refused by it, or was lost (0x80): with the server's
    session, or
    because it expired before it could be sent. `number` is what `publish` returned.
    """

    number: int
    reason_code: ReasonCode


@frozen
class _Outgoing:
    number: int
    publish: p.Publish


Event = p.Packet | Delivered | ConnectionClosed


@final
class Client:
    """One connection of a client. Hand its `session` to the next Client, with Clean Start 0, to carry on after a break.

    Without a `session` the client has no Session State, and a server that claims to have some for it is left, as
    section 3.2.2.1.1 demands.
    """

    def __init__(
        self, connect: p.Connect, now: float, *, limits: Limits | None = None, session: Session | None = None
    ) -> None:
        """Raises LocalProtocolError if `connect` cannot be encoded."""
        limits = Limits() if limits is None else limits
        self.connection = Connection(CLIENT, limits, now)
        self._has_state = session is not None and not connect.clean_start
        self.session = Session(limits) if session is None else session
        self._events: deque[Event] = deque()
        pending = [terms for _, terms in (*self.session.inflight.values(), *self.session.queue)]
        pending += self.session.releasing.values()
        self._published = max((item.owner.number for item in pending if isinstance(item.owner, _Outgoing)), default=0)
        self._now = now
        self.connection.send(connect, now)

    # -------------------------------------------------------------------------------------------- the transport

    def take_output(self) -> bytes:
        """What is to be written to the transport."""
        return self.connection.take_output()

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes that the transport delivered."""
        self._now = now
        self.connection.receive(data, now)

    def receive_eof(self, now: float) -> None:
        """The server's stream has ended."""
        self._now = now
        self.connection.receive_eof(now)

    def next_deadline(self) -> float:
        """When `handle_timeout` is due (monotonic seconds), infinity for never."""
        return self.connection.next_deadline()

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`: PINGREQ, time-outs."""
        self._now = now
        self.connection.handle_timeout(now)

    def next_event(self) -> Event | None:
        """What the server sent or what became of a publication; None when more bytes are needed."""
        while not self._events:
            event = self.connection.next_event()
            if event is None:
                return None
            self._handle(event, self._now)
        return self._events.popleft()

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the client and the connection is not over."""
        return self.connection.connected

    @property
    def pending(self) -> int:
        """QoS 1 and 2 publications that are not complete."""
        return self.session.pending

    # ---------------------------------------------------------------------------------------------- the packets

    def publish(self, publish: p.Publish, now: float) -> int:
        """Publish; 0 for QoS 0, otherwise the number that a Delivered will have. It waits while the server's Receive
        Maximum is used up.

        Raises LocalProtocolError for what the server does not take, and when the session's queue is full.
        """
        self._check_connected()
        self.connection.check_publish(publish)
        if not publish.qos:
            self.connection.send(publish, now)
            return 0
        if not publish.topic:
            raise LocalProtocolError(
                "a message with QoS 1 or 2 needs its Topic Name: it may be sent again without the alias"
            )
        if self.session.backlog or not self.session.has_quota:
            publish = evolve(publish, topic_alias=None)  # by the time it is sent the alias may stand for another topic
        encode(evolve(publish, packet_id=1), self.connection.version)
        self._published += 1
        message = message_from(publish, now)
        terms = Terms(publish.qos, publish.retain, owner=_Outgoing(self._published, publish))
        if not self.session.enqueue((message, terms)):
            raise LocalProtocolError("too many messages wait for the server", ReasonCode.QUOTA_EXCEEDED)
        self._pump(now)
        return self._published

    def subscribe(
        self,
        subscriptions: tuple[p.Subscription, ...],
        now: float,
        *,
        subscription_identifier: int | None = None,
        user_properties: p.UserProperties = (),
    ) -> int:
        """Subscribe; the packet identifier that the SubAck will have."""
        packet_id = self._request_id()
        self.connection.send(
            p.Subscribe(
                packet_id,
                subscriptions,
                subscription_identifier=subscription_identifier,
                user_properties=user_properties,
            ),
            now,
        )
        self.session.requests.add(packet_id)
        return packet_id

    def unsubscribe(self, topic_filters: tuple[str, ...], now: float, *, user_properties: p.UserProperties = ()) -> int:
        """Unsubscribe; the packet identifier that the UnsubAck will have."""
        packet_id = self._request_id()
        self.connection.send(p.Unsubscribe(packet_id, topic_filters, user_properties=user_properties), now)
        self.session.requests.add(packet_id)
        return packet_id

    def authenticate(self, data: bytes | None, now: float) -> None:
        """Answer an Auth event of reason 0x18, during CONNECT or a re-authentication. [MQTT-4.12.0-3]"""
        self._send_auth(ReasonCode.CONTINUE_AUTHENTICATION, data, now)

    def reauthenticate(self, data: bytes | None, now: float) -> None:
        """Begin a re-authentication (section 4.12.1); an Auth event of reason 0x00 or 0x18, or the end, follows."""
        self._send_auth(ReasonCode.RE_AUTHENTICATE, data, now)

    def disconnect(
        self,
        now: float,
        reason_code: ReasonCode = ReasonCode.NORMAL_DISCONNECTION,
        *,
        session_expiry_interval: int | None = None,
    ) -> None:
        """Say goodbye; nothing can be sent afterwards. Reason 0x04 has the server publish the Will."""
        self.connection.send(p.Disconnect(reason_code, session_expiry_interval=session_expiry_interval), now)

    def _send_auth(self, code: ReasonCode, data: bytes | None, now: float) -> None:
        method = self.connection.authentication_method
        if method is None:  # [MQTT-4.12.0-7]
            raise LocalProtocolError("CONNECT named no Authentication Method")
        self.connection.send(p.Auth(code, authentication_method=method, authentication_data=data), now)

    def _check_connected(self) -> None:
        if not self.connection.connected:
            raise LocalProtocolError("the server has not accepted the client (yet), or the connection is over")

    def _request_id(self) -> int:
        self._check_connected()
        if len(self.session.requests) >= MAXIMUM_REQUESTS:
            raise LocalProtocolError("too many SUBSCRIBEs and UNSUBSCRIBEs are unanswered", ReasonCode.QUOTA_EXCEEDED)
        return self.session.allocate_id()

    def _pump(self, now: float) -> None:
        session = self.session
        while self.connection.connected:
            while (expired := session.take_expired(now)) is not None:
                self._lost(expired[1])
            sending = session.next_publish(now)
            if sending is None:  # the quota is used up, for publications alone [MQTT-3.3.4-8] [MQTT-4.9.0-3]
                return
            packet_id, (message, terms), dup = sending
            outgoing = terms.owner
            assert isinstance(outgoing, _Outgoing)
            publish = evolve(outgoing.publish, packet_id=packet_id, dup=dup)
            if dup:
                publish = evolve(publish, topic_alias=None)  # it belonged to the earlier connection
            remaining = message.heading.remaining(now)
            if remaining >= 0:
                publish = evolve(publish, message_expiry_interval=remaining)
            try:
                self.connection.send(publish, now)
            except LocalProtocolError as error:  # what a new connection's server does not take
                session.drop(packet_id)
                self._events.append(Delivered(outgoing.number, error.reason_code))

    # ------------------------------------------------------------------------------------------------ the events

    def _handle(self, event: p.Packet | ConnectionClosed, now: float) -> None:
        session = self.session
        match event:
            case p.ConnAck():
                if not event.reason_code.is_failure and not self._connected(event, now):
                    return
            case p.Publish(qos=1, packet_id=int(packet_id)):  # [MQTT-4.5.0-2]
                self._answer(p.PubAck(packet_id), now)  # [MQTT-4.6.0-2]
            case p.Publish(qos=2, packet_id=int(packet_id)):
                fresh = session.accept(packet_id)
                self._answer(p.PubRec(packet_id), now)  # [MQTT-4.6.0-3]
                if not fresh:
                    return
            case p.PubAck():
                self._delivered(session.acknowledged(event.packet_id), event.reason_code, now)
                return
            case p.PubRec():
                if event.reason_code.is_failure:
                    self._delivered(session.refused(event.packet_id), event.reason_code, now)
                else:
                    self._answer(session.received(event.packet_id), now)  # [MQTT-4.6.0-4]
                return
            case p.PubRel():
                self._answer(session.released(event.packet_id), now)
                return
            case p.PubComp():  # 0x92 is no error here: an earlier PUBREL arrived, and its PUBCOMP was lost
                self._delivered(session.completed(event.packet_id), ReasonCode.SUCCESS, now)
                return
            case p.SubAck() | p.UnsubAck():
                session.requests.discard(event.packet_id)
            case p.PingResp():
                return
        self._events.append(event)

    def _connected(self, connack: p.ConnAck, now: float) -> bool:
        session = self.session
        if connack.session_present and not self._has_state:  # [MQTT-3.2.2-4]
            self.connection.fail(ProtocolError("the server has a session that this client knows nothing of"))
            return False
        if not connack.session_present:  # [MQTT-3.1.2-4] [MQTT-3.2.2-5]
            for _, terms in session.inflight.values():
                self._lost(terms)
            for terms in session.releasing.values():
                self._lost(terms)
            waiting = list(session.queue)
            session.clear()
            for delivery in waiting:  # never sent: these are publications still to come
                session.enqueue(delivery)
        for again in session.resume(self.connection.peer_receive_maximum):
            self._answer(again, now)
        self._pump(now)
        return True

    def _answer(self, packet: p.PubAck | p.PubRec | p.PubRel | p.PubComp, now: float) -> None:
        if not self.connection.connected:
            return
        try:
            self.connection.send(packet, now)
        except PacketTooLarge as error:  # a server that takes no packet of four bytes cannot be served
            self.connection.close(error.reason_code, str(error), "us")

    def _lost(self, terms: Terms) -> None:
        assert isinstance(terms.owner, _Outgoing)
        self._events.append(Delivered(terms.owner.number, ReasonCode.UNSPECIFIED_ERROR))

    def _delivered(self, terms: Terms | None, reason_code: ReasonCode, now: float) -> None:
        if terms is None:
            return
        assert isinstance(terms.owner, _Outgoing)
        self._events.append(Delivered(terms.owner.number, reason_code))
        self._pump(now)
