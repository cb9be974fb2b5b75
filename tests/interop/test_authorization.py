"""mosquitto_pub and mosquitto_sub under rules: what they may do, and how they are denied."""

import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from attrs import frozen

from tests.processes import DEADLINE, ROOT
from tests.trio_broker.deployments import free_port

pytestmark = pytest.mark.interop

Version = Literal["mqttv5", "mqttv311"]
VERSIONS = pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
COMMAND = f"{shlex.quote(sys.executable)} -m trio_broker"
PASSWORDS = {"ann": "sesame", "bob": "swordfish", "+": "plus"}
MANIFESTS = """
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata:
  name: factory
spec:
  serviceType: NodePort
  ports:
    - port: {port}
      authenticationRef: everybody
      authorizationRef: factory
      tls:
        mode: Automatic
        certManagerCertificateSpec:
          issuerRef: {{name: local, kind: Issuer}}
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata:
  name: everybody
spec:
  authenticationMethods:
    - method: X509
      x509Settings:
        authorizationAttributes:
          press:
            subject: CN = press
            attributes:
              line: seven
          painter:
            subject: CN = painter
            attributes:
              line: "#"
    - method: Password
      passwordSettings:
        secretName: users
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthorization
metadata:
  name: factory
spec:
  authorizationPolicies:
    rules:
      - principals:
          usernames: [ann, bob, "+"]
        brokerResources:
          - method: Connect
            clientIds: ["{{principal.username}}-*", "*-anybody"]
          - method: Publish
            topics: ["people/{{principal.username}}/#", "clients/{{principal.clientId}}"]
          - method: Subscribe
            topics: ["people/{{principal.username}}/#", "people/+/state", "clients/{{principal.clientId}}"]
          - method: Publish
            clientIds: ["*-desk"]
            topics: [orders]
      - principals:
          attributes:
            - line: seven
            - line: "#"
        brokerResources:
          - method: Connect
            clientIds: ["{{principal.username}}", "{{principal.username}}-screen"]
          - method: Publish
            topics: ["lines/{{principal.attributes.line}}/{{principal.username}}/+"]
          - method: Subscribe
            topics: ["lines/{{principal.attributes.line}}/#"]
      - principals:
          clientIds: [watcher]
        brokerResources:
          - method: Connect
          - method: Subscribe
"""


def _topics(filters: tuple[str, ...]) -> list[str]:
    return [argument for name in filters for argument in ("-t", name)]


@frozen
class Client:
    """How a client is named, where it connects, and with what credentials."""

    client_id: str
    port: int
    version: Version
    options: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        return ["-d", "-V", self.version, "-h", "localhost", "-p", f"{self.port}", "-i", self.client_id, *self.options]

    @property
    def refused(self) -> str:
        """What a client says that may not connect."""
        return f"received CONNACK ({135 if self.version == 'mqttv5' else 5})"

    @property
    def denied(self) -> int:
        """The reason code of a subscription that is denied."""
        return 135 if self.version == "mqttv5" else 128

    def connects(self, *more: str) -> bool:
        """Whether it may connect."""
        output = self._run("mosquitto_pub", "-t", "lost", "-n", *more)
        assert ("received CONNACK (0)" in output) != (self.refused in output), output
        return self.refused not in output

    def publish(self, topic: str, message: str, qos: int = 1) -> str:
        """Publish a message; its last acknowledgement, "" for none."""
        output = self._run("mosquitto_pub", "-t", topic, "-m", message, "-q", f"{qos}")
        assert "received CONNACK (0)" in output, output
        codes = re.findall(r"received (PUB\w+ \(.*\))", output)
        return str(codes[-1]) if codes else ""

    def subscribe(self, *filters: str) -> list[int]:
        """Subscribe with QoS 1 and leave; the reason codes."""
        output = self._run("mosquitto_sub", "-E", "-q", "1", *_topics(filters))
        [codes] = re.findall(r"Subscribed \(mid: \d+\): (.*)", output)
        return [int(code) for code in codes.split(", ")]

    @contextmanager
    def receiving(self, folder: Path, *filters: str, options: tuple[str, ...] = ()) -> Iterator["Receiver"]:
        """Subscribe and stay, until the context is left."""
        output = folder / f"{self.client_id}.txt"
        program = ["stdbuf", "-oL", "mosquitto_sub", "-q", "2", "-F", "message %t %p", *self.arguments(), *options]
        with output.open("wb") as file:
            process = subprocess.Popen([*program, *_topics(filters)], stdout=file, stderr=file)
        try:
            receiver = Receiver(process, output)
            receiver.wait(lambda text: "Subscribed" in text)
            yield receiver
        finally:
            process.kill()
            process.wait(DEADLINE)

    def _run(self, tool: str, *arguments: str) -> str:
        result = subprocess.run(
            [tool, *self.arguments(), *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        return result.stdout + result.stderr


@frozen
class Receiver:
    """mosquitto_sub as it runs."""

    process: subprocess.Popen[bytes]
    output: Path

    def wait(self, there: Callable[[str], bool]) -> None:
        give_up = time.monotonic() + DEADLINE
        while not there(self.output.read_text()):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < give_up, self.output.read_text()
            time.sleep(0.02)

    def until(self, last: str) -> list[str]:
        """The topics and payloads that have come, the last of which is `last`."""
        self.wait(lambda text: f"message {last}\n" in text)
        return [line.removeprefix("message ") for line in self.output.read_text().splitlines() if "message " in line]


@frozen
class Broker:
    """A broker with the manifests above and with those of the documentation, and the files of its clients."""

    folder: Path
    port: int
    documented: int

    def user(self, name: str, client_id: str, version: Version) -> Client:
        options = "--cafile", f"{self.folder}/.session/broker-ca.crt", "-u", name, "-P", PASSWORDS[name]
        return Client(client_id, self.port, version, options)

    def device(self, name: str, client_id: str, version: Version) -> Client:
        files = (
            part
            for option, file in (
                ("--cafile", "chain.pem"),
                ("--cert", f"{name}_cert.pem"),
                ("--key", f"{name}_key.pem"),
            )
            for part in (option, f"{self.folder}/{file}")
        )
        return Client(client_id, self.port, version, tuple(files))

    def account(self, name: str, client_id: str, version: Version) -> Client:
        token = run(self.folder, f"{COMMAND} token create {name} --audience plant").strip()
        if version == "mqttv5":
            options = ("-D", "CONNECT", "authentication-method", "K8S-SAT")
            return Client(
                client_id, self.documented, version, (*options, "-D", "CONNECT", "authentication-data", token)
            )
        return Client(client_id, self.documented, version, ("-u", "K8S-SAT", "-P", token))


def run(folder: Path, command: str, stdin: str = "") -> str:
    result = subprocess.run(
        shlex.split(command), cwd=folder, input=stdin, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("factory")
    for name in ("press", "painter"):
        run(folder, f"{COMMAND} cert create {name}")
    (folder / "users").mkdir()
    for name, password in PASSWORDS.items():
        (folder / "users" / name).write_text(run(folder, f"{COMMAND} password", password))
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        documented = free_port()
    [text] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "authorization.md").read_text(), re.DOTALL)
    (folder / "documented.yaml").write_text(text.replace("- port: 1884 ", f"- port: {documented} "))
    (folder / "factory.yaml").write_text(MANIFESTS.format(port=port))
    output = folder / "output.txt"
    command = f"{COMMAND} run documented.yaml factory.yaml --secret users=users"
    with output.open("wb") as file:
        process = subprocess.Popen(
            shlex.split(f"{command} --configmap client-ca=.session/broker-ca.crt"),
            cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        give_up = time.monotonic() + DEADLINE
        while "Ctrl-C" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < give_up, output.read_text()
            time.sleep(0.02)
        yield Broker(folder, port, documented)
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0, output.read_text()


@VERSIONS
def test_user_names_and_patterns_for_client_identifiers(broker: Broker, version: Version) -> None:
    for name, client_id, allowed in (
        ("ann", "ann-1", True),
        ("ann", "ann-*", True),
        ("ann", "bob-1", False),
        ("ann", "ann", False),
        ("ann", "Ann-1", False),
        ("ann", "for-anybody", True),
        ("bob", "bob-1", True),
        ("+", "+-1", False),  # a user name that would be a wildcard
        ("+", "ann-1", False),
        ("+", "for-anybody", True),
    ):
        assert broker.user(name, client_id, version).connects() is allowed, (name, client_id)


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_that_is_denied_reaches_nobody(broker: Broker, version: Version, qos: int, tmp_path: Path) -> None:
    ann = broker.user("ann", "ann-1", version)
    plus = broker.user("+", "+-anybody", version)
    with broker.user("bob", "watcher", version).receiving(tmp_path, "#") as watcher:
        denied = {0: "", 1: "PUBACK (Mid: 1, RC:{})", 2: "PUBREC (Mid: 1)"}[qos].format(135)
        allowed = {0: "", 1: "PUBACK (Mid: 1, RC:0)", 2: "PUBCOMP (Mid: 1, RC:0)"}[qos]
        for client, topic in (
            (ann, "people/bob/state"),
            (ann, "people"),
            (ann, "people/annette"),
            (ann, "orders"),
            (ann, "clients/ann-2"),
            (plus, "people/x/state"),
            (plus, "clients/x"),
        ):
            assert client.publish(topic, "denied", qos) == (denied if version == "mqttv5" else allowed), topic
        assert ann.publish("people/ann", "1", qos) == allowed
        assert ann.publish("clients/ann-1", "2", qos) == allowed
        assert broker.user("ann", "ann-desk", version).publish("orders", "3", qos) == allowed
        assert watcher.until("orders 3") == ["people/ann 1", "clients/ann-1 2", "orders 3"]


@VERSIONS
def test_subscriptions_and_shared_ones(broker: Broker, version: Version, tmp_path: Path) -> None:
    ann = broker.user("ann", "ann-1", version)
    filters = {
        "people/ann": True,
        "people/ann/#": True,
        "people/ann/+/x": True,
        "people/bob": False,
        "people/bob/state": True,
        "people/+/state": True,
        "people/#": False,
        "people/+/+": False,
        "+/ann/state": False,
        "#": False,
        "$SYS/#": False,
        "clients/ann-1": True,
        "clients/+": False,
        "$share/g/people/+/state": True,
        "$share/g/people/#": False,
        "$share/people/#": False,
        "$share/ann/people/ann/#": True,
    }
    expected = [1 if allowed else ann.denied for allowed in filters.values()]
    assert ann.subscribe(*filters) == expected
    plus = broker.user("+", "+-anybody", version)
    asked = "people/+/x", "people/x/#", "clients/+", "people/+/state"
    assert plus.subscribe(*asked) == [ann.denied, ann.denied, ann.denied, 1]
    with ann.receiving(tmp_path, "$share/g/people/+/state", "people/#") as receiver:
        bob = broker.user("bob", "bob-1", version)
        bob.publish("people/bob/secret", "denied")
        bob.publish("people/bob/state", "well")
        assert receiver.until("people/bob/state well") == ["people/bob/state well"]


@VERSIONS
def test_wills(broker: Broker, version: Version, tmp_path: Path) -> None:
    ann = broker.user("ann", "ann-1", version)
    with broker.user("bob", "watcher", version).receiving(tmp_path, "#") as watcher:
        for topic in ("people/bob", "orders", "people"):
            assert not ann.connects("--will-topic", topic, "--will-payload", "denied")
        will = ("--will-topic", "people/ann/gone", "--will-payload", "killed")
        assert ann.connects(*will)
        with ann.receiving(tmp_path, "people/ann", options=will):
            pass
        assert watcher.until("people/ann/gone killed")[-1] == "people/ann/gone killed"
        assert not any("denied" in line for line in watcher.until("people/ann/gone killed"))


@VERSIONS
def test_attributes_of_certificates(broker: Broker, version: Version, tmp_path: Path) -> None:
    press, painter = broker.device("press", "press", version), broker.device("painter", "painter", version)
    assert not broker.device("press", "painter", version).connects()
    assert press.subscribe("lines/seven/#", "lines/seven", "lines/+/#", "lines/eight/#", "#") == [
        1, 1, press.denied, press.denied, press.denied
    ]  # fmt: skip
    screen = broker.device("press", "press-screen", version)
    with screen.receiving(tmp_path, "lines/seven/#") as receiver:
        for client, topic in (
            (press, "lines/eight/press/speed"),
            (press, "lines/seven/painter/speed"),
            (press, "lines/seven/press"),
            (painter, "lines/seven/painter/speed"),  # its attribute would be a wildcard
        ):
            assert client.publish(topic, "denied") == f"PUBACK (Mid: 1, RC:{135 if version == 'mqttv5' else 0})"
        assert painter.subscribe("lines/#", "lines/seven/#") == [painter.denied] * 2
        assert press.publish("lines/seven/press/speed", "9") == "PUBACK (Mid: 1, RC:0)"
        assert receiver.until("lines/seven/press/speed 9") == ["lines/seven/press/speed 9"]


@VERSIONS
def test_annotations_of_service_accounts(broker: Broker, version: Version, tmp_path: Path) -> None:
    fan = broker.account("fan", "17-fan", version)
    for account, client_id in (("fan", "18-fan"), ("fan", "17"), ("stranger", "17-fan")):
        assert not broker.account(account, client_id, version).connects()
    assert not fan.connects("--will-topic", "news", "--will-payload", "denied")
    filters = ("commands/17-fan/#", "news", "commands/+", "#", "$share/g/commands/17-fan/#", "$share/g/sensors/#")
    assert fan.subscribe(*filters) == [1, 1, fan.denied, fan.denied, 1, fan.denied]
    dashboard = broker.account("dashboard", "anything", version)
    with dashboard.receiving(tmp_path, "sensors/#") as receiver:
        for topic in ("sensors/18/17-fan/speed", "sensors/17/17-gate/speed", "news"):
            assert fan.publish(topic, "denied") == f"PUBACK (Mid: 1, RC:{135 if version == 'mqttv5' else 0})"
        assert fan.publish("sensors/17/17-fan/speed", "1200") == "PUBACK (Mid: 1, RC:0)"
        assert receiver.until("sensors/17/17-fan/speed 1200") == ["sensors/17/17-fan/speed 1200"]
