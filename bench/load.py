"""One run: a broker as a process, and the load generator as another."""

import json
import subprocess
import sys
from collections.abc import Mapping

from bench.brokers import Broker
from bench.cases import Case
from bench.certificates import Certificates
from bench.generator.result import Result
from bench.generator.target import Target
from bench.places import ROOT
from bench.process import CannotStart, running, two_cpus

RUN_TIMEOUT = 120.0
"""Seconds for one run."""


def run_once(
    broker: Broker, case: Case, certificates: Certificates, seconds: float, changes: Mapping[str, object] | None = None
) -> Result:
    """Start a broker, load it once, and end it. What goes wrong is in the result.

    `changes` are to the fields of the scenario.
    """
    broker_cpu, own_cpu = two_cpus() or (None, None)
    try:
        with running(broker, case.transport, certificates, broker_cpu) as target:
            return load(target, case.scenario, seconds, own_cpu, changes or {})
    except CannotStart as error:
        return Result(error=str(error))


def load(target: Target, scenario: str, seconds: float, cpu: int | None, changes: Mapping[str, object]) -> Result:
    """Run the load generator as a process of its own."""
    options = {
        "--port": target.port,
        "--transport": target.transport,
        "--version": target.version,
        "--authority": target.authority,
        "--username": target.username,
        "--password": target.password,
        "--method": target.method,
        "--pid": target.pid,
        "--seconds": seconds,
        "--cpu": cpu,
    }
    command = [sys.executable, "-m", "bench.generator", scenario]
    for name, value in changes.items():
        command += ["--set", f"{name}={value}"]
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(error=f"it takes longer than {RUN_TIMEOUT:g} seconds")
    if not done.stdout:
        return Result(error=f"the load generator failed: {done.stderr[-500:]}")
    return Result.from_json(json.loads(done.stdout))
