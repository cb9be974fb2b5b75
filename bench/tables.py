"""Figures as tables in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.brokers import MEASURE
from bench.cases import Case
from bench.growth import PICTURES, Point, lines
from bench.turns import Run


@dataclass(frozen=True)
class Figure:
    """A figure that there is a table of; `compared` is whether a ratio says anything."""

    name: str
    title: str
    compared: bool = False


FIGURES = (
    Figure("cpu_us", "CPU time of the broker, µs for each message or connection", compared=True),
    Figure("per_second", "Messages, connections or re-authentications per second"),
    Figure("p50_ms", "Median latency, ms"),
    Figure("p99_ms", "99th percentile of the latency, ms"),
    Figure("fetch_cpu_us", "CPU time of the broker, µs for each retained message that a new subscriber gets", True),
    Figure("bytes_per_connection", "Memory, bytes for each connection that does nothing", compared=True),
    Figure("bytes_per_subscription", "Memory, bytes for each subscription", compared=True),
    Figure("bytes_per_retained", "Memory, bytes for each retained message", compared=True),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first columns are words, and the others figures."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def comparison(runs: Sequence[Run]) -> str:
    """All tables."""
    brokers = [*dict.fromkeys(run.broker for run in runs)]
    parts = [part for figure in FIGURES if (part := _table(figure, runs, brokers))]
    parts.append(f"{', '.join(dict.fromkeys(f'{run.broker} {run.release}'.strip() for run in runs))}.")
    parts.append(_calibration(runs))
    if failed := [run for run in runs if not run.result.good]:
        parts.append("Failed:\n\n" + "\n".join(f"- {_failure(run)}" for run in failed))
    return "\n\n".join(parts) + "\n"


def growth(points: Sequence[Point]) -> str:
    """A table for each picture."""
    parts = []
    for name, picture in PICTURES.items():
        if mine := lines(point for point in points if point.picture == name):
            sizes = sorted({size for costs in mine.values() for size in costs})
            head = [f"{picture.unit}, by {picture.what}", *(f"{size:,}" for size in sizes)]
            rows = [
                [line, *(short(costs[size]) if size in costs else "-" for size in sizes)]
                for line, costs in mine.items()
            ]
            parts.append(f"### {name.capitalize()}\n\n{table(head, rows)}\n")
    return "\n".join(parts)


def micro(costs: Mapping[str, float]) -> str:
    """CPU time of each operation."""
    return table(["operation", "ns"], [[name, short(cost)] for name, cost in costs.items()]) + "\n"


def side_by_side(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """The operations that both have, and how many times the one is the other."""
    rows = [
        [name, short(cost), short(after[name]), f"{after[name] / cost:.2f}"]
        for name, cost in before.items()
        if name in after
    ]
    return table(["operation", "before, ns", "after, ns", "ratio"], rows) + "\n"


def values(runs: Iterable[Run], figure: str, case: Case, broker: str) -> dict[int, float]:
    """A figure in all good runs of a case on a broker, by round."""
    return {
        run.round: run.result.figures[figure]
        for run in runs
        if run.case == case and run.broker == broker and run.result.good and figure in run.result.figures
    }


def measure(runs: Sequence[Run], figure: str, case: Case) -> str | None:
    """The broker that the others are compared with: of those in MEASURE the one with the lowest median."""
    medians = {name: median(found.values()) for name in MEASURE if (found := values(runs, figure, case, name))}
    return min(medians, key=lambda name: medians[name]) if medians else None


def ratio(runs: Sequence[Run], figure: str, case: Case, broker: str, other: str) -> float | None:
    """How many times what another broker needs this one does: the median over rounds, each with its own ratio."""
    ours, theirs = values(runs, figure, case, broker), values(runs, figure, case, other)
    ratios = [ours[each] / theirs[each] for each in ours if theirs.get(each)]
    return median(ratios) if ratios else None


def _table(figure: Figure, runs: Sequence[Run], brokers: Sequence[str]) -> str:
    rows = []
    for case in dict.fromkeys(run.case for run in runs):
        if any(values(runs, figure.name, case, broker) for broker in brokers):
            cells = [_cell(figure, runs, case, broker) for broker in brokers]
            rows.append([str(case), case.about, *cells])
    if not rows:
        return ""
    note = f"; (ratio) to the cheaper of {' and '.join(MEASURE)}" if figure.compared else ""
    return f"### {figure.title}{note}\n\n" + table(["case", "what it is", *brokers], rows, words=2)


def _cell(figure: Figure, runs: Sequence[Run], case: Case, broker: str) -> str:
    found = values(runs, figure.name, case, broker)
    if not found:
        return "failed" if any(run.case == case and run.broker == broker for run in runs) else "-"
    text = short(median(found.values()))
    other = measure(runs, figure.name, case) if figure.compared else None
    if other is not None and broker not in MEASURE:
        compared = ratio(runs, figure.name, case, broker, other)
        text += "" if compared is None else f" ({compared:.2f})"
    return text


def short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _calibration(runs: Sequence[Run]) -> str:
    times = [run.result.figures["calibration_ms"] for run in runs if "calibration_ms" in run.result.figures]
    if not times:
        return "No run was good."
    return (
        f"The same piece of work, done after each run, took {min(times):.0f} to {max(times):.0f} ms of CPU time,"
        f" {median(times):.0f} ms in the median: the more that differs, the less do the figures tell."
    )


def _failure(run: Run) -> str:
    told = [run.result.error] if run.result.error else []
    told += [f"{count} {name}" for name, count in run.result.faults.items()]
    return f"{run.broker}, {run.case}, round {run.round}: {', '.join(told)}"
