"""The end of the broker: every client is told, every connection closed, no Will sent, no session lost."""

import pytest

from mqttcore import V5, V311, Connect, Publish, ReasonCode, Will
from mqttcore.auth import Authentication, AuthRequest, Challenge, Effect, Granted
from mqttcore.broker.reports import Disconnected, Refused
from tests.mqttcore.broker.support import Network


def shut_down(net: Network) -> None:
    net.broker.shutdown(net.now)
    net.settle()


def test_every_client_is_told_in_its_terms() -> None:
    net = Network()
    new, old = net.connect("new"), net.connect("old", protocol_version=V311)
    silent = net.peer()
    shut_down(net)
    assert new.ended_with() is ReasonCode.SERVER_SHUTTING_DOWN
    assert old.ended() is silent.ended() is None
    assert {peer.closed for peer in (new, old, silent)} == {"in order"}
    assert not net.broker.links
    assert {event.client_id for event in net.take_reports(Disconnected)} == {"new", "old"}
    assert len(net.take_reports(Refused)) == 1
    net.reports.clear()
    shut_down(net)
    assert not net.reports


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("challenged", [False, True])
def test_a_client_that_is_being_authenticated_is_refused(version: int, challenged: bool) -> None:
    def authenticate(request: AuthRequest) -> Authentication:
        yield Challenge(b"?") if challenged and version == V5 else Effect()
        return Granted()

    net = Network()
    net.policy = net.policy_with(authenticate=authenticate)
    peer = net.peer()
    peer.send(Connect(client_id="a", protocol_version=version, authentication_method="m" if version == V5 else None))
    shut_down(net)
    assert peer.ended_with() is ReasonCode.SERVER_UNAVAILABLE
    if net.performs:
        net.perform(None)
    assert not net.broker.sessions
    assert net.broker.next_deadline() == float("inf")


def test_wills_are_not_sent_and_sessions_stay() -> None:
    net = Network()
    watcher = net.connect("watcher", session_expiry_interval=100)
    watcher.subscribe("will/#")
    for number, delay in enumerate((0, 10)):
        will = Will(topic=f"will/{number}", will_delay_interval=delay, qos=1)
        net.connect(f"{number}", will=will, session_expiry_interval=100)
    net.connect("short")
    shut_down(net)
    net.advance(50)
    assert {*net.broker.sessions} == {"watcher", "0", "1"}
    assert not net.resume("watcher").take(Publish)
    net.advance(1000)
    assert not net.broker.sessions.keys() - {"watcher"}


def test_output_that_waits_is_still_there() -> None:
    net = Network()
    peer = net.connect("a")
    peer.subscribe("t")
    peer.reading = False
    net.publish("t", b"x")
    shut_down(net)
    peer.reading, peer.closed = True, None
    while peer.read_once():
        pass
    assert [type(packet).__name__ for packet in peer.received] == ["Publish", "Disconnect"]
