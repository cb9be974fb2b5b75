"""A broker as a process of its own: started on a CPU of its own for one run, and ended afterwards."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.brokers import Broker, Place
from bench.certificates import Certificates
from bench.generator.target import Target, Transport
from bench.places import LOGS, ROOT

START_TIMEOUT = 20.0
"""Seconds until a broker listens."""
STOP_TIMEOUT = 10.0
"""Seconds until it has ended after SIGTERM."""
SETTLE = 0.3
"""Seconds that it has for what it does after that."""


class CannotStart(Exception):
    """A broker ended, or did not listen; the message names its log."""


def two_cpus() -> tuple[int, int] | None:
    """A CPU for the broker and one for the load generator, None if there are not two."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((Target.host, 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@contextmanager
def running(broker: Broker, transport: Transport, certificates: Certificates, cpu: int | None) -> Iterator[Target]:
    """Run a broker, and give what a load generator has to know of it. Raises CannotStart."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{broker.name}.log"
    with TemporaryDirectory(prefix="bench-") as temporary, log.open("wb") as output:
        directory = Path(temporary)
        directory.chmod(0o777)  # for a broker that becomes another user
        place = Place(port=free_port(), transport=transport, directory=directory, certificates=certificates)
        process = subprocess.Popen(
            broker.command(place),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            if cpu is not None:
                os.sched_setaffinity(process.pid, {cpu})
            _wait_until_it_listens(process, place.port, log)
            yield Target(
                port=place.port,
                transport=transport,
                version=broker.version,
                authority=str(certificates.authority),
                username=broker.username,
                password=broker.password,
                method=broker.method,
                pid=process.pid,
            )
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)
            process.kill()
            process.wait()


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    give_up = time.monotonic() + START_TIMEOUT
    while time.monotonic() < give_up and process.poll() is None:
        with suppress(OSError), socket.create_connection((Target.host, port)):
            time.sleep(SETTLE)
            return
        time.sleep(0.02)
    raise CannotStart(f"it does not listen: see {log}")
