"""What the codec must refuse: each rule of chapter 3 with its reason code, the small ones for every value."""

from typing import Any

import pytest

from mqttcore import codec
from mqttcore import packets as p
from mqttcore.codec import decode, encode
from mqttcore.codes import V5, V311, PacketType, ReasonCode
from mqttcore.errors import LocalProtocolError, MalformedPacket, ProtocolError

MALFORMED = ReasonCode.MALFORMED_PACKET
PROTOCOL_ERROR = ReasonCode.PROTOCOL_ERROR
BAD_NAME = ReasonCode.TOPIC_NAME_INVALID
BAD_FILTER = ReasonCode.TOPIC_FILTER_INVALID
UNSUPPORTED = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
MQTT5, MQTT311 = "0004 4d515454 05", "0004 4d515454 04"


def refusal(first: int, body: bytes, version: int) -> ReasonCode | None:
    """The reason code with which a packet is refused, None if it is accepted."""
    try:
        decode(first, body, version)
    except LocalProtocolError:
        raise
    except ProtocolError as error:
        return error.reason_code
    return None


# Minimal packets, one of each type: first byte and body.
MINIMAL: dict[int, list[tuple[int, str]]] = {
    V5: [
        (0x10, f"{MQTT5} 02 0000 00 0000"), (0x20, "00 00 00"), (0x30, "0001 61 00"), (0x40, "0001"),
        (0x50, "0001"), (0x62, "0001"), (0x70, "0001"), (0x82, "0001 00 0001 61 00"), (0x90, "0001 00 00"),
        (0xA2, "0001 00 0001 61"), (0xB0, "0001 00 00"), (0xC0, ""), (0xD0, ""), (0xE0, ""), (0xF0, ""),
    ],
    V311: [
        (0x10, f"{MQTT311} 02 0000 0000"), (0x20, "00 00"), (0x30, "0001 61"), (0x40, "0001"),
        (0x50, "0001"), (0x62, "0001"), (0x70, "0001"), (0x82, "0001 0001 61 00"), (0x90, "0001 00"),
        (0xA2, "0001 0001 61"), (0xB0, "0001"), (0xC0, ""), (0xD0, ""), (0xE0, ""),
    ],
}  # fmt: skip


@pytest.mark.conformance(
    "MQTT-2.1.3-1",
    "MQTT-3.6.1-1",
    "MQTT-3.8.1-1",
    "MQTT-3.10.1-1",
    "MQTT-3.14.1-1",
    "MQTT-3.15.1-1",
    "MQTT-3.3.1-2",
    "MQTT-3.3.1-4",
)
@pytest.mark.parametrize("version", MINIMAL)
def test_every_first_byte(version: int) -> None:
    bodies = {first >> 4: bytes.fromhex(body) for first, body in MINIMAL[version]}
    allowed = {first for first, _ in MINIMAL[version]} | {0x31}
    for first in set(range(256)) - set(range(0x32, 0x40)):
        expected = None if first in allowed else MALFORMED
        assert refusal(first, bodies.get(first >> 4, b""), version) == expected
    with_packet_id = bodies[3][:3] + b"\0\1" + bodies[3][3:]
    for first in range(0x32, 0x40):
        accepted = first & 0x06 in (0x02, 0x04)
        assert refusal(first, with_packet_id, version) == (None if accepted else MALFORMED)


@pytest.mark.conformance(
    "MQTT-3.1.2-3",
    "MQTT-3.1.2-9",
    "MQTT-3.1.2-11",
    "MQTT-3.1.2-12",
    "MQTT-3.1.2-13",
    "MQTT-3.1.2-16",
    "MQTT-3.1.2-17",
    "MQTT-3.1.2-18",
    "MQTT-3.1.2-19",
    "MQTT-3.1.3-1",
)
@pytest.mark.parametrize("version", MINIMAL)
def test_every_connect_flag(version: int) -> None:
    properties = b"\0" if version == V5 else b""
    for flags in range(256):
        username, password, retain, qos, will, clean = (
            flags >> 7, flags >> 6 & 1, flags >> 5 & 1, flags >> 3 & 3, flags >> 2 & 1, flags >> 1 & 1,
        )  # fmt: skip
        body = bytes.fromhex(MQTT5 if version == V5 else MQTT311) + bytes((flags, 0, 0)) + properties + b"\0\1c"
        if will:
            body += properties + b"\0\1t\0\1m"
        body += b"\0\1u" * username + b"\0\1p" * password
        if flags & 1 or qos == 3 or (not will and (qos or retain)) or (version == V311 and password > username):
            assert refusal(0x10, body, version) == MALFORMED
            continue
        assert decode(0x10, body, version) == p.Connect(
            client_id="c",
            clean_start=clean == 1,
            username="u" if username else None,
            password=b"p" if password else None,
            will=p.Will(topic="t", payload=b"m", qos=qos, retain=retain == 1) if will else None,
            protocol_version=version,
        )
        # A field that its flag does not announce, or the lack of one that it does.
        assert refusal(0x10, body + b"\0\1u", version) == MALFORMED
        for end in range(len(body)):
            assert refusal(0x10, body[:end], version) == MALFORMED


@pytest.mark.conformance("MQTT-3.8.3-5")
@pytest.mark.parametrize("version", MINIMAL)
def test_every_subscription_option(version: int) -> None:
    # the codes of QoS 3 and Retain Handling 3 are in section 3.8.3.1
    start = bytes.fromhex("0001 00 0001 61" if version == V5 else "0001 0001 61")
    for options in range(256):
        found = refusal(0x82, start + bytes((options,)), version)
        if options & (0xC0 if version == V5 else 0xFC):
            assert found == MALFORMED
        elif options & 0x03 == 0x03 or options & 0x30 == 0x30:
            assert found == PROTOCOL_ERROR
        else:
            assert found is None


ACKNOWLEDGEMENT = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
RELEASE = {0x00, 0x92}
FAILURE = ReasonCode.UNSPECIFIED_ERROR
SUCCESS = ReasonCode.SUCCESS

# version, first byte, body around the reason code, and the codes that the packet's section lists
REASON_CODES: list[tuple[int, int, str, str, set[int]]] = [
    (V5, 0x20, "00", "00", {0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F}),
    (V5, 0x40, "0001", "", ACKNOWLEDGEMENT),
    (V5, 0x40, "0001", "00", ACKNOWLEDGEMENT),
    (V5, 0x50, "0001", "", ACKNOWLEDGEMENT),
    (V5, 0x62, "0001", "", RELEASE),
    (V5, 0x70, "0001", "", RELEASE),
    (V5, 0x90, "0001 00 00", "", {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}),
    (V5, 0xB0, "0001 00 00", "", {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}),
    (
        V5, 0xE0, "", "",
        {0, 4, *range(0x80, 0x84), 0x87, 0x89, *range(0x8B, 0x91), *range(0x93, 0xA3)},
    ),
    (V5, 0xF0, "", "04 15 0001 6d", {0x00, 0x18, 0x19}),
    (V311, 0x20, "00", "", {0, 1, 2, 3, 4, 5}),
    (V311, 0x90, "0001 00", "", {0x00, 0x01, 0x02, 0x80}),
]  # fmt: skip


@pytest.mark.conformance(
    "MQTT-3.2.2-8",
    "MQTT-3.4.2-1",
    "MQTT-3.5.2-1",
    "MQTT-3.6.2-1",
    "MQTT-3.7.2-1",
    "MQTT-3.9.3-2",
    "MQTT-3.11.3-2",
    "MQTT-3.14.2-1",
    "MQTT-3.15.2-1",
    "MQTT3-3.9.3-2",
)
@pytest.mark.parametrize(("version", "first", "before", "after", "listed"), REASON_CODES)
def test_every_reason_code(version: int, first: int, before: str, after: str, listed: set[int]) -> None:
    for code in range(256):
        body = bytes.fromhex(before) + bytes((code,)) + bytes.fromhex(after)
        assert refusal(first, body, version) == (None if code in listed else MALFORMED)


PACKETS_WITH_CODES: list[tuple[int, Any]] = [
    (0x20, lambda code: p.ConnAck(reason_code=code)),
    (0x40, lambda code: p.PubAck(1, code)),
    (0x50, lambda code: p.PubRec(1, code)),
    (0x62, lambda code: p.PubRel(1, code)),
    (0x70, lambda code: p.PubComp(1, code)),
    (0x90, lambda code: p.SubAck(1, (SUCCESS, code))),
    (0xB0, lambda code: p.UnsubAck(1, (SUCCESS, code))),
    (0xE0, lambda code: p.Disconnect(code)),
    (0xF0, lambda code: p.Auth(code, authentication_method="m")),
]


@pytest.mark.conformance(
    "MQTT-3.2.2-8",
    "MQTT-3.4.2-1",
    "MQTT-3.5.2-1",
    "MQTT-3.6.2-1",
    "MQTT-3.7.2-1",
    "MQTT-3.9.3-2",
    "MQTT-3.11.3-2",
    "MQTT-3.14.2-1",
    "MQTT-3.15.2-1",
)
@pytest.mark.parametrize(("first", "packet"), PACKETS_WITH_CODES)
def test_no_other_reason_code_is_sent(first: int, packet: Any) -> None:
    listed = next(codes for version, kind, _, _, codes in REASON_CODES if version == V5 and kind == first)
    for code in ReasonCode:
        if code in listed:
            data = encode(packet(code), V5)
            assert decode(data[0], data[2:], V5) == packet(code)
        else:
            name = PacketType(first >> 4).name
            with pytest.raises(LocalProtocolError, match=f"^0x{code:02X} is no reason code of {name}$"):
                encode(packet(code), V5)


def test_the_reason_codes_of_connack_in_3_1_1() -> None:
    # Section 3.2.2.3 of MQTT 3.1.1 has five refusals; what none of them says is "Server unavailable".
    counterparts = {
        ReasonCode.SUCCESS: 0,
        ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
        ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
        ReasonCode.BAD_USER_NAME_OR_PASSWORD: 4,
        ReasonCode.BAD_AUTHENTICATION_METHOD: 5,
        ReasonCode.NOT_AUTHORIZED: 5,
        ReasonCode.BANNED: 5,
    }
    for code in REASON_CODES[0][4]:
        data = encode(p.ConnAck(reason_code=ReasonCode(code)), V311)
        assert data == bytes((0x20, 2, 0, counterparts.get(ReasonCode(code), 3)))


def case(version: int, first: int, body: str, reason_code: ReasonCode, *marks: pytest.MarkDecorator) -> Any:
    return pytest.param(version, first, bytes.fromhex(body), reason_code, marks=marks)


@pytest.mark.parametrize(
    ("version", "first", "body", "reason_code"),
    [
        # CONNECT
        case(V5, 0x10, "0004 4d515454 06 02 0000 00 0000", UNSUPPORTED, pytest.mark.conformance("MQTT-3.1.2-2")),
        case(V5, 0x10, "0004 4d515454 03 02 0000 0000", UNSUPPORTED),
        case(V5, 0x10, "0006 4d5149736470 03 02 0000 0000", UNSUPPORTED, pytest.mark.conformance("MQTT-3.1.2-1")),
        case(V5, 0x10, "0004 6d717474 05 02 0000 00 0000", UNSUPPORTED),
        case(V5, 0x10, "0004 4d515454", MALFORMED),
        case(V5, 0x10, f"{MQTT5} 02 0000 05 16 0002 0000 0000", PROTOCOL_ERROR),  # 3.1.2.11.10
        case(V5, 0x10, f"{MQTT5} 02 0000 00 0001 ff", MALFORMED, pytest.mark.conformance("MQTT-3.1.3-4")),
        case(V5, 0x10, f"{MQTT5} 06 0000 00 0000 00 0001 ff 0000", MALFORMED, pytest.mark.conformance("MQTT-3.1.3-11")),
        case(V5, 0x10, f"{MQTT5} 06 0000 00 0000 00 0001 2b 0000", BAD_NAME, pytest.mark.conformance("MQTT-4.7.0-1")),
        case(V5, 0x10, f"{MQTT5} 06 0000 00 0000 00 0000 0000", BAD_NAME, pytest.mark.conformance("MQTT-4.7.3-1")),
        case(V5, 0x10, f"{MQTT5} 82 0000 00 0000 0001 ff", MALFORMED, pytest.mark.conformance("MQTT-3.1.3-12")),
        case(V5, 0x10, f"{MQTT5} 06 0000 00 0000 05 21 ffff 0000 0001 61 0000", MALFORMED),  # no Will Property
        # CONNACK
        case(V5, 0x20, "02 00 00", MALFORMED, pytest.mark.conformance("MQTT-3.2.2-1")),
        case(V5, 0x20, "01 87 00", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-3.2.2-6")),
        case(V311, 0x20, "01 05", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-3.2.2-6")),
        case(V5, 0x20, "00 00 04 16 0001 00", PROTOCOL_ERROR),
        case(V5, 0x20, "00 00", MALFORMED),
        case(V311, 0x20, "00 00 00", MALFORMED),
        # PUBLISH
        case(V5, 0x30, "0001 23 00", BAD_NAME, pytest.mark.conformance("MQTT-3.3.2-2")),
        case(V311, 0x30, "0003 61 2f 2b", BAD_NAME, pytest.mark.conformance("MQTT-3.3.2-2")),
        case(V311, 0x30, "0000", BAD_NAME, pytest.mark.conformance("MQTT-4.7.3-1")),
        case(V5, 0x30, "0000 00", PROTOCOL_ERROR),  # 3.3.2.1
        case(V5, 0x30, "0001 80 00", MALFORMED, pytest.mark.conformance("MQTT-3.3.2-1")),
        case(V5, 0x30, "0003 610062 00", MALFORMED, pytest.mark.conformance("MQTT-4.7.3-2")),
        case(V5, 0x32, "0001 61 0000 00", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-2.2.1-3")),
        case(V5, 0x32, "0001 61 00", MALFORMED),
        case(V5, 0x30, "0001 61 03 23 0000", ReasonCode.TOPIC_ALIAS_INVALID, pytest.mark.conformance("MQTT-3.3.2-8")),
        # PUBACK, PUBREC, PUBREL, PUBCOMP
        case(V5, 0x40, "0000", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-2.2.1-3")),
        case(V5, 0x50, "00", MALFORMED),
        case(V5, 0x62, "0001 00 00 00", MALFORMED),
        case(V5, 0x62, "0001 00 01", MALFORMED),
        case(V311, 0x70, "0001 00", MALFORMED),
        # SUBSCRIBE
        case(V5, 0x82, "0000 00 0001 61 00", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-2.2.1-3")),
        case(V5, 0x82, "0001 00", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-3.8.3-2")),
        case(V311, 0x82, "0001", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-3.8.3-2")),
        case(V5, 0x82, "0001 00 0001 61", MALFORMED),
        case(V5, 0x82, "0001 00 0001 ff 00", MALFORMED, pytest.mark.conformance("MQTT-3.8.3-1")),
        case(V5, 0x82, "0001 00 0002 6123 00", BAD_FILTER, pytest.mark.conformance("MQTT-4.7.1-1")),
        case(V5, 0x82, "0001 00 0002 612b 00", BAD_FILTER, pytest.mark.conformance("MQTT-4.7.1-2")),
        case(V5, 0x82, "0001 00 0000 00", BAD_FILTER, pytest.mark.conformance("MQTT-4.7.3-1")),
        case(V5, 0x82, "0001 00 0008 2473686172652f67 00", BAD_FILTER, pytest.mark.conformance("MQTT-4.8.2-2")),
        case(V5, 0x82, "0001 00 000a 2473686172652f672f61 04", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-3.8.3-4")),
        case(V5, 0x82, "0001 02 0b 00 0001 61 00", PROTOCOL_ERROR),  # 3.8.2.1.2
        # SUBACK, UNSUBACK
        case(V5, 0x90, "0001 00", PROTOCOL_ERROR),
        case(V5, 0xB0, "0001 00", PROTOCOL_ERROR),
        case(V311, 0x90, "0001", PROTOCOL_ERROR),
        case(V311, 0xB0, "0001 00", MALFORMED),
        # UNSUBSCRIBE
        case(V5, 0xA2, "0001 00", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-3.10.3-2")),
        case(V311, 0xA2, "0001", PROTOCOL_ERROR, pytest.mark.conformance("MQTT-3.10.3-2")),
        case(V5, 0xA2, "0001 00 0001 c0", MALFORMED, pytest.mark.conformance("MQTT-3.10.3-1")),
        case(V5, 0xA2, "0001 00 0001 61 0002 2b2b", BAD_FILTER, pytest.mark.conformance("MQTT-4.7.1-2")),
        # PINGREQ, PINGRESP, DISCONNECT, AUTH
        case(V5, 0xC0, "00", MALFORMED),
        case(V311, 0xD0, "00", MALFORMED),
        case(V311, 0xE0, "00", MALFORMED),
        case(V5, 0xE0, "00 00 00", MALFORMED),
        case(V5, 0xE0, "00 01", MALFORMED),
        case(V5, 0xF0, "18", MALFORMED),
        case(V5, 0xF0, "18 00", PROTOCOL_ERROR),  # 3.15.2.2.2: no Authentication Method
        case(V311, 0xF0, "", MALFORMED),
    ],
)
def test_refused(version: int, first: int, body: bytes, reason_code: ReasonCode) -> None:
    assert refusal(first, body, version) == reason_code
    if reason_code is MALFORMED:
        with pytest.raises(MalformedPacket):
            decode(first, body, version)


SHARED = p.Subscription("$share/g/a", no_local=True)


@pytest.mark.parametrize("version", [V5, V311])
@pytest.mark.parametrize(
    "packet",
    [
        p.Connect(protocol_version=3),
        p.Connect(keep_alive=65_536),
        p.Connect(authentication_data=b""),
        p.Connect(client_id="\0"),
        p.Connect(password=b"p", protocol_version=4),
        pytest.param(p.Connect(will=p.Will(topic="a", qos=3)), marks=pytest.mark.conformance("MQTT-3.1.2-12")),
        pytest.param(p.Connect(will=p.Will(topic="a/#")), marks=pytest.mark.conformance("MQTT-4.7.0-1")),
        pytest.param(
            p.ConnAck(reason_code=FAILURE, session_present=True), marks=pytest.mark.conformance("MQTT-3.2.2-6")
        ),
        pytest.param(p.ConnAck(reason_code=ReasonCode.GRANTED_QOS_1), marks=pytest.mark.conformance("MQTT-3.2.2-8")),
        p.ConnAck(authentication_data=b""),
        pytest.param(p.Publish(""), marks=pytest.mark.conformance("MQTT-4.7.3-1")),
        pytest.param(p.Publish("+"), marks=pytest.mark.conformance("MQTT-3.3.2-2")),
        pytest.param(p.Publish("a\0"), marks=pytest.mark.conformance("MQTT-4.7.3-2")),
        pytest.param(p.Publish("a" * 65_536), marks=pytest.mark.conformance("MQTT-4.7.3-3")),
        pytest.param(p.Publish("a", qos=3, packet_id=1), marks=pytest.mark.conformance("MQTT-3.3.1-4")),
        pytest.param(p.Publish("a", dup=True), marks=pytest.mark.conformance("MQTT-3.3.1-2")),
        pytest.param(p.Publish("a", packet_id=1), marks=pytest.mark.conformance("MQTT-2.2.1-2")),
        pytest.param(p.Publish("a", qos=1), marks=pytest.mark.conformance("MQTT-2.2.1-3")),
        pytest.param(p.Publish("a", qos=1, packet_id=0), marks=pytest.mark.conformance("MQTT-2.2.1-3")),
        p.Publish("a", qos=2, packet_id=65_536),
        pytest.param(p.PubAck(0), marks=pytest.mark.conformance("MQTT-2.2.1-3")),
        p.PubRel(-1),
        pytest.param(p.Subscribe(0, (p.Subscription("a"),)), marks=pytest.mark.conformance("MQTT-2.2.1-3")),
        pytest.param(p.Subscribe(1, ()), marks=pytest.mark.conformance("MQTT-3.8.3-2")),
        p.Subscribe(1, (p.Subscription("a", 3),)),
        p.Subscribe(1, (p.Subscription("a", retain_handling=3),)),
        pytest.param(p.Subscribe(1, (p.Subscription("a#"),)), marks=pytest.mark.conformance("MQTT-4.7.1-1")),
        pytest.param(p.Subscribe(1, (SHARED,)), marks=pytest.mark.conformance("MQTT-3.8.3-4")),
        pytest.param(p.SubAck(1, ()), marks=pytest.mark.conformance("MQTT-3.9.3-2")),
        pytest.param(p.SubAck(1, (ReasonCode.NO_SUBSCRIPTION_EXISTED,)), marks=pytest.mark.conformance("MQTT-3.9.3-2")),
        pytest.param(p.Unsubscribe(1, ()), marks=pytest.mark.conformance("MQTT-3.10.3-2")),
        pytest.param(p.Unsubscribe(1, ("",)), marks=pytest.mark.conformance("MQTT-4.7.3-1")),
    ],
)
def test_not_sent(packet: p.Packet, version: int) -> None:
    with pytest.raises(LocalProtocolError):
        encode(packet, version)


@pytest.mark.parametrize(
    ("packet", "version"),
    [
        pytest.param(p.UnsubAck(1, ()), V5, marks=pytest.mark.conformance("MQTT-3.11.3-2")),
        (p.Auth(ReasonCode.CONTINUE_AUTHENTICATION), V5),
        (p.Auth(reason_string="x"), V5),
        (p.Auth(), V311),
        (p.Publish("", topic_alias=1), V311),
        pytest.param(p.Publish("", topic_alias=0), V5, marks=pytest.mark.conformance("MQTT-3.3.2-8")),
    ],
)
def test_not_sent_in_one_version(packet: p.Packet, version: int) -> None:
    with pytest.raises(LocalProtocolError):
        encode(packet, version)


NO_METHOD = "Authentication Data stands without an Authentication Method"


@pytest.mark.parametrize(
    ("version", "first", "body", "message"),
    [
        (V5, 0x00, "", "there is no control packet type 0"),
        (V311, 0xF0, "", "there is no control packet type 15"),
        (V5, 0x61, "0001", "the reserved flags of PUBREL are wrong"),
        (V5, 0xC0, "00", "the packet goes on after its last field"),
        (V5, 0x10, "0004 4d515454", "CONNECT ends inside its variable header"),
        (V5, 0x10, f"{MQTT5} 02 00", "CONNECT ends inside its variable header"),
        (V5, 0x10, "0004 4d515454 06 02 0000 00 0000", "the protocol is neither MQTT 5.0 nor MQTT 3.1.1"),
        (V5, 0x10, f"{MQTT5} 03 0000 00 0000", "the reserved connect flag is set"),
        (V5, 0x10, f"{MQTT5} 1e 0000 00 0000", "Will QoS 3 does not exist"),
        (V5, 0x10, f"{MQTT5} 0a 0000 00 0000", "Will QoS or Will Retain is set without a Will"),
        (V311, 0x10, f"{MQTT311} 42 0000 0000 0000", "MQTT 3.1.1 has no password without a user name"),
        (V5, 0x10, f"{MQTT5} 02 0000 05 16 0002 0000 0000", NO_METHOD),
        (V5, 0x20, "02 00 00", "the reserved CONNACK flags are set"),
        (V5, 0x20, "00 00 04 16 0001 00", NO_METHOD),
        (V5, 0x20, "01 87 00", "a refusing CONNACK says that a session is present"),
        (V5, 0x36, "0001 61 0001 00", "QoS 3 does not exist"),
        (V5, 0x38, "0001 61 00", "DUP is set on a PUBLISH with QoS 0"),
        (V5, 0x30, "0000 00", "PUBLISH has neither a Topic Name nor a Topic Alias"),
        (V5, 0x32, "0001 61 0000 00", "packet identifier 0 is not permitted"),
        (V5, 0x82, "0001 00", "SUBSCRIBE has no Topic Filter"),
        (V5, 0x82, "0001 00 0001 61 40", "reserved subscription options are set"),
        (V5, 0x82, "0001 00 0001 61 03", "QoS 3 does not exist"),
        (V5, 0x82, "0001 00 0001 61 30", "Retain Handling 3 does not exist"),
        (V5, 0x82, "0001 00 000a 2473686172652f672f61 04", "No Local is set on a shared subscription"),
        (V5, 0x90, "0001 00", "SUBACK has no reason code"),
        (V5, 0xB0, "0001 00", "UNSUBACK has no reason code"),
        (V5, 0xA2, "0001 00", "UNSUBSCRIBE has no Topic Filter"),
        (V5, 0xF0, "18 00", "AUTH has no Authentication Method"),
        (V311, 0x20, "00 06", "0x06 is no reason code of CONNACK"),
        *(
            (V5, first, f"{before} 03 {after}", f"0x03 is no reason code of {PacketType(first >> 4).name}")
            for version, first, before, after, _ in REASON_CODES
            if version == V5
        ),
    ],
)
def test_a_refusal_says_why(version: int, first: int, body: str, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(first, bytes.fromhex(body), version)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("packet", "version", "message"),
    [
        (p.Connect(protocol_version=3), V5, "there is no protocol version 3 here; use 4 (MQTT 3.1.1) or 5"),
        (p.Connect(authentication_data=b""), V5, "Authentication Data needs an Authentication Method"),
        (p.Connect(password=b"p", protocol_version=4), V311, "MQTT 3.1.1 has no password without a user name"),
        (p.Connect(will=p.Will(topic="a", qos=3)), V5, "there is no Will QoS 3"),
        (
            p.ConnAck(reason_code=FAILURE, session_present=True), V5,
            "a refusing CONNACK cannot say that a session is present",
        ),
        (p.ConnAck(authentication_data=b""), V5, "Authentication Data needs an Authentication Method"),
        (p.Publish("a", qos=3, packet_id=1), V5, "there is no QoS 3"),
        (p.Publish("a", dup=True), V5, "DUP does not go with QoS 0"),
        (p.Publish("a", packet_id=1), V5, "a PUBLISH with QoS 0 has no packet identifier"),
        (p.Publish("+"), V5, "a Topic Name must not contain wildcards"),
        (p.PubAck(0), V5, "a packet identifier is a number from 1 to 65,535"),
        (p.Subscribe(1, ()), V5, "SUBSCRIBE needs at least one Topic Filter"),
        (p.Subscribe(1, (p.Subscription("a", 3),)), V5, "QoS and Retain Handling are 0, 1 or 2"),
        (p.Subscribe(1, (SHARED,)), V5, "No Local does not go with a shared subscription"),
        (p.SubAck(1, ()), V5, "SUBACK needs a reason code for each Topic Filter"),
        (p.UnsubAck(1, ()), V5, "UNSUBACK needs a reason code for each Topic Filter"),
        (p.Unsubscribe(1, ()), V5, "UNSUBSCRIBE needs at least one Topic Filter"),
        (p.Auth(), V311, "MQTT 3.1.1 has no AUTH packet"),
        (p.Auth(ReasonCode.CONTINUE_AUTHENTICATION), V5, "AUTH needs an Authentication Method"),
    ],
)  # fmt: skip
def test_what_is_not_sent_says_why(packet: p.Packet, version: int, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode(packet, version)
    assert str(caught.value) == message


def test_the_protocol_of_a_connect_is_told_as_soon_as_it_is_there() -> None:
    for name in (b"", b"MQIsdp", b"x" * 258):
        field = len(name).to_bytes(2, "big") + name
        body = field + b"\3\2"
        assert {codec.read_protocol(body[:end]) for end in range(len(field) + 1)} == {None}
        assert codec.read_protocol(body[:-1]) == codec.read_protocol(body) == (field, 3)


def test_no_packet_type_is_forgotten() -> None:
    assert {first >> 4 for first, _ in MINIMAL[V5]} == set(PacketType)
    assert {first >> 4 for first, _ in MINIMAL[V311]} == set(PacketType) - {PacketType.AUTH}
