"""The Trio client over TLS: what it trusts, and how it says what is wrong; in memory."""

import contextlib
import ssl
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock

from mqttcore import Connect, Disconnect
from tests.trio_broker.fake_server import FakeServer
from trio_broker.client import ClientError, client_tls_context, open_client
from trio_broker.client.background import background


def server_context(authority: trustme.CA, name: str = "broker.test") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def tls_server(stream: trio.abc.Stream, context: ssl.SSLContext) -> trio.SSLStream[trio.abc.Stream]:
    return trio.SSLStream(stream, context, server_side=True, https_compatible=True)


async def send_alert(stream: trio.SSLStream[trio.abc.Stream]) -> None:
    # It stays in a buffer of Trio's when a handshake fails.
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.transport_stream.send_all(stream._outgoing.read())
    await stream.transport_stream.aclose()


async def tls_failure(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> str:
    near, far = trio.testing.memory_stream_pair()

    async def serve() -> None:
        stream = tls_server(far, server_side)
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
            await stream.receive_some()
        await send_alert(stream)

    async with background() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ClientError) as caught:
            async with open_client(Connect(), host="broker.test", stream=near, tls=client_side):
                pytest.fail("connected")
        await trio.testing.wait_all_tasks_blocked()
    return str(caught.value)


async def test_tls(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    authority = trustme.CA()
    server = FakeServer(tls_server(far, server_context(authority)))

    async def serve() -> None:
        await server.accept()
        await server.expect(Disconnect)
        await server.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with open_client(
            Connect(client_id="c"), host="broker.test", stream=near, tls=client_context(authority)
        ) as client:
            assert client.connected


async def test_a_server_of_another_authority(autojump_clock: MockClock) -> None:
    message = await tls_failure(server_context(trustme.CA()), client_context(trustme.CA()))
    assert message.startswith("TLS handshake with broker.test failed: the server's certificate does not verify: ")


async def test_a_server_of_another_name(autojump_clock: MockClock) -> None:
    authority = trustme.CA()
    message = await tls_failure(server_context(authority, "other.test"), client_context(authority))
    assert "Hostname mismatch" in message


async def test_tls_that_is_too_old(autojump_clock: MockClock, tmp_path: Any) -> None:
    authority = trustme.CA()
    old = server_context(authority)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    message = await tls_failure(old, client_tls_context(cafile=tmp_path / "ca.pem"))
    assert "TLS handshake with broker.test failed: TLS: " in message


async def test_a_server_without_tls(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ClientError, match="the server does not speak TLS on this port"):
        async with open_client(Connect(), stream=near, tls=client_context(trustme.CA())):
            pytest.fail("connected")


async def test_a_client_certificate_that_the_server_wants(autojump_clock: MockClock) -> None:
    authority = trustme.CA()
    demanding = server_context(authority)
    demanding.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(demanding)
    near, far = trio.testing.memory_stream_pair()

    async def serve() -> None:
        stream = tls_server(far, demanding)
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await send_alert(stream)

    async with background() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ClientError, match=r"connection was lost: TLS: .*certificate required"):
            async with open_client(Connect(), host="broker.test", stream=near, tls=client_context(authority)):
                pytest.fail("connected")


def test_files_that_are_no_certificates(tmp_path: Any) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ClientError, match=r"CA file .*empty.pem cannot be used: "):
        client_tls_context(cafile=empty)
    with pytest.raises(ClientError, match=r"CA file .*missing.pem cannot be used: No such file"):
        client_tls_context(cafile=tmp_path / "missing.pem")
    with pytest.raises(ClientError, match=r"client certificate .*empty.pem cannot be used: "):
        client_tls_context(certificate=empty)
