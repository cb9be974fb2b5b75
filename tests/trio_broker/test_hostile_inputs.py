"""Inputs that broke other brokers, over a stream: the connection ends or goes on as it should, and nobody else notices.

The core has its own tests of them; here nothing may reach the log as a fault of the broker, or stay open.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from mqttcore import (
    V5,
    V311,
    Auth,
    ConnAck,
    Connect,
    ConnectionClosed,
    Disconnect,
    Limits,
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
    Will,
)
from mqttcore.auth import Action, Authentication, AuthRequest, Denied, Granted, Principal
from mqttcore.authenticators.service_account import by_token_review
from mqttcore.broker import Policy
from mqttcore.broker.authorization import Resource, Rule, authorizer
from mqttcore.codec import encode, frame
from mqttcore.events import Event
from tests.mqttcore.authenticators.conversation import converse
from tests.trio_broker.resources.support import AUTOMATIC, V1, listener, loads, manifest, together
from tests.trio_broker.support import Peer, Running, running, until
from trio_broker import ServerLimits
from trio_broker.assembly import TokenVerification, login, rules
from trio_broker.effects import TokenSource

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


@asynccontextmanager
async def beside_others(limits: Limits | None = None, bounds: ServerLimits | None = None) -> AsyncIterator[Running]:
    """A server with a client who has nothing to do with what happens, and is served throughout."""
    async with running(limits=limits, bounds=bounds) as run:
        other = Peer(run.open_memory())
        await other.connect("other")
        await other.send(Subscribe(1, (Subscription("other", 1),)))
        assert isinstance(await other.receive(), SubAck)
        yield run
        await other.send(Publish("other", b"still here", qos=1, packet_id=2))
        assert {type(await other.receive()) for _ in range(2)} == {PubAck, Publish}
        await until(lambda: run.server.open_links == 1)
        assert not run.logged("internal_error")


async def ends(peer: Peer) -> Event:
    """What a connection ends with: the last packet, or ConnectionClosed if there is none."""
    last = event = await peer.receive()
    while not isinstance(event, ConnectionClosed):
        last, event = event, await peer.receive()
    await peer.stream.aclose()
    return last


async def ends_with(run: Running, data: bytes, version: int) -> None:
    """A connected client that sends this is malformed, and is told so where the protocol has a word for it."""
    peer = Peer(run.open_memory())
    await peer.connect("evil", version=version, will=Will(topic="will"))
    await peer.stream.send_all(data)
    last = await ends(peer)
    if version == V5:
        assert isinstance(last, Disconnect)
        assert last.reason_code is ReasonCode.MALFORMED_PACKET
    else:
        assert isinstance(last, ConnectionClosed)


@VERSIONS
@pytest.mark.parametrize("body", [b"\0\1t", b"\0\1t\0"])
@pytest.mark.parametrize("first", [0x32, 0x34])
async def test_a_publish_that_ends_before_its_packet_identifier(version: int, first: int, body: bytes) -> None:
    async with beside_others() as run:
        await ends_with(run, frame(first, body), version)


@VERSIONS
async def test_a_subscribe_that_ends_before_its_options_byte(version: int) -> None:
    properties = b"\0" if version == V5 else b""
    async with beside_others() as run:
        await ends_with(run, frame(0x82, b"\0\1" + properties + b"\0\1t"), version)


@pytest.mark.parametrize(
    "body",
    [b"\0\1t\x10\x01\x00", b"\0\1t\x80", b"\0\1t\xff\xff\xff\x7f", b"\0\1t\x02\x0b\x80", b"\0\1t\x02\x03\x00\x05abcde"],
)
async def test_a_property_length_or_a_variable_byte_integer_past_the_end(body: bytes) -> None:
    async with beside_others() as run:
        await ends_with(run, frame(0x30, body), V5)


@VERSIONS
@pytest.mark.parametrize("field", ["client_id", "username", "will"])
async def test_a_utf8_length_past_the_end_inside_connect(version: int, field: str) -> None:
    connect = Connect(client_id="CLIENT_ID", username="USERNAME", will=Will(topic="WILL"), protocol_version=version)
    data = bytearray(encode(connect))
    data[data.index(field.upper().encode()) - 2] = 0x7F
    async with beside_others() as run:
        peer = Peer(run.open_memory())
        await peer.stream.send_all(data)
        last = await peer.stream.receive_some()
        assert not last or last[0] == 0x20  # CONNACK
        assert await peer.stream.receive_some() == b""
        await peer.stream.aclose()


@VERSIONS
async def test_a_huge_remaining_length_with_nothing_behind_it(version: int, autojump_clock: MockClock) -> None:
    async with beside_others(Limits(connect_timeout=5)) as run:
        stream = run.open_memory()
        await stream.send_all(b"\x10\xff\xff\xff\x7f")
        assert await stream.receive_some() == b""
        assert trio.current_time() == pytest.approx(5, abs=0.1)
        await stream.aclose()
        peer = Peer(run.open_memory())
        await peer.connect("evil", version=version, keep_alive=2)
        await peer.stream.send_all(b"\x30\xff\xff\xff\x0f")
        [link] = [link for link in run.broker.links if link.client_id == "evil"]
        await ends(peer)
        assert trio.current_time() == pytest.approx(8, abs=0.1)
        assert len(link.connection.frames) < 10


@pytest.mark.parametrize("first", range(0, 256, 16))
async def test_a_first_packet_that_is_not_connect(first: int, autojump_clock: MockClock) -> None:
    async with beside_others() as run:
        stream = run.open_memory()
        await stream.send_all(b"\x10\x00" if first >> 4 == 1 else bytes((first,)))
        assert await stream.receive_some() == b""
        assert trio.current_time() == 0
        await stream.aclose()


@pytest.mark.parametrize(
    "packet", [ConnAck(), SubAck(1, (ReasonCode.SUCCESS,)), UnsubAck(1, (ReasonCode.SUCCESS,)), PingResp(), Auth()]
)
async def test_packets_of_servers_sent_to_the_server(packet: Packet) -> None:
    async with beside_others() as run:
        peer = Peer(run.open_memory())
        await peer.connect("evil")
        await peer.stream.send_all(encode(packet))
        last = await ends(peer)
        assert isinstance(last, Disconnect)
        assert last.reason_code is ReasonCode.PROTOCOL_ERROR


async def test_thousands_of_user_properties() -> None:
    properties = tuple((f"name {number % 7}", f"{number}") for number in range(5000))
    async with beside_others() as run:
        peer = Peer(run.open_memory())
        await peer.connect("a", user_properties=properties)
        await peer.send(Subscribe(1, (Subscription("t", 0),), user_properties=properties))
        assert isinstance(await peer.receive(), SubAck)
        await peer.send(Publish("t", b"x", user_properties=properties))
        arrived = await peer.receive()
        assert isinstance(arrived, Publish)
        assert arrived.user_properties == properties
        await peer.stream.aclose()


@VERSIONS
async def test_qos_2_identifiers_that_are_never_released(version: int) -> None:
    async with beside_others(Limits(receive_maximum=10)) as run:
        peer = Peer(run.open_memory())
        await peer.connect("evil", version=version)
        count = 100
        for packet_id in range(1, count + 1):
            await peer.stream.send_all(encode(Publish("t", qos=2, packet_id=packet_id), version))
        if version == V5:
            last = await ends(peer)
            assert isinstance(last, Disconnect)
            assert last.reason_code is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
        else:  # which has no Receive Maximum: what bounds them is how many identifiers there are
            assert [await peer.receive() for _ in range(count)] == [PubRec(number + 1) for number in range(count)]
            await peer.stream.aclose()


@VERSIONS
async def test_reused_packet_identifiers(version: int) -> None:
    async with beside_others() as run:
        reader, peer = Peer(run.open_memory()), Peer(run.open_memory())
        await reader.connect("reader")
        await reader.send(Subscribe(1, (Subscription("t", 0),)))
        assert isinstance(await reader.receive(), SubAck)
        await peer.connect("evil", version=version)
        two = Publish("t", b"two", qos=2, packet_id=7)
        for packet in (two, evolve(two, payload=b"again", dup=True), Publish("t", b"one", qos=1, packet_id=7)):
            await peer.stream.send_all(encode(packet, version))
        assert [type(await peer.receive()) for _ in range(3)] == [PubRec, PubRec, PubAck]
        await peer.send(PubRel(7))
        assert await peer.receive() == PubComp(7)
        await peer.stream.send_all(encode(evolve(two, payload=b"anew"), version))
        assert await peer.receive() == PubRec(7)
        received = [await reader.receive() for _ in range(2)]
        payloads = [packet.payload for packet in received if isinstance(packet, Publish)]
        assert payloads == [b"two", b"anew"]  # once each; and QoS 1 under an identifier that is in use is refused
        await reader.stream.aclose()
        await peer.stream.aclose()


@VERSIONS
async def test_topics_that_begin_with_a_dollar(version: int) -> None:
    async with beside_others() as run:
        peer = Peer(run.open_memory())
        await peer.connect("a", version=version)
        filters = ("#", "+/x", "$SYS/#", "$mine/+", "$share/g/#")
        await peer.send(Subscribe(1, tuple(Subscription(each, 0) for each in filters)))
        assert isinstance(await peer.receive(), SubAck)
        for topic in ("$SYS/x", "$mine/x", "$share/g/x", "$"):  # the first is the server's, the others are like any
            await peer.send(Publish(topic, b"x"))
        await peer.send(PingReq())
        received = [await peer.receive() for _ in range(2)]
        assert [packet.topic for packet in received if isinstance(packet, Publish)] == ["$mine/x"]
        assert PingResp() in received
        await peer.stream.aclose()


@VERSIONS
@pytest.mark.parametrize("name", ["+", "#", "*", "a/#", "{principal.username}"])
async def test_wildcards_in_client_ids_and_user_names_of_access_rules(version: int, name: str) -> None:
    topics = ("by-name/{principal.username}/x", "by-id/{principal.clientId}/x")
    given = [
        Rule(
            usernames=(name,),
            resources=(
                Resource(action=Action.CONNECT, client_ids=("{principal.clientId}",)),
                Resource(action=Action.SUBSCRIBE, topics=topics),
            ),
        )
    ]
    allow = authorizer(given)

    async with beside_others() as run:
        peer = Peer(run.open_memory(Policy(authorize=allow)))
        connack = await peer.connect(name, version=version, username=name)
        if set(name) & set("/+#"):
            assert (
                connack.reason_code is ReasonCode.NOT_AUTHORIZED
            )  # a value that could widen a rule stands for nothing
        else:
            wanted = ("by-name/victim/x", "by-id/victim/x", "by-name/+/x", "by-id/#", f"by-id/{name}/x")
            await peer.send(Subscribe(1, tuple(Subscription(each, 0) for each in wanted)))
            suback = await peer.receive()
            assert isinstance(suback, SubAck)
            assert [code.is_failure for code in suback.reason_codes] == [True, True, True, True, False]
        assert not allow(Principal(name, name), Action.SUBSCRIBE, "by-name/victim/x")
        await peer.stream.aclose()


async def test_an_endless_stream_of_wrong_passwords() -> None:
    def authenticate(request: AuthRequest) -> Authentication:
        if request.password == b"right":
            return Granted()
        return Denied("the password is wrong", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        yield

    policy = Policy(authenticate=authenticate)
    async with beside_others(bounds=ServerLimits(log_lines=20, log_lines_per_address=10, log_interval=60)) as run:
        for number in range(300):
            peer = Peer(run.open_memory(policy))
            answer = await peer.connect(f"{number % 7}", username="u", password=b"guess %d" % number)
            assert answer.reason_code is ReasonCode.BAD_USER_NAME_OR_PASSWORD
            await peer.stream.aclose()
        assert "guess" not in run.file.getvalue()
        assert len(run.events) < 100
        assert {*run.broker.sessions} == {"other"}
        peer = Peer(run.open_memory(policy))
        assert (await peer.connect("u", username="u", password=b"right")).reason_code is ReasonCode.SUCCESS
        await peer.stream.aclose()


LISTENER = listener(f"- {{port: 8883, authenticationRef: auth, authorizationRef: rules, tls: {AUTOMATIC}}}")
RULES = "{rules: [{principals: {usernames: [ada]}, brokerResources: [{method: Connect}]}]}"
PASSWORDS = "{method: Password, passwordSettings: {secretName: users}}"
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"


def gets_in(users: str, rules_text: str) -> bool:
    """Whether the user ada gets in with whatever password, by these manifests."""
    methods = f"spec: {{authenticationMethods: [{PASSWORDS}]}}"
    configuration = loads(
        together(
            LISTENER,
            manifest("BrokerAuthentication", "auth", methods, V1),
            manifest("Secret", "users", users),
            manifest("BrokerAuthorization", "rules", f"spec: {{authorizationPolicies: {rules_text}}}", V1),
        )
    ).configuration
    if configuration is None:
        return False
    [port] = configuration.ports
    assert port.authentication is not None
    assert port.authorization is not None
    verification = TokenVerification(by_token_review, cast(TokenSource, None))  # which no method here asks
    authenticate = login(port.authentication, verification).authenticate
    verdict = converse(authenticate, AuthRequest(username="ada", password=b"x"), lambda _: True).verdict
    allow = authorizer(rules(port.authorization))
    return isinstance(verdict, Granted) and allow(Principal("c", "ada"), Action.CONNECT, "c")


def test_an_empty_or_malformed_password_or_rule_file_lets_nobody_in() -> None:
    users = f"stringData: {{ada: {HASH!r}}}"
    assert gets_in(users, RULES)
    for wrong in (
        "",
        "stringData: {}",
        "stringData: {ada: ''}",
        "stringData: {ada: plain text}",
        f"stringData: {{ada: {HASH[:-1]!r}}}",
        f"stringData: {{'': {HASH!r}}}",
        "data: {ada: '%'}",
        "data: {ada: /w==}",
        "stringData: [",
        f"stringData: {{bob: {HASH!r}}}",
    ):
        assert not gets_in(wrong, RULES), wrong
    for wrong in (
        "",
        "{}",
        "{rules: }",
        "{rules: []}",
        "{rules: [{}]}",
        "{rules: [{brokerResources: [{method: Connect}]}]}",
        "{rules: [{principals: {}, brokerResources: [{method: Connect}]}]}",
        "{rules: [{principals: {usernames: []}, brokerResources: [{method: Connect}]}]}",
        "{rules: [{principals: {attributes: [{}]}, brokerResources: [{method: Connect}]}]}",
        "{rules: [{principals: {usernames: [ada]}, brokerResources: []}]}",
        "{rules: [{principals: {usernames: [ada]}, brokerResources: [{method: Everything}]}]}",
        RULES[:-1],
    ):
        assert not gets_in(users, wrong), wrong
