"""A point of a line in a picture."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Point:
    """What something costs, in the picture's unit, when there is so much of what the picture is about."""

    picture: str
    line: str
    size: int
    cost: float

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """From what `to_json` gave."""
        return cls(**found)


@dataclass(frozen=True)
class Picture:
    """How a cost grows; `measure` gives it for each line at a size."""

    name: str
    what: str
    unit: str
    measure: Callable[[int], Mapping[str, float]]
    sizes: tuple[int, ...]
