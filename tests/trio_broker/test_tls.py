"""TLS: files, handshakes that fail, certificates of clients, and the last word."""

import ssl
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from trio.testing import MockClock

from mqttcore.auth import Authentication, AuthRequest, Granted
from mqttcore.broker import Policy
from mqttcore.packets import Disconnect, Publish, Subscribe, Subscription
from tests.trio_broker.conftest import Certificates
from tests.trio_broker.support import Peer, Running, listen, running, until
from trio_broker import ConfigurationError, Listener, ServerLimits, server_context
from trio_broker.tls import bare_context, load_certificate_files, load_key_pair


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    return server_context(certificates.certificate, certificates.key)


def client_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context()
    certificates.authority.configure_trust(context)
    return context


async def dial_tls(run: Running, listener: Listener, context: ssl.SSLContext) -> "trio.SSLStream[trio.SocketStream]":
    stream = trio.SSLStream(await run.dial(listener), context, server_hostname="127.0.0.1")
    await stream.do_handshake()
    return stream


def test_an_encrypted_key_in_memory_is_refused_without_a_prompt(certificates: Certificates) -> None:
    key = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"pw")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    with pytest.raises(ssl.SSLError, match="the private key is encrypted"):
        load_key_pair(bare_context(), certificates.certificate.read_bytes(), pem)


async def test_a_pair_that_is_loaded_again_is_shown_from_then_on_and_a_wrong_one_never(
    certificates: Certificates, context: ssl.SSLContext, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = certificates.authority.issue_cert("127.0.0.1")
    chain_pem, key_pem = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    certificate.write_bytes(chain_pem)
    listener = listen(tls=context)

    async def shown(run: Running) -> bytes:
        async with await dial_tls(run, listener, client_context(certificates)) as stream:
            der = stream.getpeercert(True)
            assert isinstance(der, bytes)
            return der

    with trio.fail_after(30):
        async with running(listener) as run:
            before = await shown(run)
            key.write_bytes(certificates.key.read_bytes())
            with pytest.raises(ConfigurationError, match=f"{key} does not belong to the certificate {certificate}"):
                load_certificate_files(context, certificate, key)
            with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
                load_key_pair(context, chain_pem, certificates.key.read_bytes())
            key.unlink()
            with pytest.raises(ConfigurationError, match="cannot read the TLS key"):
                load_certificate_files(context, certificate, key)
            assert await shown(run) == before
            key.write_bytes(key_pem)
            load_certificate_files(context, certificate, key)
            assert await shown(run) == ssl.PEM_cert_to_DER_cert(chain_pem.decode())
            load_key_pair(context, certificates.certificate.read_bytes(), certificates.key.read_bytes())
            assert await shown(run) == before


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_large_messages_over_tls(
    certificates: Certificates, context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    ours = client_context(certificates)
    ours.minimum_version = ours.maximum_version = version
    listener = listen(tls=context)
    with trio.fail_after(30):
        async with running(listener) as run, await dial_tls(run, listener, ours) as stream:
            peer = Peer(stream)
            await peer.connect("a")
            await peer.send(Subscribe(1, (Subscription("t", qos=1),)))
            await peer.receive()
            await peer.send(Publish("t", bytes(1_000_000)))
            message = await peer.receive()
            assert isinstance(message, Publish)
            assert message.payload == bytes(1_000_000)
    assert run.logged("connected")[0]["protocol"] == "tls"


async def test_the_last_word_over_tls_ends_with_close_notify(
    certificates: Certificates, context: ssl.SSLContext, patient_clock: MockClock
) -> None:
    listener = listen(tls=context)
    async with running(listener) as run:
        stream = await dial_tls(run, listener, client_context(certificates))
        peer = Peer(stream)
        await peer.connect("a")
        await stream.send_all(b"\xff" * 100)
        assert isinstance(await peer.receive(), Disconnect)
        assert await stream.receive_some() == b""  # and not a truncated stream
        await until(lambda: run.server.open_links == 0)


async def test_a_handshake_has_its_time(context: ssl.SSLContext, patient_clock: MockClock) -> None:
    listener = listen(tls=context)
    async with running(listener, bounds=ServerLimits(tls_handshake_timeout=7.0)) as run:
        stream = await run.dial(listener)
        started = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(7.0, abs=0.1)
        await stream.aclose()
        [event] = await run.log_of("handshake_failed")
    assert event["reason"] == "no TLS handshake within 7 seconds"
    assert event["protocol"] == "tls"
    assert event["address"].startswith("127.0.0.1:")


async def test_plain_mqtt_on_a_tls_port_ends_at_once(context: ssl.SSLContext) -> None:
    listener = listen(tls=context)
    with trio.fail_after(30):
        async with running(listener) as run:
            stream = await run.dial(listener)
            await stream.send_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            assert await stream.receive_some() == b""
            [event] = await run.log_of("handshake_failed")
    assert event["reason"].startswith("TLS handshake failed: ")


async def test_old_versions_of_tls_are_refused_with_an_alert(
    certificates: Certificates, context: ssl.SSLContext
) -> None:
    ours = client_context(certificates)
    ours.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        ours.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning):
        ours.maximum_version = ssl.TLSVersion.TLSv1_1
    listener = listen(tls=context)
    with trio.fail_after(30):
        async with running(listener) as run:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await dial_tls(run, listener, ours)
            assert isinstance(caught.value.__cause__, ssl.SSLError)
            assert "ALERT" in (caught.value.__cause__.reason or "")
            run.dialled[0].socket.close()
            [event] = await run.log_of("handshake_failed")
            assert event["reason"] == "TLS handshake failed: unsupported protocol"


async def test_the_core_sees_the_certificates_of_the_client(
    certificates: Certificates, context: ssl.SSLContext
) -> None:
    seen = []

    def authenticate(request: AuthRequest) -> Authentication:
        seen.append(request.certificates)
        return Granted()
        yield

    intermediate = certificates.authority.create_child_ca()
    issued = intermediate.issue_cert("device-1")
    ours = client_context(certificates)
    issued.configure_cert(ours)
    context.verify_mode = ssl.CERT_OPTIONAL
    certificates.authority.configure_trust(context)
    listener = listen(tls=context, policy=Policy(authenticate=authenticate))
    with trio.fail_after(30):
        async with running(listener) as run:
            for each in (ours, client_context(certificates)):
                async with await dial_tls(run, listener, each) as stream:
                    await Peer(stream).connect("a")
    ders = [ssl.PEM_cert_to_DER_cert(blob.bytes().decode()) for blob in issued.cert_chain_pems]
    assert list(seen[0][:2]) == ders
    assert seen[1] == ()


async def test_an_untrusted_client_certificate_is_refused_with_an_alert(
    certificates: Certificates, context: ssl.SSLContext
) -> None:
    import trustme

    ours = client_context(certificates)
    trustme.CA().issue_cert("device-1").configure_cert(ours)
    context.verify_mode = ssl.CERT_REQUIRED
    certificates.authority.configure_trust(context)
    listener = listen(tls=context)
    with trio.fail_after(30):
        async with running(listener) as run:
            with pytest.raises(trio.BrokenResourceError) as caught:
                # With TLS 1.3 the client's handshake is over before the server has judged.
                await (await dial_tls(run, listener, ours)).receive_some()
            assert "ALERT_UNKNOWN_CA" in str(caught.value.__cause__)
            run.dialled[0].socket.close()
            [event] = await run.log_of("handshake_failed")
            assert event["reason"].startswith("TLS handshake failed: the client certificate was refused: unable to get")


def test_files_that_cannot_be_used(certificates: Certificates, tmp_path: Path) -> None:
    good, key = certificates.certificate, certificates.key
    missing, garbage, encrypted, other = (tmp_path / name for name in ("missing", "garbage", "encrypted", "other"))
    garbage.write_bytes(b"\x00\x01")
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    other.write_bytes(certificates.authority.issue_cert("x").private_key_pem.bytes())
    for certificate, private_key, message in (
        (missing, key, f"cannot read the TLS certificate {missing}: No such file or directory"),
        (good, missing, f"cannot read the TLS key {missing}: No such file or directory"),
        (tmp_path, key, f"cannot read the TLS certificate {tmp_path}: Is a directory"),
        (garbage, key, f"the TLS certificate {garbage} is not a PEM file: it has no -----BEGIN line"),
        (good, encrypted, f"the TLS key {encrypted} is encrypted; write it unencrypted with: openssl pkey"),
        (good, other, f"the TLS key {other} does not belong to the certificate {good}"),
        (key, key, f"cannot use the TLS certificate {key} with the key {key}: "),
    ):
        with pytest.raises(ConfigurationError) as caught:
            server_context(certificate, private_key)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)
