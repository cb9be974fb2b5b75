"""A broker without a shell: bytes go straight into the core and out of it, in this process."""

from collections.abc import Iterable
from typing import final

from bench.broker import METHOD, OTHER_USERS, PASSWORD, USERNAME, policy
from mqttcore import packets as p
from mqttcore.broker import Broker, Flush, Link, Transport
from mqttcore.codec import encode
from mqttcore.codes import ReasonCode
from mqttcore.limits import Limits

NOW = 0.0
"""Time stands still here."""
FILTERS = 1000
"""Topic Filters of one SUBSCRIBE."""

CREDENTIALS = f"{USERNAME}\0{PASSWORD}".encode()
RE_AUTHENTICATE = encode(
    p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method=METHOD, authentication_data=CREDENTIALS)
)
"""AUTH 0x19 of a client that has connected with `enhanced`."""


@final
class Direct:
    """A broker with the policy of `bench.broker`, and calls instead of connections."""

    def __init__(self, limits: Limits | None = None, others: int = OTHER_USERS) -> None:
        """`others` is how many users there are rules for, beside the one that the clients here are."""
        limits = limits or Limits()
        self.broker = Broker(limits, seed=bytes(32), wall_offset=NOW)
        self.policy = policy(limits, others)

    def open(self) -> Link:
        """A connection on which nothing has been said."""
        return self.broker.open(NOW, Transport(peer="bench"), self.policy)

    def connect(self, client_id: str, *, enhanced: bool = False) -> Link:
        """A client; `enhanced` has it use the Authentication Method."""
        link = self.open()
        self.tell(link, hello(client_id, enhanced=enhanced))
        assert link.session is not None
        return link

    def subscribe(self, link: Link, filters: Iterable[str], qos: int = 0) -> None:
        """Have a client subscribe."""
        wanted = [p.Subscription(each, qos) for each in filters]
        for at in range(0, len(wanted), FILTERS):
            self.tell(link, encode(p.Subscribe(1, tuple(wanted[at : at + FILTERS]))))

    def tell(self, link: Link, data: bytes) -> list[tuple[Link, bytes]]:
        """Have a client send bytes; what clients get then."""
        broker = self.broker
        broker.receive(link, data, NOW)
        taken = []
        while actions := broker.take_actions():
            for action in actions:
                if isinstance(action, Flush):
                    while output := broker.take_output(action.link, NOW):
                        taken.append((action.link, output))
        return taken


def hello(client_id: str, *, enhanced: bool = False) -> bytes:
    """CONNECT with good credentials."""
    if enhanced:
        return encode(p.Connect(client_id=client_id, authentication_method=METHOD, authentication_data=CREDENTIALS))
    return encode(p.Connect(client_id=client_id, username=USERNAME, password=PASSWORD.encode()))
