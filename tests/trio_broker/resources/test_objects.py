"""ConfigMap, Secret, ServiceAccount, Broker; kinds, names and namespaces."""

from base64 import b64encode

import pytest

from tests.trio_broker.resources.support import (
    V1,
    configuration,
    listener,
    loads,
    manifest,
    pair,
    problems,
    together,
    warnings,
)
from trio_broker.resources import BrokerSettings, ManualTls, MemoryProfile, QueueStrategy

TLS = listener("- {port: 8883, tls: {manual: {secretName: cert}}}")


def encoded(value: bytes) -> str:
    return b64encode(value).decode()


def test_secret_data_is_base64_and_string_data_wins() -> None:
    made = pair()
    wrapped = "\n    ".join(encoded(made.key)[start : start + 64] for start in range(0, len(encoded(made.key)), 64))
    text = (
        f"type: kubernetes.io/tls\nimmutable: true\ndata:\n  tls.crt: {encoded(b'x')}\n  tls.key: |\n    {wrapped}\n"
        f"stringData:\n  tls.crt: {made.certificate.decode()!r}".replace("\\n", "\\n")
    )
    text = text.replace(repr(made.certificate.decode()), '"' + made.certificate.decode().replace("\n", "\\n") + '"')
    tls = configuration(together(TLS, manifest("Secret", "cert", text))).ports[0].tls
    assert tls == ManualTls(made.certificate, made.key)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("Secret", "data: {tls.key: hunter2 hunter2}", "data.tls.key: is not Base64; in a Secret, text as it is goes"),
        ("Secret", "data: {tls.key: [hunter2]}", "data.tls.key: must be text, not a list"),
        ("Secret", "data: hunter2", "data: must be a mapping (key: value), not text"),
        ("Secret", "stringData: {a: 1234567}", "stringData.a: must be text, not a number; put it in quotes"),
        ("Secret", "dat: {a: aGk=}", "dat: there is no such key (did you mean data?)"),
        ("ConfigMap", "data: {a: b}\nbinaryData: {a: aGk=}", "binaryData.a: the key stands under data, too"),
        ("ConfigMap", "binaryData: {a: '*'}", "binaryData.a: is not Base64"),
        ("ServiceAccount", "spec: {}", "spec: there is no such key"),
    ],
)
def test_what_is_wrong_with_an_object(kind: str, body: str, expected: str) -> None:
    [problem] = problems(listener(), manifest(kind, "thing", body))
    assert expected in problem
    assert "hunter2" not in problem
    assert "1234567" not in problem


def test_service_accounts_have_their_annotations() -> None:
    text = """
    apiVersion: v1
    kind: ServiceAccount
    metadata:
      name: mqtt-client
      namespace: default
      labels: {a: b}
      annotations:
        aio-broker-auth/group: one
        aio-mq-broker-auth/city: two
        other: three
    automountServiceAccountToken: false
    """
    assert configuration(listener(), text).service_accounts == {
        ("default", "mqtt-client"): {
            "aio-broker-auth/group": "one",
            "aio-mq-broker-auth/city": "two",
            "other": "three",
        }
    }


def test_an_annotation_is_text() -> None:
    text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, annotations: {aio-broker-auth/floor: 3}}\n"
    assert "metadata.annotations.aio-broker-auth/floor: must be text, not a number" in problems(listener(), text)[0]


BROKER = """
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: Broker
metadata: {name: default}
spec:
  memoryProfile: tiny
  cardinality: {backendChain: {partitions: 2, redundancyFactor: 2, workers: 2}, frontend: {replicas: 2}}
  diagnostics: {logs: {level: info}}
  diskBackedMessageBuffer: {maxSize: 50M}
  generateResourceLimits: {cpu: Disabled}
  persistence: {maxSize: 1G}
  advanced:
    encryptInternalTraffic: Enabled
    internalCerts: {duration: 240h}
    clients:
      maxSessionExpirySeconds: 282277
      maxMessageExpirySeconds: 1622
      maxPacketSizeBytes: 1000000
      maxReceiveMaximum: 15000
      maxKeepAliveSeconds: 300
      subscriberQueueLimit: {length: 1000, strategy: dropoldest}
"""


def test_broker() -> None:
    assert configuration(listener(), BROKER).broker == BrokerSettings(
        memory_profile=MemoryProfile.TINY,
        maximum_session_expiry=282277,
        maximum_message_expiry=1622,
        maximum_packet_size=1_000_000,
        receive_maximum=15_000,
        maximum_keep_alive=300,
        queue_length=1000,
        queue_strategy=QueueStrategy.DROP_OLDEST,
    )
    assert configuration(listener()).broker == BrokerSettings()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("memoryProfile: Huge", "'Huge' is not Tiny, Low, Medium or High"),
        ("memoryprofile: Tiny", "spec.memoryprofile: there is no such key (did you mean memoryProfile?)"),
        ("advanced: {clients: {maxReceiveMaximum: 0}}", "maxReceiveMaximum: must be from 1 to 65535"),
        ("advanced: {clients: {maxKeepAlive: 1}}", "there is no such key (did you mean maxKeepAliveSeconds?)"),
        ("advanced: {clients: {subscriberQueueLimit: {strategy: DropNewest}}}", "(did you mean DropOldest?)"),
    ],
)
def test_what_is_wrong_with_a_broker(spec: str, expected: str) -> None:
    [problem] = problems(listener(), manifest("Broker", "default", f"spec: {{{spec}}}", V1))
    assert expected in problem


def test_one_broker() -> None:
    assert (
        "there may be one Broker, and 'default' is one"
        in problems(listener(), BROKER, BROKER.replace("name: default", "name: two"))[0]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: ConfigMap\nmetadata: {name: a}", "apiVersion is missing"),
        ("apiVersion: v1\nmetadata: {name: a}", "kind is missing"),
        ("apiVersion: v1\nkind: ConfigMap", "metadata is missing"),
        ("apiVersion: 1\nkind: ConfigMap", "apiVersion: must be text, not a number"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}", "metadata: name is missing"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A}", "metadata.name: a name has up to 253 characters"),
        ("apiVersion: v2\nkind: ConfigMap", "the apiVersion of a ConfigMap is v1, not 'v2'"),
        ("apiVersion: v1\nkind: Configmap", "there is no kind 'Configmap' (did you mean ConfigMap?)"),
        (f"apiVersion: {V1}\nkind: BrokerListner", "(did you mean BrokerListener?)"),
        ("apiVersion: other/v1\nkind: brokerlistener", "(did you mean BrokerListener?)"),
        (f"apiVersion: {V1}\nkind: Whatever", "there is no kind 'Whatever'"),
        (f"apiVersion: {V1}2\nkind: BrokerListener", f"(did you mean {V1}?)"),
        ("apiVersion: az-edge.com/v1alpha3\nkind: BrokerListener", "is no apiVersion of a BrokerListener"),
        (f"apiVersion: {V1}\nkind: Broker\nmetadata: {{name: ab}}\nspec: {{}}", "a name has 3 to 63 characters"),
        (f"apiVersion: {V1}\nkind: Broker\nmetadata: {{name: abc-}}\nspec: {{}}", "a name has 3 to 63 characters"),
        (f"apiVersion: {V1}\nkind: Broker\nmetadata: {{name: {'a' * 64}}}\nspec: {{}}", "a name has 3 to 63"),
        (f"apiVersion: {V1}\nkind: Broker\nmetadata: {{name: abc, namespace: A}}\nspec: {{}}", "a namespace has"),
        (f"apiVersion: {V1}\nkind: Broker\nmetadata: {{name: abc}}", "spec is missing"),
        (f"apiVersion: {V1}\nkind: Broker\nmetadata: {{nam: abc}}\nspec: {{}}", "(did you mean name?)"),
        ("- a", "must be a mapping (key: value), not a list"),
        ("hello", "must be a mapping (key: value), not text"),
    ],
)
def test_who_a_resource_is(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(listener(), text))


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {a: b}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}",
        "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: x}",
        "apiVersion: mq.iotoperations.azure.com/v1beta1\nkind: MqttBridgeConnector\nmetadata: {name: x}",
    ],
)
def test_kinds_of_others_are_left_out_with_a_warning(text: str) -> None:
    [warning] = warnings(listener(), text)
    assert "is not the broker's and has been left out" in warning


def test_what_kubectl_prints_is_taken() -> None:
    text = f"""
    apiVersion: v1
    kind: List
    metadata: {{resourceVersion: ''}}
    items:
    - apiVersion: {V1}
      kind: BrokerListener
      metadata:
        name: default
        creationTimestamp: '2026-01-01T00:00:00Z'
        generation: 1
        resourceVersion: '17'
        uid: a
        ownerReferences: []
      spec: {{ports: [{{port: 1883}}]}}
      status: {{anything: 1}}
    """
    assert configuration(text).ports[0].number == 1883


def test_duplicates() -> None:
    text = manifest("ConfigMap", "thing", "data: {}")
    [problem] = problems(listener(), text, text)
    assert problem.startswith("2.yaml:3: metadata: ConfigMap 'thing' in namespace azure-iot-operations is also in ")
    other = text.replace("{name: thing}", "{name: thing, namespace: other}")
    assert loads(listener(), text, other).problems == ()


def test_what_is_not_used_is_a_warning() -> None:
    assert warnings(listener(), manifest("ConfigMap", "thing", "data: {}")) == [
        "1.yaml:3: metadata: ConfigMap 'thing' is not used"
    ]
