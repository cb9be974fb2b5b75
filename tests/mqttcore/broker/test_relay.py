"""The short cut for common packets gives what the general path gives, for every packet."""

from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import given, settings

from mqttcore import Connect, Limits, PubAck, PubComp, Publish, PubRec, PubRel, Subscribe, Subscription
from mqttcore.auth import Action, Principal
from mqttcore.broker import Broker, Close, Flush, Link, Policy, Report, Transport
from mqttcore.broker.reports import Disconnected, Published, Subscribed
from mqttcore.codec import encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.limits import UNLIMITED_EXPIRY
from tests.mqttcore.broker.support import Network

T = TypeVar("T")
TOPICS = st.sampled_from([*["a/b"] * 6, "a", "a/c", "b", "secret", "$SYS/x", "$x", "a/\u00e4"])
FILTERS = st.sampled_from(["a", "a/b", "#", "+/b", "a/#", "$share/g/a/#", "$share/g/a/b", "$share/h/b", "secret", "$x"])
IDS = st.integers(1, 6)


def seldom(value: T) -> st.SearchStrategy[T | None]:
    """What keeps a packet from the short cut, so that most packets are without it."""
    return st.sampled_from([None] * 7 + [value])


@st.composite
def publishes(draw: st.DrawFn, version: int) -> bytes:
    qos = draw(st.integers(0, 2))
    packet = Publish(
        draw(TOPICS),
        draw(st.sampled_from([b"", b"x", b"y" * 130, b"\xff"])),
        qos=qos,
        retain=draw(seldom(True)) or False,
        dup=bool(qos) and draw(st.booleans()),
        packet_id=draw(IDS) if qos else None,
        topic_alias=draw(seldom(1)),
        message_expiry_interval=draw(seldom(5)),
        payload_format_indicator=draw(seldom(1)),
        content_type=draw(st.sampled_from([None, "t", "t" * 130])),
        user_properties=draw(st.sampled_from([(), (("k", "v"),), (("k", "v"), ("k", "w"))])),
    )
    return encode(packet, version)


@st.composite
def runs(draw: st.DrawFn, version: int) -> bytes:
    """PUBLISHes that differ in Packet Identifier and payload at most; where aliases are used, the first sets one."""
    qos = draw(st.integers(0, 2))
    alias = draw(st.sampled_from([None, None, 1, 2])) if version == V5 else None
    one = Publish(
        draw(TOPICS),
        qos=qos,
        packet_id=1 if qos else None,
        message_expiry_interval=draw(seldom(5)),
        topic_alias=alias,
        user_properties=draw(st.sampled_from([(), (("k", "v"),)])),
    )
    size = draw(st.sampled_from([0, 1, 1, 1, 130]))
    data: list[bytes] = []
    for packet_id in draw(st.lists(st.integers(1, 9), min_size=1, max_size=9, unique=draw(st.booleans()))):
        topic = one.topic if alias is None or not data else ""
        payload = bytes([packet_id]) * size
        data.append(encode(evolve(one, topic=topic, payload=payload, packet_id=packet_id if qos else None), version))
    return b"".join(data)


@st.composite
def answers(draw: st.DrawFn, version: int) -> bytes:
    """A run of acknowledgements."""
    kind: Any = draw(st.sampled_from([PubAck, PubRec, PubRel, PubComp]))
    return b"".join(encode(kind(packet_id), version) for packet_id in draw(st.lists(IDS, min_size=1, max_size=6)))


@st.composite
def traffic(draw: st.DrawFn, version: int) -> bytes:
    """Bytes of a connected client: mostly well-formed, now and then broken."""
    one = st.one_of(
        *[publishes(version)] * 4,
        *[runs(version)] * 4,
        answers(version),
        st.builds(lambda i: encode(PubAck(i), version), IDS),
        st.builds(lambda i: encode(PubRec(i), version), IDS),
        st.builds(lambda i: encode(PubRel(i), version), IDS),
        st.builds(lambda i: encode(PubComp(i), version), IDS),
        st.builds(
            lambda f, q, n, r, i: encode(
                Subscribe(
                    9,
                    (Subscription(f, q, no_local=n and f[0] != "$", retain_as_published=r),),
                    subscription_identifier=i,
                ),
                version,
            ),
            FILTERS,
            st.integers(0, 2),
            st.booleans(),
            st.booleans(),
            st.sampled_from([None, None, 7]),
        ),
        st.just(b"\xc0\x00"),
    )
    # the short cut is for topics that have come before
    data = b"".join(draw(st.lists(one, min_size=1, max_size=12))) * draw(st.integers(1, 3))
    if data and draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    return data


def permitted(_principal: Principal, action: Action, topic: str) -> bool:
    return action is not Action.PUBLISH or topic != "secret"


def run(
    used: bool, versions: list[int], limits: Limits, aliases: int, script: list[tuple[int, bytes, bool]]
) -> list[object]:
    """Everything that comes out of a broker which gets `script`: (link, bytes, whether all outputs are taken then)."""
    seen: list[object] = []
    broker = Broker(limits, seed=bytes(32), wall_offset=0.0, report_traffic=not used)
    policy = Policy(limits=limits, authorize=permitted)
    links: list[Link] = []
    for index, version in enumerate(versions):
        link = broker.open(0.0, Transport(), policy)
        connect = Connect(client_id=f"c{index}", protocol_version=version, topic_alias_maximum=aliases if index else 0)
        broker.receive(link, encode(connect), 0.0)
        links.append(link)
    for now, (index, data, take) in enumerate(script):
        broker.receive(links[index % len(links)], data, float(now))
        for action in broker.take_actions():
            match action:
                case Report(event=Published() | Subscribed()):
                    pass
                case Report(event=event):
                    seen.append(event)
                case Close(link=link, abrupt=abrupt):
                    seen.append((link.client_id, abrupt))
                case Flush(link=link):
                    seen.append(("flush", link.client_id))
        if take:
            for link in links:
                while output := broker.take_output(link, float(now)):
                    seen.append((link.client_id, output))
    for link in links:
        session = broker.sessions.get(link.client_id)
        if session is not None:
            seen.append((sorted(session.inflight), sorted(session.releasing), session.inflight_bytes))
            seen.append((sorted(session.unreleased), session.expired, link.room))
            waiting = [*session.inflight.values(), *session.queue]
            seen += [(m.payload, m.heading.expires_at, m.heading.kept_until, t.qos) for m, t in waiting]
    seen.append(broker.next_deadline())
    seen.append(broker.counters)
    return seen


@given(st.data())
@settings(deadline=None, max_examples=400)
def test_the_short_cut_is_indistinguishable_from_the_general_path(data: st.DataObject) -> None:
    versions = data.draw(st.lists(st.sampled_from([V5, V5, V311]), min_size=1, max_size=3))
    limits = Limits(
        output_high_water=data.draw(st.sampled_from([1024, 1_000_000])),
        receive_maximum=data.draw(st.sampled_from([2, 100])),
        inflight_maximum=data.draw(st.sampled_from([1, 100])),
        maximum_qos=data.draw(st.sampled_from([1, 2, 2, 2])),
        maximum_packet_size=data.draw(st.sampled_from([128, 10_000, 10_000, 10_000])),
        maximum_cached_topics=data.draw(st.sampled_from([1, 100])),
        maximum_cached_routes=data.draw(st.sampled_from([1, 100])),
        maximum_message_expiry=data.draw(st.sampled_from([0, 1, 3, UNLIMITED_EXPIRY])),
        maximum_queued_messages=data.draw(st.sampled_from([1, 2, 100])),
        drop_oldest=data.draw(st.booleans()),
    )
    aliases = data.draw(st.sampled_from([0, 0, 2]))
    script = []
    for index, version in enumerate(versions):  # or else hardly any message has a subscriber
        if data.draw(st.booleans()):
            qos, no_local, as_published = (
                data.draw(st.integers(0, 2)),
                data.draw(st.booleans()),
                data.draw(st.booleans()),
            )
            everything = Subscription("#", qos, no_local=no_local, retain_as_published=as_published)
            script.append((index, encode(Subscribe(9, (everything,)), version), True))
    for _ in range(data.draw(st.integers(1, 6))):
        index = data.draw(st.integers(0, len(versions) - 1))
        script.append((index, data.draw(traffic(versions[index])), data.draw(st.booleans())))
    assert run(True, versions, limits, aliases, script) == run(False, versions, limits, aliases, script)


@pytest.mark.parametrize(
    ("version", "broken"),
    [
        (V5, "30 05 0003 612f62"),  # without a Property Length
        (V5, "32 07 0003 612f62 0001"),
        (V5, "30 08 0003 612f62 02 7f00"),  # an unknown property
        (V5, "30 0a 0003 612f62 04 01000100"),  # one property twice
        # a Topic Name that reaches into what comes next
        (V5, "30 02 0003 612f62 00"),
        (V311, "30 02 0003 612f62 00"),
        (V311, "32 02 0003 612f62 0001"),
    ],
)
def test_what_is_malformed_about_a_topic_that_is_known_ends_the_connection(version: int, broken: str) -> None:
    subscribe = encode(Subscribe(9, (Subscription("a/b"),)), version)
    good = encode(Publish("a/b", b"good"), version)
    script = [(0, subscribe, True), (0, good + good + bytes.fromhex(broken) + good, True)]
    seen = run(True, [version], Limits(), 0, script)
    assert seen == run(False, [version], Limits(), 0, script)
    [end] = [event for event in seen if isinstance(event, Disconnected)]
    assert end.reason_code in (ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR)
    assert sum(output.count(good) for _, output in taken(seen)) == 2


@pytest.mark.parametrize("properties", [{"content_type": "t"}, {"message_expiry_interval": 5}])
def test_properties_are_the_same_however_often_they_have_come(properties: dict[str, Any]) -> None:
    publish = Publish("a/b", b"x", **properties)
    script = [(0, encode(Subscribe(9, (Subscription("a/b"),))), True), *[(0, encode(publish), True)] * 4]
    seen = run(True, [V5], Limits(), 0, script)
    assert seen == run(False, [V5], Limits(), 0, script)
    assert [output for _, output in taken(seen)][-4:] == [encode(publish)] * 4


def test_how_many_topics_are_known_is_bounded() -> None:
    net = Network(maximum_cached_topics=2)
    publisher, subscriber = net.connects("p", "s")
    subscriber.subscribe("#")
    topics = [f"{number % 7}" for number in range(50)]
    for topic in topics:
        publisher.publish(topic)
        assert 0 < len(publisher.link.routes) <= 2
    assert [topic for topic, _, _ in subscriber.messages()] == topics


def taken(seen: list[object]) -> list[tuple[str, bytes]]:
    """The outputs among what `run` has seen."""
    return [item for item in seen if isinstance(item, tuple) and isinstance(item[-1], bytes)]
