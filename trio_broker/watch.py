"""Waits until files are others than before.

What counts is a comparison of the files themselves, so that nothing is missed: neither what changes while nobody
watches, nor what the system does not report. Its reports, which `watchfiles` gives, only say when to compare.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import trio

QUIET = 0.3
"""Seconds without a further change after which several changes are taken as one."""
LONGEST = 2.0
"""Seconds that are waited for that at most."""
RECHECK = 2.0
"""Seconds between two comparisons at most, for what the system does not report: a directory that is not there yet."""
STEP = 0.05
"""Seconds between two looks of the thread that waits for reports: whether there is one, and whether it is to end."""

Signature = tuple[tuple[Path, tuple[int, ...]], ...]
"""What tells that files have changed, without reading them."""
Sources = Callable[[], Iterable[Path]]
"""The files as they are now; called in a thread. Which they are is compared, too: a new one is a change."""


def signature(paths: Iterable[Path]) -> Signature:
    """The signature of these files and directories, whether or not they are there.

    What is in a directory counts only if it is among the paths, too.
    """
    return tuple((path, _state(path)) for path in paths)


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    identity = (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid)
    if stat.S_ISDIR(found.st_mode):
        return identity  # its size and times change with every file in it
    return (*identity, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def directories(paths: Iterable[Path]) -> list[str]:
    """Where changes of these files and directories are reported: in what holds them, and what they are links to."""
    found: dict[str, None] = {}
    for path in paths:
        for name in (os.path.abspath(path), os.path.realpath(path)):
            found[name] = found[os.path.dirname(name)] = None
    return [name for name in found if os.path.isdir(name)]


async def next_change(sources: Sources, seen: Signature) -> Signature:
    """Wait until the signature of the files is another than `seen`, and give it.

    Whoever takes `seen` before reading the files, and calls this with what it gave after reading them again, misses
    nothing. Cancelled, it ends within STEP seconds, with its thread.
    """
    while True:
        now = await _look(sources)
        if now != seen:
            now = await _settle(sources, now)
            if now != seen:
                return now
        await _report(now)


async def _look(sources: Sources) -> Signature:
    # In a thread, because a disk may be slow.
    return await trio.to_thread.run_sync(lambda: signature(sources()))


async def _settle(sources: Sources, now: Signature) -> Signature:
    with trio.move_on_after(LONGEST):
        while True:
            await trio.sleep(QUIET)
            before, now = now, await _look(sources)
            if now == before:
                break
    return now


async def _report(seen: Signature) -> None:
    """Return when something has happened where the files are, and after RECHECK seconds."""
    stop = threading.Event()
    with trio.move_on_after(RECHECK):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_at_end, stop)
            if not await trio.to_thread.run_sync(_wait, [path for path, _ in seen], stop):
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()


async def _set_at_end(stop: threading.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stop.set()


def _wait(paths: list[Path], stop: threading.Event) -> bool:
    """Wait for a report, or for `stop`. False if there can be none."""
    # Imported here, so that a broker that watches nothing does not carry it in memory. Not its `awatch`: under Trio its
    # cancellation waits for the thread, which takes seconds.
    from watchfiles import watch

    step = int(STEP * 1000)
    try:
        with closing(
            watch(
                *directories(paths),
                watch_filter=None,
                debounce=step,
                step=step,
                stop_event=stop,
                rust_timeout=0,
                recursive=False,
                ignore_permission_denied=True,
            )
        ) as reports:
            next(reports, None)
    except (OSError, RuntimeError, UnicodeError):
        # A directory has just gone, the system's bound for watches is reached, or a name is not UTF-8.
        return False
    return True
