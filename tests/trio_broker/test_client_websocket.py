"""The Trio client over WebSocket, against servers good and bad, in memory."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from mqttcore import ConnAck, Connect, Disconnect, Publish
from tests.trio_broker.fake_server import FakeServer
from trio_broker.client import ClientError, open_client
from trio_broker.client.background import background
from trio_broker.client.websocket import SENT_MESSAGE

Serve = Callable[[WebSocketConnection], Awaitable[None]]


class MessageStream(trio.abc.Stream):
    """A server's WebSocket as a stream: it sends messages of `size` bytes and notes what sizes it gets."""

    def __init__(self, websocket: WebSocketConnection, size: int) -> None:
        self._websocket = websocket
        self._size = size
        self.received_sizes: list[int] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for start in range(0, len(data), self._size):
            await self._websocket.send_message(bytes(data[start : start + self._size]))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            message = await self._websocket.get_message()
        except ConnectionClosed:
            return b""
        assert isinstance(message, bytes)
        self.received_sizes.append(len(message))
        return message

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def aclose(self) -> None:
        await self._websocket.aclose()


async def serve_websocket(stream: trio.abc.Stream, serve: Serve, subprotocol: str | None = "mqtt") -> None:
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, stream, max_message_size=2**28)
        assert request.path == "/mqtt"
        assert "mqtt" in request.proposed_subprotocols
        await serve(await request.accept(subprotocol=subprotocol))


async def failure(task: Callable[..., Awaitable[None]], *arguments: Any) -> str:
    """What `open_client` says when the server's end of the stream is in the hands of this task."""
    near, far = trio.testing.memory_stream_pair()
    async with background() as nursery:
        nursery.start_soon(task, far, *arguments)
        with pytest.raises(ClientError) as caught:
            async with open_client(Connect(client_id="c"), stream=near, websocket="/mqtt") as client:
                await client.receive()
    return str(caught.value)


@pytest.mark.conformance("MQTT-6.0.0-2", "MQTT-6.0.0-3")
@pytest.mark.parametrize("size", [1, 3, 100_000])
async def test_packets_split_and_joined(autojump_clock: MockClock, size: int) -> None:
    near, far = trio.testing.memory_stream_pair()

    async def serve(websocket: WebSocketConnection) -> None:
        server = FakeServer(MessageStream(websocket, size))
        await server.accept()
        await server.send(*(Publish("t", b"%d" % number) for number in range(5)))
        await server.expect(Disconnect)
        await server.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_websocket, far, serve)
        before = trio.current_time()
        async with open_client(Connect(client_id="c"), stream=near, websocket="/mqtt") as client:
            assert [(await client.receive()).payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        assert trio.current_time() == before, "the end took time"


async def test_large_packets_are_split(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    payload = bytes(10 * SENT_MESSAGE + 5)

    async def serve(websocket: WebSocketConnection) -> None:
        stream = MessageStream(websocket, 1_000_000)
        server = FakeServer(stream)
        await server.accept()
        assert (await server.expect(Publish)).payload == payload
        await server.send(Publish("t", payload))
        await server.expect(Disconnect)
        await stream.aclose()
        assert max(stream.received_sizes) == SENT_MESSAGE

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_websocket, far, serve)
        async with open_client(Connect(client_id="c"), stream=near, websocket="/mqtt") as client:
            await client.publish(Publish("t", payload))
            assert (await client.receive()).payload == payload


@pytest.mark.conformance("MQTT-6.0.0-1")
async def test_a_text_message(autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocketConnection) -> None:
        server = FakeServer(MessageStream(websocket, 100))
        await server.accept()
        await websocket.send_message("text")
        with pytest.raises(ConnectionClosed) as caught:
            await websocket.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1003

    message = await failure(serve_websocket, serve)
    assert message.startswith("the connection was lost: the server sent a WebSocket text message")


async def test_a_server_that_closes_the_websocket(autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocketConnection) -> None:
        server = FakeServer(MessageStream(websocket, 100))
        await server.accept()
        await websocket.aclose()

    assert await failure(serve_websocket, serve) == "the connection was lost: the server closed it"


async def test_a_server_of_another_subprotocol(autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocketConnection) -> None:
        await trio.sleep_forever()

    message = await failure(serve_websocket, serve, None)
    assert message == "no MQTT server: it chose the WebSocket subprotocol none, not mqtt"


async def test_a_web_server_that_knows_no_such_path(autojump_clock: MockClock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(10_000)
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")
        await trio.sleep_forever()

    assert await failure(serve) == "the server refused a WebSocket at /mqtt with HTTP status 404"


@pytest.mark.parametrize("answer", [b"", b"\x20\x03\x00\x00\x00", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_server_without_websocket(autojump_clock: MockClock, answer: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(10_000)
        await stream.send_all(answer)
        await stream.aclose()

    before = trio.current_time()
    message = await failure(serve)
    assert "WebSocket" in message
    assert trio.current_time() == before


async def test_a_websocket_that_breaks(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()

    async def serve(websocket: WebSocketConnection) -> None:
        server = FakeServer(MessageStream(websocket, 100))
        await server.expect(Connect)
        await server.send(ConnAck())
        await far.aclose()

    async with background() as nursery:
        nursery.start_soon(serve_websocket, far, serve)
        with pytest.raises(ClientError, match="connection was lost"):
            async with open_client(Connect(client_id="c"), stream=near, websocket="/mqtt") as client:
                await client.receive()
        with pytest.raises(ClientError, match="connection was lost"):
            await client.publish(Publish("t"))
