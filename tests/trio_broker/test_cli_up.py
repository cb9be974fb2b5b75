"""The token file of `trio-broker up`: always a token that is good for a while, whatever happens to the clock."""

import io
from pathlib import Path

import jwt
import pytest
import trio
from trio.testing import MockClock

from trio_broker import ServerLimits
from trio_broker.cli.up import TOKEN_LIFETIME, TOKEN_REPLACED_AT, _TokenFile
from trio_broker.logs import EventLog, make_logger

NOW = 1_800_000_000.0


class Clock:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


def issued_at(directory: Path) -> float:
    claims = jwt.decode((directory / "token.txt").read_bytes(), options={"verify_signature": False})
    return float(claims["iat"])


def test_a_token_is_replaced_when_most_of_its_life_is_over(tmp_path: Path) -> None:
    clock = Clock()
    token = _TokenFile(tmp_path, clock)
    assert token.refresh() == TOKEN_REPLACED_AT * TOKEN_LIFETIME
    clock.time += TOKEN_REPLACED_AT * TOKEN_LIFETIME - 1
    assert token.refresh() == pytest.approx(1)
    assert issued_at(tmp_path) == NOW
    clock.time += 1
    token.refresh()
    assert issued_at(tmp_path) == clock.time


def test_a_token_from_a_future_that_did_not_come_is_replaced(tmp_path: Path) -> None:
    clock = Clock()
    token = _TokenFile(tmp_path, clock)
    clock.time += 1e9
    token.refresh()
    clock.time = NOW
    assert token.refresh() == TOKEN_REPLACED_AT * TOKEN_LIFETIME
    assert issued_at(tmp_path) == NOW


async def test_time_that_passed_while_the_machine_slept_counts(tmp_path: Path, autojump_clock: MockClock) -> None:
    clock = Clock()
    token = _TokenFile(tmp_path, clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(token.keep, EventLog(make_logger("json", file=io.StringIO()), ServerLimits()))
        await trio.sleep(1)
        assert issued_at(tmp_path) == NOW
        clock.time += TOKEN_LIFETIME  # Trio's clock stands still in a suspended machine
        await trio.sleep(100)
        assert issued_at(tmp_path) == clock.time
        nursery.cancel_scope.cancel()
