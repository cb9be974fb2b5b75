"""A session on the server: Session State of section 4.1 with the client's subscriptions and its Will."""

from bisect import bisect_left
from collections import deque
from math import inf
from typing import TYPE_CHECKING, final

from mqttcore.auth import NOBODY, Principal
from mqttcore.broker.policy import NOWHERE, Port, Transport
from mqttcore.broker.retained import Search
from mqttcore.broker.subscriptions import Share, Stored
from mqttcore.limits import Limits
from mqttcore.message import Message
from mqttcore.packets import Will
from mqttcore.session import Delivery, Session, Terms
from mqttcore.topics import matches

if TYPE_CHECKING:
    from mqttcore.broker.link import Link

NEVER = 0xFFFF_FFFF
"""A Session Expiry Interval that never passes, section 3.1.2.11.2."""


@final
class Pending:
    """A new subscription whose retained messages are still to be looked up and sent.

    They follow what the session had queued before: its first `after` messages.
    """

    __slots__ = ("after", "found", "search", "stored")

    def __init__(self, stored: Stored, search: Search, after: int) -> None:
        self.stored: Stored = stored
        self.search: Search = search
        self.after: int = after
        self.found: deque[Message] = deque()


@final
class ServerSession(Session):
    """The session of one Client Identifier. `link` is its connection while it has one."""

    __slots__ = (
        "client_id",
        "expires_at",
        "expiry_interval",
        "link",
        "narrowed",
        "port",
        "principal",
        "retained",
        "subscriptions",
        "transport",
        "will",
        "will_at",
    )
    __deletable__ = ("port",)  # compiled code has to know

    def __init__(self, client_id: str, limits: Limits, port: Port) -> None:
        super().__init__(limits)
        self.client_id: str = client_id
        self.port: Port = port  # of its last connection; what holds there says by whose leave its Will is published
        self.link: Link | None = None
        self.subscriptions: dict[str, Stored] = {}
        self.retained: dict[str, Pending] = {}  # by Topic Filter, in the order of the subscriptions
        self.expiry_interval: int = 0  # seconds, NEVER for no end
        self.expires_at: float = inf
        self.will: Will | None = None
        self.will_at: float = inf
        # whether subscriptions have ended while the client was connected, by what it may do
        self.narrowed: bool = False
        self.principal: Principal = NOBODY  # whom the Will is published for
        self.transport: Transport = NOWHERE  # of its last connection

    @property
    def waiting(self) -> bool:
        """Whether messages wait to be sent, for room or for a quota, or are still to be looked up."""
        return bool(self.queue or self._resend or self.retained)

    def next_deadline(self) -> float:
        """When the session ends or its Will is due, monotonic seconds."""
        return min(self.expires_at, self.will_at)

    def take_unsubscribed(self, *, in_flight: bool) -> list[Delivery]:
        """Take out what waits, to be sent or sent again, although no subscription asks for it any more; with
        `in_flight`, what is under way to the client, too. Of what was sent, only QoS 1 may be given to another.
        """
        filters = [topic_filter for topic_filter, stored in self.subscriptions.items() if stored.share is None]

        def wanted(message: Message, terms: Terms) -> bool:
            if isinstance(terms.owner, Share):
                return self in terms.owner.members
            topic = message.topic_name
            return any(matches(topic_filter, topic) for topic_filter in filters)

        taken: list[Delivery] = []
        for packet_id, delivery in [*self.inflight.items()]:
            if not in_flight and packet_id not in self._resend:
                continue
            if not wanted(*delivery):
                self.drop(packet_id)
                if delivery[1].qos == 1:  # [MQTT-4.8.2-5]
                    taken.append(delivery)
        left: list[int] = []  # places in the queue, counted as Pending.after is
        for place, delivery in enumerate([*self.queue], self.taken):
            self.queue.popleft()
            if wanted(*delivery):
                self.queue.append(delivery)
            else:
                self.queued_bytes -= delivery[0].size
                left.append(place)
                taken.append(delivery)
        for pending in self.retained.values():
            pending.after -= bisect_left(left, pending.after)
        return taken
