"""What the parts of the core cost, each by itself."""

from collections.abc import Callable, Iterable

from bench.micro.benchmark import Benchmark
from bench.micro.codec import codec
from bench.micro.deciding import deciding
from bench.micro.relaying import relaying
from bench.timing import TRIES, TRY, nanoseconds


def benchmarks() -> dict[str, Benchmark]:
    """All of them by their names."""
    return {each.name: each for each in (*codec(), *deciding(), *relaying())}


def measure(wanted: Iterable[Benchmark], tell: Callable[[str], None], *, quick: bool = False) -> dict[str, float]:
    """CPU nanoseconds of one operation, by the name of its benchmark; `quick` only to see that they run."""
    found = {}
    for each in wanted:
        call = each.prepare()
        found[each.name] = nanoseconds(
            call, operations=each.operations, least=1 if quick else TRY, tries=1 if quick else TRIES
        )
        tell(f"{each.name:44}{found[each.name]:12,.0f} ns")
    return found
