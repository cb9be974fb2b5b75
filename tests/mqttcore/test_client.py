"""The client: its QoS 1 and 2 flows over a link that breaks, what it reports, and that no server can break it."""

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mqttcore import packets as p
from mqttcore.client import MAXIMUM_REQUESTS, Client, Delivered, Event
from mqttcore.codec import encode
from mqttcore.codes import ReasonCode
from mqttcore.errors import LocalProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.session import Session
from mqttcore.states import CLIENT
from tests.mqttcore.support import Server, packets_in, streams

LOST = ReasonCode.UNSPECIFIED_ERROR
FIRST = p.Connect(client_id="c")
AGAIN = p.Connect(client_id="c", clean_start=False)


def events(client: Client) -> list[Event]:
    found = []
    while (event := client.next_event()) is not None:
        found.append(event)
    return found


def tell(client: Client, *packets: p.Packet, now: float = 0.0) -> list[Event]:
    """Have a client receive packets, and give the events that follow."""
    client.receive(b"".join(encode(packet, client.connection.version) for packet in packets), now)
    return events(client)


def sent(client: Client) -> list[p.Packet]:
    return packets_in(client.take_output(), client.connection.version)


def connected(
    connect: p.Connect = FIRST, connack: p.ConnAck | None = None, session: Session | None = None, **limits: Any
) -> Client:
    """A client after its CONNACK; what it sends because of that is in its output, CONNECT is not."""
    client = Client(connect, 0.0, limits=Limits(**limits), session=session)
    client.take_output()
    connack = connack or p.ConnAck()
    assert tell(client, connack)[-1] == connack
    return client


# ------------------------------------------------------------------------------------------ a link that breaks


class Cable:
    """A client and its server over network connections that break, with Session State that outlives them."""

    def __init__(self, to_server: int, to_client: int, server: Server) -> None:
        self.speed = (to_server, to_client)  # bytes that move in one turn, either way
        self.server = server
        self.session: Session | None = None
        self.heard: list[Event] = []
        self.open(FIRST)

    def open(self, connect: p.Connect) -> None:
        """A new network connection."""
        self.client = Client(connect, 0.0, session=self.session)
        self.session = self.client.session
        self.server.open()
        self.up = b""
        self.down = b""

    def turn(self) -> int:
        """Some bytes move in either direction; how many."""
        self.up += self.client.take_output()
        self.down += self.server.connection.take_output()
        up, self.up = self.up[: self.speed[0]], self.up[self.speed[0] :]
        down, self.down = self.down[: self.speed[1]], self.down[self.speed[1] :]
        self.server.receive(up)
        self.client.receive(down, 0.0)
        self.heard += events(self.client)
        return len(up) + len(down)

    def run(self, turns: float = float("inf")) -> int:
        """Turns until nothing moves any more, or as many as are allowed; how many there were."""
        done = 0
        while done < turns and self.turn():
            done += 1
        return done

    def cut(self) -> None:
        """The network connection breaks, and what is on its way is lost; the client comes back."""
        self.client.receive_eof(0.0)
        self.heard += events(self.client)
        assert isinstance(self.heard[-1], ConnectionClosed)
        self.open(AGAIN)


PUBLISHED = {b"1": 1, b"2": 2, b"3": 2, b"4": 1}
FROM_SERVER = {b"a": 2, b"b": 1, b"c": 2}


def traffic(to_server: int, to_client: int, receive_maximum: int | None = None) -> Cable:
    """Messages of QoS 1 and 2 in both directions that are about to be sent."""
    cable = Cable(to_server, to_client, Server(p.ConnAck(receive_maximum=receive_maximum)))
    while not cable.client.connected:
        cable.turn()
    cable.client.subscribe((p.Subscription("to/client", 2),), 0.0)
    numbers = [cable.client.publish(p.Publish("t", body, qos=qos), 0.0) for body, qos in PUBLISHED.items()]
    assert numbers == [1, 2, 3, 4]
    for body, qos in FROM_SERVER.items():
        cable.server.publish(body, qos)
    return cable


def check(cable: Cable, *, cuts: int) -> None:
    """QoS 1 has arrived at least once, QoS 2 exactly once, in order; every publication was reported, once."""
    assert cable.client.pending == cable.server.session.pending == 0
    there = cable.server.received
    back = [event.payload for event in cable.heard if isinstance(event, p.Publish)]
    for arrived, published in ((there, PUBLISHED), (back, FROM_SERVER)):
        count = Counter(arrived)
        assert set(count) == set(published)
        for body, qos in published.items():  # QoS 2 exactly once
            assert 1 <= count[body] <= (1 if qos == 2 else 1 + cuts)
        for level in (1, 2):  # first arrivals are in order
            bodies = [body for body, qos in published.items() if qos == level]
            assert [body for body in dict.fromkeys(arrived) if body in bodies] == bodies
    reports = [event for event in cable.heard if isinstance(event, Delivered)]
    assert Counter(event.number for event in reports) == Counter([1, 2, 3, 4])
    assert {event.reason_code for event in reports} == {ReasonCode.SUCCESS}
    assert cable.server.session.unreleased == cable.client.session.unreleased == set()
    assert not cable.client.connection.unsettled
    assert not cable.server.connection.unsettled


SPEEDS = [(1, 1), (9, 1), (1, 9), (1000, 1), (1, 1000), (4, 4)]


@pytest.mark.conformance("MQTT-4.3.3-10")
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("receive_maximum", [None, 1])
def test_a_cut_at_every_place(speed: tuple[int, int], receive_maximum: int | None) -> None:
    turns = traffic(*speed, receive_maximum).run()
    for place in range(turns + 1):
        cable = traffic(*speed, receive_maximum)
        assert cable.run(place) == place
        cable.cut()
        cable.run()
        check(cable, cuts=1)


@given(
    speed=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    receive_maximum=st.none() | st.integers(1, 3),
)
@settings(max_examples=100)
def test_cuts_at_many_places(speed: tuple[int, int], cuts: list[int], receive_maximum: int | None) -> None:
    cable = traffic(*speed, receive_maximum)
    for place in cuts:
        cable.run(place)
        cable.cut()
    cable.run()
    check(cable, cuts=len(cuts))


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_server_that_has_lost_the_session_after_a_cut_at_every_place(speed: tuple[int, int]) -> None:
    for place in range(traffic(*speed, 2).run() + 1):
        cable = traffic(*speed, 2)
        cable.run(place)
        cable.server.has_session = False
        cable.server.session.clear()
        cable.cut()
        cable.run()
        reports = [event for event in cable.heard if isinstance(event, Delivered)]
        assert sorted(event.number for event in reports) == [1, 2, 3, 4]  # delivered or lost, but not forgotten
        assert {event.reason_code for event in reports} <= {ReasonCode.SUCCESS, LOST}
        assert cable.client.pending == 0
        counts = Counter(cable.server.received)
        assert all(counts[body] <= 1 for body, qos in PUBLISHED.items() if qos == 2)


# ------------------------------------------------------------------------------------------------- the session


@pytest.mark.conformance("MQTT-3.2.2-4")
def test_a_session_that_the_client_knows_nothing_of() -> None:
    client = Client(AGAIN, 0.0)
    client.take_output()
    [closed] = tell(client, p.ConnAck(session_present=True))
    assert isinstance(closed, ConnectionClosed)
    assert (closed.by, closed.reason_code) == ("us", ReasonCode.PROTOCOL_ERROR)
    [word] = sent(client)
    assert isinstance(word, p.Disconnect)


@pytest.mark.conformance("MQTT-3.1.2-4", "MQTT-3.2.2-5")
@pytest.mark.parametrize("connect", [FIRST, AGAIN])
def test_without_a_session_at_the_server_what_was_sent_is_lost_and_what_was_not_is_sent(connect: p.Connect) -> None:
    first = connected(connack=p.ConnAck(receive_maximum=2))
    numbers = [first.publish(p.Publish("t", body, qos=qos), 0.0) for body, qos in PUBLISHED.items()]
    tell(first, p.Publish("t", qos=2, packet_id=5), p.PubRec(2))
    first.receive_eof(0.0)
    second = Client(connect, 0.0, session=first.session)
    assert second.pending == 4
    assert tell(second, p.ConnAck()) == [
        Delivered(numbers[0], LOST),
        Delivered(numbers[1], LOST),
        p.ConnAck(),
    ]
    _, three, four = sent(second)
    for packet, body in ((three, b"3"), (four, b"4")):
        assert isinstance(packet, p.Publish)
        assert (packet.payload, packet.dup) == (body, False)
    assert tell(second, p.Publish("t", qos=2, packet_id=5)) == [p.Publish("t", qos=2, packet_id=5)]


def test_nothing_is_forgotten_while_the_server_has_not_accepted() -> None:
    first = connected()
    first.publish(p.Publish("t", qos=1), 0.0)
    second = Client(FIRST, 0.0, session=first.session)
    tell(second, p.ConnAck(reason_code=ReasonCode.SERVER_BUSY))
    third = connected(AGAIN, p.ConnAck(session_present=True), second.session)
    [publish] = sent(third)
    assert isinstance(publish, p.Publish)
    assert publish.dup


def test_numbers_go_on_in_a_session_that_is_resumed() -> None:
    first = connected()
    assert [first.publish(p.Publish("t", qos=qos), 0.0) for qos in (1, 0, 2)] == [1, 0, 2]
    tell(first, p.PubAck(1))
    second = connected(AGAIN, p.ConnAck(session_present=True), first.session)
    assert second.publish(p.Publish("t", qos=1), 0.0) == 3
    assert tell(second, p.PubRec(2), p.PubComp(2), p.PubAck(3)) == [
        Delivered(2, ReasonCode.SUCCESS),
        Delivered(3, ReasonCode.SUCCESS),
    ]


@pytest.mark.conformance("MQTT-3.1.2-23", "MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-3.3.2-7", "MQTT-4.3.3-7")
def test_what_is_sent_again() -> None:
    first = connected(connack=p.ConnAck(topic_alias_maximum=5))
    publish = p.Publish("t", b"x", qos=1, topic_alias=3, message_expiry_interval=60)
    first.publish(publish, 0.0)
    first.publish(p.Publish("t", qos=2), 0.0)
    tell(first, p.PubRec(2))
    second = Client(AGAIN, 10.0, session=first.session)
    second.take_output()
    tell(second, p.ConnAck(session_present=True), now=100.0)
    assert sent(second) == [
        p.PubRel(2),
        p.Publish("t", b"x", qos=1, dup=True, packet_id=1, message_expiry_interval=0),
    ]


# --------------------------------------------------------------------------------------------------- publishing


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([p.PubAck(1)], ReasonCode.SUCCESS),
        ([p.PubAck(1, ReasonCode.NO_MATCHING_SUBSCRIBERS)], ReasonCode.NO_MATCHING_SUBSCRIBERS),
        ([p.PubAck(1, ReasonCode.NOT_AUTHORIZED), p.PubAck(1)], ReasonCode.NOT_AUTHORIZED),
        ([p.PubRec(1, ReasonCode.QUOTA_EXCEEDED), p.PubRec(1, ReasonCode.QUOTA_EXCEEDED)], ReasonCode.QUOTA_EXCEEDED),
        ([p.PubRec(1), p.PubRec(1), p.PubComp(1), p.PubComp(1)], ReasonCode.SUCCESS),
        ([p.PubComp(1), p.PubRec(1), p.PubAck(1), p.PubComp(1)], ReasonCode.SUCCESS),
        ([p.PubRec(1), p.PubComp(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)], ReasonCode.SUCCESS),
        ([p.PubRec(1, ReasonCode.QUOTA_EXCEEDED), p.PubAck(1)], ReasonCode.SUCCESS),  # no answer to QoS 1
    ],
)
def test_a_publication_is_reported_once(answers: list[p.Packet], code: ReasonCode) -> None:
    client = connected()
    number = client.publish(p.Publish("t", qos=1 if isinstance(answers[-1], p.PubAck) else 2), 0.0)
    assert client.pending == 1
    assert tell(client, *answers) == [Delivered(number, code)]
    assert client.pending == 0


@pytest.mark.conformance("MQTT-3.3.4-7", "MQTT-4.9.0-2", "MQTT-3.3.4-8", "MQTT-4.9.0-3")
def test_a_publication_waits_for_the_servers_receive_maximum() -> None:
    client = connected(connack=p.ConnAck(receive_maximum=2))
    for qos in (1, 2, 1, 2):
        client.publish(p.Publish("t", qos=qos), 0.0)
    client.publish(p.Publish("t"), 0.0)
    client.subscribe((p.Subscription("t"),), 0.0)
    assert [type(packet) for packet in sent(client)] == [p.Publish, p.Publish, p.Publish, p.Subscribe]
    tell(client, p.PubRec(2))
    assert sent(client) == [p.PubRel(2)]
    tell(client, p.PubComp(2))
    [third] = sent(client)
    assert isinstance(third, p.Publish)
    assert (third.qos, third.packet_id) == (1, 4)


@pytest.mark.conformance("MQTT-3.3.2-5", "MQTT-3.3.2-6")
def test_what_waited_too_long_is_reported_as_lost() -> None:
    client = connected(connack=p.ConnAck(receive_maximum=1))
    for interval in (None, 5, 60, 5):
        client.publish(p.Publish("t", qos=1, message_expiry_interval=interval), 0.0)
    client.take_output()
    assert tell(client, p.PubAck(1), now=10.0) == [
        Delivered(1, ReasonCode.SUCCESS),
        Delivered(2, LOST),
        Delivered(4, LOST),
    ]
    [publish] = sent(client)
    assert isinstance(publish, p.Publish)
    assert publish.message_expiry_interval == 50
    assert tell(client, p.PubAck(2), now=11.0) == [Delivered(3, ReasonCode.SUCCESS)]
    assert client.pending == 0


def test_what_waits_is_sent_without_its_topic_alias() -> None:
    client = connected(connack=p.ConnAck(receive_maximum=1, topic_alias_maximum=1))
    for topic in ("first", "second"):
        client.publish(p.Publish(topic, qos=1, topic_alias=1), 0.0)
    client.publish(p.Publish("third", topic_alias=1), 0.0)
    tell(client, p.PubAck(1))
    client.publish(p.Publish("", topic_alias=1), 0.0)  # still the third topic
    packets = [packet for packet in sent(client) if isinstance(packet, p.Publish)]
    assert [(packet.topic, packet.topic_alias) for packet in packets] == [
        ("first", 1),
        ("third", 1),
        ("second", None),
        ("", 1),
    ]


@pytest.mark.conformance(
    "MQTT-3.2.2-11", "MQTT-3.2.2-14", "MQTT-3.2.2-15", "MQTT-3.2.2-17", "MQTT-3.2.2-18",
    "MQTT-3.3.2-2", "MQTT-3.3.2-9", "MQTT-3.3.4-6",
)  # fmt: skip
@pytest.mark.parametrize(
    ("publish", "connack", "code"),
    [
        (p.Publish("t", qos=2), p.ConnAck(maximum_qos=1), ReasonCode.QOS_NOT_SUPPORTED),
        (p.Publish("t", qos=1), p.ConnAck(maximum_qos=0), ReasonCode.QOS_NOT_SUPPORTED),
        (p.Publish("t", retain=True), p.ConnAck(retain_available=False), ReasonCode.RETAIN_NOT_SUPPORTED),
        (p.Publish("t", topic_alias=3), p.ConnAck(topic_alias_maximum=2), ReasonCode.TOPIC_ALIAS_INVALID),
        (p.Publish("t", qos=1, topic_alias=1), p.ConnAck(), ReasonCode.TOPIC_ALIAS_INVALID),
        (p.Publish("t", subscription_identifiers=(1,)), p.ConnAck(), ReasonCode.PROTOCOL_ERROR),
        (p.Publish("", qos=1, topic_alias=1), p.ConnAck(topic_alias_maximum=2), ReasonCode.PROTOCOL_ERROR),
        (p.Publish("+", qos=1), p.ConnAck(), ReasonCode.TOPIC_NAME_INVALID),
        (p.Publish("t", bytes(50)), p.ConnAck(maximum_packet_size=40), ReasonCode.PACKET_TOO_LARGE),
    ],
)
def test_what_the_server_does_not_take_is_not_published(
    publish: p.Publish, connack: p.ConnAck, code: ReasonCode
) -> None:
    client = connected(connack=connack)
    with pytest.raises(LocalProtocolError) as caught:
        client.publish(publish, 0.0)
    assert caught.value.reason_code is code
    assert (client.take_output(), client.pending) == (b"", 0)


@pytest.mark.conformance("MQTT-3.2.2-15")
def test_what_a_new_connections_server_does_not_take_is_reported() -> None:
    first = connected()
    for qos, size in ((2, 0), (1, 100), (1, 0)):
        first.publish(p.Publish("t", bytes(size), qos=qos), 0.0)
    connack = p.ConnAck(session_present=True, maximum_qos=1, maximum_packet_size=50)
    second = Client(AGAIN, 0.0, session=first.session)
    second.take_output()
    assert tell(second, connack) == [
        Delivered(1, ReasonCode.QOS_NOT_SUPPORTED),
        Delivered(2, ReasonCode.PACKET_TOO_LARGE),
        connack,
    ]
    assert len(sent(second)) == second.pending == 1


def test_the_queue_has_a_bound() -> None:
    client = connected(connack=p.ConnAck(receive_maximum=1), maximum_queued_messages=2)
    for _ in range(3):
        client.publish(p.Publish("t", qos=1), 0.0)
    with pytest.raises(LocalProtocolError) as caught:
        client.publish(p.Publish("t", qos=1), 0.0)
    assert caught.value.reason_code is ReasonCode.QUOTA_EXCEEDED
    assert client.pending == 3


# ----------------------------------------------------------------------------------------------- everything else


@pytest.mark.conformance("MQTT-2.2.1-3")
def test_subscribe_and_unsubscribe() -> None:
    client = connected()
    client.publish(p.Publish("t", qos=1), 0.0)
    subscribe = client.subscribe((p.Subscription("a/#", 1),), 0.0, subscription_identifier=7)
    unsubscribe = client.unsubscribe(("b",), 0.0, user_properties=(("k", "v"),))
    assert sent(client)[1:] == [
        p.Subscribe(subscribe, (p.Subscription("a/#", 1),), subscription_identifier=7),
        p.Unsubscribe(unsubscribe, ("b",), user_properties=(("k", "v"),)),
    ]
    assert len({1, subscribe, unsubscribe}) == 3
    answers: list[p.Packet] = [
        p.UnsubAck(unsubscribe, (ReasonCode.SUCCESS,)),
        p.SubAck(subscribe, (ReasonCode.GRANTED_QOS_1,)),
    ]
    assert tell(client, *answers) == answers
    assert client.session.requests == set()


def test_requests_have_a_bound_and_end_with_the_connection() -> None:
    client = connected()
    for _ in range(MAXIMUM_REQUESTS):
        client.subscribe((p.Subscription("t"),), 0.0)
    with pytest.raises(LocalProtocolError) as caught:
        client.unsubscribe(("t",), 0.0)
    assert caught.value.reason_code is ReasonCode.QUOTA_EXCEEDED
    client = connected(AGAIN, p.ConnAck(session_present=True), client.session)
    client.subscribe((p.Subscription("t"),), 0.0)


def test_a_request_that_cannot_be_sent_takes_no_identifier() -> None:
    client = connected()
    with pytest.raises(LocalProtocolError):
        client.subscribe((), 0.0)
    with pytest.raises(LocalProtocolError):
        client.unsubscribe(("a/#/b",), 0.0)
    assert (client.session.requests, client.take_output()) == (set(), b"")


def test_nothing_can_be_asked_of_a_server_that_has_not_accepted() -> None:
    client = Client(FIRST, 0.0)
    for call in (
        lambda: client.publish(p.Publish("t"), 0.0),
        lambda: client.subscribe((p.Subscription("t"),), 0.0),
        lambda: client.unsubscribe(("t",), 0.0),
        lambda: client.authenticate(b"", 0.0),
        lambda: client.reauthenticate(b"", 0.0),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    assert sent(client) == [FIRST]


@pytest.mark.conformance(
    "MQTT-4.5.0-2",
    "MQTT-4.6.0-2",
    "MQTT-4.6.0-3",
    "MQTT-4.3.2-4",
    "MQTT-4.3.3-8",
    "MQTT-4.3.3-10",
    "MQTT-4.3.3-11",
    "MQTT-4.3.3-12",
    "MQTT-4.3.2-5",
)
def test_messages_are_acknowledged_as_they_are_taken() -> None:
    client = connected(p.Connect(client_id="c", receive_maximum=2))
    publishes = [p.Publish("t", qos=2, packet_id=9), p.Publish("t", qos=1, packet_id=8), p.Publish("t")]
    client.receive(b"".join(map(encode, publishes)), 0.0)
    for publish, answer in zip(publishes, ([p.PubRec(9)], [p.PubAck(8)], []), strict=True):
        assert client.take_output() == b""
        assert client.next_event() == publish
        assert sent(client) == answer
    assert tell(client, p.Publish("t", qos=2, packet_id=9, dup=True)) == []
    assert sent(client) == [p.PubRec(9)]
    assert tell(client, p.PubRel(9), p.PubRel(9)) == []
    not_found = p.PubComp(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    assert sent(client) == [p.PubComp(9), not_found]
    assert tell(client, publishes[0]) == publishes[:1]
    assert tell(client, publishes[1]) == publishes[1:2]


@pytest.mark.conformance("MQTT-4.12.0-3", "MQTT-4.12.0-5", "MQTT-4.12.1-1")
def test_authentication_and_re_authentication() -> None:
    client = Client(p.Connect(authentication_method="m", authentication_data=b"1"), 0.0)
    client.take_output()
    challenge = p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m", authentication_data=b"?")
    answer = p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m", authentication_data=b"!")
    assert tell(client, challenge) == [challenge]
    client.authenticate(b"!", 0.0)
    assert sent(client) == [answer]
    tell(client, p.ConnAck(authentication_method="m"))
    client.reauthenticate(b"2", 0.0)
    with pytest.raises(LocalProtocolError):
        client.authenticate(b"unasked", 0.0)
    assert sent(client) == [p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m", authentication_data=b"2")]
    assert tell(client, challenge, p.Publish("t")) == [challenge, p.Publish("t")]
    client.authenticate(b"!", 0.0)
    client.publish(p.Publish("t"), 0.0)
    assert sent(client) == [answer, p.Publish("t")]


def test_disconnect() -> None:
    client = connected(p.Connect(session_expiry_interval=5))
    client.disconnect(0.0, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, session_expiry_interval=0)
    word = p.Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, session_expiry_interval=0)
    assert sent(client) == [word]
    [closed] = tell(client, p.Publish("t", qos=1, packet_id=1))
    assert isinstance(closed, ConnectionClosed)
    assert not client.connected
    assert client.take_output() == b""


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(
    "packet", [p.Publish("t", qos=1, packet_id=1), p.Publish("t", qos=2, packet_id=1), p.PubRel(1), p.PubRec(1)]
)
def test_a_server_that_takes_no_answer_is_left(size: int, packet: p.Packet) -> None:
    client = connected(connack=p.ConnAck(maximum_packet_size=size))
    *_, closed = tell(client, packet)
    assert isinstance(closed, ConnectionClosed)
    assert closed.reason_code is ReasonCode.PACKET_TOO_LARGE
    assert client.take_output() == b""


def test_a_server_that_takes_no_pubrel_is_left() -> None:
    first = connected()
    for _ in range(2):
        first.publish(p.Publish("t", qos=2), 0.0)
    tell(first, p.PubRec(1), p.PubRec(2))
    second = Client(AGAIN, 0.0, session=first.session)
    second.take_output()
    found = tell(second, p.ConnAck(session_present=True, maximum_packet_size=3))
    assert isinstance(found[-1], ConnectionClosed)
    assert (second.take_output(), second.pending) == (b"", 2)


def test_the_end_of_a_connection_is_the_last_event() -> None:
    client = connected(p.Connect(keep_alive=10))
    assert client.next_deadline() == 7.5
    client.handle_timeout(7.5)
    assert sent(client) == [p.PingReq()]
    assert tell(client, p.PingResp(), now=8.0) == []
    client.handle_timeout(15.0)
    client.handle_timeout(25.0)
    [closed] = events(client)
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "timeout"
    assert client.next_deadline() == float("inf")
    assert tell(client, p.PingResp()) == []


class HostileServer(RuleBasedStateMachine):
    """A server that says anything at any moment, to a client that is being used: the client never breaks."""

    @initialize(connect=st.sampled_from([FIRST, AGAIN, p.Connect(authentication_method="m", keep_alive=9)]))
    def begin(self, connect: p.Connect) -> None:
        self.now = 0.0
        self.client = Client(connect, 0.0, limits=Limits(maximum_queued_messages=3))
        self.over = False

    @rule(data=st.data())
    def a_conversation(self, data: st.DataObject) -> None:
        self.client.receive(data.draw(streams(CLIENT, self.client.connection.version)), self.now)

    @rule(
        size=st.none() | st.integers(1, 30),
        maximum=st.none() | st.integers(1, 2),
        qos=st.none() | st.integers(0, 1),
        present=st.booleans(),
    )
    def connack(self, size: int | None, maximum: int | None, qos: int | None, present: bool) -> None:
        method = self.client.connection.authentication_method
        connack = p.ConnAck(
            session_present=present,
            maximum_packet_size=size,
            receive_maximum=maximum,
            maximum_qos=qos,
            authentication_method=method,
        )
        self.client.receive(encode(connack), self.now)

    @rule(
        kind=st.sampled_from([p.PubAck, p.PubRec, p.PubRel, p.PubComp]),
        packet_id=st.integers(1, 4),
        code=st.sampled_from([ReasonCode.SUCCESS, ReasonCode.NOT_AUTHORIZED]),
    )
    def an_answer(self, kind: type, packet_id: int, code: ReasonCode) -> None:
        if kind in (p.PubRel, p.PubComp):
            code = ReasonCode.SUCCESS
        self.client.receive(encode(kind(packet_id, code)), self.now)

    @rule(qos=st.integers(1, 2), packet_id=st.integers(1, 4))
    def a_message(self, qos: int, packet_id: int) -> None:
        self.client.receive(encode(p.Publish("t", qos=qos, packet_id=packet_id)), self.now)

    @rule(qos=st.integers(0, 2), size=st.integers(0, 30), interval=st.none() | st.integers(0, 5))
    def publish(self, qos: int, size: int, interval: int | None) -> None:
        with suppress(LocalProtocolError):
            self.client.publish(p.Publish("t", bytes(size), qos=qos, message_expiry_interval=interval), self.now)

    @rule()
    def subscribe(self) -> None:
        with suppress(LocalProtocolError):
            self.client.subscribe((p.Subscription("t"),), self.now)

    @rule()
    def an_event(self) -> None:
        event = self.client.next_event()
        assert not (self.over and event is not None)
        self.over = self.over or isinstance(event, ConnectionClosed)
        packets_in(self.client.take_output(), self.client.connection.version)

    @rule(seconds=st.sampled_from([1.0, 7.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.client.handle_timeout(self.now)

    @rule(connect=st.sampled_from([FIRST, AGAIN]))
    def it_connects_again(self, connect: p.Connect) -> None:
        self.client = Client(connect, self.now, session=self.client.session)
        self.over = False


TestHostileServer = HostileServer.TestCase
TestHostileServer.settings = settings(max_examples=70, stateful_step_count=25)
