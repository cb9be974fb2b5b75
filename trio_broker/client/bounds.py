"""The bounds of one client connection; those of the protocol are `mqttcore.Limits`."""

from attrs import frozen

from mqttcore.limits import limit


@frozen(kw_only=True)
class Bounds:
    """What one client holds at most, and for how long it waits; immutable."""

    waiting_messages: int = limit(
        1000,
        "messages",
        "received messages that wait for the application; then nothing more is read",
        1,
        10**7,
    )
    waiting_bytes: int = limit(
        16_777_216, "bytes", "topics and payloads of such messages; then nothing more is read", 1, 2**40
    )
    unsettled_messages: int = limit(
        1000,
        "messages",
        "messages handed over and not sent (QoS 0) or acknowledged; then publishing waits",
        1,
        10**7,
    )
    unsettled_bytes: int = limit(
        4_194_304, "bytes", "topics and payloads of such messages; then publishing waits", 1, 2**40
    )
    connect_timeout: float = limit(
        30.0, "seconds", "time from looking up the server's name to a CONNACK of success", 0.01, 3600
    )
    closing_timeout: float = limit(
        2.0, "seconds", "time for DISCONNECT to leave and for the server to close the connection", 0.01, 60
    )
    stalled_timeout: float = limit(
        60.0, "seconds", "time that an answer is waited for while unread behind a full queue", 0.01, 3600
    )
