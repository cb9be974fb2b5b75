"""Properties, section 2.2.2: which packet may carry which, their types, and their codec.

The table is the rule: a property is decoded when the table lists it for the packet, and is malformed otherwise.
Decoded properties are keyword arguments of the packet's class, whose fields have the same names.
"""

from collections.abc import Callable
from typing import Any, Final, final

from mqttcore import wire
from mqttcore.codes import PacketType, ReasonCode
from mqttcore.errors import LocalProtocolError, MalformedPacket, ProtocolError
from mqttcore.topics import check_topic_name

WILL: Final = 0
"""Stands for the Will Properties in the table, as PacketType stands for the packets."""
# [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-3.1.3-10]
FORWARDED: Final = -1
"""Stands for the properties that a receiver forwards unaltered, sections 3.3.2.3.2, 3.3.2.3.5 to 7 and 3.3.2.3.9."""

Reader = Callable[[bytes, int, int], tuple[Any, int]]


def _read_flag(data: bytes, pos: int, end: int) -> tuple[bool, int]:
    value, pos = wire.read_byte(data, pos, end)
    if value > 1:
        raise ProtocolError(f"a property that is 0 or 1 has the value {value}")
    return value == 1, pos


def _read_bit(data: bytes, pos: int, end: int) -> tuple[int, int]:
    value, pos = _read_flag(data, pos, end)
    return int(value), pos


def _positive(read: Reader) -> Reader:
    def read_positive(data: bytes, pos: int, end: int) -> tuple[int, int]:
        value, pos = read(data, pos, end)
        if not value:
            raise ProtocolError("a property that must not be 0 is 0")
        return value, pos

    return read_positive


def _read_topic_alias(data: bytes, pos: int, end: int) -> tuple[int, int]:
    value, pos = wire.read_two_bytes(data, pos, end)
    if not value:  # [MQTT-3.3.2-8]
        raise ProtocolError("Topic Alias 0 is not permitted", ReasonCode.TOPIC_ALIAS_INVALID)
    return value, pos


def _write_topic_alias(value: int) -> bytes:
    if not value:  # [MQTT-3.3.2-8]
        raise LocalProtocolError("Topic Alias 0 is not permitted", ReasonCode.TOPIC_ALIAS_INVALID)
    return wire.write_two_bytes(value)


def _read_response_topic(data: bytes, pos: int, end: int) -> tuple[str, int]:
    topic, pos = wire.read_string(data, pos, end)  # [MQTT-3.3.2-13]
    try:
        check_topic_name(topic)  # [MQTT-3.3.2-14]
    except ProtocolError as error:
        raise ProtocolError(f"Response Topic: {error}") from None
    return topic, pos


def _write_response_topic(topic: str) -> bytes:
    try:
        check_topic_name(topic)  # [MQTT-3.3.2-14]
    except ProtocolError as error:
        raise LocalProtocolError(f"Response Topic: {error}") from None
    return wire.write_string(topic)


def _at_least_one(write: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def write_positive(value: int) -> bytes:
        if not value:
            raise LocalProtocolError("a property that must not be 0 is 0")
        return write(value)

    return write_positive


_read_identifier = _positive(wire.read_variable_byte_integer)
_write_identifier = _at_least_one(wire.write_variable_byte_integer)
_read_maximum = _positive(wire.read_two_bytes)
_write_maximum = _at_least_one(wire.write_two_bytes)
_read_size = _positive(wire.read_four_bytes)
_write_size = _at_least_one(wire.write_four_bytes)


def _write_flag(value: int) -> bytes:
    if value not in (0, 1):
        raise LocalProtocolError(f"a property that is 0 or 1 has the value {value}")
    return bytes((value,))


@final
class Property:
    """One row of table 2-4: identifier, field name, codec, and whether it may appear more than once."""

    __slots__ = ("identifier", "name", "packets", "prefix", "read", "repeatable", "write")

    def __init__(
        self,
        identifier: int,
        name: str,
        read: Reader,
        write: Callable[[Any], bytes],
        packets: frozenset[int],
        repeatable: bool = False,
    ) -> None:
        self.identifier: int = identifier
        self.name: str = name
        self.read: Reader = read
        self.write: Callable[[Any], bytes] = write
        self.packets: frozenset[int] = packets
        self.repeatable: bool = repeatable
        self.prefix: bytes = bytes((identifier,))  # the identifier, encoded


def _row(identifier: int, name: str, read: Reader, write: Callable[[Any], bytes], *packets: int) -> Property:
    return Property(identifier, name, read, write, frozenset(packets))


_T = PacketType
_ANSWERS = (_T.CONNACK, _T.PUBACK, _T.PUBREC, _T.PUBREL, _T.PUBCOMP, _T.SUBACK, _T.UNSUBACK, _T.DISCONNECT, _T.AUTH)

PROPERTIES: Final[tuple[Property, ...]] = (
    _row(0x01, "payload_format_indicator", _read_bit, _write_flag, _T.PUBLISH, WILL, FORWARDED),
    _row(0x02, "message_expiry_interval", wire.read_four_bytes, wire.write_four_bytes, _T.PUBLISH, WILL),
    _row(0x03, "content_type", wire.read_string, wire.write_string, _T.PUBLISH, WILL, FORWARDED),  # [MQTT-3.3.2-19]
    _row(0x08, "response_topic", _read_response_topic, _write_response_topic, _T.PUBLISH, WILL, FORWARDED),
    _row(0x09, "correlation_data", wire.read_binary, wire.write_binary, _T.PUBLISH, WILL, FORWARDED),
    Property(
        0x0B,
        "subscription_identifiers",
        _read_identifier,
        _write_identifier,
        frozenset({_T.PUBLISH}),
        repeatable=True,
    ),
    _row(0x0B, "subscription_identifier", _read_identifier, _write_identifier, _T.SUBSCRIBE),
    _row(
        0x11,
        "session_expiry_interval",
        wire.read_four_bytes,
        wire.write_four_bytes,
        _T.CONNECT,
        _T.CONNACK,
        _T.DISCONNECT,
    ),
    _row(0x12, "assigned_client_identifier", wire.read_string, wire.write_string, _T.CONNACK),
    _row(0x13, "server_keep_alive", wire.read_two_bytes, wire.write_two_bytes, _T.CONNACK),
    _row(0x15, "authentication_method", wire.read_string, wire.write_string, _T.CONNECT, _T.CONNACK, _T.AUTH),
    _row(0x16, "authentication_data", wire.read_binary, wire.write_binary, _T.CONNECT, _T.CONNACK, _T.AUTH),
    _row(0x17, "request_problem_information", _read_flag, _write_flag, _T.CONNECT),
    _row(0x18, "will_delay_interval", wire.read_four_bytes, wire.write_four_bytes, WILL),
    _row(0x19, "request_response_information", _read_flag, _write_flag, _T.CONNECT),
    _row(0x1A, "response_information", wire.read_string, wire.write_string, _T.CONNACK),
    _row(0x1C, "server_reference", wire.read_string, wire.write_string, _T.CONNACK, _T.DISCONNECT),
    _row(0x1F, "reason_string", wire.read_string, wire.write_string, *_ANSWERS),
    _row(0x21, "receive_maximum", _read_maximum, _write_maximum, _T.CONNECT, _T.CONNACK),
    _row(0x22, "topic_alias_maximum", wire.read_two_bytes, wire.write_two_bytes, _T.CONNECT, _T.CONNACK),
    _row(0x23, "topic_alias", _read_topic_alias, _write_topic_alias, _T.PUBLISH),
    _row(0x24, "maximum_qos", _read_bit, _write_flag, _T.CONNACK),
    _row(0x25, "retain_available", _read_flag, _write_flag, _T.CONNACK),
    Property(
        0x26,
        "user_properties",
        wire.read_string_pair,
        wire.write_string_pair,
        frozenset({_T.CONNECT, _T.PUBLISH, WILL, FORWARDED, _T.SUBSCRIBE, _T.UNSUBSCRIBE, *_ANSWERS}),
        repeatable=True,
    ),
    _row(0x27, "maximum_packet_size", _read_size, _write_size, _T.CONNECT, _T.CONNACK),
    _row(0x28, "wildcard_subscription_available", _read_flag, _write_flag, _T.CONNACK),
    _row(0x29, "subscription_identifiers_available", _read_flag, _write_flag, _T.CONNACK),
    _row(0x2A, "shared_subscription_available", _read_flag, _write_flag, _T.CONNACK),
)

BY_PACKET: Final[dict[int, dict[int, Property]]] = {
    packet: {row.identifier: row for row in PROPERTIES if packet in row.packets}
    for packet in (FORWARDED, WILL, *PacketType)
}


def read_properties(packet: int, data: bytes, pos: int, end: int) -> tuple[dict[str, Any], int]:
    """The properties of a packet (a PacketType, or WILL), as {field name: value}, and where they end.

    Raises MalformedPacket or ProtocolError as section 2.2.2 and each property's section say.
    """
    if pos < end and not data[pos]:  # most packets have none
        return {}, pos + 1
    length, pos = wire.read_variable_byte_integer(data, pos, end)
    stop = pos + length
    if stop > end:
        raise MalformedPacket("the Property Length reaches past the end of the packet")
    found: dict[str, Any] = {}
    allowed = BY_PACKET[packet]
    while pos < stop:
        row = allowed.get(data[pos])  # every identifier of the table is a one-byte Variable Byte Integer
        if row is None:
            raise MalformedPacket(f"property 0x{data[pos]:02X} is unknown or does not belong into this packet")
        value, pos = row.read(data, pos + 1, stop)
        if row.repeatable:
            found.setdefault(row.name, []).append(value)
        elif row.name in found:
            raise ProtocolError(f"the property {row.name} appears more than once")
        else:
            found[row.name] = value
    for name in ("user_properties", "subscription_identifiers"):
        if name in found:
            found[name] = tuple(found[name])
    return found, stop


def write_properties(packet: int, fields: object) -> bytes:
    """Those properties of a packet (a PacketType, WILL or FORWARDED) that the packet object `fields` has, each with its
    identifier, without the Property Length.

    Raises LocalProtocolError for a value that its property cannot hold.
    """
    out: list[bytes] = []
    for row in BY_PACKET[packet].values():
        value = getattr(fields, row.name)
        if value is None:
            continue
        if not row.repeatable:
            out.append(row.prefix + row.write(value))
        elif value:
            out += [row.prefix + row.write(item) for item in value]
    return b"".join(out)


def with_length(properties: bytes) -> bytes:
    """Properties behind their Property Length, which is there even if it is 0. [MQTT-2.2.2-1]"""
    return wire.write_variable_byte_integer(len(properties)) + properties
