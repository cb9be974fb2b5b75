"""HTTPS requests: every failure is a value, verified, and bounded in time, number and size."""

import datetime as dt
import gc
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateRevocationListBuilder, Name, NameAttribute
from cryptography.x509.oid import NameOID
from trio.testing import MockClock

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import HttpAnswer, HttpServer
from tests.trio_broker.custom_server import NAME, NOTHING, Answer, CustomServer, Received, Site, at, custom_server
from trio_broker.https import Address, HttpsClient
from trio_broker.limits import ServerLimits

HEADERS = (("content-type", "application/json"),)
CLOSED = Failed("the server closed the connection, or what it sent is not HTTP")


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


@pytest.fixture
def server(site: Site) -> Iterator[CustomServer]:
    with custom_server(site.context()) as running:
        yield running


@asynccontextmanager
async def client_of(
    server: HttpServer, resolve: dict[Address, Address] | None = None, **limits: Any
) -> AsyncIterator[HttpsClient]:
    client = HttpsClient(server, ServerLimits(**limits), resolve or {})
    try:
        with trio.fail_after(60):
            yield client
    finally:
        await client.aclose()


async def post(server: HttpServer, body: bytes = b"{}", **options: Any) -> HttpAnswer | Failed:
    async with client_of(server, **options) as client:
        return await client.request("POST", "/?api-version=0.5.0", HEADERS, body)


def kind(failed: HttpAnswer | Failed) -> str:
    assert isinstance(failed, Failed), failed
    return failed.kind


async def test_a_request_as_the_server_sees_it(site: Site, server: CustomServer) -> None:
    http = at(server, site, host=NAME.title(), path="/base", headers=(("x-key", "sesame"),))
    resolve = {(NAME, server.port): ("127.0.0.1", server.port)}
    server.answer = lambda request: Answer(200, b'{"attributes": {}}')
    assert await post(http, b'{"type": "connect"}', resolve=resolve) == HttpAnswer(200, b'{"attributes": {}}')
    [received] = server.requests
    headers = {name.lower(): value for name, value in received.headers.items()}
    assert received.path == "/base/?api-version=0.5.0"
    assert received.body == b'{"type": "connect"}'
    assert headers == {
        "host": f"{NAME}:{server.port}",
        "x-key": "sesame",
        "content-type": "application/json",
        "content-length": "19",
    }


async def test_requests_without_a_body(site: Site, server: CustomServer) -> None:
    async with client_of(at(server, site)) as client:
        assert await client.request("GET", "/path") == HttpAnswer(200, b"{}")
    assert server.requests[0].body == b""


@pytest.mark.parametrize("status", [200, 204, 301, 307, 400, 403, 405, 422, 500, 503])
async def test_every_status_is_an_answer(site: Site, server: CustomServer, status: int) -> None:
    body = b"" if status == 204 else b'{"reason": 5}'
    server.answer = lambda request: Answer(status, body)
    assert await post(at(server, site)) == HttpAnswer(status, body)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n{}", HttpAnswer(200, b"{}")),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}", HttpAnswer(200, b"{}")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", HttpAnswer(200, b"{}")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", HttpAnswer(200, b"{}")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}", Failed("the server's answer breaks off")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz", Failed("the server's answer breaks off")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2", CLOSED),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", CLOSED),
        (b"hello\r\n\r\n", CLOSED),
        (b"\x00\xff" * 1000, CLOSED),
        (b"\x30\x0a\x00\x04MQTT", CLOSED),
        (b"", CLOSED),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
async def test_answers_good_and_broken(
    site: Site, server: CustomServer, raw: bytes, answer: HttpAnswer | Failed
) -> None:
    server.answer = lambda request: Answer(raw=raw, then_close=True)
    assert await post(at(server, site)) == answer


# -------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("length", [262_144, 262_145, 10_000_000])
async def test_an_answer_is_bounded_in_size(site: Site, server: CustomServer, length: int) -> None:
    server.answer = lambda request: Answer(200, bytes(length))
    async with client_of(at(server, site)) as client:
        answer = await client.request("POST", "/")
        if length == 262_144:
            assert answer == HttpAnswer(200, bytes(length))
        else:
            assert answer == Failed("the answer is longer than 262144 bytes")
        server.answer = lambda request: Answer(200, b"next")
        assert await client.request("POST", "/") == HttpAnswer(200, b"next")


async def test_an_answer_that_does_not_end(site: Site, server: CustomServer) -> None:
    server.answer = lambda request: Answer(
        raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"400\r\n" * 1
        + (bytes(1024) + b"\r\n400\r\n") * 9999
    )
    assert await post(at(server, site), http_answer_bytes=100_000) == Failed("the answer is longer than 100000 bytes")


BEGINNINGS = [
    b"",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n",
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_an_answer_is_bounded_in_time(
    site: Site, server: CustomServer, beginning: bytes, patient_clock: MockClock
) -> None:
    server.answer = lambda request: Answer(raw=beginning)
    began = trio.current_time()
    answer = await post(at(server, site), http_timeout=7.5)
    assert answer == Failed("no complete answer within 7.5 seconds")
    assert trio.current_time() - began == pytest.approx(7.5, abs=0.5)


async def test_a_server_that_does_not_even_shake_hands(site: Site, patient_clock: MockClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        http = HttpServer(url=f"https://127.0.0.1:{listening.getsockname()[1]}", ca_pem=site.ca_pem)
        assert await post(http) == Failed("no complete answer within 10 seconds")


async def test_requests_under_way_are_bounded_in_number(site: Site, server: CustomServer) -> None:
    both = threading.Barrier(3, timeout=20)

    def answer(request: Received) -> Answer:
        both.wait()  # three are there at once
        return Answer(200, request.body)

    server.answer = answer
    async with client_of(at(server, site), http_connections=3) as client:
        answers: dict[int, HttpAnswer | Failed] = {}

        async def ask(number: int) -> None:
            answers[number] = await client.request("POST", "/", (), str(number).encode())

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask, number)
    assert answers == {number: HttpAnswer(200, str(number).encode()) for number in range(30)}
    assert server.most_at_once == 3
    assert server.connections == 3


async def test_who_waits_for_a_turn_waits_no_longer_than_for_an_answer(
    site: Site, server: CustomServer, patient_clock: MockClock
) -> None:
    server.answer = server.never
    async with client_of(at(server, site), http_connections=1) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(client.request, "POST", "/")
        assert trio.current_time() < 11
        assert len(server.requests) <= 2
        server.answer = lambda request: Answer(200, b"well again")
        assert await client.request("POST", "/") == HttpAnswer(200, b"well again")


async def test_a_cancelled_request_frees_its_connection(site: Site, server: CustomServer) -> None:
    arrived = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def answer(request: Received) -> Answer:
        token.run_sync_soon(arrived.set)
        return server.never(request)

    server.answer = answer
    async with client_of(at(server, site), http_connections=1) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, "POST", "/")
            await arrived.wait()
            nursery.cancel_scope.cancel()
        server.answer = lambda request: Answer(200, b"next")
        assert await client.request("POST", "/") == HttpAnswer(200, b"next")


async def test_whenever_it_is_cancelled_nothing_is_left_open(site: Site, server: CustomServer) -> None:
    async with client_of(at(server, site), http_connections=1) as client:
        for moment in range(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.request, "POST", "/")
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            if moment % 2:
                await client.aclose()  # so that the next one begins from the beginning
        assert await client.request("POST", "/") == HttpAnswer(200, b"{}")
    gc.collect()  # a socket that is still open is a warning, and so an error


# ---------------------------------------------------------------------------------------------- kept connections


async def test_connections_are_kept(site: Site, server: CustomServer) -> None:
    async with client_of(at(server, site)) as client:
        for _ in range(5):
            assert isinstance(await client.request("POST", "/", HEADERS, b"{}"), HttpAnswer)
    assert (len(server.requests), server.connections) == (5, 1)


async def test_a_connection_that_the_server_closed_between_requests(site: Site, server: CustomServer) -> None:
    server.answer = lambda request: Answer(200, b"{}", then_close=True)
    async with client_of(at(server, site)) as client:
        for _ in range(5):
            assert await client.request("POST", "/", HEADERS, b"{}") == HttpAnswer(200, b"{}")
    assert (len(server.requests), server.connections) == (5, 5)


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_connection_that_the_server_closes_at_that_moment(site: Site, server: CustomServer, how: str) -> None:
    async with client_of(at(server, site)) as client:
        assert await client.request("POST", "/") == HttpAnswer(200, b"{}")
        answers = [Answer(200, b"at last"), NOTHING]
        server.answer = lambda request: answers.pop()
        assert await client.request("POST", "/", (), b"once more") == HttpAnswer(200, b"at last")
    assert [request.body for request in server.requests] == [b"", b"once more", b"once more"]


async def test_a_server_that_came_back_on_its_port(site: Site) -> None:
    with custom_server(site.context()) as server:
        async with client_of(at(server, site)) as client:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(client.request, "POST", "/")
            await trio.to_thread.run_sync(server.stop)
            assert kind(await client.request("POST", "/")) == "no connection: Connection refused"
            with custom_server(site.context(), server.port):
                assert await client.request("POST", "/") == HttpAnswer(200, b"{}")


def resetting(listening: socket.socket) -> None:
    with listening:
        for _ in range(2):
            accepted, _address = listening.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()


async def test_a_server_that_resets(site: Site) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    http = HttpServer(url=f"https://127.0.0.1:{listening.getsockname()[1]}", ca_pem=site.ca_pem)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, resetting, listening)
        for _ in range(2):
            assert kind(await post(http)).startswith("no connection: ")


# ----------------------------------------------------------------------------------------- names and certificates


async def test_a_closed_port(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert await post(HttpServer(url=f"https://127.0.0.1:{port}", ca_pem=site.ca_pem)) == Failed(
        "no connection: Connection refused"
    )


class NoNames(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError


async def test_a_name_that_nobody_knows(site: Site) -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    assert await post(HttpServer(url=f"https://{NAME}", ca_pem=site.ca_pem)) == Failed(
        "no connection: Name or service not known"
    )


async def refused_or_answered(
    site: Site, context: ssl.SSLContext, *, host: str = "127.0.0.1", **fields: Any
) -> HttpAnswer | Failed:
    with custom_server(context) as server:
        resolve = {(host, server.port): ("127.0.0.1", server.port)}
        answer = await post(at(server, site, host=host, **fields), resolve=resolve)
        assert isinstance(answer, Failed) == (not server.requests)
        return answer


async def test_the_certificate_is_checked_against_the_name_and_not_the_address(site: Site) -> None:
    assert await refused_or_answered(site, site.context(NAME), host=NAME) == HttpAnswer(200, b"{}")
    assert "Hostname mismatch" in kind(await refused_or_answered(site, site.context("127.0.0.1"), host=NAME))
    assert "IP address mismatch" in kind(await refused_or_answered(site, site.context(NAME)))


async def test_resolve_is_for_one_name_and_port(site: Site, server: CustomServer) -> None:
    resolve = {(NAME, 443): ("127.0.0.1", server.port)}
    assert await post(HttpServer(url=f"https://{NAME}", ca_pem=site.ca_pem), resolve=resolve) == HttpAnswer(200, b"{}")
    assert server.requests[0].headers["Host"] == NAME
    trio.socket.set_custom_hostname_resolver(NoNames())
    assert isinstance(await post(HttpServer(url=f"https://{NAME}:444", ca_pem=site.ca_pem), resolve=resolve), Failed)


YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (lambda site: Site().context(), "self-signed certificate in certificate chain|unable to get local issuer"),
        (lambda site: site.context(not_after=YESTERDAY), "certificate has expired"),
        (lambda site: site.context(not_before=YESTERDAY + dt.timedelta(days=9)), "certificate is not yet valid"),
        (lambda site: site.context("other.example"), "IP address mismatch"),
    ],
)
async def test_a_wrong_certificate(site: Site, context: Callable[[Site], ssl.SSLContext], reason: str) -> None:
    failed = kind(await refused_or_answered(site, context(site)))
    assert failed.startswith("the server's certificate was refused: ")
    assert any(each in failed for each in reason.split("|")), failed


async def test_a_server_without_tls(site: Site) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with listening, listening.accept()[0] as accepted:
            accepted.recv(65_536)
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    http = HttpServer(url=f"https://127.0.0.1:{listening.getsockname()[1]}", ca_pem=site.ca_pem)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, answer)
        assert kind(await post(http)).startswith("TLS failed: ")


async def test_a_server_that_demands_a_client_certificate(site: Site) -> None:
    for_clients, strangers = Site(), Site()
    context = site.context(clients=for_clients.authority)
    for context.maximum_version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        chain, key = for_clients.client_pair()
        good = await refused_or_answered(site, context, client_cert_pem=chain, client_key_pem=key)
        assert good == HttpAnswer(200, b"{}")
        failed = kind(await refused_or_answered(site, context))
        # TLS 1.3 and 1.2; OpenSSL's words for the protocol change.
        assert failed.startswith("TLS failed: ")
        assert failed.endswith(("alert certificate required", "alert handshake failure"))
        chain, key = strangers.client_pair()
        failed = kind(await refused_or_answered(site, context, client_cert_pem=chain, client_key_pem=key))
        assert failed.startswith("TLS failed: ")
        assert failed.endswith("alert unknown ca")


def revocation_list() -> bytes:
    issuer = Name([NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = CertificateRevocationListBuilder(issuer, YESTERDAY, YESTERDAY + dt.timedelta(days=9))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM)


async def test_what_may_stand_between_the_certificates_to_trust(site: Site) -> None:
    bundle = b"".join(["# Prüfstelle\n".encode(), Site().ca_pem, revocation_list(), b"\xff\n", site.ca_pem, b"\n\n"])
    assert await refused_or_answered(site, site.context(), ca_pem=bundle) == HttpAnswer(200, b"{}")


async def test_an_intermediate_may_be_trusted(site: Site) -> None:
    intermediate = Site(site.authority.create_child_ca())
    assert await refused_or_answered(intermediate, intermediate.context()) == HttpAnswer(200, b"{}")


async def test_without_certificates_the_systems_are_trusted(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "certificate was refused" in kind(await refused_or_answered(site, site.context(), ca_pem=None))
    (tmp_path / "ca.pem").write_bytes(site.ca_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert await refused_or_answered(site, site.context(), ca_pem=None) == HttpAnswer(200, b"{}")


@pytest.mark.parametrize(
    "fields",
    [
        {"ca_pem": b""},
        {"ca_pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        {"client_cert_pem": b"x", "client_key_pem": b"y"},
        {"client_cert_pem": Site().client_pair()[0], "client_key_pem": Site().client_pair()[1]},
        {"client_cert_pem": Site().client_pair()[0]},
    ],
)
def test_what_cannot_be_used(fields: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"^the certificates or the key for https://auth cannot be used$"):
        HttpsClient(HttpServer(url="https://auth", **fields), ServerLimits(), {})  # type: ignore[arg-type]


async def test_no_failure_shows_a_header(site: Site, server: CustomServer) -> None:
    for value in ("sesame\r\nx: y", "sesame\u2026", "sesame\0"):
        failed = await post(at(server, site, headers=(("x-key", value),)))
        assert "sesame" not in kind(failed)
    assert not server.requests
