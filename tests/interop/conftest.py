from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import trustme

from tests.interop.harness import Endpoint, Transport
from tests.interop.peers import PEERS
from tests.processes import broker

# How the broker's banner names the transports.
SCHEMES: dict[Transport, str] = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    missing = [tool for peer in PEERS.values() if (tool := peer.missing()) is not None]
    if missing:
        pytest.fail(f'not installed: {", ".join(missing)}; "make interop" installs them')


@pytest.fixture(scope="session")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Transport, Endpoint]]:
    """One broker for all tests, listening in the four ways; topics and client identifiers keep them apart."""
    directory: Path = tmp_path_factory.mktemp("broker")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    with (directory / "cert.pem").open("wb") as file:
        for blob in certificate.cert_chain_pems:
            file.write(blob.bytes())
    with broker(
        directory,
        *("--ws-port", "0", "--tls-port", "0", "--wss-port", "0"),
        *("--tls-cert", str(directory / "cert.pem"), "--tls-key", str(directory / "key.pem")),
    ) as ports:
        ca = str(directory / "ca.pem")
        yield {
            transport: Endpoint(transport, ports[scheme], ca if transport in ("tls", "wss") else "")
            for transport, scheme in SCHEMES.items()
        }


_numbers = count(1)


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Names for topics and client identifiers that no other test uses."""
    number = next(_numbers)
    return lambda name: f"{name}{number}"
