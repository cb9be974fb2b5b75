"""Puts what the core reports into log lines."""

from collections.abc import Callable
from typing import TypeVar, assert_never

from mqttcore.auth import Trace
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

_E = TypeVar("_E", bound=Event)
_Fields = dict[str, object]


def write_report(log: EventLog, event: Event) -> None:
    """Write one line about the event; a client that was refused or had to be disconnected makes it a warning.

    What the line says is put together only if it is written: most are not, where many clients come and go.
    """
    match event:
        case Connected():
            _write(log, "info", "connected", event, _connected)
        case Refused():
            _write(log, "warning", "refused", event, _refused)
        case Disconnected():
            level: Level = "warning" if event.by == "us" and event.reason_code.is_failure else "info"
            _write(log, level, "disconnected", event, _disconnected)
        case Decided():
            kind = "re_authentication" if event.re_authentication else "authentication"
            for step in event.trace[:-1]:
                # A server that gives no verdict is a fault of its own, which a later method would hide.
                level = "warning" if step.outcome == "unavailable" else "debug"
                if log.takes(level, kind, event.transport.peer):
                    log.put(level, kind, event.transport.peer, _step(event, step))
            _write(log, "warning" if event.outcome == "unavailable" else "info", kind, event, _decided)
        case Reauthenticated():
            level = "info" if event.reason_code == ReasonCode.SUCCESS else "warning"
            _write(log, level, "reauthenticated", event, _refused)
        case Denied():
            _write(log, "warning", "denied", event, _denied)
        case SessionEnded():
            _write(log, "debug", "session_ended", event, _session_ended)
        case Published():
            _write(log, "debug", "will_published" if event.will else "published", event, _published)
        case Subscribed():
            _write(log, "debug", "subscribed", event, _subscribed)
        case _:
            assert_never(event)


def _write(log: EventLog, level: Level, kind: str, event: _E, fields_of: Callable[[_E], _Fields]) -> None:
    address = "" if isinstance(event, SessionEnded | Published | Subscribed) else event.transport.peer
    if log.takes(level, kind, address):
        log.put(level, kind, address, fields_of(event))


def _connected(event: Connected) -> _Fields:
    return {
        "client_id": event.client_id,
        **_known(username=event.username),
        "protocol": event.transport.name,
        "version": "5.0" if event.protocol_version == V5 else "3.1.1",
        "keep_alive": event.keep_alive,
        "session_present": event.session_present,
    }


def _refused(event: Refused | Reauthenticated) -> _Fields:
    return {
        "client_id": event.client_id,
        "protocol": event.transport.name,
        "reason_code": _code(event.reason_code),
        "reason": event.reason,
    }


def _disconnected(event: Disconnected) -> _Fields:
    return {
        "client_id": event.client_id,
        "protocol": event.transport.name,
        "by": event.by,
        "reason_code": _code(event.reason_code),
        "reason": event.reason,
    }


def _decided(event: Decided) -> _Fields:
    method = event.trace[-1].method if event.trace else ""
    return _step(event, Trace(method, event.outcome, event.reason))


def _step(event: Decided, step: Trace) -> _Fields:
    return {
        "client_id": event.client_id,
        "protocol": event.transport.name,
        **_known(method=step.method or None),
        "outcome": step.outcome,
        "reason": step.message,
    }


def _denied(event: Denied) -> _Fields:
    return {
        "client_id": event.client_id,
        **_known(username=event.username),
        "protocol": event.transport.name,
        "action": event.action.value,
        "topic": event.topic,
        **_known(rules=event.rules or None),
    }


def _session_ended(event: SessionEnded) -> _Fields:
    return {"client_id": event.client_id, "discarded": event.discarded}


def _published(event: Published) -> _Fields:
    return {
        "client_id": event.client_id,
        "topic": event.topic,
        "qos": event.qos,
        "retain": event.retain,
        "bytes": len(event.payload),
        "reason_code": _code(event.reason_code),
    }


def _subscribed(event: Subscribed) -> _Fields:
    return {
        "client_id": event.client_id,
        "topic_filter": event.topic_filter,
        "reason_code": _code(event.reason_code),
    }


def _known(**fields: str | None) -> _Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _code(code: ReasonCode) -> str:
    return f"0x{code:02X}"
