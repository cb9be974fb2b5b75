"""Running a client command: signals end it in good order, and failures become one line and an exit status."""

import math
import signal
from collections.abc import Awaitable, Callable

import click
import trio

from trio_broker.cli.authentication import tell
from trio_broker.client import ClientError, background

STOP = (signal.SIGINT, signal.SIGTERM)

EXIT_STATUSES = """\b
Exit status: 0 all is well; 1 the connection could not be made, was refused or
was lost, or time ran out (one line on standard error says why); 2 bad usage."""


def run_client(main: Callable[[], Awaitable[None]], timeout: float | None) -> bool:
    """Run `main`, for at most `timeout` seconds; False when a signal ended it.

    A ClientError and a time-out become a line on standard error and exit status 1. That whoever read
    standard output has gone is no failure.
    """
    try:
        return trio.run(_until_signal, main, timeout)
    except BrokenPipeError:
        return True
    except ClientError as exc:
        tell(str(exc))
        raise click.exceptions.Exit(1) from None


async def _until_signal(main: Callable[[], Awaitable[None]], timeout: float | None) -> bool:
    async with background() as nursery:
        signalled = trio.CancelScope()
        await nursery.start(_cancel_on_signal, signalled)
        with signalled, trio.move_on_after(math.inf if timeout is None else timeout) as limit:
            await main()
        if limit.cancelled_caught:
            raise ClientError(f"time ran out after {timeout:g} s (-W)")
    return not signalled.cancelled_caught


async def _cancel_on_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(*STOP) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return  # the next signal has its default effect again, should leaving take too long
