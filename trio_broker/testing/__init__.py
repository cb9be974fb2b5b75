"""Brokers for tests of what talks to one: in a thread with real sockets, or in memory under Trio's virtual clock.

The pytest fixtures `mqtt_broker`, `mqtt_broker_factory` and `mqtt_memory_broker` give them; docs/testing.md says how.
"""

from mqttcore.broker.reports import (
    Connected,
    Decided,
    Denied,
    Disconnected,
    Event,
    Published,
    Reauthenticated,
    Refused,
    SessionEnded,
    Subscribed,
)
from trio_broker.testing.clocks import BrokerClock
from trio_broker.testing.custom_server import CustomRequest, CustomServer
from trio_broker.testing.memory import MemoryBroker, open_memory_broker
from trio_broker.testing.options import Manifests, Options
from trio_broker.testing.recorder import BrokerFault
from trio_broker.testing.subject import BrokerUnderTest, ClientCertificate, SessionState
from trio_broker.testing.threaded import RunningBroker, run_broker

__all__ = [
    "BrokerClock",
    "BrokerFault",
    "BrokerUnderTest",
    "ClientCertificate",
    "Connected",
    "CustomRequest",
    "CustomServer",
    "Decided",
    "Denied",
    "Disconnected",
    "Event",
    "Manifests",
    "MemoryBroker",
    "Options",
    "Published",
    "Reauthenticated",
    "Refused",
    "RunningBroker",
    "SessionEnded",
    "SessionState",
    "Subscribed",
    "open_memory_broker",
    "run_broker",
]
