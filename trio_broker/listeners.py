"""Listening sockets, and what is spoken on them."""

import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from attrs import define, field

from mqttcore.broker import Policy
from trio_broker.errors import ConfigurationError

Address = tuple[str, int]
"""An IP address and a port."""

LOCAL = ("127.0.0.1", "::1")
"""Where a broker listens that is told no address: nobody else's machine reaches it."""
FREE_PORT_ATTEMPTS = 16
"""Free ports tried before giving up on one that is free on every address."""


@define(kw_only=True, eq=False)
class Listener:
    """A bound, listening TCP socket, what runs over its connections, and the policy that holds for them.

    What is set anew, but for the socket, holds for connections to come.
    """

    socket: socket.socket
    policy: Policy = field(factory=Policy)
    tls: ssl.SSLContext | None = None
    websocket: bool = False

    @property
    def name(self) -> str:
        """ "tcp", "tls", "ws" or "wss"."""
        if self.websocket:
            return "wss" if self.tls else "ws"
        return "tls" if self.tls else "tcp"

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port, *_ = self.socket.getsockname()
        return host, port

    @property
    def url(self) -> str:
        """The address as clients write it: mqtt://, mqtts://, ws:// or wss://."""
        scheme = {"tcp": "mqtt", "tls": "mqtts"}.get(self.name, self.name)
        return f"{scheme}://{join(self.address)}"


def join(address: Address) -> str:
    """The address as one string, an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def network_of(host: str) -> str:
    """What connections are counted by: an IPv4 address, or an IPv6 /64, as one customer has."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))


def open_listeners(
    number: int, bind: Sequence[str], backlog: int, policy: Policy, *, option: str = "--port",
    context: ssl.SSLContext | None = None, websocket: bool = False,
) -> list[Listener]:  # fmt: skip
    """Listeners for one port on all addresses, LOCAL if `bind` has none.

    Raises ConfigurationError, which names `option`.
    """
    sockets = open_sockets(bind or LOCAL, number, backlog, optional=() if bind else LOCAL[1:], option=option)
    return [Listener(socket=sock, policy=policy, tls=context, websocket=websocket) for sock in sockets]


def close_listeners(listeners: Iterable[Listener]) -> None:
    """Close the sockets of listeners that nobody serves."""
    for listener in listeners:
        listener.socket.close()


def open_sockets(
    hosts: Sequence[str], port: int, backlog: int, *, optional: Iterable[str] = (), option: str = "--port"
) -> list[socket.socket]:
    """Listen on one port of several addresses; port 0 finds one that is free on all of them.

    An address in `optional` is left out on a system that does not have it. Raises ConfigurationError; in its
    message `option` is the command's option for the port.
    """
    failure = ConfigurationError("there is no address to listen on")
    for _ in range(FREE_PORT_ATTEMPTS if port == 0 else 1):
        sockets: list[socket.socket] = []
        host, chosen = "", port
        with ExitStack() as opened:
            try:
                for host in hosts:
                    for family, address in _resolve(host, chosen):
                        try:
                            sock = _listen(family, address, backlog)
                        except OSError as error:
                            if host in optional and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                                continue
                            raise
                        sockets.append(opened.enter_context(sock))
                        chosen = sock.getsockname()[1]
            except OSError as error:
                failure = ConfigurationError(_explain(error, host, chosen, option))
                if error.errno == errno.EADDRINUSE:  # a free port of one address may be taken on the next
                    continue
                raise failure from None
            opened.pop_all()
            return sockets
    raise failure


def _resolve(host: str, port: int) -> list[tuple[int, Address]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError(f"{host!r} is not an address of this system; see --bind") from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]


def _listen(family: int, address: Address, backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # So that :: and 0.0.0.0 can have the same port.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is in use by another program; choose another with {option}"
        case errno.EACCES:
            return f"port {port} on {host} needs more privileges; choose one above 1023 with {option}"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this system; see --bind"
        case _:
            return f"cannot listen on port {port} of {host}: {error.strerror}"
