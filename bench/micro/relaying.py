"""Whole messages and whole connections through the core: from the bytes of one client to those of another."""

from collections.abc import Callable, Iterator
from functools import partial

from bench.direct import RE_AUTHENTICATE, Direct, hello
from bench.generator import packets
from bench.generator.messages import Edition, topic
from bench.generator.scenarios import Traffic
from bench.micro.benchmark import Benchmark
from mqttcore.broker import Link

BATCH = 100
"""Messages that come in one piece."""
FAN = 100
"""Subscribers of one topic."""

QOS_0 = Traffic(about="", window=BATCH)


def relaying() -> Iterator[Benchmark]:
    """Batches of messages from one client to others, and what a client's coming and going takes."""
    for name, scenario in {
        "relay QoS 0": QOS_0,
        "relay QoS 0, 10 topics in turn": Traffic(about="", window=BATCH, topics=10),
        "relay QoS 0, 4 User Properties": Traffic(about="", window=BATCH, user_properties=4),
        "relay QoS 0, by Topic Alias": Traffic(about="", window=BATCH, topic_alias=True),
        "relay QoS 0, 1 KiB": Traffic(about="", window=BATCH, payload=1024),
        "relay QoS 1": Traffic(about="", window=BATCH, qos=1),
        "relay QoS 1, 10 topics in turn": Traffic(about="", window=BATCH, qos=1, topics=10),
        "relay QoS 2": Traffic(about="", window=BATCH, qos=2),
    }.items():
        yield Benchmark(name=name, prepare=partial(_relay, scenario, 1, ""), operations=BATCH)
    yield Benchmark(name="relay QoS 0 to 100", prepare=partial(_relay, QOS_0, FAN, ""), operations=BATCH * FAN)
    yield Benchmark(name="relay QoS 0 to 1 of 100", prepare=partial(_relay, QOS_0, FAN, "$share/g/"), operations=BATCH)
    yield Benchmark(name="connect and disconnect", prepare=_visit)
    yield Benchmark(name="re-authenticate", prepare=_renew)


def _relay(scenario: Traffic, subscribers: int, group: str) -> Callable[[], object]:
    direct = Direct()
    receivers = {direct.connect(f"subscriber-{number}") for number in range(subscribers)}
    for link in receivers:
        direct.subscribe(link, [group + topic(0, index) for index in range(scenario.topics)], scenario.qos)
    publisher = direct.connect("publisher")
    edition = Edition(scenario, packets.V5, 0)
    if lead := edition.lead():
        direct.tell(publisher, lead)
    batch = b"".join(edition.sent()[:BATCH])
    if scenario.qos == 0:
        return lambda: direct.tell(publisher, batch)
    return partial(_converse, direct, publisher, batch)


def _converse(direct: Direct, publisher: Link, batch: bytes) -> None:
    """Send a batch, and let clients answer until nobody has anything to say."""
    heard = direct.tell(publisher, batch)
    while heard:
        link, data = heard.pop()
        if answer := _answer(data):
            heard += direct.tell(link, answer)


def _answer(data: bytes) -> bytes:
    answers = []
    found, _ = packets.split(data)
    for packet in found:
        kind = packet[0] >> 4
        if kind == packets.PUBLISH:
            at = 4 + packet[3]
            before = packets.PUBACK if packet[0] & 0x02 else packets.PUBREC
            answers.append(before + packet[at : at + 2])
        elif packet.startswith(packets.PUBREC):
            answers.append(packets.PUBREL + packet[2:4])
        elif packet.startswith(packets.PUBREL):
            answers.append(packets.PUBCOMP + packet[2:4])
    return b"".join(answers)


def _visit() -> Callable[[], object]:
    direct = Direct()
    connect = hello("visitor")

    def call() -> None:
        link = direct.open()
        direct.tell(link, connect)
        direct.tell(link, packets.DISCONNECT)

    return call


def _renew() -> Callable[[], object]:
    direct = Direct()
    link = direct.connect("client", enhanced=True)
    return lambda: direct.tell(link, RE_AUTHENTICATE)
