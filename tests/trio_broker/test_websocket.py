"""WebSocket: the handshake, packets over messages, and what a client may not do."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from mqttcore import codec
from mqttcore.broker import Policy
from mqttcore.limits import Limits
from mqttcore.packets import Connect, Disconnect, PingReq, Publish, Subscribe, Subscription
from tests.trio_broker.conftest import Certificates
from tests.trio_broker.support import Peer, Running, listen, running, socket_pair, until
from trio_broker import Listener, ServerLimits, server_context
from trio_broker.errors import HandshakeError, TransportError
from trio_broker.transports import TcpPipe
from trio_broker.websocket import FRAMES_PER_TURN, WebSocketPipe, accept_websocket

HANDSHAKE = (
    b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)


class MessageStream(trio.abc.Stream):
    """A client's WebSocket as a stream: a message for each piece that is sent."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self.websocket = websocket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.websocket.send_message(bytes(data))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        message = await self.websocket.get_message()
        assert isinstance(message, bytes)
        return message

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def aclose(self) -> None:
        await self.websocket.aclose()


@asynccontextmanager
async def dial_websocket(
    run: Running, listener: Listener, context: ssl.SSLContext | None = None, subprotocol: str = "mqtt"
) -> AsyncIterator[MessageStream]:
    stream: Any = await run.dial(listener)
    if context is not None:
        stream = trio.SSLStream(stream, context, server_hostname="127.0.0.1")
    async with trio.open_nursery() as nursery:
        websocket = await wrap_client_stream(
            nursery,
            stream,
            "127.0.0.1",
            "/mqtt",
            subprotocols=[subprotocol] if subprotocol else None,
            max_message_size=2**28,
        )
        assert websocket.subprotocol == "mqtt"
        yield MessageStream(websocket)
        nursery.cancel_scope.cancel()


@pytest.mark.conformance("MQTT-6.0.0-4")
@pytest.mark.parametrize("name", ["ws", "wss"])
async def test_large_messages(certificates: Certificates, name: str) -> None:
    secure = name == "wss"
    ours = ssl.create_default_context()
    certificates.authority.configure_trust(ours)
    context = server_context(certificates.certificate, certificates.key) if secure else None
    listener = listen(websocket=True, tls=context)
    with trio.fail_after(60):
        async with (
            running(listener) as run,
            dial_websocket(run, listener, ours if secure else None) as stream,
        ):
            peer = Peer(stream)
            await peer.connect("a")
            await peer.send(Subscribe(1, (Subscription("t"),)))
            await peer.receive()
            await peer.send(Publish("t", bytes(8_000_000)))
            message = await peer.receive()
            assert isinstance(message, Publish)
            assert message.payload == bytes(8_000_000)
    assert run.logged("connected")[0]["protocol"] == name


CONVERSATION = b"".join(
    codec.encode(packet)
    for packet in (Connect(client_id="a"), PingReq(), Publish("t", b"hello"), PingReq(), Disconnect())
)


@pytest.mark.conformance("MQTT-6.0.0-2")
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, len(CONVERSATION) - 1), max_size=10).map(sorted))
def test_packets_are_split_and_joined_over_messages_in_any_way(cuts: list[int]) -> None:
    async def talk() -> bytes:
        received = b""
        listener = listen(websocket=True)
        async with running(listener) as run, dial_websocket(run, listener) as stream:
            for start, end in zip([0, *cuts], [*cuts, len(CONVERSATION)], strict=True):
                await stream.send_all(CONVERSATION[start:end])
            with pytest.raises(ConnectionClosed):
                while True:
                    received += await stream.receive_some()
        return received

    received = trio.run(talk)
    assert received[0] == 0x20
    assert received.endswith(b"\xd0\x00\xd0\x00")


def masked(opcode: int, data: bytes) -> bytes:
    """A client's frame of up to 125 bytes, with a mask of zeros."""
    return bytes((0x80 | opcode, 0x80 | len(data))) + bytes(4) + data


END = [
    (masked(1, b"text"), "a WebSocket text message; MQTT needs binary ones", 1003),
    (masked(3, b""), "a WebSocket frame is malformed: Invalid opcode 0x3", 1002),
    (masked(8, b"\x0f\xa0"), "", 4000),
    (b"", "", 0),
]
"""What a client's stream may end with, what is said about it, and with which code it is answered."""


@pytest.mark.conformance("MQTT-6.0.0-2")
@settings(max_examples=40, deadline=None)
@given(
    messages=st.lists(st.binary(max_size=20) | st.just(b"x" * 125), max_size=2 * FRAMES_PER_TURN),
    ping=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=5).map(sorted),
    end=st.sampled_from(END),
    polled=st.booleans(),
)
@example([b"a", b"b"], False, [], END[0], True)
@example([b"a", b"b"], True, [], END[2], False)
@example([b""] * (FRAMES_PER_TURN + 1), True, [], END[0], True)
def test_what_arrives_together_is_received_together_up_to_its_end(
    messages: list[bytes], ping: bool, cuts: list[int], end: tuple[bytes, str, int], polled: bool
) -> None:
    last, failure, code = end
    sent = b"".join(masked(2, message) for message in messages) + masked(9, b"?") * ping + last
    cuts = [min(cut, len(sent)) for cut in cuts]
    pieces: list[bytes] = []
    received = b""

    async def receive(pipe: WebSocketPipe) -> bool:
        """All there is; whether it has been the end."""
        while True:
            data = pipe.receive_now() if polled else None
            if data is None and not (pipe.ready or not polled):
                return False
            if data is None:
                data = await pipe.receive()
            if not data:
                return True
            pieces.append(data)

    async def talk(far: socket.socket, pipe: WebSocketPipe) -> None:
        for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            far.sendall(sent[start:stop])
            if polled:
                await receive(pipe)
        far.shutdown(socket.SHUT_WR)
        assert await receive(pipe)

    async def main() -> None:
        nonlocal received
        with socket_pair() as (near, far):
            far.sendall(HANDSHAKE)
            pipe = await accept_websocket(TcpPipe(near), timeout=10, linger=0)
            assert far.recv(1000).startswith(b"HTTP/1.1 101 ")
            if failure:
                with pytest.raises(TransportError, match=failure):
                    await talk(far, pipe)
            else:
                await talk(far, pipe)
            with suppress(BlockingIOError):
                received = far.recv(1000)

    trio.run(main)
    assert b"".join(pieces) == b"".join(messages)
    assert len(pieces) <= len(cuts) + 1 + len(messages) // FRAMES_PER_TURN
    assert (b"\x8a\x01?" in received) == ping
    assert (code.to_bytes(2, "big") in received[-125:]) == bool(code)


async def test_of_pings_that_cannot_be_answered_at_once_the_latest_is() -> None:
    with trio.fail_after(30), socket_pair() as (near, far):
        far.sendall(HANDSHAKE)
        pipe = await accept_websocket(TcpPipe(near), timeout=10, linger=0)
        far.recv(1000)
        assert not pipe.send_now(bytes(5_000_000))
        for number in range(100):
            far.sendall(masked(9, b"%03d" % number))
            assert pipe.receive_now() is None
        assert not pipe.send_now(b"behind")
        received = bytearray()

        async def read() -> None:
            while not received.endswith(b"\x82\x06behind"):
                await trio.lowlevel.wait_readable(far)
                received.extend(far.recv(1_000_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await pipe.drain(10)
    assert received.endswith(b"\x8a\x03099\x82\x06behind")
    assert received.count(b"\x8a\x03") == 1


async def test_what_comes_before_a_ping_is_received_although_the_client_has_gone() -> None:
    with trio.fail_after(30), socket_pair() as (near, far):
        far.sendall(HANDSHAKE)
        pipe = await accept_websocket(TcpPipe(near), timeout=10, linger=0)
        far.recv(1000)
        far.sendall(masked(2, b"last") + masked(9, b"") * 2)
        far.close()
        assert pipe.receive_now() == b"last"


async def test_pongs_that_had_to_wait_are_sent_when_there_is_room() -> None:
    """Without a word of MQTT, which would take them along."""
    listener = listen(websocket=True)
    with trio.fail_after(30):
        async with running(listener) as run:
            stream = await run.dial(listener)
            await stream.send_all(HANDSHAKE)
            await stream.receive_some()
            await until(lambda: run.server.open_links == 1)
            [wire] = run.server._wires.values()
            assert isinstance(wire.pipe, WebSocketPipe)
            while not wire.pipe.behind:
                await stream.send_all(masked(9, bytes(125)) * 100)
                await trio.sleep(0)
            await stream.send_all(masked(9, b"the last"))
            received = b""
            while not received.endswith(b"\x8a\x08the last"):
                received = received[-20:] + await stream.receive_some()


@pytest.mark.conformance("MQTT-6.0.0-3")
async def test_a_client_without_the_subprotocol_is_refused() -> None:
    listener = listen(websocket=True)
    with trio.fail_after(30):
        async with running(listener) as run:
            with pytest.RaisesGroup(ConnectionRejected) as caught:
                async with dial_websocket(run, listener, subprotocol=""):
                    pass
            [rejected] = caught.value.exceptions
            assert isinstance(rejected, ConnectionRejected)
            assert rejected.status_code == 400
            assert b"subprotocol" in (rejected.body or b"")
            [event] = await run.log_of("handshake_failed")
    assert event["reason"] == "the WebSocket subprotocol mqtt was not asked for"


@pytest.mark.conformance("MQTT-6.0.0-1")
async def test_a_text_message_ends_the_connection_with_1003() -> None:
    listener = listen(websocket=True)
    with trio.fail_after(30):
        async with running(listener) as run, dial_websocket(run, listener) as stream:
            await Peer(stream).connect("a")
            await stream.websocket.send_message("text")
            with pytest.raises(ConnectionClosed) as caught:
                await stream.websocket.get_message()
            assert caught.value.reason is not None
            assert caught.value.reason.code == 1003
            [event] = await run.log_of("transport_failed")
            assert event["reason"] == "a WebSocket text message; MQTT needs binary ones"


async def test_a_ping_behind_our_close_is_no_fault_of_ours() -> None:
    """A client that sends a text message, is told to go and says Ping first."""
    listener = listen(websocket=True)
    text, ping = b"\x81\x81\0\0\0\0?", b"\x89\x80\0\0\0\0"
    with trio.fail_after(30):
        async with running(listener) as run:
            for _ in range(20):  # which of the broker's tasks goes first is a matter of chance
                async with dial_websocket(run, listener) as stream:
                    await Peer(stream).connect("a")
                    await run.dialled[-1].send_all(text + ping)
                    with pytest.raises(ConnectionClosed):
                        await stream.websocket.get_message()
            assert not run.logged("internal_error")


async def test_the_last_word_is_followed_by_a_close_frame() -> None:
    listener = listen(websocket=True)
    with trio.fail_after(30):
        async with running(listener) as run, dial_websocket(run, listener) as stream:
            peer = Peer(stream)
            await peer.connect("a")
            await stream.send_all(b"\xff" * 10)
            assert isinstance(await peer.receive(), Disconnect)
            with pytest.raises(ConnectionClosed) as caught:
                await stream.websocket.get_message()
            assert caught.value.reason is not None
            assert caught.value.reason.code == 1000
            await until(lambda: not run.server.open_links)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: \xeb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: xn--a\x2dzzz-99999999.\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Protocol: \xeb\r\n\r\n",
    ],
)
async def test_what_is_no_websocket_handshake_ends_at_once(request_bytes: bytes) -> None:
    listener = listen(websocket=True)
    with trio.fail_after(5):
        async with running(listener) as run:
            stream = await run.dial(listener)
            await stream.send_all(request_bytes)
            while await stream.receive_some():
                pass
            await stream.aclose()
            [event] = await run.log_of("handshake_failed")
    assert event["reason"] == "not a WebSocket handshake"
    assert not run.logged("internal_error")


@pytest.mark.parametrize("request_bytes", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"])
async def test_who_goes_in_the_middle_of_the_handshake_is_not_waited_for(
    request_bytes: bytes, autojump_clock: MockClock
) -> None:
    with socket_pair() as (near, far):
        far.sendall(request_bytes)
        far.close()
        with pytest.raises(HandshakeError, match=r"^not a WebSocket handshake$"):
            await accept_websocket(TcpPipe(near), timeout=10, linger=1)
    assert trio.current_time() == 0


async def test_the_handshake_has_its_time(patient_clock: MockClock) -> None:
    listener = listen(websocket=True)
    async with running(listener, bounds=ServerLimits(websocket_handshake_timeout=7.0)) as run:
        stream = await run.dial(listener)
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        started = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(7.0, abs=0.2)
        await stream.aclose()
        [event] = await run.log_of("handshake_failed")
        assert event["reason"] == "no WebSocket handshake within 7 seconds"


async def test_a_packet_is_judged_before_its_message_is_complete() -> None:
    """What is too large is not waited for: nothing is held that MQTT does not bound."""
    listener = listen(websocket=True, policy=Policy(limits=Limits(maximum_connect_size=1000)))
    announced = b"\x82\xff" + (64 * 2**20).to_bytes(8, "big") + bytes(4)
    with trio.fail_after(30):
        async with running(listener) as run:
            stream = await run.dial(listener)
            await stream.send_all(HANDSHAKE)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
            await stream.send_all(announced + b"\x10\xff\xff\x03" + bytes(100))  # CONNECT, with 64 KiB to come
            received = b""
            while data := await stream.receive_some():
                received += data
            assert received.endswith(b"\x88\x02\x03\xe8")
            await stream.aclose()
            [event] = await run.log_of("refused")
    assert event["reason_code"] == "0x95"
