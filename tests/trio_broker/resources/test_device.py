"""Device: what kubectl prints of a device registry, and what comes of it."""

from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trio_broker.resources.support import (
    V1,
    authentication,
    client_ca,
    configuration,
    listener,
    loads,
    manifest,
    problems,
    together,
    warnings,
)
from trio_broker.resources import X509Settings

REGISTRY = "namespaces.deviceregistry.microsoft.com/v1"
ASKING = "- {method: X509, x509Settings: {additionalValidation: AzureDeviceRegistry}}"
PRINTED = """
apiVersion: v1
items:
- apiVersion: namespaces.deviceregistry.microsoft.com/v1
  kind: Device
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"namespaces.deviceregistry.microsoft.com/v1","kind":"Device"}
    creationTimestamp: "2026-01-01T10:00:00Z"
    finalizers:
    - deviceregistry.microsoft.com/finalizer
    generation: 3
    labels:
      managed-by: azure
    name: my-thermostat
    namespace: azure-iot-operations
    resourceVersion: "104712"
    uid: 6f2d1bd0-6f5a-4f5a-8f0e-4f1e3d9b7c55
  spec:
    attributes:
      deviceType: thermostat
      floor: 17
    discoveredDeviceRef: found-1
    enabled: true
    endpoints:
      inbound:
        plc:
          address: opc.tcp://plc:4840
          authentication:
            method: Anonymous
          endpointType: Microsoft.OpcUa
      outbound:
        assigned: {}
    externalDeviceId: my-thermostat
    lastTransitionTime: "2026-01-01T10:00:00Z"
    manufacturer: Contoso
    model: T1000
    operatingSystem: Linux
    operatingSystemVersion: "6.1"
    uuid: 0a1b2c3d-0000-4000-8000-000000000000
    version: 2
  status:
    config:
      version: 2
- apiVersion: namespaces.deviceregistry.microsoft.com/v1beta1
  kind: Device
  metadata:
    name: fan.contoso.com
    namespace: other
  spec:
    enabled: false
kind: List
metadata:
  resourceVersion: ""
"""


def device(name: str, spec: str = "{enabled: true}", *, namespace: str = "", version: str = REGISTRY) -> str:
    text = manifest("Device", name, f"spec: {spec}", version)
    return text.replace(f"name: {name}}}", f"name: {name}, namespace: {namespace}}}") if namespace else text


def asking(*devices: str) -> str:
    return together(authentication(ASKING), client_ca(), *devices)


def test_what_kubectl_prints_is_a_registry() -> None:
    text = asking(PRINTED)
    assert warnings(text) == []
    found = configuration(text)
    assert found.devices == {"my-thermostat": True, "fan.contoso.com": False}
    with pytest.raises(TypeError):
        found.devices["intruder"] = True  # type: ignore[index]
    authenticated = found.ports[0].authentication
    assert authenticated is not None
    [method] = authenticated.methods
    assert isinstance(method, X509Settings)
    assert method.devices == found.devices


def test_without_additional_validation_the_registry_is_not_asked() -> None:
    text = together(authentication("- method: X509"), client_ca(), device("thermostat"), device("fan"))
    authenticated = configuration(text).ports[0].authentication
    assert authenticated is not None
    assert isinstance(authenticated.methods[0], X509Settings)
    assert authenticated.methods[0].devices is None
    [warning] = warnings(text)
    assert "metadata: no X509 has additionalValidation AzureDeviceRegistry" in warning
    assert configuration(listener()).devices == {}


def test_a_registry_without_devices_is_a_warning() -> None:
    assert configuration(asking()).devices == {}
    assert warnings(asking()) == [
        "0.yaml:15: spec.authenticationMethods[0]: additionalValidation is AzureDeviceRegistry, and there is no Device:"
        " X509 will let nobody in"
    ]


@pytest.mark.parametrize("spec", ["{model: T1000}", "{enabled: }", "{}"])
def test_a_device_that_does_not_say_that_it_is_enabled_is_not(spec: str) -> None:
    text = asking(device("thermostat", spec))
    assert configuration(text).devices == {"thermostat": False}
    [warning] = warnings(text)
    assert "spec: enabled is missing, and so the device is disabled; write enabled: true" in warning


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), st.booleans()), min_size=1, max_size=4))
def test_devices_of_one_name_are_enabled_if_all_are(given: list[tuple[str, bool]]) -> None:
    texts = [
        device(name, f"{{enabled: {str(enabled).lower()}}}", namespace=f"n{number}")
        for number, (name, enabled) in enumerate(given)
    ]
    expected = {name: all(enabled for other, enabled in given if other == name) for name, _ in given}
    text = asking(*texts)
    assert configuration(text).devices == expected
    told = warnings(text)
    assert len(told) == len(given) - len(expected)
    assert all("gets in only if all are enabled" in warning for warning in told)


def test_where_the_other_device_of_that_name_is() -> None:
    files = asking(), device("thermostat"), device("thermostat", namespace="other")
    loaded = loads(*files)
    [warning] = loaded.warnings
    assert (warning.file.rpartition("/")[2], warning.line, warning.path) == ("2.yaml", 3, "metadata")
    assert warning.message.startswith("Device 'thermostat' is also in namespace azure-iot-operations (")
    assert "1.yaml:3)" in warning.message
    [problem] = problems(asking(), device("thermostat"), device("thermostat"))
    assert "Device 'thermostat' in namespace azure-iot-operations is also in" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (device("thermostat", "{enabled: 'true'}"), "4: spec.enabled: must be true or false, not text"),
        (device("thermostat", "{enabld: true}"), "4: spec.enabld: there is no such key (did you mean enabled?)"),
        (device("thermostat", "[]"), "4: spec: must be a mapping (key: value), not a list"),
        (device("Thermostat"), "3: metadata.name: a name has up to 253 characters"),
        (manifest("Device", "thermostat", "", REGISTRY), "1: spec is missing"),
        (device("thermostat", version=f"{REGISTRY}beta9"), f"(did you mean {REGISTRY}beta1?)"),
        (device("thermostat", version=V1), "is no apiVersion of a Device that is known here"),
        (manifest("Devices", "thermostat", "", REGISTRY), "2: kind: there is no kind 'Devices' (did you mean Device?)"),
        (manifest("Broker", "default", "", REGISTRY), "is no apiVersion of a Broker that is known here"),
    ],
)
def test_what_is_wrong_with_a_device(text: str, expected: str) -> None:
    wrong = problems(asking(device("fan")), text)
    assert any(problem.startswith("1.yaml:") and expected in problem for problem in wrong), wrong


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("Device", "devices.kubeedge.io/v1beta1"),
        ("Device", "deviceregistry.microsoft.com/v1"),
        ("Devices", "example.com/v1"),
        ("Asset", REGISTRY),
        ("DiscoveredDevice", REGISTRY),
    ],
)
def test_what_is_no_device_of_the_registry_is_left_out(kind: str, version: str) -> None:
    text = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: thermostat}}\nspec: {{enabled: true}}"
    loaded = loads(asking(device("fan")), dedent(text))
    assert loaded.configuration is not None
    assert loaded.configuration.devices == {"fan": True}
    [warning] = loaded.warnings
    assert warning.message == f"kind '{kind}' is not the broker's and has been left out"
