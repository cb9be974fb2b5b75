"""The least a Trio broker can do, to see what of a figure is ours: python -m bench.floor --port PORT

Each connection has its task and its nursery, and one epoll reads for all, as in our broker. But it looks no further
into a packet than it takes to answer CONNECT, SUBSCRIBE and PUBLISH of our load generator, if nothing goes wrong and a
chunk is one packet: `connect`, `single`, `q1_w1` and `paced`, without authentication, sessions, limits or time.
"""

import argparse
import gc
import socket
from typing import final

import trio

from trio_broker.cli.serving import raise_file_limit
from trio_broker.poller import Poller

READ_SIZE = 65_536
CONNACK = b"\x20\x03\0\0\0"
PUBLISH_0, PUBLISH_1 = 0x30, 0x32
CONNECT, SUBSCRIBE, DISCONNECT = 0x10, 0x82, 0xE0


@final
class Connection:
    """One client."""

    def __init__(self, subscribers: "dict[bytes, Connection]", poller: Poller, sock: socket.socket) -> None:
        self._subscribers = subscribers
        self._poller = poller
        self._sock = sock
        self._task: trio.lowlevel.Task | None = None

    async def converse(self) -> None:
        """From its first byte to its last."""
        sock = self._sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with trio.open_nursery():
            self._task = trio.lowlevel.current_task()
            self._poller.watch(sock.fileno(), self._read)
            try:
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            finally:
                self._poller.forget(sock.fileno())
                sock.close()

    def _read(self, _now: float) -> int:
        data = self._sock.recv(READ_SIZE)
        kind = data[0] if data else DISCONNECT
        if kind in (PUBLISH_0, PUBLISH_1):
            end = 4 + data[3]
            if kind == PUBLISH_1:
                self._sock.send(b"\x40\x02" + data[end : end + 2])
            if (subscriber := self._subscribers.get(data[4:end])) is not None:
                subscriber._sock.send(data)
        elif kind == CONNECT:
            self._sock.send(CONNACK)
        elif kind == SUBSCRIBE:
            # Remaining Length and Property Length have one byte, and there is one Topic Filter, without wildcard.
            self._subscribers[data[7 : 7 + data[6]]] = self
            self._sock.send(b"\x90\x04" + data[2:4] + b"\0\0")
        elif kind == DISCONNECT and self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None
        return len(data)


async def serve(port: int) -> None:
    """Until cancelled."""
    subscribers: dict[bytes, Connection] = {}
    poller = Poller()
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listener:
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run, lambda: None)
            while True:
                await trio.lowlevel.wait_readable(listener)
                try:
                    while True:
                        sock, _ = listener.accept()
                        nursery.start_soon(Connection(subscribers, poller, sock).converse)
                except BlockingIOError:
                    pass


def main() -> None:
    """Run until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__.partition(":")[0])
    parser.add_argument("--port", type=int, required=True)
    raise_file_limit()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    trio.run(serve, parser.parse_args().port)


if __name__ == "__main__":
    main()
