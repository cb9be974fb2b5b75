"""How connections come in: who is let in, what handshakes are made, and by which policy they are served."""

import socket
from collections import Counter
from typing import Protocol, final

import trio

from mqttcore.broker import Policy
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Address, Listener, join, network_of
from trio_broker.tls_pipe import accept_tls
from trio_broker.transports import Pipe, SocketPipe, StreamPipe, TcpPipe
from trio_broker.websocket import accept_websocket


class Entrance(Protocol):
    """One connection before anything is known of its client; `name` is its protocol, `peer` its address."""

    name: str
    peer: str

    async def open(self, limits: ServerLimits) -> tuple[Pipe, tuple[bytes, ...]]:
        """Do its handshakes; its pipe, and the certificates (DER) that the client has presented."""

    def policy(self) -> Policy | None:
        """What holds for it when its handshakes are done; None turns it away."""

    def leave(self) -> None:
        """The connection is over."""


@final
class Guests:
    """The connections that have been accepted and are open, by listener and by network."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._by_listener: Counter[Listener] = Counter()
        self._by_network: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._by_listener.total()

    def refusal(self, listener: Listener, network: str) -> str:
        """Why no further connection is let in; "" if it is."""
        if self._by_listener.get(listener, 0) >= self._limits.connections_per_listener:
            return "the listener has connections_per_listener connections"
        if self._by_network.get(network, 0) >= self._limits.connections_per_address:
            return "the address has connections_per_address connections"
        return ""

    def enter(self, listener: Listener, network: str) -> None:
        """Count one more."""
        self._by_listener[listener] += 1
        self._by_network[network] += 1

    def leave(self, listener: Listener, network: str) -> None:
        """Count one less."""
        self._by_listener[listener] -= 1
        if not self._by_listener[listener]:
            del self._by_listener[listener]
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]


@final
class SocketEntrance:
    """A connection that a listener has accepted, one of the guests until it leaves."""

    __slots__ = ("_guests", "_listener", "_network", "_sock", "name", "peer")

    def __init__(self, guests: Guests, listener: Listener, sock: socket.socket, address: Address) -> None:
        self._guests = guests
        self._listener = listener
        self._sock = sock
        self._network = network_of(address[0])
        self.name = listener.name
        self.peer = join(address)
        guests.enter(listener, self._network)

    async def open(self, limits: ServerLimits) -> tuple[Pipe, tuple[bytes, ...]]:
        sock, listener = self._sock, self._listener
        sock.setblocking(False)
        tcp = TcpPipe(sock)
        pipe: SocketPipe = tcp
        certificates: tuple[bytes, ...] = ()
        if listener.tls is not None:
            pipe = secure = await accept_tls(
                tcp, listener.tls, timeout=limits.tls_handshake_timeout, linger=limits.linger_timeout
            )
            certificates = secure.presented_chain()
        if listener.websocket:
            pipe = await accept_websocket(
                pipe, timeout=limits.websocket_handshake_timeout, linger=limits.linger_timeout
            )
        return pipe, certificates

    def policy(self) -> Policy | None:
        # A reload may have closed the port meanwhile, or made it one for another protocol.
        listener = self._listener
        return listener.policy if listener.socket.fileno() >= 0 and listener.name == self.name else None

    def leave(self) -> None:
        self._sock.close()
        self._guests.leave(self._listener, self._network)


@final
class StreamEntrance:
    """A connection over a Trio stream that somebody else opens and closes."""

    __slots__ = ("_certificates", "_policy", "_stream", "name", "peer")

    def __init__(
        self, stream: trio.abc.Stream, policy: Policy, peer: str, name: str, certificates: tuple[bytes, ...]
    ) -> None:
        self._stream = stream
        self._policy = policy
        self._certificates = certificates
        self.name = name
        self.peer = peer

    async def open(self, limits: ServerLimits) -> tuple[Pipe, tuple[bytes, ...]]:
        return StreamPipe(self._stream), self._certificates

    def policy(self) -> Policy | None:
        return self._policy

    def leave(self) -> None:
        pass
