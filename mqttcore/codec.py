"""Control packets to bytes and back, for MQTT 5.0 and 3.1.1 (chapter 3 of each).

`decode` gives a packet or raises ProtocolError (MalformedPacket among them) for whatever bytes; it checks what can be
told from the bytes alone. What depends on the connection's state is `connection`'s to check.
"""

from collections.abc import Callable
from typing import Any, Final

from mqttcore import packets as p
from mqttcore import wire
from mqttcore.codes import (
    AUTH_CODES,
    CONNACK_CODES,
    DISCONNECT_CODES,
    PUBACK_CODES,
    PUBREL_CODES,
    SUBACK_CODES,
    UNSUBACK_CODES,
    V5,
    V311,
    V311_REASON_CODES,
    V311_RETURN_CODES,
    PacketType,
    ReasonCode,
)
from mqttcore.errors import LocalProtocolError, MalformedPacket, ProtocolError
from mqttcore.properties import WILL, read_properties, with_length, write_properties
from mqttcore.topics import check_topic_filter, check_topic_name

PROTOCOL_NAME: Final = b"\x00\x04MQTT"

# Bits 3 to 0 of the fixed header, section 2.1.3; PUBLISH uses them as flags. [MQTT-2.1.3-1]
FIXED_FLAGS: Final[dict[int, int]] = {kind: 0b0010 if kind in (6, 8, 10) else 0 for kind in PacketType}

# Names of our own, because a member of an Enum takes long to be found in its class.
_CONNECT: Final = PacketType.CONNECT
_CONNACK: Final = PacketType.CONNACK
_PUBLISH: Final = PacketType.PUBLISH
_AUTH: Final = PacketType.AUTH

# The return codes of MQTT 3.1.1's SUBACK (its section 3.9.3); any failure is told as 0x80.
V311_SUBACK_CODES = {code: SUBACK_CODES[code] for code in (0x00, 0x01, 0x02, 0x80)}

_Answer = p.PubAck | p.PubRec | p.PubRel | p.PubComp
_Acks = p.SubAck | p.UnsubAck


# ------------------------------------------------------------------------------------------------------- decoding


def decode(first: int, body: bytes, version: int) -> p.Packet:
    """The packet with the fixed header's `first` byte and the `body` of its Remaining Length.

    Raises MalformedPacket or ProtocolError, whose reason code says how the receiver ends the connection.
    """
    kind = first >> 4
    if kind == _PUBLISH:
        return decode_publish(first, body, version)
    reader = _DECODERS.get(kind)
    if reader is None or (kind == _AUTH and version < V5):
        raise MalformedPacket(f"there is no control packet type {kind}")
    # [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1] [MQTT3-2.2.2-2] [MQTT3-3.14.1-1]
    if first & 0x0F != FIXED_FLAGS[kind]:
        raise MalformedPacket(f"the reserved flags of {PacketType(kind).name} are wrong")
    return reader(body, version)


def _end(pos: int, body: bytes) -> None:
    if pos != len(body):
        raise MalformedPacket("the packet goes on after its last field")


def read_protocol(body: bytes) -> tuple[bytes, int] | None:
    """Protocol Name and Protocol Version of a CONNECT (section 3.1.2.1), None if the body is too short to tell."""
    if len(body) < 2:
        return None
    end = 2 + (body[0] << 8 | body[1])
    if len(body) <= end:
        return None
    return body[:end], body[end]


def decode_connect(body: bytes, _version: int = V5) -> p.Connect:
    """CONNECT, section 3.1; the protocol version is the packet's own."""
    end = len(body)
    protocol = read_protocol(body)
    if protocol is None:
        raise MalformedPacket("CONNECT ends inside its variable header")
    if protocol[0] != PROTOCOL_NAME or protocol[1] not in (V311, V5):  # [MQTT-3.1.2-1] [MQTT-3.1.2-2]
        raise ProtocolError("the protocol is neither MQTT 5.0 nor MQTT 3.1.1", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)
    version = protocol[1]
    if end < 10:
        raise MalformedPacket("CONNECT ends inside its variable header")
    flags = body[7]
    keep_alive = body[8] << 8 | body[9]
    pos = 10
    will_qos = flags >> 3 & 3
    if flags & 0x01:  # [MQTT-3.1.2-3]
        raise MalformedPacket("the reserved connect flag is set")
    if will_qos == 3:  # [MQTT-3.1.2-12]
        raise MalformedPacket("Will QoS 3 does not exist")
    if not flags & 0x04 and flags & 0x38:  # [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        raise MalformedPacket("Will QoS or Will Retain is set without a Will")
    if version == V311 and flags & 0x40 and not flags & 0x80:  # [MQTT3-3.1.2-22]
        raise MalformedPacket("MQTT 3.1.1 has no password without a user name")
    found: dict[str, Any] = {}
    if version == V5:
        found, pos = read_properties(_CONNECT, body, pos, end)
        if "authentication_data" in found and "authentication_method" not in found:
            raise ProtocolError("Authentication Data stands without an Authentication Method")
    client_id, pos = wire.read_string(body, pos, end)  # [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    will = None
    if flags & 0x04:  # [MQTT-3.1.2-9]
        will_properties: dict[str, Any] = {}
        if version == V5:
            will_properties, pos = read_properties(WILL, body, pos, end)
        topic, pos = wire.read_string(body, pos, end)  # [MQTT-3.1.3-11]
        check_topic_name(topic)
        payload, pos = wire.read_binary(body, pos, end)
        will = p.Will(topic=topic, payload=payload, qos=will_qos, retain=bool(flags & 0x20), **will_properties)
    username = password = None
    if flags & 0x80:  # [MQTT-3.1.2-16] [MQTT-3.1.2-17]
        username, pos = wire.read_string(body, pos, end)  # [MQTT-3.1.3-12]
    if flags & 0x40:  # [MQTT-3.1.2-18] [MQTT-3.1.2-19]
        password, pos = wire.read_binary(body, pos, end)
    _end(pos, body)
    return p.Connect(
        client_id=client_id,
        clean_start=bool(flags & 0x02),
        keep_alive=keep_alive,
        username=username,
        password=password,
        will=will,
        protocol_version=version,
        **found,
    )


def _decode_connack(body: bytes, version: int) -> p.ConnAck:
    flags, pos = wire.read_byte(body, 0, len(body))
    code, pos = wire.read_byte(body, pos, len(body))
    if flags > 1:  # [MQTT-3.2.2-1]
        raise MalformedPacket("the reserved CONNACK flags are set")
    found: dict[str, Any] = {}
    if version == V5:
        reason_code = _lookup(CONNACK_CODES, code, "CONNACK")  # [MQTT-3.2.2-8]
        found, pos = read_properties(PacketType.CONNACK, body, pos, len(body))
        if "authentication_data" in found and "authentication_method" not in found:
            raise ProtocolError("Authentication Data stands without an Authentication Method")
    else:
        reason_code = _lookup(V311_REASON_CODES, code, "CONNACK")
    if flags and reason_code.is_failure:  # [MQTT-3.2.2-6]
        raise ProtocolError("a refusing CONNACK says that a session is present")
    _end(pos, body)
    return p.ConnAck(reason_code=reason_code, session_present=flags == 1, **found)


def decode_publish(first: int, body: bytes, version: int) -> p.Publish:
    """PUBLISH, section 3.3. The Topic Name is empty when a Topic Alias stands for it."""
    qos = first >> 1 & 3
    dup = bool(first & 0x08)
    if qos == 3:  # [MQTT-3.3.1-4]
        raise MalformedPacket("QoS 3 does not exist")
    if dup and not qos:  # [MQTT-3.3.1-2]
        raise MalformedPacket("DUP is set on a PUBLISH with QoS 0")
    end = len(body)
    topic, pos = wire.read_string(body, 0, end)  # [MQTT-3.3.2-1]
    packet_id = None
    if qos:  # [MQTT-2.2.1-2]
        packet_id, pos = _read_packet_id(body, pos)
    found: dict[str, Any] = {}
    if version == V5:
        found, pos = read_properties(_PUBLISH, body, pos, end)
    if topic or version == V311:
        check_topic_name(topic)
    elif "topic_alias" not in found:
        raise ProtocolError("PUBLISH has neither a Topic Name nor a Topic Alias")
    return p.Publish(topic, body[pos:], qos=qos, retain=bool(first & 1), dup=dup, packet_id=packet_id, **found)


def _read_packet_id(body: bytes, pos: int) -> tuple[int, int]:
    packet_id, pos = wire.read_two_bytes(body, pos, len(body))
    if not packet_id:  # [MQTT-2.2.1-3]
        raise ProtocolError("packet identifier 0 is not permitted")
    return packet_id, pos


def _lookup(codes: dict[int, ReasonCode], value: int, name: str) -> ReasonCode:
    code = codes.get(value)
    if code is None:
        raise MalformedPacket(f"0x{value:02X} is no reason code of {name}")
    return code


def _answer_decoder(
    kind: PacketType, cls: type[_Answer], codes: dict[int, ReasonCode]
) -> Callable[[bytes, int], _Answer]:
    def decode_answer(body: bytes, version: int) -> _Answer:
        packet_id, pos = _read_packet_id(body, 0)
        if version < V5 or len(body) == 2:
            _end(pos, body)
            return cls(packet_id)
        reason_code = _lookup(codes, body[2], kind.name)
        if len(body) == 3:
            return cls(packet_id, reason_code)
        found, pos = read_properties(kind, body, 3, len(body))
        _end(pos, body)
        return cls(packet_id, reason_code, **found)

    return decode_answer


def _decode_subscribe(body: bytes, version: int) -> p.Subscribe:
    end = len(body)
    packet_id, pos = _read_packet_id(body, 0)
    found: dict[str, Any] = {}
    if version == V5:
        found, pos = read_properties(PacketType.SUBSCRIBE, body, pos, end)
    subscriptions = []
    while pos < end:
        topic_filter, pos = wire.read_string(body, pos, end)  # [MQTT-3.8.3-1]
        check_topic_filter(topic_filter)
        options, pos = wire.read_byte(body, pos, end)
        if options & (0xC0 if version == V5 else 0xFC):  # [MQTT-3.8.3-5] [MQTT3-3.8.3-4]
            raise MalformedPacket("reserved subscription options are set")
        if options & 3 == 3:  # [MQTT3-3.8.3-4]
            raise ProtocolError("QoS 3 does not exist")
        if options >> 4 == 3:
            raise ProtocolError("Retain Handling 3 does not exist")
        if options & 4 and topic_filter.startswith("$share/"):  # [MQTT-3.8.3-4]
            raise ProtocolError("No Local is set on a shared subscription")
        subscriptions.append(
            p.Subscription(
                topic_filter,
                options & 3,
                no_local=bool(options & 4),
                retain_as_published=bool(options & 8),
                retain_handling=options >> 4,
            )
        )
    if not subscriptions:  # [MQTT-3.8.3-2]
        raise ProtocolError("SUBSCRIBE has no Topic Filter")
    return p.Subscribe(packet_id, tuple(subscriptions), **found)


def _acks_decoder(kind: PacketType, cls: type[_Acks], codes: dict[int, ReasonCode]) -> Callable[[bytes, int], _Acks]:
    def decode_acks(body: bytes, version: int) -> _Acks:
        packet_id, pos = _read_packet_id(body, 0)
        found: dict[str, Any] = {}
        known = codes
        if version == V5:
            found, pos = read_properties(kind, body, pos, len(body))
        elif kind is PacketType.UNSUBACK:
            _end(pos, body)
            return cls(packet_id, ())
        else:
            known = V311_SUBACK_CODES
        if pos == len(body):
            raise ProtocolError(f"{kind.name} has no reason code")
        return cls(packet_id, tuple(_lookup(known, value, kind.name) for value in body[pos:]), **found)

    return decode_acks


def _decode_unsubscribe(body: bytes, version: int) -> p.Unsubscribe:
    end = len(body)
    packet_id, pos = _read_packet_id(body, 0)
    found: dict[str, Any] = {}
    if version == V5:
        found, pos = read_properties(PacketType.UNSUBSCRIBE, body, pos, end)
    topic_filters = []
    while pos < end:
        topic_filter, pos = wire.read_string(body, pos, end)  # [MQTT-3.10.3-1]
        check_topic_filter(topic_filter)
        topic_filters.append(topic_filter)
    if not topic_filters:  # [MQTT-3.10.3-2]
        raise ProtocolError("UNSUBSCRIBE has no Topic Filter")
    return p.Unsubscribe(packet_id, tuple(topic_filters), **found)


def _decode_pingreq(body: bytes, _version: int) -> p.PingReq:
    _end(0, body)
    return p.PingReq()


def _decode_pingresp(body: bytes, _version: int) -> p.PingResp:
    _end(0, body)
    return p.PingResp()


_DISCONNECT = p.Disconnect()


def _decode_disconnect(body: bytes, version: int) -> p.Disconnect:
    if version < V5 or not body:
        _end(0, body)
        return _DISCONNECT
    reason_code = _lookup(DISCONNECT_CODES, body[0], "DISCONNECT")  # [MQTT-3.14.2-1]
    if len(body) == 1:
        return p.Disconnect(reason_code)
    found, pos = read_properties(PacketType.DISCONNECT, body, 1, len(body))
    _end(pos, body)
    return p.Disconnect(reason_code, **found)


def _decode_auth(body: bytes, _version: int) -> p.Auth:
    if not body:
        return p.Auth()
    reason_code = _lookup(AUTH_CODES, body[0], "AUTH")  # [MQTT-3.15.2-1]
    found, pos = read_properties(PacketType.AUTH, body, 1, len(body))
    if "authentication_method" not in found:
        raise ProtocolError("AUTH has no Authentication Method")
    _end(pos, body)
    return p.Auth(reason_code, **found)


_DECODERS: Final[dict[int, Callable[[bytes, int], p.Packet]]] = {
    PacketType.CONNECT: decode_connect,
    PacketType.CONNACK: _decode_connack,
    PacketType.PUBACK: _answer_decoder(PacketType.PUBACK, p.PubAck, PUBACK_CODES),  # [MQTT-3.4.2-1]
    PacketType.PUBREC: _answer_decoder(PacketType.PUBREC, p.PubRec, PUBACK_CODES),  # [MQTT-3.5.2-1]
    PacketType.PUBREL: _answer_decoder(PacketType.PUBREL, p.PubRel, PUBREL_CODES),  # [MQTT-3.6.2-1]
    PacketType.PUBCOMP: _answer_decoder(PacketType.PUBCOMP, p.PubComp, PUBREL_CODES),  # [MQTT-3.7.2-1]
    PacketType.SUBSCRIBE: _decode_subscribe,
    PacketType.SUBACK: _acks_decoder(PacketType.SUBACK, p.SubAck, SUBACK_CODES),  # [MQTT-3.9.3-2]
    PacketType.UNSUBSCRIBE: _decode_unsubscribe,
    PacketType.UNSUBACK: _acks_decoder(PacketType.UNSUBACK, p.UnsubAck, UNSUBACK_CODES),  # [MQTT-3.11.3-2]
    PacketType.PINGREQ: _decode_pingreq,
    PacketType.PINGRESP: _decode_pingresp,
    PacketType.DISCONNECT: _decode_disconnect,
    PacketType.AUTH: _decode_auth,
}


# ------------------------------------------------------------------------------------------------------- encoding


def encode(packet: p.Packet, version: int = V5) -> bytes:
    """The bytes of `packet`; a CONNECT is encoded for its own protocol version.

    Raises LocalProtocolError for a value that the packet must not or cannot have.
    """
    return _ENCODERS[type(packet)](packet, version)


def frame(first: int, body: bytes) -> bytes:
    """A fixed header with its Remaining Length (section 2.1) before `body`."""
    return bytes((first,)) + wire.write_variable_byte_integer(len(body)) + body


def _frame(kind: PacketType, body: bytes) -> bytes:
    return frame(kind << 4 | FIXED_FLAGS[kind], body)


def _checked(check: Callable[[str], None], text: str) -> bytes:
    try:
        check(text)
    except ProtocolError as error:
        raise LocalProtocolError(str(error), error.reason_code) from None
    return wire.write_string(text)


def _packet_id(packet_id: int | None) -> bytes:
    if not packet_id or not 0 < packet_id < 65536:
        raise LocalProtocolError("a packet identifier is a number from 1 to 65,535")
    return wire.TWO_BYTES[packet_id]


def _code(codes: dict[int, ReasonCode], value: int, name: str) -> bytes:
    if value not in codes:
        raise LocalProtocolError(f"0x{value:02X} is no reason code of {name}")
    return bytes((value,))


def _encode_connect(packet: p.Connect, _version: int) -> bytes:
    version = packet.protocol_version
    if version not in (V311, V5):
        raise LocalProtocolError(f"there is no protocol version {version} here; use 4 (MQTT 3.1.1) or 5")
    if packet.authentication_data is not None and packet.authentication_method is None:
        raise LocalProtocolError("Authentication Data needs an Authentication Method")
    if version == V311 and packet.password is not None and packet.username is None:  # [MQTT3-3.1.2-22]
        raise LocalProtocolError("MQTT 3.1.1 has no password without a user name")
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    will = b""
    if packet.will is not None:
        if packet.will.qos not in (0, 1, 2):
            raise LocalProtocolError(f"there is no Will QoS {packet.will.qos}")
        flags |= 0x04 | packet.will.qos << 3 | packet.will.retain << 5
        will = _checked(check_topic_name, packet.will.topic) + wire.write_binary(packet.will.payload)
        if version == V5:
            will = with_length(write_properties(WILL, packet.will)) + will
    return _frame(
        PacketType.CONNECT,
        b"".join(
            (
                PROTOCOL_NAME,
                bytes((version, flags)),
                wire.write_two_bytes(packet.keep_alive),
                with_length(write_properties(PacketType.CONNECT, packet)) if version == V5 else b"",
                wire.write_string(packet.client_id),
                will,
                b"" if packet.username is None else wire.write_string(packet.username),
                b"" if packet.password is None else wire.write_binary(packet.password),
            )
        ),
    )


def _encode_connack(packet: p.ConnAck, version: int) -> bytes:
    if packet.session_present and packet.reason_code.is_failure:  # [MQTT-3.2.2-6]
        raise LocalProtocolError("a refusing CONNACK cannot say that a session is present")
    if packet.authentication_data is not None and packet.authentication_method is None:
        raise LocalProtocolError("Authentication Data needs an Authentication Method")
    code = _code(CONNACK_CODES, packet.reason_code, "CONNACK")
    flags = bytes((packet.session_present,))
    if version < V5:
        # A reason that MQTT 3.1.1 has no code for is told as "Server unavailable".
        return _frame(_CONNACK, flags + bytes((V311_RETURN_CODES.get(packet.reason_code, 3),)))
    return _frame(_CONNACK, flags + code + with_length(write_properties(_CONNACK, packet)))


def encode_publish_head(qos: int, retain: bool, dup: bool, topic: bytes, remaining: int) -> bytes:
    """A PUBLISH up to its Topic Name; `topic` is with its length, `remaining` what follows the Topic Name, in bytes."""
    first = 0x30 | dup << 3 | qos << 1 | retain
    return bytes((first,)) + wire.write_variable_byte_integer(len(topic) + remaining) + topic


def _encode_publish(packet: p.Publish, version: int) -> bytes:
    if packet.qos not in (0, 1, 2):
        raise LocalProtocolError(f"there is no QoS {packet.qos}")
    if packet.dup and not packet.qos:  # [MQTT-3.3.1-2]
        raise LocalProtocolError("DUP does not go with QoS 0")
    if not packet.qos and packet.packet_id is not None:  # [MQTT-2.2.1-2]
        raise LocalProtocolError("a PUBLISH with QoS 0 has no packet identifier")
    if packet.topic or version < V5 or packet.topic_alias is None:
        topic = _checked(check_topic_name, packet.topic)
    else:
        topic = b"\0\0"
    tail = _packet_id(packet.packet_id) if packet.qos else b""
    if version == V5:
        tail += with_length(write_properties(PacketType.PUBLISH, packet))
    remaining = len(tail) + len(packet.payload)
    return encode_publish_head(packet.qos, packet.retain, packet.dup, topic, remaining) + tail + packet.payload


_ANSWERS = (PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP)
_ANSWER_HEADS: Final[dict[int, bytes]] = {kind: bytes((kind << 4 | FIXED_FLAGS[kind], 2)) for kind in _ANSWERS}
_ANSWER_HEADS_WITH_CODE: Final[dict[int, bytes]] = {
    kind: bytes((kind << 4 | FIXED_FLAGS[kind], 3)) for kind in _ANSWERS
}


def encode_answer(kind: int, packet_id: int, reason_code: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP without properties; 0 is the only `reason_code` that MQTT 3.1.1 has."""
    if reason_code:
        return _ANSWER_HEADS_WITH_CODE[kind] + wire.TWO_BYTES[packet_id] + bytes((reason_code,))
    return _ANSWER_HEADS[kind] + wire.TWO_BYTES[packet_id]


def encode_answers(kind: int, packet_ids: list[int], reason_code: int) -> bytes:
    """As many packets as `encode_answer` makes of the packet identifiers, one behind the other."""
    if len(packet_ids) == 1:
        return encode_answer(kind, packet_ids[0], reason_code)
    head, tail = _ANSWER_HEADS[kind], b""
    if reason_code:
        head, tail = _ANSWER_HEADS_WITH_CODE[kind], bytes((reason_code,))
    return head + (tail + head).join([wire.TWO_BYTES[packet_id] for packet_id in packet_ids]) + tail


def _answer_encoder(kind: PacketType, codes: dict[int, ReasonCode]) -> Callable[[Any, int], bytes]:
    def encode_packet(packet: _Answer, version: int) -> bytes:
        packet_id = _packet_id(packet.packet_id)
        if version < V5:  # [MQTT3-3.3.5-2]
            return encode_answer(kind, packet.packet_id, 0)
        code = _code(codes, packet.reason_code, kind.name)
        properties = write_properties(kind, packet)
        if not properties:
            return encode_answer(kind, packet.packet_id, packet.reason_code)
        return _frame(kind, packet_id + code + with_length(properties))

    return encode_packet


def _encode_subscribe(packet: p.Subscribe, version: int) -> bytes:
    if not packet.subscriptions:  # [MQTT-3.8.3-2]
        raise LocalProtocolError("SUBSCRIBE needs at least one Topic Filter")
    out = [_packet_id(packet.packet_id)]
    if version == V5:
        out.append(with_length(write_properties(PacketType.SUBSCRIBE, packet)))
    for item in packet.subscriptions:
        if item.qos not in (0, 1, 2) or item.retain_handling not in (0, 1, 2):
            raise LocalProtocolError("QoS and Retain Handling are 0, 1 or 2")
        if item.no_local and item.topic_filter.startswith("$share/"):  # [MQTT-3.8.3-4]
            raise LocalProtocolError("No Local does not go with a shared subscription")
        options = item.qos
        if version == V5:
            options |= item.no_local << 2 | item.retain_as_published << 3 | item.retain_handling << 4
        out += (_checked(check_topic_filter, item.topic_filter), bytes((options,)))
    return _frame(PacketType.SUBSCRIBE, b"".join(out))


def _codes(codes: dict[int, ReasonCode], values: tuple[ReasonCode, ...], name: str) -> bytes:
    if not values:
        raise LocalProtocolError(f"{name} needs a reason code for each Topic Filter")
    return b"".join(_code(codes, value, name) for value in values)


def _encode_suback(packet: p.SubAck, version: int) -> bytes:
    codes = _codes(SUBACK_CODES, packet.reason_codes, "SUBACK")
    if version < V5:
        codes = bytes(min(code, 0x80) for code in codes)  # [MQTT3-3.9.3-2]
        return _frame(PacketType.SUBACK, _packet_id(packet.packet_id) + codes)
    properties = with_length(write_properties(PacketType.SUBACK, packet))
    return _frame(PacketType.SUBACK, _packet_id(packet.packet_id) + properties + codes)


def _encode_unsubscribe(packet: p.Unsubscribe, version: int) -> bytes:
    if not packet.topic_filters:  # [MQTT-3.10.3-2]
        raise LocalProtocolError("UNSUBSCRIBE needs at least one Topic Filter")
    properties = with_length(write_properties(PacketType.UNSUBSCRIBE, packet)) if version == V5 else b""
    filters = b"".join(_checked(check_topic_filter, item) for item in packet.topic_filters)
    return _frame(PacketType.UNSUBSCRIBE, _packet_id(packet.packet_id) + properties + filters)


def _encode_unsuback(packet: p.UnsubAck, version: int) -> bytes:
    if version < V5:  # [MQTT3-3.10.4-5]
        return _frame(PacketType.UNSUBACK, _packet_id(packet.packet_id))
    codes = _codes(UNSUBACK_CODES, packet.reason_codes, "UNSUBACK")
    properties = with_length(write_properties(PacketType.UNSUBACK, packet))
    return _frame(PacketType.UNSUBACK, _packet_id(packet.packet_id) + properties + codes)


def _encode_disconnect(packet: p.Disconnect, version: int) -> bytes:
    if version < V5:
        return _frame(PacketType.DISCONNECT, b"")
    code = _code(DISCONNECT_CODES, packet.reason_code, "DISCONNECT")
    properties = write_properties(PacketType.DISCONNECT, packet)
    if properties:
        return _frame(PacketType.DISCONNECT, code + with_length(properties))
    return _frame(PacketType.DISCONNECT, code if packet.reason_code else b"")


def _encode_auth(packet: p.Auth, version: int) -> bytes:
    if version < V5:
        raise LocalProtocolError("MQTT 3.1.1 has no AUTH packet")
    code = _code(AUTH_CODES, packet.reason_code, "AUTH")
    properties = write_properties(PacketType.AUTH, packet)
    if not properties and not packet.reason_code:
        return _frame(PacketType.AUTH, b"")
    if packet.authentication_method is None:
        raise LocalProtocolError("AUTH needs an Authentication Method")
    return _frame(PacketType.AUTH, code + with_length(properties))


_ENCODERS: Final[dict[type, Callable[[Any, int], bytes]]] = {
    p.Connect: _encode_connect,
    p.ConnAck: _encode_connack,
    p.Publish: _encode_publish,
    p.PubAck: _answer_encoder(PacketType.PUBACK, PUBACK_CODES),
    p.PubRec: _answer_encoder(PacketType.PUBREC, PUBACK_CODES),
    p.PubRel: _answer_encoder(PacketType.PUBREL, PUBREL_CODES),
    p.PubComp: _answer_encoder(PacketType.PUBCOMP, PUBREL_CODES),
    p.Subscribe: _encode_subscribe,
    p.SubAck: _encode_suback,
    p.Unsubscribe: _encode_unsubscribe,
    p.UnsubAck: _encode_unsuback,
    p.PingReq: lambda _packet, _version: b"\xc0\x00",
    p.PingResp: lambda _packet, _version: b"\xd0\x00",
    p.Disconnect: _encode_disconnect,
    p.Auth: _encode_auth,
}
