"""A broker in memory, without socket and thread: for tests on Trio, whose virtual clock it goes by."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, Unpack, final, overload

import trio
import trio.testing

from mqttcore import Connect, Session
from mqttcore.auth import Effect, Reply
from mqttcore.authenticators.effects import HttpPost, VerifyPassword
from mqttcore.broker.reports import Event
from trio_broker.client import AnswerChallenge, Client, background, open_client
from trio_broker.effects import verify_password
from trio_broker.listeners import Listener
from trio_broker.testing.clocks import MemoryClock
from trio_broker.testing.options import Options, Setup
from trio_broker.testing.subject import POLL, WAIT_TIMEOUT, BrokerUnderTest, ClientCertificate

T = TypeVar("T")
E = TypeVar("E", bound=Event)


def _nowhere(*_arguments: Any, **_options: Any) -> list[Listener]:
    return []


@final
class MemoryBroker(BrokerUnderTest):
    """A broker whose clients connect in memory; made by the fixture `mqtt_memory_broker` or by `open_memory_broker`.

    TLS and WebSocket are left out: a client on a port with TLS shows its certificate with `connect`.
    """

    def __init__(self, setup: Setup, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._changes = trio.lowlevel.ParkingLot()
        super().__init__(setup, MemoryClock(), _nowhere, {})

    def connect(
        self, port: int | None = None, *, certificate: ClientCertificate | None = None
    ) -> "trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]":
        """The client's end of a new connection to a port of the manifests, by default the first one.

        Raises LookupError if there is no such port.
        """
        number = self._number(port)
        running = self._deployment.running
        websocket, tls = running.ports[number].websocket, running.ports[number].tls is not None
        near, far = trio.testing.memory_stream_pair()
        serve = partial(
            self._server.serve_stream,
            far,
            running.policies[number],
            name=("wss" if tls else "ws") if websocket else "tls" if tls else "tcp",
            certificates=certificate.chain if certificate and tls else (),
        )
        self._nursery.start_soon(serve)
        return near

    def open_client(
        self,
        connect: Connect,
        *,
        port: int | None = None,
        certificate: ClientCertificate | None = None,
        session: Session | None = None,
        answer_challenge: AnswerChallenge | None = None,
    ) -> AbstractAsyncContextManager[Client]:
        """A client of this project's own over such a connection, as trio_broker.client.open_client."""
        return open_client(
            connect,
            stream=self.connect(port, certificate=certificate),
            session=session,
            answer_challenge=answer_challenge,
        )

    @overload
    async def wait_for_async(
        self, what: type[E], *, count: int = 1, timeout: float = WAIT_TIMEOUT, **fields: object
    ) -> E: ...

    @overload
    async def wait_for_async(self, what: Callable[[], T], *, timeout: float = WAIT_TIMEOUT) -> T: ...

    async def wait_for_async(
        self, what: Any, *, count: int = 1, timeout: float = WAIT_TIMEOUT, **fields: object
    ) -> Any:
        """Wait until an event with these fields has happened, or a condition is true; gives it.

        An event counts from the start of the broker on, the `count`-th of its kind and fields is waited for. `timeout`
        is in seconds of Trio's clock. Raises TimeoutError that tells what did happen, and BrokerFault.
        """
        __tracebackhide__ = True
        look, missed = self._looking_for(what, count, fields)
        with trio.move_on_after(timeout):
            while not (found := look()):
                self._recorder.check()
                with trio.move_on_after(POLL):
                    await self._changes.park()
            return found
        raise self._recorder.missed(missed, timeout)

    def _call(self, function: Callable[[], T], *, dispatch: bool = False) -> T:
        try:
            return function()
        finally:
            if dispatch:
                self._server.dispatch()

    def _changed(self) -> None:
        self._changes.unpark_all()

    async def _perform(self, effect: Effect) -> Reply:
        if isinstance(effect, HttpPost):
            return await self.custom_server.perform(effect, self._server.limits.http_timeout)
        if isinstance(effect, VerifyPassword):
            # Not in a thread: a virtual clock does not wait for one.
            return verify_password(effect.hash, effect.password)
        return await super()._perform(effect)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run until cancelled."""
        self._tell_warnings()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._server.serve)
            task_status.started()

    def check(self) -> None:
        """Raises BrokerFault if the broker has met a fault."""
        self._recorder.check()


@asynccontextmanager
async def open_memory_broker(directory: Path | None = None, **options: Unpack[Options]) -> AsyncIterator[MemoryBroker]:
    """A broker in memory for the time of a block; `directory` is for its keys and manifests.

    Raises ConfigurationError for what the options ask for, and at the end BrokerFault if the broker met a fault.
    """
    if directory is None:
        with TemporaryDirectory() as temporary:
            async with open_memory_broker(Path(temporary), **options) as broker:
                yield broker
        return
    async with background() as nursery:
        broker = MemoryBroker(Setup.of(directory, **options), nursery)
        await nursery.start(broker.serve)
        yield broker
    broker.check()
