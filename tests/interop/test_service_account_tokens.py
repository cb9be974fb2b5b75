"""Real clients authenticate with service account tokens; none of them can re-authenticate."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.service_account import by_signature
from mqttcore.broker import Policy
from tests.interop.peers import NODE_PACKAGES
from tests.processes import DEADLINE
from tests.trio_broker.support import listen, running
from trio_broker.effects import Performer
from trio_broker.tokens.issuer import ISSUER, LocalIssuer
from trio_broker.tokens.keys import PublishedKeys

pytestmark = pytest.mark.interop

# Each connects with the token on standard input, publishes with QoS 1, and prints CONNACK's reason code.
PAHO = """
import sys
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

def on_connect(client, userdata, flags, reason, properties):
    print(reason.value, flush=True)
    if reason.is_failure:
        client.disconnect()
    else:
        client.publish("t", b"hello", qos=1)

client = Client(CallbackAPIVersion.VERSION2, "paho", protocol=MQTTProtocolVersion.MQTTv5)
client.on_connect = on_connect
client.on_publish = lambda client, *others: client.disconnect()
properties = Properties(PacketTypes.CONNECT)
properties.AuthenticationMethod = "K8S-SAT"
properties.AuthenticationData = sys.stdin.buffer.read()
client.connect("127.0.0.1", int(sys.argv[1]), properties=properties)
client.loop_forever(retry_first_connection=False)
"""
MQTT_JS = """
const mqtt = require('node:module').createRequire(process.argv[2] + '/')('mqtt')
const client = mqtt.connect(`mqtt://127.0.0.1:${process.argv[1]}`, {
  protocolVersion: 5,
  clientId: 'mqttjs',
  reconnectPeriod: 0,
  properties: { authenticationMethod: 'K8S-SAT', authenticationData: require('node:fs').readFileSync(0) }
})
client.on('connect', packet => {
  console.log(packet.reasonCode)
  client.publish('t', 'hello', { qos: 1 }, () => client.end())
})
client.on('error', error => { console.log(error.code); client.end() })
"""


async def connack(program: str, port: int, token: bytes) -> str:
    """The reason code that the client has read."""
    paho = [sys.executable, "-c", PAHO, str(port)]
    command = paho if program == "paho" else ["node", "-e", MQTT_JS, str(port), str(NODE_PACKAGES)]
    with trio.fail_after(DEADLINE):
        result = await trio.run_process(command, stdin=token, capture_stdout=True, capture_stderr=True, check=False)
    assert isinstance(result, subprocess.CompletedProcess)
    assert not result.stderr, result.stderr
    return str(result.stdout.decode().strip())


@pytest.mark.parametrize("program", ["paho", "mqttjs"])
async def test_the_first_authentication(program: str, tmp_path: Path) -> None:
    issuer = LocalIssuer(tmp_path)
    performer = Performer(PublishedKeys(issuer.source(), issuer.annotations))
    authenticate = chain([Method("ServiceAccountToken", by_signature(("a",), ISSUER))])
    listener = listen(policy=Policy(authenticate=authenticate))
    async with running(listener, perform=performer.perform) as run:
        good, wrong = (
            issuer.mint("press", audiences=[audience], now=time.time(), duration=600).encode() for audience in "ab"
        )
        assert await connack(program, listener.address[1], good) == "0"
        assert await connack(program, listener.address[1], wrong) == "135"
        [connected] = run.logged("connected")
        assert connected["username"] == "system:serviceaccount:azure-iot-operations:press"
        assert len(run.logged("refused")) == 1
