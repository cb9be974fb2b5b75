"""What the owner of a broker tells it about a connection: where it comes from, and what holds for it."""

from attrs import field, frozen

from mqttcore.auth import Authenticator, Authorizer
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


@frozen(kw_only=True)
class Policy:
    """What holds on one port.

    Without an authenticator everybody is let in, without an authorizer everything is allowed.
    """

    limits: Limits = field(factory=Limits)
    authenticate: Authenticator | None = None
    authorize: Authorizer | None = None
    name: str = ""
