"""All fifteen control packets, written out by hand from chapter 3 of MQTT 5.0 and of MQTT 3.1.1."""

import pytest

from mqttcore.codec import decode, encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)

MQTT = "0004 4d515454"
PAIR, PAIR_BYTES = (("a", "b"),), "26 0001 61 0001 62"
REASON_BYTES = "1f 0001 78"

VECTORS: list[tuple[int, str, Packet]] = [
    # CONNECT
    (V5, f"10 0d {MQTT} 05 02 0000 00 0000", Connect()),
    (V5, f"10 0d {MQTT} 05 00 ffff 00 0000", Connect(clean_start=False, keep_alive=65_535)),
    (V5, f"10 10 {MQTT} 05 42 0000 00 0000 0001 70", Connect(password=b"p")),
    (
        V5,
        f"10 61 {MQTT} 05 f6 003c"
        f"24 11 0000000a 15 0001 6d 16 0002 00ff 17 00 19 01 21 0014 22 000a {PAIR_BYTES} 27 00000100"
        "0003 616263"
        f"1f 01 01 02 00000e10 03 0001 74 08 0001 72 09 0001 63 18 0000001e {PAIR_BYTES}"
        "0001 77 0002 6869 0001 75 0001 70",
        Connect(
            client_id="abc",
            keep_alive=60,
            username="u",
            password=b"p",
            will=Will(
                topic="w",
                payload=b"hi",
                qos=2,
                retain=True,
                will_delay_interval=30,
                payload_format_indicator=1,
                message_expiry_interval=3600,
                content_type="t",
                response_topic="r",
                correlation_data=b"c",
                user_properties=PAIR,
            ),
            session_expiry_interval=10,
            receive_maximum=20,
            maximum_packet_size=256,
            topic_alias_maximum=10,
            request_response_information=True,
            request_problem_information=False,
            authentication_method="m",
            authentication_data=b"\x00\xff",
            user_properties=PAIR,
        ),
    ),
    (V311, f"10 0c {MQTT} 04 02 0000 0000", Connect(protocol_version=4)),
    (
        V311,
        f"10 1c {MQTT} 04 ec 003c 0003 616263 0001 77 0002 6869 0001 75 0001 70",
        Connect(
            client_id="abc",
            clean_start=False,
            keep_alive=60,
            username="u",
            password=b"p",
            will=Will(topic="w", payload=b"hi", qos=1, retain=True),
            protocol_version=4,
        ),
    ),
    # CONNACK
    (V5, "20 03 00 00 00", ConnAck()),
    (V5, "20 03 00 87 00", ConnAck(reason_code=ReasonCode.NOT_AUTHORIZED)),
    (
        V5,
        "20 40 01 00 3d"
        "11 00000078 12 0002 6964 13 003c 15 0001 6d 16 0001 00 1a 0001 72 1c 0001 73"
        f"{REASON_BYTES} 21 0064 22 0005 24 01 25 00 {PAIR_BYTES} 27 00010000 28 01 29 00 2a 01",
        ConnAck(
            session_present=True,
            session_expiry_interval=120,
            receive_maximum=100,
            maximum_qos=1,
            retain_available=False,
            maximum_packet_size=65_536,
            assigned_client_identifier="id",
            topic_alias_maximum=5,
            reason_string="x",
            wildcard_subscription_available=True,
            subscription_identifiers_available=False,
            shared_subscription_available=True,
            server_keep_alive=60,
            response_information="r",
            server_reference="s",
            authentication_method="m",
            authentication_data=b"\0",
            user_properties=PAIR,
        ),
    ),
    (V311, "20 02 00 00", ConnAck()),
    (V311, "20 02 01 00", ConnAck(session_present=True)),
    (V311, "20 02 00 01", ConnAck(reason_code=ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)),
    (V311, "20 02 00 02", ConnAck(reason_code=ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)),
    (V311, "20 02 00 03", ConnAck(reason_code=ReasonCode.SERVER_UNAVAILABLE)),
    (V311, "20 02 00 04", ConnAck(reason_code=ReasonCode.BAD_USER_NAME_OR_PASSWORD)),
    (V311, "20 02 00 05", ConnAck(reason_code=ReasonCode.NOT_AUTHORIZED)),
    # PUBLISH
    (V5, "30 04 0001 61 00", Publish("a")),
    (V5, "31 05 0001 61 00 ff", Publish("a", b"\xff", retain=True)),
    (V5, "32 08 0001 61 0001 00 6869", Publish("a", b"hi", qos=1, packet_id=1)),
    (V5, "30 06 0000 03 23 0001", Publish("", topic_alias=1)),
    (
        V5,
        "3d 34 0003 612f62 000a"
        f"2a 01 01 02 0000000a 03 0001 74 08 0001 72 09 0002 00ff 0b 01 0b 8001 23 0005 {PAIR_BYTES}"
        "26 0001 61 0001 63 6869",
        Publish(
            "a/b",
            b"hi",
            qos=2,
            retain=True,
            dup=True,
            packet_id=10,
            payload_format_indicator=1,
            message_expiry_interval=10,
            topic_alias=5,
            response_topic="r",
            correlation_data=b"\x00\xff",
            content_type="t",
            subscription_identifiers=(1, 128),
            user_properties=(("a", "b"), ("a", "c")),
        ),
    ),
    (V311, "30 03 0001 61", Publish("a")),
    (V311, "32 05 0001 61 ffff", Publish("a", qos=1, packet_id=65_535)),
    (V311, "3d 09 0003 612f62 000a 6869", Publish("a/b", b"hi", qos=2, retain=True, dup=True, packet_id=10)),
    # PUBACK, PUBREC, PUBREL, PUBCOMP
    *(
        row
        for first, packet, code in (
            ("40", PubAck, ReasonCode.NO_MATCHING_SUBSCRIBERS),
            ("50", PubRec, ReasonCode.QUOTA_EXCEEDED),
            ("62", PubRel, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND),
            ("70", PubComp, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND),
        )
        for row in (
            (V5, f"{first} 02 0001", packet(1)),
            (V5, f"{first} 03 ffff {code:02x}", packet(65_535, code)),
            (V5, f"{first} 08 0001 00 04 {REASON_BYTES}", packet(1, reason_string="x")),
            (
                V5,
                f"{first} 0f 000a {code:02x} 0b {REASON_BYTES} {PAIR_BYTES}",
                packet(10, code, reason_string="x", user_properties=PAIR),
            ),
            (V311, f"{first} 02 0001", packet(1)),
        )
    ),
    # SUBSCRIBE
    (V5, "82 07 0001 00 0001 61 00", Subscribe(1, (Subscription("a"),))),
    (
        V5,
        f"82 20 000a 0a 0b 8001 {PAIR_BYTES} 0003 612f2b 2e 000a 2473686172652f672f61 19",
        Subscribe(
            10,
            (
                Subscription("a/+", 2, no_local=True, retain_as_published=True, retain_handling=2),
                Subscription("$share/g/a", 1, retain_as_published=True, retain_handling=1),
            ),
            subscription_identifier=128,
            user_properties=PAIR,
        ),
    ),
    (V311, "82 06 0001 0001 61 00", Subscribe(1, (Subscription("a"),))),
    (
        V311,
        "82 0c 000a 0003 612f2b 02 0001 23 01",
        Subscribe(10, (Subscription("a/+", 2), Subscription("#", 1))),
    ),
    # SUBACK
    (V5, "90 04 0001 00 00", SubAck(1, (ReasonCode.GRANTED_QOS_0,))),
    (
        V5,
        f"90 12 000a 0b {REASON_BYTES} {PAIR_BYTES} 02 01 00 8f",
        SubAck(
            10,
            (
                ReasonCode.GRANTED_QOS_2,
                ReasonCode.GRANTED_QOS_1,
                ReasonCode.GRANTED_QOS_0,
                ReasonCode.TOPIC_FILTER_INVALID,
            ),
            reason_string="x",
            user_properties=PAIR,
        ),
    ),
    (V311, "90 03 0001 00", SubAck(1, (ReasonCode.GRANTED_QOS_0,))),
    (
        V311,
        "90 06 000a 80 02 00 01",
        SubAck(
            10,
            (
                ReasonCode.UNSPECIFIED_ERROR,
                ReasonCode.GRANTED_QOS_2,
                ReasonCode.GRANTED_QOS_0,
                ReasonCode.GRANTED_QOS_1,
            ),
        ),
    ),
    # UNSUBSCRIBE
    (V5, "a2 06 0001 00 0001 61", Unsubscribe(1, ("a",))),
    (
        V5,
        f"a2 12 000a 07 {PAIR_BYTES} 0003 612f2b 0001 23",
        Unsubscribe(10, ("a/+", "#"), user_properties=PAIR),
    ),
    (V311, "a2 05 0001 0001 61", Unsubscribe(1, ("a",))),
    (V311, "a2 0a 000a 0003 612f2b 0001 23", Unsubscribe(10, ("a/+", "#"))),
    # UNSUBACK
    (V5, "b0 04 0001 00 00", UnsubAck(1, (ReasonCode.SUCCESS,))),
    (
        V5,
        f"b0 11 000a 0b {REASON_BYTES} {PAIR_BYTES} 11 00 87",
        UnsubAck(
            10,
            (ReasonCode.NO_SUBSCRIPTION_EXISTED, ReasonCode.SUCCESS, ReasonCode.NOT_AUTHORIZED),
            reason_string="x",
            user_properties=PAIR,
        ),
    ),
    (V311, "b0 02 0001", UnsubAck(1)),
    # PINGREQ, PINGRESP
    (V5, "c0 00", PingReq()),
    (V311, "c0 00", PingReq()),
    (V5, "d0 00", PingResp()),
    (V311, "d0 00", PingResp()),
    # DISCONNECT
    (V5, "e0 00", Disconnect()),
    (V5, "e0 01 04", Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)),
    (V5, "e0 07 00 05 11 00000000", Disconnect(session_expiry_interval=0)),
    (
        V5,
        f"e0 16 9d 14 11 00000078 1c 0001 73 {REASON_BYTES} {PAIR_BYTES}",
        Disconnect(
            ReasonCode.SERVER_MOVED,
            session_expiry_interval=120,
            reason_string="x",
            server_reference="s",
            user_properties=PAIR,
        ),
    ),
    (V311, "e0 00", Disconnect()),
    # AUTH
    (V5, "f0 00", Auth()),
    (V5, "f0 06 18 04 15 0001 6d", Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m")),
    (
        V5,
        f"f0 16 19 14 15 0001 6d 16 0002 00ff {REASON_BYTES} {PAIR_BYTES}",
        Auth(
            ReasonCode.RE_AUTHENTICATE,
            authentication_method="m",
            authentication_data=b"\x00\xff",
            reason_string="x",
            user_properties=PAIR,
        ),
    ),
]


@pytest.mark.conformance("MQTT-2.2.1-2", "MQTT-2.2.2-1", "MQTT-3.1.2-1", "MQTT-3.1.3-1", "MQTT-3.1.3-3", "MQTT-3.3.2-1")
@pytest.mark.parametrize(("version", "hexadecimal", "packet"), VECTORS)
def test_vector(version: int, hexadecimal: str, packet: Packet) -> None:
    data = bytes.fromhex(hexadecimal)
    assert len(data) == 2 + data[1]
    assert decode(data[0], data[2:], version) == packet
    assert encode(packet, version) == data


@pytest.mark.parametrize(
    ("hexadecimal", "packet"),
    [
        # What a sender may leave out, but need not.
        ("40 03 0001 00", PubAck(1)),
        ("50 04 0001 00 00", PubRec(1)),
        ("62 04 0001 92 00", PubRel(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)),
        ("e0 01 00", Disconnect()),
        ("e0 02 00 00", Disconnect()),
        # Properties come in any order.
        (f"e0 0d 00 0b {PAIR_BYTES} {REASON_BYTES}", Disconnect(reason_string="x", user_properties=PAIR)),
        ("30 0a 0000 07 23 0001 0b 02 0b 01", Publish("", topic_alias=1, subscription_identifiers=(2, 1))),
    ],
)
def test_other_encodings_of_the_same_packet(hexadecimal: str, packet: Packet) -> None:
    data = bytes.fromhex(hexadecimal)
    assert len(data) == 2 + data[1]
    assert decode(data[0], data[2:], V5) == packet


def test_the_remaining_length_takes_the_bytes_it_needs() -> None:
    # 2 bytes of length, the topic and the Property Length come before the payload.
    for size, length in ((123, "7f"), (124, "80 01"), (16_379, "ff 7f"), (16_380, "80 80 01")):
        assert encode(Publish("a", bytes(size))).startswith(bytes.fromhex("30" + length + "0001 61 00 00"))


def test_connect_is_encoded_for_its_own_version_and_decoded_by_it() -> None:
    for version, other in ((V5, V311), (V311, V5)):
        packet = Connect(client_id="c", protocol_version=version)
        data = encode(packet, other)
        assert data == encode(packet, version)
        assert decode(data[0], data[2:], other) == packet
