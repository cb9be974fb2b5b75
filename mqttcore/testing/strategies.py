"""Hypothesis strategies for what travels between Client and Server: strings, topics, properties, packets.

What is drawn is valid for the protocol version (4 for MQTT 3.1.1, or 5) that it is drawn for, and a packet
has nothing that the version cannot carry, so that decoding its encoding gives an equal packet. The exception:
`unchecked_packets` draws field values that no packet may have.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

import attrs
from hypothesis import strategies as st

from mqttcore import codes, wire
from mqttcore import packets as p
from mqttcore.codes import V5, V311, PacketType, ReasonCode
from mqttcore.properties import BY_PACKET, WILL

Strategy = st.SearchStrategy
_P = TypeVar("_P")

# --------------------------------------------------------------------------------- data representations (1.5)


def strings(*, min_size: int = 0, max_size: int = 20, exclude: str = "") -> Strategy[str]:
    """What a UTF-8 Encoded String may hold (section 1.5.4); sizes are in characters."""
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\0" + exclude)
    return st.text(alphabet, min_size=min_size, max_size=max_size)


def binary(*, max_size: int = 20) -> Strategy[bytes]:
    """Binary Data (section 1.5.6), sizes in bytes."""
    return st.binary(max_size=max_size)


def packet_ids() -> Strategy[int]:
    """Packet Identifiers, section 2.2.1."""
    return st.integers(1, 65_535)


def chunks(data: bytes) -> Strategy[list[bytes]]:
    """Every way to cut `data` into pieces of at least one byte, as a transport may deliver it."""
    end = len(data)
    places = st.just(set(range(end))) | st.sets(st.integers(0, end))  # a byte at a time, or anyhow
    return places.map(lambda cuts: [data[start:stop] for start, stop in pairwise(sorted(cuts | {0, end}))])


# ------------------------------------------------------------------------------------------ topics (4.7, 4.8)

# Few short levels beside arbitrary ones: names and filters drawn apart from each other meet often enough.
_LEVELS = st.sampled_from(["a", "b", "", "$a"]) | strings(max_size=4, exclude="/+#")


def topic_names(*, max_levels: int = 5) -> Strategy[str]:
    """Topic Names, section 4.7; some begin with `$`."""
    return st.lists(_LEVELS, min_size=1, max_size=max_levels).map("/".join).filter(bool)


def topic_filters(*, max_levels: int = 5, shared: bool = True) -> Strategy[str]:
    """Topic Filters, section 4.7, and with `shared` those of shared subscriptions too, section 4.8.2."""
    levels = st.lists(_LEVELS | st.just("+"), min_size=1, max_size=max_levels)
    ends = st.sampled_from(["", "", "/#"])
    plain = st.just("#") | st.builds(lambda start, end: "/".join(start) + end, levels, ends)
    plain = plain.filter(lambda text: text != "" and not text.startswith("$share/"))
    if not shared:
        return plain
    return plain | st.builds("$share/{}/{}".format, share_names(), plain)


def share_names() -> Strategy[str]:
    """ShareNames, section 4.8.2."""
    return strings(min_size=1, max_size=4, exclude="/+#")


# ----------------------------------------------------------------------------------------- properties (2.2.2)

# Shared, because Hypothesis prepares each strategy object anew.
_STRINGS, _BINARY, _PACKET_IDS = strings(), binary(), packet_ids()
_TOPIC_NAMES, _TOPIC_FILTERS = topic_names(), topic_filters()
_BOOLEANS = st.booleans()
_QOS = st.integers(0, 2)
_BITS = st.integers(0, 1)
_UINT16 = st.integers(0, 65_535)
_UINT32 = st.integers(0, 2**32 - 1)
_SUBSCRIPTION_IDENTIFIERS = st.integers(1, wire.VARIABLE_BYTE_MAXIMUM)

_VALUES: dict[str, Strategy[Any]] = {
    "payload_format_indicator": _BITS,
    "message_expiry_interval": _UINT32,
    "content_type": _STRINGS,
    "response_topic": _TOPIC_NAMES,
    "correlation_data": _BINARY,
    "subscription_identifiers": st.lists(_SUBSCRIPTION_IDENTIFIERS, max_size=3).map(tuple),
    "subscription_identifier": _SUBSCRIPTION_IDENTIFIERS,
    "session_expiry_interval": _UINT32,
    "assigned_client_identifier": _STRINGS,
    "server_keep_alive": _UINT16,
    "authentication_method": _STRINGS,
    "authentication_data": _BINARY,
    "request_problem_information": _BOOLEANS,
    "will_delay_interval": _UINT32,
    "request_response_information": _BOOLEANS,
    "response_information": _STRINGS,
    "server_reference": _STRINGS,
    "reason_string": _STRINGS,
    "receive_maximum": st.integers(1, 65_535),
    "topic_alias_maximum": _UINT16,
    "topic_alias": st.integers(1, 65_535),
    "maximum_qos": _BITS,
    "retain_available": _BOOLEANS,
    "user_properties": st.lists(st.tuples(_STRINGS, _STRINGS), max_size=3).map(tuple),
    "maximum_packet_size": st.integers(1, 2**32 - 1),
    "wildcard_subscription_available": _BOOLEANS,
    "subscription_identifiers_available": _BOOLEANS,
    "shared_subscription_available": _BOOLEANS,
}


def property_values(name: str) -> Strategy[Any]:
    """The values of the property that the packets' field `name` holds."""
    return _VALUES[name]


def properties(packet: int, version: int = V5) -> Strategy[dict[str, Any]]:
    """Any properties of `packet` (a PacketType, or WILL for the Will Properties), as {field name: value}.

    A property that is absent has no key. MQTT 3.1.1 has none.
    """
    return st.just({}) if version < V5 else _properties(packet)


@cache
def _properties(packet: int) -> Strategy[dict[str, Any]]:
    optional = {row.name: _VALUES[row.name] for row in BY_PACKET[packet].values()}
    found = st.fixed_dictionaries({}, optional=optional)
    if packet in (PacketType.CONNECT, PacketType.CONNACK):  # section 3.1.2.11.10
        return found.filter(lambda have: "authentication_data" not in have or "authentication_method" in have)
    return found


# ---------------------------------------------------------------------------------------- packets (chapter 3)


def reason_codes(packet: PacketType, version: int = V5) -> Strategy[ReasonCode]:
    """The reason codes that `packet` may carry; for MQTT 3.1.1 those that its return codes translate to."""
    return st.sampled_from(sorted(_REASON_CODES[version][packet]))


_ANSWER_CODES = {
    PacketType.PUBACK: set(codes.PUBACK_CODES.values()),
    PacketType.PUBREC: set(codes.PUBACK_CODES.values()),
    PacketType.PUBREL: set(codes.PUBREL_CODES.values()),
    PacketType.PUBCOMP: set(codes.PUBREL_CODES.values()),
    PacketType.DISCONNECT: set(codes.DISCONNECT_CODES.values()),
}
_REASON_CODES: dict[int, dict[PacketType, set[ReasonCode]]] = {
    V311: {
        PacketType.CONNACK: set(codes.V311_REASON_CODES.values()),
        PacketType.SUBACK: {ReasonCode(code) for code in (0, 1, 2, 0x80)},
        **{kind: {ReasonCode.SUCCESS} for kind in _ANSWER_CODES},
    },
    V5: {
        PacketType.CONNACK: set(codes.CONNACK_CODES.values()),
        PacketType.SUBACK: set(codes.SUBACK_CODES.values()),
        PacketType.UNSUBACK: set(codes.UNSUBACK_CODES.values()),
        PacketType.AUTH: set(codes.AUTH_CODES.values()),
        **_ANSWER_CODES,
    },
}


@st.composite
def wills(draw: st.DrawFn, version: int = V5) -> p.Will:
    """Will Messages, section 3.1.3.2."""
    return p.Will(
        topic=draw(_TOPIC_NAMES),
        payload=draw(_BINARY),
        qos=draw(_QOS),
        retain=draw(_BOOLEANS),
        **draw(properties(WILL, version)),
    )


@st.composite
def connects(draw: st.DrawFn, version: int = V5) -> p.Connect:
    """CONNECT packets, section 3.1, of that protocol version."""
    username = draw(st.none() | _STRINGS)
    has_password = draw(_BOOLEANS) and (version == V5 or username is not None)
    return p.Connect(
        client_id=draw(_STRINGS),
        clean_start=draw(_BOOLEANS),
        keep_alive=draw(_UINT16),
        username=username,
        password=draw(_BINARY) if has_password else None,
        will=draw(st.none() | wills(version)),
        protocol_version=version,
        **draw(properties(PacketType.CONNECT, version)),
    )


@st.composite
def connacks(draw: st.DrawFn, version: int = V5) -> p.ConnAck:
    """CONNACK packets, section 3.2."""
    reason_code = draw(reason_codes(PacketType.CONNACK, version))
    return p.ConnAck(
        reason_code=reason_code,
        session_present=not reason_code.is_failure and draw(_BOOLEANS),
        **draw(properties(PacketType.CONNACK, version)),
    )


@st.composite
def publishes(
    draw: st.DrawFn,
    version: int = V5,
    *,
    qos: Strategy[int] | None = None,
    topics: Strategy[str] | None = None,
    from_client: bool = False,
) -> p.Publish:
    """PUBLISH packets, section 3.3, of any `qos` and on any of `topics`, unless they are given.

    With a Topic Alias the Topic Name may be empty. `from_client` leaves out what a Client must not send:
    Subscription Identifiers.
    """
    level = draw(_QOS if qos is None else qos)
    found = draw(properties(PacketType.PUBLISH, version))
    if from_client:
        found.pop("subscription_identifiers", None)  # [MQTT-3.3.4-6]
    names = _TOPIC_NAMES if topics is None else topics
    return p.Publish(
        draw(st.just("") | names if "topic_alias" in found else names),
        draw(_BINARY),
        qos=level,
        retain=draw(_BOOLEANS),
        dup=level > 0 and draw(_BOOLEANS),
        packet_id=draw(_PACKET_IDS) if level else None,
        **found,
    )


@st.composite
def _answers(draw: st.DrawFn, kind: PacketType, answer: Callable[..., _P], version: int) -> _P:
    reason_code = draw(reason_codes(kind, version))
    return answer(draw(_PACKET_IDS), reason_code, **draw(properties(kind, version)))


def pubacks(version: int = V5) -> Strategy[p.PubAck]:
    """PUBACK packets, section 3.4."""
    return _answers(PacketType.PUBACK, p.PubAck, version)


def pubrecs(version: int = V5) -> Strategy[p.PubRec]:
    """PUBREC packets, section 3.5."""
    return _answers(PacketType.PUBREC, p.PubRec, version)


def pubrels(version: int = V5) -> Strategy[p.PubRel]:
    """PUBREL packets, section 3.6."""
    return _answers(PacketType.PUBREL, p.PubRel, version)


def pubcomps(version: int = V5) -> Strategy[p.PubComp]:
    """PUBCOMP packets, section 3.7."""
    return _answers(PacketType.PUBCOMP, p.PubComp, version)


@st.composite
def subscriptions(draw: st.DrawFn, version: int = V5, *, filters: Strategy[str] | None = None) -> p.Subscription:
    """Topic Filters with their Subscription Options, section 3.8.3.1."""
    topic_filter = draw(_TOPIC_FILTERS if filters is None else filters)
    qos = draw(_QOS)
    if version < V5:
        return p.Subscription(topic_filter, qos)
    return p.Subscription(
        topic_filter,
        qos,
        no_local=not topic_filter.startswith("$share/") and draw(_BOOLEANS),  # [MQTT-3.8.3-4]
        retain_as_published=draw(_BOOLEANS),
        retain_handling=draw(st.integers(0, 2)),
    )


@st.composite
def subscribes(draw: st.DrawFn, version: int = V5, *, filters: Strategy[str] | None = None) -> p.Subscribe:
    """SUBSCRIBE packets, section 3.8."""
    items = draw(st.lists(subscriptions(version, filters=filters), min_size=1, max_size=3))
    return p.Subscribe(draw(_PACKET_IDS), tuple(items), **draw(properties(PacketType.SUBSCRIBE, version)))


@st.composite
def subacks(draw: st.DrawFn, version: int = V5) -> p.SubAck:
    """SUBACK packets, section 3.9."""
    items = draw(st.lists(reason_codes(PacketType.SUBACK, version), min_size=1, max_size=4))
    return p.SubAck(draw(_PACKET_IDS), tuple(items), **draw(properties(PacketType.SUBACK, version)))


@st.composite
def unsubscribes(draw: st.DrawFn, version: int = V5, *, filters: Strategy[str] | None = None) -> p.Unsubscribe:
    """UNSUBSCRIBE packets, section 3.10."""
    items = draw(st.lists(_TOPIC_FILTERS if filters is None else filters, min_size=1, max_size=3))
    return p.Unsubscribe(draw(_PACKET_IDS), tuple(items), **draw(properties(PacketType.UNSUBSCRIBE, version)))


@st.composite
def unsubacks(draw: st.DrawFn, version: int = V5) -> p.UnsubAck:
    """UNSUBACK packets, section 3.11."""
    if version < V5:
        return p.UnsubAck(draw(_PACKET_IDS))
    items = draw(st.lists(reason_codes(PacketType.UNSUBACK), min_size=1, max_size=4))
    return p.UnsubAck(draw(_PACKET_IDS), tuple(items), **draw(properties(PacketType.UNSUBACK)))


@st.composite
def disconnects(draw: st.DrawFn, version: int = V5) -> p.Disconnect:
    """DISCONNECT packets, section 3.14, of either side."""
    reason_code = draw(reason_codes(PacketType.DISCONNECT, version))
    return p.Disconnect(reason_code, **draw(properties(PacketType.DISCONNECT, version)))


@st.composite
def auths(draw: st.DrawFn) -> p.Auth:
    """AUTH packets, section 3.15. Only one that is all defaults may leave out the Authentication Method."""
    reason_code = draw(reason_codes(PacketType.AUTH))
    found = draw(properties(PacketType.AUTH))
    if found or reason_code:
        found.setdefault("authentication_method", "method")
    return p.Auth(reason_code, **found)


def packets(version: int = V5) -> Strategy[p.Packet]:
    """Every control packet of the protocol version, sent by either side; AUTH is MQTT 5.0 only."""
    return _packets(version)


@cache
def _packets(version: int) -> Strategy[p.Packet]:
    kinds: list[Strategy[p.Packet]] = [
        connects(version),
        connacks(version),
        publishes(version),
        pubacks(version),
        pubrecs(version),
        pubrels(version),
        pubcomps(version),
        subscribes(version),
        subacks(version),
        unsubscribes(version),
        unsubacks(version),
        st.just(p.PingReq()),
        st.just(p.PingResp()),
        disconnects(version),
    ]
    return st.one_of(kinds if version < V5 else [*kinds, auths()])


# ------------------------------------------------------------------------------------------ what is forbidden

_ANYTHING: dict[object, Strategy[Any]] = {
    NoneType: st.none(),
    bool: _BOOLEANS,
    int: st.sampled_from([-1, 0, 3, 256, 65_535, 65_536, 2**28, 2**32]) | st.integers(-9, 2**33),
    bytes: st.sampled_from([b"", bytes(65_535), bytes(65_536)]) | _BINARY,
    ReasonCode: st.sampled_from(ReasonCode),
    str: st.text(st.characters(), max_size=5)
    | st.sampled_from(["", "\0", "\ud800", "a/+", "a/#/b", "$share/a", "$share//a", "$share/a/b", "é" * 32_768]),
}


_PARTS: dict[type, Strategy[Any]] = {p.Will: wills(), p.Subscription: subscriptions()}


def _anything(annotation: Any) -> Strategy[Any]:
    arguments = get_args(annotation)
    if get_origin(annotation) is UnionType:
        return st.one_of(*map(_anything, arguments))
    if get_origin(annotation) is tuple:
        if arguments[1] is ...:
            return st.lists(_anything(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*map(_anything, arguments))
    if attrs.has(annotation):
        return _spoilt(_PARTS[annotation])
    return _ANYTHING[annotation]


@st.composite
def _spoilt(draw: st.DrawFn, values: Strategy[_P]) -> _P:
    value: Any = draw(values)
    fields = _FIELDS[type(value)]
    changed = draw(st.sets(st.sampled_from(sorted(fields)), max_size=2)) if fields else ()
    spoilt: _P = attrs.evolve(value, **{name: draw(fields[name]) for name in sorted(changed)})
    return spoilt


_FIELDS: dict[type, dict[str, Strategy[Any]]] = {
    kind: {field.name: _anything(field.type) for field in attrs.fields(kind)} for kind in (*get_args(p.Packet), *_PARTS)
}


def unchecked_packets() -> Strategy[p.Packet]:
    """MQTT 5.0 packets some of whose fields have any value of their type, permitted or not."""
    return _spoilt(packets(V5))
