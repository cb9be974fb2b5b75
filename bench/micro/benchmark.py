"""One benchmark."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """`prepare` makes all ready and gives the call that is measured, which does so many `operations`."""

    name: str
    prepare: Callable[[], Callable[[], object]]
    operations: int = 1
