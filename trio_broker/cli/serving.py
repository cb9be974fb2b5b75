"""The broker as a process: listeners, background tasks and signals, whatever they were planned from."""

import gc
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import click
import trio
from attrs import frozen

from mqttcore.broker import Broker
from mqttcore.limits import Limits
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Listener
from trio_broker.logs import EventLog, Level, make_logger
from trio_broker.server import Performer, Server, perform_nothing
from trio_broker.watch import Signature, next_change

if sys.platform != "win32":
    import resource

RETRY = 60.0
"""Seconds until a background task that failed is started again."""
STOP = (signal.SIGINT, signal.SIGTERM)
STANDARD_INPUT = 0
"""Its file descriptor."""

Task = Callable[[EventLog], Awaitable[None]]
"""Runs beside the server for as long as that does; what it has to say goes into the log."""


@frozen(kw_only=True)
class Reload:
    """How a running broker follows its files: `apply` reads them again and logs what has come of it.

    It does so on SIGHUP and, if `watch`, when the signature of `sources` is another than `seen`, which was taken before
    they were read first.
    """

    apply: Callable[[Server], Awaitable[None]]
    sources: Callable[[], Iterable[Path]]
    seen: Signature
    watch: bool


@frozen(kw_only=True)
class Plan:
    """What is to run; `banner` is printed when all listeners listen."""

    limits: Limits
    server_limits: ServerLimits
    listeners: Sequence[Listener]
    banner: str
    perform: Performer = perform_nothing
    tasks: Sequence[Task] = ()
    reload: Reload | None = None


def run_plan(planned: Plan, log_format: Literal["text", "json"], log_level: Level) -> None:
    """Run until SIGINT or SIGTERM; a second one ends the process at once."""
    broker = Broker(planned.limits, seed=secrets.token_bytes(32), wall_offset=time.time() - time.monotonic())
    server = Server(
        broker,
        limits=planned.server_limits,
        perform=planned.perform,
        logger=make_logger(log_format, log_level),
    )
    # What is loaded by now stays: the collector need not look at it again, nor so often at what comes.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    # A second signal, which Python's own handlers would turn into an exception somewhere in a task.
    for number in STOP:
        signal.signal(number, signal.SIG_DFL)
    trio.run(_run, server, planned)


async def _run(server: Server, planned: Plan) -> None:
    async with trio.open_nursery() as background:
        for task in planned.tasks:
            background.start_soon(_keep_running, task, server.log)
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(*STOP) as signals:
                await nursery.start(server.serve, planned.listeners)
                if planned.reload is not None:
                    await background.start(_follow, server, planned.reload)
                click.echo(planned.banner)
                async for _ in signals:
                    server.stop()
                    break
            # Outside, a signal has its default effect again.
        background.cancel_scope.cancel()


async def _follow(server: Server, reload: Reload, *, task_status: trio.TaskStatus[None]) -> None:
    """Reload whenever that is asked for; once only if it is while a reload is under way."""
    ask, asked = trio.open_memory_channel[None](1)
    async with trio.open_nursery() as nursery:
        if sys.platform != "win32":
            await nursery.start(_ask_on_signal, ask)
        if reload.watch:
            nursery.start_soon(_keep_running, partial(_ask_on_change, reload, ask), server.log)
        task_status.started()
        async for _ in asked:
            try:
                await reload.apply(server)
            except Exception as error:
                server.log.failure("internal_error", error)


async def _ask_on_signal(ask: trio.MemorySendChannel[None], *, task_status: trio.TaskStatus[None]) -> None:
    has_terminal = os.isatty(STANDARD_INPUT)
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            if has_terminal and not os.isatty(STANDARD_INPUT):  # whoever had it open has closed it
                signal.raise_signal(signal.SIGTERM)
                return
            with suppress(trio.WouldBlock):
                ask.send_nowait(None)


async def _ask_on_change(reload: Reload, ask: trio.MemorySendChannel[None], _log: EventLog) -> None:
    seen = reload.seen
    while True:
        seen = await next_change(reload.sources, seen)
        with suppress(trio.WouldBlock):
            ask.send_nowait(None)


async def _keep_running(task: Task, log: EventLog) -> None:
    """A fault in what runs beside the server is logged, and does not end it."""
    while True:
        try:
            await task(log)
            return
        except Exception as error:
            log.failure("background_task_failed", error)
            await trio.sleep(RETRY)


def survive_hangup() -> None:
    """Have SIGHUP, which asks for a reload, not end the process before there is anything to reload."""
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have."""
    # Every connection is an open file, and the usual soft limit of 1024 is for programs that use select().
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
