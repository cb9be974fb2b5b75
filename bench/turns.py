"""Brokers one after another, again and again: a slow moment of the machine falls on all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from bench.brokers import Broker
from bench.cases import Case, needs_v5, parse_case
from bench.certificates import make_certificates
from bench.generator.result import Result
from bench.generator.scenarios import SCENARIOS, Reauthentications
from bench.load import run_once


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a case on a broker of some release; the rounds count from 0."""

    broker: str
    release: str
    case: Case
    round: int
    result: Result

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "broker": self.broker,
            "release": self.release,
            "case": str(self.case),
            "round": self.round,
            **self.result.to_json(),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """From what `to_json` gave."""
        return cls(
            broker=found["broker"],
            release=found["release"],
            case=parse_case(found["case"]),
            round=found["round"],
            result=Result.from_json(found),
        )


def why_not(broker: Broker, case: Case) -> str:
    """Why a broker does not run a case; "" if it does."""
    scenario = SCENARIOS[case.scenario]
    if case.scenario in broker.leaves_out:
        return broker.leaves_out[case.scenario]
    if case.transport not in broker.transports:
        return f"it is not measured over {case.transport}"
    if broker.version < 5 and needs_v5(scenario):
        return "it has no MQTT 5.0"
    if isinstance(scenario, Reauthentications) and broker.method is None:
        return "it has no enhanced authentication"
    return ""


def take_turns(
    brokers: Sequence[Broker], cases: Sequence[Case], rounds: int, seconds: float, tell: Callable[[str], None]
) -> Iterator[Run]:
    """Run all cases, and give each run when it is done."""
    with TemporaryDirectory(prefix="bench-") as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)
        certificates = make_certificates(directory)
        releases = {broker.name: broker.release() for broker in brokers}
        for case in cases:
            able = []
            for broker in brokers:
                if reason := why_not(broker, case):
                    tell(f"{case!s:12} - {broker.name:16} {reason}")
                else:
                    able.append(broker)
            for number in range(rounds):
                for broker in able:
                    result = run_once(broker, case, certificates, seconds)
                    tell(f"{case!s:12} {number} {broker.name:16} {_in_short(result)}")
                    yield Run(
                        broker=broker.name,
                        release=releases[broker.name],
                        case=case,
                        round=number,
                        result=result,
                    )


def _in_short(result: Result) -> str:
    if not result.good:
        return f"FAILED {result.error} {', '.join(f'{count} {name}' for name, count in result.faults.items())}"
    names = ("per_second", "cpu_us", "p50_ms", "p99_ms", "calibration_ms")
    return "  ".join(f"{name}={result.figures[name]:.4g}" for name in names if name in result.figures)
