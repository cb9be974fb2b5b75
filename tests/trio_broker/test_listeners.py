import errno
import socket

import pytest

from trio_broker import ConfigurationError, Listener
from trio_broker import listeners as module
from trio_broker.listeners import join, network_of, open_sockets


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_a_free_port_is_the_same_on_every_address() -> None:
    sockets = open_sockets(["127.0.0.1", "::1"], 0, 10)
    ports = {sock.getsockname()[1] for sock in sockets}
    close(sockets)
    assert len(sockets) == 2
    assert len(ports) == 1


def test_a_free_port_that_is_taken_on_the_next_address_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    listen = module._listen
    opened: list[socket.socket] = []

    def fail_twice(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
        if address[0] == "::1" and len(opened) < 3:
            raise OSError(errno.EADDRINUSE, "in use")
        opened.append(listen(family, address, backlog))
        return opened[-1]

    monkeypatch.setattr(module, "_listen", fail_twice)
    sockets = open_sockets(["127.0.0.1", "::1"], 0, 10)
    assert sockets == opened[2:]
    assert [sock.fileno() for sock in opened[:2]] == [-1, -1]
    close(sockets)


def test_a_port_in_use_is_named_with_its_address() -> None:
    [taken] = open_sockets(["127.0.0.1"], 0, 10)
    port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError) as caught:
        open_sockets(["127.0.0.2", "127.0.0.1"], port, 10, option="--ws-port")
    taken.close()
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 is in use by another program; choose another with --ws-port"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "", "256.1.1.1", "x" * 300])
def test_a_foreign_address_is_named(host: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an address of this system; see --bind"):
        open_sockets([host], 0, 10)


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_an_optional_address_is_left_out(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    listen = module._listen

    def without_ipv6(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return listen(family, address, backlog)

    monkeypatch.setattr(module, "_listen", without_ipv6)
    sockets = open_sockets(["127.0.0.1", "::1"], 0, 10, optional=["::1"])
    assert len(sockets) == 1
    close(sockets)
    with pytest.raises(ConfigurationError):
        open_sockets(["127.0.0.1", "::1"], 0, 10)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "port 80 on 127.0.0.1 needs more privileges; choose one above 1023 with --port"),
        (errno.ENOBUFS, "cannot listen on port 80 of 127.0.0.1: x"),
    ],
)
def test_other_reasons(monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    def fail(*_: object) -> socket.socket:
        raise OSError(number, "x")

    monkeypatch.setattr(module, "_listen", fail)
    with pytest.raises(ConfigurationError) as caught:
        open_sockets(["127.0.0.1"], 80, 10)
    assert str(caught.value) == message


def test_urls() -> None:
    [sock] = open_sockets(["::1"], 0, 10)
    port = sock.getsockname()[1]
    assert Listener(socket=sock).url == f"mqtt://[::1]:{port}"
    assert Listener(socket=sock, websocket=True).url == f"ws://[::1]:{port}"
    sock.close()


def test_ipv6_addresses_are_counted_by_network() -> None:
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("fe80::1%eth0") == "fe80::"
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert join(("::1", 1)) == "[::1]:1"
