"""Automatic TLS: what certificate a port shows, and that its renewal disconnects nobody."""

import io
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from trio.testing import MockClock

from mqttcore import PingReq, PingResp
from mqttcore.auth import Authentication, AuthRequest, Granted
from mqttcore.broker import Policy
from tests.trio_broker.support import Peer, Running, listen, running
from trio_broker import ConfigurationError, Listener, ServerLimits
from trio_broker.logs import EventLog, make_logger
from trio_broker.pki_files import client_certificate, open_authority
from trio_broker.port_tls import PortTls, renew_certificates
from trio_broker.resources import Authentication as AuthenticationResource
from trio_broker.resources import (
    AutomaticTls,
    CertificateSpec,
    IssuerKind,
    KeyAlgorithm,
    Port,
    RotationPolicy,
    X509Settings,
)

NOW = time.time()
DAY = 86_400.0


def port(*methods: X509Settings, **fields: object) -> Port:
    spec = CertificateSpec(issuer_name="i", issuer_kind=IssuerKind.ISSUER, **fields)  # type: ignore[arg-type]
    return Port(
        listener="default",
        namespace="azure-iot-operations",
        service_name="aio-broker",
        number=18883,
        tls=AutomaticTls(spec),
        authentication=AuthenticationResource("a", "azure-iot-operations", methods) if methods else None,
    )


async def dial(run: Running, listener: Listener, directory: Path) -> "trio.SSLStream[trio.SocketStream]":
    context = ssl.create_default_context(cafile=directory / "broker-ca.crt")
    stream = trio.SSLStream(await run.dial(listener), context, server_hostname="aio-broker")
    await stream.do_handshake()
    return stream


def shown(stream: "trio.SSLStream[trio.SocketStream]") -> x509.Certificate:
    der = stream.getpeercert(True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


async def ping(peer: Peer) -> bool:
    await peer.send(PingReq())
    return isinstance(await peer.receive(), PingResp)


@pytest.mark.parametrize("rotation", RotationPolicy)
async def test_a_renewed_certificate_is_shown_to_new_connections_and_ends_no_old_one(
    tmp_path: Path, rotation: RotationPolicy
) -> None:
    tls = PortTls(port(rotation_policy=rotation), tmp_path, NOW - 25 * DAY)  # of 30, and due ten before their end
    assert tls.renewal_time < NOW
    listener = listen(tls=tls.context)
    with trio.fail_after(30):
        async with running(listener) as run, await dial(run, listener, tmp_path) as before:
            peer = Peer(before)
            await peer.connect("c")
            tls.install(tls.issue(NOW))
            assert await ping(peer)
            async with await dial(run, listener, tmp_path) as after:
                assert shown(after).serial_number != shown(before).serial_number
                same_key = shown(after).public_key() == shown(before).public_key()
                assert same_key == (rotation is RotationPolicy.NEVER)
            assert await ping(peer)


def test_the_certificate_is_as_the_manifest_says(tmp_path: Path) -> None:
    tls = PortTls(
        port(
            algorithm=KeyAlgorithm.EC384,
            duration=2 * DAY,
            renew_before=DAY / 2,
            dns_names=("broker.example",),
            ip_addresses=(ip_address("127.0.0.9"),),
        ),
        tmp_path,
        NOW,
    )
    [file] = tmp_path.glob("server-*.pem")
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"broker.example", "localhost", "aio-broker"} <= set(names.get_values_for_type(x509.DNSName))
    assert ip_address("127.0.0.9") in names.get_values_for_type(x509.IPAddress)
    end = certificate.not_valid_after_utc.timestamp()
    assert end == pytest.approx(NOW + 2 * DAY, abs=2)
    assert tls.renewal_time == pytest.approx(end - DAY / 2)


def test_a_certificate_that_is_good_is_used_again(tmp_path: Path) -> None:
    first = PortTls(port(), tmp_path, NOW)
    [file] = tmp_path.glob("server-*.pem")
    content = file.read_bytes()
    assert PortTls(port(), tmp_path, NOW + DAY).renewal_time == first.renewal_time
    assert file.read_bytes() == content


async def test_the_task_renews_in_time_and_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + trio.current_time())
    tls = PortTls(port(duration=2 * DAY, renew_before=DAY), tmp_path, time.time())
    output = io.StringIO()
    log = EventLog(make_logger("text", "info", output), ServerLimits())
    issue, failures = tls.issue, iter([ConfigurationError("the disk is full")])

    def unreliable(now: float) -> object:
        if (failure := next(failures, None)) is not None:
            raise failure
        return issue(now)

    async def at_once(function: Callable[..., object], *arguments: object) -> object:
        return function(*arguments)  # for the clock would jump over what a thread takes

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    monkeypatch.setattr(tls, "issue", unreliable)
    with trio.move_on_after(DAY + 3600):
        await renew_certificates(lambda: [tls], log)
    assert "certificate_not_renewed port=default:18883" in output.getvalue()
    assert "the disk is full" in output.getvalue()
    assert "certificate_renewed port=default:18883" in output.getvalue()
    assert tls.renewal_time > NOW + 1.9 * DAY
    assert datetime.fromtimestamp(tls.renewal_time, UTC).year >= 2026


async def test_a_port_with_x509_asks_for_a_certificate_and_does_not_demand_one(tmp_path: Path) -> None:
    authority = open_authority(tmp_path, NOW)
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
    client_certificate(certificate, key, "device", authority, NOW)
    seen: list[int] = []

    def look(request: AuthRequest) -> Authentication:
        seen.append(len(request.certificates))
        return Granted()
        yield

    tls = PortTls(port(X509Settings(authority.roots_pem)), tmp_path, NOW)
    listener = listen(tls=tls.context, policy=Policy(authenticate=look))
    with trio.fail_after(30):
        async with running(listener) as run:
            async with await dial(run, listener, tmp_path) as stream:
                await Peer(stream).connect("without")
            context = ssl.create_default_context(cafile=tmp_path / "broker-ca.crt")
            context.load_cert_chain(certificate, key)
            secure = trio.SSLStream(await run.dial(listener), context, server_hostname="localhost")
            async with secure:
                await Peer(secure).connect("with")
    assert seen[0] == 0
    assert seen[1] >= 1
