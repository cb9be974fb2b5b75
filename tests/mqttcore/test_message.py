"""A Message's encodings are those of the PUBLISH that it came from, less what concerned one hop only."""

from math import inf
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import V5, V311
from mqttcore.errors import LocalProtocolError
from mqttcore.message import message_from
from mqttcore.testing import strategies
from tests.mqttcore.support import packets_in

messages = strategies.publishes(topics=strategies.topic_names()).filter(lambda publish: publish.topic != "")

receivers = st.fixed_dictionaries(
    {
        "version": st.sampled_from([V311, V5]),
        "qos": st.integers(0, 2),
        "retain": st.booleans(),
        "dup": st.booleans(),
        "packet_id": strategies.packet_ids(),
        "identifiers": st.lists(st.integers(1, 268_435_455), max_size=2).map(tuple),
        "alias": st.integers(0, 3),
        "alias_known": st.booleans(),
    }
)


@pytest.mark.conformance(
    "MQTT-3.3.1-3",
    "MQTT-3.3.2-6",
    "MQTT-3.3.2-4",
    "MQTT-3.3.2-15",
    "MQTT-3.3.2-16",
    "MQTT-3.3.2-17",
    "MQTT-3.3.2-18",
    "MQTT-3.3.2-20",
)
@given(publish=messages, calls=st.lists(receivers, min_size=1, max_size=6), waited=st.integers(0, 100))
def test_every_receiver_gets_the_publish_that_is_due_to_it(
    publish: p.Publish, calls: list[dict[str, Any]], waited: int
) -> None:
    message = message_from(publish, 1000.0, "publisher")
    interval = publish.message_expiry_interval
    calls += [{**call, "dup": not call["dup"]} for call in calls[-1:]]
    for call in calls:  # one message, many receivers: what one was sent must not show at the next
        if not call["qos"]:
            call |= {"dup": False, "packet_id": 0}
        if call["version"] == V311:
            call |= {"identifiers": (), "alias": 0}
        known = bool(call["alias"] and call["alias_known"])
        expected = evolve(
            publish,
            topic="" if known else publish.topic,
            qos=call["qos"],
            retain=call["retain"],
            dup=call["dup"],
            packet_id=call["packet_id"] or None,
            topic_alias=call["alias"] or None,
            subscription_identifiers=call["identifiers"],
            message_expiry_interval=None if interval is None else max(0, interval - waited),
        )
        data = message.encode(**{**call, "alias_known": known}, now=1000.0 + waited)
        if call["version"] == V311:
            assert data == encode(expected, V311)
        else:
            assert packets_in(data) == [expected]
            assert len(data) == len(encode(expected, V5))


@pytest.mark.conformance("MQTT-3.1.3-10")
@given(will=strategies.wills(), now=st.floats(0, 1e6))
def test_a_will_becomes_the_message_that_it_describes(will: p.Will, now: float) -> None:
    message = message_from(will, now)
    heading = message.heading
    assert (heading.qos, heading.retain, heading.publisher) == (will.qos, will.retain, "")
    [publish] = packets_in(message.encode(V5, 0, heading.retain, False, 0, now))
    assert isinstance(publish, p.Publish)
    for name in ("topic", "payload", "retain", "payload_format_indicator", "content_type", "response_topic"):
        assert getattr(publish, name) == getattr(will, name)
    assert publish.correlation_data == will.correlation_data
    assert publish.message_expiry_interval == will.message_expiry_interval
    assert publish.user_properties == will.user_properties


@given(publish=messages)
def test_the_size_is_what_a_bound_on_bytes_is_about(publish: p.Publish) -> None:
    message = message_from(publish, 0.0)
    assert message.topic_name == publish.topic
    assert len(message.topic) + len(message.payload) <= message.size <= len(encode(publish, V5))


@pytest.mark.parametrize(
    ("interval", "waited", "expired"),
    [(None, 1e12, False), (0, 0.0, False), (0, 0.1, True), (5, 5.0, False), (5, 5.1, True)],
)
def test_expiry(interval: int | None, waited: float, expired: bool) -> None:
    message = message_from(p.Publish("t", message_expiry_interval=interval), 100.0)
    assert message.expired(100.0 + waited) is expired
    assert (message.heading.expires_at == inf) is (interval is None)


def test_what_is_sent_late_has_no_time_left_rather_than_less() -> None:
    message = message_from(p.Publish("t", message_expiry_interval=5), 0.0)
    [publish] = packets_in(message.encode(V5, 1, False, True, 1, 1e6))
    assert isinstance(publish, p.Publish)
    assert publish.message_expiry_interval == 0


@given(waited=st.floats(0, 4e9), interval=st.integers(0, 2**32 - 1), start=st.floats(0, 1e9))
def test_no_more_time_is_left_than_there_was(waited: float, interval: int, start: float) -> None:
    message = message_from(p.Publish("t", message_expiry_interval=interval), start)
    [publish] = packets_in(message.encode(V5, 0, False, False, 0, start + waited))
    assert isinstance(publish, p.Publish)
    left = publish.message_expiry_interval
    assert left is not None
    assert left <= interval
    assert abs(left - max(0.0, interval - waited)) <= 1


@pytest.mark.parametrize("topic", ["a\0", "\ud800", "é" * 40_000])
def test_what_the_wire_cannot_hold(topic: str) -> None:
    with pytest.raises(LocalProtocolError):
        message_from(p.Publish(topic), 0.0)
