"""Connections that break in the middle: what QoS 1 and 2 promise must still hold."""

from collections.abc import Callable

import attrs
import pytest
import trio

from tests.interop.harness import Endpoint, Message, Options, Proxy, Transport, Version
from tests.interop.peers import PEERS

pytestmark = pytest.mark.interop

COUNT = 300  # more than 12,000 bytes, there and on


@pytest.mark.parametrize("version", [5, 4], ids=["v5", "v311"])
@pytest.mark.parametrize("publisher", ["paho", "mqttjs"])
@pytest.mark.parametrize(
    ("subscriber", "qos"),
    # eclipse-mosquitto/mosquitto#1751: libmosquitto takes a QoS 2 message that is sent again for another one.
    [("mosquitto", 1), ("paho", 1), ("paho", 2), ("mqttjs", 1), ("mqttjs", 2)],
)
async def test_every_message_arrives_although_connections_are_cut(
    publisher: str,
    subscriber: str,
    qos: int,
    version: Version,
    endpoints: dict[Transport, Endpoint],
    unique: Callable[[str], str],
) -> None:
    topic, last = unique("cut"), Message(topic=unique("last"), qos=2)
    sent = [Message(topic=topic, payload=b"%d" % number, qos=2) for number in range(COUNT)]
    reader = Options(
        version=version,
        client_id=unique("reader"),
        clean=False,
        expiry=600,
        qos=qos,
        filters=(topic, last.topic),
    )
    writer = Options(version=version, client_id=unique("writer"), clean=False, expiry=600, messages=(*sent, last))
    received: list[bytes] = []
    async with Proxy.to(endpoints["tcp"].port, [3000, 6000, 9000]) as proxy:
        endpoint = attrs.evolve(endpoints["tcp"], port=proxy.port)
        async with PEERS[subscriber].start(endpoint, reader) as running, trio.open_nursery() as nursery:
            await running.ready()
            nursery.start_soon(PEERS[publisher].publish, endpoint, writer)
            while (message := await running.message()).topic == topic:
                received.append(message.payload)
    if qos == 1:
        received = list(set(received))  # "at least once"
    assert sorted(received) == sorted(message.payload for message in sent)
    assert not proxy.cuts_to_come
