"""What a broker reports for a log, a test or a metric. Nothing in a report is secret."""

from attrs import frozen

from mqttcore.auth import Action, Trace
from mqttcore.broker.policy import Transport
from mqttcore.codes import ReasonCode


@frozen(kw_only=True)
class Connected:
    """A client has been accepted."""

    transport: Transport
    client_id: str
    username: str | None
    protocol_version: int
    session_present: bool
    keep_alive: int


@frozen(kw_only=True)
class Refused:
    """A connection ended before a CONNACK of success; `client_id` is "" if no CONNECT was read."""

    transport: Transport
    client_id: str
    reason_code: ReasonCode
    reason: str


@frozen(kw_only=True)
class Disconnected:
    """An accepted client's connection ended; `by` is "peer", "us", "eof" or "timeout"."""

    transport: Transport
    client_id: str
    reason_code: ReasonCode
    reason: str
    by: str


@frozen(kw_only=True)
class Decided:
    """An authenticator has reached its verdict, by the steps of `trace`; `outcome` is that of the last, as in Trace."""

    transport: Transport
    client_id: str
    re_authentication: bool
    trace: tuple[Trace, ...]
    outcome: str
    reason: str


@frozen(kw_only=True)
class Reauthenticated:
    """An AUTH 0x19 was decided: 0x00 granted, 0x18 no verdict was possible; a refusal is a Disconnected."""

    transport: Transport
    client_id: str
    reason_code: ReasonCode
    reason: str


@frozen(kw_only=True)
class Denied:
    """An authorizer did not allow an action."""

    transport: Transport
    client_id: str
    username: str | None
    action: Action
    topic: str


@frozen(kw_only=True)
class SessionEnded:
    """A session's state was deleted, with `discarded` QoS 1 and 2 messages that had not been delivered."""

    client_id: str
    discarded: int


Event = Connected | Refused | Decided | Disconnected | Reauthenticated | Denied | SessionEnded
