"""The broker and the model of it side by side, through anything that clients may do, every delivery compared."""

from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from unittest.mock import patch

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mqttcore import (
    V5,
    V311,
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from mqttcore.broker.sessions import NEVER, ServerSession
from mqttcore.message import Message as CoreMessage
from mqttcore.message import Run
from mqttcore.session import Terms
from tests.compiled import interpreted
from tests.mqttcore.broker.model import Due, Message, Model, State
from tests.mqttcore.broker.support import Network, Peer, assert_empty

TICK = 1 / 1024
"""Time passes between two steps, so that no two deadlines are the same."""

NAMES = ["ann", "bob", "cat", "dan"]
TOPICS = st.sampled_from(["a/b", "a/b", "a/c", "a", "b/b", "$x/b"])
FILTERS = st.sampled_from(["a/b", "a/#", "#", "+/b", "+/+", "a/c", "a", "+", "$x/#", "b/b"])
SHARES = st.sampled_from(["$share/g/a/#", "$share/g/a/b", "$share/h/+/b", "$share/h/a/#"])
WHO = st.integers(0, 3)
QOS = st.integers(0, 2)
BOOLEANS = st.booleans()
IDENTIFIERS = st.sampled_from([None, None, 1, 2, 300])
EXPIRIES = st.sampled_from([None, None, None, 0, 3, 25])
SELDOM = st.sampled_from([False, False, False, True])
PUBLICATIONS = st.tuples(TOPICS, QOS, SELDOM, SELDOM, EXPIRIES)  # the booleans: retained, empty


@st.composite
def wills(draw: st.DrawFn, version: int) -> Will:
    v5 = version == V5
    return Will(
        topic=draw(TOPICS),
        payload=b"",
        qos=draw(QOS),
        retain=draw(BOOLEANS),
        will_delay_interval=draw(st.sampled_from([None, 0, 2, 20])) if v5 else None,
        message_expiry_interval=draw(EXPIRIES) if v5 else None,
    )


class BrokerMachine(RuleBasedStateMachine):
    """What clients do. An `eager` client acknowledges at once; the others do when a rule says so."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Network()
        self.model = Model(self.choose)
        self.peers: dict[str, Peer] = {}
        self.eager: set[str] = set()
        self.serial = 0
        self.chosen: list[tuple[bytes, str, str]] = []  # payload, filter, client
        distributor = self.net.broker._distributor
        self.spies = ExitStack()
        give, give_at_once = self.give(distributor._give), self.give_at_once(distributor._give_at_once)
        self.spies.enter_context(patch.object(distributor, "_give", give))
        self.spies.enter_context(patch.object(distributor, "_give_at_once", give_at_once))

    def note(self, session: ServerSession, payloads: list[bytes], terms: Terms) -> None:
        """Whom the broker gives shared messages is its business: the model judges whether it is legal."""
        for topic_filter, stored in session.subscriptions.items():
            if terms.owner is not None and stored.share is terms.owner:
                self.chosen += [(payload, topic_filter, session.client_id) for payload in payloads]

    def give(self, original: Callable[..., None]) -> Callable[..., None]:
        def spy(session: ServerSession, message: CoreMessage, terms: Terms, now: float) -> None:
            self.note(session, [message.payload], terms)
            original(session, message, terms, now)

        return spy

    def give_at_once(self, original: Callable[..., bool]) -> Callable[..., bool]:
        def spy(session: ServerSession, run: Run, terms: Terms, now: float) -> bool:
            given = original(session, run, terms, now)
            if given:
                self.note(session, run.payloads, terms)
            return given

        return spy

    def choose(self, payload: bytes, filters: set[str]) -> tuple[str, str] | None:
        for given in self.chosen:
            if given[0] == payload and given[1] in filters:
                self.chosen.remove(given)
                return given[1:]
        return None

    # --------------------------------------------------------------------------------------------------- connections

    @initialize(data=st.data(), filters=st.lists(FILTERS, min_size=4, max_size=4), share=BOOLEANS)
    def begin(self, data: st.DataObject, filters: list[str], share: bool) -> None:
        """All are there, something is retained, and everybody has subscribed to something."""
        for topic, qos in (("a/b", 1), ("a/c", 2), ("b/b", 0)):
            self.publish_from_the_server(topic, qos, True)
        for who, topic_filter in enumerate(filters):
            quota = data.draw(st.sampled_from([1, 2, None]))
            self.connect(NAMES[who], V5, True, NEVER, quota, None, data.draw(SELDOM), data)
            wanted = [topic_filter, "$share/g/a/#"] if share else [topic_filter]
            self.subscribe(who, wanted, 2, False, data.draw(BOOLEANS), 0, data.draw(IDENTIFIERS))

    @rule(
        name=st.sampled_from(NAMES),
        version=st.sampled_from([V5, V5, V311]),
        clean=st.sampled_from([False, False, True]),
        expiry=st.sampled_from([None, 10, 600, NEVER]),
        quota=st.sampled_from([None, 1, 2, 3]),
        aliases=st.sampled_from([None, 1]),
        eager=SELDOM,
        data=st.data(),
    )
    def connect(
        self,
        name: str,
        version: int,
        clean: bool,
        expiry: int | None,
        quota: int | None,
        aliases: int | None,
        eager: bool,
        data: st.DataObject,
    ) -> None:
        self.tick()
        v5 = version == V5
        will = data.draw(st.none() | wills(version))
        if will is not None:
            will = evolve(will, payload=self.payload())
        old = self.peers.pop(name, None)
        peer = self.net.peer()
        peer.auto = False
        peer.send(
            Connect(
                client_id=name,
                clean_start=clean,
                protocol_version=version,
                will=will,
                session_expiry_interval=expiry if v5 else None,
                receive_maximum=quota if v5 else None,
                topic_alias_maximum=aliases if v5 else None,
            )
        )
        seconds: float = (expiry or 0) if v5 else (0 if clean else NEVER)
        present = self.model.connect(
            name, version, clean, inf if seconds == NEVER else seconds, (quota if v5 else None) or 65_535, will
        )
        [connack] = peer.take(ConnAck)
        assert connack.session_present == present
        state = self.model.sessions[name]
        assert [packet.packet_id for packet in peer.take(PubRel)] == [
            due.packet_id for due in state.flight if due.released
        ]
        if old is not None:
            assert old.received == ([Disconnect(ReasonCode.SESSION_TAKEN_OVER)] if old.version == V5 else [])
            assert old.closed == "in order"
        self.peers[name] = peer
        self.eager -= {name}
        if eager:
            self.eager.add(name)
        self.check()

    @rule(name=st.sampled_from(NAMES), quota=st.sampled_from([1, 2, None]), data=st.data())
    def resume(self, name: str, quota: int | None, data: st.DataObject) -> None:
        self.connect(name, V5, False, NEVER, quota, None, False, data)

    @precondition(lambda self: self.peers)
    @rule(who=WHO)
    def cut(self, who: int) -> None:
        peer, state = self.pick(who)
        del self.peers[state.client_id]
        peer.cut()
        self.model.lose(state, with_will=True)
        self.check()

    @precondition(lambda self: self.peers)
    @rule(who=WHO, with_will=BOOLEANS, expiry=st.sampled_from([None, None, 0, 7]))
    def disconnect(self, who: int, with_will: bool, expiry: int | None) -> None:
        peer, state = self.pick(who)
        del self.peers[state.client_id]
        code = ReasonCode.NORMAL_DISCONNECTION
        if state.version == V5:
            code = ReasonCode.DISCONNECT_WITH_WILL_MESSAGE if with_will else code
            expiry = expiry if state.expiry else None
            state.expiry = state.expiry if expiry is None else expiry
            peer.disconnect(code, session_expiry_interval=expiry)
        else:
            peer.disconnect()
        self.model.lose(state, with_will=code is not ReasonCode.NORMAL_DISCONNECTION)
        self.check()

    @rule(seconds=st.sampled_from([1, 4, 11, 30]))
    def wait(self, seconds: float) -> None:
        self.tick()
        self.net.advance(seconds)
        self.model.pass_time(seconds)
        self.check()

    # -------------------------------------------------------------------------------------------------- subscriptions

    @precondition(lambda self: self.peers)
    @rule(who=WHO, filters=st.lists(FILTERS | SHARES, min_size=1, max_size=2, unique=True), qos=QOS, no_local=BOOLEANS,
          as_published=BOOLEANS, handling=QOS, identifier=IDENTIFIERS)  # fmt: skip
    def subscribe(
        self,
        who: int,
        filters: list[str],
        qos: int,
        no_local: bool,
        as_published: bool,
        handling: int,
        identifier: int | None,
    ) -> None:
        peer, state = self.pick(who)
        v5 = state.version == V5
        subscriptions = [
            Subscription(
                topic_filter,
                qos,
                no_local=v5 and no_local and not topic_filter.startswith("$share/"),
                retain_as_published=v5 and as_published,
                retain_handling=handling if v5 else 0,
            )
            for topic_filter in filters
        ]
        identifier = identifier if v5 else None
        packet_id = self.packet_id()
        peer.send(Subscribe(packet_id, tuple(subscriptions), subscription_identifier=identifier))
        assert peer.take(SubAck) == [SubAck(packet_id, (ReasonCode(qos),) * len(filters))]
        self.model.subscribe(state, subscriptions, identifier)
        self.check()

    @precondition(lambda self: self.peers)
    @rule(who=WHO, topic_filter=FILTERS | SHARES, data=st.data())
    def unsubscribe(self, who: int, topic_filter: str, data: st.DataObject) -> None:
        peer, state = self.pick(who)
        if state.subscriptions:
            topic_filter = data.draw(st.sampled_from([*state.subscriptions]) | st.just(topic_filter))
        packet_id = self.packet_id()
        peer.send(Unsubscribe(packet_id, (topic_filter,)))
        code = ReasonCode.SUCCESS
        if not self.model.unsubscribe(state, topic_filter):
            code = ReasonCode.NO_SUBSCRIPTION_EXISTED
        assert peer.take(UnsubAck) == [UnsubAck(packet_id, (code,) if state.version == V5 else ())]
        self.check()

    # --------------------------------------------------------------------------------------------------- publications

    @precondition(lambda self: self.peers)
    @rule(who=WHO, publications=st.lists(PUBLICATIONS, min_size=1, max_size=5), release=BOOLEANS)
    def publish(self, who: int, publications: list[tuple[str, int, bool, bool, int | None]], release: bool) -> None:
        for publication in publications:
            self.publish_one(who, *publication)
            if release:
                self.release(who)

    def publish_one(self, who: int, topic: str, qos: int, retain: bool, empty: bool, expiry: int | None) -> None:
        peer, state = self.pick(who)
        expiry = expiry if state.version == V5 else None
        packet_id = self.packet_id() if qos else None
        payload = b"" if retain and empty else self.payload()
        publish = Publish(topic, payload, qos=qos, retain=retain, packet_id=packet_id, message_expiry_interval=expiry)
        peer.send(publish)
        expires_at = inf if expiry is None else self.model.now + expiry
        found = self.model.publish(Message(topic, payload, qos, retain, expires_at, state.client_id))
        code = ReasonCode.SUCCESS if found or state.version < V5 else ReasonCode.NO_MATCHING_SUBSCRIBERS
        if packet_id is not None and qos == 1:
            assert peer.take(PubAck) == [PubAck(packet_id, code)]
        elif packet_id is not None:
            assert peer.take(PubRec) == [PubRec(packet_id, code)]
            state.unreleased[packet_id] = publish
        self.check()

    @precondition(lambda self: self.peers)
    @rule(who=WHO)
    def release(self, who: int) -> None:
        """The PUBREL of a QoS 2 message that has its PUBREC."""
        peer, state = self.pick(who)
        if state.unreleased:
            packet_id = next(iter(state.unreleased))
            del state.unreleased[packet_id]
            peer.send(PubRel(packet_id))
            assert peer.take(PubComp) == [PubComp(packet_id)]
        self.check()

    @precondition(lambda self: self.peers)
    @rule(who=WHO)
    def publish_again(self, who: int) -> None:
        """A QoS 2 message that was received is sent again, and goes to nobody. [MQTT-4.3.3-10]"""
        peer, state = self.pick(who)
        for packet_id, publish in state.unreleased.items():
            peer.send(Publish(publish.topic, publish.payload, qos=2, dup=True, packet_id=packet_id))
            assert peer.take(PubRec) == [PubRec(packet_id)]
        self.check()

    @rule(topic=TOPICS, qos=QOS, retain=BOOLEANS)
    def publish_from_the_server(self, topic: str, qos: int, retain: bool) -> None:
        self.tick()
        payload = self.payload()
        self.net.publish(topic, payload, qos=qos, retain=retain)
        self.model.publish(Message(topic, payload, qos, retain, inf, ""))
        self.check()

    @precondition(lambda self: any(state.flight for state in self.model.sessions.values() if state.connected))
    @rule(who=WHO, which=st.integers(0, 5), refused=SELDOM)
    def acknowledge(self, who: int, which: int, refused: bool) -> None:
        self.tick()
        waiting = [state for state in self.model.sessions.values() if state.connected and state.flight]
        state = waiting[who % len(waiting)]
        under_way = [due for due in state.flight if due.under_way]
        due = under_way[which % len(under_way)]
        self.answer(state, due, refused and state.version == V5 and not due.released)
        self.check()

    # --------------------------------------------------------------------------------------------------------- checks

    def tick(self) -> None:
        self.net.advance(TICK)
        self.model.pass_time(TICK)
        self.check()

    def pick(self, who: int) -> tuple[Peer, State]:
        """One of the connected clients."""
        self.tick()
        name = sorted(self.peers)[who % len(self.peers)]
        return self.peers[name], self.model.sessions[name]

    def packet_id(self) -> int:
        self.serial += 1
        return self.serial

    def payload(self) -> bytes:
        self.serial += 1
        return b"%d" % self.serial

    def answer(self, state: State, due: Due, refused: bool = False) -> None:
        peer = self.peers[state.client_id]
        code = ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR if refused else ReasonCode.SUCCESS
        if due.released:
            peer.send(PubComp(due.packet_id))
        elif due.qos == 1:
            peer.send(PubAck(due.packet_id, code))
        else:
            peer.send(PubRec(due.packet_id, code))
            assert peer.take(PubRel) == ([] if refused else [PubRel(due.packet_id)])
        self.model.acknowledge(state, due, refused=refused)

    def check(self) -> None:
        """Compare everything, have the eager acknowledge, and so on until nobody has anything to say."""
        while True:
            for name, peer in self.peers.items():
                assert peer.closed is None
                publishes = [self.resolved(peer, packet) for packet in peer.take(Publish)]
                assert not peer.received
                self.model.verify(self.model.sessions[name], publishes)
            eager = [self.model.sessions[name] for name in self.eager & self.peers.keys()]
            waiting = [(state, due) for state in eager for due in state.flight if due.under_way]
            if not waiting:
                break
            self.answer(*min(waiting, key=lambda pair: (pair[0].client_id, pair[1].released)))
        self.compare_states()

    def resolved(self, peer: Peer, packet: Publish) -> Publish:
        return evolve(packet, topic=peer.topic_of(packet))

    def compare_states(self) -> None:
        broker = self.net.broker
        assert broker.sessions.keys() == self.model.sessions.keys()
        for name, state in self.model.sessions.items():
            session = broker.sessions[name]
            assert session.subscriptions.keys() == state.subscriptions.keys()
            assert session.unreleased == state.unreleased.keys()
            assert [*session.inflight] == [due.packet_id for due in state.flight if not due.released]
            assert [*session.releasing] == [due.packet_id for due in state.flight if due.released]
        store = broker._distributor.retained
        live = {topic for topic, message in self.model.retained.items() if message.expires_at >= self.model.now}
        assert {topic.decode() for topic in store._nodes} == live
        counters = broker.counters
        assert counters.queue_full_dropped == counters.too_large_dropped == counters.not_retained == 0
        assert not self.chosen, f"shared messages went where none was due: {self.chosen}"

    def teardown(self) -> None:
        for peer in self.peers.values():
            peer.cut()
        for name in [*self.net.broker.sessions]:
            self.net.connect(name, clean_start=True).disconnect()
        self.spies.close()
        self.net.advance(100)
        assert_empty(self.net.broker)


TestBroker = interpreted(BrokerMachine.TestCase)
TestBroker.settings = settings(max_examples=250, stateful_step_count=50)
