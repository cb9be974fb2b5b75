"""The simulator: bytes arrive whole and in order, or are lost as asked, and a seed gives the same run again."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import (
    V311,
    ConnAck,
    Connect,
    ConnectionClosed,
    Disconnect,
    Limits,
    Packet,
    PacketType,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    ReasonCode,
    SubAck,
)
from mqttcore.auth import Authentication, AuthRequest, Denied, Effect, Granted, Reply
from mqttcore.broker import Policy
from mqttcore.broker.reports import Connected, Disconnected, Published, SessionEnded, Subscribed
from mqttcore.client import Delivered, Event
from mqttcore.codec import encode
from mqttcore.testing import Simulator, Wire
from mqttcore.testing.ends import SimulatedClient
from mqttcore.testing.simulator import LINGER, Arrival, Told
from mqttcore.testing.strategies import chunks, packets
from mqttcore.testing.wires import _Scanner

ROOT = Path(__file__).parents[2]
LASTING: dict[str, Any] = {"clean_start": False, "session_expiry_interval": 3600}

WIRES = st.builds(
    Wire,
    delay=st.sampled_from([(0.0, 0.0), (0.5, 0.5), (0.0, 2.0)]),
    piece=st.none() | st.integers(1, 30),
    capacity=st.none() | st.integers(30, 100),  # CONNACK has to arrive in time
    rate=st.none() | st.floats(100, 1e6),
)


@given(WIRES, st.lists(st.binary(max_size=60), max_size=10), st.integers(0, 2), st.integers(0, 3))
@settings(max_examples=60)
def test_whatever_is_sent_arrives_in_its_order(wire: Wire, payloads: list[bytes], qos: int, seed: int) -> None:
    simulator = Simulator(seed, wire=wire)
    reader, writer = simulator.client("reader"), simulator.client("writer")
    simulator.run_until(lambda: reader.connected and writer.connected)
    reader.subscribe("t", qos=qos)
    simulator.settle()
    for payload in payloads:
        writer.publish("t", payload, qos)
    simulator.settle()
    assert reader.payloads() == payloads
    assert len(writer.take(Delivered)) == (len(payloads) if qos else 0)


def test_bytes_take_their_time() -> None:
    simulator = Simulator(wire=Wire(delay=(2.0, 2.0)))
    client = simulator.client("c")
    simulator.advance(3.9)
    assert not client.connected
    simulator.advance(0.1)
    assert client.connected
    assert simulator.now == pytest.approx(4.0)


def test_a_rate_is_a_rate() -> None:
    simulator = Simulator()
    client = simulator.client("c", wire=Wire(rate=100.0))
    simulator.settle()
    client.subscribe("t")
    simulator.settle()
    began = simulator.now
    simulator.publish("t", bytes(995))
    simulator.settle()
    assert simulator.now - began == pytest.approx(10.02, abs=0.02)
    assert client.messages() == [("t", bytes(995))]


@pytest.mark.parametrize("delay", [(-1.0, 1.0), (2.0, 1.0)])
def test_a_delay_is_a_range(delay: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="delay"):
        Wire(delay=delay)


# ------------------------------------------------------------------------------------------------------- being cut


def resumed(simulator: Simulator, client: SimulatedClient) -> bool:
    client.events.clear()
    client.reconnect()
    simulator.settle()
    [connack] = client.take(ConnAck)
    return connack.session_present


def test_a_cut_is_noticed_by_both() -> None:
    simulator = Simulator()
    client = simulator.client("c", **LASTING)
    client.subscribe("t", qos=1)
    client.cut()
    assert not client.connected
    assert [type(event) for event in simulator.reports] == [Connected, Disconnected]
    simulator.publish("t", b"waits", qos=1)
    assert resumed(simulator, client)
    assert client.payloads() == [b"waits"]


def test_what_is_under_way_is_lost() -> None:
    simulator = Simulator(wire=Wire(delay=(1.0, 1.0)))
    client = simulator.client("c")
    simulator.settle()
    client.publish("t", b"lost", qos=1)
    client.cut()
    simulator.settle()
    assert client.client.pending == 1


@given(st.integers(0, 100))
@settings(max_examples=60)
def test_a_cut_after_so_many_bytes_received(size: int) -> None:
    arrived: list[Arrival | Told] = []
    simulator = Simulator(watch=arrived.append)
    client = simulator.client("c", **LASTING)
    client.subscribe("t", qos=1)
    arrived.clear()
    whole = len(encode(Publish("t", bytes(30), qos=1, packet_id=1)))
    client.cut_after(received=size)
    for _ in range(3):
        simulator.publish("t", bytes(30), qos=1)
    complete = min(size // whole, 3)
    assert len(client.take(Publish)) == complete
    assert client.connected == (size > 3 * whole)
    assert len([seen for seen in arrived if isinstance(seen, Arrival) and not seen.at_broker]) == complete


@given(st.integers(0, 40))
def test_a_cut_after_so_many_bytes_sent(size: int) -> None:
    simulator = Simulator()
    reader, writer = simulator.client("r"), simulator.client("w")
    reader.subscribe("t")
    writer.cut_after(sent=size)
    if writer.connected:
        writer.publish("t", b"0123456789")
    assert bool(reader.payloads()) == (size >= len(encode(Publish("t", b"0123456789"))))
    assert writer.connected == (size > len(encode(Publish("t", b"0123456789"))))


def test_a_cut_within_a_packet() -> None:
    simulator = Simulator()
    client = simulator.client("c", **LASTING)
    client.subscribe("t", qos=1)
    client.cut_within(PacketType.PUBLISH)
    simulator.publish("t", b"x", qos=1)
    assert client.take(Publish) == []
    assert not client.connected
    assert resumed(simulator, client)
    assert [publish.dup for publish in client.take(Publish)] == [True]
    client.cut_within(PacketType.PUBACK, sent=True)
    simulator.publish("t", b"y", qos=1)
    assert not client.connected
    client.take(Publish)
    assert resumed(simulator, client)
    assert [publish.payload for publish in client.take(Publish)] == [b"y"]


@pytest.mark.parametrize("pieces", [["c0", "00"], ["c0", "00 c000"], ["c08080", "8000 c000 c000"]])
def test_a_cut_within_a_packet_whose_length_comes_after_its_middle(pieces: list[str]) -> None:
    simulator = Simulator()
    peer = simulator.peer()
    peer.send(Connect(client_id="p"))
    peer.cut_within(PacketType.PINGREQ, sent=True)
    for piece in pieces:
        assert not peer.closed
        peer.send_bytes(bytes.fromhex(piece))
    assert peer.closed
    assert not peer.take(PingResp)
    [disconnected] = [event for event in simulator.reports if isinstance(event, Disconnected)]
    assert disconnected.by == "eof"


def test_who_has_left_cannot_be_cut_off() -> None:
    def leave(client: SimulatedClient, event: Event) -> None:
        if isinstance(event, Publish):
            client.disconnect()

    simulator = Simulator(wire=Wire(delay=(1.0, 1.0)))
    client = simulator.client("c", on_event=leave)
    simulator.settle()
    client.subscribe("t")
    simulator.settle()
    client.cut_after(received=len(encode(Publish("t", b"the last"))))
    simulator.publish("t", b"the last")
    simulator.settle()
    assert client.payloads() == [b"the last"]
    [disconnected] = [event for event in simulator.reports if isinstance(event, Disconnected)]
    assert (disconnected.by, disconnected.reason_code) == ("peer", ReasonCode.NORMAL_DISCONNECTION)


def test_what_is_dropped_is_found_out_by_keep_alive() -> None:
    simulator = Simulator()
    client = simulator.client("c", keep_alive=10)
    client.drop()
    assert client.connected
    assert len(simulator.broker.links) == 1
    simulator.advance(20)
    assert [event.by for event in client.take(ConnectionClosed)] == ["timeout"]
    assert not simulator.broker.links


def test_a_client_that_crashes_is_taken_over() -> None:
    simulator = Simulator()
    client = simulator.client("c", **LASTING)
    assert resumed(simulator, client)
    [disconnected] = [event for event in simulator.reports if isinstance(event, Disconnected)]
    assert disconnected.reason_code is ReasonCode.SESSION_TAKEN_OVER
    assert client.connected


# ---------------------------------------------------------------------------------------------------- being slow


def test_a_client_that_does_not_read_holds_the_broker_back() -> None:
    simulator = Simulator(limits=Limits(output_high_water=1024), wire=Wire(capacity=100))
    client = simulator.client("c")
    client.subscribe("t", qos=1)
    client.reading = False
    for number in range(100):
        simulator.publish("t", bytes(100), qos=number % 2)
    assert client.payloads() == []
    dropped = simulator.broker.counters.qos0_dropped
    assert 0 < dropped < 50
    client.reading = True
    assert len(client.payloads()) == 100 - dropped
    assert client.reading


def test_an_application_that_takes_nothing_is_held_back_by_receive_maximum() -> None:
    simulator = Simulator()
    client = simulator.client("c", receive_maximum=2)
    client.subscribe("t", qos=1)
    client.taking = False
    for _ in range(5):
        simulator.publish("t", b"x", qos=1)
    assert simulator.broker.sessions["c"].pending == 5
    assert len(simulator.broker.sessions["c"].inflight) == 2
    client.taking = True
    assert len(client.payloads()) == 5
    assert client.taking


def test_a_peer_that_takes_no_answers_is_not_read_from() -> None:
    simulator = Simulator(limits=Limits(output_high_water=1024))
    peer = simulator.peer(wire=Wire(capacity=10))
    peer.send(Connect(client_id="c"))
    peer.reading = False
    for _ in range(3000):
        peer.send(PingReq())
    [link] = simulator.broker.links
    assert link.paused
    peer.reading = True
    assert len(peer.take(PingResp)) == 3000


def test_who_never_reads_the_last_word_is_cut_off() -> None:
    simulator = Simulator()
    client = simulator.client("c")
    client.reading = False
    simulator.broker.shutdown(simulator.now)
    simulator.advance(LINGER - 1)
    assert client.connected
    simulator.advance(1)
    assert not client.connected
    assert client.take(Disconnect) == []


def test_the_last_word_waits_behind_what_has_not_been_read() -> None:
    simulator = Simulator(wire=Wire(capacity=20))
    client = simulator.client("c")
    client.subscribe("t")
    client.reading = False
    simulator.publish("t", bytes(100))
    simulator.broker.shutdown(simulator.now)
    simulator.advance(LINGER - 1)
    assert client.connected
    client.reading = True
    assert client.payloads() == [bytes(100)]
    assert [packet.reason_code for packet in client.take(Disconnect)] == [ReasonCode.SERVER_SHUTTING_DOWN]
    client.reconnect()
    simulator.advance(2)  # nobody waits for the end of the old connection any more
    assert client.connected


def test_what_arrives_after_the_end_is_lost() -> None:
    arrived: list[Arrival | Told] = []
    simulator = Simulator(wire=Wire(delay=(1.0, 1.0)), watch=arrived.append)
    client = simulator.client("c")
    simulator.settle()
    arrived.clear()
    client.publish("t", b"late", qos=1)
    simulator.broker.shutdown(simulator.now)
    simulator.settle()
    assert [seen.packet for seen in arrived if isinstance(seen, Arrival) and seen.at_broker] == []
    assert client.client.pending == 1
    assert not client.connected


def test_a_credential_that_expires_ends_a_connection_with_nothing_said() -> None:
    def authenticate(_request: AuthRequest) -> Authentication:
        yield from ()
        return Granted(expires_at=60.0)

    simulator = Simulator(policy=Policy(authenticate=authenticate), wire=Wire(capacity=50))
    client = simulator.client("c")
    client.subscribe("t")
    client.reading = False
    simulator.publish("t", bytes(100))
    simulator.advance(59)
    assert client.connected
    simulator.advance(1)
    assert not client.connected
    client.reading = True
    assert [type(event) for event in client.events] == [ConnAck, SubAck, ConnectionClosed]


# ---------------------------------------------------------------------------------------------------- raw peers


def test_a_peer_sends_what_it_likes() -> None:
    simulator = Simulator()
    peer = simulator.peer()
    peer.send(Connect(client_id="p"), Publish("t", b"x", qos=1, packet_id=7))
    assert [type(packet) for packet in peer.received] == [ConnAck, PubAck]
    peer.send_bytes(b"\xf0\xff\xff\xff\xff\x01")
    assert [packet.reason_code for packet in peer.take(Disconnect)] == [ReasonCode.MALFORMED_PACKET]
    assert peer.closed


def test_bytes_that_are_no_packet_end_what_is_watched() -> None:
    arrived: list[Arrival | Told] = []
    simulator = Simulator(watch=arrived.append)
    peer = simulator.peer()
    peer.send(Connect(client_id="p"))
    arrived.clear()
    peer.send_bytes(encode(PingReq()) + b"\x00\x00" + encode(PingReq()))
    assert [type(seen.packet) for seen in arrived if isinstance(seen, Arrival)] == [PingReq, PingResp, Disconnect]
    assert peer.closed


def test_a_peer_closes_after_what_it_has_sent() -> None:
    arrived: list[Arrival | Told] = []
    simulator = Simulator(wire=Wire(delay=(1.0, 1.0)), watch=arrived.append)
    peer = simulator.peer()
    peer.send(Connect(client_id="p", protocol_version=V311))
    peer.close()
    simulator.settle()
    assert [(seen.client, type(seen.packet)) for seen in arrived if isinstance(seen, Arrival)] == [("p", Connect)]
    assert [type(seen.event) for seen in arrived if isinstance(seen, Told)] == [Connected, Disconnected, SessionEnded]
    assert not simulator.broker.links
    assert peer.closed


def test_a_broken_transport() -> None:
    simulator = Simulator()
    peer = simulator.peer()
    peer.send_bytes(b"\x10")
    peer.cut()
    assert peer.closed
    assert not simulator.broker.links


# --------------------------------------------------------------------------------------------- applications and time


def test_an_application_that_answers() -> None:
    def answer(client: SimulatedClient, event: Event) -> None:
        if isinstance(event, ConnAck):
            client.subscribe("ask/#", qos=1)
        elif isinstance(event, Publish):
            assert event.response_topic is not None
            client.publish(event.response_topic, event.payload.upper(), qos=1)

    simulator = Simulator(wire=Wire(delay=(0.1, 0.2)))
    simulator.client("service", on_event=answer)
    asker = simulator.client("asker")
    simulator.settle()
    asker.subscribe("answer")
    simulator.settle()
    asker.publish("ask/it", b"what", response_topic="answer")
    simulator.run_until(lambda: any(isinstance(event, Publish) for event in asker.events), within=2)
    assert asker.messages() == [("answer", b"WHAT")]


def test_an_application_that_reconnects() -> None:
    def reconnect(client: SimulatedClient, event: Event) -> None:
        if isinstance(event, ConnectionClosed):
            client.simulator.at(client.simulator.now + 5, client.reconnect)

    simulator = Simulator()
    client = simulator.client("c", on_event=reconnect)
    client.cut()
    simulator.advance(4.9)
    assert not client.connected
    simulator.advance(0.1)
    assert client.connected


def test_saying_goodbye() -> None:
    simulator = Simulator()
    client = simulator.client("c", **LASTING)
    client.unsubscribe("t")
    client.disconnect(session_expiry_interval=5)
    assert not client.connected
    assert list(simulator.broker.sessions) == ["c"]
    simulator.advance(5)
    assert not simulator.broker.sessions


def test_what_does_not_happen_in_time() -> None:
    simulator = Simulator()
    client = simulator.client("c")
    with pytest.raises(TimeoutError, match="within 5 seconds"):
        simulator.run_until(lambda: client.messages(), within=5)


def test_those_who_keep_each_other_busy_for_ever() -> None:
    simulator = Simulator()

    def again() -> None:
        simulator.at(simulator.now, again)

    again()
    with patch("mqttcore.testing.simulator.MAXIMUM_STEPS_AT_ONCE", 10), pytest.raises(RuntimeError, match="10 steps"):
        simulator.catch_up()


class Ask(Effect):
    """Is it all right?"""


def asking(_request: AuthRequest) -> Authentication:
    reply = yield Ask()
    return Granted() if reply == "yes" else Denied("no")


@pytest.mark.parametrize(("reply", "code"), [("yes", ReasonCode.SUCCESS), (None, ReasonCode.NOT_AUTHORIZED)])
def test_authenticators_are_answered(reply: str | None, code: ReasonCode) -> None:
    def perform(effect: Effect) -> Reply:
        assert isinstance(effect, Ask)
        return reply

    policy = Policy(authenticate=asking)
    simulator = Simulator(policy=policy) if reply is None else Simulator(policy=policy, perform=perform)
    assert [connack.reason_code for connack in simulator.client("c").take(ConnAck)] == [code]


# ------------------------------------------------------------------------------------------------------- replaying


def test_a_seed_gives_the_same_run() -> None:
    program = "from tests.mqttcore.simulation.twenty import digest; print(digest(7))"
    found = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(found) == 1


def test_a_shutdown_is_the_same_every_time() -> None:
    simulator = Simulator()
    names = [str(number) for number in range(50)]
    for name in names:
        simulator.client(name)
    simulator.reports.clear()
    simulator.broker.shutdown(simulator.now)
    simulator.settle()
    assert [event.client_id for event in simulator.reports if isinstance(event, Disconnected)] == names


def test_traffic_is_reported_for_whoever_wants_to_know() -> None:
    simulator = Simulator(report_traffic=True)
    client = simulator.client("c")
    client.subscribe("a")
    client.publish("a", b"x")
    assert [type(event) for event in simulator.reports] == [Connected, Subscribed, Published]
    assert client.messages() == [("a", b"x")]


@given(st.lists(packets(), min_size=1, max_size=5), st.data())
@settings(max_examples=50)
def test_where_packets_begin(sent: list[Packet], draws: st.DataObject) -> None:
    encoded = [encode(packet) for packet in sent]
    scanner = _Scanner()
    found = [seen for chunk in draws.draw(chunks(b"".join(encoded))) for seen in scanner.feed(chunk)]
    starts = [sum(map(len, encoded[:number])) for number in range(len(encoded))]
    assert found == [(data[0] >> 4, start, len(data)) for data, start in zip(encoded, starts, strict=True)]
