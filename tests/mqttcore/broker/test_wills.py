"""The Will (sections 3.1.2.5, 3.1.3.2 and 3.14): when it is published, when not, and what it carries."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from mqttcore import V5, V311, Publish, ReasonCode, Will
from tests.mqttcore.broker.support import Network, Peer

VERSIONS = pytest.mark.parametrize("version", [V311, V5])

ENDINGS: dict[str, tuple[Callable[[Network, Peer], object], bool]] = {
    # how the connection ends, and whether the Will is due
    "cut": (lambda net, peer: peer.cut(), True),
    "disconnect": (lambda net, peer: peer.disconnect(), False),
    "disconnect with Will": (lambda net, peer: peer.disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE), True),
    "disconnect over an error": (lambda net, peer: peer.disconnect(ReasonCode.UNSPECIFIED_ERROR), True),
    "protocol error": (lambda net, peer: peer.send_bytes(b"\x10\x00"), True),
    "malformed": (lambda net, peer: peer.send_bytes(b"\x00\x00"), True),
    "keep alive": (lambda net, peer: net.advance(15), True),
    "takeover": (lambda net, peer: net.connect("a"), True),
}


def watching(net: Network) -> Peer:
    peer = net.connect("watcher")
    peer.subscribe("will/#")
    return peer


@pytest.mark.conformance("MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.14.4-3", "MQTT-3.1.2-22")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("interval", [0, 100])
def test_which_ends_have_it_published(ending: str, interval: int) -> None:
    net = Network()
    watcher = watching(net)
    peer = net.connect("a", will=Will(topic="will/a", payload=b"w"), keep_alive=10, session_expiry_interval=interval)
    act, due = ENDINGS[ending]
    act(net, peer)
    assert peer.closed
    assert watcher.payloads() == [b"w"] * due
    net.advance(1000)
    assert not watcher.take(Publish)  # once


@pytest.mark.conformance("MQTT3-3.1.2-8", "MQTT3-3.14.4-3")
@VERSIONS
@pytest.mark.parametrize("ending", ["cut", "disconnect", "malformed", "keep alive", "takeover"])
def test_version_4_has_wills_too(version: int, ending: str) -> None:
    net = Network()
    watcher = watching(net)
    peer = net.connect("a", will=Will(topic="will/a", payload=b"w"), keep_alive=10, protocol_version=version)
    act, due = ENDINGS[ending]
    act(net, peer)
    assert watcher.payloads() == [b"w"] * due


@pytest.mark.conformance("MQTT-3.1.2-14", "MQTT-3.1.2-15")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
@VERSIONS
def test_it_is_an_ordinary_message(qos: int, retain: bool, version: int) -> None:
    net = Network()
    watcher = watching(net)
    will = Will(topic="will/a", payload=b"w", qos=qos, retain=retain)
    net.connect("a", will=will, protocol_version=version).cut()
    assert watcher.messages() == [("will/a", b"w", qos)]
    later = net.connect("b")
    later.subscribe("will/a")
    assert later.messages() == [("will/a", b"w", qos)] * retain


def test_an_empty_retained_will_deletes() -> None:
    net = Network()
    net.publish("will/a", b"x", retain=True)
    net.connect("a", will=Will(topic="will/a", retain=True)).cut()
    assert not len(net.broker._distributor.retained)


@pytest.mark.conformance("MQTT-3.1.3-10")
def test_its_properties_are_forwarded() -> None:
    net = Network()
    watcher = watching(net)
    fields: dict[str, Any] = {
        "payload_format_indicator": 1, "message_expiry_interval": 50, "content_type": "c", "response_topic": "r",
        "correlation_data": b"d", "user_properties": (("b", "1"), ("a", "2"), ("b", "3")),
    }  # fmt: skip
    net.connect("a", will=Will(topic="will/a", payload=b"w", **fields)).cut()
    assert watcher.expect(Publish) == Publish("will/a", b"w", **fields)


@pytest.mark.conformance("MQTT-3.1.2-8")
@pytest.mark.parametrize(
    ("delay", "interval", "published_after"),
    [
        (10, 100, 10),
        (100, 10, 10),
        (10, 10, 10),
        (10, 0, 0),
        (0, 100, 0),
        (0, 0, 0),
        (5, 0xFFFF_FFFF, 5),
        (10, None, 0),
    ],
)
def test_the_delay_and_the_end_of_the_session(delay: int, interval: int | None, published_after: float) -> None:
    net = Network()
    watcher = watching(net)
    will = Will(topic="will/a", payload=b"w", will_delay_interval=delay)
    net.connect("a", will=will, session_expiry_interval=interval).cut()
    if published_after:
        net.advance(published_after - 0.01)
        assert not watcher.received
        net.advance(0.01)
    assert watcher.payloads() == [b"w"]
    net.advance(1000)
    assert not watcher.received


@pytest.mark.conformance("MQTT-3.1.3-9")
@pytest.mark.parametrize("clean_start", [False, True])
@pytest.mark.parametrize("gap", [0, 5, 9.99])
def test_a_reconnection_within_the_delay(clean_start: bool, gap: float) -> None:
    net = Network()
    watcher = watching(net)
    will = Will(topic="will/a", payload=b"w", will_delay_interval=10)
    net.connect("a", will=will, session_expiry_interval=100).cut()
    net.advance(gap)
    net.connect("a", clean_start=clean_start, session_expiry_interval=100).disconnect()
    assert watcher.payloads() == [b"w"] * clean_start  # Clean Start ends the session, and the Will is due with it
    net.advance(1000)
    assert not watcher.received


@pytest.mark.conformance("MQTT-3.1.4-3")
@pytest.mark.parametrize("delay", [0, 10])
@pytest.mark.parametrize("interval", [0, 100])
@pytest.mark.parametrize("clean_start", [False, True])
def test_a_takeover(delay: int, interval: int, clean_start: bool) -> None:  # section 3.1.4
    net = Network()
    watcher = watching(net)
    will = Will(topic="will/a", payload=b"w", will_delay_interval=delay)
    net.connect("a", will=will, session_expiry_interval=interval)
    new = net.connect("a", clean_start=clean_start, session_expiry_interval=interval)
    due = not delay or not interval or clean_start
    assert watcher.payloads() == [b"w"] * due
    net.advance(1000)
    assert not watcher.received
    assert new.closed is None


@pytest.mark.conformance("MQTT-3.1.3-9")
def test_each_connection_has_its_own_will() -> None:
    net = Network()
    watcher = watching(net)
    first = Will(topic="will/1", payload=b"1", will_delay_interval=10)
    net.connect("a", will=first, session_expiry_interval=100).cut()
    second = evolve(first, topic="will/2", payload=b"2")
    net.connect("a", will=second, clean_start=False, session_expiry_interval=100).cut()
    net.advance(5)
    assert not watcher.received
    third = net.connect("a", clean_start=False, session_expiry_interval=100)
    net.advance(100)
    third.cut()
    net.advance(100)
    assert not watcher.received  # no Will the third time


def test_disconnect_may_set_the_session_expiry_that_bounds_the_delay() -> None:
    net = Network()
    watcher = watching(net)
    will = Will(topic="will/a", payload=b"w", will_delay_interval=50)
    peer = net.connect("a", will=will, session_expiry_interval=100)
    peer.disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, session_expiry_interval=20)
    net.advance(19.9)
    assert not watcher.received
    net.advance(0.1)
    assert watcher.payloads() == [b"w"]


def test_its_expiry_counts_from_its_publication() -> None:
    net = Network()
    away = net.connect("away", session_expiry_interval=1000)
    away.subscribe("will/a")
    away.cut()
    will = Will(topic="will/a", payload=b"w", qos=1, will_delay_interval=50, message_expiry_interval=20)
    net.connect("a", will=will, session_expiry_interval=100).cut()
    net.advance(60)
    again = net.resume("away", session_expiry_interval=1000)
    assert [packet.message_expiry_interval for packet in again.take(Publish)] == [10]


def test_ones_own_session_gets_it_if_it_lives() -> None:
    net = Network()
    peer = net.connect("a", will=Will(topic="will/a", payload=b"w", qos=1), session_expiry_interval=100)
    peer.subscribe("will/a")
    peer.cut()
    assert net.resume("a").payloads() == [b"w"]
    peer = net.connect("a", will=Will(topic="will/a", payload=b"w", qos=1))
    peer.subscribe("will/a", "$share/g/will/a")
    peer.cut()
    assert not net.broker.sessions


def test_nobody_else_waits_for_a_will() -> None:
    net = Network()
    for number in range(100):
        will = Will(topic=f"will/{number}", payload=b"w", will_delay_interval=number)
        net.connect(f"{number}", will=will, session_expiry_interval=1000).cut()
    watcher = watching(net)
    for number in range(1, 100):
        net.advance(1)
        assert watcher.messages() == [(f"will/{number}", b"w", 0)]
