"""The broker and its model for as long as one likes, with examples of its own: python -m … SECONDS."""

import sys
import time

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.mqttcore.broker.test_model import BrokerMachine

ROUND = settings(
    max_examples=200,
    stateful_step_count=60,
    derandomize=False,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Counted(BrokerMachine):
    """Counts its examples."""

    examples = 0

    def teardown(self) -> None:
        Counted.examples += 1
        super().teardown()


def main() -> None:
    began = time.monotonic()
    while time.monotonic() - began < float(sys.argv[1]):
        run_state_machine_as_test(Counted, settings=ROUND)
        print(f"{Counted.examples} examples in {time.monotonic() - began:.0f} seconds", flush=True)


if __name__ == "__main__":
    main()
