"""Hypothesis strategies for encodings that every receiver must refuse: valid ones with one thing broken."""

from collections.abc import Iterable
from functools import cache

import attrs
from attrs import frozen
from hypothesis import strategies as st

from mqttcore import codes, wire
from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import V5, V311, PacketType, ReasonCode
from mqttcore.properties import BY_PACKET, PROPERTIES, WILL, Property, with_length
from mqttcore.testing.strategies import (
    Strategy,
    auths,
    binary,
    connacks,
    connects,
    disconnects,
    packet_ids,
    packets,
    property_values,
    pubacks,
    pubcomps,
    publishes,
    pubrecs,
    pubrels,
    subacks,
    subscribes,
    unsubacks,
)

Encoding = tuple[int, bytes]
"""The first byte of a packet's fixed header, and its body: what `codec.decode` takes."""


def encoded(packet: p.Packet, version: int) -> Encoding:
    """A packet's encoding without its Remaining Length."""
    data = encode(packet, version)
    _, start = wire.read_variable_byte_integer(data, 1, len(data))
    return data[0], data[start:]


def malformed_packets(version: int = V5) -> Strategy[Encoding]:
    """Bytes that a receiver must refuse: a valid encoding with one thing broken, as (first byte, body)."""
    ways = [
        _unknown_types(version),
        _wrong_flags(version),
        _truncated(version),
        _overlong(version),
        _forbidden_bytes(version),
        _zero_packet_ids(version),
        _bad_strings(version),
        _empty_lists(version),
    ]
    if version == V5:
        ways += [
            _unknown_properties(),
            _misplaced_properties(),
            _repeated_properties(),
            _cut_properties(),
            _forbidden_property_values(),
            _bad_property_lengths(),
        ]
    return st.one_of(ways)


@st.composite
def _unknown_types(draw: st.DrawFn, version: int) -> Encoding:
    first, body = encoded(draw(packets(version)), version)
    kinds = [0] if version == V5 else [0, PacketType.AUTH]
    return draw(st.sampled_from(kinds)) << 4 | first & 0x0F, body


@st.composite
def _wrong_flags(draw: st.DrawFn, version: int) -> Encoding:
    packet = draw(packets(version))
    first, body = encoded(packet, version)
    if not isinstance(packet, p.Publish):
        return first ^ draw(st.integers(1, 15)), body
    if packet.qos:
        return first | 0x06, body  # QoS 3
    return first | draw(st.sampled_from([0x06, 0x08])), body  # QoS 3, or DUP with QoS 0


# Where an MQTT 5.0 packet may end before its last field.
_MAY_END: dict[type, set[int]] = {
    **{answer: {2, 3} for answer in (p.PubAck, p.PubRec, p.PubRel, p.PubComp)},
    p.Disconnect: {0, 1},
    p.Auth: {0},
}


def _first_only(packet: p.Packet) -> p.Packet:
    # Of a list that must not be empty only one item is left, so that no cut can be between two.
    for name in ("subscriptions", "topic_filters", "reason_codes"):
        if hasattr(packet, name):
            return attrs.evolve(packet, **{name: getattr(packet, name)[:1]})
    return packet


def _forbidden_ends(packet: p.Packet, version: int) -> list[int]:
    needed = len(encoded(packet, version)[1]) - (len(packet.payload) if isinstance(packet, p.Publish) else 0)
    return sorted(set(range(needed)) - _MAY_END.get(type(packet), set()))


@st.composite
def _truncated(draw: st.DrawFn, version: int) -> Encoding:
    cuttable = packets(version).map(_first_only).filter(lambda packet: bool(_forbidden_ends(packet, version)))
    packet = draw(cuttable)
    first, body = encoded(packet, version)
    return first, body[: draw(st.sampled_from(_forbidden_ends(packet, version)))]


_TAKES_ANY_TAIL = (p.Publish, p.SubAck, p.UnsubAck)


@st.composite
def _overlong(draw: st.DrawFn, version: int) -> Encoding:
    packet = draw(packets(version).filter(lambda packet: not isinstance(packet, _TAKES_ANY_TAIL)))
    if isinstance(packet, p.Subscribe | p.Unsubscribe):
        first, body = encoded(packet, version)
        return first, body + b"\0"
    first, body = _whole(packet) if version == V5 else encoded(packet, version)
    return first, body + draw(st.binary(min_size=1, max_size=5))


def _others(allowed: Iterable[int]) -> list[int]:
    return sorted(set(range(256)) - set(allowed))


def _bad_connect_flags(version: int) -> list[int]:
    return [
        flags
        for flags in range(256)
        if flags & 0x01
        or flags & 0x18 == 0x18
        or (flags & 0x38 and not flags & 0x04)
        or (version < V5 and flags & 0xC0 == 0x40)
    ]


@cache
def _forbidden_values(version: int) -> list[tuple[Strategy[p.Packet], int, list[int]]]:
    # packets, the place of a byte in their bodies, and what must not stand there
    options = [value for value in range(256) if value & 0xC0 or value & 3 == 3 or value >> 4 == 3]
    rows: list[tuple[Strategy[p.Packet], int, list[int]]] = [
        (connects(version), 6, _others([V311, V5])),
        (connects(version), 7, _bad_connect_flags(version)),
        (connacks(version), 0, _others([0, 1])),
        (connacks(version), 1, _others(codes.CONNACK_CODES if version == V5 else codes.V311_REASON_CODES)),
        (subscribes(version), -1, options if version == V5 else _others([0, 1, 2])),
        (subacks(version), -1, _others(codes.SUBACK_CODES if version == V5 else (0, 1, 2, 0x80))),
    ]
    if version == V5:
        rows += [
            (pubacks(), 2, _others(codes.PUBACK_CODES)),
            (pubrecs(), 2, _others(codes.PUBACK_CODES)),
            (pubrels(), 2, _others(codes.PUBREL_CODES)),
            (pubcomps(), 2, _others(codes.PUBREL_CODES)),
            (unsubacks(), -1, _others(codes.UNSUBACK_CODES)),
            (disconnects(), 0, _others(codes.DISCONNECT_CODES)),
            (auths(), 0, _others(codes.AUTH_CODES)),
        ]
    return rows


@st.composite
def _forbidden_bytes(draw: st.DrawFn, version: int) -> Encoding:
    kind, place, values = draw(st.sampled_from(_forbidden_values(version)))
    packet = draw(kind)
    first, body = _whole(packet) if version == V5 else encoded(packet, version)
    broken = bytearray(body)
    broken[place] = draw(st.sampled_from(values))
    return first, bytes(broken)


@st.composite
def _zero_packet_ids(draw: st.DrawFn, version: int) -> Encoding:
    packet = draw(packets(version).filter(lambda packet: getattr(packet, "packet_id", None) is not None))
    first, body = encoded(packet, version)
    place = 2 + len(packet.topic.encode()) if isinstance(packet, p.Publish) else 0
    return first, body[:place] + b"\0\0" + body[place + 2 :]


# Placeholders, and what must not stand in their place: all of eleven bytes, so that no length has to change.
_TEXT, _TOPIC, _FILTER = "placeholder", "topic/topic", "filt/filter"
_BAD_UTF8 = [
    bad.center(11, b"a")
    for bad in (
        b"\0",
        b"\x80",
        b"\xff",
        b"\xc3",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
    )
]
_BAD_TEXT = {
    _TEXT.encode(): _BAD_UTF8,
    _TOPIC.encode(): [*_BAD_UTF8, b"topic/+/abc", b"topic/abc/#", b"topic+topic", b"topic#topic"],
    _FILTER.encode(): [
        *_BAD_UTF8,
        b"filter/#/ab",
        b"filter/abc#",
        b"filter/a+/b",
        b"+filter/abc",
        b"$share//abc",
        b"$share/a+/b",
    ],
}
_PAIRS = ((_TEXT, _TEXT),)
_WITH_TEXTS: tuple[p.Packet, ...] = (
    p.Connect(
        client_id=_TEXT,
        username=_TEXT,
        will=p.Will(topic=_TOPIC, content_type=_TEXT, response_topic=_TOPIC, user_properties=_PAIRS),
        authentication_method=_TEXT,
        user_properties=_PAIRS,
    ),
    p.Publish(_TOPIC, content_type=_TEXT, response_topic=_TOPIC, user_properties=_PAIRS),
    p.Subscribe(1, (p.Subscription(_FILTER), p.Subscription(_FILTER)), user_properties=_PAIRS),
    p.Unsubscribe(1, (_FILTER, _FILTER), user_properties=_PAIRS),
)
_WITH_PROPERTY_TEXTS: tuple[p.Packet, ...] = (
    p.ConnAck(
        assigned_client_identifier=_TEXT,
        reason_string=_TEXT,
        response_information=_TEXT,
        server_reference=_TEXT,
        authentication_method=_TEXT,
        user_properties=_PAIRS,
    ),
    p.PubAck(1, reason_string=_TEXT, user_properties=_PAIRS),
    p.PubRec(1, reason_string=_TEXT, user_properties=_PAIRS),
    p.PubRel(1, reason_string=_TEXT, user_properties=_PAIRS),
    p.PubComp(1, reason_string=_TEXT, user_properties=_PAIRS),
    p.SubAck(1, (ReasonCode.SUCCESS,), reason_string=_TEXT, user_properties=_PAIRS),
    p.UnsubAck(1, (ReasonCode.SUCCESS,), reason_string=_TEXT, user_properties=_PAIRS),
    p.Disconnect(reason_string=_TEXT, server_reference=_TEXT, user_properties=_PAIRS),
    p.Auth(authentication_method=_TEXT, reason_string=_TEXT, user_properties=_PAIRS),
)


@st.composite
def _bad_strings(draw: st.DrawFn, version: int) -> Encoding:
    packet = draw(st.sampled_from(_WITH_TEXTS + _WITH_PROPERTY_TEXTS if version == V5 else _WITH_TEXTS))
    if isinstance(packet, p.Connect):
        packet = attrs.evolve(packet, protocol_version=version)
    first, body = encoded(packet, version)
    places = [(at, text) for text in _BAD_TEXT for at in range(len(body)) if body.startswith(text, at)]
    at, text = draw(st.sampled_from(places))
    return first, body[:at] + draw(st.sampled_from(_BAD_TEXT[text])) + body[at + len(text) :]


@st.composite
def _empty_lists(draw: st.DrawFn, version: int) -> Encoding:
    first = draw(st.sampled_from([0x82, 0x90, 0xA2, 0xB0] if version == V5 else [0x82, 0x90, 0xA2]))
    return first, wire.write_two_bytes(draw(packet_ids())) + (b"\0" if version == V5 else b"")


# Where the properties of an MQTT 5.0 packet begin, unless a Topic Name stands before them.
_PROPERTIES_AT = {
    PacketType.CONNECT: 10,
    PacketType.CONNACK: 2,
    **dict.fromkeys([PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP], 3),
    **dict.fromkeys([PacketType.SUBSCRIBE, PacketType.SUBACK, PacketType.UNSUBSCRIBE, PacketType.UNSUBACK], 2),
    PacketType.DISCONNECT: 1,
    PacketType.AUTH: 1,
}


def _whole(packet: p.Packet) -> Encoding:
    """An MQTT 5.0 packet with the Reason Code and Property Length that a packet may leave out at its end."""
    first, body = encoded(packet, V5)
    return first, body.ljust(_PROPERTIES_AT.get(PacketType(first >> 4), -1) + 1, b"\0")


@frozen
class _Block:
    """A packet, or a CONNECT with a Will, around its properties; `kind` is a PacketType or WILL."""

    kind: int
    first: int
    head: bytes
    properties: bytes
    tail: bytes

    def with_another(self, bad: bytes) -> Encoding:
        return self.first, self.head + with_length(self.properties + bad) + self.tail


_WILL_HEAD = bytes.fromhex("0004 4d515454 05 04 0000 00 0000")
_WILL_TAIL = bytes.fromhex("0001 61 0000")
_HAVE_PROPERTIES = packets().filter(lambda packet: not isinstance(packet, p.PingReq | p.PingResp))


@st.composite
def _blocks(draw: st.DrawFn, sources: Strategy[p.Packet] = _HAVE_PROPERTIES) -> _Block:
    if draw(st.integers(0, 9)) == 0:
        return _Block(WILL, 0x10, _WILL_HEAD, b"", _WILL_TAIL)
    packet = draw(sources)
    first, body = _whole(packet)
    if isinstance(packet, p.Publish):
        at = 2 + len(packet.topic.encode()) + (2 if packet.qos else 0)
    else:
        at = _PROPERTIES_AT[PacketType(first >> 4)]
    length, start = wire.read_variable_byte_integer(body, at, len(body))
    return _Block(first >> 4, first, body[:at], body[start : start + length], body[start + length :])


@st.composite
def _property(draw: st.DrawFn, row: Property) -> bytes:
    value = draw(property_values(row.name).filter(lambda value: value != ()))
    return bytes((row.identifier,)) + row.write(value[0] if row.repeatable else value)


@st.composite
def _unknown_properties(draw: st.DrawFn) -> Encoding:
    identifier = draw(st.sampled_from(_others(row.identifier for row in PROPERTIES)))
    return draw(_blocks()).with_another(bytes((identifier,)) + draw(binary()))


@st.composite
def _misplaced_properties(draw: st.DrawFn) -> Encoding:
    block = draw(_blocks())
    rows = [row for row in PROPERTIES if row.identifier not in BY_PACKET[block.kind]]
    return block.with_another(draw(_property(draw(st.sampled_from(rows)))))


@st.composite
def _repeated_properties(draw: st.DrawFn) -> Encoding:
    # UNSUBSCRIBE has nothing but User Properties, which may be repeated.
    block = draw(_blocks(_HAVE_PROPERTIES.filter(lambda packet: not isinstance(packet, p.Unsubscribe))))
    row = draw(st.sampled_from([row for row in BY_PACKET[block.kind].values() if not row.repeatable]))
    return block.with_another(draw(_property(row)) + draw(_property(row)))


@st.composite
def _cut_properties(draw: st.DrawFn) -> Encoding:
    block = draw(_blocks())
    return block.with_another(draw(_property(draw(st.sampled_from(list(BY_PACKET[block.kind].values())))))[:-1])


_BAD_FLAGS = [bytes((value,)) for value in range(2, 256)]
_BAD_IDENTIFIERS = [b"\0", b"\x81\0", b"\xff\xff\xff\0", b"\xff\xff\xff\xff\x01"]
_BAD_VALUES = {
    "payload_format_indicator": _BAD_FLAGS,
    "request_problem_information": _BAD_FLAGS,
    "request_response_information": _BAD_FLAGS,
    "maximum_qos": _BAD_FLAGS,
    "retain_available": _BAD_FLAGS,
    "wildcard_subscription_available": _BAD_FLAGS,
    "subscription_identifiers_available": _BAD_FLAGS,
    "shared_subscription_available": _BAD_FLAGS,
    "subscription_identifier": _BAD_IDENTIFIERS,
    "subscription_identifiers": _BAD_IDENTIFIERS,
    "receive_maximum": [bytes(2)],
    "topic_alias": [bytes(2)],
    "maximum_packet_size": [bytes(4)],
}
_HAVE_BAD_VALUES = st.one_of(connects(), connacks(), publishes(), subscribes())


@st.composite
def _forbidden_property_values(draw: st.DrawFn) -> Encoding:
    block = draw(_blocks(_HAVE_BAD_VALUES))
    row = draw(st.sampled_from([row for row in BY_PACKET[block.kind].values() if row.name in _BAD_VALUES]))
    return block.with_another(bytes((row.identifier,)) + draw(st.sampled_from(_BAD_VALUES[row.name])))


@st.composite
def _bad_property_lengths(draw: st.DrawFn) -> Encoding:
    block = draw(_blocks())
    length = wire.write_variable_byte_integer(len(block.properties))
    beyond = len(block.properties) + len(block.tail) + draw(st.integers(1, 300))
    padded = length[:-1] + bytes((length[-1] | 0x80, 0))
    bad = [wire.write_variable_byte_integer(beyond), padded, b"\xff\xff\xff\xff\x01"]
    return block.first, block.head + draw(st.sampled_from(bad)) + block.properties + block.tail
