"""Section 1.5 of MQTT 5.0: every string of every packet, as a server and as a client take it."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttcore import V5, V311, Connect, Disconnect, MalformedPacket, ReasonCode
from mqttcore.codec import decode, encode, frame
from mqttcore.connection import Connection
from mqttcore.events import ConnectionClosed
from mqttcore.states import Role
from mqttcore.wire import write_binary
from tests.mqttcore.support import client, events, sent, server

CONNECT = b"\0\4MQTT\5"


def properties(items: bytes) -> bytes:
    return bytes((len(items),)) + items


# The first byte and the body of a packet around a string field of MQTT 5.0.
FIELDS: dict[str, Callable[[bytes], tuple[int, bytes]]] = {
    "Client Identifier": lambda text: (0x10, CONNECT + b"\2\0\0\0" + text),
    "Will Topic": lambda text: (0x10, CONNECT + b"\6\0\0\0\0\0\0" + text + b"\0\0"),
    "User Name": lambda text: (0x10, CONNECT + b"\x82\0\0\0\0\0" + text),
    "Authentication Method": lambda text: (0x10, CONNECT + b"\2\0\0" + properties(b"\x15" + text) + b"\0\0"),
    "Topic Name": lambda text: (0x30, text + b"\0"),
    "Response Topic": lambda text: (0x30, b"\0\1t" + properties(b"\x08" + text)),
    "Content Type": lambda text: (0x30, b"\0\1t" + properties(b"\x03" + text)),
    "User Property name": lambda text: (0x30, b"\0\1t" + properties(b"\x26" + text + b"\0\1v")),
    "User Property value": lambda text: (0x30, b"\0\1t" + properties(b"\x26\0\1n" + text)),
    "Topic Filter to subscribe to": lambda text: (0x82, b"\0\1\0" + text + b"\0"),
    "Topic Filter to unsubscribe from": lambda text: (0xA2, b"\0\1\0" + text),
    "Reason String": lambda text: (0x40, b"\0\1\0" + properties(b"\x1f" + text)),
}
EVERY_FIELD = pytest.mark.parametrize(
    "name",
    [
        pytest.param("Client Identifier", marks=pytest.mark.conformance("MQTT-3.1.3-4")),
        pytest.param("Will Topic", marks=pytest.mark.conformance("MQTT-3.1.3-11")),
        pytest.param("User Name", marks=pytest.mark.conformance("MQTT-3.1.3-12")),
        pytest.param("Topic Name", marks=pytest.mark.conformance("MQTT-3.3.2-1")),
        pytest.param("Response Topic", marks=pytest.mark.conformance("MQTT-3.3.2-13")),
        pytest.param("Content Type", marks=pytest.mark.conformance("MQTT-3.3.2-19")),
        pytest.param("Topic Filter to subscribe to", marks=pytest.mark.conformance("MQTT-3.8.3-1")),
        pytest.param("Topic Filter to unsubscribe from", marks=pytest.mark.conformance("MQTT-3.10.3-1")),
        "Authentication Method",
        "User Property name",
        "User Property value",
        "Reason String",
    ],
)


def test_no_field_is_forgotten() -> None:
    assert len(FIELDS) == len(EVERY_FIELD.args[1])


def encoded(code_point: int) -> bytes:
    """A code point in three bytes, whether UTF-8 has it or not."""
    return bytes((0xE0 | code_point >> 12, 0x80 | code_point >> 6 & 0x3F, 0x80 | code_point & 0x3F))


SURROGATES = st.integers(0xD800, 0xDFFF).map(encoded)
OVERLONG = st.integers(0, 0x7FF).map(encoded)
CUT_OFF = st.characters(min_codepoint=0x80, exclude_categories=["Cs"]).map(lambda letter: letter.encode()[:-1])
ILL_FORMED = SURROGATES | OVERLONG | CUT_OFF | st.sampled_from([b"\x80", b"\xff", b"\xf4\x90\x80\x80"])


@pytest.mark.conformance("MQTT-1.5.4-1", "MQTT-1.5.7-1")
@EVERY_FIELD
@given(before=st.sampled_from([b"", b"a", "é".encode()]), bad=ILL_FORMED, after=st.sampled_from([b"", b"z"]))
def test_a_string_that_is_not_utf_8_is_malformed(name: str, before: bytes, bad: bytes, after: bytes) -> None:
    first, body = FIELDS[name](write_binary(before + bad + after))
    with pytest.raises(MalformedPacket):
        decode(first, body, V5)


@pytest.mark.conformance("MQTT-1.5.4-2", "MQTT-1.5.7-1")
@EVERY_FIELD
@pytest.mark.parametrize("text", [b"\0", b"a\0", b"\0a", b"a\0b"])
def test_a_string_with_a_null_character_is_malformed(name: str, text: bytes) -> None:
    first, body = FIELDS[name](write_binary(text))
    with pytest.raises(MalformedPacket):
        decode(first, body, V5)


@pytest.mark.conformance("MQTT-1.5.4-3")
@EVERY_FIELD
@pytest.mark.parametrize("text", ["\ufeff", "\ufeffa", "a\ufeff", "\ufeff\ufeff"])
def test_a_zero_width_no_break_space_is_kept_wherever_it_is(name: str, text: str) -> None:
    first, body = FIELDS[name](write_binary(text.encode()))
    packet = decode(first, body, V5)
    assert repr(text)[1:-1] in repr(packet)
    assert write_binary(text.encode()) in encode(packet, V5)


@pytest.mark.conformance("MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-3.3.2-1")
@pytest.mark.parametrize("connected", [server, client])
@pytest.mark.parametrize("text", [b"\xed\xa0\x80", b"a\xed\xbf\xbf", b"\xc0\x80", b"\0"])
def test_it_ends_a_connection_of_version_5_with_0x81(connected: Callable[[], Connection], text: bytes) -> None:
    connection = connected()
    connection.receive(frame(0x30, write_binary(text) + b"\0"), 0.0)
    [closed] = events(connection)
    assert isinstance(closed, ConnectionClosed)
    [word] = sent(connection)
    assert isinstance(word, Disconnect)
    assert word.reason_code is ReasonCode.MALFORMED_PACKET


@pytest.mark.conformance("MQTT3-1.4.0-1")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("text", [b"\xed\xa0\x80", b"a\xed\xbf\xbf", b"\xc0\x80", b"\0"])
def test_it_ends_a_connection_of_version_4_without_a_word(role: Role, text: bytes) -> None:
    connect = Connect(client_id="c", protocol_version=V311)
    connection = server(connect) if role is Role.SERVER else client(connect)
    connection.receive(frame(0x30, write_binary(text)), 0.0)
    [closed] = events(connection)
    assert isinstance(closed, ConnectionClosed)
    assert connection.take_output() == b""
