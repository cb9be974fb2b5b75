"""Sessions of packets are what they say: a broker takes the sound ones to their end, and ends the broken ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import V5, V311, ConnAck, Connect, Disconnect, PingReq, PubAck, PubComp, PubRec, ReasonCode
from mqttcore.packets import Packet
from mqttcore.testing import Simulator
from mqttcore.testing.sessions import _WAYS, WAYS_IN_V311, Broken, _Way, broken_sessions, client_sessions

FAILURES = (PubAck, PubRec, PubComp)


@pytest.mark.parametrize("version", [V5, V311])
@given(data=st.data())
@settings(max_examples=50)
def test_sound_sessions(version: int, data: st.DataObject) -> None:
    sent: list[Packet] = data.draw(client_sessions(version))
    peer = Simulator().peer()
    for packet in sent:
        assert not peer.closed
        peer.send(packet)
    assert peer.closed == isinstance(sent[-1], Disconnect)
    [connack] = peer.take(ConnAck)
    assert connack.reason_code is ReasonCode.SUCCESS
    assert not [packet for packet in peer.received if isinstance(packet, FAILURES) and packet.reason_code.is_failure]
    assert not peer.take(Disconnect)


@pytest.mark.parametrize("version", [V5, V311])
@given(data=st.data())
@settings(max_examples=50)
def test_broken_sessions(version: int, data: st.DataObject) -> None:
    ends_the_connection(data.draw(broken_sessions(version)), version)


@pytest.mark.parametrize(
    ("version", "way"), [*[(V5, way) for way in _WAYS], *[(V311, way) for way in _WAYS[:WAYS_IN_V311]]]
)
@given(data=st.data())
@settings(max_examples=5)
def test_every_way_to_break_a_session(version: int, way: _Way, data: st.DataObject) -> None:
    ends_the_connection(data.draw(broken_in(way, version)), version)


@st.composite
def broken_in(draw: st.DrawFn, way: _Way, version: int) -> Broken:
    sound = draw(client_sessions(version, disconnect=False))
    return Broken(tuple(sound), way(draw, sound, version))


def ends_the_connection(broken: Broken, version: int) -> None:
    peer = Simulator().peer()
    peer.version = version
    for packet in broken.sound:
        peer.send(packet)
    assert not peer.closed
    peer.send_bytes(broken.bad)
    assert peer.closed
    assert len(peer.take(Disconnect)) == (version == V5 and bool(broken.sound))


@given(client_sessions(disconnect=False, max_size=0), client_sessions(filters=st.just("f"), topics=st.just("n")))
@settings(max_examples=20)
def test_options(least: list[Packet], chosen: list[Packet]) -> None:
    assert [type(packet) for packet in least] == [Connect]
    assert {packet.topic for packet in chosen if hasattr(packet, "topic")} <= {"n"}
    assert not any(isinstance(packet, PingReq) for packet in least)
