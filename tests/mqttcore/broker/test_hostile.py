"""Whatever peers send, in whatever order: no exception, nobody else is affected, and nothing is left of them."""

import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import (
    V5,
    V311,
    Auth,
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
    UnsubAck,
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
    Principal,
    Unavailable,
)
from mqttcore.broker import Broker, Close, Flush, Link, Perform, Policy, Transport
from mqttcore.broker.distribution import MAXIMUM_REMEMBERED_PROPERTIES, Target
from mqttcore.broker.sessions import ServerSession
from mqttcore.codec import encode, frame
from mqttcore.limits import Limits
from mqttcore.testing.malformed import malformed_packets
from tests.mqttcore.broker.support import WALL, Network, assert_empty, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


CONNECT = encode(Connect(client_id="evil", will=Will(topic="will")))
CUT_SHORT: dict[str, bytes] = {
    "QoS 1 PUBLISH ends before its packet identifier": frame(0x32, b"\0\1t"),
    "QoS 2 PUBLISH ends inside its packet identifier": frame(0x34, b"\0\1t\0"),
    "PUBLISH ends inside its topic": frame(0x30, b"\0\5t"),
    "PUBLISH with nothing in it": frame(0x30, b""),
    "PUBLISH without properties": frame(0x30, b"\0\1t"),
    "SUBSCRIBE ends before its options": frame(0x82, b"\0\1\0\0\1t"),
    "SUBSCRIBE ends inside its filter": frame(0x82, b"\0\1\0\0\5t"),
    "SUBSCRIBE without filters": frame(0x82, b"\0\1\0"),
    "property length past the end": frame(0x30, b"\0\1t\x10\x01\x00"),
    "property length in five bytes": frame(0x30, b"\0\1t\xff\xff\xff\xff\x7f"),
    "property past the property length": frame(0x30, b"\0\1t\x02\x03\x00\x05abcde"),
    "varint past the end": frame(0x30, b"\0\1t\x80"),
    "Remaining Length in five bytes": b"\x30\x80\x80\x80\x80\x01",
    "packet identifier 0": frame(0x32, b"\0\1t\0\0\0"),
    "wildcard in a topic": frame(0x30, b"\0\1#\0"),
    "NUL in a topic": frame(0x30, b"\0\1\0\0"),
    "broken UTF-8": frame(0x30, b"\0\1\xff\0"),
    "QoS 3": frame(0x36, b"\0\1t\0\1\0"),
    "reserved type": frame(0x00, b""),
    "PUBREL with wrong flags": frame(0x60, b"\0\1"),
    "empty PUBACK": frame(0x40, b""),
    "PINGREQ with a body": frame(0xC0, b"\0"),
    "DISCONNECT with an unknown code": frame(0xE0, b"\x7f"),
}
SERVER_PACKETS: list[Packet] = [
    ConnAck(),
    SubAck(1, (ReasonCode.SUCCESS,)),
    UnsubAck(1, (ReasonCode.SUCCESS,)),
    PingResp(),
    Auth(),
]


def healthy(net: Network) -> None:
    """A pair of clients does well."""
    a, b = net.connects("a", "b")
    b.subscribe("healthy")
    for qos in range(3):
        a.publish("healthy", b"%d" % qos, qos)
    assert b.payloads() == [b"0", b"1", b"2"]
    a.disconnect()
    b.disconnect()


@pytest.mark.conformance("MQTT-4.13.1-1")
@pytest.mark.parametrize("name", CUT_SHORT)
def test_a_malformed_packet_ends_its_connection_alone(name: str) -> None:
    net = Network()
    watcher = net.connect("watcher")
    watcher.subscribe("will")
    peer = net.connect("evil", will=Will(topic="will"))
    peer.send_bytes(CUT_SHORT[name])
    code = peer.ended_with()
    assert code is not None
    assert code.is_failure
    assert watcher.closed is None
    assert len(watcher.take(Publish)) == 1  # it is no orderly end
    healthy(net)


@VERSIONS
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_is_malformed_ends_the_connection(version: int, data: st.DataObject) -> None:
    first, body = data.draw(malformed_packets(version))
    net = Network()
    watcher = net.connect("watcher")
    watcher.subscribe("#")
    peer = net.connect("evil", protocol_version=version)
    peer.send_bytes(frame(first, body))
    assert peer.closed
    assert not watcher.received
    assert {*net.broker.sessions} == {"watcher"}


@pytest.mark.parametrize("packet", SERVER_PACKETS, ids=lambda packet: type(packet).__name__)
def test_packets_of_servers(packet: Packet) -> None:
    net = Network()
    peer = net.connect("evil")
    peer.send(packet)
    assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR


@pytest.mark.conformance("MQTT-3.1.0-1")
@pytest.mark.parametrize("first", range(0, 256, 8))
def test_a_first_packet_that_is_not_connect(first: int) -> None:
    net = Network()
    peer = net.peer()
    peer.send_bytes(bytes((first,)))
    if first >> 4 == 1:
        peer.send_bytes(b"\x00")
    assert peer.closed
    assert not peer.received


@VERSIONS
def test_a_client_id_that_reaches_past_the_end_of_connect(version: int) -> None:
    data = encode(Connect(client_id="abc", protocol_version=version))
    for cut in range(12, len(data)):
        net = Network()
        peer = net.peer()
        peer.send_bytes(data[:1] + bytes((cut - 2,)) + data[2:cut])
        assert peer.closed
        assert not net.broker.sessions


@pytest.mark.parametrize("connected", [False, True])
def test_a_huge_packet_with_nothing_behind_it_costs_nothing(connected: bool) -> None:
    net = Network()
    peer = net.connect("evil") if connected else net.peer()
    peer.send_bytes(b"\x30\xff\xff\xff\x7f" if connected else b"\x10\xff\xff\xff\x7f")
    net.advance(0 if connected else 10)  # a refusal of CONNECT would wait for the version to refuse it in
    assert peer.closed
    slow = net.connect("slow", keep_alive=1)
    slow.send_bytes(b"\x30\xff\xff\x03")
    assert slow.closed is None
    net.advance(2)
    assert slow.closed


def test_thousands_of_user_properties() -> None:
    net = Network()
    a, b = net.connects("a", "b")
    b.subscribe("t")
    properties = tuple((f"name {number % 7}", f"{number}") for number in range(5000))
    a.publish("t", b"x", 1, user_properties=properties)
    assert b.expect(Publish).user_properties == properties
    a.send(
        Subscribe(1, (subscription("u"),), user_properties=properties),
        Unsubscribe(2, ("u",), user_properties=properties),
    )
    assert a.closed is None
    peer = net.peer()
    peer.send(Connect(client_id="c", user_properties=properties))
    assert peer.expect(ConnAck).user_properties == ()


@VERSIONS
def test_qos_2_identifiers_that_are_never_released(version: int) -> None:
    net = Network(receive_maximum=100)
    for _ in range(5):
        peer = net.connect("evil", clean_start=False, protocol_version=version)
        for packet_id in range(1, 1000):
            if peer.closed is None:
                peer.send(Publish("t", qos=2, packet_id=packet_id))
        if version == V5:
            assert peer.ended_with() is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
        peer.cut()
    healthy(net)


@pytest.mark.parametrize("count", [300])
def test_an_endless_stream_of_wrong_passwords(count: int) -> None:
    def authenticate(request: AuthRequest) -> Authentication:
        return Denied("wrong", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        yield

    net = Network()
    policy = net.policy_with(authenticate=authenticate)
    for number in range(count):
        peer = net.peer(policy)
        peer.send(Connect(client_id=f"{number % 7}", username="u", password=b"%d" % number))
        assert peer.ended_with() is ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert_empty(net.broker)
    assert "password" not in repr(net.reports).lower().replace("bad_user_name_or_password", "")


@VERSIONS
def test_byte_by_byte_is_the_same_as_at_once(version: int) -> None:
    expiry = 100 if version == V5 else None
    packets: list[Packet] = [
        Connect(client_id="x", protocol_version=version, session_expiry_interval=expiry),
        Subscribe(1, (subscription("t/#"),)),
        Publish("t/1", b"1"),
        Publish("t/2", b"2", qos=1, packet_id=2),
        Publish("t/3", b"3" * 200, qos=2, packet_id=3),
        PubRel(3),
        PubAck(1),
        PubRec(2),
        PubComp(2),
        PingReq(),
        Unsubscribe(4, ("t/#",)),
        Disconnect(),
    ]
    data = b"".join(encode(packet, version) for packet in packets)
    results = []
    for size in (1, 2, 3, 7, len(data)):
        peer = Network().peer()
        peer.version = version
        peer.auto = False
        peer.send_bytes(*(data[at : at + size] for at in range(0, len(data), size)))
        assert peer.closed
        results.append(sorted(map(repr, peer.received)))
    assert all(result == results[0] for result in results)
    assert len(results[0]) == 11


# ------------------------------------------------------------------------------------------- anything, in any order


class Ask(Effect):
    """Something for the shell to do."""


def authenticate(request: AuthRequest) -> Authentication:
    if request.username is None:
        return Granted()
    reply = yield Challenge(b"?") if request.username == "challenge" else Ask()
    if reply == "unavailable":
        return Unavailable()
    return Granted(expires_at=request.time + 50) if reply == "good" or request.re_authentication else Denied()


def test_what_is_remembered_of_topics_is_bounded_however_many_subscribe() -> None:
    net = Network(maximum_cached_routes=100)
    subscribers = net.connects(*"abcdefghi")
    for subscriber in subscribers:
        subscriber.subscribe("#")
    publishers = net.connects("p", "q")
    for turn in range(3):
        for number in range(50):
            for publisher in publishers:
                publisher.publish(f"{publisher.link.client_id}/{number}")
                publisher.publish("common")
        net.connect("late").subscribe(f"+/{turn}")  # every route is out of date
        gc.collect()  # compiled generators are cycles, and hold on to what they went through last
        assert sum(isinstance(each, Target) for each in gc.get_objects()) <= 100
        assert all(subscriber.payloads() == [b""] * 200 for subscriber in subscribers)


def test_one_topic_too_many_makes_room_for_itself_and_a_few() -> None:
    net = Network(maximum_cached_routes=6400)
    publisher = net.connect("p")
    routes = net.broker._distributor._routes
    for number in range(6400):
        publisher.publish(str(number))
    assert len(routes) == 6400
    for number in range(6400, 20_000):
        publisher.publish(str(number))
        assert 6300 <= len(routes) <= 6400
        assert b"%d" % number in routes
    assert list(routes) == [b"%d" % number for number in range(20_000 - len(routes), 20_000)]


def test_what_is_remembered_of_properties_is_bounded() -> None:
    net = Network()
    a, b = net.connects("a", "b")
    b.subscribe("t")
    for number in range(MAXIMUM_REMEMBERED_PROPERTIES + 10):
        a.publish("t", content_type=str(number))
    assert len(net.broker._distributor._properties) <= MAXIMUM_REMEMBERED_PROPERTIES
    types = [packet.content_type for packet in b.take(Publish)]
    assert types == [str(number) for number in range(MAXIMUM_REMEMBERED_PROPERTIES + 10)]


def authorize(principal: Principal, action: Action, what: str) -> bool:
    return "denied" not in what


LIMITS = Limits(
    output_high_water=1024,
    receive_maximum=3,
    inflight_maximum=4,
    maximum_queued_messages=5,
    maximum_session_expiry=1000,
    maximum_subscriptions=4,
    maximum_retained_messages=4,
    maximum_cached_routes=3,
    maximum_cached_topics=2,
    maximum_packet_size=4096,
    maximum_connect_size=512,
    maximum_early_data=1024,
    maximum_topic_levels=4,
    maximum_sessions=4,
)
POLICIES = (
    Policy(limits=LIMITS),
    Policy(limits=LIMITS, authenticate=authenticate, authorize=authorize),
)
TOPICS = st.sampled_from(["a", "a/b", "", "$SYS/x", "denied", "a/b/c/d/e"])
FILTERS = st.sampled_from(["a", "a/#", "#", "+/b", "$share/g/a", "$share/g/#", "denied", "a/b/c/d/e"])
IDS = st.integers(1, 4)
OPTIONAL = st.none() | st.integers(0, 3)
INTERVALS = st.sampled_from([None, 0, 1, 30, 0xFFFF_FFFF])
CODES = st.sampled_from([ReasonCode.SUCCESS, ReasonCode.NOT_AUTHORIZED])
WILLS = st.builds(
    Will,
    topic=st.sampled_from(["a", "a/b", "denied"]),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    will_delay_interval=INTERVALS,
    message_expiry_interval=INTERVALS,
    payload=st.sampled_from([b"", b"w"]),
)


def publishes(
    topic: str, payload: bytes, qos: int, packet_id: int, retain: bool, alias: int | None, interval: int | None
) -> Publish:
    return Publish(
        topic,
        payload,
        qos=qos,
        packet_id=packet_id if qos else None,
        retain=retain,
        topic_alias=alias if topic or alias else 1,
        message_expiry_interval=interval,
    )


PACKETS = st.one_of(
    st.builds(
        publishes,
        TOPICS,
        st.sampled_from([b"", b"x", b"x" * 600]),
        st.integers(0, 2),
        IDS,
        st.booleans(),
        st.sampled_from([None, 1, 2, 101]),
        INTERVALS,
    ),
    st.builds(
        lambda packet_id, subscriptions, identifier: Subscribe(
            packet_id, tuple(subscriptions), subscription_identifier=identifier
        ),
        IDS,
        st.lists(
            st.builds(
                subscription,
                FILTERS,
                st.integers(0, 2),
                retain_handling=st.integers(0, 2),
                retain_as_published=st.booleans(),
            ),
            min_size=1,
            max_size=3,
        ),
        st.sampled_from([None, 1, 268_435_455]),
    ),
    st.builds(
        lambda packet_id, filters: Unsubscribe(packet_id, tuple(filters)),
        IDS,
        st.lists(FILTERS, min_size=1, max_size=2),
    ),
    st.builds(PubAck, IDS, CODES),
    st.builds(PubRec, IDS, CODES),
    st.builds(PubRel, IDS),
    st.builds(PubComp, IDS),
    st.just(PingReq()),
    st.builds(
        Disconnect,
        st.sampled_from([ReasonCode.SUCCESS, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE]),
        session_expiry_interval=INTERVALS,
    ),
    st.builds(
        Auth,
        st.sampled_from([ReasonCode.CONTINUE_AUTHENTICATION, ReasonCode.RE_AUTHENTICATE]),
        authentication_method=st.just("m"),
        authentication_data=st.just(b"x"),
    ),
)
CONNECTS = st.builds(
    lambda version, name, clean, keep_alive, username, will, expiry, receive, size, aliases, method: Connect(
        client_id=name,
        protocol_version=version,
        clean_start=clean,
        keep_alive=keep_alive,
        username=username,
        will=will,
        **(
            {}
            if version == V311
            else {
                "session_expiry_interval": expiry,
                "receive_maximum": receive,
                "maximum_packet_size": size,
                "topic_alias_maximum": aliases,
                "authentication_method": method,
            }
        ),
    ),
    st.sampled_from([V5, V5, V311]),
    st.sampled_from(["", "1", "2", "3", "denied"]),
    st.booleans(),
    st.sampled_from([0, 0, 5]),
    st.sampled_from([None, None, "ask", "challenge"]),
    st.none() | WILLS,
    INTERVALS,
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, None, 3, 12, 25, 60]),
    OPTIONAL,
    st.sampled_from([None, None, "m"]),
)
STEPS = st.one_of(
    st.tuples(st.just("open"), st.integers(0, 1), CONNECTS | st.binary(max_size=30)),
    st.tuples(st.just("send"), st.integers(0, 5), st.lists(PACKETS, min_size=1, max_size=5)),
    st.tuples(st.just("send"), st.integers(0, 5), st.lists(PACKETS, min_size=1, max_size=5)),
    st.tuples(st.just("bytes"), st.integers(0, 5), st.binary(max_size=20)),
    st.tuples(st.just("lost"), st.integers(0, 5), st.none()),
    st.tuples(st.just("resume"), st.integers(0, 3), st.sampled_from(["good", "bad", "unavailable"])),
    st.tuples(st.just("read"), st.integers(0, 5), st.none()),
    st.tuples(st.just("time"), st.sampled_from([0, 1, 10, 40]), st.none()),
    st.tuples(st.just("publish"), st.integers(0, 2), st.sampled_from(["a", "a/b"])),
    st.tuples(st.just("split"), st.integers(1, 9), st.none()),
)


class Shell:
    """Does what a shell does, sloppily: it reads a link's output only when told to, and sends in any chunks."""

    def __init__(self) -> None:
        self.broker = Broker(LIMITS, seed=b"s" * 32, wall_offset=WALL)
        self.now = 0.0
        self.links: list[Link] = []
        self.versions: dict[Link, int] = {}
        self.performs: list[Perform] = []
        self.closed: set[Link] = set()
        self.chunk = 1000

    def dispatch(self) -> None:
        for action in self.broker.take_actions():
            if isinstance(action, Perform):
                self.performs.append(action)
            elif isinstance(action, Close):
                assert action.link not in self.closed
                self.closed.add(action.link)
            elif isinstance(action, Flush):
                assert action.link not in self.closed

    def receive(self, link: Link, data: bytes) -> None:
        for at in range(0, len(data), self.chunk):
            self.broker.receive(link, data[at : at + self.chunk], self.now)
            self.dispatch()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        rounds = 0
        while (deadline := self.broker.next_deadline()) <= end:
            rounds = 0 if deadline > self.now else rounds + 1
            assert rounds < 10
            self.now = max(self.now, deadline)
            self.broker.handle_timeout(self.now)
            self.dispatch()
        self.now = end

    def step(self, step: str, which: Any, what: Any) -> None:
        if step == "open":
            link = self.broker.open(self.now, Transport("p"), POLICIES[which])
            self.links.append(link)
            self.versions[link] = what.protocol_version if isinstance(what, Connect) else V5
            self.receive(link, encode(what) if isinstance(what, Connect) else what)
        elif step == "time":
            self.pass_time(which)
        elif step == "split":
            self.chunk = which
        elif step == "publish":
            self.broker.publish(Publish(what, b"server", qos=which, retain=which == 1), self.now)
        elif step == "resume":
            if which < len(self.performs):
                self.broker.resume(self.performs[which], what, self.now)  # now and then once more
        elif self.links:
            link = self.links[which % len(self.links)]
            if step == "send":
                version = self.versions[link]
                packets = [packet for packet in what if version == V5 or not isinstance(packet, Auth)]
                if version == V311:
                    packets = [
                        Publish("a", b"x") if getattr(packet, "topic", "a") == "" else packet for packet in packets
                    ]
                self.receive(link, b"".join(encode(packet, version) for packet in packets))
            elif step == "bytes":
                self.receive(link, what)
            elif step == "lost":
                self.broker.lost(link, self.now)
            else:
                while self.broker.take_output(link, self.now):
                    pass
        self.dispatch()

    def check(self) -> None:
        """Every bound holds at every moment."""
        for link in self.links:
            assert sum(map(len, link.out)) < LIMITS.output_high_water + 4 * LIMITS.maximum_packet_size
            assert len(link.connection.frames) <= 4096 + 1024
            assert (link in self.closed) == (link not in self.broker.links)
        assert len(self.broker.sessions) <= LIMITS.maximum_sessions
        retained = self.broker._distributor.retained
        assert len(retained) <= LIMITS.maximum_retained_messages
        for client_id, session in self.broker.sessions.items():
            assert session.client_id == client_id
            assert session.link is None or session.link.session is session
            assert len(session.queue) <= LIMITS.maximum_queued_messages
            assert len(session.inflight) + len(session.releasing) <= LIMITS.inflight_maximum
            assert session.queued_bytes == sum(message.size for message, _ in session.queue)
            assert len(session.subscriptions) <= LIMITS.maximum_subscriptions


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=40))
def test_anything_in_any_order(steps: list[tuple[str, Any, Any]]) -> None:
    shell = Shell()
    for step in steps:
        shell.step(*step)
        shell.check()
    good = shell.broker.open(shell.now, Transport("good"), POLICIES[0])
    if len(shell.broker.sessions) < LIMITS.maximum_sessions:  # a newcomer is served as ever
        packets: list[Packet] = [
            Connect(client_id="good"),
            Subscribe(1, (subscription("fresh"),)),
            Publish("fresh", b"x", qos=1, packet_id=2),
        ]
        shell.receive(good, b"".join(map(encode, packets)))
        output = shell.broker.take_output(good, shell.now)
        assert output[0] == 0x20
        assert output.endswith(encode(PubAck(2)))
        assert encode(Publish("fresh", b"x", qos=1, packet_id=1)) in output
    for link in shell.broker.links:
        shell.broker.lost(link, shell.now)
    shell.dispatch()
    shell.pass_time(1e10)  # beyond every session, every Will and every retained message that expires
    shell.broker.handle_timeout(shell.now)
    shell.dispatch()
    for perform in shell.performs:
        shell.broker.resume(perform, "good", shell.now)
    assert not shell.broker.take_actions()
    assert_empty(shell.broker)
    retained = shell.broker._distributor.retained
    assert retained.bytes == sum(node.message.size for node in retained._nodes.values() if node.message)


def test_no_session_is_kept_alive_by_what_is_cached() -> None:
    net = Network()
    peer = net.connect("a", session_expiry_interval=10)
    publisher = net.connect("p")
    peer.subscribe("a/+", "a/b", "$share/g/a/#")
    for _ in range(3):
        publisher.publish("a/b", b"x", 1)
        publisher.publish("a/c", b"x", 1)
    identity = id(net.broker.sessions["a"])
    peer.cut()
    net.advance(10)
    publisher.publish("a/b", b"x", 1)
    publisher.publish("a/c", b"x", 1)
    net.peers.clear()
    del peer
    gc.collect()
    assert identity not in [id(each) for each in gc.get_objects() if isinstance(each, ServerSession)]
