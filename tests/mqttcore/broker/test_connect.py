"""CONNECT and CONNACK (sections 3.1 and 3.2): identifiers, sessions, takeover, limits, refusals."""

from typing import Any

import pytest
from attrs import asdict

from mqttcore import (
    V5,
    V311,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
    Subscribe,
    Will,
)
from mqttcore.broker.reports import Connected, Disconnected, Refused
from mqttcore.codec import encode
from tests.mqttcore.broker.support import Network, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


class TestIdentifiers:
    @pytest.mark.conformance("MQTT-3.1.3-6", "MQTT-3.2.2-16")
    def test_an_empty_identifier_gets_one_that_no_session_has(self) -> None:
        net = Network()
        assigned = [net.connect().connack.assigned_client_identifier for _ in range(50)]
        assert None not in assigned
        assert len({*assigned}) == 50
        assert {*net.broker.sessions} == {*assigned}

    @pytest.mark.conformance("MQTT-3.2.2-16")
    def test_an_identifier_that_a_client_has_chosen_is_assigned_to_no_other(self) -> None:
        first = Network().connect().connack.assigned_client_identifier
        assert first is not None
        net = Network()  # whose broker has the same seed
        net.connect(first)
        assigned = net.connect().connack.assigned_client_identifier
        assert assigned is not None
        assert sorted(net.broker.sessions) == sorted([first, assigned])

    @pytest.mark.conformance("MQTT-3.1.3-7")
    def test_the_assigned_identifier_is_the_clients_from_then_on(self) -> None:
        net = Network()
        first = net.connect(session_expiry_interval=100)
        first.subscribe("a")
        client_id = first.connack.assigned_client_identifier
        assert client_id is not None
        first.cut()
        again = net.connect(client_id, clean_start=False, session_expiry_interval=100)
        assert again.connack.session_present
        assert again.connack.assigned_client_identifier is None
        net.publish("a", b"x")
        assert again.payloads() == [b"x"]

    @pytest.mark.conformance("MQTT-3.1.3-5")
    @pytest.mark.parametrize("client_id", ["a", "0", "Az09" * 5 + "xyz", "with space/+#$", "ü" * 100])
    @VERSIONS
    def test_identifiers_are_taken_as_they_are(self, client_id: str, version: int) -> None:
        net = Network()
        net.connect(client_id, protocol_version=version)
        assert [*net.broker.sessions] == [client_id]

    @pytest.mark.conformance("MQTT3-3.1.3-8")
    def test_version_4_without_identifier_needs_a_clean_session(self) -> None:
        net = Network()
        peer = net.peer()
        peer.send(Connect(client_id="", clean_start=False, protocol_version=V311))
        assert peer.ended_with() is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        net.connect("", clean_start=True, protocol_version=V311)
        assert len(net.broker.sessions) == 1


class TestSessions:
    @pytest.mark.conformance(
        "MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.1.2-6", "MQTT-3.2.2-2", "MQTT-3.2.2-3", "MQTT-3.1.4-4"
    )
    @pytest.mark.parametrize("clean_start", [True, False])
    @pytest.mark.parametrize("stored", [True, False])
    def test_session_present(self, clean_start: bool, stored: bool) -> None:
        net = Network()
        if stored:
            first = net.connect("a", session_expiry_interval=100)
            first.subscribe("t")
            first.cut()
        again = net.connect("a", clean_start=clean_start)
        resumed = stored and not clean_start
        assert again.connack.session_present is resumed
        net.publish("t")
        assert len(again.take(Publish)) == resumed

    @pytest.mark.conformance("MQTT-3.1.2-23", "MQTT-4.1.0-2")
    @pytest.mark.parametrize(("interval", "kept"), [(None, False), (0, False), (1, True), (0xFFFF_FFFF, True)])
    def test_the_expiry_interval_keeps_the_session(self, interval: int | None, kept: bool) -> None:
        net = Network()
        net.connect("a", session_expiry_interval=interval).cut()
        assert net.connect("a", clean_start=False).connack.session_present is kept

    @pytest.mark.conformance("MQTT3-3.1.2-4", "MQTT3-3.1.2-6")
    @pytest.mark.parametrize("clean_start", [True, False])
    def test_version_4_keeps_the_session_unless_it_is_clean(self, clean_start: bool) -> None:
        net = Network()
        net.connect("a", clean_start=clean_start, protocol_version=V311).cut()
        net.advance(1e9)
        again = net.connect("a", clean_start=False, protocol_version=V311)
        assert again.connack.session_present is not clean_start

    @pytest.mark.parametrize(
        ("connect", "disconnect", "lives"),
        [(10, None, 10), (10, 0, 0), (10, 100, 100), (100, 10, 10), (0, 0, 0), (None, None, 0), (10, 0xFFFF_FFFF, 1e9)],
    )
    def test_disconnect_may_change_the_expiry_interval(
        self, connect: int | None, disconnect: int | None, lives: float
    ) -> None:
        net = Network()
        peer = net.connect("a", session_expiry_interval=connect)
        net.advance(1000)
        peer.disconnect(session_expiry_interval=disconnect)
        if lives:
            net.advance(lives - 0.5)
            assert "a" in net.broker.sessions
            net.advance(0.5)
        assert ("a" in net.broker.sessions) == (lives == 1e9)

    def test_disconnect_cannot_make_a_session_out_of_none(self) -> None:
        net = Network()
        peer = net.connect("a", session_expiry_interval=0)
        peer.disconnect(session_expiry_interval=10)
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR
        assert not net.broker.sessions

    @pytest.mark.parametrize(
        ("asked", "granted"), [(10, None), (100, None), (101, 100), (0xFFFF_FFFF, 100), (None, None)]
    )
    def test_the_expiry_interval_is_bounded_and_the_client_told(self, asked: int | None, granted: int | None) -> None:
        net = Network(maximum_session_expiry=100)
        peer = net.connect("a", session_expiry_interval=asked)
        assert peer.connack.session_expiry_interval == granted
        peer.disconnect(session_expiry_interval=asked)
        net.advance(100)
        assert not net.broker.sessions

    def test_the_bound_holds_for_version_4_too(self) -> None:
        net = Network(maximum_session_expiry=100)
        net.connect("a", clean_start=False, protocol_version=V311).cut()
        net.advance(99)
        assert net.broker.sessions
        net.advance(1)
        assert not net.broker.sessions

    def test_the_number_of_sessions_is_bounded(self) -> None:
        net = Network(maximum_sessions=2)
        net.connects("a", "b", session_expiry_interval=10)
        refused = net.peer()
        refused.send(Connect(client_id="c"))
        assert refused.ended_with() is ReasonCode.QUOTA_EXCEEDED
        net.connect("a")  # not one more
        net.advance(0)
        assert {*net.broker.sessions} == {"a", "b"}


class TestTakeover:
    @pytest.mark.conformance("MQTT-3.1.4-3", "MQTT3-3.1.4-2")
    @pytest.mark.parametrize("version", [V311, V5])
    @pytest.mark.parametrize("again", [V311, V5])
    def test_the_earlier_connection_is_closed(self, version: int, again: int) -> None:
        net = Network()
        old = net.connect("a", protocol_version=version)
        new = net.connect("a", protocol_version=again)
        assert old.ended_with() is (ReasonCode.SESSION_TAKEN_OVER if version == V5 else None)
        assert new.closed is None
        assert net.broker.links == {new.link}
        [report] = net.take_reports(Disconnected)
        assert (report.client_id, report.reason_code, report.by) == ("a", ReasonCode.SESSION_TAKEN_OVER, "us")

    @pytest.mark.parametrize("interval", [0, 100])
    @pytest.mark.parametrize("clean_start", [True, False])
    def test_the_session_is_taken_over_if_both_want_it(self, interval: int, clean_start: bool) -> None:
        net = Network()
        old = net.connect("a", session_expiry_interval=interval)
        old.subscribe("t")
        new = net.connect("a", clean_start=clean_start)
        kept = interval > 0 and not clean_start
        assert new.connack.session_present is kept
        net.publish("t")
        assert len(new.take(Publish)) == kept
        assert not old.take(Publish)

    def test_a_chain_of_takeovers_leaves_one(self) -> None:
        net = Network()
        peers = [net.connect("a") for _ in range(20)]
        assert [peer.closed is None for peer in peers] == [False] * 19 + [True]
        assert net.broker.links == {peers[-1].link}
        peers[0].cut()
        peers[0].send_bytes(b"\xc0\x00")
        assert peers[-1].closed is None

    def test_the_old_connection_can_do_nothing_any_more(self) -> None:
        net = Network()
        old = net.connect("a", session_expiry_interval=10)
        new = net.connect("a", clean_start=False)
        old.send(Subscribe(1, (subscription("t"),)), Publish("x", b"", retain=True))
        net.publish("t")
        assert not new.take(Publish)
        assert not net.broker.sessions["a"].subscriptions


class TestKeepAlive:
    @pytest.mark.conformance("MQTT-3.1.2-22", "MQTT-3.2.2-22", "MQTT-3.12.4-1", "MQTT3-3.1.2-24")
    @pytest.mark.parametrize("asked", [0, 1, 60, 65535])
    @pytest.mark.parametrize("most", [0, 1, 30, 65535])
    @VERSIONS
    def test_silence_ends_the_connection(self, asked: int, most: int, version: int) -> None:
        net = Network(server_keep_alive=most)
        peer = net.connect("a", keep_alive=asked, protocol_version=version)
        told = peer.connack.server_keep_alive
        if version == V311 or not most or 0 < asked <= most:
            assert told is None
        else:
            assert told == most
        keep_alive = asked if told is None else told
        [report] = net.take_reports(Connected)
        assert report.keep_alive == keep_alive
        if not keep_alive:
            net.advance(1e9)
            assert peer.closed is None
            return
        for _ in range(3):  # anything counts
            net.advance(1.5 * keep_alive - 0.01)
            peer.send(PingReq())
            assert peer.expect(PingResp) == PingResp()
        net.advance(1.5 * keep_alive - 0.01)
        assert peer.closed is None
        net.advance(0.02)
        assert peer.ended_with() is (ReasonCode.KEEP_ALIVE_TIMEOUT if version == V5 else None)
        [lost] = net.take_reports(Disconnected)
        assert lost.by == "timeout"

    def test_what_the_server_sends_does_not_count(self) -> None:
        net = Network()
        peer = net.connect("a", keep_alive=10)
        peer.auto = False
        peer.subscribe("t")
        for _ in range(15):
            net.publish("t")
            net.advance(1)
        assert peer.ended_with() is ReasonCode.KEEP_ALIVE_TIMEOUT


class TestConnack:
    @pytest.mark.parametrize(
        ("limit", "value", "field", "told"),
        [
            ("receive_maximum", 1, "receive_maximum", 1),
            ("receive_maximum", 65_535, "receive_maximum", None),
            pytest.param("maximum_qos", 0, "maximum_qos", 0, marks=pytest.mark.conformance("MQTT-3.2.2-9")),
            ("maximum_qos", 1, "maximum_qos", 1),
            ("maximum_qos", 2, "maximum_qos", None),
            ("retain_available", False, "retain_available", False),
            ("maximum_packet_size", 1000, "maximum_packet_size", 1000),
            ("maximum_packet_size", 268_435_460, "maximum_packet_size", None),
            ("topic_alias_maximum", 0, "topic_alias_maximum", None),
            ("topic_alias_maximum", 7, "topic_alias_maximum", 7),
            ("wildcard_subscription_available", False, "wildcard_subscription_available", False),
            ("subscription_identifiers_available", False, "subscription_identifiers_available", False),
            ("shared_subscription_available", False, "shared_subscription_available", False),
            ("server_keep_alive", 7, "server_keep_alive", 7),
            ("maximum_session_expiry", 7, "session_expiry_interval", 7),
        ],
    )
    def test_every_limit_is_announced_and_nothing_else(
        self, limit: str, value: object, field: str, told: object
    ) -> None:
        plain = {"receive_maximum": 65_535, "maximum_packet_size": 268_435_460, "topic_alias_maximum": 0}
        limits: dict[str, Any] = {**plain, limit: value}
        connack = Network(**limits).connect("a", session_expiry_interval=100).connack
        properties = {name: item for name, item in asdict(connack).items() if item not in (None, (), False, 0)}
        expected = {field: told} if told else {}
        assert properties == expected
        assert getattr(connack, field) == told

    def test_version_4_is_told_nothing(self) -> None:
        net = Network(maximum_qos=1, receive_maximum=1, server_keep_alive=5)
        assert net.connect("", protocol_version=V311).connack == ConnAck()

    @pytest.mark.conformance("MQTT-3.1.2-28")
    @pytest.mark.parametrize("value", [None, False, True])
    def test_there_is_no_response_information(self, value: bool | None) -> None:
        assert Network().connect("a", request_response_information=value).connack.response_information is None


REFUSALS: list[tuple[dict[str, Any], dict[str, Any], ReasonCode, int]] = [
    # limits, CONNECT, the code in 5.0, the code in 3.1.1
    ({"maximum_qos": 0}, {"will": Will(topic="w", qos=1)}, ReasonCode.QOS_NOT_SUPPORTED, 3),
    ({"maximum_qos": 1}, {"will": Will(topic="w", qos=2)}, ReasonCode.QOS_NOT_SUPPORTED, 3),
    (
        {"retain_available": False},
        {"will": Will(topic="w", retain=True)},
        ReasonCode.RETAIN_NOT_SUPPORTED,
        3,
    ),
    ({"maximum_topic_levels": 2}, {"will": Will(topic="a/b/c")}, ReasonCode.TOPIC_NAME_INVALID, 3),
    ({}, {"will": Will(topic="$SYS/x")}, ReasonCode.TOPIC_NAME_INVALID, 3),
    ({"maximum_connect_size": 128}, {"username": "u" * 200}, ReasonCode.PACKET_TOO_LARGE, -1),
]


@pytest.mark.conformance("MQTT-3.2.2-12", "MQTT-3.2.2-13", "MQTT-3.1.4-2", "MQTT-3.2.2-7", "MQTT-3.1.4-6")
@VERSIONS
@pytest.mark.parametrize(("limits", "fields", "code", "return_code"), REFUSALS)
def test_refusals(
    version: int, limits: dict[str, Any], fields: dict[str, Any], code: ReasonCode, return_code: int
) -> None:
    net = Network(**limits)
    other = net.connect("b")
    other.subscribe("#")
    peer = net.peer()
    connect = Connect(client_id="a", protocol_version=version, **fields)
    peer.version = version
    peer.reading = False
    peer.send_bytes(encode(connect) + encode(Publish("t", b"early"), version))
    assert peer.closed
    last = net.broker.take_output(peer.link, net.now)
    if version == V5:
        assert last[3] == code
    else:
        assert last == (b"" if return_code < 0 else bytes((0x20, 2, 0, return_code)))
    assert [*net.broker.sessions] == ["b"]
    net.advance(1e6)
    assert not other.take(Publish)  # neither what followed nor the Will
    [report] = net.take_reports(Refused)
    assert report.reason_code is code
    assert report.client_id == ("" if code is ReasonCode.PACKET_TOO_LARGE else "a")


def test_a_will_that_is_not_what_it_says_is_refused() -> None:
    peer = Network().peer()
    peer.send(Connect(will=Will(topic="w", payload=b"\xff", payload_format_indicator=1)))
    assert peer.ended_with() is ReasonCode.PAYLOAD_FORMAT_INVALID


@pytest.mark.conformance("MQTT-3.1.2-2", "MQTT3-3.1.2-2")
@pytest.mark.parametrize(
    ("level", "answer"),
    [(0, b"\x20\x02\x00\x01"), (3, b"\x20\x02\x00\x01"), (6, b"\x20\x03\x00\x84\x00"), (255, b"\x20\x03\x00\x84\x00")],
)
def test_an_unknown_version_is_refused_in_its_own_terms(level: int, answer: bytes) -> None:
    net = Network()
    peer = net.peer()
    peer.reading = False
    body = b"\x00\x04MQTT" + bytes((level,)) + b"\x02\x00\x00\x00\x01a"
    peer.send_bytes(bytes((0x10, len(body))) + body)
    assert peer.closed
    last = net.broker.take_output(peer.link, net.now)
    assert last[: len(answer) - 1] == answer[:1] + last[1:2] + answer[2:-1]
    assert last[3] == answer[3]


@pytest.mark.conformance("MQTT-3.1.0-2")
@VERSIONS
def test_a_second_connect_is_a_protocol_error(version: int) -> None:
    net = Network()
    peer = net.connect("a", protocol_version=version)
    peer.send(Connect(client_id="a", protocol_version=version))
    assert peer.ended_with() is (ReasonCode.PROTOCOL_ERROR if version == V5 else None)


@pytest.mark.parametrize("seconds", [0.5, 10])
def test_a_connection_without_connect_is_closed_in_time(seconds: float) -> None:
    net = Network(connect_timeout=seconds)
    silent, slow = net.peer(), net.peer()
    slow.send_bytes(encode(Connect(client_id="slow"))[:-1])
    net.advance(seconds - 0.01)
    assert silent.closed is slow.closed is None
    net.advance(0.01)
    assert silent.ended() is slow.ended() is None
    assert [report.client_id for report in net.take_reports(Refused)] == ["", ""]
    assert not net.broker.links


@VERSIONS
def test_a_client_need_not_wait_for_connack(version: int) -> None:
    net = Network()
    peer = net.peer()
    peer.send(
        Connect(client_id="a", protocol_version=version),
        Subscribe(1, (subscription("t"),)),
        Publish("t", b"x", qos=1, packet_id=2),
    )
    kinds = [type(packet).__name__ for packet in peer.received]
    assert kinds[:2] == ["ConnAck", "SubAck"]
    assert sorted(kinds[2:]) == ["PubAck", "Publish"]


@pytest.mark.conformance("MQTT-3.14.4-2")
@VERSIONS
@pytest.mark.parametrize("keep_alive", [0, 10])
def test_disconnect_ends_the_connection(version: int, keep_alive: int) -> None:
    net = Network()
    peer = net.connect("a", protocol_version=version, keep_alive=keep_alive)
    peer.disconnect()
    assert peer.closed == "in order"
    assert not peer.take(Disconnect)
    [report] = net.take_reports(Disconnected)
    assert (report.by, report.reason_code) == ("peer", ReasonCode.SUCCESS)


@pytest.mark.conformance("MQTT-3.2.0-1", "MQTT-3.1.2-24")
@pytest.mark.parametrize("size", range(1, 20))
def test_nothing_is_sent_to_a_client_whose_packet_size_forbids_connack(size: int) -> None:
    net = Network()
    first = net.connect("a", session_expiry_interval=100)
    first.auto = False
    first.subscribe("t")
    for _ in range(3):
        net.publish("t", qos=2)
    first.send(PubRec(1))
    first.cut()
    net.publish("t", qos=1)
    again = net.peer()
    again.send(Connect(client_id="a", clean_start=False, maximum_packet_size=size, session_expiry_interval=100))
    if not again.received:
        assert again.closed
        assert not net.broker.links
        last = net.peer()
        last.send(Connect(client_id="a", clean_start=False))
        assert [type(packet) for packet in last.received] == [
            ConnAck,
            PubRel,
            Publish,
            Publish,
            Publish,
            PubRel,
            PubRel,
        ]
