"""The pytest plugin: fixtures with a broker to test against, see docs/testing.md.

It is loaded in every test run of an environment that has it, so nothing of the broker is imported before a fixture is
asked for.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest

if TYPE_CHECKING:
    from trio_broker.testing import MemoryBroker, Options, RunningBroker

MARKER = "mqtt_broker"


class BrokerFactory(Protocol):
    """What `mqtt_broker_factory` gives: each call starts one more broker, which ends with the test."""

    def __call__(self, **options: "Unpack[Options]") -> "RunningBroker":
        """Raises ConfigurationError for what the options ask for."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(manifests=…, profile=…, limits=…, tls=…, websocket=…, configmaps=…, secrets=…, local_ca=…): "
        "what the broker of the fixture mqtt_broker or mqtt_memory_broker is to be",
    )


@pytest.fixture
def mqtt_broker_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerFactory]:
    """Starts brokers, each on a free port of 127.0.0.1 and in a thread of its own."""
    from trio_broker.testing import run_broker

    brokers: list[RunningBroker] = []
    with ExitStack() as running:

        def start(**options: "Unpack[Options]") -> "RunningBroker":
            directory = tmp_path / f"mqtt-broker-{len(brokers) + 1}"
            broker = running.enter_context(run_broker(directory, **options))
            running.callback(lambda: _show(request, broker.log))
            brokers.append(broker)
            return broker

        yield start


@pytest.fixture
def mqtt_broker(request: pytest.FixtureRequest, mqtt_broker_factory: BrokerFactory) -> "RunningBroker":
    """A broker on a free port of 127.0.0.1, as the marker mqtt_broker says, or open to everybody."""
    return mqtt_broker_factory(**_marked(request))


@pytest.fixture
async def mqtt_memory_broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator["MemoryBroker"]:
    """A broker in memory for a test on pytest-trio, as the marker mqtt_broker says.

    It goes by the clock of the test, which is virtual if the test has autojump_clock or mock_clock among its arguments.
    """
    from trio_broker.testing import open_memory_broker

    async with open_memory_broker(tmp_path / "mqtt-broker", **_marked(request)) as broker:
        yield broker
        _show(request, broker.log)


def _marked(request: pytest.FixtureRequest) -> "Options":
    marker = request.node.get_closest_marker(MARKER)
    if marker is None:
        return {}
    if marker.args:
        raise TypeError(f"the marker {MARKER} takes its options by name, for instance manifests=…")
    options: Options = marker.kwargs
    return options


def _show(request: pytest.FixtureRequest, log: str) -> None:
    """Have pytest show the log if the test failed."""
    request.node.add_report_section("teardown", "mqtt broker log", log)
