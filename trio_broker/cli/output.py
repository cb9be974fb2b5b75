"""How sub prints messages: payload, topic and payload, or one JSON object each."""

import base64
import json
import os
import select
from collections.abc import Callable, Sequence
from typing import Any

import trio

from mqttcore import Publish
from trio_broker.client.errors import escaped

Format = Callable[[Publish], bytes]
STANDARD_OUTPUT = 1


def payload_only(message: Publish) -> bytes:
    """The payload as it is."""
    return message.payload


def topic_and_payload(message: Publish) -> bytes:
    """Topic, space, payload; control characters of the topic, a line break above all, are escaped."""
    return escaped(message.topic).encode() + b" " + message.payload


def json_object(message: Publish) -> bytes:
    """An object of the fields and the properties that the message has, named as in the specification.

    Binary data is text where it is UTF-8; otherwise the field is called `..._base64` and holds that.
    """
    fields: dict[str, Any] = {
        "topic": message.topic,
        "qos": message.qos,
        "retain": message.retain,
        "dup": message.dup,
        **_binary("payload", message.payload),
    }
    for name in ("payload_format_indicator", "message_expiry_interval", "content_type", "response_topic"):
        value = getattr(message, name)
        if value is not None:
            fields[name] = value
    if message.correlation_data is not None:
        fields |= _binary("correlation_data", message.correlation_data)
    if message.subscription_identifiers:
        fields["subscription_identifiers"] = list(message.subscription_identifiers)
    if message.user_properties:
        fields["user_properties"] = [list(pair) for pair in message.user_properties]
    return json.dumps(fields, ensure_ascii=False).encode()


def _binary(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode("ascii")}


async def write(messages: Sequence[Publish], form: Format, end: bytes) -> None:
    """Write to standard output, in a thread: a pipe that nobody reads must not stop the keep-alive."""
    data = b"".join(form(message) + end for message in messages)
    await trio.to_thread.run_sync(_write_all, data, abandon_on_cancel=True)


def _write_all(data: bytes) -> None:
    # Not through sys.stdout: an abandoned thread would hold its lock at the interpreter's exit.
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(STANDARD_OUTPUT, view) :]
        except BlockingIOError:  # whoever started us left it in non-blocking mode
            select.select([], [STANDARD_OUTPUT], [])
