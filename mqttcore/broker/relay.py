"""The short cut for the packets that make up most traffic: no retained message, a topic that is known, nothing to
look up.

It reads the client's bytes in place, forwards a QoS 0 PUBLISH as the bytes that it came in wherever the receiver's
layout is the same, and stops before the first packet that is not of this kind; `Broker` handles that one by the general
path, of which this must be, and is tested to be, indistinguishable.
"""

from math import inf

from mqttcore.broker.actions import Flush
from mqttcore.broker.distribution import Distributor
from mqttcore.broker.link import Link
from mqttcore.codec import encode_answer
from mqttcore.codes import V5, PacketType, ReasonCode
from mqttcore.message import Message

_PUBLISH_QOS_0 = 0x30
_PUBLISH_QOS_1 = 0x32
_PUBLISH_QOS_2 = 0x34
_PUBLISHES = (_PUBLISH_QOS_0, _PUBLISH_QOS_1, _PUBLISH_QOS_2)
_PUBACK = 0x40
_PUBREC = 0x50
_PUBREL = 0x62
_PUBCOMP = 0x70


def relay(link: Link, distributor: Distributor, now: float) -> None:
    """Handle the run of common packets that the client's bytes begin with. The link must be connected."""
    connection = link.connection
    frames = connection.frames
    session = link.session
    assert session is not None
    data = frames.data
    pos = frames.pos
    end = len(data)
    maximum = frames.maximum
    maximum_qos = connection.limits.maximum_qos
    receive_maximum = connection.receive_maximum
    unsettled = connection.unsettled
    routes = link.routes
    actions = distributor.actions
    v5 = connection.version == V5
    layout = connection.version
    lifetime = link.message_lifetime
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
            if stop > end or stop - pos > maximum or length < 2:
                return
            if first in _PUBLISHES:
                at = body + 2 + (data[body] << 8 | data[body + 1])
                topic = data[body + 2 : at]
                route = routes.get(topic)
                if route is None:
                    return
                if route.generation != distributor.generation:
                    route = routes[topic] = distributor.route(topic)
                packet_id = 0
                identifier = at
                if first != _PUBLISH_QOS_0:
                    if at + 2 > stop:
                        return
                    packet_id = data[at] << 8 | data[at + 1]
                    at += 2
                    if (
                        not packet_id
                        or first >> 1 & 3 > maximum_qos
                        or len(unsettled) >= receive_maximum
                        or packet_id in session.unreleased
                    ):
                        return
                properties = b""
                if v5:
                    if at >= stop:
                        return
                    size = data[at]
                    if size:
                        if size >= 0x80 or at + 1 + size > stop or not distributor.is_plain(data[at : at + 1 + size]):
                            return
                        properties = data[at + 1 : at + 1 + size]
                    at += 1 + size
                elif at > stop:
                    return
                if first == _PUBLISH_QOS_0:
                    frame = data[pos:stop]
                    size = stop - pos
                    message = None
                    for target in route.targets:
                        other = target.session.link
                        if (
                            other is not None
                            and target.plain
                            and other.layout == layout
                            and other.room > 0
                            and not target.session.retained
                        ):
                            other.out.append(frame)
                            other.room -= size
                            if not other.dirty:
                                other.dirty = True
                                actions.append(Flush(other))
                            continue
                        if message is None:
                            message = Message(
                                topic, data[at:stop], 0, False, properties, inf, now + lifetime, link.client_id
                            )
                        distributor.deliver(target, message, now)
                    for share in route.shares:
                        if message is None:
                            message = Message(
                                topic, data[at:stop], 0, False, properties, inf, now + lifetime, link.client_id
                            )
                        distributor.deliver_shared(share, message, now)
                else:
                    qos = first >> 1 & 3
                    message = Message(topic, data[at:stop], qos, False, properties, inf, now + lifetime, link.client_id)
                    message.came_as(layout, data[pos:identifier], data[identifier + 2 : stop])
                    for target in route.targets:
                        distributor.deliver(target, message, now)
                    for share in route.shares:
                        distributor.deliver_shared(share, message, now)
                    code = ReasonCode.SUCCESS
                    if v5 and not route.targets and not route.shares:
                        code = ReasonCode.NO_MATCHING_SUBSCRIBERS
                    if qos == 1:
                        answer = encode_answer(PacketType.PUBACK, packet_id, code)  # [MQTT-4.3.2-4] [MQTT-2.2.1-5]
                    else:
                        session.accept(packet_id)
                        unsettled.add(packet_id)
                        answer = encode_answer(PacketType.PUBREC, packet_id, code)  # [MQTT-4.3.3-8] [MQTT-2.2.1-5]
                    distributor.put(link, answer)
            elif length == 2 and (data[body] or data[body + 1]):
                packet_id = data[body] << 8 | data[body + 1]
                if first == _PUBACK:
                    session.acknowledged(packet_id)
                elif first == _PUBCOMP:
                    session.completed(packet_id)
                elif first == _PUBREC:
                    if not session.expects_pubrec(packet_id):
                        return
                    session.received(packet_id)
                    # [MQTT-4.3.3-4] [MQTT-2.2.1-5]
                    distributor.put(link, encode_answer(PacketType.PUBREL, packet_id, ReasonCode.SUCCESS))
                elif first == _PUBREL:
                    if packet_id not in session.unreleased:
                        return
                    session.unreleased.discard(packet_id)  # [MQTT-4.3.3-12]
                    unsettled.discard(packet_id)
                    # [MQTT-4.3.3-11] [MQTT-2.2.1-5]
                    distributor.put(link, encode_answer(PacketType.PUBCOMP, packet_id, ReasonCode.SUCCESS))
                else:
                    return
            else:
                return
            pos = stop
    finally:
        if pos > frames.pos:
            frames.pos = pos
            connection.last_received = now
