"""The one exception of the client, and how reason codes and a peer's text are put before a person."""

from mqttcore import ReasonCode

MAXIMUM_PEER_TEXT = 300
"""How much of a peer's text is repeated in a message, in characters."""


class ClientError(Exception):
    """The connection was not made, was refused or is lost, or the server refused a request.

    Its text is one line for a person. `reason_code` is the MQTT reason code where one was given (section
    2.4).
    """

    def __init__(self, message: str, reason_code: ReasonCode | None = None) -> None:
        super().__init__(message)
        self.reason_code = reason_code

    def again(self) -> "ClientError":
        """The same error anew: one exception raised in several tasks would gather all their tracebacks."""
        return ClientError(str(self), self.reason_code)


def reason_name(code: ReasonCode) -> str:
    """A reason code as people know it: `Not authorized (0x87)`."""
    return f"{code.name.replace('_', ' ').capitalize().replace('Qos', 'QoS')} (0x{code:02X})"


def escaped(text: str) -> str:
    """A peer's text without the control characters by which it could write to the reader's terminal."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def printable(text: str) -> str:
    """A peer's text for a message: `escaped`, and not too long."""
    return escaped(text if len(text) <= MAXIMUM_PEER_TEXT else f"{text[:MAXIMUM_PEER_TEXT]}...")


def with_reason(message: str, code: ReasonCode, reason: str | None) -> str:
    """`message`, the reason code's name, and the Reason String where the peer sent one."""
    return f"{message}: {reason_name(code)}" + (f": {printable(reason)}" if reason else "")
