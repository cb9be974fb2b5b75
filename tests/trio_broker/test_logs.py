import io
import json

import pytest
import trio

from trio_broker.limits import ServerLimits
from trio_broker.logs import LEVELS, MAXIMUM_VALUE, EventLog, Level, make_logger, printable


def make(
    log_format: str = "text", level: Level = "info", limits: ServerLimits | None = None
) -> tuple[EventLog, io.StringIO]:
    file = io.StringIO()
    logger = make_logger("json" if log_format == "json" else "text", level, file)
    return EventLog(logger, limits or ServerLimits()), file


async def test_text_line_names_level_event_and_fields(autojump_clock: trio.testing.MockClock) -> None:
    log, file = make()
    log.write("info", "connected", "127.0.0.1:5", client_id="a", protocol="tcp")
    line = file.getvalue()
    assert line.endswith("Z info    connected address=127.0.0.1:5 client_id=a protocol=tcp\n")


async def test_json_line_is_one_object(autojump_clock: trio.testing.MockClock) -> None:
    log, file = make("json")
    log.write("info", "connected", "127.0.0.1:5", client_id="ä\n", reason="x")
    fields = json.loads(file.getvalue())
    assert fields.pop("timestamp")
    assert fields == {
        "event": "connected",
        "level": "info",
        "address": "127.0.0.1:5",
        "client_id": "ä\\n",
        "reason": "x",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "evil", ["x\n2026 info connected", "\x1b[2J", "a\u2028b", "\u202eabc", "\x9b1m", "\x00", "\ud800"]
)
async def test_a_peers_text_cannot_leave_its_field(
    autojump_clock: trio.testing.MockClock, log_format: str, evil: str
) -> None:
    log, file = make(log_format)
    log.write("info", "connected", client_id=evil)
    text = file.getvalue()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()


@pytest.mark.parametrize("value", ["x reason=ok", 'x" reason="ok', "", "\\"])
async def test_a_peers_text_cannot_add_a_field(autojump_clock: trio.testing.MockClock, value: str) -> None:
    log, file = make()
    log.write("info", "connected", client_id=value)
    assert file.getvalue().partition("client_id=")[2] == json.dumps(value) + "\n"


def test_long_text_is_cut() -> None:
    assert len(printable("x" * 100_000)) == MAXIMUM_VALUE + 1


async def test_level_filters(autojump_clock: trio.testing.MockClock) -> None:
    log, file = make(level="warning")
    for level in LEVELS:
        log.write(level, "connected")  # type: ignore[arg-type]
    assert [line.split()[1] for line in file.getvalue().splitlines()] == ["warning", "error"]


async def test_a_flood_becomes_a_few_lines_and_a_number(autojump_clock: trio.testing.MockClock) -> None:
    limits = ServerLimits(log_lines=5, log_interval=10.0)
    log, file = make("json", limits=limits)
    for n in range(100):
        log.write("info", "connected", f"10.0.0.{n}:1")
    assert len(file.getvalue().splitlines()) == 5
    await trio.sleep(10)
    log.write("info", "connected", "10.0.0.1:1")
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert len(lines) == 7
    assert (lines[5]["event"], lines[5]["kind"], lines[5]["reason"]) == (
        "suppressed",
        "connected",
        "95 more suppressed",
    )


async def test_one_noisy_address_leaves_room_for_others(autojump_clock: trio.testing.MockClock) -> None:
    log, file = make("json", limits=ServerLimits(log_lines_per_address=3, log_lines=10))
    for port in range(1000):
        log.write("warning", "refused", f"10.0.0.1:{port}")
    log.write("warning", "refused", "[fd00::2]:1")
    log.close()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line.get("address") for line in lines] == [
        "10.0.0.1:0",
        "10.0.0.1:1",
        "10.0.0.1:2",
        "[fd00::2]:1",
        None,
    ]
    assert lines[-1]["reason"] == "997 more suppressed"


async def test_what_is_not_logged_is_not_counted(autojump_clock: trio.testing.MockClock) -> None:
    log, file = make(level="error", limits=ServerLimits(log_lines=1))
    for _ in range(10):
        log.write("info", "connected")
    log.close()
    assert file.getvalue() == ""


async def test_failure_has_its_traceback(autojump_clock: trio.testing.MockClock) -> None:
    log, file = make()
    try:
        raise ZeroDivisionError("of ours")
    except ZeroDivisionError as error:
        log.failure("internal_error", error, client_id="a")
    head, *trace = file.getvalue().splitlines()
    assert head.endswith("internal_error client_id=a")
    assert trace[0].startswith("Traceback")
    assert trace[-1] == "ZeroDivisionError: of ours"


async def test_a_broken_log_file_does_not_matter(autojump_clock: trio.testing.MockClock) -> None:
    log, file = make()
    file.close()
    log.write("info", "connected")
