"""The Trio client against a server that the test plays, in memory and in virtual time."""

from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock

from mqttcore import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
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
from tests.trio_broker.fake_server import FakeServer, connected
from trio_broker.client import Bounds, ClientError, open_client
from trio_broker.client.background import background

V311 = 4
UNDECIDED = Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="M")


async def refused(connack: ConnAck | None = None, **fields: Any) -> ClientError:
    """What `open_client` raises when the server answers like this (or not at all)."""
    near, far = trio.testing.memory_stream_pair()
    server = FakeServer(far)

    async def answer() -> None:
        await server.expect(Connect)
        if connack is not None:
            await server.send(connack)
            await server.stream.aclose()

    async with background() as nursery:
        nursery.start_soon(answer)
        with pytest.raises(ClientError) as caught:
            async with open_client(Connect(**fields), stream=near):
                pytest.fail("the client says that it is connected")
    return caught.value


# Connecting


async def test_connect_and_leave(autojump_clock: MockClock) -> None:
    async with connected(Connect(client_id="me", keep_alive=7)) as (client, server):
        assert client.client_id == "me"
        assert client.connected
    assert not client.connected
    assert server.rest == [Disconnect()]


async def test_the_assigned_client_identifier(autojump_clock: MockClock) -> None:
    async with connected(Connect(), {"assigned_client_identifier": "given"}) as (client, _):
        assert client.client_id == "given"
        assert client.connack.assigned_client_identifier == "given"


async def test_refusals_name_the_reason(autojump_clock: MockClock) -> None:
    error = await refused(ConnAck(reason_code=ReasonCode.NOT_AUTHORIZED, reason_string="no\x1b[2J entry"))
    assert error.reason_code == ReasonCode.NOT_AUTHORIZED
    assert str(error) == "the server refused the connection: Not authorized (0x87): no\\u001b[2J entry"


async def test_refusal_with_another_server(autojump_clock: MockClock) -> None:
    error = await refused(ConnAck(reason_code=ReasonCode.SERVER_MOVED, server_reference="b.example"))
    assert "Server moved (0x9D) (it names another server: b.example)" in str(error)


async def test_refusal_in_version_311(autojump_clock: MockClock) -> None:
    error = await refused(ConnAck(reason_code=ReasonCode.BAD_USER_NAME_OR_PASSWORD), protocol_version=V311)
    assert "Bad user name or password (0x86)" in str(error)


async def test_a_silent_server(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    error = await refused()
    assert str(error) == "no connection to localhost port 1883 within 30 s"
    assert trio.current_time() - before == pytest.approx(Bounds().connect_timeout)


async def test_something_else_than_a_server(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(b"HTTP/1.1 400 Bad Request" + bytes(100))
    with pytest.raises(ClientError, match=r"^the answer is not that of an MQTT server: "):
        async with open_client(Connect(), stream=near):
            pytest.fail("connected")


async def test_the_time_to_connect_is_bounded(autojump_clock: MockClock) -> None:
    near, _ = trio.testing.memory_stream_pair()
    with pytest.raises(ClientError, match="no connection to localhost port 1883 within 3 s"):
        async with open_client(Connect(), stream=near, bounds=Bounds(connect_timeout=3)):
            pytest.fail("connected")


async def test_a_refused_tcp_connection() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ClientError, match=f"^cannot connect to 127.0.0.1:{port}: connection refused$"):
        async with open_client(Connect(), host="127.0.0.1", port=port):
            pytest.fail("connected")


# Publishing


@pytest.mark.parametrize("version", [5, V311])
async def test_publish_at_every_qos(autojump_clock: MockClock, version: int) -> None:
    async with connected(Connect(client_id="c", protocol_version=version)) as (client, server):
        await client.publish(Publish("t", b"zero"))
        assert await server.receive() == Publish("t", b"zero")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.publish, Publish("t", b"one", qos=1, retain=True))
            one = await server.expect(Publish)
            assert (one.payload, one.qos, one.retain) == (b"one", 1, True)
            assert one.packet_id is not None
            await server.send(PubAck(one.packet_id))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.publish, Publish("t", b"two", qos=2))
            two = await server.expect(Publish)
            assert two.packet_id is not None
            await server.send(PubRec(two.packet_id))
            await server.expect(PubRel)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            await server.send(PubComp(two.packet_id))


async def test_a_message_that_is_too_large(autojump_clock: MockClock) -> None:
    async with connected(connack={"maximum_packet_size": 50}) as (client, _):
        for qos in (0, 1, 2):
            with pytest.raises(ClientError, match=r"over the peer's limit of 50|Packet too large"):
                await client.publish(Publish("t", bytes(50), qos=qos))
        await client.publish(Publish("t", bytes(20)))


async def test_a_message_that_can_no_longer_be_sent(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    async with background() as nursery:
        nursery.start_soon(FakeServer(far).accept)
        async with open_client(Connect(client_id="c"), stream=near) as client:
            assert isinstance(far.receive_stream, trio.testing.MemoryReceiveStream)
            far.receive_stream.close()
            with trio.fail_after(5), pytest.raises(ClientError, match="connection was lost"):
                async with trio.open_nursery() as ending:
                    ending.start_soon(client.ended)
                    delivery = await client.hand_over(Publish("t"))
                    await trio.testing.wait_all_tasks_blocked()
                    await far.aclose()
                await delivery.wait()


async def test_a_second_reauthentication_at_a_time(autojump_clock: MockClock) -> None:
    async with connected(with_method()) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.reauthenticate, b"two")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ClientError):
            await client.reauthenticate(b"three")
        await server.expect(Auth)
        await server.send(Auth(authentication_method="M"))


async def test_waiting_bytes_are_bounded(autojump_clock: MockClock) -> None:
    async with connected(bounds=Bounds(waiting_bytes=100)) as (client, server):
        await server.send(*(Publish("t", bytes(60), qos=1, packet_id=number) for number in range(1, 5)))
        assert (await server.expect(PubAck)).packet_id == 1
        assert (await server.expect(PubAck)).packet_id == 2
        with trio.move_on_after(10) as waiting:
            await server.receive()
        assert waiting.cancelled_caught
        assert len(await client.receive_all()) == 2
        assert len(await client.receive_all()) == 2


async def test_a_refused_message(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):
        delivery = await client.hand_over(Publish("secret", b"x", qos=1))
        packet = await server.expect(Publish)
        assert packet.packet_id is not None
        await server.send(PubAck(packet.packet_id, ReasonCode.NOT_AUTHORIZED))
        with pytest.raises(ClientError, match="refused a message to secret: Not authorized") as caught:
            await delivery.wait()
        assert caught.value.reason_code == ReasonCode.NOT_AUTHORIZED
        assert client.connected


async def test_what_the_server_does_not_allow(autojump_clock: MockClock) -> None:
    async with connected(connack={"maximum_qos": 0}) as (client, _):
        with pytest.raises(ClientError, match="QoS"):
            await client.publish(Publish("t", qos=1))
        await client.publish(Publish("t"))


async def test_handing_over_waits_for_room(autojump_clock: MockClock) -> None:
    async with connected(bounds=Bounds(unsettled_messages=2)) as (client, server):
        first = await client.hand_over(Publish("t", qos=1))
        await client.hand_over(Publish("t", qos=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.hand_over, Publish("t", b"third", qos=1))
            packet = await server.expect(Publish)
            await server.expect(Publish)
            await trio.testing.wait_all_tasks_blocked()
            assert not first.settled
            assert packet.packet_id is not None
            await server.send(PubAck(packet.packet_id))
            assert (await server.expect(Publish)).payload == b"third"
        assert first.settled


async def test_order_is_kept(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):
        for number in range(100):
            await client.hand_over(Publish("t", str(number).encode(), qos=number % 3))
        payloads = [(await server.expect(Publish)).payload for _ in range(100)]
    assert payloads == [str(number).encode() for number in range(100)]


# Subscribing and receiving


async def test_subscribe_and_receive(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):

        async def serve() -> None:
            subscribe = await server.expect(Subscribe)
            assert subscribe.subscriptions == (Subscription("a/#"),)
            await server.send(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_0,)))
            await server.send(Publish("a/1", b"1"), Publish("a/2", b"2"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await client.subscribe("a/#")
            received = []
            async for message in client.messages():
                received.append(message.topic)
                if len(received) == 2:
                    break
        assert received == ["a/1", "a/2"]


async def test_refused_subscriptions(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):

        async def serve() -> None:
            subscribe = await server.expect(Subscribe)
            codes = (ReasonCode.GRANTED_QOS_1, ReasonCode.NOT_AUTHORIZED)
            await server.send(SubAck(subscribe.packet_id, codes, reason_string="ask first"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ClientError) as caught:
                await client.subscribe([Subscription("a", 1), Subscription("b", 1)])
    assert str(caught.value) == "the server refused a subscription to b: Not authorized (0x87): ask first"


async def test_unsubscribe(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):

        async def serve() -> None:
            unsubscribe = await server.expect(Unsubscribe)
            assert unsubscribe.topic_filters == ("a", "b")
            codes = (ReasonCode.SUCCESS, ReasonCode.NO_SUBSCRIPTION_EXISTED)
            await server.send(UnsubAck(unsubscribe.packet_id, codes))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await client.unsubscribe(["a", "b"])


async def test_an_application_that_takes_nothing_stops_the_reading(autojump_clock: MockClock) -> None:
    async with connected(bounds=Bounds(waiting_messages=2)) as (client, server):
        await server.send(*(Publish("t", b"%d" % number, qos=1, packet_id=number) for number in range(1, 6)))
        assert (await server.expect(PubAck)).packet_id == 1
        assert (await server.expect(PubAck)).packet_id == 2
        with trio.move_on_after(10) as waiting:
            await server.receive()
        assert waiting.cancelled_caught
        assert [(await client.receive()).payload for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
        assert [(await server.expect(PubAck)).packet_id for _ in range(3)] == [3, 4, 5]


async def test_a_slow_application_keeps_its_connection(autojump_clock: MockClock) -> None:
    connect = Connect(client_id="c", keep_alive=10)
    async with connected(connect, bounds=Bounds(waiting_messages=1)) as (client, server):
        await server.send(*(Publish("t", b"%d" % number) for number in range(3)))
        with trio.move_on_after(100):
            while True:  # the answers wait behind the messages
                await server.expect(PingReq)
                await server.stream.send_all(b"\xd0\x00")
        assert client.connected
        assert [(await client.receive()).payload for _ in range(3)] == [b"0", b"1", b"2"]
        with trio.move_on_after(30):
            while True:
                await server.expect(PingReq)
                await server.stream.send_all(b"\xd0\x00")
        assert client.connected


async def test_no_more_messages_than_wanted(autojump_clock: MockClock) -> None:
    async with connected(message_limit=2) as (client, server):
        await server.send(*(Publish("t", b"%d" % number, qos=1, packet_id=number) for number in range(1, 6)))
        assert len(await client.receive_all()) == 2
        assert (await server.expect(PubAck)).packet_id == 1
        assert (await server.expect(PubAck)).packet_id == 2
    assert server.rest == [Disconnect()]


async def test_an_answer_behind_messages_that_nobody_takes(autojump_clock: MockClock) -> None:
    async with connected(bounds=Bounds(waiting_messages=1)) as (client, server):
        await server.send(Publish("t"), Publish("t"))
        with pytest.raises(ClientError, match="take messages in a task of their own"):
            await client.publish(Publish("t", qos=1))
        assert client.connected


# The end of a connection


async def test_messages_end_when_the_server_disconnects(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):
        await server.send(
            Publish("t", b"last"), Disconnect(ReasonCode.SERVER_SHUTTING_DOWN, reason_string="good night")
        )
        await server.stream.aclose()
        received = []
        with pytest.raises(ClientError) as caught:
            async for message in client.messages():
                received.append(message.payload)  # noqa: PERF401
        assert received == [b"last"]
        assert str(caught.value) == ("the server closed the connection: Server shutting down (0x8B): good night")
        assert (await client.ended()).reason_code == ReasonCode.SERVER_SHUTTING_DOWN
        with pytest.raises(ClientError, match="good night"):
            await client.publish(Publish("t"))


async def test_every_waiting_call_fails_when_the_connection_is_lost(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):

        async def fails(call: Any, *arguments: Any) -> None:
            with pytest.raises(ClientError, match="connection was lost"):
                await call(*arguments)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, client.publish, Publish("t", qos=1))
            nursery.start_soon(fails, client.subscribe, "t")
            nursery.start_soon(fails, client.unsubscribe, "t")
            nursery.start_soon(fails, client.receive)
            await trio.testing.wait_all_tasks_blocked()
            await server.stream.aclose()


async def test_keep_alive(autojump_clock: MockClock) -> None:
    async with connected(Connect(client_id="c", keep_alive=10)) as (client, server):
        await server.expect(PingReq)
        await server.stream.send_all(b"\xd0\x00")
        await server.expect(PingReq)
        error = await client.ended()
        assert "the server does not answer" in str(error)


async def test_a_server_that_breaks_the_protocol(autojump_clock: MockClock) -> None:
    async with connected() as (client, server):
        await server.stream.send_all(b"\x00\x00")
        error = await client.ended()
        assert "had to be closed" in str(error)
        assert (await server.expect(Disconnect)).reason_code.is_failure


async def test_an_exception_sends_the_will(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connected(Connect(client_id="c", will=Will(topic="w", payload=b""))) as (_, server):
            raise ZeroDivisionError
    disconnect = await server.expect(Disconnect)
    assert disconnect.reason_code == ReasonCode.DISCONNECT_WITH_WILL_MESSAGE


async def test_an_exception_in_version_311(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connected(Connect(client_id="c", protocol_version=V311)) as (_, server):
            raise ZeroDivisionError
    await server.expect_end()


async def test_cancelled_is_a_normal_end(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    server = FakeServer(far)
    async with background() as nursery:
        nursery.start_soon(server.accept)
        with trio.move_on_after(1) as limit:
            async with open_client(Connect(client_id="c"), stream=near) as client:
                await client.receive()
        assert limit.cancelled_caught
        assert (await server.expect(Disconnect)).reason_code == ReasonCode.NORMAL_DISCONNECTION


async def test_leaving_a_server_that_does_not_close_takes_a_bounded_time(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    server = FakeServer(far)
    async with background() as nursery:
        nursery.start_soon(server.accept)
        async with open_client(Connect(client_id="c"), stream=near):
            before = trio.current_time()
        assert trio.current_time() - before == pytest.approx(Bounds().closing_timeout)


# Sessions


async def test_a_session_is_resumed(autojump_clock: MockClock) -> None:
    connect = Connect(client_id="c", clean_start=False, session_expiry_interval=60)
    async with connected(connect) as (client, server):
        await client.hand_over(Publish("t", b"first", qos=1))
        await server.expect(Publish)
        await server.stream.aclose()
        await client.ended()
    async with connected(connect, {"session_present": True}, session=client.session) as (_, server):
        again = await server.expect(Publish)
        assert (again.payload, again.dup) == (b"first", True)


# Authentication


def with_method(data: bytes = b"one") -> Connect:
    return Connect(client_id="c", authentication_method="M", authentication_data=data)


async def test_a_challenge_on_the_way(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    server = FakeServer(far)

    async def serve() -> None:
        connect = await server.expect(Connect)
        assert connect.authentication_data == b"one"
        await server.send(evolve(UNDECIDED, authentication_data=b"?"))
        auth = await server.expect(Auth)
        assert auth.authentication_data == b"!?"
        await server.send(ConnAck(authentication_method="M"))
        await server.expect(Disconnect)
        await server.stream.aclose()

    async def answer(auth: Auth) -> bytes:
        return b"!" + (auth.authentication_data or b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with open_client(with_method(), stream=near, answer_challenge=answer):
            pass


async def test_a_challenge_that_nobody_foresaw(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    server = FakeServer(far)

    async def serve() -> None:
        await server.expect(Connect)
        await server.send(UNDECIDED)

    async with background() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ClientError, match="another step of authentication"):
            async with open_client(with_method(), stream=near):
                pytest.fail("connected")


async def test_reauthentication(autojump_clock: MockClock) -> None:
    async with connected(with_method()) as (client, server):

        async def serve() -> None:
            auth = await server.expect(Auth)
            assert auth.reason_code == ReasonCode.RE_AUTHENTICATE
            assert (auth.authentication_method, auth.authentication_data) == ("M", b"two")
            await server.send(Publish("t", b"meanwhile"))
            await server.send(Auth(authentication_method="M"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await client.reauthenticate(b"two")
        assert (await client.receive()).payload == b"meanwhile"


async def test_a_failed_reauthentication(autojump_clock: MockClock) -> None:
    async with connected(with_method()) as (client, server):

        async def serve() -> None:
            await server.expect(Auth)
            await server.send(Disconnect(ReasonCode.NOT_AUTHORIZED))
            await server.stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ClientError, match=r"Not authorized \(0x87\)"):
                await client.reauthenticate(b"two")


async def test_an_undecided_reauthentication(autojump_clock: MockClock) -> None:
    tries = iter([b"second try"])

    async def answer(auth: Auth) -> bytes:
        await trio.sleep(600)
        for data in tries:
            return data
        raise ClientError("enough")

    async with connected(with_method(), answer_challenge=answer) as (client, server):

        async def serve() -> None:
            await server.expect(Auth)
            await server.send(UNDECIDED)
            auth = await server.expect(Auth)
            assert auth.reason_code == ReasonCode.CONTINUE_AUTHENTICATION
            assert auth.authentication_data == b"second try"
            await server.send(UNDECIDED)
            auth = await server.expect(Auth)
            assert auth.reason_code == ReasonCode.RE_AUTHENTICATE
            await server.send(Auth(authentication_method="M"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ClientError, match="enough"):
                await client.reauthenticate(b"first try")
            assert client.connected
            await client.reauthenticate(b"two")


async def test_reauthentication_without_a_method(autojump_clock: MockClock) -> None:
    async with connected() as (client, _):
        with pytest.raises(ClientError):
            await client.reauthenticate(b"two")
        assert client.connected
