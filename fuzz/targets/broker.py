"""The whole broker, with many clients on two ports, whose shell does things in any order.

Input: operations, each a byte and what it needs: a connection opens with any CONNECT or any bytes, packets and bytes
arrive in chunks of any size, a stream ends, output is taken, time passes, an authenticator gets a reply, a policy is
replaced, the server publishes, the wall clock is set.
"""

from fuzz.shell import LIMITS, Shell
from fuzz.source import Source
from mqttcore import Connect, Packet, PubAck, Publish, Subscribe, Subscription
from mqttcore.broker import Transport
from mqttcore.codec import encode
from tests.mqttcore.broker.support import assert_empty
from tests.mqttcore.support import packets_in

STEPS = 150


def check(data: bytes) -> None:
    """No call raises; every limit holds after every operation; a link is closed once, and then nothing is asked for it.

    A newcomer is served as ever. What was said to each client is packets of MQTT with one CONNACK, and nothing behind a
    DISCONNECT. No report has a secret. When all have gone and all intervals have passed, nothing is left of them.
    """
    source = Source(data)
    shell = Shell()
    for _ in range(STEPS):
        if not source:
            break
        shell.step(source)
    _check_newcomer(shell)
    shell.finish()
    assert_empty(shell.broker)
    retained = shell.broker._distributor.retained
    assert retained.bytes == sum(node.message.size for node in retained._nodes.values() if node.message)


def _check_newcomer(shell: Shell) -> None:
    if len(shell.broker.sessions) == LIMITS.maximum_sessions:
        return
    link = shell.broker.open(shell.now, Transport("newcomer"), shell.policies[0])
    shell.links.append(link)
    port = link.policy
    greeting = Connect(client_id="good")
    wanted: list[Packet] = [
        greeting,
        Subscribe(1, (Subscription("fresh", 1),)),
        Publish("fresh", b"x", qos=1, packet_id=2),
    ]
    shell.chunk = 1000
    shell.receive(link, b"".join(encode(packet) for packet in wanted))
    output = shell.broker.take_output(link, shell.now)
    received = packets_in(output)
    assert PubAck(2) in received
    if port.authorize is None:
        assert Publish("fresh", b"x", qos=1, packet_id=1) in received
