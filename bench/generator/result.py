"""What a run has come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from bench.generator.measure import Sample, quantile


@dataclass(frozen=True, kw_only=True)
class Result:
    """`figures` by what they tell, with their units in their names; `faults` are those that there were.

    A run is good if nothing in it was wrong.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether its figures tell anything."""
        return not self.faults and not self.error

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"good": self.good, "error": self.error, "faults": {**self.faults}, **self.figures}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """From what `to_json` gave."""
        figures = {name: value for name, value in found.items() if isinstance(value, float)}
        return cls(figures=figures, faults=found["faults"], error=found["error"])


def cost(before: Sample, after: Sample, count: int) -> dict[str, float]:
    """What so many messages, or whatever it was, have cost."""
    wall = after.wall - before.wall
    figures = {"count": float(count), "seconds": wall, "generator_busy": (after.own - before.own) / wall}
    if count:
        figures["per_second"] = count / wall
        figures["cpu_us"] = (after.cpu - before.cpu) / count * 1e6
    return figures


def latency(ages: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Median and 99th percentile of times in seconds, each with how many took it."""
    if not ages:
        return {}
    weighted = sorted(ages)
    return {"p50_ms": quantile(weighted, 0.5) * 1e3, "p99_ms": quantile(weighted, 0.99) * 1e3}
