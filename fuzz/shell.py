"""A shell around a Broker for the fuzzer: it does what is asked of it, late and sloppily, and looks at every bound."""

from typing import final

from attrs import evolve

from fuzz.source import Source
from mqttcore import (
    V5,
    V311,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Limits,
    LocalProtocolError,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from mqttcore.auth import (
    Action,
    Authentication,
    AuthRequest,
    Challenge,
    Denied,
    Effect,
    Granted,
    NotRelevant,
    Principal,
    Review,
    Standing,
    Unavailable,
)
from mqttcore.broker import Broker, Close, Flush, Link, Perform, Policy, Report, Transport
from mqttcore.codec import encode
from tests.mqttcore.support import packets_in

LIMITS = Limits(
    output_high_water=1024,
    receive_maximum=3,
    inflight_maximum=4,
    maximum_queued_messages=5,
    maximum_queued_bytes=2048,
    maximum_session_expiry=1000,
    maximum_subscriptions=4,
    maximum_retained_messages=4,
    maximum_retained_bytes=2000,
    maximum_cached_routes=3,
    maximum_cached_topics=2,
    maximum_packet_size=4096,
    maximum_connect_size=512,
    maximum_early_data=1024,
    maximum_topic_levels=4,
    maximum_sessions=4,
    assigned_topic_aliases=2,
    topic_alias_maximum=2,
    review_interval=20.0,
)
SECRET = b"a password that is nowhere to be seen"
REPORTS = 3
"""How often anything that happens to a link is reported, at most."""
ROUNDS = 10
"""How often a shell is called again for one moment, at most."""

TOPICS = ("a", "a/b", "", "$SYS/x", "denied", "a/b/c/d/e", "c")
FILTERS = ("a", "a/#", "#", "+/b", "$share/g/a", "$share/g/#", "denied", "a/b/c/d/e", "+/+", "$share/g/c")
INTERVALS = (None, 0, 1, 30, 0xFFFF_FFFF)
PAYLOADS = (b"", b"x", b"x" * 600, b"\xff" * 40)
REPLIES = ("good", "bad", "unavailable", None)


class Ask(Effect):
    """Something for the shell to do."""


def authenticate(request: AuthRequest) -> Authentication:
    """Asks, challenges, or decides at once, by the user name."""
    if request.username is None:
        return Granted()
    reply = yield Challenge(b"?") if request.username == "challenge" else Ask()
    if reply == "unavailable":
        return Unavailable()
    if reply is None:
        return NotRelevant()
    granted = reply == "good" or request.re_authentication
    return Granted(expires_at=request.time + 50, method="m") if granted else Denied()


def authorize(principal: Principal, action: Action, what: str) -> bool:
    """Not what has "denied" in its name."""
    return "denied" not in what


def authorize_less(principal: Principal, action: Action, what: str) -> bool:
    """Nothing below "a" either."""
    return "denied" not in what and not what.startswith("a/")


def revoked(standing: Standing, time: float) -> str | None:
    """The client with the identifier 2 has to go."""
    return "revoked" if standing.principal.client_id == "2" else None


def policy(kind: int) -> Policy:
    """One of some kinds of policies; each is a new one."""
    review: Review | None = revoked if kind == 3 else None
    return Policy(
        limits=evolve(LIMITS, maximum_qos=1) if kind == 4 else LIMITS,
        authenticate=authenticate if kind % 2 else None,
        authorize=(None, authorize, authorize_less, authorize, None)[kind],
        revoked=review,
        review=review,
    )


def connect(source: Source) -> Connect:
    """Any CONNECT that makes sense."""
    version = source.pick((V5, V5, V311))
    will = (
        Will(
            topic=source.pick(("a", "a/b", "denied")),
            qos=source.below(3),
            retain=source.flag(),
            payload=source.pick(PAYLOADS[:2]),
            will_delay_interval=source.pick(INTERVALS) if version == V5 else None,
            message_expiry_interval=source.pick(INTERVALS) if version == V5 else None,
        )
        if source.flag()
        else None
    )
    username = source.pick((None, None, "ask", "challenge"))
    found = Connect(
        client_id=source.pick(("1", "2", "3", "denied", "")),
        protocol_version=version,
        clean_start=source.flag(),
        keep_alive=source.pick((0, 0, 5)),
        username=username,
        password=None if username is None else SECRET,
        will=will,
    )
    if version == V311:
        return found
    method = source.pick((None, None, "m"))
    return evolve(
        found,
        session_expiry_interval=source.pick(INTERVALS),
        receive_maximum=source.pick((None, 1, 2)),
        maximum_packet_size=source.pick((None, None, 3, 12, 25, 60)),
        topic_alias_maximum=source.pick((None, 0, 1, 3)),
        request_problem_information=source.pick((None, False)),
        authentication_method=method,
        authentication_data=None if method is None else SECRET,
    )


def packet(source: Source, version: int) -> Packet:
    """Any packet that a client may send once it is connected, though perhaps not now."""
    packet_id = source.below(4) + 1
    code = source.pick((ReasonCode.SUCCESS, ReasonCode.NOT_AUTHORIZED))
    five = version == V5
    match source.below(11):
        case 0 | 1:
            qos, topic = source.below(3), source.pick(TOPICS)
            alias = source.pick((None, None, 1, 2, 101)) if five else None
            if not topic and alias is None:
                topic = "a"
            return Publish(
                topic,
                source.pick(PAYLOADS),
                qos=qos,
                packet_id=packet_id if qos else None,
                retain=source.flag(),
                dup=bool(qos) and source.flag(),
                topic_alias=alias,
                message_expiry_interval=source.pick(INTERVALS) if five else None,
                payload_format_indicator=source.pick((None, None, 1)) if five else None,
            )
        case 2:
            subscriptions = tuple(
                Subscription(
                    source.pick(FILTERS),
                    source.below(3),
                    retain_handling=source.below(3) if five else 0,
                    retain_as_published=five and source.flag(),
                )
                for _ in range(source.below(3) + 1)
            )
            identifier = source.pick((None, 1, 268_435_455)) if five else None
            return Subscribe(packet_id, subscriptions, subscription_identifier=identifier)
        case 3:
            return Unsubscribe(packet_id, (source.pick(FILTERS),))
        case 4:
            return PubAck(packet_id, code)
        case 5:
            return PubRec(packet_id, code)
        case 6:
            return PubRel(packet_id)
        case 7:
            return PubComp(packet_id)
        case 8:
            return PingReq()
        case 9 if five:
            code = source.pick((ReasonCode.CONTINUE_AUTHENTICATION, ReasonCode.RE_AUTHENTICATE))
            return Auth(code, authentication_method="m", authentication_data=SECRET)
        case _:
            if not five:
                return Disconnect()
            end = source.pick((ReasonCode.SUCCESS, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE))
            return Disconnect(end, session_expiry_interval=source.pick(INTERVALS))


@final
class Shell:
    """A broker and what it has asked for."""

    def __init__(self) -> None:
        self.broker = Broker(LIMITS, seed=b"s" * 32, wall_offset=1e6)
        self.policies = [policy(0), policy(1)]
        self.now = 0.0
        self.links: list[Link] = []
        self.closed: set[Link] = set()
        self.chunk = 1000
        self.reported = 0
        self._versions: dict[Link, int] = {}
        self._output: dict[Link, bytearray] = {}
        self._performs: list[Perform] = []
        self._happened = 0  # bytes from all clients, and other operations, each for each link

    def step(self, source: Source) -> None:
        """Do the next thing."""
        self._happened += len(self.links) + 1
        kind = source.below(14)
        if kind <= 1:
            self._open(source)
        elif kind == 2:
            self.pass_time(source.pick((0.0, 1.0, 10.0, 40.0)))
        elif kind == 3:
            self.chunk = source.byte() + 1
        elif kind == 4:
            self._publish(source)
        elif kind == 5:
            if self._performs:
                self.broker.resume(source.pick(self._performs), source.pick(REPLIES), self.now)  # now and then again
        elif kind == 6:
            self._change(source)
        elif kind == 7:
            self.broker.wall_offset += source.pick((-5.0, 0.0, 100.0))
        elif self.links:
            link = source.pick(self.links[-6:])
            if kind == 8:
                self.receive(link, source.take(60))
            elif kind == 9:
                self.broker.lost(link, self.now)
            elif kind == 10:
                self.read(link)
            else:
                version = self._versions[link]
                self.receive(
                    link, b"".join(encode(packet(source, version), version) for _ in range(source.below(4) + 1))
                )
        self._dispatch()
        self._judge()

    def _open(self, source: Source) -> None:
        link = self.broker.open(self.now, Transport("p", "tcp", (b"no certificate",)), source.pick(self.policies))
        self.links.append(link)
        self._output[link] = bytearray()
        if source.below(8) == 0:
            self._versions[link] = V5
            self.receive(link, source.take(60))
        else:
            greeting = connect(source)
            self._versions[link] = greeting.protocol_version
            self.receive(link, encode(greeting))

    def _publish(self, source: Source) -> None:
        topic, qos, retain = source.pick(TOPICS), source.below(3), source.flag()
        try:
            self.broker.publish(Publish(topic, b"server", qos=qos, retain=retain), self.now)
        except LocalProtocolError:
            assert not topic

    def _change(self, source: Source) -> None:
        which, kind = source.below(len(self.policies)), source.below(6)
        if kind == 5:
            self.broker.disconnect([self.policies[which]], "maintenance", self.now)
            return
        new = policy(kind)
        self.broker.change({self.policies[which]: new}, self.now)
        self.policies[which] = new

    def receive(self, link: Link, data: bytes) -> None:
        """Bytes from a client, in chunks."""
        self._happened += len(data)
        for at in range(0, len(data), self.chunk):
            self.broker.receive(link, data[at : at + self.chunk], self.now)
            self._dispatch()

    def read(self, link: Link) -> None:
        """A client reads all that there is for it."""
        while data := self.broker.take_output(link, self.now):
            self._output[link] += data

    def pass_time(self, seconds: float) -> None:
        """The time that passes, with what is due in it."""
        end = self.now + seconds
        rounds = 0
        while (deadline := self.broker.next_deadline()) <= end:
            rounds = 0 if deadline > self.now else rounds + 1
            assert rounds < ROUNDS
            self.now = max(self.now, deadline)
            self.broker.handle_timeout(self.now)
            self._dispatch()
        self.now = end

    def finish(self) -> None:
        """Everybody leaves, and all that was to wait for them runs out."""
        for link in self.broker.links:
            self.broker.lost(link, self.now)
        self._dispatch()
        self.pass_time(1e10)
        self.broker.handle_timeout(self.now)
        self._dispatch()
        for perform in self._performs:
            self.broker.resume(perform, "good", self.now)
        assert not self.broker.take_actions()
        for link, output in self._output.items():
            self.read(link)
            received = packets_in(bytes(output), link.connection.version)
            assert sum(isinstance(each, ConnAck) for each in received) <= 1
            assert not any(isinstance(each, Disconnect) for each in received[:-1])

    def _dispatch(self) -> None:
        for action in self.broker.take_actions():
            if isinstance(action, Perform):
                self._performs.append(action)
            elif isinstance(action, Close):
                assert action.link not in self.closed
                self.closed.add(action.link)
            elif isinstance(action, Flush):
                assert action.link not in self.closed
            elif isinstance(action, Report):
                self.reported += 1
                assert SECRET.decode() not in repr(action.event)

    def _judge(self) -> None:
        """Every bound holds at every moment, and what is reported is in proportion to what happened."""
        broker = self.broker
        assert self.reported <= REPORTS * (self._happened + 1)
        for link in self.links:
            assert (link in self.closed) == (link not in broker.links)
            if link in self.closed:
                continue
            assert sum(map(len, link.out)) < LIMITS.output_high_water + 4 * LIMITS.maximum_packet_size
            assert len(link.connection.frames) <= LIMITS.maximum_packet_size + LIMITS.maximum_early_data
            assert len(link.routes) <= LIMITS.maximum_cached_topics
        assert len(broker.sessions) <= LIMITS.maximum_sessions
        retained = broker._distributor.retained
        assert len(retained) <= LIMITS.maximum_retained_messages
        assert retained.bytes <= LIMITS.maximum_retained_bytes
        for client_id, session in broker.sessions.items():
            assert session.client_id == client_id
            assert session.link is None or session.link.session is session
            assert len(session.queue) <= LIMITS.maximum_queued_messages
            assert len(session.inflight) + len(session.releasing) <= LIMITS.inflight_maximum
            assert session.queued_bytes == sum(message.size for message, _ in session.queue)
            assert session.queued_bytes <= LIMITS.maximum_queued_bytes
            assert len(session.subscriptions) <= LIMITS.maximum_subscriptions
