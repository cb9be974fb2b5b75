"""Durations as Go writes them, which Kubernetes resources use: 2160h, 1h30m, 90s."""

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"\+?(?:{_PART})+")
_SPLIT = re.compile(r"([0-9.]+)([a-zµμ]+)")
LONGEST = 292 * 365 * 86_400.0
"""What fits into Go's time.Duration, in seconds."""


def parse_duration(text: str) -> float:
    """The duration in seconds, more than 0. Raises ValueError that says what is wrong."""
    if len(text) > 100 or not _DURATION.fullmatch(text):
        raise ValueError("is not a duration such as 2160h or 1h30m (units: h, m, s, ms)")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _SPLIT.findall(text))
    if not 0 < seconds <= LONGEST:
        raise ValueError("must be more than 0 and less than 292 years")
    return seconds
