"""The errors of the core: one base class, and every one carries the reason code that the specification gives it."""

from mqttcore.codes import ReasonCode


class ProtocolError(Exception):
    """The peer broke a rule of the protocol (section 4.13); `reason_code` says which, for CONNACK or DISCONNECT."""

    def __init__(self, message: str, reason_code: ReasonCode = ReasonCode.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class MalformedPacket(ProtocolError):
    """Bytes that cannot be read as a control packet (section 1.2, Malformed Packet)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ReasonCode.MALFORMED_PACKET)


class LocalProtocolError(ProtocolError):
    """This side tried to send what the protocol forbids, here and now; nothing was sent."""


class PacketTooLarge(LocalProtocolError):
    """A packet of ours that is larger than the peer's Maximum Packet Size (section 3.1.2.11.4); nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ReasonCode.PACKET_TOO_LARGE)
