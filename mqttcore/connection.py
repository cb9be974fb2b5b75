"""One network connection as a value machine, either role: bytes and packets in, events and bytes out.

    connection.receive(data, now)                 # what the transport delivered
    while (event := connection.next_event()): …   # what it means
    connection.send(packet, now)                  # what to answer
    transport.write(connection.take_output())
    …                                             # and handle_timeout(now) at next_deadline()

A peer that breaks the protocol never raises here: the connection answers with the CONNACK or DISCONNECT that the
specification names and ends with a ConnectionClosed event. Times are monotonic seconds that the caller supplies.
"""

from contextlib import suppress
from math import inf
from typing import Final, Literal, final

from attrs import evolve

from mqttcore import packets as p
from mqttcore.codec import PROTOCOL_NAME, decode, encode, read_protocol
from mqttcore.codes import CONNACK_CODES, DISCONNECT_CODES, V5, V311, PacketType, ReasonCode
from mqttcore.errors import LocalProtocolError, PacketTooLarge, ProtocolError
from mqttcore.events import ConnectionClosed, Event
from mqttcore.framing import FrameBuffer
from mqttcore.limits import Limits
from mqttcore.states import CLIENT, CONNECTED_PHASES, SERVER, TRANSITIONS, Phase, Role, trigger

FRAME_MAXIMUM: Final = 268_435_460
"""The largest control packet there can be, in bytes: a Remaining Length of 268,435,455 behind five bytes."""

_OLD_PROTOCOL_NAME = b"\x00\x06MQIsdp"  # MQTT 3.1
_PREVIEW = len(_OLD_PROTOCOL_NAME) + 1  # a refusal of an oversized CONNECT needs its protocol version
# Names of our own, because a member of an Enum takes long to be found in its class.
_START: Final = Phase.START
_CLOSED: Final = Phase.CLOSED
_PAUSED_PHASES: Final = (Phase.CONNECTING, Phase.AUTHENTICATING)
_UNDECIDED_PHASES: Final = (_START, *_PAUSED_PHASES, Phase.CHALLENGED)

_WITH_REASON_CODE: Final = (p.Disconnect, p.ConnAck)
_BOUND_BY_CONNECT: Final = (p.Auth, p.ConnAck, p.Disconnect)


@final
class Connection:
    """A connection in the role CLIENT or SERVER.

    `limits` bound what the peer may do; a client announces its own through its CONNECT (Receive Maximum, Maximum Packet
    Size, Topic Alias Maximum), a server through the CONNACK that its owner sends.
    """

    __slots__ = (
        "_aliased_topics",
        "_aliases",
        "_answerable",
        "_arrived",
        "_clean_start",
        "_connect_deadline",
        "_ending",
        "_eof",
        "_last_sent",
        "_own_aliases",
        "_peer_maximum_qos",
        "_peer_retain_available",
        "_ping_sent",
        "_session_expiry_interval",
        "_unsettled",
        "authentication_method",
        "frames",
        "keep_alive",
        "last_received",
        "limits",
        "out",
        "peer_maximum_packet_size",
        "peer_receive_maximum",
        "peer_topic_alias_maximum",
        "phase",
        "problem_information",
        "receive_maximum",
        "role",
        "topic_alias_maximum",
        "version",
    )

    def __init__(self, role: Role, limits: Limits, now: float) -> None:
        self.role: Role = role
        self.limits: Limits = limits
        self.phase: Phase = _START
        self.version: int = V5
        self.frames: FrameBuffer = FrameBuffer(
            limits.maximum_connect_size if role is SERVER else limits.maximum_packet_size
        )
        self.frames.preview = _PREVIEW if role is SERVER else 0
        self.keep_alive: int = 0  # seconds; 0 is none
        self.authentication_method: str | None = None
        self.receive_maximum: int = 65_535  # what the peer may have unacknowledged
        self.topic_alias_maximum: int = 0  # what the peer may use
        self.peer_receive_maximum: int = 65_535
        self.peer_maximum_packet_size: int = FRAME_MAXIMUM
        self.peer_topic_alias_maximum: int = 0
        self.problem_information: bool = True  # whether the client wants reason strings and user properties
        self.last_received: float = now  # a whole control packet
        self._arrived: float = now
        self.out: list[bytes] = []
        self._unsettled: set[int] | None = None
        self._last_sent: float = now
        self._ping_sent: float | None = None
        self._connect_deadline: float = now + limits.connect_timeout
        self._aliases: dict[int, str] = {}  # the peer's; like ours, of this connection alone [MQTT-3.3.2-7]
        self._own_aliases: dict[str, int] = {}
        self._aliased_topics: dict[int, str] = {}
        self._clean_start: bool = True  # these two are as CONNECT says
        self._session_expiry_interval: int = 0
        self._peer_maximum_qos: int = 2
        self._peer_retain_available: bool = True
        self._answerable: bool = False
        self._eof: bool = False
        self._ending: ConnectionClosed | None = None

    # ------------------------------------------------------------------------------------------------ receiving

    @property
    def paused(self) -> bool:
        """Whether a server still owes its verdict on a CONNECT: until then nothing should be read from the peer."""
        return self.role is SERVER and self.phase in _PAUSED_PHASES

    @property
    def connected(self) -> bool:
        """Whether a CONNACK of success has passed and the connection is not over."""
        return self.phase in CONNECTED_PHASES

    @property
    def exhausted(self) -> bool:
        """Whether `next_event` has nothing to give before more is received."""
        return self.frames.empty and not self._eof and self._ending is None

    @property
    def unsettled(self) -> set[int]:
        """The peer's QoS 1 and 2 packet identifiers that count against `receive_maximum`. Most peers never have any."""
        if self._unsettled is None:
            self._unsettled = set()
        return self._unsettled

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes that the transport delivered; ask `next_event` afterwards."""
        if self.phase is _CLOSED:
            return
        self._arrived = now
        self.frames.feed(data)

    def receive_eof(self, now: float) -> None:
        """The peer's stream has ended; the events of what came before it are still there."""
        self._eof = True

    def next_event(self) -> Event | None:
        """The next event, None when more bytes (or, for a server, its own CONNACK or AUTH) are needed first."""
        if self._ending is None and self.phase is not _CLOSED:  # [MQTT-3.1.4-6]
            if not self.paused:
                try:
                    packet = self._next_packet()
                except ProtocolError as error:
                    self.fail(error)
                else:
                    if packet is not None:
                        return packet
            elif len(self.frames) > self.limits.maximum_early_data:
                self.fail(ProtocolError("too much was sent before CONNACK", ReasonCode.QUOTA_EXCEEDED))
            if self._eof:
                self.close(ReasonCode.UNSPECIFIED_ERROR, "the peer closed the connection without DISCONNECT", "eof")
        ending, self._ending = self._ending, None
        return ending

    def _next_packet(self) -> p.Packet | None:
        starting = self.phase is _START
        if starting:
            first = self.frames.first_byte()
            if self.role is SERVER and first is not None and first >> 4 != PacketType.CONNECT:  # [MQTT-3.1.0-1]
                raise ProtocolError("the first packet is not CONNECT")
        body = None
        try:
            frame = self.frames.next_frame()
            if frame is None:
                return None
            self.last_received = self._arrived  # Keep Alive is about control packets, not about single bytes
            first, body = frame
            packet = decode(first, body, self.version)
        except ProtocolError:
            if starting:
                self._read_version(self.frames.previewed if body is None else body)
            raise
        next_phase = TRANSITIONS.get((self.phase, self.role.peer, trigger(packet)))
        if next_phase is None:  # [MQTT-3.1.0-2] and every other packet out of place
            raise ProtocolError(f"{_name(packet)} is not permitted here (the connection is {self.phase.value})")
        if isinstance(packet, p.Publish):
            packet = self._received_publish(packet)
        elif isinstance(packet, p.Connect):
            self._received_connect(packet)
        elif isinstance(packet, p.ConnAck):
            self._received_connack(packet)
        elif isinstance(packet, p.Auth):
            self._check_method(packet)
        elif isinstance(packet, p.Disconnect):
            self._received_disconnect(packet)
        elif isinstance(packet, p.PingResp):
            self._ping_sent = None
        self.phase = next_phase
        if next_phase is _CLOSED:  # [MQTT-4.13.2-1]
            code = packet.reason_code if isinstance(packet, _WITH_REASON_CODE) else ReasonCode.SUCCESS
            self._ending = ConnectionClosed(code, f"{_name(packet)} 0x{code:02X} from the peer", "peer")
        return packet

    def _read_version(self, body: bytes) -> None:
        """In which version to refuse a CONNECT, if it can be told at all."""
        protocol = read_protocol(body)
        if protocol is None:
            return
        name, level = protocol
        if name == PROTOCOL_NAME and level >= V5:
            self._answerable = True
        elif name in (PROTOCOL_NAME, _OLD_PROTOCOL_NAME):
            self.version = V311
            # "Unacceptable protocol level"; 3.1.1 has no code for what else is wrong. [MQTT3-3.1.2-2]
            self._answerable = level < V311

    def _received_connect(self, packet: p.Connect) -> None:
        self._session_expiry_interval = packet.session_expiry_interval or 0
        self.frames.preview = 0
        self.version = packet.protocol_version
        self.keep_alive = packet.keep_alive
        self.authentication_method = packet.authentication_method
        self.peer_receive_maximum = packet.receive_maximum or 65_535
        self.peer_maximum_packet_size = packet.maximum_packet_size or FRAME_MAXIMUM
        self.peer_topic_alias_maximum = packet.topic_alias_maximum or 0
        self.problem_information = packet.request_problem_information is not False

    def _received_connack(self, packet: p.ConnAck) -> None:
        if packet.reason_code.is_failure:
            return
        if packet.authentication_method != self.authentication_method:  # [MQTT-4.12.0-5] [MQTT-4.12.0-6]
            raise ProtocolError("CONNACK names another Authentication Method than CONNECT")
        if packet.session_present and self._clean_start:
            raise ProtocolError("CONNACK says that a session is present after Clean Start 1")
        if packet.server_keep_alive is not None:  # [MQTT-3.1.2-21] [MQTT-3.2.2-21]
            self.keep_alive = packet.server_keep_alive
        self.peer_receive_maximum = packet.receive_maximum or 65_535
        self.peer_maximum_packet_size = packet.maximum_packet_size or FRAME_MAXIMUM
        self.peer_topic_alias_maximum = packet.topic_alias_maximum or 0
        self._peer_maximum_qos = 2 if packet.maximum_qos is None else packet.maximum_qos
        self._peer_retain_available = packet.retain_available is not False

    def _received_disconnect(self, packet: p.Disconnect) -> None:
        if self.role is CLIENT:
            if self.version < V5:
                raise ProtocolError("a server of MQTT 3.1.1 sends no DISCONNECT")
            if packet.session_expiry_interval is not None:  # [MQTT-3.14.2-2]
                raise ProtocolError("DISCONNECT from the server has a Session Expiry Interval")
        elif packet.session_expiry_interval and not self._session_expiry_interval:
            raise ProtocolError("DISCONNECT sets a Session Expiry Interval that CONNECT left at 0")

    def _check_method(self, packet: p.Auth) -> None:
        if packet.authentication_method not in (self.authentication_method, None):  # [MQTT-4.12.0-5] [MQTT-4.12.1-1]
            raise ProtocolError("AUTH names another Authentication Method than CONNECT")

    def _received_publish(self, packet: p.Publish) -> p.Publish:
        if self.role is SERVER:
            if packet.qos > self.limits.maximum_qos:  # [MQTT-3.2.2-11]
                raise ProtocolError(f"QoS {packet.qos} is not supported", ReasonCode.QOS_NOT_SUPPORTED)
            if packet.retain and not self.limits.retain_available:  # [MQTT-3.2.2-14]
                raise ProtocolError("retained messages are not supported", ReasonCode.RETAIN_NOT_SUPPORTED)
            if packet.subscription_identifiers:  # [MQTT-3.3.4-6]
                raise ProtocolError("PUBLISH to a server has a Subscription Identifier")
        if packet.packet_id is not None:
            self.count_unsettled(packet.packet_id)
        alias = packet.topic_alias
        if alias is None:
            return packet
        if alias > self.topic_alias_maximum:  # [MQTT-3.2.2-17] [MQTT-3.3.2-9] [MQTT-3.3.2-11]
            raise ProtocolError(
                f"Topic Alias {alias} is above the maximum of {self.topic_alias_maximum}",
                ReasonCode.TOPIC_ALIAS_INVALID,
            )
        if packet.topic:  # [MQTT-3.3.2-10] [MQTT-3.3.2-12]
            self._aliases[alias] = packet.topic
            return packet
        topic = self.aliased(alias)
        if topic is None:
            raise ProtocolError(f"Topic Alias {alias} has not been set on this connection")
        return evolve(packet, topic=topic)

    def aliased(self, alias: int) -> str | None:
        """The Topic Name that the peer has set a Topic Alias to stand for, section 3.3.2.3.4."""
        return self._aliases.get(alias)

    def count_unsettled(self, packet_id: int) -> None:
        """Note a QoS 1 or 2 PUBLISH of the peer; raises ProtocolError (0x93) beyond its Receive Maximum, section
        4.9.
        """
        unsettled = self.unsettled
        unsettled.add(packet_id)
        if len(unsettled) > self.receive_maximum:  # [MQTT-3.3.4-7] [MQTT-3.3.4-9]
            raise ProtocolError(
                f"more than {self.receive_maximum} messages are unacknowledged", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
            )

    # -------------------------------------------------------------------------------------------------- sending

    def send(self, packet: p.Packet, now: float, data: bytes | None = None) -> None:
        """Put a packet into the output; `data` is the same for this version of the protocol, if it is at hand.

        Raises LocalProtocolError when the state table or the peer's announced limits forbid it here, PacketTooLarge
        when it exceeds the peer's Maximum Packet Size; in both cases nothing is sent and nothing changes.
        """
        next_phase = TRANSITIONS.get((self.phase, self.role, trigger(packet)))
        if next_phase is None:
            raise LocalProtocolError(f"{_name(packet)} cannot be sent now (the connection is {self.phase.value})")
        if isinstance(packet, p.Publish):
            self._send_publish(packet)
        elif isinstance(packet, p.Connect):
            if packet.protocol_version < V5 and packet.authentication_method is not None:
                raise LocalProtocolError("MQTT 3.1.1 has no Authentication Method")
            if packet.protocol_version < V5 and not packet.client_id and not packet.clean_start:  # [MQTT3-3.1.3-7]
                raise LocalProtocolError("MQTT 3.1.1 has no lasting session without a client identifier")
            self._send(packet, packet.protocol_version)
            self._sent_connect(packet, now)
        else:
            if isinstance(packet, _BOUND_BY_CONNECT):
                self._check_against_connect(packet)
            self._send(packet, self.version, data)
            if isinstance(packet, p.PubAck | p.PubComp) or (
                isinstance(packet, p.PubRec) and packet.reason_code.is_failure
            ):
                self.unsettled.discard(packet.packet_id)
            elif isinstance(packet, p.ConnAck) and not packet.reason_code.is_failure:
                self._sent_connack(packet, now)
        self._last_sent = now
        self.phase = next_phase
        if next_phase is _CLOSED:  # [MQTT-3.14.4-2] [MQTT-4.13.2-1]
            code = packet.reason_code if isinstance(packet, _WITH_REASON_CODE) else ReasonCode.SUCCESS
            self._ending = ConnectionClosed(code, f"{_name(packet)} 0x{code:02X} was sent", "us")

    def _check_against_connect(self, packet: p.Auth | p.ConnAck | p.Disconnect) -> None:
        if isinstance(packet, p.Disconnect):
            if self.role is SERVER and packet.session_expiry_interval is not None:  # [MQTT-3.14.2-2]
                raise LocalProtocolError("DISCONNECT from a server has no Session Expiry Interval")
            if packet.session_expiry_interval and not self._session_expiry_interval:
                raise LocalProtocolError("DISCONNECT cannot set a Session Expiry Interval that CONNECT left at 0")
        elif isinstance(packet, p.ConnAck) and packet.reason_code.is_failure:
            pass  # it may name a method or not
        elif packet.authentication_method != self.authentication_method:  # [MQTT-4.12.0-5] [MQTT-4.12.0-6]
            raise LocalProtocolError(
                f"{_name(packet)} names the Authentication Method of CONNECT, or none if that has none"
            )

    def _sent_connect(self, packet: p.Connect, now: float) -> None:
        self._clean_start = packet.clean_start
        self._session_expiry_interval = packet.session_expiry_interval or 0
        self.version = packet.protocol_version
        self.keep_alive = packet.keep_alive
        self.authentication_method = packet.authentication_method
        if self.version == V5:  # MQTT 3.1.1 cannot tell the server
            self.receive_maximum = packet.receive_maximum or 65_535
            self.topic_alias_maximum = packet.topic_alias_maximum or 0
        self.frames.maximum = packet.maximum_packet_size or self.limits.maximum_packet_size
        self._connect_deadline = now + self.limits.connect_timeout

    def _sent_connack(self, packet: p.ConnAck, now: float) -> None:
        self.last_received = now  # the verdict may have taken long: that was not the client's silence
        if packet.server_keep_alive is not None:
            self.keep_alive = packet.server_keep_alive
        if self.version == V5:
            self.receive_maximum = packet.receive_maximum or 65_535
            self.topic_alias_maximum = packet.topic_alias_maximum or 0
        self.frames.maximum = packet.maximum_packet_size or self.limits.maximum_packet_size

    def _send(self, packet: p.Packet, version: int, data: bytes | None = None) -> None:
        if version < V5 and isinstance(packet, p.Disconnect) and self.role is SERVER:
            return  # MQTT 3.1.1 has no DISCONNECT from the server: it only closes [MQTT3-3.1.4-2]
        if (
            not self.problem_information  # [MQTT-3.1.2-29]
            and self.role is SERVER
            and not isinstance(packet, p.Publish | p.ConnAck | p.Disconnect)
        ):
            packet = _without_problem_information(packet)
        if data is None:
            data = encode(packet, version)
        if len(data) > self.peer_maximum_packet_size:  # [MQTT-3.1.2-24]
            # [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2]
            # [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
            # [MQTT-3.14.2-3] [MQTT-3.14.2-4] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
            data = encode(_without_problem_information(packet), version)
            if len(data) > self.peer_maximum_packet_size:  # [MQTT-3.2.2-15]
                raise PacketTooLarge(
                    f"{_name(packet)} of {len(data)} bytes is over the peer's limit of {self.peer_maximum_packet_size}"
                )
        self.out.append(data)

    def check_publish(self, packet: p.Publish) -> None:
        """Raise LocalProtocolError for a PUBLISH that the peer's announced limits forbid, whatever waits before it."""
        if packet.qos > self._peer_maximum_qos:  # [MQTT-3.2.2-11]
            raise LocalProtocolError(
                f"the server accepts no QoS above {self._peer_maximum_qos}", ReasonCode.QOS_NOT_SUPPORTED
            )
        if packet.retain and not self._peer_retain_available:  # [MQTT-3.2.2-14]
            raise LocalProtocolError("the server accepts no retained messages", ReasonCode.RETAIN_NOT_SUPPORTED)
        if packet.subscription_identifiers and self.role is CLIENT:  # [MQTT-3.3.4-6]
            raise LocalProtocolError("a PUBLISH from a client has no Subscription Identifier")
        alias = packet.topic_alias or 0
        if alias > self.peer_topic_alias_maximum:  # [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.2.2-18]
            raise LocalProtocolError(
                f"Topic Alias {alias} is above the peer's maximum of {self.peer_topic_alias_maximum}",
                ReasonCode.TOPIC_ALIAS_INVALID,
            )

    def _send_publish(self, packet: p.Publish) -> None:
        self.check_publish(packet)
        alias = packet.topic_alias
        if alias is None or self.version < V5:
            self._send(packet, self.version)
            return
        if not packet.topic and alias not in self._aliased_topics:
            raise LocalProtocolError(f"Topic Alias {alias} has not been set", ReasonCode.TOPIC_ALIAS_INVALID)
        self._send(packet, self.version)
        if packet.topic:
            self.alias_sent(packet.topic, alias)

    def alias_for(self, topic: str) -> tuple[int, bool]:
        """The Topic Alias that this side uses for `topic`, and whether the peer knows it already; 0 for none,
        section 3.3.2.3.4.

        One that is not known yet must be followed by `alias_sent` when a PUBLISH with topic and alias has gone out.
        """
        alias = self._own_aliases.get(topic)
        if alias is not None:
            return alias, True
        alias = len(self._own_aliases) + 1
        if alias > min(self.peer_topic_alias_maximum, self.limits.assigned_topic_aliases):
            return 0, False
        return alias, False

    def alias_sent(self, topic: str, alias: int) -> None:
        """The peer has been told that `alias` stands for `topic` from now on."""
        self._own_aliases.pop(self._aliased_topics.get(alias, ""), None)
        self._own_aliases[topic] = alias
        self._aliased_topics[alias] = topic

    def take_output(self) -> bytes:
        """What is to be written to the transport, in one piece; b"" for nothing."""
        out = b"".join(self.out)
        self.out.clear()
        return out

    # --------------------------------------------------------------------------------------------------- ending

    def fail(self, error: ProtocolError) -> None:
        """End the connection over an error of the peer's, with the last word that section 4.13 asks for."""
        code = error.reason_code
        word = str(error)
        if self.role is SERVER and self.phase in _UNDECIDED_PHASES:
            self._refuse(code, word)
        elif self.connected and self.version == V5:  # [MQTT-4.13.1-1]
            shown = code if code in DISCONNECT_CODES else ReasonCode.PROTOCOL_ERROR
            self._last_word(p.Disconnect(shown, reason_string=word))
        self.close(code, word, "us")  # [MQTT-3.1.4-1] [MQTT-4.13.2-1] [MQTT3-4.8.0-1]

    def _refuse(self, code: ReasonCode, word: str) -> None:
        if self.phase is _START:
            if not self._answerable:
                return  # nothing tells what the peer would understand [MQTT3-3.1.4-1] [MQTT3-3.2.2-6]
            if self.version < V5:  # whatever else is wrong [MQTT3-3.1.2-2]
                code = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
        shown = code if code in CONNACK_CODES else ReasonCode.PROTOCOL_ERROR
        self._last_word(p.ConnAck(reason_code=shown, reason_string=word))

    def _last_word(self, packet: p.ConnAck | p.Disconnect) -> None:
        with suppress(PacketTooLarge):  # a peer that takes no packet of this size only sees the connection close
            self._send(packet, self.version)

    def close(self, reason_code: ReasonCode, reason: str, by: Literal["peer", "us", "eof", "timeout"]) -> None:
        """End the connection without a further packet; ConnectionClosed is the next event."""
        if self.phase is not _CLOSED:
            self.phase = _CLOSED
            self._ending = ConnectionClosed(reason_code, reason, by)

    def explain(self, reason: str) -> None:
        """Say why the packet that ended the connection was sent: the `reason` of ConnectionClosed, which the peer is
        not told.
        """
        if self._ending is not None:
            self._ending = evolve(self._ending, reason=reason)

    # --------------------------------------------------------------------------------------------------- timing

    def next_deadline(self) -> float:
        """When `handle_timeout` is due next (monotonic seconds); infinity for never."""
        if self.phase is _CLOSED:
            return inf
        if self.phase is _START or (self.role is CLIENT and not self.connected):
            return self._connect_deadline
        if not self.keep_alive or not self.connected:
            return inf
        if self.role is SERVER:
            return self.last_received + 1.5 * self.keep_alive
        if self._ping_sent is not None:
            return self._ping_sent + self.keep_alive
        return self._last_sent + 0.75 * self.keep_alive

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`: the connect time-out, Keep Alive (section 3.1.2.10); harmless when nothing is."""
        if now < self.next_deadline():
            return
        if not self.connected:
            awaited = "CONNECT" if self.phase is _START else "CONNACK"
            self.close(
                ReasonCode.UNSPECIFIED_ERROR, f"no {awaited} within {self.limits.connect_timeout:g} seconds", "timeout"
            )
        elif self.role is SERVER:  # [MQTT-3.1.2-22]
            word = f"nothing was received for 1.5 times the Keep Alive of {self.keep_alive} seconds"
            if self.version == V5:  # [MQTT3-3.1.2-24]
                self._last_word(p.Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT, reason_string=word))
            self.close(ReasonCode.KEEP_ALIVE_TIMEOUT, word, "timeout")
        elif self._ping_sent is None:  # [MQTT-3.1.2-20]
            try:
                self.send(p.PingReq(), now)
            except PacketTooLarge as error:
                self.close(error.reason_code, str(error), "us")
            self._ping_sent = now
        else:
            self.close(ReasonCode.KEEP_ALIVE_TIMEOUT, "the server did not answer PINGREQ", "timeout")


def _name(packet: p.Packet) -> str:
    return type(packet).__name__.upper()


def _without_problem_information(packet: p.Packet) -> p.Packet:
    """The packet without the properties that are left out when they are unwanted or make it too large."""
    if isinstance(packet, p.Publish | p.Connect | p.Subscribe | p.Unsubscribe | p.PingReq | p.PingResp):
        return packet
    return evolve(packet, reason_string=None, user_properties=())
