"""What the owner of a broker tells it about a connection: where it comes from, and what holds for it."""

from typing import final

from attrs import field, frozen

from mqttcore.auth import Action, Authenticator, Authorizer, Principal, Review
from mqttcore.limits import Limits


@frozen
class Transport:
    """Where a connection comes from.

    `peer` is the peer's address as text, `name` the kind of transport ("tcp", "tls", "ws", "wss"), `certificates` the
    chain of the TLS handshake in DER, leaf first.
    """

    peer: str = ""
    name: str = "tcp"
    certificates: tuple[bytes, ...] = field(default=(), repr=False)


NOWHERE = Transport()
"""Where a session's connection came from while it has had none."""


@frozen(kw_only=True, eq=False)
class Policy:
    """What holds on one port; `Broker.change` puts another in its place. Two policies are never equal.

    Without an authenticator everybody is let in, without an authorizer everything is allowed. `revoked` is asked about
    those who are connected when the policy comes into force, `review` about each client every `review_interval`
    seconds. `name` is what logs call the port, `rules` what they call the rules that `authorize` goes by.
    """

    limits: Limits = field(factory=Limits)
    authenticate: Authenticator | None = None
    authorize: Authorizer | None = None
    revoked: Review | None = None
    review: Review | None = None
    name: str = ""
    rules: str = ""


@final
class Port:
    """Where the policy in force is found by what outlives a policy: connections, sessions, retained messages.

    `revision` grows when what is allowed may have changed.
    """

    __slots__ = ("__weakref__", "policy", "revision")

    def __init__(self, policy: Policy) -> None:
        self.policy: Policy = policy
        self.revision: int = 0

    def allows(self, principal: Principal, action: Action, name: str) -> bool:
        """Whether the policy in force allows an action, as an Authorizer says it."""
        authorize = self.policy.authorize
        return authorize is None or authorize(principal, action, name)


@final
class Publisher:
    """By whose rights a message is retained: they may be revoked while it is."""

    __slots__ = ("_port", "_principal", "_revision")

    def __init__(self, principal: Principal, port: Port) -> None:
        self._principal: Principal = principal
        self._port: Port = port
        self._revision: int = port.revision

    def may_publish(self, topic: str) -> bool:
        """Whether the message, which was allowed when it came, would be allowed today."""
        port = self._port
        return port.revision == self._revision or port.allows(self._principal, Action.PUBLISH, topic)
