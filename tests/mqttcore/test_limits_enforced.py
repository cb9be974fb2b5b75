"""What the peer announced binds this side, what this side announced binds the peer: sizes, quotas, aliases, time."""

from math import inf
from typing import Any

import pytest
from attrs import Attribute, evolve
from hypothesis import given
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError, PacketTooLarge
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits, describe
from mqttcore.message import message_from
from mqttcore.states import CLIENT, SERVER, Role
from tests.mqttcore.support import client, events, sent, server, server_with, tell


def connection(
    role: Role,
    *,
    limits: Limits | None = None,
    own_size: int | None = None,
    own_receive: int | None = None,
    own_aliases: int | None = None,
    peer_size: int | None = None,
    peer_aliases: int | None = None,
) -> Connection:
    """A connection in `role`, with what either side has announced."""
    if role is SERVER:
        connect = p.Connect(maximum_packet_size=peer_size, topic_alias_maximum=peer_aliases)
        connack = p.ConnAck(maximum_packet_size=own_size, receive_maximum=own_receive, topic_alias_maximum=own_aliases)
        return server(connect, connack, limits)
    connect = p.Connect(maximum_packet_size=own_size, receive_maximum=own_receive, topic_alias_maximum=own_aliases)
    return client(connect, p.ConnAck(maximum_packet_size=peer_size, topic_alias_maximum=peer_aliases), limits)


def ended_with(ended: Connection, *packets: p.Packet) -> ReasonCode:
    """Have it receive packets, the last of which breaks a rule; the code of the DISCONNECT that it sends."""
    found = tell(ended, *packets)
    assert found[:-1] == list(packets[:-1])
    closed = found[-1]
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "us"
    *_, word = sent(ended)
    assert isinstance(word, p.Disconnect)
    assert word.reason_code is closed.reason_code
    return word.reason_code


# ---------------------------------------------------------------------------------------- Maximum Packet Size


@pytest.mark.conformance("MQTT-3.2.2-15")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("announced", [True, False])
def test_a_packet_over_the_maximum_packet_size(role: Role, announced: bool) -> None:
    limits = Limits(maximum_packet_size=1000 if announced else 200)
    own_size = 200 if announced else None
    fits = p.Publish("t", bytes(193))
    assert len(encode(fits)) == 200
    assert tell(connection(role, limits=limits, own_size=own_size), fits) == [fits]
    receiver = connection(role, limits=limits, own_size=own_size)
    assert ended_with(receiver, p.Publish("t", bytes(194))) is ReasonCode.PACKET_TOO_LARGE


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("header", [b"\x30\xc6\x01", b"\x30\xff\xff\xff\x7f"])
def test_it_is_refused_by_its_fixed_header(role: Role, header: bytes) -> None:
    receiver = connection(role, own_size=200)
    receiver.receive(header, 0.0)
    assert [type(event) for event in events(receiver)] == [ConnectionClosed]
    [word] = sent(receiver)
    assert isinstance(word, p.Disconnect)
    assert word.reason_code is ReasonCode.PACKET_TOO_LARGE


@pytest.mark.conformance("MQTT-3.1.2-24", "MQTT-3.2.2-15")
@given(role=st.sampled_from(Role), size=st.integers(5, 300), payload=st.integers(0, 300))
def test_nothing_larger_than_the_peers_maximum_packet_size_is_sent(role: Role, size: int, payload: int) -> None:
    sender = connection(role, peer_size=size)
    publish = p.Publish("t", bytes(payload))
    if len(encode(publish)) > size:
        with pytest.raises(PacketTooLarge) as caught:
            sender.send(publish, 0.0)
        assert caught.value.reason_code is ReasonCode.PACKET_TOO_LARGE
        assert sender.take_output() == b""
    else:
        sender.send(publish, 0.0)
        assert sender.take_output() == encode(publish)
    assert sender.connected


def test_before_connect_is_accepted_its_own_bound_holds() -> None:
    limits = Limits(maximum_connect_size=128, maximum_packet_size=5000)
    large = p.Publish("t", bytes(4000))
    connected = server(limits=limits)
    assert tell(connected, large) == [large]
    waiting = server_with(p.Connect(), limits)
    assert tell(waiting, large) == []
    waiting.send(p.ConnAck(), 0.0)
    assert events(waiting) == [large]
    assert Connection(CLIENT, limits, 0.0).frames.maximum == 5000


# -------------------------------------------------------------------------------------------- Receive Maximum


def publish(packet_id: int, qos: int) -> p.Publish:
    return p.Publish("t", qos=qos, packet_id=packet_id)


@pytest.mark.conformance("MQTT-3.3.4-7", "MQTT-3.3.4-9")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("qos", [1, 2])
def test_more_than_the_receive_maximum(role: Role, qos: int) -> None:
    receiver = connection(role, own_receive=2)
    code = ended_with(receiver, publish(1, qos), publish(2, 1), p.Publish("t"), publish(3, qos))
    assert code is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


@pytest.mark.conformance("MQTT-4.9.0-1", "MQTT-4.9.0-2")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("qos", "answer", "frees"),
    [
        (1, p.PubAck(1), True),
        (1, p.PubAck(1, ReasonCode.QUOTA_EXCEEDED), True),
        (2, p.PubRec(1), False),
        (2, p.PubRec(1, ReasonCode.NO_MATCHING_SUBSCRIBERS), False),
        (2, p.PubRec(1, ReasonCode.QUOTA_EXCEEDED), True),
        (2, p.PubComp(1), True),
        (2, p.PubComp(2), False),
        (1, p.PubAck(2), False),
    ],
)
def test_what_gives_the_peer_its_quota_back(role: Role, qos: int, answer: p.Packet, frees: bool) -> None:
    receiver = connection(role, own_receive=1)
    assert tell(receiver, publish(1, qos)) == [publish(1, qos)]
    receiver.send(answer, 0.0)
    if frees:
        assert tell(receiver, publish(3, qos)) == [publish(3, qos)]
    else:
        assert ended_with(receiver, publish(3, qos)) is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


@pytest.mark.conformance("MQTT-4.9.0-3")
@pytest.mark.parametrize("role", Role)
def test_a_message_that_is_sent_again_counts_once(role: Role) -> None:
    receiver = connection(role, own_receive=1)
    again = evolve(publish(1, 2), dup=True)
    assert tell(receiver, publish(1, 2), again, p.PubRel(9), p.PingReq() if role is SERVER else p.PingResp())[:2] == [
        publish(1, 2),
        again,
    ]
    assert receiver.connected


def test_without_a_receive_maximum_65_535_are_allowed() -> None:
    receiver = connection(SERVER)
    data = b"".join(encode(publish(packet_id, 1)) for packet_id in range(1, 65_536))
    receiver.receive(data, 0.0)
    assert len(events(receiver)) == 65_535
    assert receiver.connected


# ------------------------------------------------------------------------------------ Maximum QoS, Retain Available


@pytest.mark.conformance("MQTT-3.2.2-14")
@pytest.mark.parametrize(
    ("limits", "packet", "code"),
    [
        pytest.param(
            Limits(maximum_qos=1),
            publish(1, 2),
            ReasonCode.QOS_NOT_SUPPORTED,
            marks=pytest.mark.conformance("MQTT-3.2.2-11"),
        ),
        (Limits(maximum_qos=0), publish(1, 1), ReasonCode.QOS_NOT_SUPPORTED),
        (
            Limits(retain_available=False),
            p.Publish("t", retain=True),
            ReasonCode.RETAIN_NOT_SUPPORTED,
        ),
        pytest.param(
            Limits(),
            p.Publish("t", subscription_identifiers=(1,)),
            ReasonCode.PROTOCOL_ERROR,
            marks=pytest.mark.conformance("MQTT-3.3.4-6"),
        ),
    ],
)
def test_what_the_server_does_not_support(limits: Limits, packet: p.Publish, code: ReasonCode) -> None:
    assert ended_with(server(limits=limits), packet) is code
    assert tell(client(limits=limits), packet) == [packet]  # these bind clients only
    old = server(p.Connect(protocol_version=V311), p.ConnAck(), limits)
    if not packet.subscription_identifiers:
        assert tell(server(), packet) == [packet]  # without a limit
        assert len(tell(old, packet)) == 1
        assert (old.connected, old.take_output()) == (False, b"")


@pytest.mark.parametrize(
    ("connack", "packet", "code"),
    [
        (p.ConnAck(maximum_qos=1), publish(1, 2), ReasonCode.QOS_NOT_SUPPORTED),
        (p.ConnAck(maximum_qos=0), publish(1, 1), ReasonCode.QOS_NOT_SUPPORTED),
        (p.ConnAck(retain_available=False), p.Publish("t", retain=True), ReasonCode.RETAIN_NOT_SUPPORTED),
        (p.ConnAck(), p.Publish("t", subscription_identifiers=(1,)), ReasonCode.PROTOCOL_ERROR),
    ],
)
def test_the_client_does_not_send_it(connack: p.ConnAck, packet: p.Publish, code: ReasonCode) -> None:
    sender = client(connack=connack)
    with pytest.raises(LocalProtocolError) as caught:
        sender.send(packet, 0.0)
    assert caught.value.reason_code is code
    assert (sender.take_output(), sender.connected) == (b"", True)


# ------------------------------------------------------------------------------------------------- Topic Alias


def aliased(topic: str, alias: int) -> p.Publish:
    return p.Publish(topic, topic_alias=alias)


@pytest.mark.conformance("MQTT-3.3.2-10", "MQTT-3.3.2-12")
@pytest.mark.parametrize("role", Role)
def test_an_alias_stands_for_the_topic_that_it_was_last_set_to(role: Role) -> None:
    receiver = connection(role, own_aliases=3)
    packets = [("a", 1), ("b", 3), ("", 1), ("c", 1), ("", 3), ("", 1), ("b", 2), ("", 2)]
    found = tell(receiver, *[aliased(*packet) for packet in packets])
    topics = [packet.topic for packet in found if isinstance(packet, p.Publish)]
    assert topics == ["a", "b", "a", "c", "b", "c", "b", "b"]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("maximum", "packet", "code"),
    [
        pytest.param(
            3,
            aliased("t", 4),
            ReasonCode.TOPIC_ALIAS_INVALID,
            marks=pytest.mark.conformance("MQTT-3.2.2-17", "MQTT-3.3.2-9", "MQTT-3.3.2-11"),
        ),
        (3, aliased("", 4), ReasonCode.TOPIC_ALIAS_INVALID),
        pytest.param(
            None,
            aliased("t", 1),
            ReasonCode.TOPIC_ALIAS_INVALID,
            marks=pytest.mark.conformance("MQTT-3.2.2-18", "MQTT-3.1.2-27"),
        ),
        (0, aliased("t", 1), ReasonCode.TOPIC_ALIAS_INVALID),
        (3, aliased("", 3), ReasonCode.PROTOCOL_ERROR),
    ],
)
def test_an_alias_that_there_cannot_be(role: Role, maximum: int | None, packet: p.Publish, code: ReasonCode) -> None:
    assert ended_with(connection(role, own_aliases=maximum), packet) is code


@pytest.mark.conformance("MQTT-3.1.2-26", "MQTT-3.1.2-27", "MQTT-3.2.2-17")
@pytest.mark.parametrize("role", Role)
def test_an_alias_of_ours_must_be_announced_and_set(role: Role) -> None:
    sender = connection(role, peer_aliases=2)
    for wrong in (aliased("t", 3), aliased("", 1), aliased("t", 0), aliased("", 0), p.Publish("")):
        with pytest.raises(LocalProtocolError):
            sender.send(wrong, 0.0)
    with pytest.raises(PacketTooLarge):
        sender.peer_maximum_packet_size = 10
        sender.send(aliased("long enough", 1), 0.0)
    with pytest.raises(LocalProtocolError):  # what was not sent has not set it
        sender.send(aliased("", 1), 0.0)
    assert sender.take_output() == b""
    for right in (aliased("t", 2), aliased("", 2), aliased("u", 2), aliased("", 2)):
        sender.send(right, 0.0)
    assert len(sent(sender)) == 4


@given(
    topics=st.lists(st.sampled_from("abcde"), max_size=30),
    explicit=st.sets(st.integers(0, 29)),
    peer=st.integers(0, 4),
    own=st.integers(0, 4),
)
def test_assigned_aliases_are_understood(topics: list[str], explicit: set[int], peer: int, own: int) -> None:
    """As the broker sends: an alias where there is one, and now and then an owner's own choice."""
    sender = connection(SERVER, peer_aliases=peer, limits=Limits(assigned_topic_aliases=own))
    receiver = connection(CLIENT, own_aliases=peer)
    for index, topic in enumerate(topics):
        if index in explicit and peer:
            sender.send(aliased(topic, index % peer + 1), 0.0)
        else:
            alias, known = sender.alias_for(topic)
            assert alias <= min(peer, own) or known
            message = message_from(p.Publish(topic), 0.0)
            sender.out.append(message.encode(V5, 0, False, False, 0, 0.0, (), alias, known))
            if alias and not known:
                sender.alias_sent(topic, alias)
        receiver.receive(sender.take_output(), 0.0)
        [found] = events(receiver)
        assert isinstance(found, p.Publish)
        assert found.topic == topic


def test_a_topic_keeps_its_alias() -> None:
    sender = connection(SERVER, peer_aliases=2)
    assert sender.alias_for("a") == (1, False)
    assert sender.alias_for("a") == (1, False)
    sender.alias_sent("a", 1)
    assert sender.alias_for("a") == (1, True)
    sender.alias_sent("b", 2)
    assert sender.alias_for("c") == (0, False)


# -------------------------------------------------------------------------------------------------------- time


@pytest.mark.conformance("MQTT-3.1.2-22")
@pytest.mark.parametrize("version", [V311, V5])
def test_a_silent_client(version: int) -> None:
    silent = server(p.Connect(keep_alive=10, protocol_version=version), now=100.0)
    assert silent.next_deadline() == 115.0
    tell(silent, p.PingReq(), now=104.0)
    silent.send(p.PingResp(), 110.0)  # what the server sends does not count
    silent.take_output()
    assert silent.next_deadline() == 119.0
    silent.handle_timeout(118.9)
    assert silent.connected
    silent.handle_timeout(119.0)
    [closed] = events(silent)
    assert isinstance(closed, ConnectionClosed)
    assert (closed.by, closed.reason_code) == ("timeout", ReasonCode.KEEP_ALIVE_TIMEOUT)
    words = sent(silent)
    if version == V5:
        [word] = words
        assert isinstance(word, p.Disconnect)
        assert word.reason_code is ReasonCode.KEEP_ALIVE_TIMEOUT
    else:
        assert words == []
    assert silent.next_deadline() == inf
    silent.handle_timeout(1e9)
    assert events(silent) == []


@pytest.mark.conformance("MQTT-3.1.2-21", "MQTT-3.2.2-21", "MQTT-3.2.2-22")
@pytest.mark.parametrize(("own", "server_keep_alive", "granted"), [(10, None, 10), (10, 4, 4), (0, 4, 4), (10, 0, 0)])
def test_server_keep_alive_replaces_the_clients(own: int, server_keep_alive: int | None, granted: int) -> None:
    connect, connack = p.Connect(keep_alive=own), p.ConnAck(server_keep_alive=server_keep_alive)
    assert server(connect, connack).next_deadline() == (1.5 * granted or inf)
    assert client(connect, connack).next_deadline() == (0.75 * granted or inf)


def test_the_time_that_the_verdict_takes_is_not_the_clients_silence() -> None:
    slow = server_with(p.Connect(keep_alive=10))
    assert slow.next_deadline() == inf
    slow.handle_timeout(1000.0)
    slow.send(p.ConnAck(), 1000.0)
    assert slow.next_deadline() == 1015.0


@pytest.mark.conformance("MQTT-3.1.2-20")
def test_pingreq_goes_out_in_time() -> None:
    pinging = client(p.Connect(keep_alive=20))
    pinging.send(p.Publish("t"), 10.0)
    pinging.take_output()
    assert pinging.next_deadline() == 25.0
    pinging.handle_timeout(24.0)
    assert pinging.take_output() == b""
    pinging.handle_timeout(25.0)
    assert sent(pinging) == [p.PingReq()]
    assert pinging.next_deadline() == 45.0
    pinging.send(p.Publish("t"), 30.0)  # other packets do not stand for the answer
    tell(pinging, p.Publish("t"), now=40.0)
    assert pinging.next_deadline() == 45.0
    tell(pinging, p.PingResp(), now=41.0)
    assert pinging.next_deadline() == 45.0
    pinging.handle_timeout(45.0)
    assert sent(pinging)[-1] == p.PingReq()
    pinging.handle_timeout(65.0)
    [closed] = events(pinging)
    assert isinstance(closed, ConnectionClosed)
    assert (closed.by, closed.reason_code) == ("timeout", ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert pinging.take_output() == b""


@given(
    keep_alive=st.integers(1, 100),
    actions=st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=20),
)
def test_a_client_whose_deadlines_are_kept_is_never_silent_for_too_long(
    keep_alive: int, actions: list[tuple[float, bool]]
) -> None:
    ours = client(p.Connect(keep_alive=keep_alive))
    theirs = server(p.Connect(keep_alive=keep_alive))
    now = 0.0
    for wait, publishes in [*actions, (keep_alive * 5.0, False)]:
        until = now + wait
        while (due := min(ours.next_deadline(), theirs.next_deadline())) <= until:
            now = due
            ours.handle_timeout(now)
            exchange(ours, theirs, now)
            theirs.handle_timeout(now)
            assert ours.connected
            assert theirs.connected
        now = until
        if publishes:
            ours.send(p.Publish("t"), now)
        exchange(ours, theirs, now)


def exchange(ours: Connection, theirs: Connection, now: float) -> None:
    output = ours.take_output()
    if output:
        theirs.receive(output, now)
    for event in events(theirs):
        if isinstance(event, p.PingReq):
            theirs.send(p.PingResp(), now)
    answers = theirs.take_output()
    if answers:
        ours.receive(answers, now)
    events(ours)


def test_a_server_that_takes_no_pingreq() -> None:
    pinging = client(p.Connect(keep_alive=20), p.ConnAck(maximum_packet_size=1))
    pinging.handle_timeout(20.0)
    [closed] = events(pinging)
    assert isinstance(closed, ConnectionClosed)
    assert (closed.by, closed.reason_code) == ("us", ReasonCode.PACKET_TOO_LARGE)


@pytest.mark.parametrize("role", Role)
def test_the_connect_time_out(role: Role) -> None:
    waiting = Connection(role, Limits(connect_timeout=7.0), 100.0)
    assert waiting.next_deadline() == 107.0
    waiting.receive(b"\x10" if role is SERVER else b"", 106.0)
    assert events(waiting) == []
    waiting.handle_timeout(107.0)
    [closed] = events(waiting)
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "timeout"
    assert waiting.take_output() == b""


def test_the_time_out_for_connack() -> None:
    waiting = Connection(CLIENT, Limits(connect_timeout=7.0), 100.0)
    waiting.send(p.Connect(authentication_method="m"), 103.0)
    assert waiting.next_deadline() == 110.0
    tell(waiting, p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m"), now=109.0)
    waiting.handle_timeout(110.0)
    [closed] = events(waiting)
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "timeout"


# ---------------------------------------------------------------------------------------------- the limits themselves


@pytest.mark.parametrize("field", describe(Limits), ids=lambda field: str(field.name))
def test_every_limit_is_described_and_checked(field: "Attribute[Any]") -> None:
    name, metadata = field.name, field.metadata
    make: Any = Limits
    assert metadata["unit"]
    assert metadata["meaning"]
    default = getattr(Limits(), name)
    if isinstance(default, bool):
        with pytest.raises(TypeError):
            make(**{name: 1})
        return
    low, high = metadata["low"], metadata["high"]
    assert low <= default <= high
    for inside in (low, high):
        assert getattr(make(**{name: inside}), name) == inside
    for outside in (low - 1, high + 1):
        with pytest.raises(ValueError, match=name):
            make(**{name: outside})
