"""What is run: scenarios over transports."""

from dataclasses import dataclass

from bench.generator.scenarios import SCENARIOS, Reauthentications, Scenario, Traffic
from bench.generator.target import TRANSPORTS, Transport

ALSO = ("pairs16", "single", "q1", "connect")
"""Scenarios that are run over all transports, the others over TCP."""
MESSAGES = ("joined",)
"""Scenarios that are about WebSocket messages."""


@dataclass(frozen=True, order=True)
class Case:
    """A scenario over a transport; as text "pairs16" over TCP, "pairs16/tls" over another."""

    scenario: str
    transport: Transport = "tcp"

    def __str__(self) -> str:
        return self.scenario if self.transport == "tcp" else f"{self.scenario}/{self.transport}"

    @property
    def about(self) -> str:
        """What it is."""
        return SCENARIOS[self.scenario].about


ALL = [
    *(Case(name) for name in SCENARIOS if name not in MESSAGES),
    *(Case(name, transport) for transport in TRANSPORTS[1:] for name in ALSO),
    *(Case(name, "ws") for name in MESSAGES),
]


def parse_case(text: str) -> Case:
    """The case of a name. Raises ValueError."""
    name, _, transport = text.partition("/")
    for each in TRANSPORTS:
        if name in SCENARIOS and each == (transport or "tcp"):
            return Case(name, each)
    raise ValueError(f"there is no {text!r}; there are {', '.join(SCENARIOS)}, each also with /tls, /ws or /wss")


def needs_v5(scenario: Scenario) -> bool:
    """Whether MQTT 3.1.1 does not have what it is about."""
    if isinstance(scenario, Traffic):
        return scenario.share or scenario.topic_alias or scenario.user_properties > 0
    return isinstance(scenario, Reauthentications)
