"""NAME=VALUE settings of the limits of the core and of the shell."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import Attribute, evolve, field, frozen

from mqttcore.limits import Limits, describe
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits

ALL_LIMITS: dict[str, "Attribute[Any]"] = {
    limit.name: limit for limits in (Limits, ServerLimits) for limit in describe(limits)
}
"""Every limit by its name; `metadata` has unit, meaning and, for a number, low and high."""

_SWITCH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def show(value: object) -> str:
    """A limit's value as `parse_settings` takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


@frozen
class Settings:
    """The limits that have been set by name; they win over all that says what limits are otherwise."""

    _values: Mapping[str, bool | int | float] = field(factory=dict)

    def limits(self, base: Limits) -> Limits:
        """`base` with the settings made."""
        return evolve(base, **self._of(Limits))

    @property
    def server_limits(self) -> ServerLimits:
        """The shell's limits with the settings made."""
        return ServerLimits(**self._of(ServerLimits))

    def _of(self, limits: type) -> dict[str, Any]:
        names = {limit.name for limit in describe(limits)}
        return {name: value for name, value in self._values.items() if name in names}


def parse_settings(settings: Iterable[str]) -> Settings:
    """The settings of these NAME=VALUE, the last one of a name counting.

    Raises ConfigurationError that says which names or values there are.
    """
    values: dict[str, bool | int | float] = {}
    for setting in settings:
        name, separator, text = (part.strip() for part in setting.partition("="))
        name = name.replace("-", "_")
        if not separator:
            raise ConfigurationError(f"--set {setting}: write NAME=VALUE, for instance maximum_qos=1")
        if name not in ALL_LIMITS:
            raise ConfigurationError(_unknown(name))
        values[name] = _parse(name, text)
    return Settings(values)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, ALL_LIMITS, n=1, cutoff=0.0)
    return f"there is no limit {name!r}; did you mean {near[0]}? (trio-broker limits lists all)"


def _parse(name: str, text: str) -> bool | int | float:
    limit = ALL_LIMITS[name]
    if isinstance(limit.default, bool):
        try:
            return _SWITCH[text.lower()]
        except KeyError:
            raise ConfigurationError(f"{name} is yes or no, not {text!r}") from None
    low, high, unit = limit.metadata["low"], limit.metadata["high"], limit.metadata["unit"]
    kind = float if isinstance(limit.default, float) else int
    try:
        value: int | float = kind(text)
    except ValueError:
        value = high + 1
    if not low <= value <= high:  # also for "nan"
        number = "a whole number" if kind is int else "a number"
        raise ConfigurationError(f"{name} is {number} from {low} to {high} ({unit}), not {text!r}")
    return value
