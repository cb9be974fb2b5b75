"""An application message on its way through: kept as validated wire bytes, encoded once per layout."""

from math import inf
from typing import final

from mqttcore.codec import encode_publish_head
from mqttcore.codes import V5, PacketType
from mqttcore.packets import Publish, Will
from mqttcore.properties import with_length, write_properties
from mqttcore.wire import TWO_BYTES, write_four_bytes, write_string, write_variable_byte_integer

# Identifiers of the properties that are made anew for each receiver (sections 3.3.2.3.3, 3.3.2.3.4 and 3.3.2.3.8).
_MESSAGE_EXPIRY = b"\x02"
_SUBSCRIPTION_IDENTIFIER = b"\x0b"
_TOPIC_ALIAS = b"\x23"


@final
class Message:
    """An application message. `topic` is UTF-8, `properties` the encoded properties that are forwarded unaltered.

    `expires_at` is when its Message Expiry Interval passes, which receivers are told, and `kept_until` how long it is
    kept, no later than that; both are monotonic seconds, infinity for no end. `publisher` is the Client Identifier of
    who published it, for No Local, "" for the server's own. `size` is what it counts for in a bound on bytes: topic,
    payload and properties.
    """

    __slots__ = (
        "_head",
        "_layout",
        "_tail",
        "expires_at",
        "kept_until",
        "payload",
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
        payload: bytes,
        qos: int,
        retain: bool,
        properties: bytes = b"",
        expires_at: float = inf,
        kept_until: float = inf,
        publisher: str = "",
    ) -> None:
        self.topic: bytes = topic
        self.payload: bytes = payload
        self.qos: int = qos
        self.retain: bool = retain
        self.properties: bytes = properties
        self.expires_at: float = expires_at
        self.kept_until: float = kept_until if kept_until < expires_at else expires_at
        self.publisher: str = publisher
        self.size: int = len(topic) + len(payload) + len(properties)
        self._layout: int = -1  # what _head and _tail are encoded for
        self._head: bytes = b""
        self._tail: bytes = b""

    @property
    def topic_name(self) -> str:
        """The Topic Name as text."""
        return self.topic.decode()

    def expired(self, now: float) -> bool:
        """Whether the time that it is kept has passed, section 3.3.2.3.3."""
        return self.kept_until < now

    def came_as(self, version: int, head: bytes, tail: bytes) -> None:
        """Have it sent on as it came: what of the PUBLISH, which had neither DUP nor RETAIN, is before and behind the
        Packet Identifier.
        """
        self._layout = self.qos << 2 | (version == V5)
        self._head = head
        self._tail = tail

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
        """The PUBLISH for one receiver.

        `packet_id` is 0 for QoS 0, `alias` 0 for none; an alias that the receiver knows stands for the topic.
        """
        if version != V5 or (not identifiers and not alias and self.expires_at == inf):
            layout = dup << 5 | retain << 4 | qos << 2 | (version == V5)
            if layout != self._layout:
                self._encode_layout(layout, version, qos, retain, dup)
            if qos:
                return b"".join((self._head, TWO_BYTES[packet_id], self._tail))
            return self._head + self._tail
        extra = [self.properties]
        if self.expires_at != inf:  # [MQTT-3.3.2-6]
            extra += (_MESSAGE_EXPIRY, write_four_bytes(max(0, round(self.expires_at - now))))
        for identifier in identifiers:
            extra += (_SUBSCRIPTION_IDENTIFIER, write_variable_byte_integer(identifier))
        if alias:
            extra += (_TOPIC_ALIAS, TWO_BYTES[alias])
        tail = with_length(b"".join(extra)) + self.payload
        topic = b"\0\0" if alias_known else TWO_BYTES[len(self.topic)] + self.topic
        head = encode_publish_head(qos, retain, dup, topic, len(tail) + (2 if qos else 0))
        return b"".join((head, TWO_BYTES[packet_id] if qos else b"", tail))

    def _encode_layout(self, layout: int, version: int, qos: int, retain: bool, dup: bool) -> None:
        self._tail = with_length(self.properties) + self.payload if version == V5 else self.payload
        topic = TWO_BYTES[len(self.topic)] + self.topic
        self._head = encode_publish_head(qos, retain, dup, topic, len(self._tail) + (2 if qos else 0))
        self._layout = layout


# With the properties alone that a receiver forwards unaltered (sections 3.3.2.3.2, 3.3.2.3.5 to 7 and 3.3.2.3.9).
# [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-3.1.3-10]
def _forwarded(fields: Publish | Will) -> Publish:
    return Publish(
        fields.topic,
        payload_format_indicator=fields.payload_format_indicator,
        content_type=fields.content_type,
        response_topic=fields.response_topic,
        correlation_data=fields.correlation_data,
        user_properties=fields.user_properties,
    )


def message_from(fields: Publish | Will, now: float, publisher: str = "", lifetime: float = inf) -> Message:
    """The message that a PUBLISH or a Will carries; its expiry counts from `now`. Topic Alias and Subscription
    Identifiers stay behind.

    `lifetime` is the most seconds that it is kept; a longer Message Expiry Interval is taken for one of so many. Raises
    LocalProtocolError for a value that the wire cannot hold.
    """
    interval = fields.message_expiry_interval
    return Message(
        write_string(fields.topic)[2:],
        fields.payload,
        fields.qos,
        fields.retain,
        write_properties(PacketType.PUBLISH, _forwarded(fields)),
        inf if interval is None else now + min(interval, lifetime),
        now + lifetime,
        publisher,
    )
