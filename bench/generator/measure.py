"""What a process has cost, as the system tells it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_WHOLE_PROCESS = 2
"""What the id of a process' clock has in its lowest bits: CPU time of all threads, as clock_getcpuclockid(3) has it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Time of the wall clock, CPU time of the broker and of ourselves, seconds; memory of the broker, bytes."""

    wall: float
    own: float
    cpu: float = 0.0
    resident: int = 0

    @classmethod
    def take(cls, pid: int | None) -> Self:
        """Of the broker with this process id and its children, and of ourselves."""
        pids = [] if pid is None else _family(pid)
        return cls(
            cpu=sum(_cpu(each) for each in pids),
            resident=sum(_resident(each) for each in pids),
            own=time.process_time(),
            wall=time.perf_counter(),
        )


def _family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def _cpu(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | _WHOLE_PROCESS)


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def calibrate() -> float:
    """CPU seconds of a fixed piece of work: the same in all runs, unless the machine has slow moments."""
    begin = time.process_time()
    number = 1
    for _ in range(500_000):
        number = number * 1_103_515_245 + 12_345 & 0x7FFFFFFF
    return time.process_time() - begin


def quantile(weighted: Sequence[tuple[float, int]], share: float) -> float:
    """The value that this share of all does not exceed; each comes with how many have it. Sorted, not empty."""
    left = share * sum(count for _, count in weighted)
    for value, count in weighted:
        left -= count
        if left <= 0:
            return value
    return weighted[-1][0]
