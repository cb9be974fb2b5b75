"""Some of the seeds of `make simulate`, by the same program: in other processes, without coverage, which takes long."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SEEDS = 200


def test_some_seeds() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.mqttcore.simulation", str(SEEDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
    )
    assert result.returncode == 0, result.stdout + result.stderr
