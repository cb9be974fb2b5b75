"""A connection in the server's role: CONNECT and its refusals, authentication, errors, and that nothing breaks it."""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.codec import encode, frame
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError, PacketTooLarge, ProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.states import SERVER, Phase
from mqttcore.testing import strategies
from tests.mqttcore.support import Hostile, converse, events, sent, server, server_with, streams, tell

METHOD = p.Connect(authentication_method="m")


def continue_with(data: bytes | None = None, method: str = "m") -> p.Auth:
    return p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method=method, authentication_data=data)


def fed(data: bytes, limits: Limits | None = None) -> tuple[ConnectionClosed, bytes]:
    """How a connection ends that receives `data` first, and what it says."""
    connection = Connection(SERVER, limits or Limits(), 0.0)
    connection.receive(data, 0.0)
    [closed] = events(connection)
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "us"
    return closed, connection.take_output()


def connect_body(name: bytes, level: int, rest: bytes = b"\x02\x00\x00\x00\x00\x00") -> bytes:
    return len(name).to_bytes(2, "big") + name + bytes((level,)) + rest


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.conformance("MQTT-3.1.0-1")
@pytest.mark.parametrize("first", [first for first in range(256) if first >> 4 != 1])
def test_what_does_not_begin_with_connect_is_closed_at_its_first_byte(first: int) -> None:
    closed, output = fed(bytes((first,)))
    assert (closed.reason_code, output) == (ReasonCode.PROTOCOL_ERROR, b"")


V311_UNACCEPTABLE = bytes.fromhex("20 02 00 01")


@pytest.mark.conformance("MQTT-3.1.2-1", "MQTT-3.1.2-2")
@pytest.mark.parametrize(
    ("name", "level", "answer"),
    [
        (b"MQTT", 6, "v5"),
        (b"MQTT", 0x85, "v5"),
        (b"MQTT", 255, "v5"),
        (b"MQTT", 3, "v3"),
        (b"MQTT", 0, "v3"),
        (b"MQIsdp", 3, "v3"),
        (b"MQIsdp", 4, "nothing"),
        (b"MQIsdp", 5, "nothing"),
        (b"mqtt", 5, "nothing"),
        (b"MQTTX", 5, "nothing"),
        (b"HTTP", 4, "nothing"),
        (b"MQTT", 127, "v5"),
        (b"", 5, "nothing"),
    ],
)
@pytest.mark.parametrize("first", [0x10, 0x11])
def test_unknown_protocols(first: int, name: bytes, level: int, answer: str) -> None:
    closed, output = fed(frame(first, connect_body(name, level)))
    code = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION if first == 0x10 else ReasonCode.MALFORMED_PACKET
    assert closed.reason_code is code
    if answer == "v5":
        assert (output[0], output[2:4]) == (0x20, bytes((0, code)))
    else:
        assert output == (V311_UNACCEPTABLE if answer == "v3" else b"")


@pytest.mark.conformance("MQTT-3.1.4-1", "MQTT-3.2.2-7")
@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(
            connect_body(b"MQTT", 5, b"\x03\x00\x00\x00\x00\x00"),
            ReasonCode.MALFORMED_PACKET,
            marks=pytest.mark.conformance("MQTT-3.1.2-3"),
        ),
        (connect_body(b"MQTT", 5, b"\x02\x00\x00\x00\x00"), ReasonCode.MALFORMED_PACKET),
        (connect_body(b"MQTT", 5, b"\x02\x00\x00\x03\x21\x00\x00\x00\x00"), ReasonCode.PROTOCOL_ERROR),
        (connect_body(b"MQTT", 5, b"\x06\x00\x00\x00\x00\x00\x00\x00\x01+\x00\x00"), ReasonCode.TOPIC_NAME_INVALID),
    ],
)
def test_a_bad_connect_of_version_5_is_told_what_is_bad(body: bytes, code: ReasonCode) -> None:
    closed, output = fed(frame(0x10, body))
    assert closed.reason_code is code
    assert (output[0], output[2:4]) == (0x20, bytes((0, code)))


@pytest.mark.parametrize(
    "data",
    [
        frame(0x10, connect_body(b"MQTT", 4, b"\x03\x00\x00\x00\x00")),
        frame(0x10, connect_body(b"MQTT", 4, b"\x02\x00\x00\x00")),
        frame(0x10, connect_body(b"MQTT", 4, b"\x40\x00\x00\x00\x00\x00\x00")),
        frame(0x11, connect_body(b"MQTT", 4, b"\x02\x00\x00\x00\x00")),
        b"\x10\xff\xff\xff\xff\x01",
        b"\x10\x80\x00",
        frame(0x10, b""),
        frame(0x10, b"\x00\x04MQTT"),
    ],
)
def test_what_has_no_answer_is_closed_in_silence(data: bytes) -> None:
    closed, output = fed(data)
    assert (closed.reason_code, output) == (ReasonCode.MALFORMED_PACKET, b"")


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (connect_body(b"MQTT", 5), b"\x00\x95"),
        (connect_body(b"MQTT", 77), b"\x00\x95"),
        (connect_body(b"MQTT", 4), b""),  # MQTT 3.1.1 has no code for it
        (connect_body(b"MQTT", 3), b"\x00\x01"),
        (connect_body(b"MQIsdp", 3), b"\x00\x01"),
        (connect_body(b"HTTP", 5), b""),
    ],
)
@pytest.mark.parametrize("size", [1000, 100_000_000])
def test_a_connect_that_is_too_large_is_refused_by_its_beginning(body: bytes, output: bytes, size: int) -> None:
    header = frame(0x10, bytes(1000))[:3] if size == 1000 else b"\x10\x80\xc2\xd7\x2f"
    closed, said = fed(header + body[:9], Limits(maximum_connect_size=128))
    assert closed.reason_code is ReasonCode.PACKET_TOO_LARGE
    assert said[2:4] == output


def test_no_later_packet_is_taken_for_a_connect_that_is_too_large() -> None:
    connection = server_with(METHOD, Limits(maximum_connect_size=128))
    connection.send(continue_with(), 0.0)
    connection.take_output()
    connection.receive(b"\xf0\xff\x7f", 0.0)
    assert len(events(connection)) == 1
    [refusal] = sent(connection)
    assert isinstance(refusal, p.ConnAck)
    assert refusal.reason_code is ReasonCode.PACKET_TOO_LARGE
    assert connection.version == V5


@pytest.mark.conformance("MQTT-3.1.0-2")
@pytest.mark.parametrize("version", [V311, V5])
def test_a_second_connect(version: int) -> None:
    connection = server(p.Connect(protocol_version=version))
    [closed] = tell(connection, p.Connect(protocol_version=version), p.PingReq())
    assert isinstance(closed, ConnectionClosed)
    assert closed.reason_code is ReasonCode.PROTOCOL_ERROR
    assert [type(packet) for packet in sent(connection)] == ([p.Disconnect] if version == V5 else [])


@pytest.mark.conformance("MQTT-3.1.4-6", "MQTT-3.2.2-7")
@pytest.mark.parametrize("version", [V311, V5])
def test_a_refused_client_is_not_listened_to(version: int) -> None:
    connection = server_with(p.Connect(protocol_version=version))
    connection.receive(encode(p.Publish("t")), 0.0)
    connection.send(p.ConnAck(reason_code=ReasonCode.NOT_AUTHORIZED), 0.0)
    connection.receive(encode(p.Publish("t")), 0.0)
    closed, *rest = events(connection)
    assert isinstance(closed, ConnectionClosed)
    assert (closed.reason_code, closed.by, rest) == (ReasonCode.NOT_AUTHORIZED, "us", [])
    expected = bytes.fromhex("2003008700" if version == V5 else "20020005")
    assert connection.take_output() == expected


@pytest.mark.parametrize("name", ["server_busy", "payload_format_invalid", "quota_exceeded", "use_another_server"])
def test_mqtt_3_1_1_is_refused_with_a_return_code_of_its_own(name: str) -> None:
    connection = server_with(p.Connect(protocol_version=V311))
    connection.send(p.ConnAck(reason_code=ReasonCode[name.upper()]), 0.0)
    assert connection.take_output() == bytes.fromhex("20020003")


@pytest.mark.conformance("MQTT-3.2.0-2")
def test_only_one_connack() -> None:
    connection = server()
    for packet in (p.ConnAck(), p.ConnAck(reason_code=ReasonCode.BANNED)):
        with pytest.raises(LocalProtocolError):
            connection.send(packet, 0.0)


@pytest.mark.conformance("MQTT-4.12.0-5", "MQTT-4.12.0-6")
@pytest.mark.parametrize("connect", [p.Connect(), METHOD])
def test_connack_names_the_method_of_the_connect(connect: p.Connect) -> None:
    connection = server_with(connect)
    for method in ({None, "m", "other"}) - {connect.authentication_method}:
        with pytest.raises(LocalProtocolError):
            connection.send(p.ConnAck(authentication_method=method), 0.0)
    assert connection.take_output() == b""
    connection.send(p.ConnAck(authentication_method=connect.authentication_method), 0.0)
    assert connection.connected


# ---------------------------------------------------------------------------------------- before the verdict


def test_what_comes_before_connack_waits_for_it() -> None:
    connection = server_with(p.Connect())
    assert connection.paused
    early: list[p.Packet] = [p.Subscribe(1, (p.Subscription("t"),)), p.Publish("t"), p.Disconnect()]
    assert tell(connection, *early) == []
    connection.send(p.ConnAck(), 0.0)
    assert not connection.paused
    assert events(connection)[:-1] == early


@given(data=st.data(), size=st.integers(0, 2000))
@settings(max_examples=30)
def test_early_data_has_a_bound_whatever_the_chunks(data: st.DataObject, size: int) -> None:
    stream = encode(p.Connect()) + encode(p.Publish("t", bytes(size)))
    early = len(stream) - len(encode(p.Connect()))
    connection = Connection(SERVER, Limits(maximum_early_data=1024), 0.0)
    found = []
    for chunk in data.draw(strategies.chunks(stream)):
        connection.receive(chunk, 0.0)
        found += events(connection)
    assert found[0] == p.Connect()
    assert len(found) == (2 if early > 1024 else 1)
    for closed in found[1:]:
        assert isinstance(closed, ConnectionClosed)
        assert closed.reason_code is ReasonCode.QUOTA_EXCEEDED
    assert [type(packet) for packet in sent(connection)] == [p.ConnAck] * (early > 1024)


def test_a_client_that_leaves_before_the_verdict() -> None:
    connection = server_with(p.Connect())
    connection.receive_eof(1.0)
    [closed] = events(connection)
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "eof"


# --------------------------------------------------------------------------------------------- authentication


@pytest.mark.conformance("MQTT-4.12.0-2")
def test_enhanced_authentication() -> None:
    connection = server_with(METHOD)
    for data in (b"1", b"2"):
        connection.send(continue_with(data), 0.0)
        assert connection.take_output() == encode(continue_with(data))
        assert not connection.paused
        assert tell(connection, continue_with(b"answer")) == [continue_with(b"answer")]
        assert connection.paused
    connection.send(p.ConnAck(authentication_method="m"), 0.0)
    assert connection.phase is Phase.CONNECTED_WITH_METHOD


@pytest.mark.conformance("MQTT-4.12.0-4", "MQTT-4.12.0-5")
@pytest.mark.parametrize(
    "packet", [continue_with(method="other"), p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m")]
)
def test_a_wrong_answer_to_a_challenge_is_refused_with_connack(packet: p.Auth) -> None:
    connection = server_with(METHOD)
    connection.send(continue_with(), 0.0)
    connection.take_output()
    [closed] = tell(connection, packet)
    assert isinstance(closed, ConnectionClosed)
    [refusal] = sent(connection)
    assert isinstance(refusal, p.ConnAck)
    assert refusal.reason_code is closed.reason_code is ReasonCode.PROTOCOL_ERROR


@pytest.mark.conformance("MQTT-4.12.0-5")
def test_auth_of_the_servers_own_names_the_method() -> None:
    connection = server_with(METHOD)
    for method in (None, "other"):
        with pytest.raises(LocalProtocolError):
            connection.send(p.Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method=method), 0.0)
    assert connection.take_output() == b""


def test_traffic_flows_during_re_authentication() -> None:
    connection = server(METHOD)
    reauthenticate = p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m")
    publish = p.Publish("t", qos=1, packet_id=1)
    assert tell(connection, reauthenticate, publish) == [reauthenticate, publish]
    connection.send(p.PubAck(1), 0.0)
    connection.send(continue_with(b"?"), 0.0)
    connection.send(p.Publish("t"), 0.0)
    assert tell(connection, p.PingReq(), continue_with(b"!")) == [p.PingReq(), continue_with(b"!")]
    connection.send(p.PingResp(), 0.0)
    connection.send(p.Auth(authentication_method="m"), 0.0)
    assert [type(packet) for packet in sent(connection)] == [p.PubAck, p.Auth, p.Publish, p.PingResp, p.Auth]
    assert connection.phase is Phase.CONNECTED_WITH_METHOD


@pytest.mark.conformance("MQTT-4.12.0-7", "MQTT-4.12.1-1", "MQTT-4.12.1-2")
@pytest.mark.parametrize("connect", [p.Connect(), METHOD])
def test_re_authentication_out_of_place(connect: p.Connect) -> None:
    method = connect.authentication_method
    wrong = p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="other" if method else "m")
    connection = server(connect)
    assert len(tell(connection, wrong)) == 1
    [word] = sent(connection)
    assert isinstance(word, p.Disconnect)
    assert word.reason_code is ReasonCode.PROTOCOL_ERROR


# ----------------------------------------------------------------------------------------------- last words


BAD = [
    (b"\x30\xff\xff\xff\xff\x7f", ReasonCode.MALFORMED_PACKET),
    (b"\x36\x05\x00\x01t\x00\x01", ReasonCode.MALFORMED_PACKET),
    (b"\xe1\x00", ReasonCode.MALFORMED_PACKET),
    (b"\x60\x02\x00\x01", ReasonCode.MALFORMED_PACKET),
    (b"\x80\x06\x00\x01\x00\x01t\x00", ReasonCode.MALFORMED_PACKET),
    (b"\xa0\x05\x00\x01\x00\x01t", ReasonCode.MALFORMED_PACKET),
    (b"\xf1\x00", ReasonCode.MALFORMED_PACKET),
    (b"\x32\x06\x00\x01t\x00\x00\x00", ReasonCode.PROTOCOL_ERROR),
    (b"\x30\x04\x00\x01+\x00", ReasonCode.TOPIC_NAME_INVALID),
    (b"\x82\x07\x00\x01\x00\x00\x02#a\x00", ReasonCode.TOPIC_FILTER_INVALID),
]
BAD_PROPERTIES = [
    (b"\x30\x07\x00\x01t\x03\x23\x00\x00", ReasonCode.TOPIC_ALIAS_INVALID),
    (b"\x30\x06\x00\x01t\x02\x0b\x01", ReasonCode.PROTOCOL_ERROR),
]


@pytest.mark.conformance(
    "MQTT-3.6.1-1",
    "MQTT-3.8.1-1",
    "MQTT-3.10.1-1",
    "MQTT-3.14.1-1",
    "MQTT-3.15.1-1",
    "MQTT-4.13.1-1",
    "MQTT3-2.2.2-2",
    "MQTT3-3.14.1-1",
    "MQTT3-4.8.0-1",
)
@pytest.mark.parametrize(
    ("data", "code", "version"),
    [(*bad, version) for bad in BAD for version in (V311, V5)] + [(*bad, V5) for bad in BAD_PROPERTIES],
)
def test_an_error_ends_the_connection(data: bytes, code: ReasonCode, version: int) -> None:
    connection = server(p.Connect(protocol_version=version))
    connection.receive(data + encode(p.PingReq()), 0.0)
    [closed] = events(connection)
    assert isinstance(closed, ConnectionClosed)
    assert closed.by == "us"
    if version == V5:
        assert closed.reason_code is code
        [word] = sent(connection)
        assert isinstance(word, p.Disconnect)
        assert (word.reason_code, word.reason_string) == (code, closed.reason)
    assert connection.take_output() == b""
    with pytest.raises(LocalProtocolError):
        connection.send(p.PingResp(), 0.0)


@pytest.mark.conformance("MQTT-3.2.2-8", "MQTT-3.14.2-1", "MQTT-4.13.2-1")
@pytest.mark.parametrize("code", ReasonCode)
def test_fail_shows_codes_that_the_last_word_may_have(code: ReasonCode) -> None:
    before = server_with(p.Connect())
    after = server()
    for connection in (before, after):
        connection.fail(ProtocolError("why", code))
        assert events(connection) == [ConnectionClosed(code, "why", "us")]
        [word] = sent(connection)
        assert isinstance(word, p.ConnAck | p.Disconnect)
        assert word.reason_code in (code, ReasonCode.PROTOCOL_ERROR)


PAIRS = (("u" * 20, "v" * 20), ("u" * 20, "w"))
OK = (ReasonCode.SUCCESS,)
EXPLAINED: list[p.Packet] = [
    p.PubAck(1, reason_string="r", user_properties=PAIRS),
    p.PubRec(1, ReasonCode.NOT_AUTHORIZED, reason_string="r"),
    p.PubRel(1, user_properties=PAIRS),
    p.PubComp(1, reason_string="r"),
    p.SubAck(1, OK, reason_string="r", user_properties=PAIRS),
    p.UnsubAck(1, OK, reason_string="r", user_properties=PAIRS),
    p.Auth(authentication_method="m", reason_string="r", user_properties=PAIRS),
    p.Disconnect(ReasonCode.SERVER_BUSY, reason_string="r", user_properties=PAIRS),
]


def reauthenticating(connect: p.Connect = METHOD) -> Connection:
    connection = server(connect)
    tell(connection, p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
    return connection


def unexplained(packet: Any) -> p.Packet:
    bare: p.Packet = evolve(packet, reason_string=None, user_properties=())
    return bare


@pytest.mark.conformance("MQTT-3.1.2-24")
@pytest.mark.parametrize("packet", EXPLAINED, ids=lambda packet: type(packet).__name__)
def test_what_is_too_large_goes_out_without_its_explanation(packet: p.Packet) -> None:
    full, short = encode(packet), encode(unexplained(packet))
    for size in range(len(short), len(full) + 1):
        connection = reauthenticating()
        connection.peer_maximum_packet_size = size
        connection.send(packet, 0.0)
        assert connection.take_output() == (full if size == len(full) else short)
    connection = reauthenticating()
    connection.peer_maximum_packet_size = len(short) - 1
    with pytest.raises(PacketTooLarge):
        connection.send(packet, 0.0)
    assert (connection.take_output(), connection.phase) == (b"", Phase.REAUTHENTICATING)


@pytest.mark.conformance("MQTT-3.2.2-19", "MQTT-3.2.2-20")
def test_connack_without_its_explanation() -> None:
    full = p.ConnAck(reason_code=ReasonCode.BANNED, reason_string="because", user_properties=PAIRS)
    for size in (len(encode(full)) - 1, 5):
        connection = server_with(p.Connect(maximum_packet_size=size))
        connection.send(full, 0.0)
        assert sent(connection) == [p.ConnAck(reason_code=ReasonCode.BANNED)]


@pytest.mark.conformance("MQTT-3.1.2-29")
@pytest.mark.parametrize("packet", EXPLAINED, ids=lambda packet: type(packet).__name__)
def test_request_problem_information_0(packet: p.Packet) -> None:
    connection = reauthenticating(evolve(METHOD, request_problem_information=False))
    connection.send(packet, 0.0)
    expected = packet if isinstance(packet, p.Disconnect) else unexplained(packet)
    assert connection.take_output() == encode(expected)


def test_what_keeps_its_properties_with_request_problem_information_0() -> None:
    connection = server_with(p.Connect(request_problem_information=False))
    connack = p.ConnAck(reason_string="r", user_properties=PAIRS)
    publish = p.Publish("t", user_properties=PAIRS)
    connection.send(connack, 0.0)
    connection.send(publish, 0.0)
    assert sent(connection) == [connack, publish]


def test_a_last_word_that_does_not_fit_is_left_unsaid() -> None:
    for connection in (server(p.Connect(maximum_packet_size=5)), server_with(p.Connect(maximum_packet_size=4))):
        connection.peer_maximum_packet_size = 2
        connection.fail(ProtocolError("why"))
        assert events(connection) == [ConnectionClosed(ReasonCode.PROTOCOL_ERROR, "why", "us")]
        assert connection.take_output() == b""


def test_a_connection_ends_once_and_for_the_first_reason() -> None:
    connection = server()
    for expected in ([ConnectionClosed(ReasonCode.NOT_AUTHORIZED, "first", "timeout")], []):
        connection.close(ReasonCode.NOT_AUTHORIZED, "first", "timeout")
        connection.fail(ProtocolError("second"))
        connection.close(ReasonCode.UNSPECIFIED_ERROR, "third", "us")
        assert events(connection) == expected
        assert connection.take_output() == b""


# ---------------------------------------------------------------------------------------------- DISCONNECT


@pytest.mark.conformance("MQTT-3.14.2-2", "MQTT-3.14.4-1")
def test_the_servers_disconnect() -> None:
    connection = server()
    with pytest.raises(LocalProtocolError):
        connection.send(p.Disconnect(session_expiry_interval=0), 0.0)
    connection.send(p.Disconnect(ReasonCode.SERVER_SHUTTING_DOWN), 0.0)
    assert connection.take_output() == b"\xe0\x01\x8b"
    assert tell(connection, p.PingReq()) == [
        ConnectionClosed(ReasonCode.SERVER_SHUTTING_DOWN, "DISCONNECT 0x8B was sent", "us")
    ]
    with pytest.raises(LocalProtocolError):
        connection.send(p.Publish("t"), 0.0)


def test_to_mqtt_3_1_1_the_server_only_closes() -> None:
    connection = server(p.Connect(protocol_version=V311))
    connection.send(p.Disconnect(ReasonCode.SERVER_SHUTTING_DOWN), 0.0)
    assert connection.take_output() == b""
    assert [type(event) for event in events(connection)] == [ConnectionClosed]


@pytest.mark.parametrize("before", [None, 0, 9])
@pytest.mark.parametrize("after", [None, 0, 9])
def test_disconnect_does_not_bring_a_session_expiry_interval_to_life(before: int | None, after: int | None) -> None:
    connection = server(p.Connect(session_expiry_interval=before))
    found = tell(connection, p.Disconnect(session_expiry_interval=after))
    if after and not before:
        [word] = sent(connection)
        assert isinstance(word, p.Disconnect)
        assert word.reason_code is ReasonCode.PROTOCOL_ERROR
    else:
        assert found[0] == p.Disconnect(session_expiry_interval=after)
        assert connection.take_output() == b""


def test_explain_replaces_the_reason_that_the_owner_sees() -> None:
    connection = server_with(p.Connect())
    connection.explain("too early: nothing has ended")
    connection.send(p.ConnAck(reason_code=ReasonCode.BANNED), 0.0)
    connection.explain("on the list")
    assert events(connection) == [ConnectionClosed(ReasonCode.BANNED, "on the list", "us")]


# ---------------------------------------------------------------------------------------------- whatever comes


@given(data=st.data(), version=st.sampled_from([V311, V5]))
@settings(max_examples=70)
def test_events_and_output_do_not_depend_on_the_chunks(data: st.DataObject, version: int) -> None:
    stream = data.draw(streams(SERVER, version))
    whole = converse(Connection(SERVER, Limits(), 0.0), [stream])
    assert converse(Connection(SERVER, Limits(), 0.0), data.draw(strategies.chunks(stream))) == whole
    assert isinstance(whole[0][-1], ConnectionClosed)


@given(stream=st.binary(max_size=60))
def test_any_bytes_at_all(stream: bytes) -> None:
    found, _ = converse(server(METHOD), [stream])
    assert isinstance(found[-1], ConnectionClosed)


class HostileClient(Hostile):
    role = SERVER


TestHostileClient = HostileClient.TestCase
TestHostileClient.settings = settings(max_examples=50, stateful_step_count=20)
