"""A session on the server: Session State of section 4.1 with the client's subscriptions and its Will."""

from collections import deque
from math import inf
from typing import TYPE_CHECKING, final

from mqttcore.auth import Authorizer, Principal
from mqttcore.broker.policy import Transport
from mqttcore.broker.retained import Search
from mqttcore.broker.subscriptions import Share, Stored
from mqttcore.limits import Limits
from mqttcore.message import Message
from mqttcore.session import Awaiting, Delivery, Session
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

    def __init__(self, client_id: str, limits: Limits) -> None:
        super().__init__(limits)
        self.client_id = client_id
        self.link: Link | None = None
        self.subscriptions: dict[str, Stored] = {}
        self.retained: dict[str, Pending] = {}  # by Topic Filter, in the order of the subscriptions
        self.expiry_interval = 0  # seconds, NEVER for no end
        self.expires_at = inf
        self.will: Message | None = None
        self.will_expiry_interval: int | None = None  # counts from when the Will is published
        self.will_delay = 0
        self.will_at = inf
        self.principal = Principal(client_id)  # whom the Will is published for, and by whose leave
        self.authorize: Authorizer | None = None
        self.transport = Transport()  # of its last connection

    def next_deadline(self) -> float:
        """When the session ends or its Will is due, monotonic seconds."""
        return min(self.expires_at, self.will_at)

    def take_unsubscribed(self, *, in_flight: bool) -> list[Delivery]:
        """Take out what waits in the queue although no subscription asks for it any more; with `in_flight`, what
        would be sent again, too.
        """
        filters = [topic_filter for topic_filter, stored in self.subscriptions.items() if stored.share is None]

        def wanted(delivery: Delivery) -> bool:
            if isinstance(delivery.owner, Share):
                return self in delivery.owner.members
            topic = delivery.message.topic_name
            return any(matches(topic_filter, topic) for topic_filter in filters)

        taken = []
        for delivery in [*self.inflight.values()] if in_flight else ():
            if delivery.awaiting != Awaiting.PUBCOMP and not wanted(delivery):
                self.drop(delivery)
                taken.append(delivery)
        waiting = [*self.queue]
        self.queue.clear()
        self.queued_bytes = 0
        for delivery in waiting:
            if wanted(delivery):
                self.queue.append(delivery)
                self.queued_bytes += delivery.message.size
            else:
                taken.append(delivery)
        return taken
