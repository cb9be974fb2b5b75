"""One network connection as the broker keeps it."""

from math import inf
from typing import TYPE_CHECKING, final

from mqttcore.auth import NOBODY, Exchange, Principal
from mqttcore.broker.actions import Perform
from mqttcore.broker.policy import Policy, Port, Publisher, Transport
from mqttcore.connection import Connection
from mqttcore.packets import Auth
from mqttcore.states import SERVER

if TYPE_CHECKING:
    from mqttcore.broker.distribution import Route
    from mqttcore.broker.sessions import ServerSession


@final
class Link:
    """A connection from its opening to its end; `Broker.open` makes it and the shell hands it back with every call."""

    __slots__ = (
        "aliases",
        "clean",
        "client_id",
        "closed",
        "connection",
        "credential_deadline",
        "dirty",
        "exchange",
        "exchange_deadline",
        "exchange_policy",
        "layout",
        "message_lifetime",
        "method",
        "out",
        "perform",
        "policy",
        "port",
        "principal",
        "publisher",
        "renewable",
        "resumed",
        "retry",
        "retry_at",
        "review_at",
        "room",
        "routes",
        "session",
        "transport",
        "undecided_at",
    )

    def __init__(self, transport: Transport, port: Port, now: float) -> None:
        policy = port.policy
        self.transport: Transport = transport
        self.port: Port = port
        self.policy: Policy = policy  # the port's, with the limits that this connection began with
        self.connection: Connection = Connection(SERVER, policy.limits, now)
        self.session: ServerSession | None = None
        self.client_id: str = ""
        self.principal: Principal = NOBODY
        self.publisher: Publisher | None = None  # of what it has had retained
        self.closed: bool = False
        self.resumed: bool = False  # whether it carries on an earlier connection's session
        self.clean: bool = False  # whether it ends in a way that throws the Will away
        self.out: list[bytes] = self.connection.out
        # how long what the client publishes is kept at most, seconds
        self.message_lifetime: float = policy.limits.message_lifetime
        # bytes that may yet be put into the output, before it is taken
        self.room: int = policy.limits.output_high_water
        self.dirty: bool = False  # whether a Flush has been asked for that has not been answered yet
        # the protocol version whose PUBLISH, as it came in, can be forwarded to this client; 0 for none
        self.layout: int = 0
        self.routes: dict[bytes, Route] = {}  # of topics that the client is known to be allowed to publish to
        self.aliases: bool = False  # whether we assign Topic Aliases to this client
        self.exchange: Exchange | None = None
        self.exchange_policy: Policy | None = None  # in force when the exchange began
        self.perform: Perform | None = None  # the effect whose reply the exchange waits for
        self.exchange_deadline: float = inf
        self.credential_deadline: float = inf
        self.method: str = ""  # of authentication, by which the client was let in
        self.renewable: bool = False  # whether the client may re-authenticate
        self.review_at: float = inf  # when it is looked at again whether the client may stay
        self.undecided_at: float = -inf  # when a re-authentication last ended without a verdict
        self.retry: Auth | None = None  # a re-authentication that is held back until retry_at
        self.retry_at: float = inf

    @property
    def paused(self) -> bool:
        """Whether nothing should be read from the peer now: its CONNECT is being decided, or it does not take our
        answers.
        """
        undecided = self.session is None and self.connection.paused
        return undecided or self.room < -self.policy.limits.output_high_water

    def schedule_review(self, now: float) -> None:
        """Have the client reviewed within an interval, if it is at all. What is due earlier stays so: who often gets a
        new policy or a new credential is reviewed no less often.
        """
        policy = self.policy
        self.review_at = inf if policy.review is None else min(self.review_at, now + policy.limits.review_interval)

    def next_deadline(self) -> float:
        """The first of the deadlines that this connection has, monotonic seconds."""
        return min(
            self.connection.next_deadline(),
            self.exchange_deadline,
            self.credential_deadline,
            self.retry_at,
            self.review_at,
        )
