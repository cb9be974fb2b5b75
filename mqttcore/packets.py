"""The fifteen control packets (chapter 3) as immutable values whose fields are the specification's terms.

A field that is None, or an empty tuple, is absent from the packet. Intervals are whole seconds, sizes bytes, and
`user_properties` pairs of strings in the order in which they travel. Reason codes are those of MQTT 5.0 in both
protocol versions: the codec translates for MQTT 3.1.1 and leaves out what that version cannot say.
"""

from attrs import field, frozen

from mqttcore.codes import V5, ReasonCode
from mqttcore.hidden import hidden

UserProperties = tuple[tuple[str, str], ...]


@frozen(kw_only=True)
class Will:
    """The Will Message that a CONNECT leaves with the server, sections 3.1.2.5 and 3.1.3.2."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    will_delay_interval: int | None = None
    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: UserProperties = ()


@frozen(kw_only=True)
class Connect:
    """CONNECT, section 3.1. Its repr shows neither password nor authentication data."""

    client_id: str = ""
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=hidden)
    will: Will | None = None
    protocol_version: int = V5
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_packet_size: int | None = None
    topic_alias_maximum: int | None = None
    request_response_information: bool | None = None
    request_problem_information: bool | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=hidden)
    user_properties: UserProperties = ()


@frozen(kw_only=True)
class ConnAck:
    """CONNACK, section 3.2."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    session_present: bool = False
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    maximum_packet_size: int | None = None
    assigned_client_identifier: str | None = None
    topic_alias_maximum: int | None = None
    reason_string: str | None = None
    wildcard_subscription_available: bool | None = None
    subscription_identifiers_available: bool | None = None
    shared_subscription_available: bool | None = None
    server_keep_alive: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=hidden)
    user_properties: UserProperties = ()


@frozen
class Publish:
    """PUBLISH, section 3.3. `packet_id` is there for QoS 1 and 2 only."""

    topic: str
    payload: bytes = b""
    qos: int = field(default=0, kw_only=True)
    retain: bool = field(default=False, kw_only=True)
    dup: bool = field(default=False, kw_only=True)
    packet_id: int | None = field(default=None, kw_only=True)
    payload_format_indicator: int | None = field(default=None, kw_only=True)
    message_expiry_interval: int | None = field(default=None, kw_only=True)
    topic_alias: int | None = field(default=None, kw_only=True)
    response_topic: str | None = field(default=None, kw_only=True)
    correlation_data: bytes | None = field(default=None, kw_only=True)
    content_type: str | None = field(default=None, kw_only=True)
    subscription_identifiers: tuple[int, ...] = field(default=(), kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class PubAck:
    """PUBACK, section 3.4: the answer to a PUBLISH with QoS 1."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class PubRec:
    """PUBREC, section 3.5: the answer to a PUBLISH with QoS 2."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class PubRel:
    """PUBREL, section 3.6: the answer to a PUBREC."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class PubComp:
    """PUBCOMP, section 3.7: the answer to a PUBREL."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class Subscription:
    """A Topic Filter with its Subscription Options, section 3.8.3.1. `retain_handling` is 0, 1 or 2."""

    topic_filter: str
    qos: int = 0
    no_local: bool = field(default=False, kw_only=True)
    retain_as_published: bool = field(default=False, kw_only=True)
    retain_handling: int = field(default=0, kw_only=True)


@frozen
class Subscribe:
    """SUBSCRIBE, section 3.8."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    subscription_identifier: int | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class SubAck:
    """SUBACK, section 3.9: one reason code per Topic Filter, in their order."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...]
    reason_string: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class Unsubscribe:
    """UNSUBSCRIBE, section 3.10."""

    packet_id: int
    topic_filters: tuple[str, ...]
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class UnsubAck:
    """UNSUBACK, section 3.11: one reason code per Topic Filter, in their order; none in MQTT 3.1.1."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...] = ()
    reason_string: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class PingReq:
    """PINGREQ, section 3.12."""


@frozen
class PingResp:
    """PINGRESP, section 3.13."""


@frozen
class Disconnect:
    """DISCONNECT, section 3.14."""

    reason_code: ReasonCode = ReasonCode.NORMAL_DISCONNECTION
    session_expiry_interval: int | None = field(default=None, kw_only=True)
    reason_string: str | None = field(default=None, kw_only=True)
    server_reference: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


@frozen
class Auth:
    """AUTH, section 3.15. Its repr does not show the authentication data."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    authentication_method: str | None = field(default=None, kw_only=True)
    authentication_data: bytes | None = field(default=None, kw_only=True, repr=hidden)
    reason_string: str | None = field(default=None, kw_only=True)
    user_properties: UserProperties = field(default=(), kw_only=True)


Packet = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)
