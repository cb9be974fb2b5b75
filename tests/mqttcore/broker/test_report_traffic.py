"""What a broker reports that was asked to `report_traffic`, and a credential that is made to expire."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import example, given

from mqttcore import Disconnect, Publish, PubRec, ReasonCode, Subscription, Will
from mqttcore.auth import Action, Principal
from mqttcore.broker import Broker, Policy
from mqttcore.broker.reports import Denied, Disconnected, Published, Subscribed
from tests.mqttcore.broker.support import WALL, Network

PUBLISHES = st.lists(
    st.tuples(
        st.sampled_from(["a", "a/b", "secret", "$SYS/x"]),
        st.binary(max_size=3),
        st.integers(0, 2),
        st.fixed_dictionaries(
            {},
            optional={
                "retain": st.booleans(),
                "topic_alias": st.just(1),
                "content_type": st.just("t"),
                "user_properties": st.just((("k", "v"),)),
            },
        ),
    ),
    max_size=10,
)


def permitted(_principal: Principal, action: Action, topic: str) -> bool:
    return action is Action.CONNECT or topic != "secret"


def network(report_traffic: bool) -> Network:
    net = Network()
    net.policy = Policy(limits=net.limits, authorize=permitted)
    net.broker = Broker(net.limits, seed=b"s" * 32, wall_offset=WALL, report_traffic=report_traffic)
    return net


def run(report_traffic: bool, publishes: list[tuple[str, bytes, int, dict[str, Any]]]) -> tuple[Network, list[object]]:
    net = network(report_traffic)
    a, b = net.connect("a"), net.connect("b")
    b.subscribe("#", "secret")
    codes = [a.publish(topic, payload, qos, **fields) for topic, payload, qos, fields in publishes]
    return net, [codes, b.received]


@given(PUBLISHES)
@example([("a", b"x", 2, {"retain": True})])
def test_each_publication_is_reported_once_and_nothing_else_is_different(
    publishes: list[tuple[str, bytes, int, dict[str, Any]]],
) -> None:
    silent, expected = run(False, publishes)
    telling, seen = run(True, publishes)
    assert seen == expected
    assert not silent.take_reports(Published)
    assert not silent.take_reports(Subscribed)
    reports = telling.take_reports(Published)
    assert [(report.client_id, report.topic, report.payload, report.qos, report.retain) for report in reports] == [
        ("a", topic, payload, qos, fields.get("retain", False)) for topic, payload, qos, fields in publishes
    ]
    for report, (topic, _, _, fields) in zip(reports, publishes, strict=True):
        assert report.publish.content_type == fields.get("content_type")
        assert report.publish.user_properties == fields.get("user_properties", ())
        assert report.reason_code.is_failure == (topic in ("secret", "$SYS/x"))
        assert not report.will


def test_an_alias_is_reported_as_the_topic_that_it_stands_for() -> None:
    net = network(True)
    a = net.connect("a")
    a.publish("t/u", b"1", topic_alias=1)
    a.publish("", b"2", topic_alias=1)
    assert [(report.topic, report.payload) for report in net.take_reports(Published)] == [("t/u", b"1"), ("t/u", b"2")]


def test_what_is_sent_again_is_not_reported_again() -> None:
    net = network(True)
    a = net.connect("a")
    for dup in (False, True):
        a.send(Publish("t", b"x", qos=2, dup=dup, packet_id=7))
    assert len(a.take(PubRec)) == 2
    assert len(net.take_reports(Published)) == 1


def test_a_will_is_reported_when_it_is_published() -> None:
    net = network(True)
    will = Will(topic="gone", payload=b"x", qos=1, retain=True, will_delay_interval=5, content_type="t")
    net.connect("a", will=will, session_expiry_interval=60).cut()
    assert not net.take_reports(Published)
    net.advance(5)
    [report] = net.take_reports(Published)
    assert report == Published(
        client_id="a",
        publish=Publish("gone", b"x", qos=1, retain=True, content_type="t"),
        reason_code=ReasonCode.NO_MATCHING_SUBSCRIBERS,
        will=True,
    )


def test_a_will_that_is_not_published_is_not_reported() -> None:
    net = network(True)
    net.connect("a", will=Will(topic="gone")).disconnect()
    assert not net.take_reports(Published)


def test_subscriptions_are_reported_with_what_was_granted() -> None:
    net = network(True)
    net.connect("a").subscribe(Subscription("x/#", qos=1), Subscription("secret", qos=0), Subscription("y", qos=2))
    assert net.take_reports(Subscribed) == [
        Subscribed(client_id="a", topic_filter="x/#", reason_code=ReasonCode.GRANTED_QOS_1),
        Subscribed(client_id="a", topic_filter="secret", reason_code=ReasonCode.NOT_AUTHORIZED),
        Subscribed(client_id="a", topic_filter="y", reason_code=ReasonCode.GRANTED_QOS_2),
    ]
    assert len(net.take_reports(Denied)) == 1


def test_a_credential_that_is_made_to_expire_ends_the_connection_as_one_that_does() -> None:
    net = Network()
    reader = net.connect("reader")
    reader.subscribe("gone")
    a = net.connect("a", will=Will(topic="gone", payload=b"x"), session_expiry_interval=60)
    net.broker.expire(a.link, net.now)
    net.settle()
    assert a.closed == "abrupt"
    assert not a.take(Disconnect)
    [report] = net.take_reports(Disconnected)
    assert (report.client_id, report.by, report.reason) == ("a", "timeout", "the credential has expired")
    assert reader.payloads() == [b"x"]
    assert "a" in net.broker.sessions
    net.broker.expire(a.link, net.now)
    assert not net.broker.take_actions()
