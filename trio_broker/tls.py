"""TLS on the server side: contexts, from files and from memory. `tls_pipe` has what is done with them."""

import ssl
import tempfile
from pathlib import Path

from trio_broker.errors import ConfigurationError


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
            f"cannot use the TLS certificate {certificate} with the key {key}: {reason(error)}"
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
    context.options |= ssl.OP_NO_RENEGOTIATION  # so that nothing but a handshake has to be read before it can be sent
    return context


def reason(error: BaseException) -> str:
    """In words, why TLS has failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return "the connection ended"
