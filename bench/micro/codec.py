"""Packets to bytes and back."""

from collections.abc import Iterator
from functools import partial

from bench.micro.benchmark import Benchmark
from mqttcore import packets as p
from mqttcore.codec import decode, encode
from mqttcore.codes import V5, ReasonCode

_USER = tuple((f"name{number}", f"value of {number}") for number in range(4))

PACKETS: dict[str, p.Packet] = {
    "CONNECT": p.Connect(client_id="client-00001", username="bench", password=b"password", keep_alive=60),
    "CONNACK": p.ConnAck(receive_maximum=1000, topic_alias_maximum=100, maximum_packet_size=67_108_864),
    "PUBLISH, QoS 0, 16 B": p.Publish("bench/00001/00001", bytes(16)),
    "PUBLISH, QoS 0, 1 KiB": p.Publish("bench/00001/00001", bytes(1024)),
    "PUBLISH, QoS 1, 4 User Properties": p.Publish(
        "bench/00001/00001", bytes(16), qos=1, packet_id=7, user_properties=_USER
    ),
    "PUBLISH, QoS 2, every property": p.Publish(
        "bench/00001/00001",
        b"x" * 16,
        qos=2,
        packet_id=7,
        payload_format_indicator=1,
        message_expiry_interval=60,
        topic_alias=1,
        response_topic="answers",
        correlation_data=b"7",
        content_type="text/plain",
        user_properties=_USER,
    ),
    "PUBACK": p.PubAck(7),
    "PUBACK with a reason code": p.PubAck(7, ReasonCode.NO_MATCHING_SUBSCRIBERS),
    "PUBREC": p.PubRec(7),
    "PUBREL": p.PubRel(7),
    "PUBCOMP": p.PubComp(7),
    "SUBSCRIBE": p.Subscribe(7, (p.Subscription(topic_filter="bench/+/00001", qos=1),)),
    "SUBACK": p.SubAck(7, (ReasonCode.GRANTED_QOS_1,)),
    "UNSUBSCRIBE": p.Unsubscribe(7, ("bench/+/00001",)),
    "UNSUBACK": p.UnsubAck(7, (ReasonCode.SUCCESS,)),
    "PINGREQ": p.PingReq(),
    "PINGRESP": p.PingResp(),
    "DISCONNECT": p.Disconnect(),
    "AUTH": p.Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="BENCH", authentication_data=b"data"),
}


def codec() -> Iterator[Benchmark]:
    """Each kind of packet, either way."""
    for name, packet in PACKETS.items():
        data = encode(packet, V5)
        body = data[3 if data[1] & 0x80 else 2 :]
        yield Benchmark(name=f"encode {name}", prepare=partial(partial, encode, packet, V5))
        yield Benchmark(name=f"decode {name}", prepare=partial(partial, decode, data[0], body, V5))
