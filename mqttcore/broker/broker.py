"""The broker as a value machine: links and bytes in, bytes and actions out. It never waits and has no clock.

link = broker.open(now, transport, policy)
broker.receive(link, data, now)
for action in broker.take_actions(): …      # Flush: write take_output(link, now); Close; Perform; Report
…                                           # and handle_timeout(now) at next_deadline()
"""

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any, final
from weakref import WeakKeyDictionary, WeakValueDictionary

from attrs import evolve

from mqttcore import packets as p
from mqttcore.auth import Action as AuthAction
from mqttcore.auth import Reply, Review
from mqttcore.broker import reports
from mqttcore.broker.actions import Action, Close, Perform, Report
from mqttcore.broker.counters import Counters
from mqttcore.broker.deadlines import Deadlines
from mqttcore.broker.distribution import Distributor
from mqttcore.broker.handshake import Handshake, is_utf8
from mqttcore.broker.link import Link
from mqttcore.broker.policy import Policy, Port, Publisher, Transport
from mqttcore.broker.registry import Registry
from mqttcore.broker.relay import relay
from mqttcore.broker.sessions import ServerSession
from mqttcore.broker.subscriptions import Stored
from mqttcore.codec import encode
from mqttcore.codes import V5, PacketType, ReasonCode
from mqttcore.errors import ProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.message import Message, message_from
from mqttcore.topics import SERVER_PREFIX, has_wildcard, split_share


@final
class Broker:
    """One broker for any number of ports.

    `limits` bound what is counted over the whole broker, a link's policy what one connection may do. `seed` is 32
    random bytes; assigned client identifiers and authenticators' entropy are drawn from it. `wall_offset` is Unix
    time less the monotonic time that is passed in as `now`, in seconds. With `report_traffic` what clients publish and
    subscribe to is reported, too; then messages go without the short cut.
    """

    def __init__(
        self, limits: Limits | None = None, *, seed: bytes, wall_offset: float, report_traffic: bool = False
    ) -> None:
        limits = Limits() if limits is None else limits
        self._links: dict[Link, None] = {}  # in the order of their opening, so that the same calls do the same
        self._ports: WeakValueDictionary[Policy, Port] = WeakValueDictionary()
        # What is in force in the place of policies that somebody still has.
        self._successors: WeakKeyDictionary[Policy, Policy] = WeakKeyDictionary()
        self._actions: list[Action] = []
        self._deadlines = Deadlines()
        self._distributor = Distributor(limits, self._deadlines, self._actions)
        self._report_traffic = report_traffic
        self._registry = Registry(
            limits, seed, self._distributor, self._deadlines, self._actions, report_traffic=report_traffic
        )
        self._handshake = Handshake(self._registry, self._distributor, self._actions, self._finish, wall_offset)
        self._handlers: dict[type, Callable[[Link, Any, float], None]] = {
            p.Connect: self._on_connect,
            p.Publish: self._on_publish,
            p.PubAck: self._on_puback,
            p.PubRec: self._on_answer,
            p.PubRel: self._on_answer,
            p.PubComp: self._on_answer,
            p.Subscribe: self._on_subscribe,
            p.Unsubscribe: self._on_unsubscribe,
            p.PingReq: self._on_pingreq,
            p.Disconnect: self._on_disconnect,
            p.Auth: self._on_auth,
            ConnectionClosed: self._on_closed,
        }

    @property
    def wall_offset(self) -> float:
        """Unix time less monotonic time, in seconds; set it anew when the wall clock has been adjusted."""
        return self._handshake.wall_offset

    @wall_offset.setter
    def wall_offset(self, offset: float) -> None:
        moved = offset - self._handshake.wall_offset
        self._handshake.wall_offset = offset
        if moved:
            for link in self._links:  # a credential expires by the wall clock
                if link.credential_deadline < inf:
                    link.credential_deadline -= moved
                    self._deadlines.arm(link, link.next_deadline())

    @property
    def links(self) -> frozenset[Link]:
        """The connections that are open."""
        return frozenset(self._links)

    @property
    def sessions(self) -> dict[str, ServerSession]:
        """All sessions by Client Identifier; to be looked at, not changed."""
        return self._registry.sessions

    @property
    def counters(self) -> Counters:
        """What happened to messages that were not delivered."""
        return self._distributor.counters

    # ---------------------------------------------------------------------------------------- what the shell says

    def open(self, now: float, transport: Transport, policy: Policy) -> Link:
        """A connection has been made; its first packet must be a CONNECT within `connect_timeout` seconds.

        If `policy` has been changed meanwhile, the one in its place holds.
        """
        port = self._ports.get(policy)
        if port is None:
            port = self._port(self._successors.get(policy, policy))
        link = Link(transport, port, now)
        self._links[link] = None
        self._deadlines.arm(link, link.connection.next_deadline())
        return link

    def receive(self, link: Link, data: bytes, now: float) -> None:
        """Bytes have arrived from the client. Never raises for what they are."""
        if link.closed:
            return
        link.connection.receive(data, now)
        self._process(link, now)

    def lost(self, link: Link, now: float) -> None:
        """The client's stream has ended, or the transport is broken; harmless on a link that is closed."""
        if link.closed:
            return
        link.connection.receive_eof(now)
        self._process(link, now)

    def resume(self, perform: Perform, reply: Reply, now: float) -> None:
        """The effect of a Perform action has been performed; ignored if nobody waits for it any more."""
        link = perform.link
        if link.closed:
            return
        self._handshake.resume(perform, reply, now)
        self._process(link, now)
        if not link.closed:
            self._deadlines.arm(link, link.next_deadline())

    def publish(self, publish: p.Publish, now: float) -> None:
        """Publish a message of the server's own. Raises LocalProtocolError if it cannot be encoded."""
        encode(evolve(publish, packet_id=1 if publish.qos else None), V5)
        lifetime = self._distributor.limits.message_lifetime
        self._distributor.publish(message_from(publish, now, lifetime=lifetime), now)

    def change(self, policies: Mapping[Policy, Policy], now: float) -> None:
        """Put each value into force where its key has been, all at once: for connections, sessions, retained messages.

        Connections keep the limits that they began with. Where the authorizer is another one, clients are disconnected
        with 0x98 Administrative action, and subscriptions that the new one does not allow end, with what waits because
        of them. A client that a `revoked` speaks against is disconnected with 0x87 Not authorized. Everybody else
        stays, with session and deadlines. Raises ValueError for a new policy that is in force already, or comes twice.
        """
        if len({*policies.values()}) < len(policies) or any(new in self._ports for new in policies.values()):
            raise ValueError("a policy is for one port, and once")
        for former, current in [*self._successors.items()]:
            self._successors[former] = policies.get(current, current)
        self._successors.update(policies)
        changed = {port: new for old, new in policies.items() if (port := self._ports.pop(old, None)) is not None}
        redefined = {port for port, new in changed.items() if new.authorize is not port.policy.authorize}
        for port, new in changed.items():
            port.policy = new
            self._ports[new] = port
        for port in redefined:
            port.revision += 1
        links = [link for link in self._links if link.port in changed]
        kept: dict[tuple[Port, int], Policy] = {}
        for link in links:
            limits = link.policy.limits
            key = link.port, id(limits)
            if key not in kept:
                kept[key] = evolve(link.port.policy, limits=limits)
            link.policy = kept[key]
            link.routes.clear()
            if link.session is not None:
                link.schedule_review(now)
                self._deadlines.arm(link, link.next_deadline())
        sent_away = [link for link in links if link.port in redefined and link.session is not None]
        for link in sent_away:
            # What is not under way yet may be forbidden now. With QoS 1 and 2 it will be sent again, if it is not.
            link.out[:] = [packet for packet in link.out if packet[0] >> 4 != PacketType.PUBLISH]
            link.aliases = False  # since what introduced one may be among it
        self._registry.judge_all(redefined, now)
        self._disconnect(sent_away, ReasonCode.ADMINISTRATIVE_ACTION, "the authorization of its port has changed", now)
        for link in links:
            if not link.closed and link.session is not None:
                self._review(link, link.policy.revoked, now)

    def disconnect(self, policies: Iterable[Policy], reason: str, now: float) -> None:
        """Disconnect everybody who is connected under these policies: 0x98 Administrative action.

        Connections without a CONNACK are refused with 0x88 Server unavailable. `reason` is for the log and for these.
        """
        ports = {port for policy in policies if (port := self._ports.get(policy)) is not None}
        links = [link for link in self._links if link.port in ports]
        self._disconnect(links, ReasonCode.ADMINISTRATIVE_ACTION, reason, now)

    def in_use(self, policy: Policy) -> bool:
        """Whether a connection, a session or a retained message goes by this policy."""
        return policy in self._ports

    def _port(self, policy: Policy) -> Port:
        port = self._ports.get(policy)
        if port is None:
            port = self._ports[policy] = Port(policy)
        return port

    def _disconnect(self, links: Iterable[Link], code: ReasonCode, reason: str, now: float) -> None:
        for link in links:
            if link.connection.connected:
                self._distributor.send(link, p.Disconnect(code), now)
                link.connection.explain(reason)
            else:
                link.connection.fail(ProtocolError(reason, ReasonCode.SERVER_UNAVAILABLE))
            self._finish(link, now)

    def _review(self, link: Link, review: Review | None, now: float) -> None:
        if review is None:
            return
        reason = review(self._handshake.standing(link), now + self.wall_offset)
        if reason is not None:
            self._disconnect([link], ReasonCode.NOT_AUTHORIZED, reason, now)

    def expire(self, link: Link, now: float) -> None:
        """Take the client's credential for expired, as if its time had come; harmless on a link that is closed.

        The connection is closed without DISCONNECT and the Will is due; the session stays for as long as it has asked.
        """
        if link.closed:
            return
        # No DISCONNECT: to the client it is a failure of the network, and its Will is due.
        link.connection.close(ReasonCode.NOT_AUTHORIZED, "the credential has expired", "timeout")
        ending = link.connection.next_event()
        assert isinstance(ending, ConnectionClosed)
        self._on_closed(link, ending, now, abrupt=True)

    def shutdown(self, now: float) -> None:
        """End every connection: DISCONNECT 0x8B where the protocol has it.

        Wills are not published, since nobody stays to get them.
        """
        links = list(self._links)
        for link in links:
            link.clean = True
        self._disconnect(links, ReasonCode.SERVER_SHUTTING_DOWN, "the server is shutting down", now)

    def next_deadline(self) -> float:
        """When `handle_timeout` is due next (monotonic seconds); infinity for never."""
        return self._deadlines.next_deadline()

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`."""
        for item in self._deadlines.take_due(now):
            if isinstance(item, Link):
                self._link_timeout(item, now)
            elif isinstance(item, ServerSession):
                self._registry.handle_timeout(item, now)
            else:
                assert isinstance(item, bytes)  # a topic
                self._distributor.expire_retained(item, now)

    def take_actions(self) -> list[Action]:
        """What the shell is to do, in this order; ask after every other call."""
        actions = self._actions[:]
        self._actions.clear()
        return actions

    def take_output(self, link: Link, now: float) -> bytes:
        """What is to be written to the client next; b"" when there is nothing.

        Messages that waited for room move up.
        """
        session = link.session
        if session is not None and session.waiting:
            link.dirty = True  # no further Flush: the caller is at it
            self._distributor.pump(link, now)
        link.dirty = False
        link.room = link.policy.limits.output_high_water
        return link.connection.take_output() if link.out else b""

    # -------------------------------------------------------------------------------------------------- the loop

    def _process(self, link: Link, now: float) -> None:
        """Handle the events that a link has, and what follows from them."""
        connection = link.connection
        handlers = self._handlers
        while True:
            if connection.connected and not self._report_traffic:
                relay(link, self._distributor, now)
                if connection.exhausted:
                    break
            event = connection.next_event()
            if event is None:
                break
            handlers[type(event)](link, event, now)
        session = link.session
        if session is not None and session.waiting:
            self._distributor.pump(link, now)

    def _finish(self, link: Link, now: float) -> None:
        """Carry out the end that a connection has come to by our doing."""
        ending = link.connection.next_event()
        assert isinstance(ending, ConnectionClosed)
        self._on_closed(link, ending, now)

    def _on_closed(self, link: Link, event: ConnectionClosed, now: float, *, abrupt: bool = False) -> None:
        link.closed = True
        self._links.pop(link, None)
        self._handshake.forget(link)
        self._deadlines.disarm(link)
        if link.out and not abrupt:
            self._distributor.mark(link)
        self._actions.append(Close(link, abrupt, event.by == "peer" and not link.out))  # [MQTT-3.14.4-2]
        if link.session is None:
            refused = reports.Refused(
                transport=link.transport, client_id=link.client_id, reason_code=event.reason_code, reason=event.reason
            )
            self._actions.append(Report(refused))
            return
        disconnected = reports.Disconnected(
            transport=link.transport,
            client_id=link.client_id,
            reason_code=event.reason_code,
            reason=event.reason,
            by=event.by,
        )
        self._actions.append(Report(disconnected))
        self._registry.detach(link, now, will=not link.clean)

    def _link_timeout(self, link: Link, now: float) -> None:
        if now >= link.credential_deadline:
            self.expire(link, now)
            return
        if now >= link.review_at:
            link.review_at = inf
            link.schedule_review(now)
            self._review(link, link.policy.review, now)
            if link.closed:
                return
        self._handshake.handle_timeout(link, now)
        link.connection.handle_timeout(now)
        self._process(link, now)
        if not link.closed:
            self._deadlines.arm(link, link.next_deadline())

    # ------------------------------------------------------------------------------------------------ the packets

    def _on_connect(self, link: Link, connect: p.Connect, now: float) -> None:
        self._handshake.connect(link, connect, now)
        self._deadlines.arm(link, link.next_deadline())

    def _on_auth(self, link: Link, packet: p.Auth, now: float) -> None:
        self._handshake.auth(link, packet, now)
        self._deadlines.arm(link, link.next_deadline())

    def _on_pingreq(self, link: Link, _packet: p.PingReq, now: float) -> None:
        self._distributor.send(link, p.PingResp(), now)  # [MQTT-3.12.4-1]

    def _on_disconnect(self, link: Link, packet: p.Disconnect, _now: float) -> None:
        link.clean = packet.reason_code is ReasonCode.NORMAL_DISCONNECTION  # [MQTT-3.14.4-3] [MQTT3-3.14.4-3]
        if packet.session_expiry_interval is not None and link.session is not None:
            limit = link.policy.limits.maximum_session_expiry
            link.session.expiry_interval = min(packet.session_expiry_interval, limit)

    def _on_puback(self, link: Link, packet: p.PubAck, _now: float) -> None:
        assert link.session is not None
        link.session.acknowledged(packet.packet_id)

    def _on_answer(self, link: Link, packet: p.PubRec | p.PubRel | p.PubComp, now: float) -> None:
        assert link.session is not None
        answer = link.session.on_packet(packet)
        if link.resumed and isinstance(answer, p.PubComp):
            answer = p.PubComp(packet.packet_id)  # after a break the first PUBREL may have arrived, and its PUBCOMP not
        if answer is not None:
            self._distributor.send(link, answer, now)

    def _on_publish(self, link: Link, publish: p.Publish, now: float) -> None:
        session = link.session
        assert session is not None
        packet_id = publish.packet_id
        if packet_id is not None and packet_id in session.unreleased:
            if publish.qos == 2:  # sent again [MQTT-4.3.3-10]
                self._distributor.send(link, p.PubRec(packet_id), now)
            else:
                self._distributor.send(link, p.PubAck(packet_id, ReasonCode.PACKET_IDENTIFIER_IN_USE), now)
            return
        message = message_from(publish, now, link.client_id, link.message_lifetime)
        code = self._check_publish(link, publish, message)
        if not code.is_failure:
            if publish.retain and link.publisher is None:
                link.publisher = Publisher(link.principal, link.port)
            if not self._distributor.publish(message, now, link.publisher):
                code = ReasonCode.NO_MATCHING_SUBSCRIBERS
            if len(link.routes) >= link.policy.limits.maximum_cached_topics:
                link.routes.clear()
            link.routes[message.topic] = self._distributor.route(message.topic)
        if self._report_traffic:
            published = reports.Published(client_id=link.client_id, publish=publish, reason_code=code)
            self._actions.append(Report(published))
        if packet_id is None:
            if code is ReasonCode.PAYLOAD_FORMAT_INVALID:
                link.connection.fail(ProtocolError("the payload is not UTF-8 as it says", code))
                self._distributor.mark(link)
        elif publish.qos == 1:  # [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT-2.2.1-5]
            self._distributor.send(link, p.PubAck(packet_id, code), now)
        else:  # [MQTT-4.3.3-8] [MQTT-2.2.1-5]
            if not code.is_failure or link.connection.version < V5:  # [MQTT-4.3.3-9]
                session.accept(packet_id)
            self._distributor.send(link, p.PubRec(packet_id, code), now)

    def _check_publish(self, link: Link, publish: p.Publish, message: Message) -> ReasonCode:
        limits = link.policy.limits
        topic = publish.topic
        if topic.startswith(SERVER_PREFIX) or topic.count("/") >= limits.maximum_topic_levels:
            return ReasonCode.TOPIC_NAME_INVALID
        if limits.check_payload_format and publish.payload_format_indicator and not is_utf8(publish.payload):
            return ReasonCode.PAYLOAD_FORMAT_INVALID
        if not link.port.allows(link.principal, AuthAction.PUBLISH, topic):
            self._registry.report_denied(link.transport, link.principal, link.port, AuthAction.PUBLISH, topic)
            return ReasonCode.NOT_AUTHORIZED
        refusable = publish.qos and link.connection.version == V5  # else it is delivered all the same, and not retained
        if refusable and publish.retain and publish.payload and not self._distributor.retained.has_room(message):
            return ReasonCode.QUOTA_EXCEEDED
        return ReasonCode.SUCCESS

    def _on_subscribe(self, link: Link, packet: p.Subscribe, now: float) -> None:
        session = link.session
        assert session is not None
        limits = link.policy.limits
        identifier = packet.subscription_identifier
        if link.connection.version == V5 and (error := _unannounced(packet, limits)) is not None:
            link.connection.fail(error)
            self._distributor.mark(link)
            return
        codes = []
        retained: list[tuple[str, Stored]] = []
        for subscription in packet.subscriptions:  # [MQTT-3.8.4-5]
            topic_filter = subscription.topic_filter
            refusal = self._check_subscription(link, session, topic_filter)
            if refusal is None:
                qos = min(subscription.qos, limits.maximum_qos)  # [MQTT-3.2.2-10]
                stored = Stored(session, subscription, qos, identifier)
                new = self._distributor.subscribe(topic_filter, stored)
                codes.append(ReasonCode(qos))  # [MQTT-3.8.4-7]
                # [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4] [MQTT3-3.3.1-6] [MQTT3-3.8.4-3]
                handling = subscription.retain_handling
                if stored.share is None and (handling == 0 or (handling == 1 and new)):
                    retained.append((topic_filter, stored))
            else:
                codes.append(refusal)
            if self._report_traffic:
                asked = reports.Subscribed(client_id=link.client_id, topic_filter=topic_filter, reason_code=codes[-1])
                self._actions.append(Report(asked))
        # [MQTT-2.2.1-6] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6] [MQTT-3.9.3-1]
        answer = p.SubAck(packet.packet_id, tuple(codes))
        self._distributor.send(link, answer, now)
        for topic_filter, stored in retained:
            self._distributor.queue_retained(topic_filter, stored)
        if retained:
            self._distributor.pump(link, now)  # now, so that what arrives in the same bytes need not queue behind them

    def _check_subscription(self, link: Link, session: ServerSession, topic_filter: str) -> ReasonCode | None:
        limits = link.policy.limits
        share_name, topics = split_share(topic_filter)
        if topics.count("/") >= limits.maximum_topic_levels:
            return ReasonCode.TOPIC_FILTER_INVALID
        if share_name is not None and not limits.shared_subscription_available:
            return ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if has_wildcard(topics) and not limits.wildcard_subscription_available:  # [MQTT3-3.8.3-2]
            return ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
        if topic_filter not in session.subscriptions and len(session.subscriptions) >= limits.maximum_subscriptions:
            return ReasonCode.QUOTA_EXCEEDED
        if not link.port.allows(link.principal, AuthAction.SUBSCRIBE, topics):
            self._registry.report_denied(link.transport, link.principal, link.port, AuthAction.SUBSCRIBE, topic_filter)
            return ReasonCode.NOT_AUTHORIZED
        return None

    def _on_unsubscribe(self, link: Link, packet: p.Unsubscribe, now: float) -> None:
        session = link.session
        assert session is not None
        codes = tuple(  # [MQTT-3.10.4-1] [MQTT-3.10.4-6] [MQTT-3.11.3-1]
            ReasonCode.SUCCESS
            if self._distributor.unsubscribe(topic_filter, session)
            else ReasonCode.NO_SUBSCRIPTION_EXISTED
            for topic_filter in packet.topic_filters
        )
        # [MQTT-2.2.1-6] [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        self._distributor.send(link, p.UnsubAck(packet.packet_id, codes), now)


def _unannounced(packet: p.Subscribe, limits: Limits) -> ProtocolError | None:
    """The error of asking for what the CONNACK has said is not available, sections 3.2.2.3.11 to 3.2.2.3.13."""
    if packet.subscription_identifier is not None and not limits.subscription_identifiers_available:
        code = ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED
        return ProtocolError("subscription identifiers are not supported", code)
    for subscription in packet.subscriptions:
        share_name, topics = split_share(subscription.topic_filter)
        if share_name is not None and not limits.shared_subscription_available:
            return ProtocolError(
                "shared subscriptions are not supported", ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
            )
        if has_wildcard(topics) and not limits.wildcard_subscription_available:
            code = ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
            return ProtocolError("wildcards in Topic Filters are not supported", code)
    return None
