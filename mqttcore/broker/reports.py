"""What a broker reports for a log, a test or a metric. Nothing in a report is secret.

Nobody changes a report; that they are not frozen is because a client that comes and goes makes four, and that costs a
fraction.
"""

from attrs import define

from mqttcore.auth import Action, Trace
from mqttcore.broker.policy import Transport
from mqttcore.codes import ReasonCode
from mqttcore.packets import Publish


@define(kw_only=True)
class Connected:
    """A client has been accepted."""

    transport: Transport
    client_id: str
    username: str | None
    protocol_version: int
    session_present: bool
    keep_alive: int


@define(kw_only=True)
class Refused:
    """A connection ended before a CONNACK of success; `client_id` is "" if no CONNECT was read."""

    transport: Transport
    client_id: str
    reason_code: ReasonCode
    reason: str


@define(kw_only=True)
class Disconnected:
    """An accepted client's connection ended; `by` is "peer", "us", "eof" or "timeout"."""

    transport: Transport
    client_id: str
    reason_code: ReasonCode
    reason: str
    by: str


@define(kw_only=True)
class Decided:
    """An authenticator has reached its verdict, by the steps of `trace`; `outcome` is that of the last, as in Trace."""

    transport: Transport
    client_id: str
    re_authentication: bool
    trace: tuple[Trace, ...]
    outcome: str
    reason: str


@define(kw_only=True)
class Reauthenticated:
    """An AUTH 0x19 was decided: 0x00 granted, 0x18 no verdict was possible; a refusal is a Disconnected."""

    transport: Transport
    client_id: str
    reason_code: ReasonCode
    reason: str


@define(kw_only=True)
class Denied:
    """An authorizer did not allow an action; `rules` is what the policy calls the rules that it goes by."""

    transport: Transport
    client_id: str
    username: str | None
    action: Action
    topic: str
    rules: str


@define(kw_only=True)
class SessionEnded:
    """A session's state was deleted, with `discarded` QoS 1 and 2 messages that had not been delivered."""

    client_id: str
    discarded: int


@define(kw_only=True)
class Published:
    """A client has published, or its Will has been (`will`); for whoever asked a Broker to `report_traffic`.

    `publish` is as it came, with its Topic Name also where a Topic Alias stood for it. `reason_code` is what the client
    was told, or would have been if the QoS were not 0; a failure means that nobody gets the message.
    """

    client_id: str
    publish: Publish
    reason_code: ReasonCode
    will: bool = False

    @property
    def topic(self) -> str:
        """The Topic Name."""
        return self.publish.topic

    @property
    def payload(self) -> bytes:
        """The Application Message."""
        return self.publish.payload

    @property
    def qos(self) -> int:
        """The QoS that it was published with."""
        return self.publish.qos

    @property
    def retain(self) -> bool:
        """Whether it was to be retained."""
        return self.publish.retain


@define(kw_only=True)
class Subscribed:
    """A client has asked for a subscription; for whoever asked a Broker to `report_traffic`.

    `reason_code` is what the SUBACK says: the granted QoS, or a failure.
    """

    client_id: str
    topic_filter: str
    reason_code: ReasonCode


Event = Connected | Refused | Decided | Disconnected | Reauthenticated | Denied | SessionEnded | Published | Subscribed
