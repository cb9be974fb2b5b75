"""A random sample of the mutants that mutmut has made, and what has become of them."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

MUTANTS = Path("mutants/mqttcore")

# What mutmut notes of a mutant is the exit code of pytest, or one of its own.
_OUTCOMES = {0: "survived", 1: "killed", 3: "killed", 5: "survived", 33: "survived"}


def outcomes() -> dict[str, dict[str, str]]:
    """By file and mutant: killed, survived (also where mutmut knows of no test), or time-out."""
    found = {}
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
        if codes:
            file = str(meta.relative_to(MUTANTS)).removesuffix(".meta")
            found[file] = {name: "not tried" if code is None else _OUTCOMES.get(code, "time-out")
                           for name, code in codes.items()}  # fmt: skip
    return found


def draw(mutants: Mapping[str, Sequence[str]], size: int, seed: int) -> list[str]:
    """`size` of the mutants of all files, or all there are; the same for the same `seed`.

    Each file has its share in proportion, rounded down, and those with the largest remainders have one more.
    """
    total = sum(map(len, mutants.values()))
    size = min(size, total)
    shares = {file: divmod(size * len(names), total) for file, names in mutants.items()}
    left = size - sum(share for share, _ in shares.values())
    one_more = sorted(shares, key=lambda file: -shares[file][1])[:left]
    dice = random.Random(seed)
    return [
        name
        for file, names in mutants.items()
        for name in sorted(dice.sample(sorted(names), shares[file][0] + (file in one_more)))
    ]
