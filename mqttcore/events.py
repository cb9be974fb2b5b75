"""What a connection tells its owner: the packets that the peer sent, and, last, that the connection is over."""

from typing import Literal

from attrs import frozen

from mqttcore.codes import ReasonCode
from mqttcore.packets import Packet


@frozen
class ConnectionClosed:
    """The last event: nothing more is received or sent, and the transport is to be closed.

    `reason` is a sentence for a log. `by` says what ended it: a packet of the peer's, this side, the end of the peer's
    stream, or a deadline.
    """

    reason_code: ReasonCode
    reason: str
    by: Literal["peer", "us", "eof", "timeout"]


Event = Packet | ConnectionClosed
