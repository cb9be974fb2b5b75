"""Sections 4.2 and 6 of MQTT 5.0: the broker and the client of this package over TCP and over WebSocket."""

import pytest
import trio
from trio_websocket import wrap_client_stream

from mqttcore import Connect, Publish, Subscription
from tests.trio_broker.support import listen, running
from trio_broker.client import open_client


@pytest.mark.conformance("MQTT-4.2.0-1")
@pytest.mark.parametrize("websocket", [None, "/mqtt"])
async def test_bytes_arrive_whole_and_in_order_both_ways(websocket: str | None) -> None:
    payloads = [bytes((number,)) * size for number, size in enumerate([0, 1, 100_000, 3, 1_000_000, 2])]
    listener = listen(websocket=websocket is not None)
    host, port = listener.address
    with trio.fail_after(30):
        async with (
            running(listener),
            open_client(Connect(client_id="a"), host=host, port=port, websocket=websocket) as client,
        ):
            await client.subscribe(Subscription("t", qos=1))
            for payload in payloads:
                await client.publish(Publish("t", payload, qos=1))
            assert [(await client.receive()).payload for _ in payloads] == payloads


@pytest.mark.conformance("MQTT-6.0.0-4")
@pytest.mark.parametrize("offered", [["mqtt"], ["other", "mqtt"], ["mqtt", "other"], ["mqttv3.1", "mqtt", "MQTT"]])
async def test_the_server_selects_mqtt_among_what_is_offered(offered: list[str]) -> None:
    listener = listen(websocket=True)
    with trio.fail_after(30):
        async with running(listener) as run, trio.open_nursery() as nursery:
            stream = await run.dial(listener)
            connection = await wrap_client_stream(nursery, stream, "127.0.0.1", "/mqtt", subprotocols=offered)
            assert connection.subprotocol == "mqtt"
            nursery.cancel_scope.cancel()
