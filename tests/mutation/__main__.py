"""Would the tests notice? A random sample of mutants of the core, and those that no test fails for.

mutmut makes the mutants and runs the tests that setup.cfg selects in forks of one process. What survives there is tried
again here with all tests that concern its file, in a process of its own, where the mutant is there from the import on:
a fork comes too late for functions that make a table, or an authenticator that tests share.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.mutation.sample import MUTANTS, draw, outcomes

TIMEOUT = 600
"""Seconds for all tests that concern a file; a mutant with which they take longer counts as killed."""
ONE_FUNCTION = "mqttcore.wire.x_read_byte__mutmut_*"
"""mutmut makes the mutants when it runs some."""

AUTHENTICATORS = ["tests/mqttcore/authenticators", "tests/mqttcore/test_auth.py"]
CORE = [
    *(f"tests/mqttcore/test_{name}.py" for name in ("codec_errors", "codec_vectors", "properties", "wire", "framing")),
    *(f"tests/mqttcore/test_{name}.py" for name in ("session", "connection_reasons", "connection_server")),
    *(f"tests/mqttcore/test_{name}.py" for name in ("connection_client", "limits_enforced", "message", "client")),
    *(
        f"tests/mqttcore/broker/test_{name}.py"
        for name in ("connect", "flow_control", "full_queue", "aliases", "sizes")
    ),
    "tests/mqttcore/broker/test_sessions.py",
    "tests/conformance/test_data_representation.py",
    "tests/mqttcore/test_codec_any.py",
]


def mutmut(*names: str) -> None:
    """Try mutants, one at a time so that their times say something."""
    subprocess.run([Path(sys.executable).with_name("mutmut"), "run", "--max-children", "1", *names], check=True)


def tried_again(name: str, file: str) -> str:
    """What becomes of a mutant with all tests that concern its file."""
    tests = AUTHENTICATORS if file.startswith("authenticators/") else CORE
    options = ["-x", "-q", "-p", "no:xdist", "--hypothesis-profile=mutants"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=MUTANTS.parent,
            env={**os.environ, "MUTANT_UNDER_TEST": name},
            capture_output=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return "time-out"
    return "killed" if done.returncode else "survived"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Mutation testing of the core.")
    parser.add_argument("sample", type=int, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="which: the same for the same seed and code")
    arguments = parser.parse_args()

    shutil.rmtree(MUTANTS.parent, ignore_errors=True)
    mutmut(ONE_FUNCTION)
    for file in ("", "authenticators/"):
        if tried_again("", file) != "survived":
            sys.exit("the tests fail without any mutant")
    sample = draw({file: list(found) for file, found in outcomes().items()}, arguments.sample, arguments.seed)
    mutmut(*sample)

    survivors = []
    total: Counter[str] = Counter()
    print(f"{'file':40}  mutants   sample   killed time-out survived")
    for file, found in outcomes().items():
        counts = Counter(mutants=len(found))
        for name in sorted({*sample} & {*found}):
            outcome = tried_again(name, file) if found[name] == "survived" else found[name]
            counts.update(("sample", outcome))
            if outcome == "survived":
                survivors.append(name)
        total += counts
        print(_row(file, counts), flush=True)
    print(_row("all", total))
    noticed = (total["killed"] + total["time-out"]) / total["sample"]
    print(f"{noticed:.1%} noticed; what survived, for mutmut show:", *survivors, sep="\n")


def _row(file: str, counts: Counter[str]) -> str:
    columns = ("mutants", "sample", "killed", "time-out", "survived")
    return f"{file:40}" + "".join(f"{counts[column]:9}" for column in columns)


if __name__ == "__main__":
    main()
