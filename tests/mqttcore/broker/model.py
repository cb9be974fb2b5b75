"""What a broker has to do, said as plainly as it can be: everything is looked through, nothing is remembered or fast.

A Model is told what clients do, packet by packet, and says what each of them has to get; it judges what they got in
`Model.verify`. Its network takes no time and has room for everything, so nothing is ever dropped but what the
specification says.
"""

from collections import Counter
from collections.abc import Callable
from math import inf

from attrs import define, field

from mqttcore import V5, Publish, Subscription, Will
from mqttcore.topics import matches, split_share

ShareKey = tuple[str, int]
"""The Topic Filter of a shared subscription, and how often all its members have left before."""


@define(eq=False)
class Message:
    """An application message, as published."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    expires_at: float
    publisher: str


@define(eq=False)
class Batch:
    """The retained messages that a new subscription is owed, in any order."""

    topic_filter: str
    subscription: Subscription
    identifier: int | None
    messages: list[Message]
    held_up: bool = False  # by the client's Receive Maximum: nobody looks at it again before there is room


@define(eq=False)
class Due:
    """A message on its way to one client. One that is `behind` retained messages must not overtake an older one of its
    topic: the broker may drop it, because it is QoS 0.
    """

    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    share: ShareKey | None = None
    behind: list[Batch] = field(factory=list)
    sent_at: float = 0.0
    dup: bool = False
    packet_id: int = 0
    under_way: bool = False  # on the present connection
    released: bool = False  # its PUBREC has come


@define(eq=False)
class State:
    """A session."""

    client_id: str
    version: int = V5
    expiry: float = 0.0  # seconds
    quota: int = 0
    will: Will | None = None
    connected: bool = False
    will_at: float = inf
    ends_at: float = inf
    subscriptions: dict[str, tuple[Subscription, int | None]] = field(factory=dict)
    flight: list[Due] = field(factory=list)  # without their PUBACK or PUBCOMP, in the order to send them again
    queue: list[Due | Batch] = field(factory=list)
    expected: list[Due] = field(factory=list)  # what has to arrive now
    unreleased: dict[int, Publish] = field(factory=dict)  # the client's QoS 2 messages without their PUBREL

    @property
    def has_quota(self) -> bool:
        return sum(due.under_way for due in self.flight) < self.quota

    @property
    def again(self) -> list[Due]:
        """What is to be sent again, before anything new."""
        return [due for due in self.flight if not due.under_way]

    @property
    def backlog(self) -> bool:
        return any(isinstance(item, Due) for item in self.queue) or bool(self.again)


class Model:
    """All sessions and retained messages.

    `choose` tells, of some shared subscriptions' filters, to which one the broker gave a payload first, and to which
    client; None if to none.
    """

    def __init__(self, choose: Callable[[bytes, set[str]], tuple[str, str] | None]) -> None:
        self.now = 0.0
        self.sessions: dict[str, State] = {}
        self.retained: dict[str, Message] = {}
        self._busy: State | None = None
        self._got: list[Publish] = []
        self._choose = choose
        self._left: Counter[str] = Counter()  # how often all members of a share have left it

    # ------------------------------------------------------------------------------------------------- connections

    def connect(self, client_id: str, version: int, clean: bool, expiry: float, quota: int, will: Will | None) -> bool:
        """Whether a session was present."""
        state = self.sessions.get(client_id)
        if state is not None and state.connected:
            self.lose(state, with_will=True)
        state = self.sessions.get(client_id)
        if state is not None and clean:
            self.end(state)
            state = None
        present = state is not None
        state = self.sessions[client_id] = State(client_id) if state is None else state
        state.version, state.expiry, state.quota, state.will = version, expiry, quota, will
        state.connected, state.will_at, state.ends_at = True, inf, inf
        for due in state.flight:
            due.under_way = due.released
        self.pump(state)
        return present

    def lose(self, state: State, *, with_will: bool) -> None:
        """The connection is over, section 3.1.2.5."""
        state.connected = False
        if not with_will:
            state.will = None
        delay = 0 if state.will is None else state.will.will_delay_interval or 0
        if not delay or not state.expiry:
            self.publish_will(state)
        if not state.expiry:
            self.end(state)
        else:
            state.ends_at, state.will_at = self.now + state.expiry, self.now + delay

    def end(self, state: State) -> None:
        """The session is over, with its Will; what it had of a share goes to another member."""
        self.publish_will(state)
        del self.sessions[state.client_id]
        for topic_filter in state.subscriptions:
            self._count_left(topic_filter)
        for due in [*state.flight, *state.queue]:
            if isinstance(due, Batch) or due.share is None or due.message.expires_at < self.now:
                continue
            topic_filter, left = due.share
            under_way = due in state.flight and due.qos == 2
            if not under_way and left == self._left[topic_filter] and self.members(topic_filter):
                self.share({topic_filter}, due.message)

    def publish_will(self, state: State) -> None:
        """Publish the Will, if there is one."""
        will, state.will, state.will_at = state.will, None, inf
        if will is not None:
            expires_at = self.now + (inf if will.message_expiry_interval is None else will.message_expiry_interval)
            self.publish(Message(will.topic, will.payload, will.qos, will.retain, expires_at, state.client_id))

    def pass_time(self, seconds: float) -> None:
        """Wills and sessions whose time comes, in its order."""
        end = self.now + seconds
        while True:
            waiting = [state for state in self.sessions.values() if not state.connected]
            state = min(waiting, key=lambda state: min(state.will_at, state.ends_at), default=None)
            if state is None or min(state.will_at, state.ends_at) > end:
                break
            self.now = min(state.will_at, state.ends_at)
            if state.will_at <= self.now:
                self.publish_will(state)
                state.will_at = inf
            if state.ends_at <= self.now:
                self.end(state)
        self.now = end

    # ---------------------------------------------------------------------------------------- packets in one piece

    def begin(self, state: State, packets: list[Publish]) -> None:
        """A client's packets that came at once follow, for which it got these; they make room for what waits when the
        last of them has been dealt with.
        """
        self._busy, self._got = state, packets

    def done(self) -> None:
        """There are no more of them."""
        state, self._busy = self._busy, None
        assert state is not None
        self.pump(state)
        self.verify(state, self._got)

    # ----------------------------------------------------------------------------------------------- subscriptions

    def subscribe(self, state: State, subscriptions: list[Subscription], identifier: int | None) -> None:
        """SUBSCRIBE, and the retained messages that it calls for, section 3.3.1.3."""
        batches = []
        for subscription in subscriptions:
            topic_filter = subscription.topic_filter
            new = topic_filter not in state.subscriptions
            state.subscriptions[topic_filter] = subscription, identifier
            handling = subscription.retain_handling
            if split_share(topic_filter)[0] is None and (handling == 0 or (handling == 1 and new)):
                self._forget_batch(state, topic_filter)
                found = [message for topic, message in self.retained.items() if matches(topic_filter, topic)]
                batches.append(Batch(topic_filter, subscription, identifier, found))
        if batches:  # and then what waits moves up
            state.queue += batches
            self.pump(state)
            self.verify(state, self._got)

    def unsubscribe(self, state: State, topic_filter: str) -> bool:
        """Whether there was such a subscription."""
        if state.subscriptions.pop(topic_filter, None) is None:
            return False
        self._count_left(topic_filter)
        self._forget_batch(state, topic_filter)
        return True

    def _forget_batch(self, state: State, topic_filter: str) -> None:
        state.queue = [
            item for item in state.queue if not (isinstance(item, Batch) and item.topic_filter == topic_filter)
        ]

    def _count_left(self, topic_filter: str) -> None:
        self._left[topic_filter] += not self.members(topic_filter)

    def members(self, topic_filter: str) -> list[State]:
        """The sessions with a subscription to this very filter."""
        return [state for state in self.sessions.values() if topic_filter in state.subscriptions]

    # -------------------------------------------------------------------------------------------------- deliveries

    def publish(self, message: Message) -> bool:
        """Whether anybody subscribes to it."""
        if message.retain:
            self.retained.pop(message.topic, None)
            if message.payload:
                self.retained[message.topic] = message
        found = False
        shares = set()
        for state in self.sessions.values():
            matching = []
            for topic_filter, (subscription, identifier) in state.subscriptions.items():
                share_name, topics = split_share(topic_filter)
                if not matches(topics, message.topic):
                    continue
                found = True
                if share_name is not None:
                    shares.add(topic_filter)
                elif not (subscription.no_local and message.publisher == state.client_id):
                    matching.append((subscription, identifier))
            if matching:
                qos = min(message.qos, max(subscription.qos for subscription, _ in matching))
                retain = message.retain and any(subscription.retain_as_published for subscription, _ in matching)
                identifiers = tuple(sorted({number for _, number in matching if number is not None}))
                self.give(state, Due(message, qos, retain, identifiers))
        self.share(shares, message)
        return found

    def share(self, filters: set[str], message: Message) -> None:
        """To one member of each share."""
        while filters:
            topic_filter, chosen = self._choose(message.payload, filters) or (min(filters), None)
            filters.remove(topic_filter)
            self._give_shared(topic_filter, message, chosen)

    def _give_shared(self, topic_filter: str, message: Message, chosen: str | None) -> None:
        """To one that can have it now, else one that is connected, else one for whom it can wait."""
        members = self.members(topic_filter)
        waits = {state.client_id: min(message.qos, state.subscriptions[topic_filter][0].qos) for state in members}
        connected = [state for state in members if state.connected]
        ready = [state for state in connected if not waits[state.client_id] or (state.has_quota and not state.backlog)]
        away = [state for state in members if not state.connected and waits[state.client_id]]
        legal = [state.client_id for state in ready or connected or away]
        assert chosen in legal if legal else chosen is None, f"{chosen} got what is for one of {legal}"
        if chosen is not None:
            subscription, identifier = self.sessions[chosen].subscriptions[topic_filter]
            identifiers = () if identifier is None else (identifier,)
            retain = message.retain and subscription.retain_as_published
            share = topic_filter, self._left[topic_filter]
            self.give(self.sessions[chosen], Due(message, waits[chosen], retain, identifiers, share))

    def give(self, state: State, due: Due) -> None:
        """QoS 0 goes at once or never, everything else has its turn."""
        if due.qos:
            first = not state.queue and not state.again
            state.queue.append(due)
            if first:
                self.pump(state)
        elif state.connected:
            if self.retained.get(due.message.topic, due.message) is not due.message:
                due.behind = [item for item in state.queue if isinstance(item, Batch)]
            due.sent_at = self.now
            state.expected.append(due)

    def pump(self, state: State) -> None:
        """What may go goes: first what is sent again, then what waits."""
        while state.connected and state.has_quota:
            if state.again:
                due = state.again[0]
                due.dup = True
            elif state.queue and isinstance(first := state.queue[0], Due):
                due = first
                state.queue.pop(0)
                if due.message.expires_at < self.now:
                    continue
                state.flight.append(due)
            else:
                return
            due.under_way, due.sent_at = True, self.now
            state.expected.append(due)

    def acknowledge(self, state: State, due: Due, *, refused: bool = False) -> None:
        """The client sends what `due` awaits: PUBACK, PUBREC or PUBCOMP."""
        state.flight.remove(due)
        if due.qos == 2 and not due.released and not refused:
            due.released = due.under_way = True  # even if it has not been sent again
            state.flight.append(due)

    # ---------------------------------------------------------------------------------------------------- judgement

    def verify(self, state: State, packets: list[Publish]) -> None:
        """Whether these are the messages that the client has to have got since the last time, one by one.

        They are taken out; what is for packets that the model has not been told of is left in.
        """
        self._skip(state)
        while packets:
            while state.expected and state.expected[0].behind and not self._is(state.expected[0], packets[0]):
                state.expected.pop(0)
            due = state.expected.pop(0) if state.expected else self._from_batch(state, packets[0])
            if due is None:
                assert state is self._busy, f"{state.client_id} got {packets[0]}, which is not due"
                break
            self._compare(state, due, packets.pop(0))
            self._skip(state)
        missing = [due for due in state.expected if not due.behind]
        assert not missing, f"{state.client_id} did not get {missing}"
        state.expected.clear()
        if state.queue and isinstance(state.queue[0], Batch) and state.connected and not state.again:
            batch = state.queue[0]
            waiting = self._live(state, batch)
            assert not state.has_quota, f"{state.client_id} did not get any of {waiting}"
            batch.held_up = batch.held_up or any(due.qos for due in waiting)
            assert batch.held_up

    def _skip(self, state: State) -> None:
        while (
            state.connected
            and state.queue
            and isinstance(state.queue[0], Batch)
            and not state.again
            and (state.has_quota or not state.queue[0].held_up)
            and not self._live(state, state.queue[0])
        ):
            state.queue.pop(0)
            self.pump(state)

    def _live(self, state: State, batch: Batch) -> list[Due]:
        identifiers = () if batch.identifier is None else (batch.identifier,)
        return [
            Due(message, min(message.qos, batch.subscription.qos), True, identifiers, sent_at=self.now)
            for message in batch.messages
            if self.retained.get(message.topic) is message
            and not message.expires_at < self.now
            and not (batch.subscription.no_local and message.publisher == state.client_id)
        ]

    def _has_more(self, state: State, item: Due | Batch) -> bool:
        return bool(self._live(state, item)) if isinstance(item, Batch) else item.message.expires_at >= self.now

    def _from_batch(self, state: State, packet: Publish) -> Due | None:
        while state.queue and not self._has_more(state, state.queue[0]):
            state.queue.pop(0)
        batch = state.queue[0] if state.queue else None
        if not isinstance(batch, Batch):
            return None
        for due in self._live(state, batch):
            if self._is(due, packet) and (not due.qos or state.has_quota):
                batch.messages.remove(due.message)
                batch.held_up = False  # who sends one looks for the next
                if due.qos:
                    due.under_way = True
                    state.flight.append(due)
                return due
        return None

    def _is(self, due: Due, packet: Publish) -> bool:
        return (packet.topic, packet.payload) == (due.message.topic, due.message.payload)

    def _compare(self, state: State, due: Due, packet: Publish) -> None:
        message = due.message
        v5 = state.version == V5
        identifiers = due.identifiers if v5 else ()
        assert self._is(due, packet), f"{state.client_id} got {packet} instead of {due}, and then {state.expected}"
        assert (packet.qos, packet.retain, packet.dup) == (due.qos, due.retain, due.dup)
        assert tuple(sorted(packet.subscription_identifiers)) == identifiers
        left = packet.message_expiry_interval
        assert (left is not None) == (v5 and message.expires_at < inf)
        assert left is None or abs(left - max(0.0, message.expires_at - due.sent_at)) <= 0.5
        for batch in due.behind:
            older = [other for other in self._live(state, batch) if other.message.topic == message.topic]
            assert batch not in state.queue or not older, f"{state.client_id} got {packet} before {older}"
        if due.qos:
            assert packet.packet_id is not None
            assert packet.packet_id == due.packet_id or (not due.dup and not due.packet_id)
            due.packet_id = packet.packet_id
