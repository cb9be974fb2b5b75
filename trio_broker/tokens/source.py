"""Where signing keys come from, and for how long they may be used."""

from collections.abc import Awaitable, Callable

from attrs import frozen

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import JsonWebKeys


@frozen
class KeySource:
    """`fetch` gives the keys, or why it cannot.

    They are used for `maximum_age` seconds; two fetches are `minimum_age` seconds apart at least, whatever keys tokens
    name.
    """

    fetch: Callable[[], Awaitable[JsonWebKeys | Failed]]
    maximum_age: float
    minimum_age: float


REMOTE = 300.0, 10.0
"""The maximum and minimum age, seconds, of keys that a server publishes."""
LOCAL = 1.0, 1.0
"""The maximum and minimum age, seconds, of keys in a file, which costs next to nothing to read."""
