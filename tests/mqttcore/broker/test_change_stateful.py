"""Two ports whose rules change at any moment, against a model that judges by going through the rules one by one.

Whatever is written to a client is judged when it is written: a subscription must allow it then, and it must have been
allowed when it was published. A client that reads gets everything that it has a right to.
"""

import re
from collections.abc import Sequence
from typing import Any

from attrs import define, evolve, field, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mqttcore import V5, V311, Auth, Connect, Publish, ReasonCode, Will
from mqttcore.auth import Action, Authentication, AuthRequest, Granted
from mqttcore.broker import Policy
from mqttcore.broker.authorization import Resource, Rule, authorizer
from mqttcore.broker.authorization_topics import covers
from mqttcore.topics import matches, split_share
from tests.mqttcore.broker.support import Network, Peer, assert_empty, subscription

CLIENTS = ("c0", "c1", "c2", "c3")
SITES = ("x", "y")
TOPICS = ("a", "b", "a/b", "x", "y")
FILTERS = (*TOPICS, "+", "#", "a/+", "a/#", "$share/g/a", "$share/g/x", "$share/g/+", "$share/g/a/#")
SITE = "{principal.attributes.site}"
DELAY = 5
EXPIRY = 20
PADDING = b"." * 200
"""A few messages are all that the output of a client that does not read holds."""

clients = st.sampled_from(CLIENTS)
ports = st.sampled_from((0, 1))
sites = st.sampled_from(SITES)
topics = st.sampled_from(TOPICS)
filters = st.sampled_from(FILTERS)
qos = st.sampled_from((0, 1, 1, 1, 2))


def resources(action: Action, *allowed: str) -> st.SearchStrategy[tuple[Resource, ...]]:
    """One resource for several topics, or none."""
    return st.lists(st.sampled_from(allowed), max_size=4, unique=True).map(
        lambda chosen: (Resource(action=action, topics=tuple(chosen)),) if chosen else ()
    )


whom = st.sampled_from(
    [{"usernames": ("u",)}] * 4 + [{"client_ids": ("c0",)}, {"client_ids": ("c1", "c2")}]
    + [{"attributes": ({"site": site},)} for site in SITES]
)  # fmt: skip
connecting = Rule(usernames=("u",), resources=(Resource(action=Action.CONNECT),))
some = st.builds(
    lambda who, publish, subscribe: Rule(**who, resources=publish + subscribe),
    whom,
    resources(Action.PUBLISH, *TOPICS, SITE, "#", "a/+"),
    resources(Action.SUBSCRIBE, *TOPICS, SITE, "#", "+", "a/#", "a/+"),
)
everything = Rule(usernames=("u",), resources=tuple(Resource(action=action) for action in Action))
rule_sets = st.one_of(
    st.just((everything,)),
    st.lists(some, min_size=1, max_size=3).map(lambda drawn: (connecting, *drawn)),
    st.lists(some, min_size=1, max_size=3).map(lambda drawn: (connecting, *drawn)),
    st.just(()),
)


def permitted(rules: Sequence[Rule], client_id: str, site: str, action: Action, name: str) -> bool:
    """By the words of the contract, one rule after the other."""
    for each in rules:
        if not (
            "u" in each.usernames or client_id in each.client_ids or any(m["site"] == site for m in each.attributes)
        ):
            continue
        for resource in each.resources:
            allowed = [topic.replace(SITE, site) for topic in resource.topics]
            if resource.action is not action:
                continue
            if action is Action.CONNECT or not allowed or any(covers(topic, name) for topic in allowed):
                return True
    return False


@frozen
class Who:
    """A client by the rights that it has: as whom it was let in, and where."""

    client_id: str
    port: int
    site: str


@frozen
class Sent:
    """A message that was allowed when it was published."""

    topic: str
    publisher: Who | None  # None for the server's own


@define
class Held:
    """What a session is known to have."""

    who: Who
    subscriptions: dict[str, int] = field(factory=dict)  # filter -> QoS
    owed: set[bytes] = field(factory=set)  # messages that must arrive once the client reads
    excused: set[bytes] = field(factory=set)  # that were on their way before the last change
    will: tuple[bytes, str] | None = None


class Changes(RuleBasedStateMachine):
    """Rights come and go while messages are on their way."""

    @initialize(
        first=rule_sets,
        second=rule_sets,
        chosen=st.lists(st.lists(filters, max_size=2), min_size=len(CLIENTS), max_size=len(CLIENTS)),
        wills=st.lists(st.none() | topics, min_size=len(CLIENTS), max_size=len(CLIENTS)),
    )
    def begin(
        self, first: tuple[Rule, ...], second: tuple[Rule, ...], chosen: list[list[str]], wills: list[str | None]
    ) -> None:
        self.net = Network(output_high_water=1024, inflight_maximum=4)
        self.in_force = [first, second]
        self.policies = [self.policy_of(rules) for rules in self.in_force]
        self.retired: list[Policy] = []
        self.peers: dict[str, Peer] = {}
        self.before: dict[str, Peer] = {}  # connections that may have had a last word in this step
        self.held: dict[str, Held] = {}
        self.sites: dict[str, str] = {}  # that the authenticator gives
        self.sent: dict[bytes, Sent] = {}
        self.number = 0
        for number, client_id in enumerate(CLIENTS):
            self.come(client_id, number % 2, SITES[number // 2], V311 if number == 3 else V5, will=wills[number])
            for topic_filter in chosen[number]:
                self.subscribe_to(client_id, topic_filter, 1, 0)

    def policy_of(self, rules: tuple[Rule, ...]) -> Policy:
        def authenticate(request: AuthRequest) -> Authentication:
            return Granted(username="u", attributes={"site": self.sites[request.client_id]})
            yield

        return Policy(limits=self.net.limits, authenticate=authenticate, authorize=authorizer(rules))

    # ------------------------------------------------------------------------------------------------ the model

    def may(self, who: Who, action: Action, name: str) -> bool:
        return permitted(self.in_force[who.port], who.client_id, who.site, action, name)

    def payload(self) -> bytes:
        self.number += 1
        return b"<%d>" % self.number + PADDING

    def connected(self, client_id: str) -> Peer | None:
        peer = self.peers.get(client_id)
        return peer if peer is not None and peer.closed is None else None

    def qos_of(self, held: Held, topic: str, *, shared: bool = False) -> int:
        """The highest QoS of the subscriptions that match, -1 for none."""
        found = [(split_share(each), level) for each, level in held.subscriptions.items()]
        return max(
            (each for (share, text), each in found if matches(text, topic) and (shared or not share)), default=-1
        )

    def note(self, payload: bytes, sent: Sent, level: int) -> None:
        """A message has been published by leave of the rules: who must get it?"""
        self.sent[payload] = sent
        for held in self.held.values():
            if min(level, self.qos_of(held, sent.topic)) > 0:
                held.owed.add(payload)

    def judge(self, client_id: str) -> None:
        """End the subscriptions that a client has no right to any more."""
        held = self.held[client_id]
        for topic_filter in [*held.subscriptions]:
            if not self.may(held.who, Action.SUBSCRIBE, split_share(topic_filter)[1]):
                del held.subscriptions[topic_filter]
        held.owed = {payload for payload in held.owed if self.qos_of(held, self.sent[payload].topic) > 0}

    def excuse(self, *, output: bool) -> None:
        """What is on its way stays there: the rights of its publisher may be another's next."""
        for client_id, held in self.held.items():
            session = self.net.broker.sessions.get(client_id)
            if session is None:
                continue
            held.excused |= {message.payload for message, _ in session.inflight.values()}
            if session.link is not None and output:
                for packet in session.link.out:
                    held.excused |= {match + PADDING for match in re.findall(rb"<\d+>", packet)}

    def settle_wills(self) -> None:
        """Note the Wills that have been sent by now, by the rules that hold now."""
        for client_id, held in self.held.items():
            session = self.net.broker.sessions.get(client_id)
            if held.will is None or (session is not None and session.will is not None):
                continue
            payload, topic = held.will
            held.will = None
            if self.may(held.who, Action.PUBLISH, topic):
                self.note(payload, Sent(topic, held.who), 1)

    def forget_ended(self) -> None:
        for client_id in [*self.held]:
            if client_id not in self.net.broker.sessions:
                del self.held[client_id]

    # -------------------------------------------------------------------------------------------------- the rules

    @rule(
        client_id=clients,
        port=ports,
        site=sites,
        version=st.sampled_from((V5, V5, V311)),
        clean=st.booleans(),
        lasting=st.booleans(),
        reading=st.sampled_from((True, True, False)),
        maximum=st.sampled_from((2, 100)),
        will=st.none() | topics,
        retain=st.booleans(),
        delay=st.sampled_from((0, DELAY)),
    )
    def connect(
        self,
        client_id: str,
        port: int,
        site: str,
        version: int,
        clean: bool,
        lasting: bool,
        reading: bool,
        maximum: int,
        will: str | None,
        retain: bool,
        delay: int,
    ) -> None:
        self.come(client_id, port, site, version, clean, lasting, reading, maximum, will, retain, delay)

    def come(
        self,
        client_id: str,
        port: int,
        site: str,
        version: int = V5,
        clean: bool = False,
        lasting: bool = True,
        reading: bool = True,
        maximum: int = 100,
        will: str | None = None,
        retain: bool = False,
        delay: int = 0,
    ) -> Peer | None:
        """Connect; None if the client may not."""
        who = Who(client_id, port, site)
        self.sites[client_id] = site
        payload = self.payload()
        fields: dict[str, Any] = (
            {"session_expiry_interval": EXPIRY * lasting, "receive_maximum": maximum} if version == V5 else {}
        )
        connect = Connect(
            client_id=client_id,
            protocol_version=version,
            clean_start=clean,
            authentication_method="m" if version == V5 else None,
            will=None if will is None else Will(topic=will, payload=payload, qos=1, retain=retain),
            **fields,
        )
        if connect.will is not None and version == V5:
            connect = evolve(connect, will=evolve(connect.will, will_delay_interval=delay))
        accepted = self.may(who, Action.CONNECT, client_id)
        accepted = accepted and (will is None or self.may(who, Action.PUBLISH, will))
        earlier = self.held.get(client_id)
        session = self.net.broker.sessions.get(client_id)
        gone = self.connected(client_id)
        peer = self.net.peer(self.policies[port])
        peer.reading = reading
        self.excuse(output=False)
        peer.send(connect)
        assert (peer.closed is None) == accepted
        if not accepted:
            assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED or not reading
            return None
        if gone is not None:
            assert gone.closed
            self.before[client_id + " before"] = gone
        if earlier is not None and earlier.will is not None:
            # Of one whose session goes on it was thrown away, unless it was due at once.
            text, topic = earlier.will
            earlier.will = None
            if self.may(earlier.who, Action.PUBLISH, topic):
                self.sent[text] = Sent(topic, earlier.who)
        held = earlier
        if held is None or self.net.broker.sessions[client_id] is not session:
            held = self.held[client_id] = Held(who)
        held.who = who
        held.will = None if will is None else (payload, will)
        self.judge(client_id)
        self.peers[client_id] = peer
        return peer

    def client(self, client_id: str) -> Peer | None:
        """A client that is connected, or comes back to do something; None if it may not."""
        held = self.held.get(client_id)
        port, site = (int(client_id[1]) % 2, "x") if held is None else (held.who.port, held.who.site)
        return self.connected(client_id) or self.come(client_id, port, site)

    @rule(client_id=clients, topic_filter=filters, level=qos, handling=st.sampled_from((0, 0, 1, 2)))
    def subscribe(self, client_id: str, topic_filter: str, level: int, handling: int) -> None:
        self.subscribe_to(client_id, topic_filter, level, handling)

    def subscribe_to(self, client_id: str, topic_filter: str, level: int, handling: int) -> None:
        peer = self.client(client_id)
        if peer is None:
            return
        peer.read()
        held = self.held[client_id]
        share, text = split_share(topic_filter)
        allowed = self.may(held.who, Action.SUBSCRIBE, text)
        new = topic_filter not in held.subscriptions
        if peer.version < V5:
            handling = 0
        [code] = peer.subscribe(subscription(topic_filter, level, retain_handling=handling))
        assert (code < 0x80) == allowed
        if not allowed:
            return
        held.subscriptions[topic_filter] = level
        expected = set()
        if share is None and (handling == 0 or (handling == 1 and new)):
            retained = self.net.broker._distributor.retained
            for topic in TOPICS:
                message = retained.get(topic.encode())
                if message is None or not matches(text, topic):
                    continue
                publisher = self.sent[message.payload].publisher
                if publisher is None or self.may(publisher, Action.PUBLISH, topic):
                    expected.add(message.payload)
        assert {packet.payload for packet in peer.received if isinstance(packet, Publish) and packet.retain} == expected

    @rule(client_id=clients, topic=topics, level=qos, retain=st.booleans(), count=st.sampled_from((1, 1, 3)))
    def publish(self, client_id: str, topic: str, level: int, retain: bool, count: int) -> None:
        for _ in range(count):
            self.publish_one(client_id, topic, level, retain)

    def publish_one(self, client_id: str, topic: str, level: int, retain: bool) -> None:
        peer = self.client(client_id)
        if peer is None:
            return
        level = level if peer.reading else min(level, 1)  # to QoS 2 belongs an answer that it would have to read
        who = self.held[client_id].who
        allowed = self.may(who, Action.PUBLISH, topic)
        payload = self.payload()
        if allowed:
            self.note(payload, Sent(topic, who), level)
        if peer.reading:
            code = peer.publish(topic, payload, level, retain=retain)
            if level and peer.version == V5:
                assert code is not None
                assert (code is ReasonCode.NOT_AUTHORIZED) == (not allowed)
        else:
            packet_id = peer.next_id() if level else None
            peer.send(Publish(topic, payload, qos=level, retain=retain, packet_id=packet_id))
        if allowed:
            self.check_arrival(payload, topic, level)

    @rule(topic=topics, level=qos, retain=st.booleans())
    def publish_by_the_server(self, topic: str, level: int, retain: bool) -> None:
        payload = self.payload()
        self.note(payload, Sent(topic, None), level)
        self.net.publish(topic, payload, qos=level, retain=retain)
        self.check_arrival(payload, topic, level)

    def check_arrival(self, payload: bytes, topic: str, level: int) -> None:
        """What has just been published has reached everybody who reads, and a member of each share."""
        members: dict[str, list[Any]] = {}
        for client_id, held in self.held.items():
            peer = self.connected(client_id)
            if peer is not None and peer.reading and self.qos_of(held, topic) >= 0:
                assert payload in {packet.payload for packet in peer.received if isinstance(packet, Publish)}
            for topic_filter, granted in held.subscriptions.items():
                share, text = split_share(topic_filter)
                if share and matches(text, topic):
                    members.setdefault(topic_filter, []).append(min(level, granted) and client_id)
        for client_ids in members.values():
            if all(client_ids):  # else QoS 0 may have gone to one who does not read
                assert any(self.has(client_id, payload) for client_id in client_ids)

    def has(self, client_id: str, payload: bytes) -> bool:
        """Whether a message has arrived at a client or waits for it."""
        session = self.net.broker.sessions[client_id]
        waiting = [*session.queue, *session.inflight.values()]
        peer = self.connected(client_id)
        received = [] if peer is None else [each.payload for each in peer.received if isinstance(each, Publish)]
        return payload in received or any(message.payload == payload for message, _ in waiting)

    @rule(client_id=clients)
    def cut(self, client_id: str) -> None:
        peer = self.connected(client_id)
        if peer is not None:
            peer.cut()
            self.before[client_id] = peer

    @rule(client_id=clients, reading=st.booleans())
    def read(self, client_id: str, reading: bool) -> None:
        peer = self.connected(client_id)
        if peer is not None:
            peer.read(reading)

    @rule(client_id=clients, site=sites)
    def reauthenticate(self, client_id: str, site: str) -> None:
        peer = self.connected(client_id)
        if peer is None or peer.version < V5:
            return
        held = self.held[client_id]
        who = evolve(held.who, site=site)
        self.sites[client_id] = site
        allowed = self.may(who, Action.CONNECT, client_id)
        self.excuse(output=True)
        # What is in the output of a connection that goes on was allowed when it was put there.
        early = {match + PADDING for packet in peer.link.out for match in re.findall(rb"<\d+>", packet)}
        self.allowed_early.setdefault(peer, set()).update(early)
        peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
        assert (peer.closed is None) == allowed
        if allowed:
            held.who = who
            self.judge(client_id)
        else:
            self.before[client_id] = peer

    @rule(seconds=st.sampled_from((1, DELAY, EXPIRY + 1)))
    def advance(self, seconds: int) -> None:
        self.net.advance(seconds)

    @rule(
        data=st.data(),
        which=st.sampled_from(((0,), (1,), (0, 1), (1, 0))),
        reading=st.booleans(),
        piled=st.none() | topics,
    )
    def change(self, data: st.DataObject, which: tuple[int, ...], reading: bool, piled: str | None) -> None:
        if piled is not None:
            for peer in self.peers.values():
                peer.read(False)
            self.publish_by_the_server(piled, 1, False)
        changes = {}
        redefined = set()
        for port in which:
            rules = data.draw(rule_sets | st.none())
            new = evolve(self.policies[port], name="the same rules")
            if rules is not None:
                new = self.policy_of(rules)
                self.in_force[port] = rules
                redefined.add(port)
            changes[self.policies[port]] = new
            self.retired.append(self.policies[port])
            self.policies[port] = new
        self.excuse(output=True)
        self.net.broker.change(changes, self.net.now)
        for client_id, peer in [*self.peers.items()]:
            if peer.closed is None and self.held[client_id].who.port in redefined:
                assert peer.link.closed
                peer.reading |= reading  # it takes its output at the last moment
                self.before[client_id] = peer
            elif peer.closed is None:
                assert not peer.link.closed
                peer.reading |= piled is not None
        self.net.settle()
        for peer in self.peers.values():
            peer.read(peer.reading)
        for client_id, held in self.held.items():
            if held.who.port in redefined:
                assert self.connected(client_id) is None
                self.judge(client_id)

    # --------------------------------------------------------------------------------------------- what must hold

    allowed_early: dict[Peer, set[bytes]]

    def __init__(self) -> None:
        super().__init__()
        self.allowed_early = {}

    @invariant()
    @precondition(lambda self: hasattr(self, "held"))
    def everything_written_is_allowed(self) -> None:
        self.settle_wills()
        for client_id, peer in [*self.before.items(), *self.peers.items()]:
            held = self.held.get(client_id.split()[0])
            for packet in peer.take(Publish):
                assert held is not None
                self.check(peer, held, packet)
            peer.received.clear()
        self.before.clear()
        self.forget_ended()
        for client_id, held in self.held.items():
            session = self.net.broker.sessions[client_id]
            assert session.subscriptions.keys() == held.subscriptions.keys()
            peer_now = self.connected(client_id)
            if peer_now is not None and peer_now.reading:
                assert not held.owed
                assert not session.pending
                assert not session.retained
        assert self.held.keys() == self.net.broker.sessions.keys()
        assert not any(self.net.broker.in_use(policy) for policy in self.retired)

    def check(self, peer: Peer, held: Held, packet: Publish) -> None:
        topic = peer.topic_of(packet)
        sent = self.sent.get(packet.payload)
        assert sent is not None, "what nobody was allowed to publish"
        assert sent.topic == topic
        held.owed.discard(packet.payload)
        if packet.payload not in self.allowed_early.get(peer, ()):
            assert self.qos_of(held, topic, shared=True) >= 0, "what no subscription allows"
        if packet.retain and packet.payload not in held.excused and sent.publisher is not None:
            assert self.may(sent.publisher, Action.PUBLISH, topic), "retained, by one who may not publish it"

    def teardown(self) -> None:
        if not hasattr(self, "net"):
            return
        self.in_force = [(everything,), (everything,)]
        new = [self.policy_of(rules) for rules in self.in_force]
        self.net.broker.change(dict(zip(self.policies, new, strict=True)), self.net.now)
        self.net.settle()
        for client_id in CLIENTS:
            self.sites[client_id] = "x"
            self.net.connect(client_id, new[0], authentication_method="m").disconnect()
        for topic in TOPICS:
            self.net.publish(topic, b"", retain=True)
        self.net.advance(1000)
        self.net.peers.clear()
        self.peers.clear()
        self.before.clear()
        self.allowed_early.clear()
        assert_empty(self.net.broker)
        assert not any(self.net.broker.in_use(policy) for policy in (*self.policies, *new))


TestChanges = Changes.TestCase
TestChanges.settings = settings(stateful_step_count=60)
