"""What a call costs: CPU time of this process, the least of several tries."""

import gc
import time
from collections.abc import Callable
from itertools import repeat

TRY = 5_000_000
"""Nanoseconds that one try takes, at least."""
TRIES = 9


def nanoseconds(call: Callable[[], object], *, operations: int = 1, least: int = TRY, tries: int = TRIES) -> float:
    """CPU nanoseconds of each of the operations that a call does."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        count = 1
        while (spent := _time(call, count)) < least:
            count = max(count + 1, min(count * 10, int(count * 1.2 * least / max(spent, 1))))
        return min(_time(call, count) for _ in range(tries)) / count / operations
    finally:
        if collecting:
            gc.enable()


def once(call: Callable[[], object], *, operations: int) -> float:
    """CPU nanoseconds of each of many operations, done once by a call that cannot be repeated."""
    return _time(call, 1) / operations


def _time(call: Callable[[], object], count: int) -> int:
    begin = time.process_time_ns()
    for _ in repeat(None, count):
        call()
    return time.process_time_ns() - begin
