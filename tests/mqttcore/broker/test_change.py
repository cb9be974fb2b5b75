"""A policy that is replaced while clients are connected: who is sent away, what ends, what stays."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve

from mqttcore import (
    V5,
    V311,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Limits,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    PubRec,
    ReasonCode,
    Will,
)
from mqttcore.auth import (
    Action,
    Authentication,
    Authenticator,
    Authorizer,
    AuthRequest,
    Denied,
    Effect,
    Granted,
    Principal,
    Standing,
    Unavailable,
)
from mqttcore.broker import Policy, Transport, reports
from mqttcore.broker.deadlines import SLACK
from tests.mqttcore.broker.support import WALL, Network, Peer, assert_empty

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
CHANGED = ReasonCode.ADMINISTRATIVE_ACTION


def allowing(publish: str = "", subscribe: str = "", *, connect: bool = True) -> Authorizer:
    """Another authorizer each time: allows the topics that are listed, or all with "*"."""
    lists = {Action.PUBLISH: publish.split(), Action.SUBSCRIBE: subscribe.split()}

    def authorize(_principal: Principal, action: Action, name: str) -> bool:
        return connect if action is Action.CONNECT else name in lists[action] or lists[action] == ["*"]

    return authorize


def policy(net: Network, authorize: Authorizer | None = None, **fields: Any) -> Policy:
    return Policy(limits=net.limits, authorize=authorize, **fields)


def network(authorize: Authorizer | None = None, authenticate: Authenticator | None = None, **fields: Any) -> Network:
    net = Network()
    net.policy = policy(net, authorize, authenticate=authenticate, **fields)
    return net


def put_in_force(net: Network, new: Policy) -> None:
    """Put a policy in the place of the network's own; the actions of the broker are still to be carried out."""
    net.broker.change({net.policy: new}, net.now)
    net.policy = new


def change(net: Network, authorize: Authorizer | None = None, **fields: Any) -> None:
    """Change the network's own policy: its authorizer, if one is given, and `fields`."""
    if authorize is not None:
        fields["authorize"] = authorize
    put_in_force(net, evolve(net.policy, **fields))
    net.settle()


def lasting(version: int = V5) -> dict[str, Any]:
    """The fields of a CONNECT whose session outlives the connection."""
    more = {"session_expiry_interval": 1000} if version == V5 else {}
    return {"protocol_version": version, "clean_start": False, **more}


def ended(peer: Peer) -> ReasonCode | None:
    """The code that a connection was ended with; MQTT 3.1.1 has none."""
    assert peer.closed == "in order"
    return next((packet.reason_code for packet in peer.take(Disconnect)), None)


def denials(net: Network) -> list[tuple[str, Action, str, str]]:
    return [(each.client_id, each.action, each.topic, each.rules) for each in net.take_reports(reports.Denied)]


def watcher_of(net: Network, *filters: str) -> Peer:
    """A client at a port of its own."""
    peer = net.connect("watcher", policy=policy(net))
    peer.subscribe(*(filters or ("#",)))
    return peer


# ------------------------------------------------------------------------------------------ who goes and who stays


@VERSIONS
def test_clients_are_sent_away_and_may_return(version: int) -> None:
    net = network(allowing("t", "t"))
    peer = net.connect("a", **lasting(version))
    peer.subscribe("t")
    change(net, allowing("t", "t"))
    assert ended(peer) == (CHANGED if version == V5 else None)
    [report] = net.take_reports(reports.Disconnected)
    assert (report.client_id, report.by) == ("a", "us")
    assert report.reason == "the authorization of its port has changed"
    net.publish("t", b"1", qos=1)
    again = net.resume("a", **{key: value for key, value in lasting(version).items() if key != "clean_start"})
    assert again.payloads() == [b"1"]
    assert again.publish("t", b"2", 1) is ReasonCode.SUCCESS
    assert again.payloads() == [b"2"]


@VERSIONS
def test_a_client_that_the_new_policy_does_not_let_in_stays_out(version: int) -> None:
    net = network(allowing())
    net.connect("a", **lasting(version))
    change(net, allowing(connect=False), rules="none")
    again = net.peer()
    again.send(Connect(client_id="a", **lasting(version)))
    assert again.ended_with() is ReasonCode.NOT_AUTHORIZED
    assert denials(net) == [("a", Action.CONNECT, "a", "none")]


def test_a_session_ends_by_its_own_expiry() -> None:
    net = network(allowing())
    net.connect("a")
    net.connect("b", session_expiry_interval=10)
    change(net, allowing())
    assert set(net.broker.sessions) == {"b"}
    net.advance(11)
    assert_empty(net.broker)


@VERSIONS
@pytest.mark.parametrize("concerned", [False, True], ids=["another port", "the same authorizer"])
def test_everybody_else_stays_with_all_they_have(version: int, concerned: bool) -> None:
    net = network(allowing("t", "t"))
    other = policy(net, allowing())
    net.connect("b", other)
    peer = net.connect("a", keep_alive=10, protocol_version=version)
    peer.auto = False
    peer.subscribe("t")
    for payload, qos in ((b"1", 1), (b"2", 2)):
        net.publish("t", payload, qos=qos)
    peer.reading = False
    net.publish("t", b"3")
    net.publish("t", b"4", qos=1)
    if concerned:
        change(net, rules="new")
    else:
        net.broker.change({other: policy(net, allowing())}, net.now)
        net.settle()
    peer.read()
    assert peer.closed is None
    first, second, *_ = packets = peer.take(Publish)
    assert [packet.payload for packet in packets] == [b"1", b"2", b"3", b"4"]
    peer.send(PubAck(first.packet_id or 0), PubRec(second.packet_id or 0))
    assert peer.publish("t", b"5", 1) is ReasonCode.SUCCESS
    assert peer.payloads() == [b"5"]
    net.advance(14)
    peer.send(PingReq())
    assert peer.take(PingResp)
    net.advance(16)
    assert peer.closed is not None  # by its Keep Alive


def test_a_policy_is_put_in_force_once() -> None:
    net = network(allowing())
    other = policy(net, allowing())
    peers = [net.connect("a"), net.connect("b", other)]
    new = policy(net, allowing())
    for policies in (
        {net.policy: net.policy},
        {net.policy: other},
        {net.policy: other, other: net.policy},
        {net.policy: new, other: new},
    ):
        with pytest.raises(ValueError, match="once"):
            net.broker.change(policies, net.now)
        net.settle()
    assert [peer.closed for peer in peers] == [None, None]
    net.broker.change({net.policy: new, policy(net): policy(net)}, net.now)  # of which one is nobody's
    net.settle()
    assert [ended(peers[0]), peers[1].closed] == [CHANGED, None]


def test_connections_keep_the_limits_that_they_began_with() -> None:
    net = network(None)
    peer = net.connect("a")
    waiting = net.peer()
    change(net, limits=Limits(maximum_qos=1, maximum_subscriptions=1, receive_maximum=7))
    assert peer.subscribe("a", "b") == [2, 2]
    assert peer.publish("t", b"", 2) is not None
    assert peer.closed is None
    waiting.send(Connect(client_id="w"))
    assert waiting.expect(ConnAck).maximum_qos is None
    later = net.connect("b")
    assert (later.connack.maximum_qos, later.connack.receive_maximum) == (1, 7)
    assert later.subscribe("a", "b") == [1, ReasonCode.QUOTA_EXCEEDED]
    change(net, rules="x")
    assert peer.subscribe("c") == [2]
    assert later.subscribe("c") == [ReasonCode.QUOTA_EXCEEDED]


# ------------------------------------------------------------------------------------------------------------ wills


@VERSIONS
@pytest.mark.parametrize("after", [False, True], ids=["denied now", "allowed still"])
def test_the_will_is_due_and_judged_by_the_new_policy(version: int, after: bool) -> None:
    net = network(allowing("w"), rules="old")
    watcher = watcher_of(net)
    net.connect("a", protocol_version=version, will=Will(topic="w", payload=b"gone"))
    change(net, allowing("w" if after else ""), rules="new")
    assert watcher.payloads() == ([b"gone"] if after else [])
    assert denials(net) == ([] if after else [("a", Action.PUBLISH, "w", "new")])


@pytest.mark.parametrize("after", [False, True], ids=["denied now", "allowed still"])
def test_a_delayed_will_is_judged_when_it_is_sent(after: bool) -> None:
    net = network(allowing("w"))
    watcher = watcher_of(net)
    peer = net.connect("a", session_expiry_interval=100, will=Will(topic="w", will_delay_interval=10))
    peer.cut()
    change(net, allowing("w" if after else ""))
    net.advance(11)
    assert len(watcher.take(Publish)) == after


@VERSIONS
@pytest.mark.parametrize("order", [1, -1])
def test_all_policies_are_in_force_before_anything_is_sent(version: int, order: int) -> None:
    net = network(allowing("w"))
    reading = policy(net, allowing(subscribe="w"))
    subscriber = net.connect("b", reading, protocol_version=version)
    subscriber.subscribe("w")
    net.connect("a", protocol_version=version, will=Will(topic="w", payload=b"secret"))
    changes = {net.policy: policy(net, allowing("w")), reading: policy(net, allowing())}
    net.broker.change(dict([*changes.items()][::order]), net.now)
    net.settle()
    assert not subscriber.payloads()
    assert not net.broker.sessions


def test_a_will_to_one_who_is_sent_away_as_well_needs_no_alias_that_was_not_sent() -> None:
    net = network(allowing("w", "w"))
    for number in range(4):  # on whichever side of the others it comes
        net.connect(f"a{number}", will=Will(topic="w", payload=b"will"))
    peer = net.connect("b", topic_alias_maximum=5)
    peer.subscribe("w")
    peer.reading = False
    net.publish("w", b"waits")
    put_in_force(net, policy(net, allowing("w", "w")))
    peer.reading = True
    net.settle()
    assert {each.topic for each in peer.take(Publish)} <= {"w"}
    assert ended(peer) is CHANGED


# ---------------------------------------------------------------------------------------------------- subscriptions


@VERSIONS
@pytest.mark.parametrize("connected", [False, True])
def test_subscriptions_end_with_what_waits_because_of_them_alone(version: int, connected: bool) -> None:
    net = network(allowing(subscribe="a b +"), rules="old")
    peer = net.connect("c", **lasting(version))
    peer.auto = False
    peer.subscribe("a", "b", "+")
    for qos in (1, 2):  # these are in flight
        net.publish("a", b"a%d" % qos, qos=qos)
        net.publish("b", b"b%d" % qos, qos=qos)
        net.publish("c", b"c%d" % qos, qos=qos)
    if not connected:
        peer.cut()
        for topic in ("a", "b", "c"):
            net.publish(topic, topic.encode(), qos=2)
    change(net, allowing(subscribe="a"), rules="new")
    assert set(net.broker.sessions["c"].subscriptions) == {"a"}
    assert denials(net) == [("c", Action.SUBSCRIBE, "b", "new"), ("c", Action.SUBSCRIBE, "+", "new")]
    net.publish("b", b"later", qos=1)
    again = net.peer()
    again.send(Connect(client_id="c", **lasting(version)))
    assert again.payloads() == ([b"a1", b"a2"] if connected else [b"a1", b"a2", b"a"])
    assert net.broker.sessions["c"].pending == 0


@VERSIONS
@pytest.mark.parametrize("in_flight", [False, True])
def test_what_waits_for_a_share_goes_to_another_member(version: int, in_flight: bool) -> None:
    net = network(allowing(subscribe="t"))
    peer = net.connect("a", **lasting(version))
    peer.auto = False
    peer.subscribe("$share/g/t")
    if not in_flight:
        peer.cut()
    for number in range(3):
        net.publish("t", b"%d" % number, qos=1)
    other = net.connect("b", policy(net))
    other.subscribe("$share/g/t")
    leaving = net.connect("c", **lasting(version))
    leaving.subscribe("$share/g/t")
    change(net, allowing())
    assert other.payloads() == [b"0", b"1", b"2"]
    assert not leaving.payloads()
    assert [net.broker.sessions[client_id].pending for client_id in "ac"] == [0, 0]


def test_what_waited_in_the_output_is_not_sent_any_more() -> None:
    net = network(allowing("t", "t"))
    peer = net.connect("a", **lasting())
    peer.subscribe("t")
    peer.reading = False
    net.publish("t", b"0")
    peer.send(Publish("u", b"", qos=1, packet_id=1), PingReq())
    net.publish("t", b"1", qos=1)
    put_in_force(net, policy(net, allowing("t", "t")))
    peer.reading = True
    net.settle()
    assert [type(packet) for packet in peer.received] == [PubAck, PingResp, Disconnect]
    again = net.resume("a", session_expiry_interval=1000)
    assert again.payloads() == [b"1"]  # which is allowed now as it was


@VERSIONS
def test_a_connack_that_waits_goes_before_everything(version: int) -> None:
    net = network(allowing("t", "t"))
    peer = net.connect("a", **lasting(version))
    peer.subscribe("t")
    peer.cut()
    net.publish("t", b"1", qos=1)
    again = net.peer()
    again.reading = False
    again.send(Connect(client_id="a", **lasting(version)))
    put_in_force(net, policy(net, allowing("t", "t")))
    again.reading = True
    net.settle()
    assert [type(packet) for packet in again.received] == [ConnAck, Disconnect][: 2 if version == V5 else 1]


def test_what_is_sent_again_goes_by_what_is_allowed_then() -> None:
    sites = iter(["x", "y", "y"])
    net = network(
        lambda principal, action, name: action is not Action.SUBSCRIBE or name == principal.attributes["site"],
        granting(lambda: {"site": next(sites)}),
    )
    peer = net.connect("a", **lasting(), authentication_method="m")
    peer.auto = False
    peer.subscribe("x")
    net.publish("x", b"under way", qos=1)
    peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
    assert not net.broker.sessions["a"].subscriptions
    [packet] = peer.take(Publish)
    peer.cut()
    again = net.resume("a", session_expiry_interval=1000, authentication_method="m")
    assert not again.payloads()
    assert net.broker.sessions["a"].pending == 0
    assert packet.packet_id


def test_what_waits_to_be_sent_again_is_dropped_when_a_re_authentication_takes_the_right() -> None:
    sites = iter(["x", "x", "y"])
    net = network(
        lambda principal, action, name: action is not Action.SUBSCRIBE or name == principal.attributes["site"],
        granting(lambda: {"site": next(sites)}),
    )
    peer = net.connect("a", **lasting(), authentication_method="m")
    peer.auto = False
    peer.subscribe("x")
    for payload in (b"1", b"2"):
        net.publish("x", payload, qos=1)
    peer.cut()
    again = net.peer()
    again.auto = False
    again.send(Connect(client_id="a", **lasting(), authentication_method="m", receive_maximum=1))
    assert again.payloads() == [b"1"]
    again.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
    again.send(PubAck(1))
    assert not again.payloads()
    assert net.broker.sessions["a"].pending == 0


def test_retained_messages_wait_no_longer_for_what_has_left_the_queue() -> None:
    sites = iter(["x", ""])
    net = network(
        lambda principal, _action, name: name != "x" or principal.attributes["site"] == "x",
        granting(lambda: {"site": next(sites)}),
    )
    net.publish("r", b"retained", retain=True, qos=1)
    peer = net.connect("a", receive_maximum=1, authentication_method="m")
    peer.auto = False
    peer.subscribe("x", "y")
    for topic in ("y", "x", "y", "x"):
        net.publish(topic, topic.encode(), qos=1)
    peer.subscribe("r")
    net.publish("y", b"later", qos=1)
    peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
    peer.auto = True
    peer.send(PubAck(1))
    assert peer.payloads() == [b"y", b"y", b"retained", b"later"]


# --------------------------------------------------------------------------------------------------------- retained


@VERSIONS
def test_retained_messages_are_withheld_while_their_publisher_may_not_publish_them(version: int) -> None:
    net = network(allowing("a b"))
    watcher = watcher_of(net, "none")
    peer = net.connect("p", protocol_version=version)
    for topic in ("a", "b"):
        peer.publish(topic, topic.encode(), 1, retain=True)
    net.publish("c", b"own", retain=True)
    for allowed, expected in (("a", [b"a", b"own"]), ("", [b"own"]), ("a b", [b"a", b"b", b"own"])):
        change(net, allowing(allowed))
        watcher.subscribe("#")
        assert sorted(watcher.payloads()) == expected
    assert net.broker.counters.retained_withheld == 3


@VERSIONS
def test_a_retained_will_is_withheld_like_any_other(version: int) -> None:
    net = network(allowing("w"))
    watcher = watcher_of(net, "none")
    net.connect("a", protocol_version=version, will=Will(topic="w", payload=b"will", retain=True))
    change(net, allowing("w"))
    for allowed in (True, False, True):
        change(net, allowing("w" if allowed else ""))
        watcher.subscribe("w")
        assert watcher.payloads() == ([b"will"] if allowed else [])


def test_it_is_the_publishers_rights_that_count() -> None:
    net = network(allowing("t"))
    other = policy(net, allowing("t"))
    watcher = watcher_of(net, "none")
    net.connect("p").publish("t", b"1", retain=True)
    net.connect("q", other).publish("t", b"2", retain=True)
    change(net, allowing())
    watcher.subscribe("t")
    assert watcher.payloads() == [b"2"]
    net.broker.change({other: policy(net, allowing())}, net.now)
    watcher.subscribe("t")
    assert watcher.payloads() == []


def test_a_retained_message_goes_by_the_attributes_that_it_was_published_with() -> None:
    sites = iter(["x", "y"])
    net = network(allowing("*"), granting(lambda: {"site": next(sites)}))
    watcher = watcher_of(net, "none")
    peer = net.connect("p", authentication_method="m")
    peer.publish("1", b"x", retain=True)
    peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))
    peer.publish("2", b"y", retain=True)
    change(net, lambda principal, _action, _name: principal.attributes["site"] == "y")
    watcher.subscribe("#")
    assert watcher.payloads() == [b"y"]


def test_a_message_that_had_found_its_way_before_is_delivered() -> None:
    net = network(allowing("t"))
    watcher = watcher_of(net, "t")
    watcher.reading = False
    net.connect("p").publish("t", b"1", 1, retain=True)
    change(net, allowing())
    watcher.read()
    assert watcher.payloads() == [b"1"]


# ---------------------------------------------------------------------------------------------------- authentication


class Ask(Effect):
    """Something for the shell to do."""


def granting(attributes: Any = dict, **fields: Any) -> Authenticator:
    """Another authenticator each time, which lets everybody in at once."""

    def authenticate(_request: AuthRequest) -> Authentication:
        return Granted(attributes=attributes(), **fields)
        yield

    return authenticate


def asking(request: AuthRequest) -> Authentication:
    verdict: Granted = yield Ask()
    return verdict


def denying(_request: AuthRequest) -> Authentication:
    return Denied("not by the new one")
    yield


def reauthenticate(peer: Peer) -> None:
    peer.send(Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m"))


def test_a_credential_keeps_its_deadline() -> None:
    net = network(None, granting(expires_at=WALL + 100))
    peer = net.connect("a")
    change(net, authenticate=granting(expires_at=WALL + 50))
    net.advance(99)
    assert peer.closed is None
    net.advance(1)
    assert peer.closed == "abrupt"


@pytest.mark.parametrize(
    ("authenticate", "code"),
    [(denying, ReasonCode.NOT_AUTHORIZED), (None, ReasonCode.BAD_AUTHENTICATION_METHOD), (granting(), None)],
)
def test_a_re_authentication_goes_by_the_new_authenticator(
    authenticate: Authenticator | None, code: ReasonCode | None
) -> None:
    net = network(None, granting(expires_at=WALL + 100))
    peer = net.connect("a", authentication_method="m")
    change(net, authenticate=authenticate)
    assert peer.closed is None
    reauthenticate(peer)
    assert peer.closed is None if code is None else ended(peer) is code
    net.advance(1000)
    assert (peer.closed is None) == (code is None)


def test_a_re_authentication_that_is_held_back_goes_by_the_new_authenticator() -> None:
    net = network(None, asking)
    peer = net.peer()
    peer.send(Connect(client_id="a", authentication_method="m"))
    net.perform(Granted())
    reauthenticate(peer)
    net.perform(Unavailable())
    reauthenticate(peer)
    change(net, authenticate=denying)
    assert peer.closed is None
    net.advance(net.limits.reauthentication_interval)
    assert ended(peer) is ReasonCode.NOT_AUTHORIZED


def speaking_against(word: str, seen: list[Standing] | None = None) -> Any:
    """A review that speaks against clients of that user name."""

    def review(standing: Standing, time: float) -> str | None:
        assert time >= WALL
        if seen is not None:
            seen.append(standing)
        return f"{word} is out" if standing.principal.username == word else None

    return review


@VERSIONS
@pytest.mark.parametrize("which", ["revoked", "review"])
@pytest.mark.parametrize("other", [False, True], ids=["the same authenticator", "another"])
def test_an_authentication_under_way_is_reviewed_before_it_is_granted(version: int, which: str, other: bool) -> None:
    net = network(None, asking)
    peers = [net.peer(), net.peer()]
    for name, peer in zip(("out", "in"), peers, strict=True):
        peer.send(Connect(client_id=name, username=name, protocol_version=version))
    fields: dict[str, Any] = {"authenticate": denying} if other else {}
    change(net, **{which: speaking_against("out")}, **fields)
    assert not any(peer.received for peer in peers)
    for _ in peers:
        net.perform(Granted())
    assert peers[0].ended_with() is ReasonCode.NOT_AUTHORIZED
    assert peers[1].expect(ConnAck).reason_code is ReasonCode.SUCCESS
    [refused] = net.take_reports(reports.Refused)
    assert refused.reason == "out is out"


def test_a_re_authentication_under_way_ends_as_it_would_and_is_reviewed() -> None:
    net = network(None, asking)
    peers = []
    for name in ("out", "in"):
        peers.append(net.peer())
        peers[-1].send(Connect(client_id=name, username=name, authentication_method="m"))
        net.perform(Granted(username="was in"))
    for peer in peers:
        reauthenticate(peer)
    change(net, authenticate=None, revoked=speaking_against("out"))
    for name in ("out", "in"):
        net.perform(Granted(username=name))
    assert ended(peers[0]) is ReasonCode.NOT_AUTHORIZED
    assert peers[1].closed is None
    assert peers[1].take(Auth)[-1].reason_code is ReasonCode.SUCCESS


@VERSIONS
def test_a_connect_under_way_is_judged_by_the_new_rules(version: int) -> None:
    net = network(allowing("w", "t"), asking)
    waiting = [net.peer() for _ in range(3)]
    for name, peer, topic in zip("abc", waiting, ("w", "w", "v"), strict=True):
        peer.send(Connect(client_id=name, protocol_version=version, will=Will(topic=topic)))
    change(net, allowing("v", "t"), rules="new")
    for _ in waiting:
        net.perform(Granted())
    assert [peer.closed is None for peer in waiting] == [False, False, True]
    assert denials(net) == [(name, Action.PUBLISH, "w", "new") for name in "ab"]


# ------------------------------------------------------------------------------------------------ revoked and review


@VERSIONS
def test_revoked_speaks_against_clients_that_are_connected(version: int) -> None:
    net = network(None, granting(method="x"))
    watcher = watcher_of(net)
    transport = Transport("p", certificates=(b"leaf",))
    out = net.peer(transport=transport)
    out.send(Connect(client_id="out", username="out", protocol_version=version, will=Will(topic="w")))
    stays = net.connect("stays", username="in", protocol_version=version)
    seen: list[Standing] = []
    change(net, revoked=speaking_against("out", seen))
    assert ended(out) == (ReasonCode.NOT_AUTHORIZED if version == V5 else None)
    assert stays.closed is None
    assert Standing("x", (b"leaf",), Principal("out", "out")) in seen
    assert len(seen) == 2
    assert len(watcher.take(Publish)) == 1
    [report] = net.take_reports(reports.Disconnected)
    assert report.reason == "out is out"
    net.connect("out", username="out", protocol_version=version)  # which is for the authenticator to say


def test_revoked_is_not_asked_about_whom_the_authorizer_sends_away() -> None:
    net = network(allowing())
    peer = net.connect("out", username="out")
    change(net, allowing(), revoked=speaking_against("out"))
    assert ended(peer) is CHANGED
    assert len(net.take_reports(reports.Disconnected)) == 1


def reviewed(interval: float = 60.0) -> tuple[Network, list[float]]:
    """A network with a review, and when it has been asked; it speaks against those who are called "out"."""
    net = Network(review_interval=interval)
    asked: list[float] = []

    def review(standing: Standing, time: float) -> str | None:
        asked.append(time - WALL)
        return "out" if standing.principal.username == "out" else None

    net.policy = policy(net, authenticate=granting(), review=review)
    return net, asked


@VERSIONS
def test_review_is_asked_at_every_interval(version: int) -> None:
    net, asked = reviewed()
    net.advance(5)
    net.connect("a", username="in", protocol_version=version)
    net.advance(200)
    assert asked == [65, 125, 185]


@VERSIONS
def test_review_disconnects(version: int) -> None:
    net, _ = reviewed()
    net.advance(5)
    peer = net.connect("a", username="out", **lasting(version))
    net.advance(59)
    assert peer.closed is None
    net.advance(1)
    assert ended(peer) == (ReasonCode.NOT_AUTHORIZED if version == V5 else None)
    assert "a" in net.broker.sessions


def test_nothing_puts_a_review_off() -> None:
    net, asked = reviewed()
    peer = net.connect("a", authentication_method="m")
    for _ in range(10):
        net.advance(30)
        change(net, rules="new")
        reauthenticate(peer)
    assert asked == [60, 120, 180, 240, 300]


def test_a_policy_without_review_arms_no_deadline() -> None:
    net = network(None)
    link = net.connect("a").link
    assert link.next_deadline() == float("inf")
    change(net, review=speaking_against("out"))
    assert link.next_deadline() == net.limits.review_interval
    change(net, review=None)
    assert link.next_deadline() == float("inf")


# ------------------------------------------------------------------------------------------------------- disconnect


@VERSIONS
def test_disconnect(version: int) -> None:
    net = network(None, asking)
    other = net.connect("other", policy(net))
    other.subscribe("#")
    silent, undecided, peer = net.peer(), net.peer(), net.peer()
    peer.send(Connect(client_id="a", **lasting(version), will=Will(topic="w")))
    net.perform(Granted())
    undecided.send(Connect(client_id="b", protocol_version=version))
    net.broker.disconnect([net.policy, policy(net)], "the port is no more", net.now)
    net.settle()
    assert ended(peer) == (CHANGED if version == V5 else None)
    assert undecided.ended_with() is ReasonCode.SERVER_UNAVAILABLE
    assert silent.closed
    assert silent.ended() is None
    assert other.closed is None
    assert len(other.take(Publish)) == 1
    assert {each.reason for each in net.take_reports(reports.Disconnected)} == {"the port is no more"}
    assert {each.reason for each in net.take_reports(reports.Refused)} == {"the port is no more"}
    assert set(net.broker.sessions) == {"other", "a"}
    net.perform(Granted())  # which comes too late
    assert undecided.ended_with() is ReasonCode.SERVER_UNAVAILABLE


# ---------------------------------------------------------------------------------------------------------- reports


@VERSIONS
def test_a_denial_names_the_rules(version: int) -> None:
    net = network(allowing("w", connect=False), rules="first")
    net.peer().send(Connect(client_id="a", protocol_version=version))
    change(net, allowing("w", "s"), rules="second")
    net.peer().send(Connect(client_id="a", protocol_version=version, will=Will(topic="v")))
    peer = net.connect("a", **lasting(version), will=Will(topic="w"))
    peer.subscribe("t", "s", "$share/g/s", "$share/g/t")
    for qos in (0, 1, 2):
        peer.publish("t", b"", qos)
    change(net, allowing(), rules="third")
    assert denials(net) == [
        ("a", Action.CONNECT, "a", "first"),
        ("a", Action.PUBLISH, "v", "second"),
        ("a", Action.SUBSCRIBE, "t", "second"),
        ("a", Action.SUBSCRIBE, "$share/g/t", "second"),
        *[("a", Action.PUBLISH, "t", "second")] * 3,
        ("a", Action.SUBSCRIBE, "s", "third"),
        ("a", Action.SUBSCRIBE, "$share/g/s", "third"),
        ("a", Action.PUBLISH, "w", "third"),
    ]


# --------------------------------------------------------------------------------------------------- what is in use


def in_use(net: Network, *policies: Policy) -> Iterator[bool]:
    return map(net.broker.in_use, policies)


def forget(net: Network, *peers: Peer) -> None:
    """Forget the links of peers, as a shell does that has closed them."""
    for peer in peers:
        del net.peers[peer.link]
        del peer.link


@VERSIONS
def test_a_policy_is_in_use_as_long_as_anybody_goes_by_it(version: int) -> None:
    net = network(None)
    assert not net.broker.in_use(net.policy)
    peer = net.peer()
    assert net.broker.in_use(net.policy)
    peer.send(Connect(client_id="a", **lasting(version)))
    old = net.policy
    change(net, rules="new")
    assert list(in_use(net, old, net.policy)) == [False, True]
    peer.publish("t", b"1", retain=True)
    peer.cut()
    forget(net, peer)
    assert net.broker.in_use(net.policy)  # by the session
    other = net.connect("a", policy(net), clean_start=True)
    assert net.broker.in_use(net.policy)  # by the retained message
    other.publish("t", b"", retain=True)
    assert not net.broker.in_use(net.policy)


def test_what_is_remembered_of_clients_who_have_gone_keeps_no_policy_in_use() -> None:
    net = network(None, granting(expires_at=WALL + 1e6))
    other = net.connect("other", policy(net), keep_alive=10)  # whose deadline comes first
    peers = [net.connect(str(number), session_expiry_interval=1000 + number) for number in range(SLACK // 2)]
    for peer in peers:
        peer.subscribe("t/+")
        peer.auto = False
    other.publish("t/1", b"1", 1)  # whose route is remembered
    for peer in peers:
        peer.disconnect(session_expiry_interval=0)
    forget(net, *peers)
    del peer
    assert not net.broker.in_use(net.policy)
    net.peer()
    undecided = net.peer()
    undecided.send(Connect(client_id="x", authentication_method="m"))
    net.broker.disconnect([net.policy], "", net.now)
    net.settle()
    for link in [link for link in net.peers if link is not other.link]:
        del net.peers[link]
    del link, undecided.link
    assert not net.broker.in_use(net.policy)
    other.disconnect()
    assert_empty(net.broker)


def test_a_connection_that_opens_under_a_policy_that_was_replaced_has_the_one_in_its_place() -> None:
    net = network(allowing("*", "*"))
    first = net.policy
    change(net, allowing("*", "*"))
    change(net, allowing(connect=False))
    late = net.peer(first)
    late.send(Connect(client_id="late"))
    assert late.ended_with() is ReasonCode.NOT_AUTHORIZED
    assert not net.broker.in_use(first)


def test_what_was_replaced_is_not_kept_alive_by_those_who_were_let_in_by_it() -> None:
    def let_in(_request: AuthRequest) -> Authentication:
        return Granted()
        yield

    net = network(authenticate=let_in)
    peer = net.connect("c")
    replaced = weakref.ref(net.policy)
    change(net, authenticate=None)
    gc.collect()
    assert replaced() is None
    peer.send(PingReq())
    peer.expect(PingResp)


def test_a_connection_opened_under_an_earlier_policy_shares_the_port_of_those_that_stayed() -> None:
    net = Network()
    stayed = net.connect("stayed")
    new = Policy(limits=net.limits, name="new")
    net.broker.change({net.policy: new}, net.now)
    opened = net.connect("opened")  # by a listener that has not heard of it yet
    assert opened.link.port is stayed.link.port
    assert opened.link.policy is new
