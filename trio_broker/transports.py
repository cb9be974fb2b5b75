"""What a link runs over, behind one small interface: TCP, a Trio stream, or what `tls_pipe` and `websocket` have."""

import array
import socket
import sys
from math import inf
from typing import Protocol, final

import trio

from trio_broker.errors import TransportError

if sys.platform != "win32":
    import fcntl
    import termios

READ_SIZE = 65_536
"""Bytes that one connection feeds to the broker before others have their turn."""
CHUNK_SIZE = 16_384
"""Bytes that a stream must take within the stall time."""

GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What reading from or writing to a connection that has ended raises, over any transport."""


class Pipe(Protocol):
    """Bytes in order, both ways. What waits raises one of GONE, or TransportError with a reason."""

    async def receive(self) -> bytes:
        """What has arrived, up to READ_SIZE bytes; b"" when the peer has finished. Others get a turn."""

    def send_now(self, data: bytes) -> bool:
        """Send without waiting; whether all of it has gone. If not, the rest is kept: `drain` before sending more."""

    async def drain(self, stall_timeout: float) -> None:
        """Send what is kept; TransportError when nothing moves for `stall_timeout` seconds."""

    async def finish(self) -> None:
        """Nothing more will be sent; tell the peer, where the transport can, while it is still read from."""

    async def close(self) -> None:
        """Take leave of a peer that has had its last word; the socket is closed by whoever opened it."""


class SocketPipe(Pipe, Protocol):
    """One that a poller can read from: bytes over a socket of its own, which does not block."""

    @property
    def ready(self) -> bool:
        """Whether there may be something to receive that the socket does not tell of."""

    @property
    def behind(self) -> bool:
        """Whether it has answered the peer itself, and `drain` is needed because not all of that has gone."""

    def fileno(self) -> int:
        """The socket's file descriptor."""

    def receive_now(self) -> bytes | None:
        """What has arrived, up to READ_SIZE bytes; b"" when the peer has finished, None if there is nothing yet.

        Raises one of GONE, or TransportError when the peer has broken a rule: it is then to be told with `finish`.
        """

    def part(self) -> bool:
        """Take leave of a peer that has done so without waiting for it, where that may be; whether it is."""


@final
class TcpPipe:
    """A non-blocking TCP socket without Trio's stream on top, which would double the price of a message.

    [MQTT-4.2.0-1]
    """

    __slots__ = ("_rest", "_sock")

    ready = False
    behind = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive_now(self) -> bytes | None:
        try:
            return self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return None

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            if (data := self.receive_now()) is not None:
                return data

    def send_now(self, data: bytes) -> bool:
        sent = self._send(data)
        if sent == len(data):
            return True
        self._rest = data[sent:]
        return False

    async def drain(self, stall_timeout: float) -> None:
        view = memoryview(self._rest)
        self._rest = b""
        while view:
            await self._writable(stall_timeout)
            view = view[self._send(view) :]

    async def finish(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        pass

    def part(self) -> bool:
        return True

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    async def _writable(self, stall_timeout: float) -> None:
        # The kernel reports room when a third of its buffer is free; a slow reader may need long for that and
        # still be reading. So what counts as a stall is that its queue has not become shorter.
        unsent, since = self._unsent(), trio.current_time()
        while True:
            with trio.move_on_after(stall_timeout / 4):
                await trio.lowlevel.wait_writable(self._sock)
                return
            now = trio.current_time()
            if (left := self._unsent()) < unsent:
                unsent, since = left, now
            elif now - since >= stall_timeout:
                raise stalled(stall_timeout)

    def _unsent(self) -> int:
        if sys.platform == "win32":
            return 0
        count = array.array("i", [0])
        fcntl.ioctl(self._sock, termios.TIOCOUTQ, count)
        return count[0]


@final
class StreamPipe:
    """Any Trio stream, as a pipe."""

    __slots__ = ("_rest", "_stream")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._rest = b""

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(READ_SIZE))

    def send_now(self, data: bytes) -> bool:
        self._rest = data
        return False

    async def drain(self, stall_timeout: float) -> None:
        view = memoryview(self._rest)
        self._rest = b""
        for start in range(0, len(view), CHUNK_SIZE):
            with trio.move_on_after(stall_timeout) as scope:
                await self._stream.send_all(view[start : start + CHUNK_SIZE])
            if scope.cancelled_caught:
                raise stalled(stall_timeout)

    async def finish(self) -> None:
        # TLS has no half-close: the peer learns with `close` that nothing more comes.
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def close(self) -> None:
        await self._stream.aclose()


async def send_all(pipe: SocketPipe, data: bytes) -> None:
    """Send all of it, however long that takes: the caller has a time for it."""
    if not pipe.send_now(data):
        await pipe.drain(inf)


async def see_off(pipe: SocketPipe) -> None:
    """Say that nothing more will be sent, and wait until the peer has read all and gone.

    What is unread would turn what it has been told into a reset.
    """
    await pipe.finish()
    while await pipe.receive():
        pass


def stalled(seconds: float) -> TransportError:
    """The error for a peer that takes nothing."""
    return TransportError(f"the client took nothing for {seconds:g} seconds")
