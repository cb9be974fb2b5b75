"""Hypothesis strategies for all that a client sends on one connection: as it should be, and with one thing wrong."""

from collections.abc import Callable

from attrs import evolve, field, frozen
from hypothesis import strategies as st

from mqttcore import packets as p
from mqttcore.codec import encode
from mqttcore.codes import V5, ReasonCode
from mqttcore.testing.malformed import malformed_packets
from mqttcore.testing.strategies import (
    Strategy,
    binary,
    connacks,
    publishes,
    subacks,
    subscriptions,
    topic_filters,
    topic_names,
    unsubacks,
    wills,
)
from mqttcore.wire import write_variable_byte_integer


@frozen
class Broken:
    """What a client sends: `sound` packets, and then bytes for which a server has to end the connection."""

    sound: tuple[p.Packet, ...]
    bad: bytes = field(repr=bytes.hex)


@st.composite
def _connects(draw: st.DrawFn, version: int) -> p.Connect:
    v5 = version == V5
    clean = draw(st.booleans())
    return p.Connect(
        client_id=draw(st.sampled_from(["a", "b"] if not clean else ["a", "b", ""])),
        clean_start=clean,
        keep_alive=draw(st.integers(0, 65_535)),
        username=draw(st.none() | st.just("user")),
        will=draw(st.none() | wills(version).map(_for_servers)),
        protocol_version=version,
        session_expiry_interval=draw(st.sampled_from([None, 0, 10])) if v5 else None,
        receive_maximum=draw(st.sampled_from([None, 1, 3])) if v5 else None,
        topic_alias_maximum=draw(st.sampled_from([None, 0, 2])) if v5 else None,
    )


def _for_servers(will: p.Will) -> p.Will:
    # What a server may refuse for what it says, and not for how: topics of its own, and text that is none.
    return evolve(will, topic="will/" + will.topic, payload_format_indicator=None)


@st.composite
def client_sessions(
    draw: st.DrawFn,
    version: int = V5,
    *,
    topics: Strategy[str] | None = None,
    filters: Strategy[str] | None = None,
    max_size: int = 20,
    disconnect: bool = True,
) -> list[p.Packet]:
    """CONNECT and up to `max_size` packets after it as a client may send them, whatever the server sends meanwhile:
    packet identifiers are used once, PUBREL follows its PUBLISH, Topic Aliases are left to the server. `disconnect`
    lets some end with DISCONNECT.

    `topics` and `filters` are what it publishes and subscribes to. A server that grants less than everything may refuse
    some of it.
    """
    names = topic_names().map(lambda name: "t/" + name) if topics is None else topics
    wanted = topic_filters() if filters is None else filters
    sent: list[p.Packet] = [draw(_connects(version))]
    unreleased: list[int] = []
    for packet_id in range(1, draw(st.integers(0, max_size)) + 1):
        kinds = ["publish", "publish", "subscribe", "unsubscribe", "ping"] + ["release"] * bool(unreleased)
        kind = draw(st.sampled_from(kinds))
        if kind == "publish":
            publish = draw(publishes(version, topics=names, from_client=True))
            publish = evolve(publish, topic=publish.topic or draw(names), topic_alias=None, dup=False)
            publish = evolve(publish, payload_format_indicator=None, packet_id=packet_id if publish.qos else None)
            sent.append(publish)
            unreleased += [packet_id] if publish.qos == 2 else []
        elif kind == "subscribe":
            items = draw(st.lists(subscriptions(version, filters=wanted), min_size=1, max_size=3))
            identifier = draw(st.none() | st.integers(1, 300)) if version == V5 else None
            sent.append(p.Subscribe(packet_id, tuple(items), subscription_identifier=identifier))
        elif kind == "unsubscribe":
            sent.append(p.Unsubscribe(packet_id, tuple(draw(st.lists(wanted, min_size=1, max_size=3)))))
        elif kind == "release":
            sent.append(p.PubRel(unreleased.pop(draw(st.integers(0, len(unreleased) - 1)))))
        else:
            sent.append(p.PingReq())
    if disconnect and draw(st.booleans()):
        sent.append(p.Disconnect())
    return sent


@st.composite
def broken_sessions(draw: st.DrawFn, version: int = V5) -> Broken:
    """What a client may send, and then what no server may put up with (section 4.13)."""
    sound = draw(client_sessions(version, disconnect=False))
    if draw(st.integers(0, 9)) == 0:
        return Broken((), encode(draw(st.sampled_from(sound[1:] or [p.PingReq()])), version))  # [MQTT-3.1.0-1]
    bad = draw(st.sampled_from(_WAYS if version == V5 else _WAYS[:WAYS_IN_V311]))(draw, sound, version)
    return Broken(tuple(sound), bad)


def _second_connect(_draw: st.DrawFn, sound: list[p.Packet], version: int) -> bytes:
    return encode(sound[0], version)  # [MQTT-3.1.0-2]


def _from_the_server(draw: st.DrawFn, _sound: list[p.Packet], version: int) -> bytes:
    kinds: list[Strategy[p.Packet]] = [connacks(version), subacks(version), unsubacks(version), st.just(p.PingResp())]
    return encode(draw(st.one_of(kinds)), version)


def _malformed(draw: st.DrawFn, _sound: list[p.Packet], version: int) -> bytes:
    first, body = draw(malformed_packets(version))
    return bytes([first]) + write_variable_byte_integer(len(body)) + body


def _unset_alias(draw: st.DrawFn, _sound: list[p.Packet], version: int) -> bytes:
    return encode(p.Publish("", draw(binary()), topic_alias=draw(st.integers(1, 65_535))), version)


def _subscription_identifier(draw: st.DrawFn, _sound: list[p.Packet], version: int) -> bytes:
    return encode(p.Publish("t", draw(binary()), subscription_identifiers=(1,)), version)  # [MQTT-3.3.4-6]


def _unasked_auth(draw: st.DrawFn, _sound: list[p.Packet], version: int) -> bytes:
    code = draw(st.sampled_from([ReasonCode.CONTINUE_AUTHENTICATION, ReasonCode.RE_AUTHENTICATE]))
    return encode(p.Auth(code, authentication_method="m"), version)  # [MQTT-4.12.0-7]


_Way = Callable[[st.DrawFn, list[p.Packet], int], bytes]
_WAYS: list[_Way] = [
    _second_connect,
    _from_the_server,
    _malformed,
    _unset_alias,
    _subscription_identifier,
    _unasked_auth,
]
WAYS_IN_V311 = 3
"""The first of them break a session of MQTT 3.1.1, too."""
