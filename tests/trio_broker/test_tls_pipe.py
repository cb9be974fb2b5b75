"""TLS over a TCP connection, one call at a time: what comes in pieces, early, too much, or not at all."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqttcore.codec import encode
from mqttcore.packets import Connect, Disconnect, PingReq, Publish
from tests.trio_broker.conftest import Certificates
from tests.trio_broker.support import Running, listen, running, socket_pair, until
from tests.trio_broker.test_tls import client_context
from trio_broker import Listener, server_context, tls_pipe
from trio_broker.errors import TransportError
from trio_broker.tls_pipe import RECORD_SIZE, TlsPipe, accept_tls
from trio_broker.transports import READ_SIZE, TcpPipe

CONNACK = b"\x20"


@final
class Client:
    """A client's TLS, with its bytes in the hands of the test."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self.sock = sock

    async def handshake(self) -> bytes:
        """Do it but for the last bytes, which are returned."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                await self.hear()
            else:
                return self._outgoing.read()

    async def hear(self) -> bytes:
        """Wait for bytes; b"" at the end."""
        await trio.lowlevel.wait_readable(self.sock)
        data = self.sock.recv(READ_SIZE)
        self._incoming.write(data)
        return data

    async def read(self) -> bytes:
        """What the other side says next; b"" when it has said that it will say no more."""
        while True:
            try:
                return self.tls.read(RECORD_SIZE)
            except ssl.SSLWantReadError:
                assert await self.hear()

    def encrypt(self, *pieces: bytes) -> bytes:
        """Each as a record of its own."""
        for piece in pieces:
            self.tls.write(piece)
        return self._outgoing.read()

    def part(self) -> bytes:
        """close_notify."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()


@asynccontextmanager
async def both(certificates: Certificates, *pieces: bytes) -> AsyncIterator[tuple[TlsPipe, Client]]:
    """The two sides after a handshake; `pieces` come with its last bytes."""
    context = server_context(certificates.certificate, certificates.key)
    with trio.fail_after(30), socket_pair() as (near, far):
        client = Client(client_context(certificates), far)

        async def knock() -> None:
            last = await client.handshake()
            far.sendall(last + client.encrypt(*pieces))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(knock)
            pipe = await accept_tls(TcpPipe(near), context, timeout=30, linger=30)
        yield pipe, client


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    early=st.lists(st.binary(min_size=1, max_size=50), max_size=3),
    pieces=st.lists(st.binary(min_size=1, max_size=RECORD_SIZE + 10), max_size=6),
    cuts=st.lists(st.integers(0, 3 * RECORD_SIZE), max_size=8).map(sorted),
    more=st.booleans(),
)
def test_what_is_sent_arrives_however_it_is_cut(
    certificates: Certificates, early: list[bytes], pieces: list[bytes], cuts: list[int], more: bool
) -> None:
    async def talk() -> bytes:
        async with both(certificates, *early) as (pipe, client):
            stream = client.encrypt(*pieces)
            received = b""

            def take() -> None:
                nonlocal received
                while (data := pipe.receive_now()) is not None:
                    assert data
                    received += data

            if more:  # else the first bytes find the early ones unread
                take()
            for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                client.sock.sendall(stream[start:end])
                take()
            assert not pipe.ready
            client.sock.shutdown(socket.SHUT_WR)
            assert await pipe.receive() == b""
            return received

    assert trio.run(talk) == b"".join([*early, *pieces])


async def test_what_comes_with_the_handshake_needs_nothing_more_to_be_served(certificates: Certificates) -> None:
    """TLS 1.3 lets a client speak in the same breath; the socket then tells of nothing."""
    listener = listen(tls=server_context(certificates.certificate, certificates.key))
    async with dialled(listener, certificates, encode(Connect(client_id="a")), encode(PingReq())) as (_, client):
        received = await client.read()
        while not received.endswith(b"\xd0\x00"):
            received += await client.read()
        assert received.startswith(CONNACK)


@asynccontextmanager
async def dialled(
    listener: Listener, certificates: Certificates, *pieces: bytes
) -> AsyncIterator[tuple[Running, Client]]:
    """A broker, and a client that has sent these pieces right behind its handshake."""
    with trio.fail_after(30):
        async with running(listener) as run:
            with socket.create_connection(listener.address) as sock:
                sock.setblocking(False)
                client = Client(client_context(certificates), sock)
                last = await client.handshake()
                sock.sendall(last + client.encrypt(*pieces))
                yield run, client


async def test_close_notify_ends_a_connection_that_the_client_keeps_open(certificates: Certificates) -> None:
    listener = listen(tls=server_context(certificates.certificate, certificates.key))
    async with dialled(listener, certificates, encode(Connect(client_id="a"))) as (run, client):
        assert (await client.read()).startswith(CONNACK)
        # With bytes before it, and in one read with them.
        client.sock.sendall(client.encrypt(encode(Publish("t", b"last"))) + client.part())
        await until(lambda: not run.server.open_links)


async def test_a_client_that_has_said_goodbye_hears_close_notify(certificates: Certificates) -> None:
    listener = listen(tls=server_context(certificates.certificate, certificates.key))
    async with dialled(listener, certificates, encode(Connect(client_id="a"))) as (run, client):
        assert (await client.read()).startswith(CONNACK)
        client.sock.sendall(client.encrypt(encode(Disconnect())))
        assert await client.read() == b""  # without a wait for the client to close
        assert not await client.hear()
        await until(lambda: not run.server.open_links)


async def test_a_record_that_was_tampered_with_ends_the_connection_with_an_alert(certificates: Certificates) -> None:
    listener = listen(tls=server_context(certificates.certificate, certificates.key))
    async with dialled(listener, certificates, encode(Connect(client_id="a"))) as (run, client):
        assert (await client.read()).startswith(CONNACK)
        record = bytearray(client.encrypt(encode(PingReq())))
        record[-1] ^= 1
        client.sock.sendall(record)
        with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
            await client.read()
        [event] = await run.log_of("transport_failed")
    assert event["reason"] == "TLS failed: decryption failed or bad record mac"
    assert event["client_id"] == "a"


async def test_what_comes_before_a_bad_record_is_received(certificates: Certificates) -> None:
    async with both(certificates) as (pipe, client):
        client.sock.sendall(client.encrypt(b"good") + b"\x17\x03\x03\x00\x20" + bytes(32))
        assert pipe.receive_now() == b"good"
        assert pipe.ready
        with pytest.raises(TransportError, match=r"^TLS failed: "):
            pipe.receive_now()


async def test_what_came_with_the_handshake_is_received_although_the_client_has_gone(
    certificates: Certificates,
) -> None:
    async with both(certificates, b"early") as (pipe, client):
        client.sock.close()
        assert pipe.receive_now() == b"early"


async def test_when_it_is_over_what_came_with_the_handshake_is_nobodys(certificates: Certificates) -> None:
    async with both(certificates, b"early", b"too") as (pipe, client):
        await pipe.finish()
        assert not pipe.ready
        client.sock.close()
        with pytest.raises(ConnectionResetError):
            await pipe.receive()


async def test_openssl_gets_no_more_at_a_time_than_it_may_keep(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its buffers never shrink: what one large message took would be kept for each connection that ever got it."""
    sizes = []
    encrypt = TlsPipe._encrypt

    def watched(pipe: TlsPipe, data: bytes) -> bytes:
        sizes.append(len(data))
        return encrypt(pipe, data)

    monkeypatch.setattr(TlsPipe, "_encrypt", watched)
    async with both(certificates) as (pipe, _):
        pipe.send_now(bytes(1_000_000))
    assert max(sizes) == RECORD_SIZE
    assert sum(sizes) == 1_000_000


async def test_what_tls_itself_has_to_say_is_bounded(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(certificates) as (pipe, client):
        pipe._outgoing.write(bytes(tls_pipe.ANSWER_SIZE))  # as if so much had been asked
        client.sock.sendall(client.encrypt(b"!"))
        assert await pipe.receive() == b"!"
        pipe._outgoing.write(b"\0")
        client.sock.sendall(client.encrypt(b"!"))
        assert await pipe.receive() == b"!"
        with pytest.raises(TransportError, match="has it answer all the time"):
            await pipe.receive()


async def test_what_does_not_go_at_once_is_kept_in_its_order(certificates: Certificates) -> None:
    async with both(certificates) as (pipe, client):
        received = bytearray()

        async def read() -> None:
            while len(received) < len(sent):
                received.extend(await client.read())

        sent = bytes(range(256)) * 20_000
        assert not pipe.send_now(sent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await pipe.drain(10)
        assert received == sent


async def test_a_client_that_takes_nothing_is_noticed(certificates: Certificates) -> None:
    async with both(certificates) as (pipe, _):
        assert not pipe.send_now(bytes(5_000_000))
        with pytest.raises(TransportError, match=r"the client took nothing for 0\.2 seconds"):
            await pipe.drain(0.2)
