"""Where the shell and the kernel have their part: the broker as a process, with clients on sockets."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.brokers import AMQTT, OURS, known
from bench.cases import Case
from bench.certificates import make_certificates
from bench.load import run_once

TOGETHER = 5
"""Messages that are on their way at a time, however many connections there are."""
LARGE_PAIRS = 2
"""Pairs that payloads of all sizes are sent between."""
ROUNDS = 3
SECONDS = 1.0


def connections(size: int) -> dict[str, float]:
    """Messages between so many connections, µs: half of them publishers, who take turns."""
    return {"message": _cheapest({"publishers": size // 2, "together": TOGETHER})}


def payload(size: int) -> dict[str, float]:
    """Messages with so much payload, µs: one at a time from each publisher."""
    return {"message": _cheapest({"publishers": LARGE_PAIRS, "payload": size})}


def _cheapest(changes: Mapping[str, object]) -> float:
    """CPU time of the broker for a message, µs: the least of some runs. Raises RuntimeError if one was not good."""
    broker = known(AMQTT)[OURS]
    found = []
    with TemporaryDirectory(prefix="bench-") as directory:
        certificates = make_certificates(Path(directory))
        for _ in range(ROUNDS):
            result = run_once(broker, Case("single"), certificates, SECONDS, changes)
            if not result.good:
                raise RuntimeError(f"single with {changes}: {result.error} {dict(result.faults)}")
            found.append(result.figures["cpu_us"])
    return min(found)
