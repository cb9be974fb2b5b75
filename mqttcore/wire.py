"""The data representations of section 1.5, read from and written to bytes.

Readers take the bytes, where to start and where the field's container ends; they return the value and where it ended,
and raise MalformedPacket for anything else, never another exception. Writers raise LocalProtocolError for a value that
the wire cannot hold.
"""

from typing import Final

from mqttcore.errors import LocalProtocolError, MalformedPacket

VARIABLE_BYTE_MAXIMUM = 268_435_455
"""The largest value of a Variable Byte Integer, section 1.5.5."""

TWO_BYTES: Final[list[bytes]] = [value.to_bytes(2, "big") for value in range(65536)]
"""Every Two Byte Integer, encoded: packet identifiers and lengths are looked up, not computed."""


def read_byte(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """One byte, section 1.5.1."""
    if pos >= end:
        raise MalformedPacket("the packet ends inside a field")
    return data[pos], pos + 1


def read_two_bytes(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """A Two Byte Integer, section 1.5.2."""
    if pos + 2 > end:
        raise MalformedPacket("the packet ends inside a Two Byte Integer")
    return data[pos] << 8 | data[pos + 1], pos + 2


def read_four_bytes(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """A Four Byte Integer, section 1.5.3."""
    if pos + 4 > end:
        raise MalformedPacket("the packet ends inside a Four Byte Integer")
    return int.from_bytes(data[pos : pos + 4], "big"), pos + 4


def read_variable_byte_integer(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """A Variable Byte Integer of one to four bytes, section 1.5.5."""
    value = shift = 0
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:  # [MQTT-1.5.5-1]
                raise MalformedPacket("a Variable Byte Integer is longer than it needs to be")
            return value, pos
        shift += 7
        if shift == 28:
            raise MalformedPacket("a Variable Byte Integer has more than four bytes")
    raise MalformedPacket("the packet ends inside a Variable Byte Integer")


def read_binary(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Binary Data of up to 65,535 bytes, section 1.5.6."""
    start = pos + 2
    if start > end:
        raise MalformedPacket("the packet ends inside the length of a field")
    stop = start + (data[pos] << 8 | data[pos + 1])
    if stop > end:
        raise MalformedPacket("a field's length reaches past the end of the packet")
    return data[start:stop], stop


def read_string(data: bytes, pos: int, end: int) -> tuple[str, int]:
    """A UTF-8 Encoded String, section 1.5.4. A U+FEFF at its start is kept. [MQTT-1.5.4-3]"""
    raw, pos = read_binary(data, pos, end)
    return decode_string(raw), pos


def decode_string(raw: bytes) -> str:
    """The text of a UTF-8 Encoded String, section 1.5.4."""
    try:
        text = raw.decode()  # strict: no surrogates, no overlong forms [MQTT-1.5.4-1] [MQTT3-1.4.0-1]
    except UnicodeDecodeError:
        raise MalformedPacket("a string is not well-formed UTF-8") from None
    if "\0" in text:  # [MQTT-1.5.4-2] [MQTT-4.7.3-2]
        raise MalformedPacket("a string holds the character U+0000")
    return text


def read_string_pair(data: bytes, pos: int, end: int) -> tuple[tuple[str, str], int]:
    """A UTF-8 String Pair, section 1.5.7."""
    name, pos = read_string(data, pos, end)  # [MQTT-1.5.7-1]
    value, pos = read_string(data, pos, end)
    return (name, value), pos


def write_two_bytes(value: int) -> bytes:
    """A Two Byte Integer, section 1.5.2."""
    return _unsigned(value, 2)


def write_four_bytes(value: int) -> bytes:
    """A Four Byte Integer, section 1.5.3."""
    return _unsigned(value, 4)


def _unsigned(value: int, size: int) -> bytes:
    try:
        return value.to_bytes(size, "big")
    except OverflowError:
        raise LocalProtocolError(f"{value} does not fit into {size} byte(s)") from None


def write_variable_byte_integer(value: int) -> bytes:
    """A Variable Byte Integer in its shortest form, section 1.5.5. [MQTT-1.5.5-1]"""
    if 0 <= value < 0x80:
        return bytes((value,))
    if not 0 <= value <= VARIABLE_BYTE_MAXIMUM:
        raise LocalProtocolError(f"{value} does not fit into a Variable Byte Integer")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_binary(value: bytes) -> bytes:
    """Binary Data, section 1.5.6."""
    if len(value) > 65535:  # [MQTT-4.7.3-3]
        raise LocalProtocolError(f"a field of {len(value)} bytes is over the limit of 65,535")
    return TWO_BYTES[len(value)] + value


def write_string(value: str) -> bytes:
    """A UTF-8 Encoded String, section 1.5.4."""
    if "\0" in value:  # [MQTT-1.5.4-2] [MQTT-4.7.3-2]
        raise LocalProtocolError("a string must not hold the character U+0000")
    try:
        raw = value.encode()  # [MQTT-1.5.4-1]
    except UnicodeEncodeError:
        raise LocalProtocolError("a string must not hold surrogates (U+D800 to U+DFFF)") from None
    return write_binary(raw)


def write_string_pair(value: tuple[str, str]) -> bytes:
    """A UTF-8 String Pair, section 1.5.7."""
    return write_string(value[0]) + write_string(value[1])
