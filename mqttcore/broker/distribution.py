"""From a published message to the outputs and queues of those who get it (section 4.5)."""

from typing import final

from mqttcore.broker.actions import Action, Flush
from mqttcore.broker.counters import Counters
from mqttcore.broker.deadlines import Deadlines
from mqttcore.broker.link import Link
from mqttcore.broker.policy import Publisher
from mqttcore.broker.retained import Retained
from mqttcore.broker.sessions import Pending, ServerSession
from mqttcore.broker.subscriptions import Share, Stored, Subscriptions
from mqttcore.codes import PacketType
from mqttcore.errors import LocalProtocolError, PacketTooLarge, ProtocolError
from mqttcore.limits import Limits
from mqttcore.message import Message
from mqttcore.packets import Packet
from mqttcore.properties import read_properties
from mqttcore.session import Delivery
from mqttcore.topics import has_wildcard, split_share

MAXIMUM_REMEMBERED_PROPERTIES = 1024
"""Property lists of up to 128 bytes that are remembered as valid, so that what many messages repeat is read once."""

RETAINED_NODES = 100
"""Topics that are looked at in one step of a search for retained messages."""
RETAINED_AT_ONCE = 10_000
"""Retained messages that one client is sent, and topics that are looked at for it, before others have their turn."""

_PLAIN_PROPERTIES = {"content_type", "response_topic", "correlation_data", "user_properties"}


@final
class Target:
    """A session that gets a topic's messages, its matching subscriptions taken together: one copy at the highest QoS.

    If `no_local`, some of the subscriptions exclude what the session publishes itself: of that it gets what `own` says,
    which stands for the others, and nothing if that is None.
    """

    __slots__ = ("identifiers", "no_local", "own", "plain", "qos", "retain_as_published", "session")

    def __init__(self, session: ServerSession, matching: list[Stored]) -> None:
        self.session: ServerSession = session
        self.qos: int = max(stored.qos for stored in matching)  # [MQTT-3.3.4-2]
        self.retain_as_published: bool = any(stored.retain_as_published for stored in matching)
        self.identifiers: tuple[int, ...] = tuple(  # [MQTT-3.3.4-3] [MQTT-3.3.4-4]
            sorted({stored.identifier for stored in matching if stored.identifier is not None})
        )
        others = [stored for stored in matching if not stored.no_local]  # [MQTT-3.8.3-3]
        self.no_local: bool = len(others) < len(matching)
        self.own: Target | None = Target(session, others) if self.no_local and others else None
        # whether a QoS 0 PUBLISH can be forwarded as it is
        self.plain: bool = not self.no_local and not self.identifiers


@final
class Route:
    """Who gets the messages of one topic. It is out of date when its `generation` is not the distributor's."""

    __slots__ = ("generation", "shares", "targets")

    def __init__(self, generation: int, targets: list[Target], shares: list[Share]) -> None:
        self.generation: int = generation
        self.targets: list[Target] = targets
        self.shares: list[Share] = shares

    @property
    def size(self) -> int:
        """What it counts for in the bound on what is remembered."""
        return 1 + len(self.targets) + len(self.shares)

    def forget(self) -> None:
        """Be out of date, and keep nothing in memory for those who still hold on to it."""
        self.generation = -1
        self.targets = []
        self.shares = []


@final
class Distributor:
    """Subscriptions, retained messages, and the delivery of messages by them."""

    def __init__(self, limits: Limits, deadlines: Deadlines, actions: list[Action]) -> None:
        self.limits = limits
        self.counters = Counters()
        self.retained = Retained(limits)
        self._deadlines = deadlines
        self.actions = actions
        self.generation = 0  # of routes
        self._subscriptions = Subscriptions()
        self._routes: dict[bytes, Route] = {}
        self._remembered = 0  # the sizes of all routes
        self._plain: dict[bytes, bool] = {}

    # -------------------------------------------------------------------------------------------- subscriptions

    def subscribe(self, topic_filter: str, stored: Stored) -> bool:
        """Add a subscription or replace the session's earlier one; whether it is new."""
        session = stored.session
        new = topic_filter not in session.subscriptions
        session.subscriptions[topic_filter] = stored
        self._subscriptions.add(topic_filter, stored)
        self._outdate(topic_filter)
        return new

    def unsubscribe(self, topic_filter: str, session: ServerSession) -> bool:
        """End a subscription; False if there was none. What has been queued or sent already stays. [MQTT-3.10.4-3]"""
        stored = session.subscriptions.pop(topic_filter, None)
        if stored is None:
            return False
        self._subscriptions.remove(topic_filter, session)  # [MQTT-3.10.4-2]
        self._outdate(topic_filter)
        session.retained.pop(topic_filter, None)
        return True

    def _outdate(self, topic_filter: str) -> None:
        _, topics = split_share(topic_filter)
        if has_wildcard(topics):
            self.generation += 1
        else:
            self._forget_route(topics.encode())

    def route(self, topic: bytes) -> Route:
        """Who gets the messages of a topic."""
        route = self._routes.get(topic)
        if route is None or route.generation != self.generation:
            self._forget_route(topic)
            route = self._find_route(topic.decode())
            if self._remembered + route.size > self.limits.maximum_cached_routes:
                for other in [*self._routes]:
                    self._forget_route(other)
            self._routes[topic] = route
            self._remembered += route.size
        return route

    def _forget_route(self, topic: bytes) -> None:
        route = self._routes.pop(topic, None)
        if route is not None:
            self._remembered -= route.size
            route.forget()

    def _find_route(self, topic: str) -> Route:
        matching: dict[ServerSession, list[Stored]] = {}
        shares: list[Share] = []
        for entry in self._subscriptions.match(topic):  # [MQTT-3.3.2-3] [MQTT-4.5.0-1]
            for session, stored in entry.subscribers.items():
                matching.setdefault(session, []).append(stored)
            if entry.shares:
                shares += entry.shares.values()
        return Route(self.generation, [Target(*item) for item in matching.items()], shares)

    def is_plain(self, properties: bytes) -> bool:
        """Whether PUBLISH properties (with their length) are valid and all of them are forwarded unaltered."""
        plain = self._plain.get(properties)
        if plain is None:
            try:
                found, _ = read_properties(PacketType.PUBLISH, properties, 0, len(properties))
            except ProtocolError:
                plain = False
            else:
                plain = found.keys() <= _PLAIN_PROPERTIES
            if len(self._plain) >= MAXIMUM_REMEMBERED_PROPERTIES:
                self._plain.clear()
            self._plain[properties] = plain
        return plain

    # ------------------------------------------------------------------------------------------------- delivery

    def publish(self, message: Message, now: float, publisher: Publisher | None = None) -> bool:
        """Retain and deliver a message; whether any subscription matches.

        What is retained is delivered for as long as `publisher` may publish it; the server, None, always may.
        """
        if message.retain:  # [MQTT-3.3.1-8]
            self._retain(message, publisher)
        route = self.route(message.topic)
        for target in route.targets:
            self.deliver(target, message, now)
        for share in route.shares:
            self.deliver_shared(share, message, now)
        return bool(route.targets or route.shares)

    def deliver(self, target: Target, message: Message, now: float) -> None:
        """Deliver to one session, as its subscriptions say."""
        if target.no_local and target.session.client_id == message.publisher:
            if target.own is None:
                return
            target = target.own
        qos = message.qos if message.qos < target.qos else target.qos  # [MQTT-3.8.4-8]
        retain = message.retain and target.retain_as_published  # [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT3-3.3.1-9]
        self._give(target.session, message, qos, retain, target.identifiers, None, now)

    def deliver_shared(self, share: Share, message: Message, now: float) -> None:
        """Deliver to one member: one that is ready, else one that is connected, else one that is away; in turn."""
        connected = away = full = None
        for stored in share.turns():
            session = stored.session
            link = session.link
            waits = min(message.qos, stored.qos) > 0
            if link is not None and link.room > 0 and (not waits or session.ready):
                chosen: Stored | None = stored
                break
            if waits and not session.has_room(message):
                full = full or stored
            elif link is not None:
                connected = connected or stored
            elif waits:
                away = away or stored
        else:
            chosen = connected or away or full
        if chosen is None:
            self.counters.share_without_member += 1
            return
        qos = min(message.qos, chosen.qos)  # [MQTT-4.8.2-3]
        retain = message.retain and chosen.retain_as_published
        identifiers = () if chosen.identifier is None else (chosen.identifier,)  # [MQTT-3.3.4-5]
        self._give(chosen.session, message, qos, retain, identifiers, share, now)

    def _give(
        self,
        session: ServerSession,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        share: Share | None,
        now: float,
    ) -> None:
        link = session.link
        if not qos:
            if link is None:
                return  # QoS 0 does not wait for a client that is away
            if link.room > 0 and not self._would_overtake(session, message):
                self._write(link, message, 0, retain, False, 0, identifiers, now)  # [MQTT-4.3.1-1]
            else:
                self.counters.qos0_dropped += 1
            return
        delivery = Delivery(message, qos, retain, identifiers, share)
        # Nothing overtakes what waits already. [MQTT-4.6.0-6]
        if link is not None and link.room > 0 and session.ready and not session.retained:
            session.launch(delivery)
            self._send(link, session, delivery, now)
        elif not session.enqueue(delivery):  # [MQTT3-3.1.2-5]
            self.counters.queue_full_dropped += session.make_room(message, now)
            if not session.enqueue(delivery):
                self.counters.queue_full_dropped += 1

    def _would_overtake(self, session: ServerSession, message: Message) -> bool:
        """Whether an older, retained message of its topic may still be on its way to this client. [MQTT-4.6.0-5]"""
        if not session.retained:
            return False
        older = self.retained.get(message.topic)
        return older is not None and older is not message

    def _send(self, link: Link, session: ServerSession, delivery: Delivery, now: float) -> None:
        if not self._write(
            link,
            delivery.message,
            delivery.qos,
            delivery.retain,
            delivery.dup,
            delivery.packet_id,
            delivery.identifiers,
            now,
        ):
            session.drop(delivery)  # [MQTT-3.1.2-25]

    def _write(
        self,
        link: Link,
        message: Message,
        qos: int,
        retain: bool,
        dup: bool,
        packet_id: int,
        identifiers: tuple[int, ...],
        now: float,
    ) -> bool:
        connection = link.connection
        alias, known = connection.alias_for(message.topic_name) if link.aliases else (0, False)
        try:
            data = message.encode(connection.version, qos, retain, dup, packet_id, now, identifiers, alias, known)
        except LocalProtocolError:  # with what is added for this client it is larger than a packet can be
            self.counters.too_large_dropped += 1
            return False
        if alias and not known and len(data) > connection.peer_maximum_packet_size:
            alias = 0  # introducing it may be what makes the packet too large
            data = message.encode(connection.version, qos, retain, dup, packet_id, now, identifiers)
        if len(data) > connection.peer_maximum_packet_size:  # [MQTT-3.1.2-24]
            self.counters.too_large_dropped += 1
            return False
        if alias and not known:
            connection.alias_sent(message.topic_name, alias)
        self.put(link, data)
        return True

    def send(self, link: Link, packet: Packet, now: float) -> None:
        """Send a packet other than PUBLISH.

        One that the client's Maximum Packet Size forbids even in its shortest form ends the connection.
        """
        try:
            link.connection.send(packet, now)
        except PacketTooLarge as error:
            link.connection.close(error.reason_code, str(error), "us")
        if link.out:
            link.room -= len(link.out[-1])
            self.mark(link)

    def put(self, link: Link, data: bytes) -> None:
        """Put an encoded packet into the link's output."""
        link.out.append(data)
        link.room -= len(data)
        self.mark(link)

    def mark(self, link: Link) -> None:
        """Have the link's output written."""
        if not link.dirty:
            link.dirty = True
            self.actions.append(Flush(link))

    def pump(self, link: Link, now: float) -> None:
        """Move what waits for this client into its output, as far as its quota and its room allow. It must have a
        session.
        """
        session = link.session
        assert session is not None
        budget = RETAINED_AT_ONCE
        while link.room > 0:
            pending = next(iter(session.retained.values())) if session.retained else None
            while pending is not None and session.take_expired(now) is not None:
                pass  # or next_publish would go on to what comes after the retained messages
            if pending is None or session.taken < pending.after or session.resending:
                delivery = session.next_publish(now)
                if delivery is None:  # the quota is used up, for messages alone [MQTT-3.3.4-10] [MQTT-4.9.0-3]
                    return
                self._send(link, session, delivery, now)
            elif budget <= 0:
                self._deadlines.arm(link, now)  # to go on when others have had their turn
                return
            elif pending.found:
                budget -= 1
                if not self._send_retained(link, session, pending, now):
                    return
            elif pending.search.done:
                del session.retained[next(iter(session.retained))]
            else:
                pending.found.extend(pending.search.step(RETAINED_NODES))
                budget -= RETAINED_NODES

    def _send_retained(self, link: Link, session: ServerSession, pending: Pending, now: float) -> bool:
        """Send the next of the retained messages that have been found; False if the client's quota is used up."""
        message = pending.found[0]
        stored = pending.stored
        # One that has been replaced since was delivered as a publication; one that has been deleted is gone.
        if (
            self.retained.get(message.topic) is not message
            or message.expired(now)
            or (stored.no_local and message.publisher == session.client_id)  # [MQTT-3.8.3-3]
        ):
            pending.found.popleft()
            return True
        if self.retained.withheld(message):
            pending.found.popleft()
            self.counters.retained_withheld += 1
            return True
        qos = min(message.qos, stored.qos)
        if qos and not session.has_quota:
            return False
        pending.found.popleft()
        identifiers = () if stored.identifier is None else (stored.identifier,)  # [MQTT-3.3.4-5]
        if qos:
            delivery = Delivery(message, qos, True, identifiers)  # [MQTT3-3.3.1-8]
            session.launch(delivery)
            self._send(link, session, delivery, now)
        else:
            self._write(link, message, 0, True, False, 0, identifiers, now)
        return True

    # ------------------------------------------------------------------------------------------------- retained

    def _retain(self, message: Message, publisher: Publisher | None) -> None:
        kept = bool(message.payload)  # [MQTT-3.3.1-6] [MQTT-3.3.1-7]
        if kept and not self.retained.has_room(message):  # what an answer could refuse was refused before
            self.counters.not_retained += 1
            kept = False  # nor is what the topic had retained: it is out of date [MQTT3-3.3.1-7]
        if not kept:
            self.retained.delete(message.topic)
            self._deadlines.disarm(message.topic)
            return
        self.retained.store(message, publisher)
        self._deadlines.arm(message.topic, message.kept_until)

    def expire_retained(self, topic: bytes, now: float) -> None:
        """Delete what a topic retains if its time has passed, section 3.3.2.3.3. It must retain something."""
        message = self.retained.get(topic)
        assert message is not None  # else its deadline is gone, too
        if message.kept_until <= now:
            self.retained.delete(topic)
        else:
            self._deadlines.arm(topic, message.kept_until)

    def queue_retained(self, topic_filter: str, stored: Stored) -> None:
        """Have the retained messages that a new subscription matches sent (section 3.3.1.3), as room allows.

        They are looked up one subscription at a time when their turn has come, so that what waits is bounded.
        """
        session = stored.session
        session.retained.pop(topic_filter, None)
        search = self.retained.search(topic_filter)
        session.retained[topic_filter] = Pending(stored, search, session.taken + len(session.queue))
