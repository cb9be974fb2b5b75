"""What holds for all packets and all bytes: round trips, refusals, and that encoder and decoder agree."""

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.codec import decode, encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.errors import LocalProtocolError, ProtocolError
from mqttcore.properties import PROPERTIES
from mqttcore.testing.malformed import encoded, malformed_packets
from mqttcore.testing.strategies import auths, packets, unchecked_packets

T = TypeVar("T")
PROPERTY_NAMES = {row.name for row in PROPERTIES}

V311_CONNACK = {
    ReasonCode.SUCCESS: ReasonCode.SUCCESS,
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    ReasonCode.BAD_AUTHENTICATION_METHOD: ReasonCode.NOT_AUTHORIZED,
    ReasonCode.NOT_AUTHORIZED: ReasonCode.NOT_AUTHORIZED,
    ReasonCode.BANNED: ReasonCode.NOT_AUTHORIZED,
}


def in_either_version(values: Callable[[int], st.SearchStrategy[T]]) -> st.SearchStrategy[tuple[int, T]]:
    """(protocol version, value) with the values that are drawn for that version."""
    return st.one_of([st.tuples(st.just(version), values(version)) for version in (V5, V311)])


def in_v311(packet: p.Packet) -> p.Packet:
    """What is left of an MQTT 5.0 packet that is sent to a peer that speaks MQTT 3.1.1."""
    fields = attrs.fields_dict(type(packet))
    absent: dict[str, Any] = {name: fields[name].default for name in PROPERTY_NAMES & fields.keys()}
    packet = attrs.evolve(packet, **absent)
    match packet:
        case p.Connect(will=p.Will() as will):
            bare = p.Will(topic=will.topic, payload=will.payload, qos=will.qos, retain=will.retain)
            return attrs.evolve(packet, will=bare)
        case p.ConnAck():
            code = V311_CONNACK.get(packet.reason_code, ReasonCode.SERVER_UNAVAILABLE)
            return attrs.evolve(packet, reason_code=code)
        case p.PubAck() | p.PubRec() | p.PubRel() | p.PubComp() | p.Disconnect():
            return attrs.evolve(packet, reason_code=ReasonCode.SUCCESS)
        case p.Subscribe():
            bare_items = tuple(p.Subscription(item.topic_filter, item.qos) for item in packet.subscriptions)
            return attrs.evolve(packet, subscriptions=bare_items)
        case p.SubAck():
            codes = tuple(ReasonCode(min(code, 0x80)) for code in packet.reason_codes)
            return attrs.evolve(packet, reason_codes=codes)
        case p.UnsubAck():
            return attrs.evolve(packet, reason_codes=())
    return packet


def as_sent(packet: p.Packet, version: int) -> p.Packet:
    """`packet` as the peer finds it."""
    if isinstance(packet, p.Connect):
        version = packet.protocol_version
    return packet if version == V5 else in_v311(packet)


def packet_from(data: bytes, version: int) -> p.Packet:
    """The packet in `data`, whose Remaining Length is read here once more."""
    length, size = 0, 0
    for size, byte in enumerate(data[1:5], 1):
        length |= (byte & 0x7F) << 7 * (size - 1)
        if byte < 0x80:
            break
    assert len(data) == 1 + size + length
    return decode(data[0], data[1 + size :], version)


@given(in_either_version(packets))
@settings(deadline=None, max_examples=600)
def test_a_valid_packet_comes_back_as_it_was(drawn: tuple[int, p.Packet]) -> None:
    version, packet = drawn
    assert packet_from(encode(packet, version), version) == packet


@given(st.sampled_from([V5, V311]), unchecked_packets())
@settings(deadline=None, max_examples=800)
def test_whatever_is_encoded_is_accepted_and_nothing_but_local_protocol_error_is_raised(
    version: int, packet: p.Packet
) -> None:
    try:
        data = encode(packet, version)
    except LocalProtocolError:
        return
    assert packet_from(data, version) == as_sent(packet, version)


@given(packets(V5).filter(lambda packet: not isinstance(packet, p.Connect | p.Auth)))
@settings(deadline=None, max_examples=300)
def test_what_3_1_1_cannot_carry_is_left_out(packet: p.Packet) -> None:
    if isinstance(packet, p.Publish) and not packet.topic:
        packet = attrs.evolve(packet, topic="a")  # 3.1.1 has no Topic Alias to send instead
    assert packet_from(encode(packet, V311), V311) == in_v311(packet)


@given(auths())
@settings(deadline=None, max_examples=10)
def test_3_1_1_has_no_auth(packet: p.Auth) -> None:
    with pytest.raises(LocalProtocolError):
        encode(packet, V311)
    with pytest.raises(ProtocolError):
        decode(*encoded(packet, V5), V311)


@given(in_either_version(malformed_packets))
@settings(deadline=None, max_examples=1000)
def test_a_malformed_packet_is_refused(drawn: tuple[int, tuple[int, bytes]]) -> None:
    version, (first, body) = drawn
    with pytest.raises(ProtocolError) as caught:
        decode(first, body, version)
    assert caught.value.reason_code.is_failure


@st.composite
def almost_packets(draw: st.DrawFn, version: int) -> tuple[int, bytes]:
    """Any bytes, or a valid encoding with some bytes replaced, cut out or put in; it may be valid still."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.integers(0, 255)), draw(st.binary(max_size=40))
    first, body = encoded(draw(packets(version)), version)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 2)))
        body = body[:start] + draw(st.binary(max_size=2)) + body[end:]
    return draw(st.just(first) | st.integers(0, 255)), body


@given(in_either_version(almost_packets))
@settings(deadline=None, max_examples=1200)
def test_any_bytes_give_a_packet_that_can_be_sent_on_or_a_refusal(
    drawn: tuple[int, tuple[int, bytes]],
) -> None:
    version, (first, body) = drawn
    try:
        packet = decode(first, body, version)
    except ProtocolError as error:
        refusal = error
    else:
        assert packet_from(encode(packet, version), version) == packet
        return
    assert not isinstance(refusal, LocalProtocolError)
    assert refusal.reason_code.is_failure


def test_secrets_are_not_in_the_repr() -> None:
    connect = p.Connect(password=b"sesame", authentication_method="m", authentication_data=b"sesame")
    auth = p.Auth(authentication_method="m", authentication_data=b"sesame")
    connack = p.ConnAck(authentication_method="m", authentication_data=b"sesame")
    for packet in (connect, auth, connack):
        assert "sesame" not in repr(packet)
        assert "sesame" in repr(attrs.asdict(packet))
