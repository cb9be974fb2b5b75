"""Brokers as processes, for the tests that look at the project from outside."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Seconds for one step of a process: generous, since a loaded machine is slow, and no passing test waits for it.
DEADLINE = 40.0

ROOT = Path(__file__).parents[1]


def broker(directory: Path, *options: str) -> AbstractContextManager[dict[str, int]]:
    """Run `python -m trio_broker run` on a free port; see `listening`."""
    ports = 1 + sum(option.endswith("-port") for option in options)
    return listening(directory, ["-m", "trio_broker", "run", "--port", "0", *options], ports)


@contextmanager
def listening(directory: Path, arguments: list[str], count: int = 1) -> Iterator[dict[str, int]]:
    """Run a Python program until it says on which ports of 127.0.0.1 it listens, and give them by URL scheme.

    In the end SIGTERM has to end it with status 0. Its output is left in the directory, in output.txt.
    """
    output = directory / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield _ports(process, output, count)
    finally:
        process.terminate()
        try:
            status = process.wait(DEADLINE)
        finally:
            process.kill()
    assert status == 0, f"{arguments} ended with status {status}:\n{output.read_text()[-4000:]}"


def _ports(process: subprocess.Popen[bytes], output: Path, count: int) -> dict[str, int]:
    give_up = time.monotonic() + DEADLINE
    while time.monotonic() < give_up and process.poll() is None:
        ports = {}
        for line in output.read_text().splitlines():
            scheme, separator, port = line.strip().partition("://127.0.0.1:")
            if separator and port.isdigit():
                ports[scheme] = int(port)
        if len(ports) == count:
            return ports
        time.sleep(0.02)
    raise AssertionError(f"it did not say where it listens:\n{output.read_text()}")
