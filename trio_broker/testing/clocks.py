"""The clocks of brokers in tests: time that a test moves on."""

import math
import time
from collections.abc import Callable
from typing import final

import trio
import trio.testing

from mqttcore.broker import Broker

SHORTEST_STEP = 0.001
"""Seconds that time moves on by at least: a deadline that never passes cannot stop it."""


@final
class OffsetClock(trio.abc.Clock):
    """The system's monotonic clock, moved on by hand."""

    def __init__(self) -> None:
        self.offset = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return time.monotonic() + self.offset

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()

    def jump(self, seconds: float) -> None:
        """Move on."""
        self.offset += seconds

    def wall_time(self) -> float:
        """Unix seconds, moved on as well."""
        return time.time() + self.offset


@final
class MemoryClock:
    """Trio's virtual clock, and Unix seconds that go by it."""

    def __init__(self) -> None:
        self._start = time.time() - trio.current_time()

    def jump(self, seconds: float) -> None:
        """Move on. Raises RuntimeError where the clock is not virtual."""
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, trio.testing.MockClock):
            raise RuntimeError(
                "only a virtual clock can be moved on: add autojump_clock to the arguments of the test, or call"
                " trio.run with clock=trio.testing.MockClock()"
            )
        clock.jump(seconds)

    def wall_time(self) -> float:
        """Unix seconds."""
        return self._start + trio.current_time()


@final
class BrokerClock:
    """The clock that a broker goes by: keep alive, Session and Message Expiry, Will Delay, credentials."""

    def __init__(
        self,
        clock: OffsetClock | MemoryClock,
        broker: Broker,
        call: Callable[[Callable[[], float]], float],
        dispatch: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._call = call
        self._dispatch = dispatch

    def time(self) -> float:
        """Unix seconds, as the broker sees them."""
        return self._call(self._clock.wall_time)

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds. What was due in between has been done, in its order, when this returns."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time moves on by a number of seconds, not by {seconds}")
        self._call(lambda: self._advance(seconds))

    def _advance(self, seconds: float) -> float:
        end = trio.current_time() + seconds
        while (now := trio.current_time()) < end:
            self._clock.jump(min(max(self._broker.next_deadline(), now + SHORTEST_STEP), end) - now)
            self._broker.handle_timeout(trio.current_time())
            self._dispatch()
        return end
