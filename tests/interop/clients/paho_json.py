"""What the paho and aiomqtt programs share: paho's properties from and to the harness's JSON."""

import json
from collections.abc import Iterable
from typing import Any

from paho.mqtt.properties import Properties


def emit(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def emit_message(topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None) -> None:
    fields: dict[str, Any] = properties.json() if properties is not None else {}  # type: ignore[no-untyped-call]
    emit(
        "message",
        topic=topic,
        payload=payload.hex(),
        qos=qos,
        retain=retain,
        content_type=fields.get("ContentType", ""),
        response_topic=fields.get("ResponseTopic", ""),
        correlation_data=bytes.fromhex(fields.get("CorrelationData", "")).decode(),
        user_properties=fields.get("UserProperty", []),
    )


def properties(kind: int, fields: dict[str, Any]) -> Properties:
    result = Properties(kind)  # type: ignore[no-untyped-call]
    if fields.get("expiry"):
        result.SessionExpiryInterval = fields["expiry"]
    if fields.get("content_type"):
        result.ContentType = fields["content_type"]
    if fields.get("response_topic"):
        result.ResponseTopic = fields["response_topic"]
    if fields.get("correlation_data"):
        result.CorrelationData = fields["correlation_data"].encode()
    if fields.get("user_properties"):
        result.UserProperty = [tuple(pair) for pair in fields["user_properties"]]
    return result


def refuse(reasons: Iterable[Any]) -> None:
    """End the program when the broker granted a subscription less than success."""
    if failures := [str(reason) for reason in reasons if reason.is_failure]:
        raise SystemExit(f"refused: {failures}")
