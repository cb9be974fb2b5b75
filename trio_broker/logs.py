"""Log lines, as text or JSON: one for each event of a connection, and no peer can forge or flood them."""

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Literal, TextIO

import structlog
import trio
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from trio_broker.limits import ServerLimits

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

MAXIMUM_VALUE = 256
"""Characters of one value in a line; client identifiers, topics and reasons may come from the peer."""
MAXIMUM_ADDRESSES = 10_000
"""Addresses counted per interval; the lines of further ones are bounded by `log_lines` alone."""


class _Sink:
    """Writes whole lines; a full disk or a closed pipe must not end the broker."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = msg


def printable(text: str) -> str:
    """The text, cut, with everything that could end a line or steer a terminal escaped."""
    if len(text) > MAXIMUM_VALUE:
        text = text[:MAXIMUM_VALUE] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _order_and_escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    trace = {"exception": event.pop("exception")} if "exception" in event else {}
    rest = {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}
    return first | rest | trace


def _plain(value: object) -> str:
    text = str(value)
    # In quotes, so that a client named "x reason=ok" cannot add a field.
    if text and not any(c in ' "=\\' for c in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _render_text(_: WrappedLogger, __: str, event: EventDict) -> str:
    trace = event.pop("exception", None)
    head = f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('event')}"
    line = " ".join([head, *(f"{key}={_plain(value)}" for key, value in event.items())])
    return f"{line}\n{trace}" if trace else line


def make_logger(
    log_format: Literal["text", "json"] = "text", level: Level = "info", file: TextIO | None = None
) -> FilteringBoundLogger:
    """A structlog logger that writes to `file` (default: standard error), one line for each event."""
    render = structlog.processors.JSONRenderer() if log_format == "json" else _render_text
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Sink(file or sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _order_and_escape,
            render,
        ],
    )
    return logger


class EventLog:
    """Counts lines, so that a flood of events becomes a few lines and a number.

    `write` writes up to `log_lines` lines of one kind in `log_interval` seconds, and of warnings up to
    `log_lines_per_address` about one address; `tick` and `close` write how many more there were.
    """

    def __init__(self, logger: FilteringBoundLogger, limits: ServerLimits) -> None:
        self._logger = logger.bind()  # or a lazy one would be bound anew for each line, even if it is not written
        self._limits = limits
        self._until = -math.inf
        self._by_kind: Counter[str] = Counter()
        self._by_address: Counter[tuple[str, str]] = Counter()
        self._suppressed: Counter[tuple[int, str]] = Counter()

    def write(self, level: Level, event: str, address: str = "", **fields: object) -> None:
        """A line about an event; lines are counted by the host of `address`, which is "host:port"."""
        if self.takes(level, event, address):
            self.put(level, event, address, fields)

    def takes(self, level: Level, event: str, address: str = "") -> bool:
        """Count a line, and say whether it is to be written; who makes its fields only then calls `put`."""
        number = LEVELS[level]
        if not self._logger.is_enabled_for(number):
            return False
        self.tick(trio.current_time())
        if level == "warning" and (host := address.rpartition(":")[0]):
            if len(self._by_address) < MAXIMUM_ADDRESSES or (event, host) in self._by_address:
                self._by_address[event, host] += 1
            too_many = self._by_address[event, host] > self._limits.log_lines_per_address
        else:
            too_many = False
        if too_many or self._by_kind[event] >= self._limits.log_lines:
            self._suppressed[number, event] += 1
            return False
        self._by_kind[event] += 1
        return True

    def put(self, level: Level, event: str, address: str, fields: Mapping[str, object]) -> None:
        """Write a line that `takes` has counted."""
        first = {"address": address} if address else {}
        self._logger.log(LEVELS[level], event, **first, **fields)

    def failure(self, event: str, error: BaseException, address: str = "", **fields: object) -> None:
        """A line and a traceback: a fault of the broker itself."""
        self.write("error", event, address, exc_info=error, **fields)

    def tick(self, now: float) -> None:
        """Start a new interval when the last one is over (`now`: Trio's clock), and close that one."""
        if now >= self._until:
            self.close()
            self._until = now + self._limits.log_interval

    def close(self) -> None:
        """Write a line for each kind of event that was cut short."""
        for (level, event), count in self._suppressed.items():
            self._logger.log(level, "suppressed", kind=event, reason=f"{count} more suppressed")
        self._suppressed.clear()
        self._by_kind.clear()
        self._by_address.clear()
