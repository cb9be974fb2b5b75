"""What the broker costs as the work grows: points of a few lines, each in one picture."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from bench.growth.core import retained_messages, rules, subscriptions
from bench.growth.point import Picture, Point
from bench.growth.shell import connections, payload

__all__ = ["PICTURES", "Picture", "Point", "grow", "lines"]

_TENS = (10, 100, 1000, 10_000, 100_000, 1_000_000)

PICTURES: dict[str, Picture] = {
    "connections": Picture("connections", "connections", "µs of CPU", connections, _TENS[:4]),
    "subscriptions": Picture("subscriptions", "other subscriptions", "µs of CPU", subscriptions, _TENS),
    "rules": Picture("rules", "rules for others", "µs of CPU", rules, _TENS[:5]),
    "retained": Picture("retained", "retained messages", "µs of CPU", retained_messages, _TENS),
    "payload": Picture(
        "payload", "bytes of payload", "µs of CPU", payload, (16, 256, 4096, 65_536, 1_048_576, 16_777_216)
    ),
}


def grow(names: Sequence[str], most: float, tell: Callable[[str], None]) -> Iterator[Point]:
    """The points of these pictures, where there is no more of anything than `most`."""
    for name in names:
        picture = PICTURES[name]
        for size in picture.sizes:
            if size <= most:
                for line, cost in picture.measure(size).items():
                    tell(f"{name:16}{size:12,} {line:32}{cost:12,.2f} {picture.unit}")
                    yield Point(picture=name, line=line, size=size, cost=cost)


def lines(points: Iterable[Point]) -> dict[str, dict[int, float]]:
    """The points of one picture by their lines, each the cost by size."""
    found: dict[str, dict[int, float]] = {}
    for point in points:
        found.setdefault(point.line, {})[point.size] = point.cost
    return found
