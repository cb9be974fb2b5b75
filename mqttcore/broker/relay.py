"""The short cut for the packets that make up most traffic: no retained message, a topic that is known, nothing to
look up.

It reads the client's bytes in place and handles a run of packets that differ in nothing but Packet Identifier and
payload as one: what a QoS 0 receiver of the same layout gets is the bytes as they came. It stops before the first
packet that is not of this kind; `Broker` handles that one by the general path, of which this must be, and is tested to
be, indistinguishable.
"""

from math import inf
from typing import Final

from mqttcore.broker.actions import Flush
from mqttcore.broker.distribution import Distributor, Properties, Route
from mqttcore.broker.link import Link
from mqttcore.broker.sessions import ServerSession
from mqttcore.codec import encode_answers
from mqttcore.codes import V5, PacketType, ReasonCode
from mqttcore.message import Heading, Run

_PUBLISH_QOS_0: Final = 0x30
_PUBLISH_QOS_1: Final = 0x32
_PUBLISH_QOS_2: Final = 0x34
_PUBACK: Final = 0x40
_PUBREC: Final = 0x50
_PUBREL: Final = 0x62
_PUBCOMP: Final = 0x70

_NO_PROPERTIES: Final = Properties()


def relay(link: Link, distributor: Distributor, now: float) -> None:
    """Handle the common packets that the client's bytes begin with. The link must be connected."""
    connection = link.connection
    frames = connection.frames
    data = frames.data
    pos = frames.pos
    end = len(data)
    maximum = frames.maximum
    routes = link.routes
    version = connection.version
    v5 = version == V5
    previous = None
    try:
        while end - pos >= 2:
            first = data[pos]
            length = data[pos + 1]
            body = pos + 2
            if length >= 0x80:
                if body >= end or not 0 < data[body] < 0x80:
                    return
                length = length & 0x7F | data[body] << 7
                body += 1
            stop = body + length
            size = stop - pos
            if stop > end or size > maximum or length < 2:
                return
            if first != _PUBLISH_QOS_0 and first != _PUBLISH_QOS_1 and first != _PUBLISH_QOS_2:
                stop = _relay_answers(link, distributor, data, pos) if length == 2 else pos
                if stop == pos:
                    return
                pos = stop
                continue
            identifier = body + 2 + (data[body] << 8 | data[body + 1])
            topic = data[body + 2 : identifier]
            payload = identifier if first == _PUBLISH_QOS_0 else identifier + 2
            properties = _NO_PROPERTIES
            as_it_came = True
            if v5:
                if payload >= stop:
                    return
                extent = data[payload]
                payload += 1 + extent
                if extent:
                    known = distributor.properties(data[payload - 1 - extent : payload]) if extent < 0x80 else None
                    if known is None or payload > stop:
                        return
                    properties = known
                    as_it_came = not known.alias and known.expiry <= link.message_lifetime
                    if known.alias:
                        name = connection.aliased(known.alias)
                        if topic or name is None:
                            return
                        topic = name.encode()
            elif payload > stop:
                return
            route = routes.get(topic)
            if route is None:
                return
            if route.generation != distributor.generation:
                route = routes[topic] = distributor.route(topic)
            if first == _PUBLISH_QOS_0:
                if previous is None or topic == previous:  # else it is rarely a run
                    prefix = data[pos:payload]
                    extent = payload - pos
                    while data[stop : stop + extent] == prefix:
                        stop += size
                    if stop > end:
                        stop -= size
                previous = topic
                packets = data[pos:stop]
                if not as_it_came or route.shares:
                    run = _run_qos_0(link, now, topic, properties, packets, payload - pos, size, as_it_came)
                    distributor.publish_run(route, run, now)
                else:
                    run = None
                    extent = stop - pos
                    for target in route.targets:
                        session = target.session
                        other = session.link
                        if other is None:
                            continue
                        if other.layout == version and target.plain and other.room > extent and not session.retained:
                            other.out.append(packets)
                            other.room -= extent
                            if not other.dirty:
                                other.dirty = True
                                distributor.actions.append(Flush(other))
                        else:
                            if run is None:
                                run = _run_qos_0(link, now, topic, properties, packets, payload - pos, size, True)
                            distributor.deliver_run(target, run, now)
                pos = stop
                continue
            qos = first >> 1 & 3
            head, tail = data[pos:identifier], data[identifier + 2 : payload]
            packet_ids, payloads = _packets_like(data, pos, head, tail, size)
            count = _acceptable(link, route, qos, packet_ids)
            if not count:
                return
            if count < len(packet_ids):
                del packet_ids[count:], payloads[count:]
            heading = _heading(link, now, topic, properties, qos, stop - payload)
            if as_it_came:
                heading.came_as(version, head, tail, properties.expiry)
            run = Run(heading, payloads)
            distributor.publish_run(route, run, now)
            code = ReasonCode.SUCCESS
            if v5 and not route.targets and not route.shares:
                code = ReasonCode.NO_MATCHING_SUBSCRIBERS
            # [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-2.2.1-5]
            answer = PacketType.PUBACK if qos == 1 else PacketType.PUBREC
            distributor.put(link, encode_answers(answer, packet_ids, code))
            pos += size * count
    finally:
        if pos > frames.pos:
            frames.pos = pos
            connection.last_received = now


def _heading(link: Link, now: float, topic: bytes, properties: Properties, qos: int, payload_size: int) -> Heading:
    lifetime = link.message_lifetime
    expires_at = inf if properties.expiry < 0 else now + min(properties.expiry, lifetime)
    return Heading(topic, payload_size, qos, False, properties.forwarded, expires_at, now + lifetime, link.client_id)


def _run_qos_0(
    link: Link,
    now: float,
    topic: bytes,
    properties: Properties,
    packets: bytes,
    payload: int,
    size: int,
    as_it_came: bool,
) -> Run:
    """The run of QoS 0 PUBLISHes, each of `size` bytes, whose payload begins at `payload`."""
    payloads = [packets[end - size + payload : end] for end in range(size, len(packets) + 1, size)]
    heading = _heading(link, now, topic, properties, 0, size - payload)
    return Run(heading, payloads, packets, link.connection.version if as_it_came else 0)


def _packets_like(data: bytes, pos: int, head: bytes, tail: bytes, size: int) -> tuple[list[int], list[bytes]]:
    """Packet Identifiers and payloads of a PUBLISH, and of those behind it that differ in nothing else."""
    identifier = len(head)
    properties = identifier + 2
    payload = properties + len(tail)
    end = len(data) - size
    packet_ids, payloads = [], []
    while True:
        packet_ids.append(data[pos + identifier] << 8 | data[pos + identifier + 1])
        payloads.append(data[pos + payload : pos + size])
        pos += size
        if pos > end or data[pos : pos + identifier] != head or data[pos + properties : pos + payload] != tail:
            return packet_ids, payloads


def _acceptable(link: Link, route: Route, qos: int, packet_ids: list[int]) -> int:
    """How many of these PUBLISHes are for the short cut; what QoS 2 has to remember of them is remembered."""
    connection = link.connection
    session = link.session
    assert session is not None
    unsettled, unreleased = connection.unsettled, session.unreleased
    limit = len(packet_ids)
    if limit > 1 and _gets_own(session, route):
        limit = 1  # the answer to one goes out before the next comes back
    quota = connection.receive_maximum - len(unsettled)
    if qos > connection.limits.maximum_qos or quota <= 0:
        return 0
    if qos == 1:
        if 0 in packet_ids or (unreleased and not unreleased.isdisjoint(packet_ids)):
            limit = min(limit, 1)
            if not packet_ids[0] or packet_ids[0] in unreleased:
                return 0
        return limit
    count = 0
    for packet_id in packet_ids[: min(limit, quota)]:
        if not packet_id or not session.accept(packet_id):
            break
        unsettled.add(packet_id)
        count += 1
    return count


def _gets_own(session: ServerSession, route: Route) -> bool:
    for target in route.targets:
        if target.session is session:
            return True
    return any(session in share.members for share in route.shares) if route.shares else False


def _relay_answers(link: Link, distributor: Distributor, data: bytes, pos: int) -> int:
    """Handle a PUBACK, PUBREC, PUBREL or PUBCOMP of four bytes, and those behind it that differ in nothing but the
    Packet Identifier; where the first begins that is not for the short cut.
    """
    session = link.session
    assert session is not None
    first = data[pos]
    kind = data[pos : pos + 2]
    last = len(data) - 4
    stop = pos
    packet_ids = []
    while stop <= last and data[stop : stop + 2] == kind:
        packet_ids.append(data[stop + 2] << 8 | data[stop + 3])
        stop += 4
    if 0 in packet_ids:
        return pos
    if first == _PUBACK:
        session.acknowledged_all(packet_ids)
        return stop
    if first == _PUBCOMP:
        for packet_id in packet_ids:
            session.completed(packet_id)
        return stop
    if first == _PUBREC:
        answer = PacketType.PUBREL  # [MQTT-4.3.3-4] [MQTT-2.2.1-5]
        count = session.received_all(packet_ids)
    elif first == _PUBREL:
        answer = PacketType.PUBCOMP  # [MQTT-4.3.3-11] [MQTT-2.2.1-5]
        unsettled, unreleased = link.connection.unsettled, session.unreleased
        count = 0
        while count < len(packet_ids) and packet_ids[count] in unreleased:
            unreleased.discard(packet_ids[count])  # [MQTT-4.3.3-12]
            unsettled.discard(packet_ids[count])
            count += 1
    else:
        return pos
    if count:
        distributor.put(link, encode_answers(answer, packet_ids[:count], ReasonCode.SUCCESS))
    return pos + 4 * count
