"""Go durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.resources.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2160h", 7_776_000), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), (".5m", 30), ("+1m1.s", 61), ("1500ms", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1", "h", "1d", "1h 30m", "-1h", "1H", "0", "0s", "9999999h", "1e3s", "٣h", "1h" * 60, "1..5h", ".h"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|must be more than 0"):
        parse_duration(text)


@given(st.integers(0, 10_000), st.integers(0, 59), st.integers(1, 59))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds
