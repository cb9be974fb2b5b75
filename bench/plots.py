"""Figures as pictures. matplotlib, of the extra `bench`, is loaded by whoever imports this."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.cases import Case
from bench.growth import PICTURES
from bench.tables import values
from bench.turns import Run

COLOURS = ("#2b6cb0", "#a0aec0", "#718096", "#dd6b20", "#38a169", "#d53f8c")
"""Of brokers."""
HEIGHT = 0.32
"""Inches of one bar and the space around it."""
LEAST = 0.05
"""Microseconds at which bars begin."""

mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file


def draw_comparison(runs: Sequence[Run], path: Path) -> None:
    """CPU time by case and broker, as bars on a logarithmic scale."""
    cases = [*dict.fromkeys(run.case for run in runs)]
    brokers = [*dict.fromkeys(run.broker for run in runs)]
    costs = {broker: _costs(runs, cases, broker) for broker in brokers}
    cases = [case for case in cases if any(case in each for each in costs.values())]
    figure = Figure(figsize=(8, 1 + HEIGHT * len(cases) * (len(brokers) + 1) / 2), layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(brokers)
    for number, broker in enumerate(brokers):
        there = [at for at, case in enumerate(cases) if case in costs[broker]]
        axes.barh(
            [at + number * thickness for at in there],
            [costs[broker][cases[at]] for at in there],
            height=thickness,
            label=broker,
            color=COLOURS[number % len(COLOURS)],
        )
    axes.set_yticks([at + 0.4 - thickness / 2 for at in range(len(cases))], [str(case) for case in cases])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=LEAST)
    axes.set_xlabel("CPU time of the broker, µs for each message or connection; less is better")
    axes.grid(axis="x", alpha=0.3)
    axes.legend()
    _save(figure, path)


def draw_growth(name: str, lines: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """What something costs as there is more of it, on logarithmic scales."""
    picture = PICTURES[name]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for line, costs in lines.items():
        axes.plot([*costs], [*costs.values()], marker="o", label=line)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(picture.what)
    axes.set_ylabel(picture.unit)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _costs(runs: Sequence[Run], cases: Sequence[Case], broker: str) -> dict[Case, float]:
    found = {case: values(runs, "cpu_us", case, broker) for case in cases}
    return {case: median(each.values()) for case, each in found.items() if each}


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})
