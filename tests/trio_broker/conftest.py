from pathlib import Path

import pytest
import trustme
from attrs import frozen
from trio.testing import MockClock


@pytest.fixture
def patient_clock() -> MockClock:
    """A virtual clock for tests with sockets: it jumps when the kernel, too, has been idle for a moment."""
    return MockClock(autojump_threshold=0.05)


@frozen
class Certificates:
    """PEM files of a server, and the authority that vouches for it."""

    authority: trustme.CA
    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return Certificates(authority, certificate, key)
