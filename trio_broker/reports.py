"""Puts what the core reports into log lines."""

from typing import assert_never

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
from mqttcore.codes import V5, ReasonCode
from trio_broker.logs import EventLog, Level


def write_report(log: EventLog, event: Event) -> None:
    """Write one line about the event; a client that was refused or had to be disconnected makes it a warning."""
    match event:
        case Connected():
            log.write(
                "info",
                "connected",
                event.transport.peer,
                client_id=event.client_id,
                **_known(username=event.username),
                protocol=event.transport.name,
                version="5.0" if event.protocol_version == V5 else "3.1.1",
                keep_alive=event.keep_alive,
                session_present=event.session_present,
            )
        case Refused():
            log.write(
                "warning",
                "refused",
                event.transport.peer,
                client_id=event.client_id,
                protocol=event.transport.name,
                **_reason(event.reason_code, event.reason),
            )
        case Disconnected():
            log.write(
                "warning" if event.by == "us" and event.reason_code.is_failure else "info",
                "disconnected",
                event.transport.peer,
                client_id=event.client_id,
                protocol=event.transport.name,
                by=event.by,
                **_reason(event.reason_code, event.reason),
            )
        case Decided():
            for step in event.trace[:-1]:
                # A server that gives no verdict is a fault of its own, which a later method would hide.
                level: Level = "warning" if step.outcome == "unavailable" else "debug"
                _step(log, level, event, step.method, step.outcome, step.message)
            method = event.trace[-1].method if event.trace else ""
            level = "warning" if event.outcome == "unavailable" else "info"
            _step(log, level, event, method, event.outcome, event.reason)
        case Reauthenticated():
            log.write(
                "info" if event.reason_code == ReasonCode.SUCCESS else "warning",
                "reauthenticated",
                event.transport.peer,
                client_id=event.client_id,
                protocol=event.transport.name,
                **_reason(event.reason_code, event.reason),
            )
        case Denied():
            log.write(
                "warning",
                "denied",
                event.transport.peer,
                client_id=event.client_id,
                **_known(username=event.username),
                protocol=event.transport.name,
                action=event.action.value,
                topic=event.topic,
                **_known(rules=event.rules or None),
            )
        case SessionEnded():
            log.write("debug", "session_ended", client_id=event.client_id, discarded=event.discarded)
        case Published():
            log.write(
                "debug",
                "will_published" if event.will else "published",
                client_id=event.client_id,
                topic=event.topic,
                qos=event.qos,
                retain=event.retain,
                bytes=len(event.payload),
                reason_code=f"0x{event.reason_code:02X}",
            )
        case Subscribed():
            log.write(
                "debug",
                "subscribed",
                client_id=event.client_id,
                topic_filter=event.topic_filter,
                reason_code=f"0x{event.reason_code:02X}",
            )
        case _:
            assert_never(event)


def _step(log: EventLog, level: Level, event: Decided, method: str, outcome: str, reason: str) -> None:
    log.write(
        level,
        "re_authentication" if event.re_authentication else "authentication",
        event.transport.peer,
        client_id=event.client_id,
        protocol=event.transport.name,
        **({"method": method} if method else {}),
        outcome=outcome,
        reason=reason,
    )


def _known(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _reason(code: ReasonCode, reason: str) -> dict[str, str]:
    return {"reason_code": f"0x{code:02X}", "reason": reason}
