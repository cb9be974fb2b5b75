"""That the strategies do as they are told; the codec's tests show that the packets drawn are valid."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.testing.strategies import chunks, publishes, subscribes, topic_names, unsubscribes


@given(publishes(qos=st.just(1), topics=st.just("a"), from_client=True))
@settings(deadline=None, max_examples=50)
def test_publishes(publish: p.Publish) -> None:
    assert publish.qos == 1
    assert publish.packet_id is not None
    assert publish.topic == "a" or publish.topic_alias is not None
    assert publish.subscription_identifiers == ()


@given(subscribes(filters=st.just("a")), unsubscribes(filters=st.just("b")))
@settings(deadline=None, max_examples=20)
def test_filters(subscribe: p.Subscribe, unsubscribe: p.Unsubscribe) -> None:
    assert {item.topic_filter for item in subscribe.subscriptions} == {"a"}
    assert set(unsubscribe.topic_filters) == {"b"}


@given(topic_names(max_levels=2))
@settings(deadline=None, max_examples=50)
def test_levels(topic: str) -> None:
    assert topic.count("/") <= 1


@given(st.binary(max_size=30), st.data())
@settings(deadline=None, max_examples=100)
def test_chunks(data: bytes, draws: st.DataObject) -> None:
    pieces = draws.draw(chunks(data))
    assert b"".join(pieces) == data
    assert b"" not in pieces
