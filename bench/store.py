"""Figures in files."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")


def read_lines(path: Path, parse: Callable[[dict[str, Any]], _T]) -> list[_T]:
    """What a file of JSON lines has, nothing if there is no file."""
    return [parse(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path | None, each: Iterable[_T], to_json: Callable[[_T], dict[str, Any]]) -> Iterator[_T]:
    """Pass all on, and have each written into a new file of JSON lines at once; into none if `path` is None."""
    if path is None:
        yield from each
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for item in each:
            file.write(json.dumps(to_json(item)) + "\n")
            file.flush()
            yield item


def read_costs(path: Path) -> dict[str, float]:
    """What `write_costs` wrote, nothing if there is no file."""
    return {name: float(cost) for name, cost in json.loads(path.read_text()).items()} if path.exists() else {}


def write_costs(path: Path, costs: dict[str, float]) -> None:
    """Write costs by the names of what they are of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(costs, indent=1) + "\n")
