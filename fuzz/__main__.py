"""Runs the fuzz targets one after another and says how far each came: python -m fuzz [--time SECONDS] [TARGET ...]"""

import argparse
import random
import re
import shutil
import subprocess
import sys
from hashlib import sha1
from pathlib import Path

from fuzz.places import CORPUS, FINDING, MAXIMUM_BYTES, MAXIMUM_FILES, ROOT, WORK
from fuzz.seeds import SEEDS
from fuzz.targets import NAMES

MEMORY = 2048
"""Mebibytes that a target may use."""
MAXIMUM_LENGTH = 16_384
"""Bytes of one input; beside what libFuzzer makes of it, the longest seed is shorter."""
ROOM = 20
"""Files for which a corpus keeps room: findings to come."""
HANG = 30
"""Seconds after which a single input is a finding: a guard against endless loops, no measure of speed."""


def main() -> int:
    """0 if nothing was found, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.partition(":")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--time", type=int, default=60, metavar="SECONDS", help="for each target (60)")
    parser.add_argument(
        "--minimise", action="store_true", help="replace the corpora by the few inputs that reach what has been reached"
    )
    options = parser.parse_args()
    if unknown := sorted({*options.targets} - {*NAMES}):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(NAMES)}")
    found = 0
    if not options.minimise:
        print(f"{'target':20}{'executions':>12}{'per second':>12}{'edges':>8}{'features':>10}{'corpus':>8}  findings")
    for name in options.targets or NAMES:
        if options.minimise:
            minimise(name)
        else:
            found += fuzz(name, options.time)
    return min(found, 1)


def fuzz(name: str, seconds: int) -> int:
    """Fuzz a target; how many findings it has."""
    grown, findings = WORK / "corpus" / name, WORK / "findings" / name
    for directory in (grown, findings, CORPUS / name):
        directory.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    output = run(
        name,
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY}",
        f"-timeout={HANG}",
        f"-max_len={MAXIMUM_LENGTH}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        str(grown),
        str(CORPUS / name),
    )
    new = sorted(set(findings.iterdir()) - before)
    executions = number(r"stat::number_of_executed_units:\s*(\d+)", output)
    speed = number(r"stat::average_exec_per_sec:\s*(\d+)", output)
    edges, features = number(r"cov: (\d+)", output), number(r"ft: (\d+)", output)
    corpus = number(r"corp: (\d+)", output)
    told = ", ".join(str(each.relative_to(ROOT)) for each in new)
    print(f"{name:20}{executions:>12}{speed:>12}{edges:>8}{features:>10}{corpus:>8}  {told or 'none'}", flush=True)
    if new or not executions:
        print(output[-6000:], flush=True)
    return len(new) or not executions


def minimise(name: str) -> None:
    """Make the corpus anew from what has been found and the seeds: what reaches all that is reached, then samples."""
    grown, kept, merged = WORK / "corpus" / name, CORPUS / name, WORK / "merged" / name
    seeds = dict.fromkeys(SEEDS[name]())
    grown.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    for data in seeds:
        (grown / sha1(data).hexdigest()).write_bytes(data)
    inputs = merge(name, merged, kept, grown)
    if len(inputs) > MAXIMUM_FILES - ROOM:
        inputs = merge(name, merged, kept, grown, "-use_counters=0")  # how often does not matter then
    random.Random(1).shuffle(samples := [*seeds])
    size = sum(map(len, inputs))
    for data in samples[: MAXIMUM_FILES // 2]:
        size += len(data)
        if len(inputs) < MAXIMUM_FILES - ROOM and size < MAXIMUM_BYTES:
            inputs.append(data)
    for path in kept.iterdir():
        if not path.name.startswith(FINDING):
            path.unlink()
    for data in inputs:
        (kept / sha1(data).hexdigest()).write_bytes(data)
    print(f"{name}: {len([*kept.iterdir()])} files", flush=True)


def merge(name: str, to: Path, *sources_and_options: Path | str) -> list[bytes]:
    """The inputs that together reach what all do."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    output = run(name, "-set_cover_merge=1", f"-max_len={MAXIMUM_LENGTH}", str(to), *map(str, sources_and_options))
    inputs = [path.read_bytes() for path in sorted(to.iterdir())]
    if not inputs:
        raise SystemExit(output[-6000:])
    return inputs


def run(name: str, *options: str) -> str:
    """What libFuzzer has to say."""
    done = subprocess.run(
        ["nice", "-n", "15", sys.executable, "-m", "fuzz.one", name, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout


def number(pattern: str, output: str) -> int:
    """The last number that a pattern finds."""
    found = re.findall(pattern, output)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
