"""The local certificate authority's directory: what is there and still good is used again, the rest is made anew.

Every function takes the time in Unix seconds, and raises ConfigurationError that names the file at fault.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from attrs import frozen
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.oid import NameOID

from mqttcore.authenticators.chain_diagnosis import UNREADABLE
from trio_broker.atomic import create_atomically, write_atomically
from trio_broker.errors import ConfigurationError
from trio_broker.pki import (
    ADDRESSES,
    CLIENT_LIFETIME,
    DNS_NAMES,
    ORGANIZATION,
    SERVER_LIFETIME,
    Address,
    Issued,
    LocalAuthority,
    renewal_time,
)
from trio_broker.resources.configuration import KeyAlgorithm

AUTHORITY_FILE = "authority.pem"
"""The authority with its keys; who reads this can make any certificate."""
ROOTS_FILE = "broker-ca.crt"
CHAIN_FILE = "chain.pem"
"""The intermediates and the roots, for the `--cafile` of clients."""
PRIVATE, PUBLIC = 0o600, 0o644

# A port asks for each certificate anew, and OpenSSL takes a tenth of a second to check the RSA key.
_parsed = lru_cache(maxsize=1)(LocalAuthority.from_pem)


@frozen
class ServerCertificate:
    """A server certificate in a PEM file, with its chain and its key, and when it is due for renewal (Unix seconds)."""

    path: Path
    renewal_time: float


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An OSError becomes a ConfigurationError that names the file."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def file_name(name: str) -> str:
    """A name for a file, whatever the name is: no path, not hidden, no option, and another one for another name."""
    quoted = quote(name, safe="")
    return f"%{ord(quoted[0]):02X}{quoted[1:]}" if quoted.startswith((".", "-", "~")) else quoted


def open_authority(directory: Path, now: float) -> LocalAuthority:
    """The authority of a directory, which are made if they are not there, and the files for its clients."""
    path = directory / AUTHORITY_FILE
    with _naming(path):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _read_authority(path)
        if authority is None or authority.is_due(now):
            # Of two commands that start together in a new directory, the second takes what the first has made.
            write = create_atomically if authority is None else write_atomically
            write(path, LocalAuthority.create(now).pem, mode=PRIVATE)
            authority = _read_authority(path)
            assert authority is not None
    _publish(directory / ROOTS_FILE, authority.roots_pem)
    _publish(directory / CHAIN_FILE, authority.chain_pem)
    return authority


def _read_authority(path: Path) -> LocalAuthority | None:
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigurationError(f"{path} is no authority ({error}); remove it to have a new one made") from None


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one step, and its directory if there is none."""
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content, mode=mode)


def _publish(path: Path, content: bytes) -> None:
    with _naming(path):
        if not path.exists() or path.read_bytes() != content:
            write_file(path, content, PUBLIC)


def server_certificate(
    directory: Path,
    name: str,
    authority: LocalAuthority,
    now: float,
    *,
    dns_names: Iterable[str] = DNS_NAMES,
    addresses: Iterable[Address] = ADDRESSES,
    algorithm: KeyAlgorithm = KeyAlgorithm.EC256,
    lifetime: float = SERVER_LIFETIME,
    renew_before: float | None = None,
    keep_key: bool = False,
) -> ServerCertificate:
    """The server certificate called `name`: the one that is there, or a new one if that is due or is for other names.

    Durations are seconds; with `keep_key` a new certificate has the key of the old one. A long RSA key takes seconds.
    """
    path = directory / f"server-{file_name(name)}.pem"
    dns_names, addresses = tuple(dns_names), tuple(addresses)
    with _naming(path):
        issued = _read_issued(path)
        if (
            issued is None
            or not issued.is_for(algorithm, dns_names, addresses)
            or not _is_good(issued, authority, now, renew_before)
        ):
            issued = authority.issue_server(
                now,
                dns_names=dns_names,
                addresses=addresses,
                algorithm=algorithm,
                lifetime=lifetime,
                previous=issued if keep_key else None,
            )
            # In one file, so that nobody sees the certificate of one and the key of another.
            write_atomically(path, issued.chain_pem + issued.key_pem, mode=PRIVATE)
    return ServerCertificate(path, renewal_time(issued.not_before, issued.not_after, renew_before))


def client_certificate(
    certificate: Path,
    key: Path,
    common_name: str,
    authority: LocalAuthority,
    now: float,
    *,
    lifetime: float = CLIENT_LIFETIME,
) -> Issued:
    """The client certificate in two files: the one that is there, or a new one if that is due or another client's."""
    with _naming(certificate):
        issued = _read_issued(certificate, key)
        if issued is None or not _is_good(issued, authority, now) or _common_names(issued) != [common_name]:
            issued = authority.issue_client(common_name, now, lifetime=lifetime)
            write_client(certificate, key, issued)
    return issued


def write_client(certificate: Path, key: Path, issued: Issued) -> None:
    """Write a client's certificate, with its chain, and its key."""
    # The key first: a certificate of which the key is missing would be of no use.
    write_file(key, issued.key_pem, PRIVATE)
    write_file(certificate, issued.chain_pem, PUBLIC)


def is_ours(path: Path) -> bool:
    """Whether a file may be written anew: it is not there, or its first certificate is by an authority of ours."""
    with _naming(path):
        try:
            certificate = load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            return True
        except UNREADABLE:
            return False
    return ORGANIZATION in (each.value for each in certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def _read_issued(*paths: Path) -> Issued | None:
    """What is in files of ours; None if it cannot be used, and may be replaced."""
    try:
        return Issued.from_pem(b"".join(path.read_bytes() for path in paths))
    except (FileNotFoundError, ValueError):
        return None


def _is_good(issued: Issued, authority: LocalAuthority, now: float, renew_before: float | None = None) -> bool:
    due = renewal_time(issued.not_before, issued.not_after, renew_before)
    return authority.has_issued(issued) and issued.not_before <= now < due


def _common_names(issued: Issued) -> list[str | bytes]:
    subject = issued.certificates[0].subject
    return [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
