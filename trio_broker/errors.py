"""What can go wrong in the shell; every message is one line for the person who reads it."""


class ConfigurationError(Exception):
    """The broker cannot start as it was asked to; the message says what to change."""


class HandshakeError(Exception):
    """A connection ended before its first MQTT packet: the TLS or WebSocket handshake failed."""


class TransportError(Exception):
    """A connection cannot go on for a reason below MQTT: a reset, a stall, a WebSocket text message."""
