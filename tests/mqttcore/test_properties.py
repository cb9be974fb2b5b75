"""Properties, section 2.2.2: table 2-4 written out again, a vector and the forbidden values of each."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore.codes import PacketType, ReasonCode
from mqttcore.errors import LocalProtocolError, MalformedPacket, ProtocolError
from mqttcore.properties import BY_PACKET, WILL, read_properties, with_length, write_properties
from mqttcore.testing.strategies import properties

T = PacketType
ALL_BUT_REQUESTS = "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"

# identifier, field, packets (table 2-4), a value, and the value's bytes
TABLE: list[tuple[int, str, str, Any, str]] = [
    (0x01, "payload_format_indicator", "PUBLISH WILL", 1, "01"),
    (0x02, "message_expiry_interval", "PUBLISH WILL", 0x01020304, "01 02 03 04"),
    (0x03, "content_type", "PUBLISH WILL", "é", "00 02 c3 a9"),
    (0x08, "response_topic", "PUBLISH WILL", "a/b", "00 03 61 2f 62"),
    (0x09, "correlation_data", "PUBLISH WILL", b"\x00\xff", "00 02 00 ff"),
    (0x0B, "subscription_identifiers", "PUBLISH", (268_435_455,), "ff ff ff 7f"),
    (0x0B, "subscription_identifier", "SUBSCRIBE", 128, "80 01"),
    (0x11, "session_expiry_interval", "CONNECT CONNACK DISCONNECT", 2**32 - 1, "ff ff ff ff"),
    (0x12, "assigned_client_identifier", "CONNACK", "id", "00 02 69 64"),
    (0x13, "server_keep_alive", "CONNACK", 0x0102, "01 02"),
    (0x15, "authentication_method", "CONNECT CONNACK AUTH", "m", "00 01 6d"),
    (0x16, "authentication_data", "CONNECT CONNACK AUTH", b"\x00", "00 01 00"),
    (0x17, "request_problem_information", "CONNECT", False, "00"),
    (0x18, "will_delay_interval", "WILL", 5, "00 00 00 05"),
    (0x19, "request_response_information", "CONNECT", True, "01"),
    (0x1A, "response_information", "CONNACK", "r", "00 01 72"),
    (0x1C, "server_reference", "CONNACK DISCONNECT", "s", "00 01 73"),
    (0x1F, "reason_string", ALL_BUT_REQUESTS, "", "00 00"),
    (0x21, "receive_maximum", "CONNECT CONNACK", 65_535, "ff ff"),
    (0x22, "topic_alias_maximum", "CONNECT CONNACK", 0, "00 00"),
    (0x23, "topic_alias", "PUBLISH", 1, "00 01"),
    (0x24, "maximum_qos", "CONNACK", 1, "01"),
    (0x25, "retain_available", "CONNACK", False, "00"),
    (
        0x26,
        "user_properties",
        ALL_BUT_REQUESTS + " CONNECT PUBLISH WILL SUBSCRIBE UNSUBSCRIBE",
        (("a", ""),),
        "00 01 61 00 00",
    ),
    (0x27, "maximum_packet_size", "CONNECT CONNACK", 1, "00 00 00 01"),
    (0x28, "wildcard_subscription_available", "CONNACK", True, "01"),
    (0x29, "subscription_identifiers_available", "CONNACK", False, "00"),
    (0x2A, "shared_subscription_available", "CONNACK", True, "01"),
]
PACKETS = {"WILL": WILL, **{kind.name: kind for kind in PacketType}}
CARRIERS = [
    (identifier, name, PACKETS[packet], value, bytes.fromhex(raw))
    for identifier, name, packets, value, raw in TABLE
    for packet in packets.split()
]
KINDS = sorted({packet for _, _, packet, _, _ in CARRIERS})
REPEATABLE = {"user_properties", "subscription_identifiers"}


def read(packet: int, block: bytes) -> dict[str, Any]:
    found, end = read_properties(packet, block, 0, len(block))
    assert end == len(block)
    return found


def fields(packet: int, **values: object) -> SimpleNamespace:
    return SimpleNamespace(**{**{row.name: None for row in BY_PACKET[packet].values()}, **values})


@pytest.mark.parametrize(("identifier", "name", "packet", "value", "raw"), CARRIERS)
def test_every_property_in_every_packet_that_may_carry_it(
    identifier: int, name: str, packet: int, value: object, raw: bytes
) -> None:
    item = bytes((identifier,)) + raw
    empty: tuple[()] | None = () if name in REPEATABLE else None
    assert write_properties(packet, fields(packet, **{name: value})) == item
    assert read(packet, bytes((len(item),)) + item) == {name: value}
    assert write_properties(packet, fields(packet, **{name: empty})) == b""
    # A container that ends inside the property is malformed.
    for end in range(1, len(item)):
        with pytest.raises(MalformedPacket):
            read(packet, bytes((end,)) + item[:end])
        with pytest.raises(MalformedPacket):
            read(packet, bytes((len(item),)) + item[:end])


@pytest.mark.parametrize("packet", [WILL, *PacketType])
def test_every_other_identifier_is_malformed(packet: int) -> None:
    carried = {identifier: raw for identifier, _, _, _, raw in CARRIERS}
    allowed = {identifier for identifier, _, kind, _, _ in CARRIERS if kind == packet}
    for identifier in set(range(256)) - allowed:
        item = bytes((identifier,)) + carried.get(identifier, b"\0\0\0\0")
        with pytest.raises(MalformedPacket):
            read(packet, bytes((len(item),)) + item)


@pytest.mark.parametrize(("identifier", "name", "packet", "value", "raw"), CARRIERS)
def test_only_two_properties_may_be_repeated_and_keep_their_order(
    identifier: int, name: str, packet: int, value: Any, raw: bytes
) -> None:
    item = bytes((identifier,)) + raw
    block = with_length(item * 2)
    if name in REPEATABLE:
        assert read(packet, block) == {name: value * 2}
    else:
        with pytest.raises(ProtocolError) as caught:
            read(packet, block)
        assert caught.value.reason_code is ReasonCode.PROTOCOL_ERROR


def test_user_properties_keep_order_and_duplicates_between_other_properties() -> None:
    block = bytes.fromhex("26 0001 62 0001 32 1f 0001 72 26 0001 61 0001 31 26 0001 62 0001 32")
    expected = {"user_properties": (("b", "2"), ("a", "1"), ("b", "2")), "reason_string": "r"}
    assert read(T.PUBACK, with_length(block)) == expected


PROTOCOL_ERROR, MALFORMED = ReasonCode.PROTOCOL_ERROR, ReasonCode.MALFORMED_PACKET
FORBIDDEN: list[Any] = [  # packet, property in hexadecimal, reason code
    *((T.CONNECT, f"{flag} 02", PROTOCOL_ERROR) for flag in ("17", "19")),
    *((T.CONNACK, f"{flag} 02", PROTOCOL_ERROR) for flag in ("24", "25", "28", "29", "2a")),
    (T.PUBLISH, "01 02", PROTOCOL_ERROR),
    (T.CONNECT, "21 0000", PROTOCOL_ERROR),
    (T.CONNACK, "21 0000", PROTOCOL_ERROR),
    (T.CONNECT, "27 00000000", PROTOCOL_ERROR),
    (T.CONNACK, "27 00000000", PROTOCOL_ERROR),
    (T.PUBLISH, "0b 00", PROTOCOL_ERROR),
    (T.SUBSCRIBE, "0b 00", PROTOCOL_ERROR),
    pytest.param(T.SUBSCRIBE, "0b 80 00", MALFORMED, marks=pytest.mark.conformance("MQTT-1.5.5-1")),
    (T.SUBSCRIBE, "0b ff ff ff ff 01", MALFORMED),
    pytest.param(T.PUBLISH, "23 0000", ReasonCode.TOPIC_ALIAS_INVALID, marks=pytest.mark.conformance("MQTT-3.3.2-8")),
    pytest.param(T.PUBLISH, "08 0000", PROTOCOL_ERROR, marks=pytest.mark.conformance("MQTT-4.7.3-1")),
    pytest.param(T.PUBLISH, "08 0001 2b", PROTOCOL_ERROR, marks=pytest.mark.conformance("MQTT-3.3.2-14")),
    pytest.param(T.PUBLISH, "08 0003 612f23", PROTOCOL_ERROR, marks=pytest.mark.conformance("MQTT-3.3.2-14")),
    pytest.param(T.PUBLISH, "08 0001 ff", MALFORMED, marks=pytest.mark.conformance("MQTT-3.3.2-13")),
    pytest.param(T.PUBLISH, "03 0001 ff", MALFORMED, marks=pytest.mark.conformance("MQTT-3.3.2-19")),
    pytest.param(T.PUBACK, "1f 0001 00", MALFORMED, marks=pytest.mark.conformance("MQTT-1.5.4-2")),
    pytest.param(T.PUBACK, "26 0001 ff 0000", MALFORMED, marks=pytest.mark.conformance("MQTT-1.5.7-1")),
    pytest.param(T.PUBACK, "26 0000 0003 eda080", MALFORMED, marks=pytest.mark.conformance("MQTT-1.5.7-1")),
    (T.CONNECT, "8011 00000000", MALFORMED),  # an identifier in more bytes than it needs
]


@pytest.mark.parametrize(("packet", "item", "reason_code"), FORBIDDEN)
def test_forbidden_values(packet: PacketType, item: str, reason_code: ReasonCode) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(packet, with_length(bytes.fromhex(item)))
    assert caught.value.reason_code is reason_code


@pytest.mark.parametrize(
    ("packet", "name", "value"),
    [
        (T.PUBLISH, "payload_format_indicator", 2),
        (T.PUBLISH, "message_expiry_interval", -1),
        (T.PUBLISH, "message_expiry_interval", 2**32),
        (T.PUBLISH, "topic_alias", 0),
        (T.PUBLISH, "topic_alias", 65_536),
        (T.PUBLISH, "subscription_identifiers", (1, 0)),
        (T.PUBLISH, "content_type", "\0"),
        pytest.param(T.PUBLISH, "response_topic", "a/+", marks=pytest.mark.conformance("MQTT-3.3.2-14")),
        pytest.param(T.PUBLISH, "response_topic", "", marks=pytest.mark.conformance("MQTT-4.7.3-1")),
        (T.PUBLISH, "correlation_data", bytes(65_536)),
        (T.SUBSCRIBE, "subscription_identifier", 2**28),
        (T.CONNECT, "receive_maximum", 0),
        (T.CONNECT, "maximum_packet_size", 0),
        (T.CONNACK, "maximum_qos", 2),
        (T.CONNACK, "server_keep_alive", 65_536),
        (T.PUBACK, "user_properties", (("a", "b"), ("a\0", "b"))),
    ],
)
def test_what_a_property_cannot_hold_is_not_written(packet: PacketType, name: str, value: object) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        write_properties(packet, fields(packet, **{name: value}))
    assert (caught.value.reason_code is ReasonCode.TOPIC_ALIAS_INVALID) == (name == "topic_alias" and value == 0)


@pytest.mark.parametrize(
    ("packet", "block", "message"),
    [
        (T.CONNECT, "02 17 02", "a property that is 0 or 1 has the value 2"),
        (T.CONNECT, "03 21 0000", "a property that must not be 0 is 0"),
        (T.PUBLISH, "03 23 0000", "Topic Alias 0 is not permitted"),
        (T.PUBLISH, "04 08 0001 2b", "Response Topic: a Topic Name must not contain wildcards"),
        (T.PUBACK, "01 2a", "property 0x2A is unknown or does not belong into this packet"),
        (T.PUBACK, "06 1f 0000 1f 0000", "the property reason_string appears more than once"),
        (T.PUBACK, "01", "the Property Length reaches past the end of the packet"),
    ],
)
def test_a_refusal_says_why(packet: PacketType, block: str, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(packet, bytes.fromhex(block))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("packet", "name", "value", "message"),
    [
        (T.CONNACK, "maximum_qos", 2, "a property that is 0 or 1 has the value 2"),
        (T.CONNECT, "receive_maximum", 0, "a property that must not be 0 is 0"),
        (T.PUBLISH, "topic_alias", 0, "Topic Alias 0 is not permitted"),
        (T.PUBLISH, "response_topic", "+", "Response Topic: a Topic Name must not contain wildcards"),
    ],
)
def test_what_is_not_written_says_why(packet: PacketType, name: str, value: object, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        write_properties(packet, fields(packet, **{name: value}))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "block",
    [
        "",  # no Property Length
        "01",  # longer than what follows
        pytest.param("80 00", marks=pytest.mark.conformance("MQTT-1.5.5-1")),
        "80",
        "ff ff ff ff 01",
    ],
)
def test_property_lengths_refused(block: str) -> None:
    with pytest.raises(MalformedPacket):
        read(T.PUBACK, bytes.fromhex(block))


@pytest.mark.conformance("MQTT-2.2.2-1")
def test_no_properties_have_a_length() -> None:
    assert with_length(b"") == b"\0"
    assert read(T.PUBACK, b"\0") == {}


@pytest.mark.parametrize("packet", KINDS)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_round_trip(packet: int, data: st.DataObject) -> None:
    found = data.draw(properties(packet))
    present = {name: value for name, value in found.items() if value != ()}
    block = with_length(write_properties(packet, fields(packet, **found)))
    assert read_properties(packet, b"\x7f" + block + b"\x7f", 1, 2 + len(block)) == (present, 1 + len(block))
