"""One client's socket: TCP or TLS 1.3, with WebSocket or without. Only its opening waits."""

import socket
import ssl

from bench.generator import websocket
from bench.generator.errors import RunFailed
from bench.generator.target import Target

READ = 262_144
"""Bytes that are read at a time."""
CONNECT_TIMEOUT = 10.0
"""Seconds for the connection."""


class Wire:
    """Bytes of MQTT both ways, once it is `open`."""

    def __init__(self, target: Target) -> None:
        try:
            sock = socket.create_connection((target.host, target.port), CONNECT_TIMEOUT)
        except OSError as error:
            raise RunFailed(f"cannot connect: {error}") from None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open = False
        self.blocked = False
        """Whether some of what is to be sent waits for room."""
        self._secure: ssl.SSLSocket | None = None
        if target.tls is not None:
            sock = self._secure = target.tls.wrap_socket(
                sock, do_handshake_on_connect=False, server_hostname=target.host
            )
        self._sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self._unsent = b""
        self._shaken = self._secure is None
        self._upgrade = websocket.request(target.host, target.port) if target.websocket else None
        self._answer = b""
        self._deframer = websocket.Deframer() if target.websocket else None

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._sock.fileno()

    def advance(self) -> bytes:
        """Go on with the handshakes until it is `open`; gives what has arrived behind them."""
        if self._secure is not None and not self._shaken:
            try:
                self._secure.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            except OSError as error:
                raise RunFailed(f"the TLS handshake failed: {error}") from None
            self._shaken = True
        if self._deframer is None:
            self.open = True
            return b""
        if self._upgrade is not None:
            self.send(self._upgrade)
            self._upgrade = None
        self._answer += self._read()
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if not end:
            return b""
        websocket.check_response(head)
        self.open = True
        return self._deframer.feed(rest)

    def framed(self, packet: bytes) -> bytes:
        """A packet as it is to be sent."""
        return packet if self._deframer is None else websocket.masked(packet)

    def send(self, data: bytes | memoryview) -> None:
        """Send what has been framed, or keep what there is no room for."""
        if self._unsent:
            self._unsent += data
            return
        size = len(data)
        sent = 0
        try:
            sent = self._send(data)
            while sent < size:
                sent += self._send(data[sent:])
        except (BlockingIOError, ssl.SSLWantWriteError):
            self._unsent = bytes(data[sent:])
            self.blocked = True
        except OSError as error:
            raise RunFailed(f"the broker has gone: {error}") from None

    def send_rest(self) -> None:
        """Send what there was no room for."""
        rest, self._unsent, self.blocked = self._unsent, b"", False
        if rest:
            self.send(rest)

    def receive(self) -> bytes:
        """What has arrived, b"" if there is nothing. Raises RunFailed when the broker has ended the connection."""
        data = self._read()
        return data if self._deframer is None else self._deframer.feed(data)

    def _read(self) -> bytes:
        if self._secure is not None:
            return self._read_records()
        try:
            data = self._recv(READ)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise RunFailed(f"the broker has gone: {error}") from None
        if not data:
            raise RunFailed("the broker has closed a connection")
        return data

    def _read_records(self) -> bytes:
        # All that there are: nobody tells that OpenSSL has some left.
        found = []
        try:
            while data := self._recv(READ):
                found.append(data)
        except ssl.SSLWantReadError:
            return b"".join(found)
        except OSError as error:
            raise RunFailed(f"the broker has gone: {error}") from None
        raise RunFailed("the broker has closed a connection")

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
