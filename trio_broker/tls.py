"""TLS on the server side: contexts from files, and handshakes that end in a reason, not in a silence."""

import ssl
import tempfile
from pathlib import Path

import trio

from trio_broker.errors import ConfigurationError, HandshakeError


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for TLS 1.2 and newer; `certificate` is a PEM file with a chain, `key` one with its key.

    Raises ConfigurationError that names the file at fault.
    """
    context = bare_context()
    load_certificate_files(context, certificate, key)
    return context


def load_certificate_files(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load a chain and its key from PEM files into a context, which may be in use: new connections are shown them.

    Keys of another kind than before need a new context: OpenSSL keeps one chain for each kind, and shows one of them.
    Raises ConfigurationError that names the file at fault, and leaves what the context had.
    """
    for path, what in ((certificate, "certificate"), (key, "key")):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read the TLS {what} {path}: {error.strerror}") from None
        if b"-----BEGIN " not in text:
            raise ConfigurationError(f"the TLS {what} {path} is not a PEM file: it has no -----BEGIN line")
    try:
        _load_pair(context, certificate, key)
    except _EncryptedKeyError:
        raise ConfigurationError(
            f"the TLS key {key} is encrypted; write it unencrypted with: openssl pkey -in {key} -out FILE"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"the TLS key {key} does not belong to the certificate {certificate}") from None
        raise ConfigurationError(
            f"cannot use the TLS certificate {certificate} with the key {key}: {_reason(error)}"
        ) from None


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path | None = None) -> None:
    # First into a context that nobody uses: a key that does not fit would leave the other one with half a pair.
    for each in (bare_context(), context):
        each.load_cert_chain(certificate, key, password=_refuse_password)


class _EncryptedKeyError(Exception):
    pass


def _refuse_password() -> str:
    # Without this OpenSSL would ask on the terminal, and a service would hang.
    raise _EncryptedKeyError


def load_key_pair(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    """Load a certificate chain and its key from PEM into a context, which may be in use.

    Raises ssl.SSLError if they are none, or not of each other, and OSError if they cannot be handed over; then the
    context keeps what it had.
    """
    # The ssl module reads them from files only; this one is nobody else's to read, and gone at once.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.touch(mode=0o600)
        path.write_bytes(chain_pem + b"\n" + key_pem)
        try:
            _load_pair(context, path)
        except _EncryptedKeyError:
            raise ssl.SSLError("the private key is encrypted") from None


def bare_context() -> ssl.SSLContext:
    """A server's context for TLS 1.2 and newer, without a certificate yet."""
    # Not create_default_context: its stricter checks are for a client's view of a server.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return "the connection ended"


async def handshake(
    stream: trio.abc.Stream, context: ssl.SSLContext, *, timeout: float, linger: float
) -> tuple["trio.SSLStream[trio.abc.Stream]", tuple[bytes, ...]]:
    """The TLS stream over `stream`, and the certificates (DER) that the client presented, its own first.

    Raises HandshakeError after `timeout` seconds, or when the client is refused; the alert that tells it why
    has then up to `linger` seconds to reach it.
    """
    secure = trio.SSLStream(stream, context, server_side=True)
    try:
        with trio.fail_after(timeout):
            await secure.do_handshake()
    except trio.TooSlowError:
        raise HandshakeError(f"no TLS handshake within {timeout:g} seconds") from None
    except trio.BrokenResourceError as error:
        with trio.move_on_after(linger):
            await _send_alert(secure)
        raise HandshakeError(f"TLS handshake failed: {_reason(error.__cause__)}") from None
    return secure, _presented_chain(secure)


async def _send_alert(secure: "trio.SSLStream[trio.abc.Stream]") -> None:
    # trio leaves the alert in its buffer, and the client would wait for it until its own time-out.
    alert = secure._outgoing.read()
    stream = secure.transport_stream
    try:
        if alert:
            await stream.send_all(alert)
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
            while await stream.receive_some():  # else what is unread would turn the alert into a reset
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


def _presented_chain(secure: "trio.SSLStream[trio.abc.Stream]") -> tuple[bytes, ...]:
    own = secure.getpeercert(True)
    if own is None:
        return ()
    public = getattr(secure._ssl_object, "get_unverified_chain", None)
    if public is not None:  # Python 3.13
        return tuple(public())
    chain = secure._ssl_object._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return tuple(ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain)
