"""What brokers are loaded with."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Messages from publishers to subscribers, as fast as they go.

    `subscribers` get everything, each or, with `share`, together; 0 is one for each publisher, which gets its messages
    alone. A publisher uses its `topics` in turn, subscribers ask for them by `filters`. At most `window` messages of
    one publisher are on their way at a time; with `together`, so many of all publishers, who then take turns. With a
    `rate` that many are sent each second instead, evenly spaced. With `joined`, what is sent in one go is one message
    of a WebSocket, not one for each packet. Beside all this there are `other_subscriptions`, to which nothing is
    published.
    """

    about: str
    publishers: int = 10
    subscribers: int = 0
    share: bool = False
    qos: int = 0
    payload: int = 16
    topics: int = 1
    filters: Literal["topics", "+", "#"] = "topics"
    window: int = 200
    together: int = 0
    rate: float = 0.0
    user_properties: int = 0
    topic_alias: bool = False
    joined: bool = False
    other_subscriptions: int = 0


@dataclass(frozen=True, kw_only=True)
class Connects:
    """Clients that connect and, when they have the CONNACK, leave; `together` at a time."""

    about: str
    connections: int
    together: int = 64


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Clients that stay connected and do nothing."""

    about: str
    connections: int


@dataclass(frozen=True, kw_only=True)
class Retained:
    """Messages that are retained, and then sent to one subscriber."""

    about: str
    messages: int
    payload: int = 16
    publishers: int = 10
    window: int = 20


@dataclass(frozen=True, kw_only=True)
class Reauthentications:
    """Clients that authenticate anew all the time, with the target's Authentication Method."""

    about: str
    connections: int = 50


Scenario = Traffic | Connects | Idle | Retained | Reauthentications

SCENARIOS: dict[str, Scenario] = {
    "pairs16": Traffic(about="QoS 0, 10 pairs, 16 B"),
    "pairs1k": Traffic(about="QoS 0, 10 pairs, 1 KiB", payload=1024),
    "fanout100": Traffic(about="QoS 0, 1 to 100", publishers=1, subscribers=100, window=50),
    "fanin100": Traffic(about="QoS 0, 100 to 1", publishers=100, subscribers=1, window=50),
    "single": Traffic(about="QoS 0, 50 pairs, each one message at a time", publishers=50, window=1),
    "paced": Traffic(about="QoS 0, 100 pairs, 2,000 messages a second", publishers=100, rate=2000.0),
    "q1": Traffic(about="QoS 1, 10 pairs, 20 in flight", qos=1, window=20),
    "q1_w1": Traffic(about="QoS 1, 50 pairs, 1 in flight", publishers=50, qos=1, window=1),
    "q1_fanout": Traffic(about="QoS 1, 1 to 50", publishers=1, subscribers=50, qos=1, window=20),
    "q2": Traffic(about="QoS 2, 10 pairs, 20 in flight", qos=2, window=20),
    "topics": Traffic(about="QoS 0, 10,000 topics, 10 subscriptions with #", topics=1000, filters="#"),
    "wildmix": Traffic(
        about="QoS 0, 1,000 topics, 10 subscriptions with + to all",
        subscribers=10,
        topics=100,
        filters="+",
        window=50,
    ),
    "share": Traffic(about="QoS 0, 10 to 10 by $share", subscribers=10, share=True, window=100),
    "props": Traffic(about="QoS 0, 10 pairs, 64 B, 4 User Properties", payload=64, user_properties=4),
    "alias": Traffic(about="QoS 0, 10 pairs, by Topic Alias", topic_alias=True),
    "joined": Traffic(about="as pairs16, what is sent in one go in one WebSocket message", joined=True),
    "subs100k": Traffic(about="as pairs16, beside 100,000 subscriptions", other_subscriptions=100_000),
    "connect": Connects(about="connect, CONNACK, disconnect; 64 at a time", connections=3000),
    "idle": Idle(about="5,000 connections that do nothing", connections=5000),
    "retained": Retained(about="100,000 retained messages, 16 B", messages=100_000),
    "reauth": Reauthentications(about="50 clients that re-authenticate all the time"),
}


def changed(scenario: Scenario, changes: Iterable[str]) -> Scenario:
    """The scenario with other numbers for some of its fields, each change being FIELD=NUMBER. Raises ValueError."""
    found: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        kind = type(getattr(scenario, name, None))
        if kind not in (int, float):
            raise ValueError(f"{change!r} is not FIELD=NUMBER with a field that is a number")
        found[name] = kind(value)
    return replace(scenario, **found)
