"""paho-mqtt driven by JSON: options on standard input, one event per line on standard output."""

import json
import sys
import threading
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from tests.interop.clients.paho_json import emit, emit_message, properties, refuse


def build(options: dict[str, Any]) -> Client:
    v5 = options["version"] == 5
    client = Client(
        CallbackAPIVersion.VERSION2,
        options["client_id"],
        clean_session=None if v5 else options["clean"],
        protocol=MQTTProtocolVersion(options["version"]),
        transport="websockets" if options["transport"] in ("ws", "wss") else "tcp",
    )
    if options["transport"] in ("tls", "wss"):
        client.tls_set(options["ca"])
    if (will := options["will"]) is not None:
        client.will_set(
            will["topic"],
            bytes.fromhex(will["payload"]),
            will["qos"],
            will["retain"],
            properties(PacketTypes.WILLMESSAGE, will) if v5 else None,
        )
    client.reconnect_delay_set(1, 1)
    return client


def main() -> None:
    options = json.load(sys.stdin)
    v5 = options["version"] == 5
    filters = [(topic_filter, options["qos"]) for topic_filter in options["filters"]]
    connected = threading.Event()
    session_present = False

    def on_connect(client: Client, userdata: object, flags: Any, reason: Any, extra: object) -> None:
        nonlocal session_present
        refuse([reason])
        if connected.is_set():
            return  # paho reconnected: the session has the subscriptions
        session_present = flags.session_present
        connected.set()
        if filters:
            client.subscribe(filters)
        else:
            emit("ready", session_present=session_present)

    def on_subscribe(client: Client, userdata: object, mid: int, reasons: Any, extra: object) -> None:
        refuse(reasons)
        emit("ready", session_present=session_present)

    client = build(options)
    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = lambda client, userdata, m: emit_message(
        m.topic, bytes(m.payload), m.qos, m.retain, m.properties
    )
    if v5:
        client.connect(
            options["host"],
            options["port"],
            options["keep_alive"],
            clean_start=options["clean"],
            properties=properties(PacketTypes.CONNECT, options),
        )
    else:
        client.connect(options["host"], options["port"], options["keep_alive"])
    if not options["messages"]:
        client.loop_forever()

    client.loop_start()
    connected.wait()
    pending = [
        client.publish(
            message["topic"],
            bytes.fromhex(message["payload"]),
            message["qos"],
            message["retain"],
            properties(PacketTypes.PUBLISH, message) if v5 else None,
        )
        for message in options["messages"]
    ]
    for message_info in pending:
        message_info.wait_for_publish()
    client.disconnect()
    client.loop_stop()


main()
