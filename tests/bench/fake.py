"""A broker that does not do what it should."""

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import final

from bench.generator import packets

Tamper = Callable[[int, bytes], list[bytes]]
"""What subscribers get instead of a PUBLISH, by how many there were before it."""


@contextmanager
def fake_broker(tamper: Tamper) -> Iterator[int]:
    """Run one that sends every PUBLISH to all subscribers, or what `tamper` makes of it; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair()
    with listener, ours, theirs:
        thread = threading.Thread(target=_Fake(listener, theirs, tamper).run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ours.close()
            thread.join()


@final
class _Fake:
    def __init__(self, listener: socket.socket, stop: socket.socket, tamper: Tamper) -> None:
        self._listener = listener
        self._stop = stop
        self._tamper = tamper
        self._clients: dict[socket.socket, bytes] = {}
        self._subscribers: list[socket.socket] = []
        self._count = 0

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (self._listener, self._stop):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is self._stop:
                        for each in self._clients:
                            each.close()
                        return
                    if sock is self._listener:
                        client, _ = sock.accept()
                        self._clients[client] = b""
                        selector.register(client, selectors.EVENT_READ)
                    elif not self._read(sock):
                        selector.unregister(sock)

    def _read(self, sock: socket.socket) -> bool:
        """Do what a client wants; False when it has gone."""
        data = b""
        with suppress(ConnectionResetError):
            data = sock.recv(65_536)
        found, self._clients[sock] = packets.split(self._clients[sock] + data)
        for packet in found:
            self._answer(sock, packet)
        return data != b""

    def _answer(self, sock: socket.socket, packet: bytes) -> None:
        match packet[0] >> 4:
            case 1:
                sock.sendall(bytes.fromhex("2003000000"))
            case 8:
                self._subscribers.append(sock)
                sock.sendall(b"\x90\x04" + packets.body_of(packet)[:2] + b"\0\0")
            case packets.PUBLISH:
                for each in self._subscribers:
                    each.sendall(b"".join(self._tamper(self._count, packet)))
                self._count += 1
