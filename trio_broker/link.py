"""One connection: bytes to the broker, bytes from the broker, and a last word that reaches its reader."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, final

import trio

from mqttcore.auth import Failed
from mqttcore.broker import Link, Perform
from trio_broker.errors import TransportError
from trio_broker.tls_pipe import TlsPipe
from trio_broker.transports import GONE, Pipe, SocketPipe, TcpPipe
from trio_broker.websocket import WebSocketPipe

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
        "_server",
        "_sleeper",
        "_socket",
        "_watched",
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
        self._sleeper: trio.lowlevel.Task | None = None  # the task that reads, while it waits to be roused
        self._watched = False  # whether the poller reads for it meanwhile
        self._finished = False  # whether there is nothing more to be read
        self.link = link
        self.pipe = pipe
        self._socket: SocketPipe | None = pipe if isinstance(pipe, TcpPipe | TlsPipe | WebSocketPipe) else None
        self.closing = False

    async def read(self) -> None:
        """Feed the broker until the peer has finished; from `close` on, read and discard."""
        pipe = self._socket
        try:
            while not self._finished:
                if pipe is None:
                    await self._read()
                elif pipe.ready or not self._server.poller.available:
                    await (trio.lowlevel.checkpoint() if pipe.ready else trio.lowlevel.wait_readable(pipe.fileno()))
                    self._read_now(trio.current_time())
                    self._server.dispatch()
                else:
                    await self._be_read()
                while self.link.paused and not self.closing:
                    await self._sleep()
        except GONE:
            pass
        except TransportError as error:
            self._server.transport_failed(self.link, error)
        except Exception as error:
            self._server.failed(self.link, error)
        finally:
            self._unwatch()
            # Before the nursery can have ended, for a task cannot be started in one that has.
            self._over = True
        if self._eof is not None:
            self._eof.set()
        if not self.closing:
            self.abort()

    async def _read(self) -> None:
        data = await self.pipe.receive()
        self._finished = not data
        if data and not self.closing:
            try:
                self._server.broker.receive(self.link, data, trio.current_time())
            finally:
                self._server.dispatch()

    def _be_read(self) -> Awaitable[None]:
        """Have the poller's task read, again and again; this one only waits for what is not everyday."""
        try:
            self._server.poller.watch(self._descriptor(), self._read_now)
        except OSError as error:
            raise TransportError(f"the socket cannot be watched: {error.strerror}") from None
        self._watched = True
        return self._sleep()

    def _read_now(self, now: float) -> int:
        """Feed the broker what there is. The server dispatches what comes of it, and of other connections' bytes."""
        pipe = self._socket
        assert pipe is not None
        link = self.link
        data: bytes | None = b""
        try:
            data = pipe.receive_now()
            if data and not self.closing:
                self._server.broker.receive(link, data, now)
        except OSError:
            pass
        except TransportError as error:
            data = None
            self._server.transport_failed(link, error)
            self.close(expected=False)
            self._server.lost(link)
        except Exception as error:
            self._server.failed(link, error)
        if data == b"":
            self._finished = True
        if pipe.behind and not self.closing:
            self._start_draining()
        if self._watched and (self._finished or pipe.ready or (link.paused and not self.closing)):
            self._unwatch()
            self._rouse()
        return len(data) if data else 0

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._server.poller.forget(self._descriptor())

    def _descriptor(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def _sleep(self) -> Awaitable[None]:
        """Wait for `_rouse`. It is what an Event does, which would cost each idle connection 0.8 KiB."""
        self._sleeper = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._disturbed)

    def _disturbed(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _rouse(self) -> None:
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    def flush(self, now: float) -> None:
        """Send what the broker has for this peer, without waiting; the rest is a task's."""
        if self._draining or self._over:
            return
        try:
            if not self._send(now):
                self._start_draining()
        except GONE:
            self._mute()

    def _start_draining(self) -> None:
        if not self._draining and not self._over:
            self._draining = True
            self._nursery.start_soon(self._drain)

    def _send(self, now: float) -> bool:
        """Send what the broker has; whether all of it has gone."""
        take = self._server.broker.take_output
        send_now = self.pipe.send_now
        link = self.link
        while data := take(link, now):
            if not send_now(data):
                return False
        return True

    def wake(self) -> None:
        """Go on reading if the link is no longer paused."""
        if not self._watched and (self.closing or not self.link.paused):
            self._rouse()

    def abort(self) -> None:
        """End the connection now."""
        if self._sleeper is None or self._nursery.child_tasks:
            self._nursery.cancel_scope.cancel()
        else:  # there is nothing but a wait to be ended, and to cancel that would cost three times as much
            self.closing = self._over = self._finished = True
            self._unwatch()
            self._rouse()

    def close(self, expected: bool) -> None:
        """End the connection when the peer has read what it was sent last, or has had its time for that.

        One that has taken its leave itself, as `expected` says, need not be waited for, unless over WebSocket.
        """
        if self.closing or self._over:
            return
        self.closing = True
        if expected and not self._draining and self._parts():
            self.abort()
            return
        self.wake()
        self._eof, self._drained = trio.Event(), trio.Event()
        if not self._draining:
            self._drained.set()
        self._nursery.start_soon(self._last_word, self._eof, self._drained)

    def _parts(self) -> bool:
        try:
            return self._socket is not None and self._socket.part()
        except GONE:
            return True

    def start(self, perform: Perform) -> None:
        """Do what an authenticator asks for, in a task that ends with the connection."""
        if not self._over:
            self._nursery.start_soon(self._perform, perform)

    async def _drain(self) -> None:
        try:
            gone = False
            while not gone:
                await self.pipe.drain(self._server.limits.stall_timeout)
                gone = self._send(trio.current_time())
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
