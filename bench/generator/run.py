"""One scenario against one broker: what it cost, how fast it was, and whether everything arrived as it should."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.generator.clients import Comings, Renewals, hold
from bench.generator.errors import RunFailed
from bench.generator.loop import Loop
from bench.generator.measure import Sample, calibrate
from bench.generator.result import Result, cost, latency
from bench.generator.retained import Retention
from bench.generator.scenarios import Connects, Idle, Reauthentications, Retained, Scenario, Traffic
from bench.generator.target import Target
from bench.generator.traffic import Exchange


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How long a run is: publishing and re-authenticating for `seconds` after a `warmup`, also in seconds.

    Or, with `messages`, so many of each publisher and no warm-up. `patience` is how long nothing may happen, seconds.
    """

    seconds: float = 2.0
    warmup: float = 0.5
    messages: float = math.inf
    patience: float = 5.0


def run(scenario: Scenario, target: Target, amount: Amount) -> Result:
    """Run a scenario. Whatever goes wrong is in the result."""
    loop = Loop(target, amount.patience)
    collecting = gc.isenabled()
    gc.disable()
    try:
        figures, faults = _run(scenario, loop, amount)
    except RunFailed as error:
        return Result(error=str(error))
    finally:
        loop.close()
        if collecting:
            gc.enable()
    figures["calibration_ms"] = calibrate() * 1e3
    return Result(figures=figures, faults={name: count for name, count in faults.items() if count})


Outcome = tuple[dict[str, float], dict[str, int]]
"""Figures and faults."""


def _run(scenario: Scenario, loop: Loop, amount: Amount) -> Outcome:
    def sample() -> Sample:
        return Sample.take(loop.target.pid)

    match scenario:
        case Traffic():
            return _traffic(scenario, loop, amount, sample)
        case Connects():
            before = sample()
            (comings := Comings(scenario, loop)).run(scenario.connections)
            return cost(before, sample(), scenario.connections) | latency(comings.ages), {}
        case Idle():
            before = sample()
            hold(scenario, loop, amount.seconds if amount.messages == math.inf else 0)
            after = sample()
            figures = {"cpu_us": (after.cpu - before.cpu) / scenario.connections * 1e6}
            return figures | _bytes_each("connection", before, after, scenario.connections), {}
        case Retained():
            return _retained(scenario, loop, sample)
        case Reauthentications():
            renewals = Renewals(scenario, loop)
            renewals.open()
            before = sample()
            renewals.run(amount.seconds)
            return cost(before, sample(), len(renewals.ages)) | latency(renewals.ages), {}


def _traffic(scenario: Traffic, loop: Loop, amount: Amount, sample: Callable[[], Sample]) -> Outcome:
    figures = {}
    exchange = Exchange(scenario, loop)
    if scenario.other_subscriptions:
        before = sample()
        exchange.open_others()
        figures = _bytes_each("subscription", before, sample(), scenario.other_subscriptions)
    exchange.open()
    if amount.messages == math.inf:
        exchange.run(messages=scenario.topics)  # all topics once, also where publishers take turns
        exchange.run(seconds=amount.warmup)
    exchange.ages.clear()
    begun = exchange.arrived
    before = sample()
    if amount.messages == math.inf:
        exchange.run(seconds=amount.seconds)
    else:
        exchange.run(messages=amount.messages)
    after = sample()
    exchange.linger()
    return figures | cost(before, after, exchange.arrived - begun) | latency(exchange.ages), exchange.faults()


def _retained(scenario: Retained, loop: Loop, sample: Callable[[], Sample]) -> Outcome:
    retention = Retention(scenario, loop)
    retention.open()
    before = sample()
    count = retention.store()
    stored = sample()
    unknown = retention.fetch()
    fetched = sample()
    retention.store(empty=True)
    figures = cost(before, stored, count) | _bytes_each("retained", before, stored, count)
    figures["fetch_cpu_us"] = (fetched.cpu - stored.cpu) / count * 1e6
    return figures, {"unknown": unknown, "refused": retention.refused}


def _bytes_each(what: str, before: Sample, after: Sample, count: int) -> dict[str, float]:
    return {f"bytes_per_{what}": (after.resident - before.resident) / count}
