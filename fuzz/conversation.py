"""A connection whose owner answers what can be answered, with everything counted that must stay bounded."""

from collections.abc import Iterable
from typing import final

from mqttcore.connection import Connection
from mqttcore.errors import LocalProtocolError
from mqttcore.events import ConnectionClosed, Event
from mqttcore.limits import Limits
from mqttcore.packets import ConnAck, Connect
from mqttcore.states import SERVER, Role
from tests.mqttcore.support import answer, packets_in

LIMITS = (
    Limits(maximum_connect_size=1024, maximum_packet_size=2048, maximum_early_data=1024),
    Limits(
        maximum_connect_size=128,
        maximum_packet_size=128,
        maximum_early_data=1024,
        receive_maximum=2,
        topic_alias_maximum=2,
        maximum_qos=1,
        retain_available=False,
    ),
)
COPIES = 8
"""How often a byte of the input is copied while frames are cut, at most."""
WORD = 512
"""Bytes of a packet that we send, beside what it repeats of CONNECT."""


@final
class Conversation:
    """What a connection hears and says. `slow`: CONNECT is answered when everything has been heard."""

    def __init__(self, role: Role, limits: Limits, *, slow: bool = False) -> None:
        self.connection = Connection(role, limits, 0.0)
        self.heard: list[Event | str] = []
        self.said = b""
        self._slow = slow
        self._fed = 0
        self._copied = 0
        self._connect: Connect | None = None
        self._buffer: object = None
        if role is not SERVER:
            self.say(Connect(client_id="c", authentication_method="m", receive_maximum=limits.receive_maximum))

    def hold(self, pieces: Iterable[bytes]) -> None:
        """The whole conversation, to the end of the peer's stream."""
        connection = self.connection
        for piece in pieces:
            connection.receive(piece, 0.0)
            self._fed += len(piece)
            self._listen(len(piece))
        if self._connect is not None and not isinstance(self.heard[-1], ConnectionClosed):
            self._answer(self._connect)
            self._listen(0)
        connection.receive_eof(0.0)
        self._listen(0)
        assert isinstance(self.heard[-1], ConnectionClosed)
        assert connection.next_event() is None
        self._judge_output()

    def say(self, packet: object) -> None:
        """Send a packet, if it may be sent."""
        try:
            self.connection.send(packet, 0.0)  # type: ignore[arg-type]
        except LocalProtocolError as error:
            self.heard.append(str(error))

    def _listen(self, piece: int) -> None:
        while (event := self.connection.next_event()) is not None:
            self.heard.append(event)
            if isinstance(event, Connect) and self._slow:
                self._connect = event
            elif not isinstance(event, ConnectionClosed):
                self._answer(event)
            self._judge(piece)
        self._judge(piece)
        self.said += self.connection.take_output()

    def _answer(self, event: object) -> None:
        self._connect = None
        reply = answer(event, self.connection)  # type: ignore[arg-type]
        if isinstance(reply, ConnAck):
            limits = self.connection.limits
            reply = ConnAck(
                authentication_method=reply.authentication_method,
                receive_maximum=limits.receive_maximum,
                topic_alias_maximum=limits.topic_alias_maximum,
                maximum_packet_size=limits.maximum_packet_size,
            )
        if reply is not None:
            self.say(reply)

    def _judge(self, piece: int) -> None:
        """What is held stays within the limits."""
        connection = self.connection
        limits = connection.limits
        frames = connection.frames
        largest = max(limits.maximum_connect_size, limits.maximum_packet_size)
        if connection.paused:
            largest = limits.maximum_early_data
        elif self._slow:
            largest = max(largest, limits.maximum_early_data)  # until what came early has been taken
        if connection.phase.value != "closed":
            assert len(frames) <= largest + piece
        assert len(connection.unsettled) <= limits.receive_maximum + 1
        assert len(connection._aliases) <= limits.topic_alias_maximum
        for buffer in (frames.data, frames._held):
            if buffer and buffer is not self._buffer:
                self._buffer = buffer
                self._copied += len(buffer)
        assert self._copied <= COPIES * (self._fed + 16)

    def _judge_output(self) -> None:
        """What is said can be understood, and is in proportion to what was heard."""
        connection = self.connection
        packets = packets_in(self.said, connection.version)
        assert len(packets) <= len(self.heard) + 2
        repeated = 2 * len((connection.authentication_method or "").encode())
        assert len(self.said) <= sum(WORD + repeated for _ in packets)
        assert len(self.heard) <= self._fed // 2 + 3  # no packet is shorter than two bytes
