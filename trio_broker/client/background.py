"""Tasks beside a block of code."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks end with the block; what the block raises leaves as itself, not in a group.

    So callers can write `except ClientError`. What a task raises is a bug and does arrive in a group.
    """
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except (Exception, KeyboardInterrupt, SystemExit) as exc:
            raised = exc
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


@asynccontextmanager
async def lasting_background() -> AsyncIterator[trio.Nursery]:
    """Like `background`, for tasks that a cancelled block still needs in order to end well."""
    async with background() as outer:
        nursery: trio.Nursery = await outer.start(_shielded_nursery)
        try:
            yield nursery
        finally:
            nursery.cancel_scope.cancel()


async def _shielded_nursery(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery)
        await trio.sleep_forever()
