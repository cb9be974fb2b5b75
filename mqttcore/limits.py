"""Every bound of the core and every protocol limit that it announces, each with its unit, range and meaning."""

from math import inf
from typing import Any

from attrs import Attribute, field, fields, frozen, validators

UNLIMITED_EXPIRY = 4_294_967_295
"""The `maximum_message_expiry` that bounds nothing, seconds: no Message Expiry Interval is longer."""


def limit(default: int | float, unit: str, meaning: str, low: int | float, high: int | float) -> Any:
    """An attrs field for a numeric bound: a value outside low..high raises ValueError.

    A float default makes it a float.
    """
    kind = float if isinstance(default, float) else int
    return field(
        default=default,
        converter=kind,
        validator=[validators.ge(low), validators.le(high)],
        metadata={"unit": unit, "meaning": meaning, "low": low, "high": high},
    )


def switch(default: bool, meaning: str) -> Any:
    """An attrs field for a limit that is on or off."""
    return field(
        default=default, validator=validators.instance_of(bool), metadata={"unit": "yes/no", "meaning": meaning}
    )


@frozen(kw_only=True, cache_hash=True)
class Limits:
    """The bounds that hold for a broker, a port of it, or a client; immutable.

    `describe` lists them with their meaning.
    """

    connect_timeout: float = limit(
        10.0,
        "seconds",
        "time from the opening of a connection to a complete CONNECT (a client: to CONNACK)",
        0.01,
        3600,
    )
    authentication_timeout: float = limit(
        30.0, "seconds", "time for an authentication or re-authentication to reach its verdict", 0.01, 3600
    )
    authentication_steps: int = limit(
        32, "steps", "challenges and effects of one authentication or re-authentication", 1, 10_000
    )
    reauthentication_interval: float = limit(
        1.0,
        "seconds",
        "least time between two re-authentications of one client after one that could not be decided",
        0,
        3600,
    )
    review_interval: float = limit(
        600.0,
        "seconds",
        "time between two looks at whether a connected client may stay (a device registry)",
        0.01,
        86_400,
    )
    maximum_connect_size: int = limit(
        262_144, "bytes", "size of a packet before CONNECT has been accepted", 128, 268_435_460
    )
    maximum_packet_size: int = limit(
        67_108_864, "bytes", "Maximum Packet Size announced to the peer and enforced on what it sends", 128, 268_435_460
    )
    maximum_early_data: int = limit(
        524_288, "bytes", "data held for a client that sends on before its CONNACK", 1024, 268_435_460
    )
    receive_maximum: int = limit(
        1000, "messages", "Receive Maximum announced to the peer: its unacknowledged QoS 1 and 2 messages", 1, 65_535
    )
    inflight_maximum: int = limit(
        1000,
        "messages",
        "our unacknowledged QoS 1 and 2 messages to one peer, beside its own Receive Maximum",
        1,
        60_000,
    )
    topic_alias_maximum: int = limit(100, "aliases", "Topic Alias Maximum announced to the peer", 0, 65_535)
    assigned_topic_aliases: int = limit(
        100, "aliases", "Topic Aliases that we assign to one peer, within its own Topic Alias Maximum", 0, 65_535
    )
    maximum_qos: int = limit(2, "QoS", "Maximum QoS that a client may publish with", 0, 2)
    retain_available: bool = switch(True, "whether clients may publish retained messages")
    wildcard_subscription_available: bool = switch(True, "whether Topic Filters may have wildcards")
    subscription_identifiers_available: bool = switch(True, "whether subscriptions may have identifiers")
    shared_subscription_available: bool = switch(True, "whether subscriptions may be shared")
    check_payload_format: bool = switch(True, "whether a payload declared to be UTF-8 is checked to be it")
    server_keep_alive: int = limit(
        0, "seconds", "longest Keep Alive granted, told as Server Keep Alive; 0 leaves it to the client", 0, 65_535
    )
    maximum_session_expiry: int = limit(
        4_294_967_295, "seconds", "longest Session Expiry Interval granted; 4294967295 never expires", 0, 4_294_967_295
    )
    maximum_message_expiry: int = limit(
        UNLIMITED_EXPIRY,
        "seconds",
        "time that a message is kept at most, and longest Message Expiry Interval; 4294967295 is no bound",
        0,
        UNLIMITED_EXPIRY,
    )
    maximum_sessions: int = limit(
        1_000_000, "sessions", "sessions, connected or not, on the whole broker", 1, 100_000_000
    )
    maximum_subscriptions: int = limit(10_000, "subscriptions", "subscriptions of one session", 1, 100_000_000)
    maximum_topic_levels: int = limit(256, "levels", "levels of a Topic Name or Topic Filter", 1, 65_536)
    maximum_retained_messages: int = limit(
        1_000_000, "messages", "retained messages on the whole broker", 0, 100_000_000
    )
    maximum_retained_bytes: int = limit(
        1_073_741_824, "bytes", "retained topics, payloads and properties on the whole broker", 0, 2**50
    )
    maximum_queued_messages: int = limit(
        100_000, "messages", "QoS 1 and 2 messages waiting in one session", 1, 100_000_000
    )
    maximum_queued_bytes: int = limit(
        67_108_864,
        "bytes",
        "topics, payloads and properties of the messages waiting in one session, and again of those unacknowledged",
        1024,
        2**50,
    )
    drop_oldest: bool = switch(
        False, "whether a full queue of a session drops the oldest of its messages instead of the new one"
    )
    output_high_water: int = limit(
        1_048_576,
        "bytes",
        "output waiting for one connection above which QoS 0 messages to it are dropped",
        1024,
        2**40,
    )
    maximum_cached_routes: int = limit(
        1_000_000, "routes", "Topic Names, and subscribers of each, remembered on the whole broker", 1, 100_000_000
    )
    maximum_cached_topics: int = limit(
        4096, "topics", "Topic Names of one publisher whose permission and subscribers are remembered", 1, 100_000_000
    )

    @property
    def message_lifetime(self) -> float:
        """How long a message is kept at most, seconds; infinity for no bound."""
        return inf if self.maximum_message_expiry == UNLIMITED_EXPIRY else self.maximum_message_expiry


def describe(limits_class: type) -> list["Attribute[Any]"]:
    """The attrs fields of a class of limits; `metadata` has unit, meaning and, for a number, low and high."""
    return list(fields(limits_class))
