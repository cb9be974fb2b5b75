"""An application message on its way through: kept as validated wire bytes, its heading encoded once per layout."""

from math import inf
from typing import Final, final

from mqttcore.codec import encode_publish_head
from mqttcore.codes import V5
from mqttcore.packets import Publish, Will
from mqttcore.properties import FORWARDED, with_length, write_properties
from mqttcore.wire import TWO_BYTES, write_four_bytes, write_string, write_variable_byte_integer

# Identifiers of the properties that are made anew for each receiver (sections 3.3.2.3.3, 3.3.2.3.4 and 3.3.2.3.8).
_MESSAGE_EXPIRY: Final = b"\x02"
_SUBSCRIPTION_IDENTIFIER: Final = b"\x0b"
_TOPIC_ALIAS: Final = b"\x23"


@final
class Heading:
    """All of an application message but its payload. Messages of one length that came together share it.

    `topic` is UTF-8, `properties` the encoded properties that are forwarded unaltered. `expires_at` is when the Message
    Expiry Interval passes, which receivers are told, and `kept_until` how long the message is kept, no later than that;
    both are monotonic seconds, infinity for no end. `publisher` is the Client Identifier of who published it, for No
    Local, "" for the server's own. `payload_size` is in bytes; `size` is what the message counts for in a bound on
    bytes: topic, payload and properties.
    """

    __slots__ = (
        "_layout",
        "_parts",
        "_remaining",
        "expires_at",
        "kept_until",
        "payload_size",
        "properties",
        "publisher",
        "qos",
        "retain",
        "size",
        "topic",
    )

    def __init__(
        self,
        topic: bytes,
        payload_size: int,
        qos: int,
        retain: bool,
        properties: bytes = b"",
        expires_at: float = inf,
        kept_until: float = inf,
        publisher: str = "",
    ) -> None:
        self.topic: bytes = topic
        self.payload_size: int = payload_size
        self.qos: int = qos
        self.retain: bool = retain
        self.properties: bytes = properties
        self.expires_at: float = expires_at
        self.kept_until: float = kept_until if kept_until < expires_at else expires_at
        self.publisher: str = publisher
        self.size: int = len(topic) + payload_size + len(properties)
        # What was encoded last: for which layout, with which Message Expiry Interval (-1 for none).
        self._layout: int = -1
        self._remaining: int = -1
        self._parts: tuple[bytes, bytes] = (b"", b"")

    def encode(
        self,
        version: int,
        qos: int,
        retain: bool,
        dup: bool,
        now: float,
        identifiers: tuple[int, ...] = (),
        alias: int = 0,
        alias_known: bool = False,
    ) -> tuple[bytes, bytes]:
        """What the PUBLISH for one receiver has before its Packet Identifier, and between that and the payload.

        `alias` is 0 for none; one that the receiver knows stands for the topic. Raises LocalProtocolError for what is
        larger than a packet can be.
        """
        layout = dup << 5 | retain << 4 | qos << 2 | (version == V5)
        remaining = -1
        if version == V5:
            remaining = self.remaining(now)
            if identifiers or alias:
                return self._encode(version, qos, retain, dup, remaining, identifiers, alias, alias_known)
        if layout != self._layout or remaining != self._remaining:
            self._parts = self._encode(version, qos, retain, dup, remaining, (), 0, False)
            self._layout = layout
            self._remaining = remaining
        return self._parts

    def remaining(self, now: float) -> int:
        """What is left of the Message Expiry Interval in seconds, -1 if there is none. [MQTT-3.3.2-6]"""
        return -1 if self.expires_at == inf else max(0, round(self.expires_at - now))

    def came_as(self, version: int, head: bytes, properties: bytes, remaining: int) -> None:
        """Have it sent on as it came: what of the PUBLISH, which had neither DUP nor RETAIN nor a Topic Alias, is
        before the Packet Identifier, and between that and the payload. `remaining` is its Message Expiry Interval, -1
        for none.
        """
        self._layout = self.qos << 2 | (version == V5)
        self._remaining = remaining
        self._parts = head, properties

    def _encode(
        self,
        version: int,
        qos: int,
        retain: bool,
        dup: bool,
        remaining: int,
        identifiers: tuple[int, ...],
        alias: int,
        alias_known: bool,
    ) -> tuple[bytes, bytes]:
        properties = b""
        if version == V5:
            made = [_MESSAGE_EXPIRY, write_four_bytes(remaining)] if remaining >= 0 else []
            made.append(self.properties)
            for identifier in identifiers:
                made += (_SUBSCRIPTION_IDENTIFIER, write_variable_byte_integer(identifier))
            if alias:
                made += (_TOPIC_ALIAS, TWO_BYTES[alias])
            properties = with_length(b"".join(made))
        topic = b"\0\0" if alias_known else TWO_BYTES[len(self.topic)] + self.topic
        rest = len(properties) + self.payload_size + (2 if qos else 0)
        return encode_publish_head(qos, retain, dup, topic, rest), properties


@final
class Message:
    """An application message on its way through: a heading and a payload, neither of which changes."""

    __slots__ = ("heading", "payload")

    def __init__(self, heading: Heading, payload: bytes) -> None:
        self.heading: Heading = heading
        self.payload: bytes = payload

    @property
    def topic(self) -> bytes:
        """The Topic Name, UTF-8."""
        return self.heading.topic

    @property
    def topic_name(self) -> str:
        """The Topic Name as text."""
        return self.heading.topic.decode()

    @property
    def size(self) -> int:
        """What it counts for in a bound on bytes."""
        return self.heading.size

    def expired(self, now: float) -> bool:
        """Whether the time that it is kept has passed, section 3.3.2.3.3."""
        return self.heading.kept_until < now

    def encode(
        self,
        version: int,
        qos: int,
        retain: bool,
        dup: bool,
        packet_id: int,
        now: float,
        identifiers: tuple[int, ...] = (),
        alias: int = 0,
        alias_known: bool = False,
    ) -> bytes:
        """The PUBLISH for one receiver, as `Heading.encode` has it; `packet_id` is 0 for QoS 0."""
        head, properties = self.heading.encode(version, qos, retain, dup, now, identifiers, alias, alias_known)
        return b"".join((head, TWO_BYTES[packet_id] if qos else b"", properties, self.payload))


@final
class Run:
    """Messages of one heading that came one after another, without RETAIN.

    `frames` is the packets as they came, if they can be forwarded like this to a receiver of the version `layout`; that
    is 0 if they cannot.
    """

    __slots__ = ("_messages", "frames", "heading", "layout", "payloads")

    def __init__(self, heading: Heading, payloads: list[bytes], frames: bytes = b"", layout: int = 0) -> None:
        self.heading: Heading = heading
        self.payloads: list[bytes] = payloads
        self.frames: bytes = frames
        self.layout: int = layout
        self._messages: list[Message] | None = None

    @property
    def messages(self) -> list[Message]:
        """The messages one by one."""
        if self._messages is None:
            heading = self.heading
            self._messages = [Message(heading, payload) for payload in self.payloads]
        return self._messages

    def every(self, start: int, step: int) -> "Run":
        """Every `step`th of the messages, from the one at `start` on."""
        if step == 1:
            return self
        return Run(self.heading, self.payloads[start::step])


def message_from(fields: Publish | Will, now: float, publisher: str = "", lifetime: float = inf) -> Message:
    """The message that a PUBLISH or a Will carries; its expiry counts from `now`. Topic Alias and Subscription
    Identifiers stay behind.

    `lifetime` is the most seconds that it is kept; a longer Message Expiry Interval is taken for one of so many. Raises
    LocalProtocolError for a value that the wire cannot hold.
    """
    interval = fields.message_expiry_interval
    heading = Heading(
        write_string(fields.topic)[2:],
        len(fields.payload),
        fields.qos,
        fields.retain,
        write_properties(FORWARDED, fields),
        inf if interval is None else now + min(interval, lifetime),
        now + lifetime,
        publisher,
    )
    return Message(heading, fields.payload)
