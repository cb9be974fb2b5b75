"""Authorization: what an authorizer does not allow does not happen, and the client is told as its version can be."""

import pytest

from mqttcore import V5, V311, Auth, Connect, Publish, PubRec, PubRel, ReasonCode, Will
from mqttcore.auth import Action, Authentication, AuthRequest, Granted, Principal
from mqttcore.broker.reports import Denied, Refused
from tests.mqttcore.broker.support import Network, Peer, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
QOS = pytest.mark.parametrize("qos", [0, 1, 2])


class Rules:
    """Allows what its set holds: (action, what), or (client id, action, what) for one client alone."""

    def __init__(self, *allowed: tuple[object, ...]) -> None:
        self.allowed = {*allowed}
        self.asked: list[tuple[Principal, Action, str]] = []

    def __call__(self, principal: Principal, action: Action, what: str) -> bool:
        self.asked.append((principal, action, what))
        return bool({(action, what), (principal.client_id, action, what), (action,)} & self.allowed)


def network(rules: Rules) -> tuple[Network, Peer]:
    """A network with these rules, and a client at another port that sees all."""
    net = Network()
    net.policy = net.policy_with(authorize=rules)
    other = net.connect("other", policy=net.policy_with())
    other.subscribe("#")
    return net, other


@pytest.mark.conformance("MQTT-3.1.4-2")
@VERSIONS
def test_connect(version: int) -> None:
    net, other = network(Rules(("a", Action.CONNECT, "a")))
    refused = net.peer()
    refused.send(Connect(client_id="b", username="u", protocol_version=version, will=Will(topic="w")))
    assert refused.ended_with() is ReasonCode.NOT_AUTHORIZED
    assert not other.received
    assert len(net.take_reports(Refused)) == 1
    net.connect("a", protocol_version=version)


@VERSIONS
def test_a_refused_client_takes_nothing_over(version: int) -> None:
    rules = Rules((Action.CONNECT,))
    net, _ = network(rules)
    first = net.connect("a", session_expiry_interval=100)
    first.subscribe("t")
    rules.allowed.clear()
    second = net.peer()
    second.send(Connect(client_id="a", clean_start=True, protocol_version=version))
    assert second.ended_with() is ReasonCode.NOT_AUTHORIZED
    assert first.closed is None
    assert net.broker.sessions["a"].link is first.link


@VERSIONS
@QOS
@pytest.mark.parametrize("retain", [False, True])
def test_publish(version: int, qos: int, retain: bool) -> None:
    net, other = network(Rules((Action.CONNECT,), (Action.PUBLISH, "good")))
    peer = net.connect("a", protocol_version=version, username="u")
    peer.publish("good", b"1", qos)
    other.messages()
    for _ in range(2):
        code = peer.publish("bad", b"x", qos, retain=retain)
        assert code == (None if not qos else ReasonCode.NOT_AUTHORIZED if version == V5 else ReasonCode.SUCCESS)
    assert not other.take(Publish)
    assert not len(net.broker._distributor.retained)
    assert peer.closed is None
    peer.publish("good", b"2", qos)
    assert other.payloads() == [b"2"]
    reports = net.take_reports(Denied)
    assert {(event.client_id, event.username, event.action, event.topic) for event in reports} == {
        ("a", "u", Action.PUBLISH, "bad")
    }
    assert len(reports) == 2


@pytest.mark.conformance("MQTT-4.3.3-9")
def test_a_denied_qos_2_message_is_no_session_state_in_version_5() -> None:
    net, other = network(Rules((Action.CONNECT,), (Action.PUBLISH, "good")))
    peer = net.connect("a")
    peer.send(Publish("bad", qos=2, packet_id=1), Publish("good", qos=2, packet_id=1))
    assert [packet.reason_code for packet in peer.take(PubRec)] == [ReasonCode.NOT_AUTHORIZED, ReasonCode.SUCCESS]
    assert other.messages() == [("good", b"", 2)]
    peer.send(PubRel(1))


@VERSIONS
def test_subscribe(version: int) -> None:
    net, _ = network(Rules((Action.CONNECT,), (Action.SUBSCRIBE, "a"), (Action.SUBSCRIBE, "c/#")))
    net.publish("b", b"retained", retain=True)
    peer = net.connect("x", protocol_version=version)
    denied = ReasonCode.NOT_AUTHORIZED if version == V5 else 0x80
    filters = ("a", "b", "c/#", "#", "c/+", "$share/g/c/#", "$share/g/b")
    assert peer.subscribe(*filters) == [2, denied, 2, denied, denied, 2, denied]
    for topic in ("a", "b", "c/d"):
        net.publish(topic, topic.encode())
    assert sorted(peer.payloads()) == [b"a", b"c/d", b"c/d"]
    assert [event.topic for event in net.take_reports(Denied)] == ["b", "#", "c/+", "$share/g/b"]


def test_a_denied_replacement_leaves_the_earlier_subscription() -> None:
    rules = Rules((Action.CONNECT,), (Action.SUBSCRIBE, "a"))
    net, _ = network(rules)
    peer = net.connect("x")
    peer.subscribe(subscription("a", 0))
    rules.allowed.discard((Action.SUBSCRIBE, "a"))
    assert peer.subscribe(subscription("a", 2)) == [ReasonCode.NOT_AUTHORIZED]
    net.publish("a", qos=2)
    assert [packet.qos for packet in peer.take(Publish)] == [0]


@VERSIONS
def test_the_will_is_judged_at_connect(version: int) -> None:
    net, other = network(Rules((Action.CONNECT,)))
    peer = net.peer()
    peer.send(Connect(client_id="a", protocol_version=version, will=Will(topic="w")))
    assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
    assert not other.received


@pytest.mark.parametrize("delay", [0, 10])
def test_the_will_is_judged_again_when_it_is_sent(delay: int) -> None:
    rules = Rules((Action.CONNECT,), (Action.PUBLISH, "w"))
    net, other = network(rules)
    peers = [
        net.connect(name, will=Will(topic="w", will_delay_interval=delay), session_expiry_interval=100) for name in "ab"
    ]
    peers[0].cut()
    net.advance(delay)
    assert other.messages() == [("w", b"", 0)]
    peers[1].cut() if delay else None
    rules.allowed.discard((Action.PUBLISH, "w"))
    peers[1].cut()
    net.advance(delay)
    assert not other.received
    [report] = net.take_reports(Denied)
    assert (report.client_id, report.action, report.topic) == ("b", Action.PUBLISH, "w")
    assert report.transport == peers[1].link.transport


def test_rights_revoked_while_a_session_was_away() -> None:
    rules = Rules((Action.CONNECT,), (Action.SUBSCRIBE, "a"), (Action.SUBSCRIBE, "b/+"), (Action.SUBSCRIBE, "b/#"))
    net, _ = network(rules)
    peer = net.connect("x", session_expiry_interval=100)
    peer.subscribe("a", "b/+", "b/#", "$share/g/b/+")
    peer.cut()
    rules.allowed -= {(Action.SUBSCRIBE, "b/+")}
    for topic in ("a", "b/c", "b/c/d"):
        net.publish(topic, topic.encode(), qos=1)
    again = net.resume("x", session_expiry_interval=100)
    assert again.payloads() == [b"a", b"b/c", b"b/c/d"]  # the shared copy is gone with its subscription
    assert {*net.broker.sessions["x"].subscriptions} == {"a", "b/#"}
    assert [event.topic for event in net.take_reports(Denied)] == ["b/+", "$share/g/b/+"]
    again.cut()
    net.publish("b/x", b"secret", qos=1)
    net.publish("a", b"public", qos=1)
    rules.allowed -= {(Action.SUBSCRIBE, "b/#")}
    last = net.resume("x")
    assert last.payloads() == [b"public"]
    net.publish("b/x", qos=1)
    assert not last.received
    session = net.broker.sessions["x"]
    assert (session.pending, session.queued_bytes) == (0, 0)


@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_is_sent_again_to_one_who_may_not_have_it(qos: int) -> None:
    def authorize(principal: Principal, action: Action, what: str) -> bool:
        return action is not Action.SUBSCRIBE or what == "public" or principal.username == "ann"

    net = Network()
    net.policy = net.policy_with(authorize=authorize)
    peer = net.connect("x", username="ann", session_expiry_interval=100)
    peer.subscribe("public", "secret", "dropped")
    peer.auto = False
    for topic in ("secret", "public", "dropped"):
        net.publish(topic, topic.encode(), qos=qos)
    peer.cut()
    net.publish("dropped", b"waiting", qos=qos)
    again = net.resume("x", username="ann", session_expiry_interval=100)
    assert again.payloads() == [b"secret", b"public", b"dropped", b"waiting"]
    again.auto = False
    for topic in ("secret", "public", "dropped"):
        net.publish(topic, topic.encode(), qos=qos)
    again.unsubscribe("dropped")
    again.cut()
    other = net.resume("x", username="eve")
    assert other.payloads() == [b"public"]
    assert net.broker.sessions["x"].pending == 0


def test_what_a_share_keeps_for_one_who_may_not_have_it_goes_to_another() -> None:
    rules = Rules((Action.CONNECT,), (Action.SUBSCRIBE, "t"))
    net, other = network(rules)
    other.unsubscribe("#")
    peer = net.connect("x", session_expiry_interval=100)
    peer.subscribe("$share/g/t")
    peer.cut()
    net.publish("t", b"1", qos=1)
    other.subscribe("$share/g/t")
    rules.allowed -= {(Action.SUBSCRIBE, "t")}
    assert not net.resume("x").received
    assert other.payloads() == [b"1"]


def test_rights_that_a_reauthentication_takes_away() -> None:
    levels = iter(["high", "low"])

    def authenticate(request: AuthRequest) -> Authentication:
        return Granted(attributes={"level": next(levels)})
        yield

    def authorize(principal: Principal, action: Action, what: str) -> bool:
        return action is Action.CONNECT or what == "public" or principal.attributes["level"] == "high"

    net = Network()
    net.policy = net.policy_with(authenticate=authenticate, authorize=authorize)
    peer = net.connect("x", authentication_method="m")
    peer.subscribe("public", "secret")
    net.publish("secret", b"1")
    peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
    net.publish("secret", b"2")
    net.publish("public", b"3")
    assert peer.payloads() == [b"1", b"3"]


@pytest.mark.parametrize("character", ["+", "#", "*", "/", "", "{principal.clientId}", "\u202e"])
def test_the_authorizer_sees_names_as_they_are(character: str) -> None:
    rules = Rules((Action.CONNECT,), (Action.SUBSCRIBE, "t"), (Action.PUBLISH, "t"))
    net, _ = network(rules)
    peer = net.connect("x" + character, username="u" + character)
    peer.subscribe("t")
    peer.publish("t", b"", 1)
    principal = Principal("x" + character, "u" + character)
    assert rules.asked == [
        (principal, Action.CONNECT, "x" + character),
        (principal, Action.SUBSCRIBE, "t"),
        (principal, Action.PUBLISH, "t"),
    ]
