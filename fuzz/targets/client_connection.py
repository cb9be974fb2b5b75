"""A client's connection and its session, fed by a server in any chunks while the application does as it likes.

Input: the kind of Client, then operations: bytes from the server, requests of the application, time, the end.
"""

from fuzz.conversation import LIMITS, Conversation
from fuzz.source import Source, chunks
from mqttcore.client import Client, Delivered
from mqttcore.codec import encode
from mqttcore.codes import V5, V311, ReasonCode
from mqttcore.errors import LocalProtocolError
from mqttcore.events import ConnectionClosed
from mqttcore.limits import Limits
from mqttcore.packets import (
    ConnAck,
    Connect,
    Packet,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscription,
    Will,
)
from mqttcore.session import Session
from mqttcore.states import CLIENT
from tests.mqttcore.support import packets_in

OWN = Limits(maximum_packet_size=2048, maximum_queued_messages=4, inflight_maximum=3, receive_maximum=3)
CONNECTS = (
    Connect(client_id="c", keep_alive=10, will=Will(topic="w")),
    Connect(client_id="c", clean_start=False, receive_maximum=3, topic_alias_maximum=2, session_expiry_interval=60),
    Connect(client_id="c", authentication_method="m", authentication_data=b"x", maximum_packet_size=2048),
    Connect(client_id="c", protocol_version=V311, keep_alive=10),
    Connect(client_id="c", protocol_version=V311, clean_start=False),
)
STEPS = 200


def check(data: bytes) -> None:
    """Nothing that a server sends raises, and what the application asks for raises LocalProtocolError at most.

    What the client says can be understood; publications and buffered bytes stay within their bounds; every
    publication is told of once. In chunks a stream means the same as in one piece.
    """
    source = Source(data)
    if source.flag():
        _check_chunks(source)
        return
    connect = source.pick(CONNECTS)
    application = _Application(connect, None if connect.clean_start else Session(OWN))
    for _ in range(STEPS):
        if not source:
            break
        application.step(source)
    application.finish()


def _check_chunks(source: Source) -> None:
    limits, sizes = source.pick(LIMITS), source.take(8)
    stream = source.rest()
    parts, whole = (Conversation(CLIENT, limits) for _ in range(2))
    parts.hold(chunks(stream, sizes))
    whole.hold([stream])
    assert parts.heard == whole.heard
    assert parts.said == whole.said


def _of_server(source: Source) -> Packet:
    """A packet that a server may send, though perhaps not now."""
    packet_id, qos = source.below(4) + 1, source.below(3)
    code = source.pick((ReasonCode.SUCCESS, ReasonCode.NOT_AUTHORIZED))
    publish = Publish("t", source.take(9), qos=qos, packet_id=packet_id if qos else None)
    connack = ConnAck(session_present=source.flag())
    kinds: tuple[Packet, ...] = (
        connack,
        publish,
        PubAck(packet_id, code),
        PubRec(packet_id, code),
        PubRel(packet_id),
        PubComp(packet_id),
    )
    return source.pick([*kinds, SubAck(packet_id, (code,)), PingResp()])


class _Application:
    def __init__(self, connect: Connect, session: Session | None) -> None:
        self.now = 0.0
        self.client = Client(connect, 0.0, limits=OWN, session=session)
        self.version = connect.protocol_version
        self.published: set[int] = set()
        self.over = False

    def step(self, source: Source) -> None:
        kind = source.below(10)
        try:
            self._do(kind, source)
        except LocalProtocolError:
            if kind < 4:  # what the server sends, and what time does, never raises
                raise
        self.listen()

    def _do(self, kind: int, source: Source) -> None:
        client, now = self.client, self.now
        match kind:
            case 0:
                client.receive(source.take(600), now)
            case 1 | 2:
                client.receive(encode(_of_server(source), self.version), now)
            case 3:
                self.now += source.pick((0.0, 1.0, 7.5, 100.0))
                client.handle_timeout(self.now)
            case 4 | 5:
                qos, interval = source.below(3), source.pick((None, 0, 1, 5))
                number = client.publish(
                    Publish(
                        source.pick(("t", "a/b", "")),
                        source.take(9),
                        qos=qos,
                        retain=source.flag(),
                        message_expiry_interval=interval if self.version == V5 else None,
                        topic_alias=source.pick((None, None, 1, 2)) if self.version == V5 else None,
                    ),
                    now,
                )
                assert bool(number) == bool(qos)
                assert number not in self.published
                if number:
                    self.published.add(number)
            case 6:
                client.subscribe((Subscription(source.pick(("a", "#", "", "$share/g/a")), source.below(3)),), now)
            case 7:
                client.unsubscribe((source.pick(("a", "#", "")),), now)
            case 8:
                (client.authenticate if source.flag() else client.reauthenticate)(source.take(9), now)
            case _:
                client.disconnect(now)

    def listen(self) -> None:
        client = self.client
        while (event := client.next_event()) is not None:
            assert not self.over, f"{event} after the end"
            if isinstance(event, Delivered):
                self.published.remove(event.number)  # each once
            self.over = isinstance(event, ConnectionClosed)
        packets_in(client.take_output(), self.version)
        session = client.session
        assert len(session.queue) <= OWN.maximum_queued_messages
        assert len(session.inflight) + len(session.releasing) <= OWN.inflight_maximum
        assert client.connection.phase.value == "closed" or len(client.connection.frames) <= OWN.maximum_packet_size
        assert len(client.connection.unsettled) <= client.connection.receive_maximum + 1

    def finish(self) -> None:
        self.client.receive_eof(self.now)
        self.listen()
        assert self.over
        assert len(self.published) == self.client.pending
