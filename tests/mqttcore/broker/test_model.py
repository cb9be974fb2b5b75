"""The broker and the model of it side by side, through anything that clients may do, every delivery compared."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from itertools import pairwise
from math import inf
from unittest.mock import patch

import pytest
from attrs import evolve, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mqttcore import (
    V5,
    V311,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
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
from mqttcore.topics import split_share
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
SUBSCRIPTIONS = st.builds(
    Subscription, FILTERS | SHARES, QOS, no_local=BOOLEANS, retain_as_published=BOOLEANS, retain_handling=QOS
)
WILLS = st.none() | st.builds(
    Will,
    topic=TOPICS,
    payload=st.just(b""),
    qos=QOS,
    retain=BOOLEANS,
    will_delay_interval=st.sampled_from([None, 0, 2, 20]),
    message_expiry_interval=EXPIRIES,
)
WORDS = st.sampled_from(
    [*["publish"] * 3, "go on", "go on", *["acknowledge"] * 3, "release", "repeat", "subscribe", "unsubscribe", "ping"]
)
PLACES = st.sets(st.integers(1, 120), max_size=3)


@frozen
class Step:
    """A packet from a client. `tell` tells the model that the broker has got it; the answers that it calls for."""

    packet: Packet
    tell: Callable[[], list[Packet]]


class BrokerMachine(RuleBasedStateMachine):
    """What clients do. An `eager` client acknowledges at once; the others do when a rule says so."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Network()
        self.model = Model(self.choose)
        self.peers: dict[str, Peer] = {}
        self.eager: set[str] = set()
        self.held: dict[str, tuple[bytes, list[tuple[int, Step]]]] = {}  # bytes that are late, and whose they are
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
        """Payloads are told apart by their content, so at most one without any may be under way."""
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
            self.connect(NAMES[who], V5, True, NEVER, quota, None, data.draw(SELDOM), data.draw(WILLS))
            wanted = [topic_filter, "$share/g/a/#"] if share else [topic_filter]
            as_published, identifier = data.draw(BOOLEANS), data.draw(IDENTIFIERS)
            self.subscribe(
                who, [Subscription(item, 2, retain_as_published=as_published) for item in wanted], identifier
            )

    @rule(
        name=st.sampled_from(NAMES),
        version=st.sampled_from([V5, V5, V311]),
        clean=st.sampled_from([False, False, True]),
        expiry=st.sampled_from([None, 10, 600, NEVER]),
        quota=st.sampled_from([None, 1, 2, 3]),
        aliases=st.sampled_from([None, 1]),
        eager=SELDOM,
        will=WILLS,
    )
    def connect(
        self,
        name: str,
        version: int = V5,
        clean: bool = False,
        expiry: int | None = NEVER,
        quota: int | None = None,
        aliases: int | None = None,
        eager: bool = False,
        will: Will | None = None,
    ) -> None:
        self.tick()
        v5 = version == V5
        if will is not None:
            will = evolve(will, payload=self.payload())
            if not v5:
                will = evolve(will, will_delay_interval=None, message_expiry_interval=None)
        self.held.pop(name, None)
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

    @rule(name=st.sampled_from(NAMES), quota=st.sampled_from([1, 2, None]))
    def resume(self, name: str, quota: int | None) -> None:
        self.connect(name, quota=quota)

    @precondition(lambda self: self.peers)
    @rule(who=WHO)
    def cut(self, who: int) -> None:
        """The connection breaks, perhaps within a packet."""
        state = self.pick(who, whole=False)
        self.held.pop(state.client_id, None)
        self.peers.pop(state.client_id).cut()
        self.model.lose(state, with_will=True)
        self.check()

    @precondition(lambda self: self.peers)
    @rule(who=WHO, with_will=BOOLEANS, expiry=st.sampled_from([None, None, 0, 7]))
    def disconnect(self, who: int, with_will: bool, expiry: int | None) -> None:
        state = self.pick(who)
        peer = self.peers.pop(state.client_id)
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
        self.pass_time(seconds)

    # -------------------------------------------------------------------------------------------------- subscriptions

    @precondition(lambda self: self.peers)
    @rule(
        who=WHO,
        subscriptions=st.lists(SUBSCRIPTIONS, min_size=1, max_size=2, unique_by=lambda item: item.topic_filter),
        identifier=IDENTIFIERS,
    )
    def subscribe(self, who: int, subscriptions: list[Subscription], identifier: int | None = None) -> None:
        state = self.pick(who)
        self.send(state, [self.subscription(state, subscriptions, identifier)])
        self.check()

    def subscription(self, state: State, subscriptions: list[Subscription], identifier: int | None) -> Step:
        if state.version == V5:
            subscriptions = [
                evolve(item, no_local=item.no_local and split_share(item.topic_filter)[0] is None)
                for item in subscriptions
            ]
        else:
            subscriptions = [Subscription(item.topic_filter, item.qos) for item in subscriptions]
            identifier = None
        packet = Subscribe(self.packet_id(), tuple(subscriptions), subscription_identifier=identifier)

        def tell() -> list[Packet]:
            self.model.subscribe(state, subscriptions, identifier)
            return [SubAck(packet.packet_id, tuple(ReasonCode(item.qos) for item in subscriptions))]

        return Step(packet, tell)

    def unsubscription(self, state: State, topic_filter: str) -> Step:
        packet = Unsubscribe(self.packet_id(), (topic_filter,))

        def tell() -> list[Packet]:
            code = ReasonCode.SUCCESS
            if not self.model.unsubscribe(state, topic_filter):
                code = ReasonCode.NO_SUBSCRIPTION_EXISTED
            return [UnsubAck(packet.packet_id, (code,) if state.version == V5 else ())]

        return Step(packet, tell)

    # --------------------------------------------------------------------------------------------------- publications

    @precondition(lambda self: self.peers)
    @rule(who=WHO, publications=st.lists(PUBLICATIONS, min_size=1, max_size=5), release=BOOLEANS)
    def publish(
        self, who: int, publications: list[tuple[str, int, bool, bool, int | None]], release: bool = False
    ) -> None:
        for publication in publications:
            state = self.pick(who)
            self.send(state, [self.publication(state, *publication)])
            self.check()
            if release:
                self.send(state, [self.pubrel(state, packet_id) for packet_id in state.unreleased])
                self.check()

    def publication(self, state: State, topic: str, qos: int, retain: bool, empty: bool, expiry: int | None) -> Step:
        expiry = expiry if state.version == V5 else None
        packet_id = self.packet_id() if qos else None
        payload = b"" if retain and empty else self.payload()
        packet = Publish(topic, payload, qos=qos, retain=retain, packet_id=packet_id, message_expiry_interval=expiry)

        def tell() -> list[Packet]:
            expires_at = inf if expiry is None else self.model.now + expiry
            found = self.model.publish(Message(topic, payload, qos, retain, expires_at, state.client_id))
            code = ReasonCode.SUCCESS if found or state.version < V5 else ReasonCode.NO_MATCHING_SUBSCRIBERS
            if packet_id is None:
                return []
            if qos == 1:
                return [PubAck(packet_id, code)]
            state.unreleased[packet_id] = packet
            return [PubRec(packet_id, code)]

        return Step(packet, tell)

    def pubrel(self, state: State, packet_id: int) -> Step:
        def tell() -> list[Packet]:
            del state.unreleased[packet_id]
            return [PubComp(packet_id)]

        return Step(PubRel(packet_id), tell)

    def repetition(self, publish: Publish) -> Step:
        """A QoS 2 message that was received is sent again, and goes to nobody. [MQTT-4.3.3-10]"""
        again = Publish(publish.topic, publish.payload, qos=2, dup=True, packet_id=publish.packet_id)
        return Step(again, lambda: [PubRec(publish.packet_id or 0)])

    @rule(topic=TOPICS, qos=QOS, retain=BOOLEANS)
    def publish_from_the_server(self, topic: str, qos: int, retain: bool) -> None:
        self.tick()
        payload = self.payload()
        self.net.publish(topic, payload, qos=qos, retain=retain)
        self.model.publish(Message(topic, payload, qos, retain, inf, ""))
        self.check()

    @precondition(lambda self: any(state.flight for state in self.model.sessions.values() if state.connected))
    @rule(who=WHO, which=st.integers(0, 5), refused=SELDOM)
    def acknowledge(self, who: int, which: int = 0, refused: bool = False) -> None:
        state = self.pick(who, with_flight=True)
        under_way = [due for due in state.flight if due.under_way]
        if under_way:
            self.send(state, [self.answer(state, under_way[which % len(under_way)], refused)])
        self.check()

    def answer(self, state: State, due: Due, refused: bool = False) -> Step:
        refused = refused and state.version == V5 and not due.released
        code = ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR if refused else ReasonCode.SUCCESS
        packet: Packet = PubAck(due.packet_id, code) if due.qos == 1 else PubRec(due.packet_id, code)
        answers: list[Packet] = [PubRel(due.packet_id)] if due.qos == 2 and not refused else []
        if due.released:
            packet, answers = PubComp(due.packet_id), []

        def tell() -> list[Packet]:
            self.model.acknowledge(state, due, refused=refused)
            return answers

        return Step(packet, tell)

    # ------------------------------------------------------------------------------------------- several at a time

    @precondition(lambda self: self.peers)
    @rule(who=WHO, words=st.lists(WORDS, min_size=1, max_size=10), places=PLACES, hold=SELDOM, data=st.data())
    def say_at_once(self, who: int, words: list[str], places: set[int], hold: bool, data: st.DataObject) -> None:
        """Packets of all kinds in one piece, or in pieces cut anywhere; the last may have to wait while others talk."""
        state = self.pick(who)
        self.send(state, self.steps(state, words, data), places, hold=hold)
        self.check()

    @precondition(lambda self: any(state.flight for state in self.model.sessions.values() if state.connected))
    @rule(who=WHO, words=st.lists(WORDS, min_size=1, max_size=5), data=st.data())
    def make_room_and_say_more(self, who: int, words: list[str], data: st.DataObject) -> None:
        """What comes at once with an acknowledgement must not get the room that it makes for what waits."""
        state = self.pick(who, with_flight=True)
        self.send(state, self.steps(state, ["acknowledge", *words], data))
        self.check()

    @precondition(lambda self: len(self.peers) < len(NAMES))
    @rule(
        who=WHO,
        clean=st.sampled_from([False, True, True]),
        quota=st.integers(1, 3),
        more=st.integers(1, 2),
        sent=st.lists(st.sampled_from([1, 1, 1, 2]), min_size=5, max_size=5),
        rounds=st.lists(st.tuples(SELDOM, st.lists(QOS, max_size=3)), min_size=1, max_size=2),
        data=st.data(),
    )
    def resume_with_less_room_and_say_more(
        self,
        who: int,
        clean: bool,
        quota: int,
        more: int,
        sent: list[int],
        rounds: list[tuple[bool, list[int]]],
        data: st.DataObject,
    ) -> None:
        """What is new must not overtake what is still to be sent again, however much room comes free at once."""
        away = [name for name in NAMES if name not in self.peers]
        name = away[who % len(away)]
        self.connect(name, clean=clean)
        state = self.model.sessions[name]
        subscription = self.subscription(state, [Subscription("$x/b", 2, retain_handling=2)], None)
        self.send(state, [subscription, *self.publications(state, sent[: quota + more])])
        self.cut(sorted(self.peers).index(name))
        self.connect(name, quota=quota)
        for old, new in rounds:
            words = [*["acknowledge"] * quota, *["acknowledge old"] * old]
            self.send(state, [*self.steps(state, words, data), *self.publications(state, new)])
            self.check()

    def publications(self, state: State, levels: list[int]) -> list[Step]:
        """A message of each of these QoS, all of a topic that few others get."""
        return [self.publication(state, "$x/b", qos, False, False, None) for qos in levels]

    def steps(self, state: State, words: list[str], data: st.DataObject) -> list[Step]:
        unanswered = [due for due in state.flight if due.under_way]
        old = state.again
        unreleased = [*state.unreleased.values()]
        steps: list[Step] = []
        for word in words:
            match word:
                case "publish":
                    topic, qos, retain, empty, expiry = data.draw(PUBLICATIONS)
                    empty = empty and not any(isinstance(step.packet, Publish) for step in steps)  # see `choose`
                    steps.append(self.publication(state, topic, qos, retain, empty, expiry))
                case "go on" if steps and isinstance(last := steps[-1].packet, Publish) and last.payload:
                    for _ in range(data.draw(st.integers(1, 4))):
                        again = self.publication(
                            state, last.topic, last.qos, last.retain, False, last.message_expiry_interval
                        )
                        steps.append(again)
                case "acknowledge" if unanswered:
                    due = unanswered.pop(data.draw(st.integers(0, len(unanswered) - 1)))
                    steps.append(self.answer(state, due, data.draw(SELDOM)))
                case "acknowledge old" if old:  # what came on an earlier connection, and not yet on this one
                    due = old.pop(data.draw(st.integers(0, len(old) - 1)))
                    steps.append(self.answer(state, due, data.draw(SELDOM)))
                case "release" if unreleased:
                    steps.append(self.pubrel(state, unreleased.pop().packet_id or 0))
                case "repeat" if unreleased:
                    steps.append(self.repetition(unreleased[-1]))
                case "subscribe":
                    steps.append(self.subscription(state, [data.draw(SUBSCRIPTIONS)], data.draw(IDENTIFIERS)))
                case "unsubscribe":
                    steps.append(self.unsubscription(state, data.draw(st.sampled_from([*state.subscriptions, "none"]))))
                case "ping":
                    steps.append(Step(PingReq(), lambda: [PingResp()]))
        return steps

    def send(self, state: State, steps: list[Step], places: Collection[int] = (), *, hold: bool = False) -> None:
        """Send what was held and these packets, cut at `places`; with `hold` the last piece is held until next time."""
        peer = self.peers[state.client_id]
        data, ends = self.held.pop(state.client_id, (b"", []))
        for step in steps:
            data += peer.encoded(step.packet)
            ends = [*ends, (len(data), step)]
        cuts = sorted({0, len(data)} | {place for place in places if place < len(data)})
        for start, stop in pairwise(cuts):
            if hold and stop == len(data):
                self.held[state.client_id] = data[start:], [(end - start, step) for end, step in ends]
                break
            peer.send_bytes(data[start:stop])
            self.compare_answers(peer, state, [step for end, step in ends if end <= stop])
            self.compare_deliveries()
            ends = [(end, step) for end, step in ends if end > stop]

    # --------------------------------------------------------------------------------------------------------- checks

    def tick(self) -> None:
        self.pass_time(TICK)

    def pass_time(self, seconds: float) -> None:
        """From deadline to deadline: what is sent at one of them may have others overtake what was sent before."""
        end = self.net.now + seconds
        while self.net.now < end:
            step = min(end, self.net.next_deadline()) - self.net.now
            self.net.advance(step)
            self.model.pass_time(step)
            self.check()

    def pick(self, who: int, *, with_flight: bool = False, whole: bool = True) -> State:
        """One of the connected clients. If `whole`, the broker gets what it has still held."""
        self.tick()
        states = [self.model.sessions[name] for name in sorted(self.peers)]
        if with_flight:
            states = [state for state in states if state.flight] or states
        state = states[who % len(states)]
        if whole:
            self.send(state, [])
        return state

    def packet_id(self) -> int:
        self.serial += 1
        return self.serial

    def payload(self) -> bytes:
        self.serial += 1
        return b"%d" % self.serial

    def check(self) -> None:
        """Compare everything, have the eager acknowledge, and so on until nobody has anything to say."""
        while True:
            self.compare_deliveries()
            eager = [self.model.sessions[name] for name in self.eager & self.peers.keys() - self.held.keys()]
            waiting = [(state, due) for state in eager for due in state.flight if due.under_way]
            if not waiting:
                break
            state, due = min(waiting, key=lambda pair: (pair[0].client_id, pair[1].released))
            self.send(state, [self.answer(state, due)])
        self.compare_states()

    def compare_answers(self, peer: Peer, state: State, steps: list[Step]) -> None:
        """Tell the model of these packets; the answers have to be those that they call for, in their order."""
        self.model.begin(state, [self.resolved(peer, packet) for packet in peer.take(Publish)])
        answers = [answer for step in steps for answer in step.tell()]
        assert peer.received == answers
        peer.received.clear()
        self.model.done()

    def compare_deliveries(self) -> None:
        for name, peer in self.peers.items():
            assert peer.closed is None
            publishes = [self.resolved(peer, packet) for packet in peer.take(Publish)]
            assert not peer.received
            self.model.verify(self.model.sessions[name], publishes)

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
        expiries = {topic: message.expires_at for topic, message in self.model.retained.items()}
        found = {topic.decode() for topic in store._nodes}
        assert {topic for topic in expiries if expiries[topic] > self.model.now} <= found
        assert found <= {topic for topic in expiries if expiries[topic] >= self.model.now}
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


# It takes a minute, and more where others share the machine.
TestBroker = pytest.mark.timeout(600)(interpreted(BrokerMachine.TestCase))
TestBroker.settings = settings(max_examples=250, stateful_step_count=50)


@interpreted
def test_what_is_retained_may_move_up_between_two_wills() -> None:
    """One that has expired holds up no retained ones any more, and after these nothing of their topic is dropped."""
    machine = BrokerMachine()
    machine.publish_from_the_server("a/b", 0, True)
    machine.connect("ann", quota=1)
    machine.connect("bob")
    for name, topic, delay in (("cat", "a/c", 4), ("dan", "a/b", 5)):
        machine.connect(name, will=Will(topic=topic, will_delay_interval=delay))
    machine.subscribe(0, [Subscription("a/#", 2, retain_handling=2)])
    machine.publish(1, [("a/c", 1, False, False, None), ("a/c", 1, False, False, 3)])
    machine.subscribe(0, [Subscription("+/b")])
    machine.cut(2)
    machine.cut(2)
    machine.wait(11)
    machine.teardown()
