"""The one table of what may be sent when, for both roles: (phase, sender, trigger) -> next phase.

A trigger is a control packet, told apart further where its content decides what follows. What the table does not list
is a protocol error, by whoever sends it. docs/state-diagram.md is drawn from this table.

The keys are of strings because a string knows its hash; that of another Enum is computed anew for each look-up.
"""

from enum import StrEnum
from typing import Final

from mqttcore import packets as p
from mqttcore.codes import ReasonCode
from mqttcore.errors import LocalProtocolError


class Role(StrEnum):
    """Who sends: the side that sends CONNECT, or the side that answers it."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> "Role":
        """The other side."""
        return SERVER if self is CLIENT else CLIENT


CLIENT: Final = Role.CLIENT
SERVER: Final = Role.SERVER


class Phase(StrEnum):
    """Where a connection is between its opening and its end."""

    START = "start"
    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    CHALLENGED = "challenged"
    CONNECTED = "connected"
    CONNECTED_WITH_METHOD = "connected with method"
    REAUTHENTICATING = "re-authenticating"
    RECHALLENGED = "re-challenged"
    CLOSED = "closed"


class Trigger(StrEnum):
    """A control packet as the table sees it."""

    CONNECT = "CONNECT"
    CONNECT_WITH_METHOD = "CONNECT with Authentication Method"
    CONNACK = "CONNACK"
    CONNACK_REFUSED = "CONNACK >= 0x80"
    PUBLISH = "PUBLISH"
    PUBACK = "PUBACK"
    PUBREC = "PUBREC"
    PUBREL = "PUBREL"
    PUBCOMP = "PUBCOMP"
    SUBSCRIBE = "SUBSCRIBE"
    SUBACK = "SUBACK"
    UNSUBSCRIBE = "UNSUBSCRIBE"
    UNSUBACK = "UNSUBACK"
    PINGREQ = "PINGREQ"
    PINGRESP = "PINGRESP"
    DISCONNECT = "DISCONNECT"
    AUTH_SUCCESS = "AUTH 0x00"
    AUTH_CONTINUE = "AUTH 0x18"
    AUTH_REAUTHENTICATE = "AUTH 0x19"


_TRIGGERS: Final = {
    p.Publish: Trigger.PUBLISH,
    p.PubAck: Trigger.PUBACK,
    p.PubRec: Trigger.PUBREC,
    p.PubRel: Trigger.PUBREL,
    p.PubComp: Trigger.PUBCOMP,
    p.Subscribe: Trigger.SUBSCRIBE,
    p.SubAck: Trigger.SUBACK,
    p.Unsubscribe: Trigger.UNSUBSCRIBE,
    p.UnsubAck: Trigger.UNSUBACK,
    p.PingReq: Trigger.PINGREQ,
    p.PingResp: Trigger.PINGRESP,
    p.Disconnect: Trigger.DISCONNECT,
}
_AUTH_TRIGGERS: Final = {
    ReasonCode.SUCCESS: Trigger.AUTH_SUCCESS,
    ReasonCode.CONTINUE_AUTHENTICATION: Trigger.AUTH_CONTINUE,
    ReasonCode.RE_AUTHENTICATE: Trigger.AUTH_REAUTHENTICATE,
}


def trigger(packet: p.Packet) -> Trigger:
    """How the table sees `packet`. Raises LocalProtocolError for an AUTH whose reason code AUTH does not have."""
    if isinstance(packet, p.Connect):
        return Trigger.CONNECT if packet.authentication_method is None else Trigger.CONNECT_WITH_METHOD
    if isinstance(packet, p.ConnAck):
        return Trigger.CONNACK_REFUSED if packet.reason_code.is_failure else Trigger.CONNACK
    if isinstance(packet, p.Auth):
        if packet.reason_code not in _AUTH_TRIGGERS:  # [MQTT-3.15.2-1]
            raise LocalProtocolError(f"0x{packet.reason_code:02X} is no reason code of AUTH")
        return _AUTH_TRIGGERS[packet.reason_code]
    return _TRIGGERS[type(packet)]


CLIENT_TRAFFIC = (
    Trigger.PUBLISH,
    Trigger.PUBACK,
    Trigger.PUBREC,
    Trigger.PUBREL,
    Trigger.PUBCOMP,
    Trigger.SUBSCRIBE,
    Trigger.UNSUBSCRIBE,
    Trigger.PINGREQ,
)
SERVER_TRAFFIC = (
    Trigger.PUBLISH,
    Trigger.PUBACK,
    Trigger.PUBREC,
    Trigger.PUBREL,
    Trigger.PUBCOMP,
    Trigger.SUBACK,
    Trigger.UNSUBACK,
    Trigger.PINGRESP,
)

CONNECTED_PHASES: Final = (Phase.CONNECTED, Phase.CONNECTED_WITH_METHOD, Phase.REAUTHENTICATING, Phase.RECHALLENGED)
"""The phases after a CONNACK of success, in which application messages flow."""

_Table = dict[tuple[Phase, Role, Trigger], Phase]


def _table() -> _Table:
    table: _Table = {
        (Phase.START, CLIENT, Trigger.CONNECT): Phase.CONNECTING,  # [MQTT-3.1.0-1]
        (Phase.START, CLIENT, Trigger.CONNECT_WITH_METHOD): Phase.AUTHENTICATING,
        (Phase.CONNECTING, SERVER, Trigger.CONNACK): Phase.CONNECTED,  # [MQTT-3.2.0-2] [MQTT3-3.2.0-1]
        (Phase.CONNECTING, SERVER, Trigger.CONNACK_REFUSED): Phase.CLOSED,  # [MQTT-3.2.2-7]
        (Phase.CONNECTING, CLIENT, Trigger.DISCONNECT): Phase.CLOSED,
        # With a method the client sends nothing but AUTH and DISCONNECT before CONNACK. [MQTT-3.1.2-30]
        (Phase.AUTHENTICATING, SERVER, Trigger.AUTH_CONTINUE): Phase.CHALLENGED,  # [MQTT-4.12.0-2]
        (Phase.AUTHENTICATING, SERVER, Trigger.CONNACK): Phase.CONNECTED_WITH_METHOD,
        (Phase.AUTHENTICATING, SERVER, Trigger.CONNACK_REFUSED): Phase.CLOSED,  # [MQTT-4.12.0-4]
        (Phase.AUTHENTICATING, CLIENT, Trigger.DISCONNECT): Phase.CLOSED,
        (Phase.CHALLENGED, CLIENT, Trigger.AUTH_CONTINUE): Phase.AUTHENTICATING,  # [MQTT-4.12.0-3]
        (Phase.CHALLENGED, SERVER, Trigger.CONNACK_REFUSED): Phase.CLOSED,
        (Phase.CHALLENGED, CLIENT, Trigger.DISCONNECT): Phase.CLOSED,
        (Phase.CONNECTED_WITH_METHOD, CLIENT, Trigger.AUTH_REAUTHENTICATE): Phase.REAUTHENTICATING,  # [MQTT-4.12.0-7]
        (Phase.REAUTHENTICATING, SERVER, Trigger.AUTH_SUCCESS): Phase.CONNECTED_WITH_METHOD,
        (Phase.REAUTHENTICATING, SERVER, Trigger.AUTH_CONTINUE): Phase.RECHALLENGED,
        (Phase.RECHALLENGED, CLIENT, Trigger.AUTH_CONTINUE): Phase.REAUTHENTICATING,
        (Phase.RECHALLENGED, CLIENT, Trigger.AUTH_REAUTHENTICATE): Phase.REAUTHENTICATING,
    }
    for sent in CLIENT_TRAFFIC:  # a client need not wait for CONNACK (section 3.1.4)
        table[Phase.CONNECTING, CLIENT, sent] = Phase.CONNECTING
    for phase in CONNECTED_PHASES:
        for sent in CLIENT_TRAFFIC:
            table[phase, CLIENT, sent] = phase
        for sent in SERVER_TRAFFIC:
            table[phase, SERVER, sent] = phase
        table[phase, CLIENT, Trigger.DISCONNECT] = Phase.CLOSED  # [MQTT-3.14.4-1]
        table[phase, SERVER, Trigger.DISCONNECT] = Phase.CLOSED  # [MQTT-3.14.0-1]
    return table


TRANSITIONS: Final[_Table] = _table()
