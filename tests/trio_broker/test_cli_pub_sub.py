"""trio-broker pub and sub as processes, against our broker and against a server that the test plays."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from attrs import field, frozen

from mqttcore import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    Publish,
    ReasonCode,
    SubAck,
    Subscribe,
    Subscription,
    Will,
)
from tests.trio_broker.conftest import Certificates
from tests.trio_broker.fake_server import FakeServer
from tests.trio_broker.support import listen, running
from trio_broker import server_context
from trio_broker.client import Client, open_client
from trio_broker.client.background import background

COMMAND = [sys.executable, "-m", "trio_broker"]
DEADLINE = 60
"""Seconds for a command on a busy machine; a test that passes never waits for it."""


@frozen
class Result:
    """How a command ended."""

    status: int
    out: bytes
    err: str


async def command(*arguments: object, stdin: bytes = b"") -> Result:
    """Run a command to its end."""
    words = [*COMMAND, *(str(argument) for argument in arguments)]
    with trio.fail_after(DEADLINE):
        done = await trio.run_process(words, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    return Result(done.returncode, done.stdout, done.stderr.decode())


@contextlib.asynccontextmanager
async def started(*arguments: object) -> AsyncIterator[trio.Process]:
    """Run a command beside the block, which has to end it."""
    words = [*COMMAND, *(str(argument) for argument in arguments)]
    process = await trio.lowlevel.open_process(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with trio.fail_after(DEADLINE):
            yield process
            await process.wait()
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            await trio.aclose_forcefully(pipe)


async def read_line(pipe: trio.abc.ReceiveStream | None) -> str:
    """A line of a process's output."""
    assert pipe is not None
    line = b""
    while not line.endswith(b"\n"):
        data = await pipe.receive_some(1)
        if not data:
            break
        line += data
    return line.decode()


@contextlib.asynccontextmanager
async def broker() -> AsyncIterator[int]:
    """A broker; its port."""
    listener = listen()
    async with running(listener):
        yield listener.address[1]


@contextlib.asynccontextmanager
async def observer(port: int, topic_filter: str = "#") -> AsyncIterator[Client]:
    """A client that sees everything that is published."""
    async with open_client(Connect(), host="127.0.0.1", port=port) as client:
        await client.subscribe(Subscription(topic_filter, 2))
        yield client


@frozen
class Stage:
    """A TCP port on which the test plays the server, connection by connection."""

    listener: trio.SocketListener
    accepted: list[trio.abc.Stream] = field(factory=list)

    @property
    def options(self) -> tuple[object, ...]:
        """What makes a command connect to it."""
        return "-h", "127.0.0.1", "-p", self.listener.socket.getsockname()[1]

    async def connection(self) -> FakeServer:
        """The next connection."""
        self.accepted.append(await self.listener.accept())
        return FakeServer(self.accepted[-1])


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        acting = Stage(listener)
        try:
            yield acting
        finally:
            for stream in acting.accepted:
                await trio.aclose_forcefully(stream)


# pub


@pytest.mark.parametrize(
    ("arguments", "stdin", "payloads"),
    [
        (("-m", "text"), b"", [b"text"]),
        (("-n",), b"", [b""]),
        (("-s",), b"one\ntwo\n", [b"one\ntwo\n"]),
        (("-l",), b"one\n\ntwo\r\nthree", [b"one", b"", b"two\r", b"three"]),
        (("-l", "-q", "1"), b"".join(b"%d\n" % n for n in range(3000)), [b"%d" % n for n in range(3000)]),
        (("-q", "2", "-m", "\udcff"), b"", [b"\xff"]),
    ],
)
async def test_what_pub_publishes(arguments: tuple[str, ...], stdin: bytes, payloads: list[bytes]) -> None:
    async with broker() as port, observer(port) as client:
        result = await command("pub", "-h", "127.0.0.1", "-p", port, "-t", "t", *arguments, stdin=stdin)
        assert result == Result(0, b"", "")
        assert [(await client.receive()).payload for _ in payloads] == payloads


async def test_pub_of_a_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)
    async with broker() as port, observer(port) as client:
        options = ("-h", "127.0.0.1", "-p", port, "-V", "mqttv311")
        assert (await command("pub", *options, "-t", "t", "-f", tmp_path / "file")).status == 0
        assert (await client.receive()).payload == content


async def test_every_property_of_pub() -> None:
    async with stage() as server_side, background() as nursery:
        arguments = (
            *("pub", *server_side.options, "-t", "t", "-m", "x", "-q", 1, "-r"),
            *("--content-type", "text/plain", "--response-topic", "r", "--correlation-data", "c"),
            *("--message-expiry-interval", 9, "--payload-format-indicator", 1, "--topic-alias", 3),
            *("--user-property", "a=1", "--user-property", "a=2=3"),
        )
        nursery.start_soon(command, *arguments)
        server = await server_side.connection()
        await server.accept(topic_alias_maximum=5)
        publish = await server.expect(Publish)
        assert publish == Publish(
            "t",
            b"x",
            qos=1,
            retain=True,
            packet_id=1,
            content_type="text/plain",
            response_topic="r",
            correlation_data=b"c",
            message_expiry_interval=9,
            payload_format_indicator=1,
            topic_alias=3,
            user_properties=(("a", "1"), ("a", "2=3")),
        )
        await server.stream.aclose()


async def test_every_option_of_connect(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"pass word\r\n")
    async with stage() as server_side, background() as nursery:
        arguments = (
            *("sub", *server_side.options, "-t", "t", "-i", "me", "-k", 7, "-c", "-x", 100),
            *("-u", "user", "--password-file", tmp_path / "password"),
            *("--auth-method", "M", "--auth-data", "data"),
            *("--receive-maximum", 5, "--maximum-packet-size", 6000, "--topic-alias-maximum", 8),
            *("--connect-user-property", "a=b"),
            *("--will-topic", "w", "--will-payload", "gone", "--will-qos", 1, "--will-retain"),
            *("--will-delay", 11, "--will-content-type", "ct", "--will-response-topic", "wr"),
            *("--will-correlation-data", "wc", "--will-message-expiry-interval", 12),
            *("--will-payload-format-indicator", 0, "--will-user-property", "c=d"),
        )
        nursery.start_soon(command, *arguments)
        server = await server_side.connection()
        assert await server.accept() == Connect(
            client_id="me",
            clean_start=False,
            keep_alive=7,
            username="user",
            password=b"pass word",
            session_expiry_interval=100,
            receive_maximum=5,
            maximum_packet_size=6000,
            topic_alias_maximum=8,
            authentication_method="M",
            authentication_data=b"data",
            user_properties=(("a", "b"),),
            will=Will(
                topic="w",
                payload=b"gone",
                qos=1,
                retain=True,
                will_delay_interval=11,
                content_type="ct",
                response_topic="wr",
                correlation_data=b"wc",
                message_expiry_interval=12,
                payload_format_indicator=0,
                user_properties=(("c", "d"),),
            ),
        )
        await server.stream.aclose()


async def test_refused_messages_of_pub() -> None:
    async with stage() as server_side, background() as nursery:
        results: list[Result] = []

        async def run() -> None:
            results.append(
                await command("pub", *server_side.options, "-t", "t", "-q", 1, "-l", stdin=b"good\nbad\nworse\n")
            )
            await ended.send(None)

        ended, has_ended = trio.open_memory_channel[None](1)
        nursery.start_soon(run)
        server = await server_side.connection()
        await server.accept()
        for code in (ReasonCode.SUCCESS, ReasonCode.QUOTA_EXCEEDED, ReasonCode.NOT_AUTHORIZED):
            packet = await server.expect(Publish)
            assert packet.packet_id is not None
            await server.send(PubAck(packet.packet_id, code))
        await server.expect(Disconnect)
        await server.stream.aclose()
        await has_ended.receive()
    assert results[0].status == 1
    assert results[0].err.splitlines() == [
        "trio-broker: the server refused a message to t: Quota exceeded (0x97)",
        "trio-broker: the server refused a message to t: Not authorized (0x87)",
        "trio-broker: the server refused 2 of the messages",
    ]


async def test_pub_notices_a_lost_connection_while_it_waits_for_a_line() -> None:
    async with stage() as server_side, started("pub", *server_side.options, "-t", "t", "-l") as process:
        server = await server_side.connection()
        await server.accept()
        await server.send(Disconnect(ReasonCode.SERVER_SHUTTING_DOWN))
        await server.stream.aclose()
        assert await process.wait() == 1
        assert "Server shutting down (0x8B)" in await read_line(process.stderr)


async def test_an_interrupted_pub() -> None:
    async with stage() as server_side, started("pub", *server_side.options, "-t", "t", "-l") as process:
        server = await server_side.connection()
        await server.accept()
        process.send_signal(signal.SIGINT)
        await server.expect(Disconnect)
        await server.stream.aclose()
        assert await process.wait() == 1
        assert await read_line(process.stderr) == "trio-broker: interrupted before everything was published\n"


# sub


MESSAGES = (
    Publish("a/1", b"text", qos=1, packet_id=1),
    Publish("a/\x7f2", b"\xff\n", retain=True, correlation_data=b"\xfe", subscription_identifiers=(7,)),
    Publish(
        "a/3",
        b'"',
        message_expiry_interval=5,
        content_type="ct",
        response_topic="r",
        payload_format_indicator=1,
        user_properties=(("k", "v"), ("k", "ü")),
    ),
)


async def print_messages(*options: object, count: int = len(MESSAGES)) -> bytes:
    """What sub prints of MESSAGES."""
    async with (
        stage() as server_side,
        started("sub", *server_side.options, "-t", "a/#", "-C", count, *options) as process,
    ):
        server = await server_side.connection()
        await server.accept()
        subscribe = await server.expect(Subscribe)
        await server.send(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_0,)), *MESSAGES)
        while not isinstance(await server.receive(), Disconnect):
            pass
        await server.stream.aclose()
        assert await process.wait() == 0
        out = b""
        assert process.stdout is not None
        async for data in process.stdout:
            out += data
    return out


async def test_output_of_payloads() -> None:
    assert await print_messages() == b'text\n\xff\n\n"\n'
    assert await print_messages("-N", count=2) == b"text\xff\n"


async def test_output_of_topics() -> None:
    assert await print_messages("-v") == b'a/1 text\na/\\u007f2 \xff\n\na/3 "\n'


async def test_output_in_json() -> None:
    lines = (await print_messages("--json")).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"topic": "a/1", "qos": 1, "retain": False, "dup": False, "payload": "text"},
        {
            "topic": "a/\x7f2",
            "qos": 0,
            "retain": True,
            "dup": False,
            "payload_base64": "/wo=",
            "correlation_data_base64": "/g==",
            "subscription_identifiers": [7],
        },
        {
            "topic": "a/3",
            "qos": 0,
            "retain": False,
            "dup": False,
            "payload": '"',
            "payload_format_indicator": 1,
            "message_expiry_interval": 5,
            "content_type": "ct",
            "response_topic": "r",
            "user_properties": [["k", "v"], ["k", "ü"]],
        },
    ]


async def test_every_option_of_subscribe() -> None:
    async with stage() as server_side, background() as nursery:
        arguments = (
            *("sub", *server_side.options, "-t", "a", "-t", "$share/g/b", "-q", 1),
            *("--retain-as-published", "--retain-handling", 2),
            *("--subscription-identifier", 5, "--user-property", "k=v"),
        )
        nursery.start_soon(command, *arguments)
        server = await server_side.connection()
        await server.accept()
        assert await server.receive() == Subscribe(
            1,
            (
                Subscription("a", 1, retain_as_published=True, retain_handling=2),
                Subscription("$share/g/b", 1, retain_as_published=True, retain_handling=2),
            ),
            subscription_identifier=5,
            user_properties=(("k", "v"),),
        )
        await server.stream.aclose()


async def test_a_refused_subscription() -> None:
    async with stage() as server_side, background() as nursery:
        results: list[Result] = []

        async def run() -> None:
            results.append(await command("sub", *server_side.options, "-t", "a", "--reconnect"))
            nursery.cancel_scope.cancel()

        nursery.start_soon(run)
        server = await server_side.connection()
        await server.accept()
        subscribe = await server.expect(Subscribe)
        await server.send(SubAck(subscribe.packet_id, (ReasonCode.NOT_AUTHORIZED,), reason_string="no"))
        await server.expect(Disconnect)
        await server.stream.aclose()
        await trio.sleep_forever()
    message = "trio-broker: the server refused a subscription to a: Not authorized (0x87): no\n"
    assert results == [Result(1, b"", message)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_sub_in_good_order(number: signal.Signals) -> None:
    async with stage() as server_side, started("sub", *server_side.options, "-t", "a") as process:
        server = await server_side.connection()
        await server.accept()
        subscribe = await server.expect(Subscribe)
        await server.send(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_0,)))
        process.send_signal(number)
        assert await server.expect(Disconnect) == Disconnect()
        await server.stream.aclose()
        assert await process.wait() == 0


async def test_sub_ends_when_nobody_reads_its_output() -> None:
    async with broker() as port, started("sub", "-h", "127.0.0.1", "-p", port, "-t", "t") as process:
        assert process.stdout is not None
        await process.stdout.aclose()
        async with open_client(Connect(), host="127.0.0.1", port=port) as client:
            with trio.move_on_after(DEADLINE):
                while process.poll() is None:
                    await client.publish(Publish("t", b"x"))
                    await trio.sleep(0.01)
        assert process.returncode == 0


async def test_sub_takes_no_more_messages_than_it_prints() -> None:
    async with broker() as port:
        options = ("-h", "127.0.0.1", "-p", port, "-i", "me", "-c", "-q", 1, "-t", "work")
        assert await command("sub", *options, "-E") == Result(0, b"", "")
        lines = b"1\n2\n3\n"
        assert (await command("pub", *options[:4], "-t", "work", "-q", 1, "-l", stdin=lines)).status == 0
        assert (await command("sub", *options, "-C", 1)).out == b"1\n"
        assert (await command("sub", *options, "-C", 2)).out == b"2\n3\n"


async def test_time_runs_out() -> None:
    async with broker() as port:
        result = await command("sub", "-h", "127.0.0.1", "-p", port, "-t", "t", "-W", 0.2)
        assert result == Result(1, b"", "trio-broker: time ran out after 0.2 s (-W)\n")


async def test_reconnecting(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_bytes(b"first\n")
    credentials = ("--auth-method", "M", "--auth-data", f"@{token}")
    async with (
        stage() as server_side,
        started("sub", *server_side.options, "-t", "a", "-C", 2, "--reconnect", *credentials) as process,
    ):
        server = await server_side.connection()
        connect = await server.accept(assigned_client_identifier="given")
        assert (connect.clean_start, connect.session_expiry_interval) == (True, 300)
        assert connect.authentication_data == b"first"
        subscribe = await server.expect(Subscribe)
        await server.send(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_0,)), Publish("a", b"1"))
        assert await read_line(process.stdout) == "1\n"
        token.write_bytes(b"second\n")
        await server.stream.aclose()
        assert "connection was lost: the server closed it; connecting again in " in await read_line(process.stderr)
        server = await server_side.connection()
        connect = await server.expect(Connect)
        assert (connect.client_id, connect.clean_start) == ("given", False)
        assert connect.authentication_data == b"second"
        await server.send(ConnAck(session_present=True, authentication_method="M"), Publish("a", b"2"))
        assert await read_line(process.stdout) == "2\n"
        await server.expect(Disconnect)
        await server.stream.aclose()
        assert await process.wait() == 0


async def test_a_session_that_was_taken_over_is_left_alone() -> None:
    async with (
        stage() as server_side,
        started("sub", *server_side.options, "-t", "a", "--reconnect") as process,
    ):
        server = await server_side.connection()
        await server.accept()
        subscribe = await server.expect(Subscribe)
        await server.send(
            SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_0,)),
            Disconnect(ReasonCode.SESSION_TAKEN_OVER),
        )
        await server.stream.aclose()
        assert await process.wait() == 1
        assert "Session taken over (0x8E)" in await read_line(process.stderr)


async def test_reauthentication(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_bytes(b"first-secret")
    async with (
        stage() as server_side,
        started(
            *("sub", *server_side.options, "-t", "a", "--auth-method", "K8S-SAT", "--auth-data", f"@{token}")
        ) as process,
    ):
        server = await server_side.connection()
        await server.accept()
        subscribe = await server.expect(Subscribe)
        await server.send(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_0,)))
        (tmp_path / "new").write_bytes(b"second-secret")
        (tmp_path / "new").rename(token)
        auth = await server.expect(Auth)
        assert (auth.reason_code, auth.authentication_data) == (ReasonCode.RE_AUTHENTICATE, b"second-secret")
        await server.send(Auth(authentication_method="K8S-SAT"))
        line = await read_line(process.stderr)
        assert line == f"trio-broker: re-authenticated with the new content of {token}\n"
        token.write_bytes(b"third-secret")
        await server.expect(Auth)
        await server.send(Disconnect(ReasonCode.NOT_AUTHORIZED))
        await server.stream.aclose()
        assert await process.wait() == 1
        line = await read_line(process.stderr)
        assert line.startswith(f"trio-broker: re-authentication with {token} failed: ")
        assert "Not authorized (0x87)" in line
        assert "secret" not in line


# Transports


@pytest.mark.parametrize("options", [("--cafile", "CA"), ("--cafile", "CA", "--websocket")])
async def test_tls_and_websocket(certificates: Certificates, tmp_path: Path, options: tuple[str, ...]) -> None:
    ca = tmp_path / "ca.pem"
    certificates.authority.cert_pem.write_to_path(ca)
    listener = listen(
        tls=server_context(certificates.certificate, certificates.key), websocket="--websocket" in options
    )
    where = (
        "-h",
        "127.0.0.1",
        "-p",
        listener.address[1],
        *(ca if word == "CA" else word for word in options),
    )
    content = bytes(3_000_000)
    (tmp_path / "file").write_bytes(content)
    async with running(listener):
        retained = await command("pub", *where, "-t", "t", "-r", "-q", 1, "-f", tmp_path / "file")
        assert retained == Result(0, b"", "")
        received = await command("sub", *where, "-t", "t", "-C", 1, "-N")
        assert received == Result(0, content, "")
        untrusted = await command("pub", "-h", "127.0.0.1", "-p", where[3], "--tls", "-t", "t", "-n")
        assert untrusted.status == 1
        assert "does not verify" in untrusted.err
