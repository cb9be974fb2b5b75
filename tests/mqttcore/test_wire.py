"""The data representations of section 1.5: vectors, round trips, and what must be refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import wire
from mqttcore.errors import LocalProtocolError, MalformedPacket
from mqttcore.testing.strategies import binary, strings

Reader = Callable[[bytes, int, int], tuple[Any, int]]
Writer = Callable[[Any], bytes]

TYPES: dict[str, tuple[Reader, Writer, st.SearchStrategy[Any]]] = {
    "two bytes": (wire.read_two_bytes, wire.write_two_bytes, st.integers(0, 2**16 - 1)),
    "four bytes": (wire.read_four_bytes, wire.write_four_bytes, st.integers(0, 2**32 - 1)),
    "variable": (
        wire.read_variable_byte_integer,
        wire.write_variable_byte_integer,
        st.integers(0, 2**28 - 1),
    ),
    "binary": (wire.read_binary, wire.write_binary, binary()),
    "string": (wire.read_string, wire.write_string, strings()),
    "pair": (wire.read_string_pair, wire.write_string_pair, st.tuples(strings(), strings())),
}

VECTORS = [
    ("two bytes", 0x1234, "12 34"),
    ("four bytes", 0x12345678, "12 34 56 78"),
    # Table 1-1: the first and the last value of each length.
    ("variable", 0, "00"),
    ("variable", 127, "7f"),
    ("variable", 128, "80 01"),
    ("variable", 16_383, "ff 7f"),
    ("variable", 16_384, "80 80 01"),
    ("variable", 2_097_151, "ff ff 7f"),
    ("variable", 2_097_152, "80 80 80 01"),
    ("variable", 268_435_455, "ff ff ff 7f"),
    ("binary", b"", "00 00"),
    ("binary", b"\x00\xff", "00 02 00 ff"),
    ("string", "A\U0002a6d4", "00 05 41 f0 aa 9b 94"),  # figure 1-1
    pytest.param("string", "\ufeffA", "00 04 ef bb bf 41", marks=pytest.mark.conformance("MQTT-1.5.4-3")),
    pytest.param("string", "A\ufeff", "00 04 41 ef bb bf", marks=pytest.mark.conformance("MQTT-1.5.4-3")),
    ("string", "\ud7ff\ue000\U0010ffff", "00 0a ed 9f bf ee 80 80 f4 8f bf bf"),
    ("pair", ("a", ""), "00 01 61 00 00"),
]


@pytest.mark.parametrize(("kind", "value", "hexadecimal"), VECTORS)
def test_vector(kind: str, value: object, hexadecimal: str) -> None:
    read, write, _ = TYPES[kind]
    data = bytes.fromhex(hexadecimal)
    assert write(value) == data
    assert read(data, 0, len(data)) == (value, len(data))


@pytest.mark.parametrize("kind", TYPES)
@given(st.data(), st.binary(max_size=3), st.binary(max_size=3))
@settings(deadline=None, max_examples=50)
def test_a_field_is_read_back_from_where_it_was_written_and_no_part_of_it_is(
    kind: str, data: st.DataObject, before: bytes, after: bytes
) -> None:
    read, write, values = TYPES[kind]
    value = data.draw(values)
    field = write(value)
    end = len(before) + len(field)
    packet = before + field + after
    assert read(packet, len(before), len(packet)) == (value, end)
    # A container that ends inside the field is malformed, even if more bytes follow.
    with pytest.raises(MalformedPacket):
        read(packet, len(before), data.draw(st.integers(len(before), end - 1)))


@pytest.mark.conformance("MQTT-1.5.5-1")
@pytest.mark.parametrize("kind", TYPES)
@given(st.binary(max_size=12), st.integers(0, 4))
@settings(deadline=None, max_examples=150)
def test_reading_any_bytes_gives_the_shortest_encoding_of_a_value_or_malformed_packet(
    kind: str, data: bytes, start: int
) -> None:
    read, write, _ = TYPES[kind]
    try:
        value, end = read(data, start, len(data))
    except MalformedPacket:
        return
    assert write(value) == data[start:end]


@pytest.mark.parametrize(
    "hexadecimal",
    [
        pytest.param("80 00", marks=pytest.mark.conformance("MQTT-1.5.5-1")),  # 0 in two bytes
        "ff 80 00",  # 127 in three
        "80 80 80 00",
        "80 80 80 80 01",  # five bytes
        "ff ff ff ff",
    ],
)
def test_variable_byte_integer_refused(hexadecimal: str) -> None:
    data = bytes.fromhex(hexadecimal)
    with pytest.raises(MalformedPacket):
        wire.read_variable_byte_integer(data, 0, len(data))


@pytest.mark.conformance("MQTT-1.5.7-1")
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xed\xa0\x80", marks=pytest.mark.conformance("MQTT-1.5.4-1")),  # U+D800
        b"\xed\xbf\xbf",  # U+DFFF
        b"\xed\xa0\x81\xed\xb0\x80",  # a surrogate pair
        b"\xc0\xaf",  # an overlong "/"
        b"\xc0\x80",  # an overlong U+0000
        b"\xf4\x90\x80\x80",  # above U+10FFFF
        b"\x80",
        b"\xe2\x82",
        pytest.param(b"\x00", marks=pytest.mark.conformance("MQTT-1.5.4-2")),
        b"a\x00b",
    ],
)
def test_string_refused(raw: bytes) -> None:
    field = wire.write_binary(raw)
    with pytest.raises(MalformedPacket):
        wire.read_string(field, 0, len(field))
    good = wire.write_string("x")
    for pair in (field + good, good + field):
        with pytest.raises(MalformedPacket):
            wire.read_string_pair(pair, 0, len(pair))


@pytest.mark.parametrize(
    ("write", "value"),
    [
        (wire.write_two_bytes, -1),
        (wire.write_two_bytes, 65_536),
        (wire.write_four_bytes, -1),
        (wire.write_four_bytes, 2**32),
        (wire.write_variable_byte_integer, -1),
        (wire.write_variable_byte_integer, 268_435_456),
        (wire.write_binary, bytes(65_536)),
        (wire.write_string, "é" * 32_768),
        pytest.param(wire.write_string, "a\0", marks=pytest.mark.conformance("MQTT-1.5.4-2")),
        pytest.param(wire.write_string, "\ud800", marks=pytest.mark.conformance("MQTT-1.5.4-1")),
        pytest.param(wire.write_string_pair, ("a\0", ""), marks=pytest.mark.conformance("MQTT-1.5.7-1")),
        (wire.write_string_pair, ("", "\udfff")),
    ],
)
def test_what_a_field_cannot_hold_is_not_written(write: Writer, value: object) -> None:
    with pytest.raises(LocalProtocolError):
        write(value)


@pytest.mark.parametrize(
    ("read", "hexadecimal", "message"),
    [
        (wire.read_byte, "", "the packet ends inside a field"),
        (wire.read_two_bytes, "00", "the packet ends inside a Two Byte Integer"),
        (wire.read_four_bytes, "000000", "the packet ends inside a Four Byte Integer"),
        (wire.read_variable_byte_integer, "8000", "a Variable Byte Integer is longer than it needs to be"),
        (wire.read_variable_byte_integer, "80808080", "a Variable Byte Integer has more than four bytes"),
        (wire.read_variable_byte_integer, "80", "the packet ends inside a Variable Byte Integer"),
        (wire.read_binary, "00", "the packet ends inside the length of a field"),
        (wire.read_binary, "0001", "a field's length reaches past the end of the packet"),
        (wire.read_string, "0001ff", "a string is not well-formed UTF-8"),
        (wire.read_string, "000100", "a string holds the character U+0000"),
    ],
)
def test_a_refusal_says_why(read: Reader, hexadecimal: str, message: str) -> None:
    data = bytes.fromhex(hexadecimal)
    with pytest.raises(MalformedPacket) as caught:
        read(data, 0, len(data))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("write", "value", "message"),
    [
        (wire.write_two_bytes, 65_536, "65536 does not fit into 2 byte(s)"),
        (wire.write_four_bytes, -1, "-1 does not fit into 4 byte(s)"),
        (wire.write_variable_byte_integer, -1, "-1 does not fit into a Variable Byte Integer"),
        (wire.write_binary, bytes(65_536), "a field of 65536 bytes is over the limit of 65,535"),
        (wire.write_string, "\0", "a string must not hold the character U+0000"),
        (wire.write_string, "\ud800", "a string must not hold surrogates (U+D800 to U+DFFF)"),
    ],
)
def test_what_is_not_written_says_why(write: Writer, value: object, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        write(value)
    assert str(caught.value) == message


def test_the_longest_fields() -> None:
    for value in (b"x" * 65_535, b""):
        assert wire.read_binary(wire.write_binary(value), 0, 65_537) == (value, 2 + len(value))
    longest = "é" * 32_767 + "e"
    assert wire.read_string(wire.write_string(longest), 0, 65_537) == (longest, 65_537)
