"""The bound on message expiry: how long a message is kept, and what its receivers are told (section 3.3.2.3.3)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttcore import V5, V311, Publish, Will
from mqttcore.codec import encode
from tests.mqttcore.broker.support import Network, Peer

BOUND = 10
INTERVALS = st.one_of(st.none(), st.integers(0, 2 * BOUND), st.just(0xFFFF_FFFF))


def told(interval: int | None, waited: int) -> int | None:
    """The interval that a receiver is told after so many seconds."""
    return None if interval is None else min(interval, BOUND) - waited


def is_kept(interval: int | None, waited: int) -> bool:
    return waited <= (BOUND if interval is None else min(interval, BOUND))


def away(net: Network) -> None:
    """A session without a connection that waits for messages."""
    peer = net.connect("away", session_expiry_interval=0xFFFF_FFFF)
    peer.subscribe("t")
    peer.cut()


def intervals(peer: Peer) -> list[int | None]:
    return [packet.message_expiry_interval for packet in peer.take(Publish)]


def published(net: Network, way: str, interval: int | None, qos: int = 1, retain: bool = False) -> None:
    """A message that a client, a Will or the server itself publishes now."""
    fields: dict[str, Any] = {"qos": qos, "retain": retain, "message_expiry_interval": interval}
    if way == "server":
        net.publish("t", b"x", **fields)
    elif way == "will":
        net.connect("with will", will=Will(topic="t", payload=b"x", **fields)).cut()
    elif way == "late will":
        will = Will(topic="t", payload=b"x", will_delay_interval=3 * BOUND, **fields)
        net.connect("with will", will=will, session_expiry_interval=1000).cut()
        net.advance(3 * BOUND)
    else:
        net.connect("publisher").publish("t", b"x", **fields)


WAYS = st.sampled_from(["client", "server", "will", "late will"])


@given(way=WAYS, interval=INTERVALS, qos=st.integers(1, 2), waited=st.integers(0, 2 * BOUND))
def test_what_waits_in_a_session(way: str, interval: int | None, qos: int, waited: int) -> None:
    net = Network(maximum_message_expiry=BOUND)
    away(net)
    published(net, way, interval, qos)
    net.advance(waited)
    peer = net.resume("away")
    assert intervals(peer) == [told(interval, waited)] * is_kept(interval, waited)
    assert net.broker.sessions["away"].expired == (not is_kept(interval, waited))


@given(way=WAYS, interval=INTERVALS, waited=st.integers(0, 2 * BOUND))
def test_what_is_retained(way: str, interval: int | None, waited: int) -> None:
    net = Network(maximum_message_expiry=BOUND)
    published(net, way, interval, retain=True)
    net.advance(waited)
    kept = is_kept(interval, waited + 1)  # it is deleted at the moment itself
    assert len(net.broker._distributor.retained) == kept
    peer = net.connect("late")
    peer.subscribe("t")
    assert intervals(peer) == [told(interval, waited)] * kept


def test_a_retained_message_that_is_replaced_lasts_as_long_as_its_successor() -> None:
    net = Network(maximum_message_expiry=BOUND)
    published(net, "server", None, retain=True)
    net.advance(BOUND - 1)
    published(net, "server", None, retain=True)
    net.advance(BOUND - 1)
    assert len(net.broker._distributor.retained) == 1
    net.advance(1)
    assert len(net.broker._distributor.retained) == 0
    assert net.broker.next_deadline() == float("inf")


@pytest.mark.parametrize("bound", [0, BOUND])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("version", [V311, V5])
def test_what_is_forwarded_at_once_is_what_it_was(version: int, qos: int, bound: int) -> None:
    net = Network(maximum_message_expiry=bound)
    publisher, subscriber = net.connects("publisher", "subscriber", protocol_version=version)
    subscriber.subscribe("t")
    subscriber.reading = False
    packet = Publish("t", b"x", qos=qos, packet_id=1 if qos else None)
    for _ in range(2):  # the general path, then the short cut
        publisher.send(packet)
        assert net.broker.take_output(subscriber.link, net.now) == encode(packet, version)
        if qos:
            break


@pytest.mark.conformance("MQTT-3.3.2-6")
@given(interval=INTERVALS, qos=st.integers(0, 2))
def test_at_once_no_more_than_the_bound_is_told(interval: int | None, qos: int) -> None:
    net = Network(maximum_message_expiry=BOUND)
    peer = net.connect("a")
    peer.subscribe("t")
    published(net, "client", interval, qos)
    assert intervals(peer) == [told(interval, 0)]


def test_the_bound_is_that_of_the_port_that_the_message_came_in_by() -> None:
    net = Network()
    away(net)
    for client_id, bound in (("short", 5), ("long", 50)):
        peer = net.connect(client_id, net.policy_with(maximum_message_expiry=bound))
        for _ in range(2):  # the general path, then the short cut
            peer.publish("t", client_id.encode(), qos=1)
    net.publish("t", b"server", qos=1)
    net.advance(6)
    assert net.resume("away").payloads() == [b"long", b"long", b"server"]


def test_without_the_bound_everything_lasts() -> None:
    net = Network()
    away(net)
    net.publish("t", b"x", qos=1, retain=True)
    assert net.broker.next_deadline() == float("inf")
    net.advance(1e9)
    assert net.resume("away").payloads() == [b"x"]
    assert len(net.broker._distributor.retained) == 1
