"""aiomqtt driven by JSON: options on standard input, one event per line on standard output."""

import asyncio
import json
import ssl
import sys
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes

from tests.interop.clients.paho_json import emit, emit_message, properties, refuse


def build(options: dict[str, Any]) -> aiomqtt.Client:
    v5 = options["version"] == 5
    will = options["will"]
    return aiomqtt.Client(
        options["host"],
        options["port"],
        identifier=options["client_id"],
        protocol=aiomqtt.ProtocolVersion(options["version"]),
        transport="websockets" if options["transport"] in ("ws", "wss") else "tcp",
        tls_context=ssl.create_default_context(cafile=options["ca"])
        if options["transport"] in ("tls", "wss")
        else None,
        keepalive=options["keep_alive"],
        clean_session=None if v5 else options["clean"],
        clean_start=options["clean"] if v5 else 3,
        properties=properties(PacketTypes.CONNECT, options) if v5 else None,
        will=None
        if will is None
        else aiomqtt.Will(
            will["topic"],
            bytes.fromhex(will["payload"]),
            will["qos"],
            will["retain"],
            properties(PacketTypes.WILLMESSAGE, will) if v5 else None,
        ),
    )


async def main() -> None:
    options = json.load(sys.stdin)
    async with build(options) as client:
        for message in options["messages"]:
            await client.publish(
                message["topic"],
                bytes.fromhex(message["payload"]),
                message["qos"],
                message["retain"],
                properties(PacketTypes.PUBLISH, message) if options["version"] == 5 else None,
                timeout=60,
            )
        if options["messages"]:
            return
        if options["filters"]:
            granted = await client.subscribe([(name, options["qos"]) for name in options["filters"]])
            if options["version"] == 5:
                refuse(granted)
            elif 0x80 in granted:
                raise SystemExit("refused")
        emit("ready", session_present=None)  # aiomqtt does not tell
        async for received in client.messages:
            assert isinstance(received.payload, bytes)
            emit_message(str(received.topic), received.payload, received.qos, received.retain, received.properties)


asyncio.run(main())
