"""Control packets as bytes, as many as a load generator needs; version 5 is MQTT 5.0, version 4 is MQTT 3.1.1."""

from collections.abc import Iterable

V5 = 5

CONNACK = 2
PUBLISH = 3
SUBACK = 9
DISCONNECTED = 14
AUTH = 15
"""Types of packets that come from a broker."""

PUBACK = b"\x40\x02"
PUBREC = b"\x50\x02"
PUBREL = b"\x62\x02"
PUBCOMP = b"\x70\x02"
"""What goes before the Packet Identifier of these."""
DISCONNECT = b"\xe0\x00"

CONTINUE_AUTHENTICATION = 0x18
RE_AUTHENTICATE = 0x19
FAILURE = 0x80
"""The first reason code that is a failure."""

DUP = 0x08
RETAIN = 0x01
"""Flags of a PUBLISH: that it is sent again, that it is or has been retained."""

_TOPIC_ALIAS = 0x23
_USER_PROPERTY = 0x26
_AUTHENTICATION_METHOD = 0x15
_AUTHENTICATION_DATA = 0x16


def two_bytes(value: int) -> bytes:
    """A Two Byte Integer."""
    return value.to_bytes(2, "big")


def variable(value: int) -> bytes:
    """A Variable Byte Integer."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def binary(data: bytes) -> bytes:
    """Binary Data, or a UTF-8 Encoded String that is encoded already."""
    return two_bytes(len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    """A packet of its first byte and what follows the Remaining Length."""
    return bytes([first]) + variable(len(body)) + body


def properties(version: int, *each: bytes) -> bytes:
    """Properties with their length; nothing in MQTT 3.1.1."""
    joined = b"".join(each)
    return variable(len(joined)) + joined if version == V5 else b""


def topic_alias(alias: int) -> bytes:
    """The property Topic Alias."""
    return bytes([_TOPIC_ALIAS]) + two_bytes(alias)


def user_property(name: str, value: str) -> bytes:
    """A User Property."""
    return bytes([_USER_PROPERTY]) + binary(name.encode()) + binary(value.encode())


def authentication(method: str, data: bytes) -> bytes:
    """The properties Authentication Method and Authentication Data."""
    return bytes([_AUTHENTICATION_METHOD]) + binary(method.encode()) + bytes([_AUTHENTICATION_DATA]) + binary(data)


def connect(client_id: str, version: int, username: str | None, password: str | None, *each: bytes) -> bytes:
    """CONNECT with Clean Start, without Keep Alive; `each` is a property."""
    flags = 0x02 | (username is not None) << 7 | (password is not None) << 6
    body = binary(b"MQTT") + bytes([version, flags]) + two_bytes(0) + properties(version, *each)
    body += binary(client_id.encode())
    for credential in (username, password):
        if credential is not None:
            body += binary(credential.encode())
    return packet(0x10, body)


def subscribe(packet_id: int, filters: Iterable[str], qos: int, version: int) -> bytes:
    """SUBSCRIBE to all of the filters with one QoS."""
    body = two_bytes(packet_id) + properties(version)
    return packet(0x82, body + b"".join(binary(each.encode()) + bytes([qos]) for each in filters))


def unsubscribe(packet_id: int, topic_filter: str, version: int) -> bytes:
    """UNSUBSCRIBE from one filter."""
    return packet(0xA2, two_bytes(packet_id) + properties(version) + binary(topic_filter.encode()))


def publish(topic: str, payload: bytes, version: int, qos: int = 0, packet_id: int = 0, *each: bytes) -> bytes:
    """PUBLISH; `each` is a property."""
    head = binary(topic.encode())
    if qos:
        head += two_bytes(packet_id)
    return packet(0x30 | qos << 1, head + properties(version, *each) + payload)


def retained(topic: str, payload: bytes, version: int, qos: int = 0, packet_id: int = 0) -> bytes:
    """PUBLISH with RETAIN."""
    plain = publish(topic, payload, version, qos, packet_id)
    return bytes([plain[0] | RETAIN]) + plain[1:]


def auth(reason_code: int, method: str, data: bytes) -> bytes:
    """AUTH."""
    return packet(0xF0, bytes([reason_code]) + properties(V5, authentication(method, data)))


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole packets that data begins with, and the rest."""
    found = []
    pos, end = 0, len(data)
    while end - pos >= 2:
        length = data[pos + 1] & 0x7F
        at, shift = pos + 2, 7
        while data[at - 1] & 0x80 and at < end and shift < 28:
            length |= (data[at] & 0x7F) << shift
            at += 1
            shift += 7
        if data[at - 1] & 0x80 or at + length > end:
            break
        found.append(data[pos : at + length])
        pos = at + length
    return found, data[pos:]


def body_of(whole: bytes) -> bytes:
    """What follows the Remaining Length of a packet."""
    at = 1
    while whole[at] & 0x80:
        at += 1
    return whole[at + 1 :]
