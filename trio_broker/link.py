"""One connection: bytes to the broker, bytes from the broker, and a last word that reaches its reader."""

from typing import TYPE_CHECKING, final

import trio

from mqttcore.auth import Failed
from mqttcore.broker import Link, Perform
from trio_broker.errors import TransportError
from trio_broker.poller import Poller
from trio_broker.transports import GONE, Pipe, TcpPipe

if TYPE_CHECKING:
    from trio_broker.server import Server


@final
class Wire:
    """The shell's half of a Link. Cancelling `nursery`, where its tasks live, ends the connection."""

    __slots__ = (
        "_drained",
        "_draining",
        "_eof",
        "_finished",
        "_nursery",
        "_over",
        "_resumed",
        "_server",
        "_unwatched",
        "closing",
        "link",
        "pipe",
    )

    def __init__(self, server: "Server", link: Link, pipe: Pipe, nursery: trio.Nursery) -> None:
        self._server = server
        self._nursery = nursery
        self._draining = False
        self._over = False
        self._drained: trio.Event | None = None
        self._eof: trio.Event | None = None
        self._resumed: trio.Event | None = None
        self._unwatched: trio.Event | None = None
        self._finished = False  # whether the peer has
        self.link = link
        self.pipe = pipe
        self.closing = False

    async def read(self) -> None:
        """Feed the broker until the peer has finished; from `close` on, read and discard."""
        try:
            if isinstance(self.pipe, TcpPipe) and self._server.poller.available:
                await self._be_read(self.pipe, self._server.poller)
            else:
                await self._read()
        except GONE:
            pass
        except TransportError as error:
            self._server.transport_failed(self.link, error)
        except Exception as error:
            self._server.failed(self.link, error)
        finally:
            # Before the nursery can have ended, for a task cannot be started in one that has.
            self._over = True
        if self._eof is not None:
            self._eof.set()
        if not self.closing:
            self.abort()

    async def _read(self) -> None:
        receive = self.pipe.receive
        while data := await receive():
            if not self.closing:
                try:
                    self._server.broker.receive(self.link, data, trio.current_time())
                finally:
                    self._server.dispatch()
                await self._pause()

    async def _pause(self) -> None:
        while self.link.paused and not self.closing:
            self._resumed = trio.Event()
            await self._resumed.wait()

    async def _be_read(self, pipe: TcpPipe, poller: Poller) -> None:
        """As `_read`, by the poller's task; this one only waits for what is not everyday."""
        descriptor = pipe.fileno()
        try:
            while not self._finished:
                self._unwatched = trio.Event()
                try:
                    poller.watch(descriptor, self._read_now)
                except OSError as error:
                    raise TransportError(f"the socket cannot be watched: {error.strerror}") from None
                await self._unwatched.wait()
                poller.forget(descriptor)
                await self._pause()
        finally:
            poller.forget(descriptor)

    def _read_now(self, now: float) -> int:
        """Feed the broker what there is. The server dispatches what comes of it, and of other connections' bytes."""
        pipe = self.pipe
        assert isinstance(pipe, TcpPipe)
        data: bytes | None = b""
        try:
            data = pipe.receive_now()
            if data and not self.closing:
                self._server.broker.receive(self.link, data, now)
        except OSError:
            pass
        except Exception as error:
            self._server.failed(self.link, error)
        if data is None:
            return 0
        self._finished = not data
        if self._unwatched is not None and (self._finished or (self.link.paused and not self.closing)):
            self._server.poller.forget(pipe.fileno())
            self._unwatched.set()
        return len(data)

    def flush(self) -> None:
        """Send what the broker has for this peer, without waiting; the rest is a task's."""
        if self._draining or self._over:
            return
        take = self._server.broker.take_output
        send_now = self.pipe.send_now
        link = self.link
        try:
            while data := take(link, trio.current_time()):
                sent = send_now(data)
                if sent < len(data):
                    self._draining = True
                    self._nursery.start_soon(self._drain, data[sent:] if sent else data)
                    return
        except GONE:
            self._mute()

    def wake(self) -> None:
        """Go on reading if the link is no longer paused."""
        if self._resumed is not None and (self.closing or not self.link.paused):
            self._resumed.set()
            self._resumed = None

    def abort(self) -> None:
        """End the connection now."""
        self._nursery.cancel_scope.cancel()

    def close(self, expected: bool) -> None:
        """End the connection when the peer has read what it was sent last, or has had its time for that.

        One that has taken its leave itself, as `expected` says, need not be waited for where only TCP is to be closed.
        """
        if self.closing or self._over:
            return
        self.closing = True
        if expected and not self._draining and isinstance(self.pipe, TcpPipe):
            self.abort()
            return
        self.wake()
        self._eof, self._drained = trio.Event(), trio.Event()
        if not self._draining:
            self._drained.set()
        self._nursery.start_soon(self._last_word, self._eof, self._drained)

    def start(self, perform: Perform) -> None:
        """Do what an authenticator asks for, in a task that ends with the connection."""
        if not self._over:
            self._nursery.start_soon(self._perform, perform)

    async def _drain(self, data: bytes) -> None:
        try:
            while data:
                await self.pipe.send(data, self._server.limits.stall_timeout)
                data = self._server.broker.take_output(self.link, trio.current_time())
                self.wake()  # that the peer took none of its answers may be why nothing was read from it
        except GONE:
            self._mute()
            return
        except TransportError as error:
            self._server.transport_failed(self.link, error)
            self.abort()
        except Exception as error:
            self._server.failed(self.link, error)
        # From here on `flush` sends again; nothing has waited in between, so nothing was missed.
        self._draining = False
        if self._drained is not None:
            self._drained.set()

    def _mute(self) -> None:
        # The peer is gone, but what it sent may be unread: a DISCONNECT keeps its Will from being published.
        self._draining = True
        self._nursery.start_soon(self._abort_soon)

    async def _abort_soon(self) -> None:
        await trio.sleep(self._server.limits.linger_timeout)
        self.abort()

    async def _last_word(self, eof: trio.Event, drained: trio.Event) -> None:
        linger = self._server.limits.linger_timeout
        try:
            with trio.move_on_after(linger) as scope:
                await drained.wait()
            if not scope.cancelled_caught:
                with trio.move_on_after(linger):
                    await self.pipe.finish()
                    await eof.wait()
                with trio.move_on_after(linger):
                    await self.pipe.close()
        except GONE:
            pass
        except Exception as error:
            self._server.failed(self.link, error)
        self.abort()

    async def _perform(self, perform: Perform) -> None:
        try:
            reply = await self._server.perform(perform.effect)
        except Exception as error:
            self._server.effect_failed(perform, error)
            reply = Failed("internal error")
        try:
            self._server.broker.resume(perform, reply, trio.current_time())
        except Exception as error:
            self._server.failed(self.link, error)
        finally:
            self._server.dispatch()
        self.wake()
