"""What a broker did in a test: its reports in their order, its log, and its faults."""

import io
from collections.abc import Callable
from typing import TypeVar

from mqttcore.broker.reports import Event
from trio_broker.limits import ServerLimits
from trio_broker.logs import EventLog, make_logger

E = TypeVar("E", bound=Event)

EVENTS_SHOWN = 20
"""Events, the last ones, that a message about what did not happen shows."""


class BrokerFault(Exception):
    """The broker itself met a fault; its traceback is the cause."""


class Recorder:
    """Keeps what happens, and calls `on_change` whenever something did."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.events: list[Event] = []
        self.faults: list[BaseException] = []
        self._on_change = on_change
        self._file = io.StringIO()

    @property
    def log(self) -> str:
        """The lines of the log."""
        return self._file.getvalue()

    def event_log(self, limits: ServerLimits) -> EventLog:
        """A log that keeps faults apart, too."""
        return _FaultLog(self, limits, self._file)

    def report(self, event: Event) -> None:
        """The broker has reported this."""
        self.events.append(event)
        self._on_change()

    def fault(self, error: BaseException) -> None:
        """The broker, or what belongs to it, has met a fault."""
        self.faults.append(error)
        self._on_change()

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in tuple(self.events) if isinstance(event, kind)]

    def find(self, kind: type[E], count: int, fields: dict[str, object]) -> E | None:
        """The `count`-th event of a kind with these values, once it has happened."""
        found = 0
        for event in self.of(kind):
            if all(getattr(event, name) == value for name, value in fields.items()):
                found += 1
                if found == count:
                    return event
        return None

    def check(self) -> None:
        """Raises BrokerFault if there was one."""
        __tracebackhide__ = True
        if self.faults:
            first = self.faults[0]
            while isinstance(first, BaseExceptionGroup) and len(first.exceptions) == 1:
                first = first.exceptions[0]
            more = f", and {len(self.faults) - 1} more" if len(self.faults) > 1 else ""
            raise BrokerFault(f"the broker met a fault: {type(first).__name__}: {first}{more}") from first

    def missed(self, what: str, timeout: float) -> TimeoutError:
        """The error for what did not happen in time, with what did."""
        events = self.events[-EVENTS_SHOWN:]
        told = "".join(f"\n  {event}" for event in events) or "\n  nothing"
        return TimeoutError(f"{what} within {timeout:g} seconds. What happened:{told}")


class _FaultLog(EventLog):
    def __init__(self, recorder: Recorder, limits: ServerLimits, file: io.StringIO) -> None:
        super().__init__(make_logger("text", "debug", file), limits)
        self._recorder = recorder

    def failure(self, event: str, error: BaseException, address: str = "", **fields: object) -> None:
        super().failure(event, error, address, **fields)
        self._recorder.fault(error)
