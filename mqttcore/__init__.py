"""MQTT 5.0 and 3.1.1 without I/O: connections, sessions, a client and a broker as value machines.

Bytes, packets and the time go in; events, bytes and requested actions come out. Nothing here waits, so it runs under
any runtime: see `Connection` for one connection in either role, `client.Client` for a whole client, `broker.Broker`
for a whole broker.
"""

from mqttcore.codes import V5, V311, PacketType, ReasonCode
from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError, MalformedPacket, PacketTooLarge, ProtocolError
from mqttcore.events import ConnectionClosed, Event
from mqttcore.limits import Limits
from mqttcore.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from mqttcore.session import Session
from mqttcore.states import CLIENT, SERVER, Phase, Role

__all__ = [
    "CLIENT",
    "SERVER",
    "V5",
    "V311",
    "Auth",
    "ConnAck",
    "Connect",
    "Connection",
    "ConnectionClosed",
    "Disconnect",
    "Event",
    "Limits",
    "LocalProtocolError",
    "MalformedPacket",
    "Packet",
    "PacketTooLarge",
    "PacketType",
    "Phase",
    "PingReq",
    "PingResp",
    "ProtocolError",
    "PubAck",
    "PubComp",
    "PubRec",
    "PubRel",
    "Publish",
    "ReasonCode",
    "Role",
    "Session",
    "SubAck",
    "Subscribe",
    "Subscription",
    "UnsubAck",
    "Unsubscribe",
    "Will",
]
