import io
import json
from typing import Any, get_args

import pytest
from trio.testing import MockClock

from mqttcore.auth import Action, Trace
from mqttcore.broker import Transport
from mqttcore.broker.reports import (
    Connected,
    Decided,
    Denied,
    Disconnected,
    Event,
    Published,
    Reauthenticated,
    Refused,
    SessionEnded,
    Subscribed,
)
from mqttcore.codes import ReasonCode
from mqttcore.packets import Publish
from trio_broker.limits import ServerLimits
from trio_broker.logs import EventLog, Level, make_logger
from trio_broker.reports import write_report

TRANSPORT = Transport(peer="10.0.0.1:99", name="wss", certificates=(b"secret?",))
FROM = {"client_id": "c", "protocol": "wss", "address": "10.0.0.1:99"}

CASES: list[tuple[Event, dict[str, Any]]] = [
    (
        Connected(
            transport=TRANSPORT,
            client_id="c",
            username="u",
            protocol_version=5,
            session_present=True,
            keep_alive=60,
        ),
        FROM
        | {"level": "info", "event": "connected", "username": "u", "version": "5.0"}
        | {"keep_alive": 60, "session_present": True},
    ),
    (
        Connected(
            transport=TRANSPORT,
            client_id="c",
            username=None,
            protocol_version=4,
            session_present=False,
            keep_alive=0,
        ),
        FROM
        | {"level": "info", "event": "connected", "version": "3.1.1"}
        | {"keep_alive": 0, "session_present": False},
    ),
    (
        Refused(transport=TRANSPORT, client_id="c", reason_code=ReasonCode.NOT_AUTHORIZED, reason="no"),
        FROM | {"level": "warning", "event": "refused", "reason_code": "0x87", "reason": "no"},
    ),
    (
        Disconnected(transport=TRANSPORT, client_id="c", reason_code=ReasonCode.SUCCESS, reason="bye", by="peer"),
        FROM | {"level": "info", "event": "disconnected", "reason_code": "0x00", "reason": "bye", "by": "peer"},
    ),
    (
        Disconnected(transport=TRANSPORT, client_id="c", reason_code=ReasonCode.PROTOCOL_ERROR, reason="bad", by="us"),
        FROM | {"level": "warning", "event": "disconnected", "reason_code": "0x82", "reason": "bad", "by": "us"},
    ),
    (
        Decided(
            transport=TRANSPORT,
            client_id="c",
            re_authentication=False,
            trace=(Trace("x509", "not relevant"), Trace("password", "denied", "wrong password")),
            outcome="denied",
            reason="wrong password",
        ),
        FROM
        | {"level": "info", "event": "authentication", "method": "password", "outcome": "denied"}
        | {"reason": "wrong password"},
    ),
    (
        Reauthenticated(transport=TRANSPORT, client_id="c", reason_code=ReasonCode.SUCCESS, reason="granted"),
        FROM | {"level": "info", "event": "reauthenticated", "reason_code": "0x00", "reason": "granted"},
    ),
    (
        Reauthenticated(
            transport=TRANSPORT,
            client_id="c",
            reason_code=ReasonCode.CONTINUE_AUTHENTICATION,
            reason="no answer",
        ),
        FROM | {"level": "warning", "event": "reauthenticated", "reason_code": "0x18", "reason": "no answer"},
    ),
    (
        Denied(transport=TRANSPORT, client_id="c", username=None, action=Action.PUBLISH, topic="a\nb", rules="plant"),
        FROM | {"level": "warning", "event": "denied", "action": "publish", "topic": "a\\nb", "rules": "plant"},
    ),
    (
        Published(client_id="c", publish=Publish("a\nb", b"secret", qos=1), reason_code=ReasonCode.QUOTA_EXCEEDED),
        {
            "level": "debug",
            "event": "published",
            "client_id": "c",
            "topic": "a\\nb",
            "qos": 1,
            "retain": False,
            "bytes": 6,
            "reason_code": "0x97",
        },
    ),
    (
        Subscribed(client_id="c", topic_filter="a/#", reason_code=ReasonCode.GRANTED_QOS_1),
        {"level": "debug", "event": "subscribed", "client_id": "c", "topic_filter": "a/#", "reason_code": "0x01"},
    ),
    (
        SessionEnded(client_id="c", discarded=3),
        {"level": "debug", "event": "session_ended", "client_id": "c", "discarded": 3},
    ),
]


@pytest.mark.parametrize(("event", "expected"), CASES)
async def test_every_report_is_a_line(autojump_clock: MockClock, event: Event, expected: dict[str, Any]) -> None:
    file = io.StringIO()
    level: Level = "debug" if expected["level"] == "debug" else "info"
    write_report(EventLog(make_logger("json", level, file), ServerLimits()), event)
    fields = json.loads(file.getvalue())
    del fields["timestamp"]
    assert fields == expected


async def test_the_steps_of_a_decision_are_told_at_debug(autojump_clock: MockClock) -> None:
    file = io.StringIO()
    decided = next(event for event, _ in CASES if isinstance(event, Decided))
    write_report(EventLog(make_logger("json", "debug", file), ServerLimits()), decided)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["level"], line["method"], line["outcome"]) for line in lines] == [
        ("debug", "x509", "not relevant"),
        ("info", "password", "denied"),
    ]


async def test_a_server_that_gives_no_verdict_is_warned_about(autojump_clock: MockClock) -> None:
    file = io.StringIO()
    decided = Decided(
        transport=TRANSPORT,
        client_id="c",
        re_authentication=False,
        trace=(Trace("Custom", "unavailable", "HTTP status 500"), Trace("X509", "granted")),
        outcome="granted",
        reason="",
    )
    write_report(EventLog(make_logger("json", "info", file), ServerLimits()), decided)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["level"], line["reason"]) for line in lines] == [("warning", "HTTP status 500"), ("info", "")]


@pytest.mark.parametrize(("level", "made"), [("info", 2), ("error", 0)])
async def test_what_no_line_says_is_not_put_together(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, level: Level, made: int
) -> None:
    calls = []

    def fields(event: Connected) -> dict[str, object]:
        calls.append(event)
        return {"client_id": event.client_id}

    monkeypatch.setattr("trio_broker.reports._connected", fields)
    log = EventLog(make_logger("json", level, io.StringIO()), ServerLimits(log_lines=2))
    for _ in range(5):
        write_report(log, CASES[0][0])
    assert len(calls) == made


def test_no_kind_of_report_is_missing_here() -> None:
    assert {type(event) for event, _ in CASES} == set(get_args(Event))
