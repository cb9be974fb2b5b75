"""Ports that ask for a client certificate: real handshakes, and what is then made of the chain."""

import datetime as dt
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from attrs import field, frozen
from cryptography.x509 import DNSName, SubjectAlternativeName

from mqttcore.auth import AuthRequest, Denied, Exchange, Granted, NotRelevant, Verdict
from mqttcore.authenticators.x509 import trust_anchors, x509
from tests.mqttcore.authenticators.certificates import AUTHORITY, FOR_SERVERS, Identity, issue, version_1
from trio_broker.client_certificates import request_client_certificates
from trio_broker.errors import HandshakeError
from trio_broker.tls import server_context
from trio_broker.tls_pipe import accept_tls
from trio_broker.transports import TcpPipe

TODAY = dt.datetime.now(dt.UTC)
YEAR = dt.timedelta(days=365)
VALID = TODAY - YEAR, TODAY + YEAR
EXPIRED = TODAY - 2 * YEAR, TODAY - YEAR
NOT_YET_VALID = TODAY + YEAR, TODAY + 2 * YEAR

ROOT = issue("root", extensions=AUTHORITY, validity=VALID)
INTERMEDIATE = issue("intermediate", ROOT, extensions=AUTHORITY, validity=VALID)
DEVICE = issue("device", INTERMEDIATE, validity=VALID)
RSA_ROOT = issue("rsa-root", kind="RSA", extensions=AUTHORITY, validity=VALID)
RSA_INTERMEDIATE = issue("rsa-intermediate", RSA_ROOT, kind="RSA", extensions=AUTHORITY, validity=VALID)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
Chain = Sequence[Identity]


@frozen
class Outcome:
    """How a handshake ended for both: the chain or the error here, the alert or "" there."""

    chain: tuple[bytes, ...] = ()
    error: str = ""
    alert: str = field(default="", kw_only=True)


def write_pair(directory: Path, name: str, chain: Chain) -> tuple[Path, Path]:
    certificate, private = directory / f"{name}.crt", directory / f"{name}.key"
    certificate.write_bytes(b"".join(each.pem for each in chain))
    private.write_bytes(chain[0].key_pem)
    return certificate, private


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    own = issue("server", ROOT, extensions=[SubjectAlternativeName([DNSName("localhost")])], validity=VALID)
    return server_context(*write_pair(tmp_path, "server", [own]))


def client(directory: Path, presented: Chain, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ROOT.der)
    context.minimum_version = context.maximum_version = version
    if presented:
        context.load_cert_chain(*write_pair(directory, "client", presented))
    return context


async def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> Outcome:
    """One handshake over TCP."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    chain: tuple[bytes, ...] = ()
    error = alert = ""

    async def serve() -> None:
        nonlocal chain, error
        stream = await listener.accept()
        with socket.socket(fileno=stream.socket.detach()) as sock:
            sock.setblocking(False)
            try:
                pipe = await accept_tls(TcpPipe(sock), server, timeout=30, linger=30)
            except HandshakeError as failure:
                error = str(failure)
            else:
                chain = pipe.presented_chain()
                assert pipe.send_now(b"!")
                assert await pipe.receive() == b"?"

    async with listener, trio.open_nursery() as nursery:
        with trio.fail_after(60):
            nursery.start_soon(serve)
            stream = trio.SSLStream(
                await trio.testing.open_stream_to_socket_listener(listener), client, server_hostname="localhost"
            )
            try:
                assert await stream.receive_some() == b"!"
                await stream.send_all(b"?")
            except trio.BrokenResourceError as failure:
                alert = getattr(failure.__cause__, "reason", "")
            await trio.aclose_forcefully(stream)
    return Outcome(chain, error, alert=alert)


def judge(trusted: Chain, certificates: tuple[bytes, ...]) -> Verdict:
    anchors = trust_anchors(b"".join(each.pem for each in trusted))
    request = AuthRequest(certificates=certificates, time=TODAY.timestamp())
    exchange = Exchange(x509(anchors), request, 0)
    exchange.start()
    assert exchange.verdict is not None
    return exchange.verdict


async def present(
    server: ssl.SSLContext, directory: Path, version: ssl.TLSVersion, trusted: Chain, presented: Chain
) -> Outcome:
    request_client_certificates(server, *(trust_anchors(each.pem) for each in trusted))
    return await meet(server, client(directory, presented, version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("trusted", "presented"),
    [
        pytest.param([ROOT], [DEVICE, INTERMEDIATE], id="EC"),
        pytest.param([ROOT], [DEVICE, INTERMEDIATE, ROOT], id="EC with the root"),
        pytest.param(
            [RSA_ROOT],
            [issue("device", RSA_INTERMEDIATE, kind="RSA", validity=VALID), RSA_INTERMEDIATE],
            id="RSA",
        ),
        pytest.param([INTERMEDIATE], [DEVICE], id="intermediate as anchor"),
        pytest.param([INTERMEDIATE], [DEVICE, INTERMEDIATE], id="intermediate as anchor and presented"),
        pytest.param([ROOT, INTERMEDIATE], [DEVICE], id="root and intermediate trusted"),
        pytest.param([RSA_ROOT, ROOT], [DEVICE, INTERMEDIATE], id="one of two roots"),
        pytest.param(
            [issue("root", extensions=AUTHORITY, validity=EXPIRED), INTERMEDIATE],
            [DEVICE, INTERMEDIATE],
            id="an expired root above a trusted intermediate",
        ),
    ],
)
async def test_the_chain_comes_as_it_was_presented_and_is_good(
    server: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion, trusted: Chain, presented: Chain
) -> None:
    outcome = await present(server, tmp_path, version, trusted, presented)
    assert outcome == Outcome(tuple(each.der for each in presented))
    verdict = judge(trusted, outcome.chain)
    assert isinstance(verdict, Granted)
    assert verdict.username == "device"


@pytest.mark.parametrize("version", VERSIONS)
async def test_no_certificate_is_demanded(server: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion) -> None:
    outcome = await present(server, tmp_path, version, [ROOT], [])
    assert outcome == Outcome()
    assert isinstance(judge([ROOT], outcome.chain), NotRelevant)


OTHER = issue("other", DEVICE, validity=VALID)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("trusted", "presented", "reason", "alert"),
    [
        pytest.param([RSA_ROOT], [DEVICE, INTERMEDIATE], "unable to get", "UNKNOWN_CA", id="wrong authority"),
        pytest.param([ROOT], [DEVICE], "unable to", "UNKNOWN_CA", id="intermediate missing"),
        pytest.param([ROOT], [issue("device", validity=VALID)], "self-signed", "UNKNOWN_CA", id="self-signed"),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, validity=EXPIRED)],
            "certificate has expired",
            "CERTIFICATE_EXPIRED",
            id="expired",
        ),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, validity=NOT_YET_VALID)],
            "certificate is not yet valid",
            "BAD_CERTIFICATE",
            id="not yet valid",
        ),
        pytest.param(
            [ROOT],
            [DEVICE, issue("intermediate", ROOT, extensions=AUTHORITY, validity=EXPIRED)],
            "certificate has expired",
            "CERTIFICATE_EXPIRED",
            id="intermediate expired",
        ),
        pytest.param([ROOT], [OTHER, DEVICE, INTERMEDIATE], "invalid CA", "", id="leaf used as authority"),
        pytest.param(
            [ROOT],
            [issue("device", ROOT, extensions=FOR_SERVERS, validity=VALID)],
            "unsuitable certificate purpose",
            "UNSUPPORTED_CERTIFICATE",
            id="for servers",
        ),
    ],
)
async def test_a_bad_certificate_fails_the_handshake_and_the_client_learns_why(
    server: ssl.SSLContext,
    tmp_path: Path,
    version: ssl.TLSVersion,
    trusted: Chain,
    presented: Chain,
    reason: str,
    alert: str,
) -> None:
    outcome = await present(server, tmp_path, version, trusted, presented)
    assert not outcome.chain
    assert outcome.error.startswith("TLS handshake failed: ")
    assert outcome.error.startswith(f"TLS handshake failed: the client certificate was refused: {reason}")
    assert "ALERT" in outcome.alert
    assert alert in outcome.alert
    # Nor would it get in without the handshake.
    assert isinstance(judge(trusted, tuple(each.der for each in presented)), Denied)


@pytest.mark.parametrize(
    ("trusted", "presented", "message"),
    [
        pytest.param(
            [ROOT], [issue("device", ROOT, kind="RSA", validity=VALID)], "must be all EC or all RSA", id="mixed"
        ),
        pytest.param(
            [ROOT], [issue("device", ROOT, kind="Ed25519", validity=VALID)], "is Ed25519; EC and RSA keys", id="Ed25519"
        ),
        pytest.param(
            [ROOT], [version_1(issue("device", ROOT, validity=VALID), ROOT)], "X.509 version 1", id="version 1"
        ),
    ],
)
async def test_what_the_handshake_lets_pass_is_denied_after_it(
    server: ssl.SSLContext, tmp_path: Path, trusted: Chain, presented: Chain, message: str
) -> None:
    outcome = await present(server, tmp_path, ssl.TLSVersion.TLSv1_3, trusted, presented)
    assert not outcome.error
    # The client's OpenSSL adds the root that it knows.
    assert outcome.chain == (presented[0].der, ROOT.der)
    verdict = judge(trusted, outcome.chain)
    assert isinstance(verdict, Denied)
    assert message in verdict.message


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_not_resumed(server: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion) -> None:
    # trio has no way to resume a session, so without sockets.
    request_client_certificates(server, trust_anchors(ROOT.pem))
    ours = client(tmp_path, [DEVICE, INTERMEDIATE], version)
    session = None
    for _ in range(2):
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        near = ours.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
        far = server.wrap_bio(to_server, to_client, server_side=True)
        for side in (near, far, near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        far.write(b"!")
        assert near.read(1) == b"!"
        assert not far.session_reused
        session = near.session
        assert session is None or not session.has_ticket
