"""A broker on real sockets, in a thread of its own: for tests on threads, on asyncio, on anything."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, Unpack, final, overload

import trio

from mqttcore.broker import Policy
from mqttcore.broker.reports import Event
from trio_broker.listeners import Listener, close_listeners, open_listeners
from trio_broker.resources import Configuration
from trio_broker.testing.clocks import OffsetClock
from trio_broker.testing.https_server import HttpsServer
from trio_broker.testing.options import Options, Setup, custom_endpoints
from trio_broker.testing.recorder import BrokerFault
from trio_broker.testing.subject import HOST, POLL, WAIT_TIMEOUT, BrokerUnderTest

T = TypeVar("T")
E = TypeVar("E", bound=Event)

START_TIMEOUT = 10.0
"""Seconds for the broker's thread to listen."""
CALL_TIMEOUT = 10.0
"""Seconds for the broker's thread to do what a test asks for."""
STOP_TIMEOUT = 5.0
"""Seconds for the broker's thread to end."""


def _on_a_free_port(_number: int, bind: Sequence[str], backlog: int, policy: Policy, **options: Any) -> list[Listener]:
    return open_listeners(0, bind, backlog, policy, **options)


@final
class RunningBroker(BrokerUnderTest):
    """A broker that listens on 127.0.0.1; made by the fixture `mqtt_broker` or by `run_broker`.

    Ports of manifests are names here: `ports` has the free ones that stand in for them.
    """

    def __init__(self, setup: Setup) -> None:
        self._offset_clock = OffsetClock()
        self._https = HttpsServer()
        self._condition = threading.Condition()
        self._changes = 0
        self._started = threading.Event()
        self._stopping = trio.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt broker", daemon=True)
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        super().__init__(setup, self._offset_clock, _on_a_free_port, self._https.resolve)

    # ------------------------------------------------------------------------------------------------- where it is

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return HOST

    @property
    def port(self) -> int:
        """The port, of several the first one."""
        return self.ports[self._number(None)]

    @property
    def tls_port(self) -> int:
        """The first port with TLS and without WebSocket. Raises LookupError if there is none."""
        return self._first("tls")

    @property
    def websocket_port(self) -> int:
        """The first port with WebSocket and without TLS. Raises LookupError if there is none."""
        return self._first("ws")

    @property
    def ports(self) -> Mapping[int, int]:
        """The ports by their numbers in the manifests; without manifests 1883, 8883 for TLS, 8080 for WebSocket."""
        return self._call(
            lambda: {
                number: self._deployment.listeners_of(number)[0].address[1] for number in self._deployment.running.ports
            }
        )

    @property
    def url(self) -> str:
        """The address of `port` as clients write it, such as mqtt://127.0.0.1:1883."""
        return self._call(lambda: self._deployment.listeners[0].url)

    def _first(self, name: str) -> int:
        for listener in self._call(lambda: self._deployment.listeners):
            if listener.name == name:
                return listener.address[1]
        raise LookupError(f"there is no port for {name}; ask for it with manifests, tls=True or websocket=True")

    # --------------------------------------------------------------------------------------------------- waiting

    @overload
    def wait_for(self, what: type[E], *, count: int = 1, timeout: float = WAIT_TIMEOUT, **fields: object) -> E: ...

    @overload
    def wait_for(self, what: Callable[[], T], *, timeout: float = WAIT_TIMEOUT) -> T: ...

    def wait_for(self, what: Any, *, count: int = 1, timeout: float = WAIT_TIMEOUT, **fields: object) -> Any:
        """Block this thread until an event with these fields has happened, or a condition is true; gives it.

        An event counts from the start of the broker on, the `count`-th of its kind and fields is waited for. `timeout`
        is in real seconds. Raises TimeoutError that tells what did happen, and BrokerFault.
        """
        __tracebackhide__ = True
        look, missed = self._looking_for(what, count, fields)
        deadline = time.monotonic() + timeout
        while True:
            changes = self._changes
            if found := look():
                return found
            self._recorder.check()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise self._recorder.missed(missed, timeout)
            with self._condition:
                if self._changes == changes:
                    self._condition.wait(min(remaining, POLL))

    @overload
    async def wait_for_async(
        self, what: type[E], *, count: int = 1, timeout: float = WAIT_TIMEOUT, **fields: object
    ) -> E: ...

    @overload
    async def wait_for_async(self, what: Callable[[], T], *, timeout: float = WAIT_TIMEOUT) -> T: ...

    async def wait_for_async(self, what: Any, **options: Any) -> Any:
        """As `wait_for`, while other tasks of asyncio or of Trio go on. A condition is looked at in another thread."""

        def wait() -> Any:
            return self.wait_for(what, **options)

        if trio.lowlevel.in_trio_task():
            return await trio.to_thread.run_sync(wait, abandon_on_cancel=True)
        return await asyncio.to_thread(wait)

    # -------------------------------------------------------------------------------------------- its own thread

    def start(self) -> None:
        """Start the thread, and wait until the broker listens. Raises BrokerFault."""
        self._thread.start()
        if not self._started.wait(START_TIMEOUT):
            raise self._stuck(f"has not started within {START_TIMEOUT:g} seconds")
        self._recorder.check()

    def stop(self) -> None:
        """End the thread. Raises BrokerFault if it does not end."""
        token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._stopping.set)
        self._thread.join(STOP_TIMEOUT)
        if self._thread.is_alive():
            raise self._stuck(f"has not ended within {STOP_TIMEOUT:g} seconds")

    def check(self) -> None:
        """Raises BrokerFault if the broker has met a fault."""
        self._recorder.check()

    def _call(self, function: Callable[[], T], *, dispatch: bool = False) -> T:
        def run() -> T:
            try:
                return function()
            finally:
                if dispatch:
                    self._server.dispatch()

        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return run()
        # Not trio.from_thread, which refuses threads that run Trio themselves.
        future: Future[T] = Future()

        def fulfil() -> None:
            try:
                future.set_result(run())
            except BaseException as error:
                future.set_exception(error)

        assert self._token is not None
        self._token.run_sync_soon(fulfil)
        try:
            return future.result(CALL_TIMEOUT)
        except TimeoutError:
            if future.done():
                raise  # it is the function's own
            raise self._stuck(f"has not answered within {CALL_TIMEOUT:g} seconds") from None

    def _stuck(self, what: str) -> BrokerFault:
        frame = sys._current_frames().get(self._thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else "  at its end"
        return BrokerFault(f"the broker {what}; its thread is here:\n{stack}")

    def _changed(self) -> None:
        with self._condition:
            self._changes += 1
            self._condition.notify_all()

    def _change(self, configuration: Configuration) -> None:
        self._answer_for(configuration)
        super()._change(configuration)

    def _answer_for(self, configuration: Configuration) -> None:
        endpoints = custom_endpoints(configuration)
        if endpoints and self._nursery is not None:
            self._https.answer_for(self.custom_server, endpoints, self._setup.authority(), self._nursery)

    def _run(self) -> None:
        try:
            trio.run(self._serve, clock=self._offset_clock)
        except BaseException as error:
            self._recorder.fault(error)
        finally:
            close_listeners(self._deployment.listeners)
            self._https.close()
            self._started.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._tell_warnings()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._deployment.close_in_the_end, self._server.log)
            self._answer_for(self._deployment.running.configuration)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._server.serve, self._deployment.listeners)
                self._started.set()
                await self._stopping.wait()
                self._server.stop()
            self._nursery.cancel_scope.cancel()


@contextmanager
def run_broker(directory: Path | None = None, **options: Unpack[Options]) -> Iterator[RunningBroker]:
    """Run a broker in a thread for the time of a block; `directory` is for its keys and manifests.

    Raises ConfigurationError for what the options ask for, and at the end BrokerFault if the broker met a fault.
    """
    if directory is None:
        with TemporaryDirectory() as temporary, run_broker(Path(temporary), **options) as broker:
            yield broker
        return
    broker = RunningBroker(Setup.of(directory, **options))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
    broker.check()
