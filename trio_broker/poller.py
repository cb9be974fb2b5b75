"""One wait for many sockets, so that reading from one costs no switch between tasks."""

import select
import sys
from collections.abc import Callable
from typing import final

import trio

READS_PER_TURN = 64
"""Sockets that are read from before other tasks have their turn."""
BYTES_PER_TURN = 262_144
"""Bytes read, from all sockets together, before what follows from them is done."""

Reader = Callable[[float], int]
"""Reads from a socket, at a time of Trio's clock; how many bytes it was."""


@final
class Poller:
    """Calls the reader of each socket that has something to read.

    It has an epoll of its own, which is one file among others to Trio: what Trio does for a file that is ready, which
    costs more than handling a message, is done once for all the sockets that are. Only Linux has it; see `available`.
    """

    available = sys.platform == "linux"

    def __init__(self) -> None:
        self._readers: dict[int, Reader] = {}
        if sys.platform == "linux":
            self._epoll = select.epoll()

    def watch(self, descriptor: int, reader: Reader) -> None:
        """Have `reader` called whenever there is something to read, until `forget`.

        Raises OSError when the system's bound on what is watched is reached.
        """
        self._epoll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = reader

    def forget(self, descriptor: int) -> None:
        """Have it called no more; the socket must still be open."""
        if self._readers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    async def run(self, follow_up: Callable[[], None]) -> None:
        """Call readers for as long as this runs, and `follow_up` after each few of them."""
        if not self.available:
            return
        readers = self._readers
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            now = trio.current_time()
            count = 0
            for descriptor, _ in self._epoll.poll(0, READS_PER_TURN):
                reader = readers.get(descriptor)
                if reader is None:  # what came of another may have ended it
                    continue
                count += reader(now)
                if count >= BYTES_PER_TURN:
                    count = 0
                    follow_up()
            follow_up()

    def close(self) -> None:
        """Free what the system keeps for it."""
        if self.available:
            self._epoll.close()
