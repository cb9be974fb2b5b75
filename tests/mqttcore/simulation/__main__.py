"""Runs many seeds over all cores: python -m tests.mqttcore.simulation SEEDS [--first SEED]."""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.mqttcore.simulation.twenty import outcome

SHOWN = 5
"""Failures that are shown in full."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mqttcore.simulation", description=__doc__)
    parser.add_argument("seeds", type=int, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    processes = min(len(seeds), len(os.sched_getaffinity(0)))
    failed = []
    began = reported = time.monotonic()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done, (seed, failure) in enumerate(pool.map(outcome, seeds, chunksize=5), 1):
            if failure:
                failed.append(seed)
                print(failure if len(failed) <= SHOWN else f"seed {seed}: {failure.splitlines()[-1]}")
                print(f"once more: make simulate SEEDS=1 FIRST={seed}", flush=True)
            if time.monotonic() - reported > 30:
                reported = time.monotonic()
                print(f"{done} of {len(seeds)} seeds, {done / (reported - began):.1f} a second", flush=True)
    seconds = time.monotonic() - began
    print(f"{len(seeds)} seeds in {seconds:.0f} seconds, {len(seeds) / seconds:.1f} a second; {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
