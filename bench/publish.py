"""What was measured last, as pages and pictures for the documentation."""

import platform
from collections.abc import Callable

from bench.growth import PICTURES, Point, lines
from bench.places import GROWTH, MICRO, PUBLISHED, RUNS
from bench.plots import draw_comparison, draw_growth
from bench.store import read_costs, read_lines
from bench.tables import comparison, growth, micro
from bench.turns import Run

_HEAD = """\
# {title}

Made by `python -m bench publish` of what `python -m bench {command}` has measured: do not edit. What it is and how to
repeat it is in [bench/README.md](../../bench/README.md). With Python {python}.

"""


def publish(tell: Callable[[str], None]) -> None:
    """Write the pages and pictures there are figures for."""
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    if runs := read_lines(RUNS, Run.from_json):
        _write("comparison.md", "Beside other brokers", "run", comparison(runs), tell)
        draw_comparison(runs, PUBLISHED / "comparison.svg")
    if costs := read_costs(MICRO):
        _write("micro.md", "The parts", "micro", micro(costs), tell)
    if points := read_lines(GROWTH, Point.from_json):
        _write("growth.md", "As the work grows", "grow", growth(points), tell)
        for name in PICTURES:
            if mine := [point for point in points if point.picture == name]:
                draw_growth(name, lines(mine), PUBLISHED / f"{name}.svg")


def _write(name: str, title: str, command: str, body: str, tell: Callable[[str], None]) -> None:
    head = _HEAD.format(title=title, command=command, python=platform.python_version())
    (PUBLISHED / name).write_text(head + body)
    tell(f"written: {PUBLISHED / name}")
