"""TLS for the client: the server is always verified, name and chain."""

import ssl
from pathlib import Path

from trio_broker.client.errors import ClientError


def client_tls_context(
    *, cafile: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """A context of TLS 1.2 or newer that trusts `cafile`, or the system's roots where there is none.

    `certificate` is a PEM file with the client's chain, `key` its private key (absent: in the same file).
    Raises ClientError, naming the file, when one cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=cafile)
    except OSError as exc:
        raise ClientError(f"CA file {cafile} cannot be used: {_file_problem(exc)}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cafile is not None:
        # Newer Pythons refuse by default the private CAs that "openssl req" makes (no key usage); and a file
        # with nothing but an intermediate is a decision of whoever names it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except OSError as exc:
            files = f"{certificate}" if key is None else f"{certificate} with key {key}"
            raise ClientError(f"client certificate {files} cannot be used: {_file_problem(exc)}") from exc
    return context


def _no_password() -> str:
    # OpenSSL would otherwise stop and ask on the terminal.
    raise ClientError("the client's private key is encrypted; decrypt it first, for instance with openssl pkey")


def _file_problem(exc: OSError) -> str:
    # ssl.SSLError is an OSError too: its text names OpenSSL's source, its reason the problem.
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or "it holds no usable PEM").replace("_", " ").lower()
    return exc.strerror or str(exc)
