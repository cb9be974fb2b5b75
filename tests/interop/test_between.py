"""A message of one implementation, with what MQTT 5 lets it carry, read by another."""

from collections.abc import Callable

import attrs
import pytest

from tests.interop.harness import Endpoint, Message, Options, Transport, Version
from tests.interop.peers import PEERS

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("publisher", PEERS)
@pytest.mark.parametrize("subscriber", PEERS)
@pytest.mark.parametrize(("sent_in", "read_in"), [(5, 5), (5, 4), (4, 5)], ids=["v5", "v5-to-v311", "v311-to-v5"])
async def test_message_between_implementations(
    publisher: str,
    subscriber: str,
    sent_in: Version,
    read_in: Version,
    endpoints: dict[Transport, Endpoint],
    unique: Callable[[str], str],
) -> None:
    plain = Message(topic=unique("between"), payload="grün".encode(), qos=1)
    rich = attrs.evolve(
        plain,
        content_type="text/plain",
        response_topic=unique("answer"),
        correlation_data="42",
        user_properties=(("a", "1"), ("b", "2")),
    )
    reader = Options(version=read_in, client_id=unique("reader"), qos=1, filters=(plain.topic,))
    writer = Options(version=sent_in, client_id=unique("writer"), messages=(rich,))
    async with PEERS[subscriber].start(endpoints["tcp"], reader) as running:
        await running.ready()
        await PEERS[publisher].publish(endpoints["tcp"], writer)
        assert await running.message() == (rich if sent_in == read_in == 5 else plain)
