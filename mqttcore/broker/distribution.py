"""From a published message to the outputs and queues of those who get it (section 4.5)."""

from contextlib import suppress
from typing import Final, final

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
from mqttcore.message import Message, Run
from mqttcore.packets import Packet, Publish
from mqttcore.properties import FORWARDED, read_properties, write_properties
from mqttcore.session import Sending, Terms
from mqttcore.topics import has_wildcard, matches, split_share
from mqttcore.wire import TWO_BYTES

MAXIMUM_REMEMBERED_PROPERTIES = 1024
"""Property lists of up to 128 bytes that are remembered as valid, so that what many messages repeat is read once."""

FILTERS_COMPARED: Final = 32
"""New subscriptions of one client, at most, of each of which it is found out whether a message might overtake what they
call for; with more of them waiting it is taken for granted."""
ROUTES_FORGOTTEN: Final = 4096
"""By how much, in the measure of `maximum_cached_routes`, more is forgotten at once than there must be room for."""
RETAINED_NODES = 100
"""Topics that are looked at in one step of a search for retained messages."""
RETAINED_AT_ONCE = 10_000
"""Retained messages that one client is sent, and topics that are looked at for it, before others have their turn."""

SLACK: Final = 32
"""Bytes by which a message may become longer on its way from one client to another: identifiers, lengths."""

# All but the payload format, which may have to be checked, and what only a server may send.
_FORWARDED: Final = {"content_type", "response_topic", "correlation_data", "user_properties"}
_SHORT_CUT_PROPERTIES: Final = {*_FORWARDED, "topic_alias", "message_expiry_interval"}


@final
class Properties:
    """What the properties of a PUBLISH say: `forwarded` is those that receivers get unaltered, encoded, `alias` 0 for
    no Topic Alias, `expiry` the Message Expiry Interval in seconds, -1 for none.
    """

    __slots__ = ("alias", "expiry", "forwarded")

    def __init__(self, forwarded: bytes = b"", alias: int = 0, expiry: int = -1) -> None:
        self.forwarded: bytes = forwarded
        self.alias: int = alias
        self.expiry: int = expiry


@final
class Target:
    """A session that gets a topic's messages, its matching subscriptions taken together: one copy at the highest QoS.

    If `no_local`, some of the subscriptions exclude what the session publishes itself: of that it gets what `own` says,
    which stands for the others, and nothing if that is None.
    """

    __slots__ = ("identifiers", "no_local", "own", "plain", "qos", "retain_as_published", "session", "terms")

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
        # by the QoS of the message, which is not retained
        self.terms: list[Terms] = [Terms(min(qos, self.qos), False, self.identifiers) for qos in (0, 1, 2)]


@final
class Route:
    """Who gets the messages of one topic. It is out of date when its `generation` is not the distributor's."""

    __slots__ = ("generation", "shares", "targets")

    def __init__(self, generation: int, targets: tuple[Target, ...], shares: tuple[Share, ...]) -> None:
        self.generation: int = generation
        self.targets: tuple[Target, ...] = targets
        self.shares: tuple[Share, ...] = shares

    @property
    def size(self) -> int:
        """What it counts for in the bound on what is remembered."""
        return 1 + len(self.targets) + len(self.shares)

    def forget(self) -> None:
        """Be out of date, and keep nothing in memory for those who still hold on to it."""
        self.generation = -1
        self.targets = ()
        self.shares = ()


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
        self._properties: dict[bytes, Properties | None] = {}

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
                self._make_room(route.size)
            self._routes[topic] = route
            self._remembered += route.size
        return route

    def _make_room(self, size: int) -> None:
        """Forget what was remembered first, and some more: finding the first one takes long where many have gone."""
        excess = self._remembered + size - self.limits.maximum_cached_routes
        excess += min(self.limits.maximum_cached_routes // 64, ROUTES_FORGOTTEN)
        oldest = []
        for topic, route in self._routes.items():
            if excess <= 0:
                break
            excess -= route.size
            oldest.append(topic)
        for topic in oldest:
            self._forget_route(topic)

    def _forget_route(self, topic: bytes) -> None:
        route = self._routes.pop(topic, None)
        if route is not None:
            self._remembered -= route.size
            route.forget()

    def _find_route(self, topic: str) -> Route:
        matching: dict[ServerSession, list[Stored]] = {}
        shares: list[Share] = []
        for entry in self._subscriptions.match(topic):  # [MQTT-3.3.2-3] [MQTT-4.5.0-1]
            for stored in entry.subscribers:
                matching.setdefault(stored.session, []).append(stored)
            if entry.shares:
                shares += entry.shares.values()
        return Route(self.generation, tuple(Target(*item) for item in matching.items()), tuple(shares))

    def properties(self, properties: bytes) -> Properties | None:
        """What PUBLISH properties (with their length) say; None if they are invalid or not for the short cut."""
        try:
            return self._properties[properties]
        except KeyError:
            pass
        known = None
        with suppress(ProtocolError):
            found, _ = read_properties(PacketType.PUBLISH, properties, 0, len(properties))
            if found.keys() <= _FORWARDED:
                known = Properties(properties[1:])
            elif found.keys() <= _SHORT_CUT_PROPERTIES:
                alias, expiry = found.pop("topic_alias", 0), found.pop("message_expiry_interval", -1)
                known = Properties(write_properties(FORWARDED, Publish("", **found)), alias, expiry)
        if len(self._properties) >= MAXIMUM_REMEMBERED_PROPERTIES:
            self._properties.clear()
        self._properties[properties] = known
        return known

    # ------------------------------------------------------------------------------------------------- delivery

    def publish(self, message: Message, now: float, publisher: Publisher | None = None) -> bool:
        """Retain and deliver a message; whether any subscription matches.

        What is retained is delivered for as long as `publisher` may publish it; the server, None, always may.
        """
        if message.heading.retain:  # [MQTT-3.3.1-8]
            self._retain(message, publisher)
        route = self.route(message.topic)
        self._distribute(route, message, now)
        return bool(route.targets or route.shares)

    def publish_run(self, route: Route, run: Run, now: float) -> None:
        """As `publish`, one message after another; `route` is that of their topic."""
        if route.shares and not self._has_ample_room(route, run):
            for message in run.messages:
                self._distribute(route, message, now)
            return
        for target in route.targets:
            self.deliver_run(target, run, now)
        for share in route.shares:
            self._deal_run(share, run, now)

    def _distribute(self, route: Route, message: Message, now: float) -> None:
        for target in route.targets:
            self.deliver(target, message, now)
        for share in route.shares:
            self.deliver_shared(share, message, now)

    def deliver(self, target: Target, message: Message, now: float) -> None:
        """Deliver to one session, as its subscriptions say."""
        heading = message.heading
        if target.no_local and target.session.client_id == heading.publisher:
            if target.own is None:
                return
            target = target.own
        terms = target.terms[heading.qos]  # [MQTT-3.8.4-8]
        if heading.retain and target.retain_as_published:  # [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT3-3.3.1-9]
            terms = Terms(terms.qos, True, terms.identifiers)
        self._give(target.session, message, terms, now)

    def deliver_shared(self, share: Share, message: Message, now: float) -> None:
        """Deliver to one member: one that is ready, else one that is connected, else one that is away; in turn."""
        heading = message.heading
        connected = away = full = None
        for stored in share.turns():
            session = stored.session
            link = session.link
            waits = min(heading.qos, stored.qos) > 0
            if link is not None and link.room > 0 and (not waits or session.takes(1, heading.size)):
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
        terms = _member_terms(share, chosen, heading.qos, heading.retain and chosen.retain_as_published)
        self._give(chosen.session, message, terms, now)

    def deliver_run(self, target: Target, run: Run, now: float) -> None:
        """As `deliver`, one message after another."""
        if target.no_local or not self._give_at_once(target.session, run, target.terms[run.heading.qos], now):
            for message in run.messages:
                self.deliver(target, message, now)

    def _has_ample_room(self, route: Route, run: Run) -> bool:
        """Whether all members of all shares take each message of the run at once, and get it once at most."""
        heading = run.heading
        count = len(run.payloads)
        room = count * (heading.size + SLACK)
        getting = {target.session for target in route.targets}
        for share in route.shares:
            for session, stored in share.members.items():
                link = session.link
                if session in getting or session.retained or link is None or not link.layout or link.room <= room:
                    return False
                if heading.qos and stored.qos and not session.takes(count, heading.size):
                    return False
                getting.add(session)
        return True

    def _deal_run(self, share: Share, run: Run, now: float) -> None:
        """As `deliver_shared`, one message after another, to members who have ample room."""
        count = len(run.payloads)
        members = share.take_turns(count)
        for place, stored in enumerate(members):
            terms = _member_terms(share, stored, run.heading.qos, retain=False)
            part = run.every(place, len(members))
            if not self._give_at_once(stored.session, part, terms, now):
                for message in part.messages:
                    self._give(stored.session, message, terms, now)

    def _give_at_once(self, session: ServerSession, run: Run, terms: Terms, now: float) -> bool:
        """Give a session all messages of a run; False, and nothing is done, if one of them might have to wait, be
        dropped, or be sent in a form of its own.
        """
        link = session.link
        qos = terms.qos
        if link is None:
            return not qos  # QoS 0 does not wait for a client that is away
        if session.retained or link.aliases:
            return False
        payloads = run.payloads
        count = len(payloads)
        if not qos and link.layout == run.layout and not terms.identifiers:
            if link.room <= len(run.frames):
                return False
            self.put(link, run.frames)
            return True
        heading = run.heading
        connection = link.connection
        try:
            head, properties = heading.encode(connection.version, qos, False, False, now, terms.identifiers)
        except LocalProtocolError:
            return False
        size = len(head) + len(properties) + heading.payload_size + 2
        if size > connection.peer_maximum_packet_size or link.room <= (count - 1) * size:
            return False
        if not qos:
            head += properties
            self.put(link, head + head.join(payloads))
            return True
        if not session.takes(count, heading.size):
            return False
        if count == 1:
            packet_id = session.launch((Message(heading, payloads[0]), terms))
            self.put(link, b"".join((head, TWO_BYTES[packet_id], properties, payloads[0])))
        else:
            parts: list[bytes] = []
            for packet_id, payload in zip(session.launch_all(run.messages, terms), payloads, strict=True):
                parts += (head, TWO_BYTES[packet_id], properties, payload)
            self.put(link, b"".join(parts))
        return True

    def _give(self, session: ServerSession, message: Message, terms: Terms, now: float) -> None:
        link = session.link
        if not terms.qos:
            if link is None:
                return  # QoS 0 does not wait for a client that is away
            if link.room > 0 and not self._would_overtake(session, message):
                self._write(link, message, terms, 0, False, now)  # [MQTT-4.3.1-1]
            else:
                self.counters.qos0_dropped += 1
            return
        # Nothing overtakes what waits already. [MQTT-4.6.0-6]
        if link is not None and link.room > 0 and not session.retained and session.takes(1, message.size):
            packet_id = session.launch((message, terms))
            self._send(link, session, (packet_id, (message, terms), False), now)
        elif not session.enqueue((message, terms)):  # [MQTT3-3.1.2-5]
            self.counters.queue_full_dropped += session.make_room(message, now)
            if not session.enqueue((message, terms)):
                self.counters.queue_full_dropped += 1

    def _would_overtake(self, session: ServerSession, message: Message) -> bool:
        """Whether an older, retained message of its topic may still be on its way to this client. [MQTT-4.6.0-5]"""
        if not session.retained:
            return False
        older = self.retained.get(message.topic)
        if older is None or older is message:
            return False
        if len(session.retained) > FILTERS_COMPARED:
            return True
        topic = message.topic_name
        return any(matches(topic_filter, topic) for topic_filter in session.retained)

    def _send(self, link: Link, session: ServerSession, sending: Sending, now: float) -> None:
        packet_id, (message, terms), dup = sending
        if not self._write(link, message, terms, packet_id, dup, now):
            session.drop(packet_id)  # [MQTT-3.1.2-25]

    def _write(self, link: Link, message: Message, terms: Terms, packet_id: int, dup: bool, now: float) -> bool:
        connection = link.connection
        alias, known = connection.alias_for(message.topic_name) if link.aliases else (0, False)
        version, qos, retain, identifiers = connection.version, terms.qos, terms.retain, terms.identifiers
        try:
            data = message.encode(version, qos, retain, dup, packet_id, now, identifiers, alias, known)
        except LocalProtocolError:  # with what is added for this client it is larger than a packet can be
            self.counters.too_large_dropped += 1
            return False
        if alias and len(data) > connection.peer_maximum_packet_size:
            alias = 0  # it may be what makes the packet too large: a new one, or one for a name that is shorter
            data = message.encode(version, qos, retain, dup, packet_id, now, identifiers)
        if len(data) > connection.peer_maximum_packet_size:  # [MQTT-3.1.2-24]
            self.counters.too_large_dropped += 1
            return False
        if alias and not known:
            connection.alias_sent(message.topic_name, alias)
        self.put(link, data)
        return True

    def send(self, link: Link, packet: Packet, now: float, data: bytes | None = None) -> None:
        """Send a packet other than PUBLISH; `data` is as for `Connection.send`.

        One that the client's Maximum Packet Size forbids even in its shortest form ends the connection.
        """
        try:
            link.connection.send(packet, now, data)
        except PacketTooLarge as error:
            link.connection.close(error.reason_code, str(error), "us")
        if link.out:
            link.room -= len(link.out[-1])
            self.mark(link)

    def put(self, link: Link, data: bytes) -> None:
        """Put encoded packets into the link's output."""
        link.out.append(data)
        link.room -= len(data)
        if not link.dirty:
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
                sending = session.next_publish(now)
                if sending is None:  # the quota is used up, for messages alone [MQTT-3.3.4-10] [MQTT-4.9.0-3]
                    return
                self._send(link, session, sending, now)
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
            or (stored.no_local and message.heading.publisher == session.client_id)  # [MQTT-3.8.3-3]
        ):
            pending.found.popleft()
            return True
        if self.retained.withheld(message):
            pending.found.popleft()
            self.counters.retained_withheld += 1
            return True
        qos = min(message.heading.qos, stored.qos)
        if qos and not session.has_quota:
            return False
        pending.found.popleft()
        terms = Terms(qos, True, stored.identifiers)  # [MQTT3-3.3.1-8]
        if qos:
            delivery = message, terms
            self._send(link, session, (session.launch(delivery), delivery, False), now)
        else:
            self._write(link, message, terms, 0, False, now)
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
        self._deadlines.arm(message.topic, message.heading.kept_until)

    def expire_retained(self, topic: bytes, now: float) -> None:
        """Delete what a topic retains if its time has passed, section 3.3.2.3.3. It must retain something."""
        message = self.retained.get(topic)
        assert message is not None  # else its deadline is gone, too
        if message.heading.kept_until <= now:
            self.retained.delete(topic)
        else:
            self._deadlines.arm(topic, message.heading.kept_until)

    def queue_retained(self, topic_filter: str, stored: Stored) -> None:
        """Have the retained messages that a new subscription matches sent (section 3.3.1.3), as room allows.

        They are looked up one subscription at a time when their turn has come, so that what waits is bounded.
        """
        session = stored.session
        session.retained.pop(topic_filter, None)
        search = self.retained.search(topic_filter)
        session.retained[topic_filter] = Pending(stored, search, session.taken + len(session.queue))


def _member_terms(share: Share, stored: Stored, qos: int, retain: bool) -> Terms:
    return Terms(min(qos, stored.qos), retain, stored.identifiers, share)  # [MQTT-4.8.2-3] [MQTT-3.3.4-5]
