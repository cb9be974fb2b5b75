"""The part of Session State (section 4.1) that both roles have: what is in flight and what waits, either way.

A session outlives its connections. Messages are pulled out of it (`next_publish`) as the peer's Receive Maximum and the
caller's output allow; one gets its packet identifier at that moment and not before.
"""

from collections import OrderedDict, deque
from typing import final

from mqttcore.codes import ReasonCode
from mqttcore.limits import Limits
from mqttcore.message import Message
from mqttcore.packets import PubAck, PubComp, PubRec, PubRel


@final
class Terms:
    """On which terms one peer gets a message. `owner` is what the caller wants to find again with it."""

    __slots__ = ("identifiers", "owner", "qos", "retain")

    def __init__(self, qos: int, retain: bool, identifiers: tuple[int, ...] = (), owner: object = None) -> None:
        self.qos: int = qos
        self.retain: bool = retain
        self.identifiers: tuple[int, ...] = identifiers
        self.owner: object = owner


Delivery = tuple[Message, Terms]
"""A QoS 1 or 2 message that waits for its peer, or is under way to it. Nothing in it changes."""
Sending = tuple[int, Delivery, bool]
"""A message to be sent now: its packet identifier, what it is, and the DUP flag."""


# What sessions share in which nothing waits: together as large as all the rest of a session. Nothing is added to them.
_NO_QUEUE: deque[Delivery] = deque(maxlen=0)
_NOTHING_TO_RESEND: OrderedDict[int, Delivery] = OrderedDict()


class Session:
    """In-flight messages, packet identifiers, QoS 2 state and the queue of one client, on either side."""

    __slots__ = (
        "_last_id",
        "_receive_maximum",
        "_requests",
        "_resend",
        "_unreleased",
        "expired",
        "inflight",
        "inflight_bytes",
        "limits",
        "queue",
        "queued_bytes",
        "releasing",
        "taken",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self.queue: deque[Delivery] = _NO_QUEUE
        self.queued_bytes: int = 0
        # by packet identifier, in the order of first sending: what awaits PUBACK or PUBREC, section 4.3
        self.inflight: dict[int, Delivery] = {}
        self.inflight_bytes: int = 0
        self.releasing: dict[int, Terms] = {}  # what awaits PUBCOMP, in the order of the PUBRECs
        self.taken: int = 0  # messages that have left the queue at its head: to be sent, expired, or to make room
        self.expired: int = 0  # messages dropped because the time that they are kept passed while they waited
        self._unreleased: set[int] | None = None
        self._requests: set[int] | None = None
        self._resend: OrderedDict[int, Delivery] = _NOTHING_TO_RESEND
        self._last_id: int = 0
        self._receive_maximum: int = 0

    @property
    def unreleased(self) -> set[int]:
        """The QoS 2 packet identifiers of the peer's that await PUBREL. Most sessions never have any."""
        if self._unreleased is None:
            self._unreleased = set()
        return self._unreleased

    @property
    def requests(self) -> set[int]:
        """The packet identifiers of our SUBSCRIBEs and UNSUBSCRIBEs under way. A server has none."""
        if self._requests is None:
            self._requests = set()
        return self._requests

    # ------------------------------------------------------------------------------------------------- outbound

    def enqueue(self, delivery: Delivery) -> bool:
        """Let a QoS 1 or 2 message wait its turn; False, and nothing kept, when the bound of the queue is reached."""
        message, _ = delivery
        if not self.has_room(message):
            return False
        if self.queue is _NO_QUEUE:
            self.queue = deque()
        self.queue.append(delivery)
        self.queued_bytes += message.size
        return True

    def has_room(self, message: Message) -> bool:
        """Whether `enqueue` would keep the message."""
        return (
            len(self.queue) < self.limits.maximum_queued_messages
            and self.queued_bytes + message.size <= self.limits.maximum_queued_bytes
        )

    def make_room(self, message: Message, now: float) -> int:
        """Let the oldest of the queue go so that `enqueue` keeps the message: what has expired, and with `drop_oldest`
        any that waits; how many of the latter.

        Nothing goes for a message that is too large for an empty queue.
        """
        dropped = 0
        if message.size <= self.limits.maximum_queued_bytes:
            while not self.has_room(message):
                if self.take_expired(now) is None:
                    if not self.limits.drop_oldest:
                        break
                    self._take()
                    dropped += 1
        return dropped

    @property
    def pending(self) -> int:
        """QoS 1 and 2 messages that are waiting or in flight."""
        return len(self.queue) + len(self.inflight) + len(self.releasing)

    @property
    def backlog(self) -> bool:
        """Whether messages wait to be sent, or sent again, before any new one."""
        return bool(self.queue or self._resend)

    def takes(self, count: int, size: int) -> bool:
        """Whether so many new messages, each of `size` bytes, may go at once: there is a quota for all of them, and
        nothing waits.
        """
        return (
            not self.queue
            and not self._resend
            and len(self.inflight) + len(self.releasing) + count <= self._receive_maximum
            and self.inflight_bytes + (count - 1) * size < self.limits.maximum_queued_bytes
        )

    @property
    def resending(self) -> bool:
        """Whether messages wait to be sent again."""
        return bool(self._resend)

    @property
    def has_quota(self) -> bool:
        """Whether one more unacknowledged message may be under way to the peer, section 4.9 and our bound on bytes."""
        under_way = len(self.inflight) + len(self.releasing) - len(self._resend)
        if under_way >= self._receive_maximum:  # [MQTT-4.9.0-2] [MQTT-3.3.4-9]
            return False
        # A peer that acknowledges nothing shall not hold more than one that takes nothing; sent again is nothing new.
        return self.inflight_bytes < self.limits.maximum_queued_bytes or bool(self._resend)

    def next_publish(self, now: float) -> Sending | None:
        """The message to send next; None when none waits or the send quota is used up."""
        if not self.has_quota:  # [MQTT-4.9.0-2]
            return None
        if self._resend:
            # However long ago it was sent first: it no longer expires. [MQTT-4.3.3-7] [MQTT-4.3.3-13]
            packet_id, delivery = self._resend.popitem(last=False)
            return packet_id, delivery, True  # [MQTT-3.3.1-1]
        while self.take_expired(now) is not None:
            pass
        if not self.queue:
            return None
        delivery = self._take()
        # [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
        return self.launch(delivery), delivery, False

    def take_expired(self, now: float) -> Delivery | None:
        """The first message of the queue, if the time that it is kept has passed: it is not sent. [MQTT-3.3.2-5]"""
        if not self.queue or not self.queue[0][0].expired(now):
            return None
        self.expired += 1
        return self._take()

    def _take(self) -> Delivery:
        delivery = self.queue.popleft()
        self.taken += 1
        self.queued_bytes -= delivery[0].size
        return delivery

    def launch(self, delivery: Delivery) -> int:
        """Put a message in flight; the packet identifier that it takes."""
        packet_id = self.allocate_id()
        self.inflight[packet_id] = delivery  # [MQTT-4.3.2-3] [MQTT-4.3.3-3]
        self.inflight_bytes += delivery[0].size
        return packet_id

    def launch_all(self, messages: list[Message], terms: Terms) -> list[int]:
        """Put messages of one heading in flight, in their order; the packet identifiers that they take."""
        inflight, releasing, requests = self.inflight, self.releasing, self._requests or ()
        packet_ids = []
        for message in messages:
            packet_id = self._last_id + 1
            if packet_id > 65_535 or packet_id in inflight or packet_id in releasing or packet_id in requests:
                packet_id = self.allocate_id()
            self._last_id = packet_id  # [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
            inflight[packet_id] = message, terms  # [MQTT-4.3.2-3] [MQTT-4.3.3-3]
            packet_ids.append(packet_id)
        self.inflight_bytes += len(packet_ids) * messages[0].size
        return packet_ids

    def allocate_id(self) -> int:
        """A packet identifier that is not in use, section 2.2.1.

        There is one: `inflight_maximum` leaves some for requests.
        """
        packet_id = self._last_id
        requests = self._requests or ()
        while True:  # [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
            packet_id = packet_id + 1 if packet_id < 65_535 else 1
            if packet_id not in self.inflight and packet_id not in self.releasing and packet_id not in requests:
                self._last_id = packet_id
                return packet_id

    def drop(self, packet_id: int) -> None:
        """Treat a message in flight as delivered, because the peer cannot take a packet of its size. [MQTT-3.1.2-25]"""
        self._settle(packet_id)

    def on_packet(self, packet: PubAck | PubRec | PubRel | PubComp) -> PubRel | PubComp | None:
        """Take a packet of the QoS 1 and 2 flows (section 4.3) and give the answer that it demands."""
        if isinstance(packet, PubAck):
            self.acknowledged(packet.packet_id)
            return None
        if isinstance(packet, PubRec):
            if packet.reason_code.is_failure:
                self.refused(packet.packet_id)
                return None
            return self.received(packet.packet_id)
        if isinstance(packet, PubRel):
            return self.released(packet.packet_id)
        self.completed(packet.packet_id)
        return None

    def acknowledged(self, packet_id: int) -> Terms | None:
        """PUBACK: the QoS 1 message is delivered, or refused for good. [MQTT-4.4.0-2] [MQTT-4.8.2-6]"""
        delivery = self.inflight.get(packet_id)
        if delivery is None or delivery[1].qos != 1:
            return None
        self._settle(packet_id)
        return delivery[1]

    def acknowledged_all(self, packet_ids: list[int]) -> None:
        """As many PUBACKs, for whatever they are."""
        inflight = self.inflight
        settled = 0
        for packet_id in packet_ids:
            delivery = inflight.get(packet_id)
            if delivery is not None and delivery[1].qos == 1:
                del inflight[packet_id]
                settled += delivery[0].heading.size
                if self._resend:
                    self._resend.pop(packet_id, None)
        self.inflight_bytes -= settled

    def received(self, packet_id: int) -> PubRel:
        """PUBREC: the peer has the QoS 2 message; what to answer."""
        if self.expects_pubrec(packet_id):
            self.releasing[packet_id] = self._settle(packet_id)  # [MQTT-4.3.3-5] [MQTT-4.3.3-6]
        elif packet_id not in self.releasing:
            return PubRel(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
        return PubRel(packet_id)  # [MQTT-2.2.1-5] [MQTT-4.3.3-4]

    def received_all(self, packet_ids: list[int]) -> int:
        """As many PUBRECs of messages that await one, up to the first that does not; how many these are."""
        inflight = self.inflight
        count = 0
        for packet_id in packet_ids:
            delivery = inflight.get(packet_id)
            if delivery is None or delivery[1].qos != 2:
                break
            self.releasing[packet_id] = self._settle(packet_id)
            count += 1
        return count

    def refused(self, packet_id: int) -> Terms | None:
        """PUBREC with a failure: the peer refuses the QoS 2 message for good. [MQTT-4.4.0-2] [MQTT-4.8.2-6]"""
        return self._settle(packet_id) if self.expects_pubrec(packet_id) else self.completed(packet_id)

    def expects_pubrec(self, packet_id: int) -> bool:
        """Whether a PUBREC is what the message of this packet identifier awaits."""
        delivery = self.inflight.get(packet_id)
        return delivery is not None and delivery[1].qos == 2

    def completed(self, packet_id: int) -> Terms | None:
        """PUBCOMP: the QoS 2 message is delivered."""
        return self.releasing.pop(packet_id, None)

    def _settle(self, packet_id: int) -> Terms:
        message, terms = self.inflight.pop(packet_id)
        self.inflight_bytes -= message.size
        if self._resend:
            self._resend.pop(packet_id, None)  # it may be answered before it was sent again
        return terms

    def resume(self, receive_maximum: int) -> list[PubRel]:
        """A new connection carries on: the PUBRELs to send again; unacknowledged messages come out of `next_publish`
        first.

        `receive_maximum` is the peer's; our own bound on messages in flight holds beside it. Section 4.4.
        """
        self._receive_maximum = min(receive_maximum, self.limits.inflight_maximum)  # [MQTT-4.9.0-1]
        self._requests = None
        # [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.8.2-4] [MQTT3-4.4.0-1]
        self._resend = OrderedDict(self.inflight) if self.inflight else _NOTHING_TO_RESEND
        return [PubRel(packet_id) for packet_id in self.releasing]

    def clear(self) -> None:
        """Forget everything: the session has ended, or the peer has none."""
        self.queue = _NO_QUEUE
        self.queued_bytes = 0
        self.inflight.clear()
        self.inflight_bytes = 0
        self.releasing.clear()
        self._unreleased = self._requests = None
        self._resend = _NOTHING_TO_RESEND

    # -------------------------------------------------------------------------------------------------- inbound

    def accept(self, packet_id: int) -> bool:
        """Note a QoS 2 PUBLISH of the peer's; False when it is one sent again, to be answered and not processed.

        [MQTT-4.3.3-10]
        """
        unreleased = self.unreleased
        if packet_id in unreleased:
            return False
        unreleased.add(packet_id)
        return True

    def released(self, packet_id: int) -> PubComp:
        """PUBREL: the packet identifier is free again; what to answer. [MQTT-4.3.3-11] [MQTT-4.3.3-12]"""
        if packet_id in self.unreleased:
            self.unreleased.remove(packet_id)
            return PubComp(packet_id)  # [MQTT-2.2.1-5]
        return PubComp(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
