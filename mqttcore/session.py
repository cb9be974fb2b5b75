"""The part of Session State (section 4.1) that both roles have: what is in flight and what waits, either way.

A session outlives its connections. Messages are pulled out of it (`next_publish`) as the peer's Receive Maximum and the
caller's output allow; one gets its packet identifier at that moment and not before.
"""

from collections import OrderedDict, deque
from enum import IntEnum
from typing import final

from mqttcore.codes import ReasonCode
from mqttcore.limits import Limits
from mqttcore.message import Message
from mqttcore.packets import PubAck, PubComp, PubRec, PubRel


class Awaiting(IntEnum):
    """What has to arrive next for a message in flight, section 4.3."""

    NOTHING = 0
    PUBACK = 1
    PUBREC = 2
    PUBCOMP = 3


@final
class Delivery:
    """A QoS 1 or 2 message on its way to one peer. `owner` is what the caller wants to find again with it."""

    __slots__ = ("awaiting", "dup", "identifiers", "message", "owner", "packet_id", "qos", "retain")

    def __init__(
        self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...] = (), owner: object = None
    ) -> None:
        self.message: Message = message
        self.qos: int = qos
        self.retain: bool = retain
        self.identifiers: tuple[int, ...] = identifiers
        self.owner: object = owner
        self.packet_id: int = 0
        self.awaiting: Awaiting = Awaiting.NOTHING
        self.dup: bool = False  # [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2]


class Session:
    """In-flight messages, packet identifiers, QoS 2 state and the queue of one client, on either side."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.queue: deque[Delivery] = deque()
        self.queued_bytes = 0
        # PUBLISHes in the order of first sending, PUBRELs in that of their PUBRECs
        self.inflight: dict[int, Delivery] = {}
        self.inflight_bytes = 0
        self.unreleased: set[int] = set()  # QoS 2 packet identifiers of the peer's that await PUBREL
        self.requests: set[int] = set()  # packet identifiers of our SUBSCRIBEs and UNSUBSCRIBEs under way
        self.taken = 0  # messages that have left the queue at its head: to be sent, expired, or to make room
        self.expired = 0  # messages dropped because the time that they are kept passed while they waited
        self._resend: OrderedDict[int, Delivery] = OrderedDict()
        self._last_id = 0
        self._receive_maximum = 0

    # ------------------------------------------------------------------------------------------------- outbound

    def enqueue(self, delivery: Delivery) -> bool:
        """Let a QoS 1 or 2 message wait its turn; False, and nothing kept, when the bound of the queue is reached."""
        if not self.has_room(delivery.message):
            return False
        self.queue.append(delivery)
        self.queued_bytes += delivery.message.size
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
        return len(self.queue) + len(self.inflight)

    @property
    def backlog(self) -> bool:
        """Whether messages wait to be sent, or sent again, before any new one."""
        return bool(self.queue or self._resend)

    @property
    def ready(self) -> bool:
        """Whether a new message may go at once: there is a quota, and nothing waits."""
        return (
            not self.queue
            and not self._resend
            and len(self.inflight) < self._receive_maximum
            and self.inflight_bytes < self.limits.maximum_queued_bytes
        )

    @property
    def resending(self) -> bool:
        """Whether messages wait to be sent again."""
        return bool(self._resend)

    @property
    def has_quota(self) -> bool:
        """Whether one more unacknowledged message may be under way to the peer, section 4.9 and our bound on bytes."""
        if len(self.inflight) - len(self._resend) >= self._receive_maximum:  # [MQTT-4.9.0-2] [MQTT-3.3.4-9]
            return False
        # A peer that acknowledges nothing shall not hold more than one that takes nothing; sent again is nothing new.
        return self.inflight_bytes < self.limits.maximum_queued_bytes or bool(self._resend)

    def next_publish(self, now: float) -> Delivery | None:
        """The message to send next, with its packet identifier; None when none waits or the send quota is used up."""
        if not self.has_quota:  # [MQTT-4.9.0-2]
            return None
        if self._resend:
            # However long ago it was sent first: it no longer expires. [MQTT-4.3.3-7] [MQTT-4.3.3-13]
            _, delivery = self._resend.popitem(last=False)
            delivery.dup = True  # [MQTT-3.3.1-1]
            return delivery
        while self.take_expired(now) is not None:
            pass
        if not self.queue:
            return None
        delivery = self._take()
        self.launch(delivery)
        return delivery

    def take_expired(self, now: float) -> Delivery | None:
        """The first message of the queue, if the time that it is kept has passed: it is not sent. [MQTT-3.3.2-5]"""
        if not self.queue or not self.queue[0].message.expired(now):
            return None
        self.expired += 1
        return self._take()

    def _take(self) -> Delivery:
        delivery = self.queue.popleft()
        self.taken += 1
        self.queued_bytes -= delivery.message.size
        return delivery

    def launch(self, delivery: Delivery) -> None:
        """Put a message in flight: it takes a packet identifier."""
        packet_id = self.allocate_id()
        delivery.packet_id = packet_id
        delivery.awaiting = Awaiting.PUBACK if delivery.qos == 1 else Awaiting.PUBREC
        self.inflight[packet_id] = delivery  # [MQTT-4.3.2-3] [MQTT-4.3.3-3]
        self.inflight_bytes += delivery.message.size

    def allocate_id(self) -> int:
        """A packet identifier that is not in use, section 2.2.1.

        There is one: `inflight_maximum` leaves some for requests.
        """
        packet_id = self._last_id
        while True:  # [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
            packet_id = packet_id + 1 if packet_id < 65_535 else 1
            if packet_id not in self.inflight and packet_id not in self.requests:
                self._last_id = packet_id
                return packet_id

    def drop(self, delivery: Delivery) -> None:
        """Treat a message in flight as delivered, because the peer cannot take a packet of its size. [MQTT-3.1.2-25]"""
        self._settle(delivery)

    def on_packet(self, packet: PubAck | PubRec | PubRel | PubComp) -> PubRel | PubComp | None:
        """Take a packet of the QoS 1 and 2 flows (section 4.3) and give the answer that it demands."""
        if isinstance(packet, PubAck):
            self.acknowledged(packet.packet_id)
            return None
        if isinstance(packet, PubRec):
            return self.received(packet.packet_id, packet.reason_code)
        if isinstance(packet, PubRel):
            return self.released(packet.packet_id)
        self.completed(packet.packet_id)
        return None

    def acknowledged(self, packet_id: int) -> Delivery | None:
        """PUBACK: the QoS 1 message is delivered, or refused for good. [MQTT-4.4.0-2] [MQTT-4.8.2-6]"""
        delivery = self.inflight.get(packet_id)
        if delivery is None or delivery.awaiting is not Awaiting.PUBACK:
            return None
        self._settle(delivery)
        return delivery

    def received(self, packet_id: int, reason_code: ReasonCode = ReasonCode.SUCCESS) -> PubRel | None:
        """PUBREC: the peer has the QoS 2 message, or refuses it for good; what to answer."""
        delivery = self.inflight.get(packet_id)
        if delivery is None or delivery.awaiting == Awaiting.PUBACK:
            return PubRel(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND) if reason_code < 0x80 else None
        if reason_code >= 0x80:  # [MQTT-4.4.0-2] [MQTT-4.8.2-6]
            self._settle(delivery)
            return None
        if delivery.awaiting == Awaiting.PUBREC:
            self._settle(delivery)
            delivery.awaiting = Awaiting.PUBCOMP  # [MQTT-4.3.3-5] [MQTT-4.3.3-6]
            self.inflight[packet_id] = delivery  # last, for the order of PUBRELs sent again [MQTT-4.6.0-4]
            self.inflight_bytes += delivery.message.size
        return PubRel(packet_id)  # [MQTT-2.2.1-5] [MQTT-4.3.3-4]

    def expects_pubrec(self, packet_id: int) -> bool:
        """Whether a PUBREC is what the QoS 2 message of this packet identifier awaits."""
        delivery = self.inflight.get(packet_id)
        return delivery is not None and delivery.awaiting == Awaiting.PUBREC

    def completed(self, packet_id: int) -> Delivery | None:
        """PUBCOMP: the QoS 2 message is delivered."""
        delivery = self.inflight.get(packet_id)
        if delivery is None or delivery.awaiting != Awaiting.PUBCOMP:
            return None
        self._settle(delivery)
        return delivery

    def _settle(self, delivery: Delivery) -> None:
        del self.inflight[delivery.packet_id]
        self.inflight_bytes -= delivery.message.size
        if self._resend:
            self._resend.pop(delivery.packet_id, None)  # it may be answered before it was sent again

    def resume(self, receive_maximum: int) -> list[PubRel]:
        """A new connection carries on: the PUBRELs to send again; unacknowledged messages come out of `next_publish`
        first.

        `receive_maximum` is the peer's; our own bound on messages in flight holds beside it. Section 4.4.
        """
        self._receive_maximum = min(receive_maximum, self.limits.inflight_maximum)  # [MQTT-4.9.0-1]
        self.requests.clear()
        self._resend.clear()
        again = []
        for delivery in self.inflight.values():  # [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.8.2-4] [MQTT3-4.4.0-1]
            if delivery.awaiting == Awaiting.PUBCOMP:
                again.append(PubRel(delivery.packet_id))
            else:
                self._resend[delivery.packet_id] = delivery
        return again

    def clear(self) -> None:
        """Forget everything: the session has ended, or the peer has none."""
        self.queue.clear()
        self.queued_bytes = 0
        self.inflight.clear()
        self.inflight_bytes = 0
        self.unreleased.clear()
        self.requests.clear()
        self._resend.clear()

    # -------------------------------------------------------------------------------------------------- inbound

    def accept(self, packet_id: int) -> bool:
        """Note a QoS 2 PUBLISH of the peer's; False when it is one sent again, to be answered and not processed.

        [MQTT-4.3.3-10]
        """
        if packet_id in self.unreleased:
            return False
        self.unreleased.add(packet_id)
        return True

    def released(self, packet_id: int) -> PubComp:
        """PUBREL: the packet identifier is free again; what to answer. [MQTT-4.3.3-11] [MQTT-4.3.3-12]"""
        if packet_id in self.unreleased:
            self.unreleased.remove(packet_id)
            return PubComp(packet_id)  # [MQTT-2.2.1-5]
        return PubComp(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
