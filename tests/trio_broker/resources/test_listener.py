"""BrokerListener in the current form and the older flat one."""

from ipaddress import ip_address

import pytest

from tests.trio_broker.resources.support import (
    AUTOMATIC,
    V1,
    authentication,
    configuration,
    listener,
    manifest,
    pair,
    problems,
    secret,
    server_tls,
    together,
    warnings,
)
from trio_broker.resources import (
    AutomaticTls,
    CertificateSpec,
    IssuerKind,
    KeyAlgorithm,
    ManualTls,
    Port,
    RotationPolicy,
    ServiceAccountTokenSettings,
)

DEPLOYED = f"""
apiVersion: {V1}
kind: BrokerListener
metadata:
  name: default
  namespace: azure-iot-operations
spec:
  brokerRef: default
  serviceName: aio-broker
  serviceType: ClusterIp
  ports:
  - authenticationRef: default
    port: 18883
    protocol: Mqtt
    tls:
      certManagerCertificateSpec:
        issuerRef: {{group: cert-manager.io, kind: Issuer, name: mq-dmqtt-frontend}}
        privateKey: {{algorithm: Ec256, rotationPolicy: Always}}
      mode: Automatic
"""


def test_the_deployed_default() -> None:
    [port] = configuration(DEPLOYED).ports
    assert port.listener == "default"
    assert port.service_name == "aio-broker"
    assert port.number == 18883
    assert not port.websocket
    assert port.tls == AutomaticTls(CertificateSpec(issuer_name="mq-dmqtt-frontend", issuer_kind=IssuerKind.ISSUER))
    assert port.authentication is not None
    assert port.authentication.methods == (ServiceAccountTokenSettings(("aio-internal", "aio-mq")),)
    assert port.authorization is None


def test_the_older_deployed_default() -> None:
    text = """
    apiVersion: mq.iotoperations.azure.com/v1beta1
    kind: BrokerListener
    metadata: {name: listener, namespace: azure-iot-operations}
    spec:
      brokerRef: broker
      authenticationEnabled: true
      authorizationEnabled: false
      port: 8883
      serviceName: aio-mq-dmqtt-frontend
      serviceType: clusterIp
      tls: {automatic: {issuerRef: {group: cert-manager.io, kind: Issuer, name: mq-dmqtt-frontend}}}
    """
    [port] = configuration(text).ports
    assert isinstance(port.tls, AutomaticTls)
    assert port.authentication is not None
    assert port.authentication.name == "authn"
    assert port.authorization is None


def test_defaults_and_case() -> None:
    [mqtt, websocket] = configuration(
        listener("- {port: 1883, nodePort: 31883}\n- {port: 8080, protocol: WEBSOCKETS}")
    ).ports
    expected = Port(listener="default", namespace="azure-iot-operations", service_name="default", number=1883)
    assert mqtt == expected
    assert websocket.websocket


def test_certificate_spec_in_full() -> None:
    spec = """
    - port: 8883
      tls:
        mode: automatic
        certManagerCertificateSpec:
          issuerRef: {name: my-issuer, kind: clusterIssuer, group: example.com}
          duration: 2160h
          renewBefore: 1h30m
          secretName: somewhere
          privateKey: {algorithm: RSA4096, rotationPolicy: never}
          san: {dns: [broker.example, '*.example'], ip: [127.0.0.1, '::1']}
    """
    assert configuration(listener(spec)).ports[0].tls == AutomaticTls(
        CertificateSpec(
            issuer_name="my-issuer",
            issuer_kind=IssuerKind.CLUSTER_ISSUER,
            issuer_group="example.com",
            duration=7_776_000,
            renew_before=5400,
            algorithm=KeyAlgorithm.RSA4096,
            rotation_policy=RotationPolicy.NEVER,
            dns_names=("broker.example", "*.example"),
            ip_addresses=(ip_address("127.0.0.1"), ip_address("::1")),
        )
    )


@pytest.mark.parametrize(
    "tls",
    [
        "{mode: Manual, manual: {secretName: server-tls}}",
        "{mode: MANUAL, manual: {secretRef: server-tls}}",
        "{manual: {secretName: server-tls, secretNamespace: azure-iot-operations}}",
        "{mode: manual, manual: {secretRef: server-tls, namespace: azure-iot-operations}}",
    ],
)
def test_manual_tls(tls: str) -> None:
    tls_of = configuration(together(listener(f"- {{port: 8883, tls: {tls}}}"), server_tls())).ports[0].tls
    assert isinstance(tls_of, ManualTls)
    assert tls_of.chain_pem.strip() == pair("server").certificate.strip()
    assert b"PRIVATE KEY" in tls_of.key_pem
    assert "PRIVATE" not in repr(tls_of)


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ("- port: 0", "0.yaml:6: spec.ports[0].port: must be from 1 to 65535"),
        ("- port: 65536", "spec.ports[0].port: must be from 1 to 65535"),
        ("- port: '1883'", "spec.ports[0].port: must be a whole number, not text"),
        ("- port: 0x75b", "spec.ports[0].port: write the number with decimal digits only"),
        ("- prot: 1883", "spec.ports[0].prot: there is no such key (did you mean port?)"),
        ("- protocol: Mqtt", "spec.ports[0]: port is missing"),
        ("- {port: 1883, protocol: WebSocket}", "'WebSocket' is not Mqtt or WebSockets (did you mean WebSockets?)"),
        ("- {port: 1883, protocol: [Mqtt]}", "protocol: must be Mqtt or WebSockets, not a list"),
        ("- {port: 1883, nodePort: x}", "spec.ports[0].nodePort: must be a whole number"),
        ("[]", "spec.ports: must have at least one port"),
        ("port: 1", "spec.ports: must be a list, not a mapping"),
        ("- 1883", "spec.ports[0]: must be a mapping (key: value), not a number"),
        ("- {port: 1883, authenticationRef: }", "authenticationRef: has no value, and would be taken as left out"),
        ("- {port: 1883, tls: ~}", "tls: has no value, and would be taken as left out: give it one"),
        ("- {port: 1883, tls: {}}", "spec.ports[0].tls: mode is missing: Manual or Automatic"),
        ("- {port: 1883, tls: {mode: Auto}}", "'Auto' is not Manual or Automatic (did you mean Automatic?)"),
        ("- {port: 1883, tls: {mode: Manual}}", "mode Manual needs manual, with the secretName"),
        ("- {port: 1883, tls: {mode: Manual, manual: {}}}", "tls.manual: secretName is missing"),
        ("- {port: 1883, tls: {mode: Automatic}}", "mode Automatic needs certManagerCertificateSpec"),
        (
            "- {port: 1883, tls: {certManagerCertificateSpec: {issuerRef: {name: a, kind: Issuer}}}}",
            "spec.ports[0].tls: mode is missing",
        ),
        (
            "- {port: 1883, tls: {mode: Automatic, manual: {secretName: x}}}",
            "tls.manual: belongs to mode Manual, and the mode is Automatic",
        ),
        (
            f"- {{port: 1883, tls: {AUTOMATIC.replace('Automatic', 'Manual')}}}",
            "certManagerCertificateSpec: belongs to mode Automatic, and the mode is Manual",
        ),
        ("- {port: 1, tls: {manual: {keyVault: {}}}}", "Azure Key Vault is not supported"),
        ("- {port: 1, tls: {automatic: {}}}", "tls.automatic: issuerRef is missing"),
        ("- {port: 1, tls: {automatic: {issuerRef: {name: a}}}}", "tls.automatic.issuerRef: kind is missing"),
        ("- {port: 1, tls: {automatic: {issuerRef: {kind: Issuer}}}}", "tls.automatic.issuerRef: name is missing"),
    ],
)
def test_what_is_wrong_with_a_port(ports: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(listener(ports)))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("duration: 90d", "'90d' is not a duration such as 2160h or 1h30m"),
        ("duration: 10", "duration: must be text, not a number; put it in quotes"),
        ("{duration: 1h, renewBefore: 1h}", "renewBefore: must be less than the duration"),
        ("privateKey: {algorithm: Ec512}", "'Ec512' is not Ec256, Ec384, Ec521, Ed25519, Rsa2048"),
        ("privateKey: {rotationPolicy: Sometimes}", "'Sometimes' is not Always or Never"),
        ("privateKey: {size: 256}", "privateKey.size: there is no such key"),
        ("san: {dns: [-a-]}", "san.dns[0]: '-a-' is not a DNS name"),
        ("san: {dns: ['a*.example']}", "is not a DNS name"),
        ("san: {ip: [localhost]}", "san.ip[0]: 'localhost' is not an IP address"),
        ("san: {ip: ['fe80::1%eth0']}", "is not an IP address"),
        ("issuerRef: {name: a, kind: Isuer}", "'Isuer' is not Issuer or ClusterIssuer (did you mean Issuer?)"),
    ],
)
def test_what_is_wrong_with_a_certificate_spec(setting: str, expected: str) -> None:
    inner = setting.strip("{}") if setting.startswith("{") else setting
    issuer = "" if "issuerRef" in inner else "issuerRef: {name: a, kind: Issuer}, "
    text = listener(f"- {{port: 1, tls: {{mode: Automatic, certManagerCertificateSpec: {{{issuer}{inner}}}}}}}")
    [problem] = problems(text)
    assert expected in problem


def test_ports_are_unique_over_all_listeners() -> None:
    other = listener("- port: 1883", name="other", extra="serviceType: NodePort")
    [problem] = problems(listener(), other)
    assert problem.startswith("1.yaml:7: spec.ports[0].port: port 1883 is taken: ")
    assert "taken" in problems(listener("- port: 1\n- port: 1"))[0]


def test_one_listener_of_each_service_type() -> None:
    second = listener("- port: 2", name="second", extra="serviceType: clusterIP")
    assert problems(listener(), second) == [
        "1.yaml:5: spec.serviceType: there may be one listener of serviceType ClusterIp, and default is one"
    ]
    third = listener("- port: 2", name="second", extra="serviceType: loadbalancer")
    assert len(configuration(listener(), third).ports) == 2


def test_a_service_name_twice_is_a_warning() -> None:
    second = listener("- port: 2", name="second", extra="serviceType: NodePort\n  serviceName: default")
    assert "serviceName 'default' is also BrokerListener 'default''s" in warnings(listener(), second)[0]


def test_an_unknown_service_type_shows_the_nearest() -> None:
    [problem] = problems(listener(extra="serviceType: LoadBalancr"))
    assert problem == (
        "0.yaml:5: spec.serviceType: 'LoadBalancr' is not ClusterIp, LoadBalancer or NodePort"
        " (did you mean LoadBalancer?)"
    )


def test_authorization_without_authentication_would_fail_open() -> None:
    [problem] = [line for line in problems(listener("- {port: 1, authorizationRef: rules}")) if "no effect" in line]
    assert "everybody would be let in: add authenticationRef: NAME" in problem
    flat = flat_listener("authorizationEnabled: true")
    assert any("everybody would be let in: add authenticationEnabled: true" in line for line in problems(flat))


def flat_listener(extra: str = "", *, name: str = "flat") -> str:
    return manifest(
        "BrokerListener",
        name,
        f"spec:\n  port: 8883\n  tls: {{automatic: {{issuerRef: {{name: a, kind: Issuer}}}}}}\n  {extra}",
        "mq.iotoperations.azure.com/v1beta1",
    )


def linked(kind: str, name: str, body: str) -> str:
    return manifest(kind, name, f"spec:\n  listenerRef: [flat]\n  {body}", "mq.iotoperations.azure.com/v1beta1")


SAT = "authenticationMethods: [{sat: {audiences: [aio-mq]}}]"
RULES = "authorizationPolicies: {rules: [{principals: {clientIds: [a]}, brokerResources: [{method: Connect}]}]}"


def test_flat_form_with_listener_refs() -> None:
    text = together(
        flat_listener("authenticationEnabled: true\n  authorizationEnabled: true"),
        linked("BrokerAuthentication", "sat", SAT),
        linked("BrokerAuthorization", "rules", RULES),
    )
    [port] = configuration(text).ports
    assert port.number == 8883
    assert port.authentication is not None
    assert port.authentication.methods == (ServiceAccountTokenSettings(("aio-mq",)),)
    assert port.authorization is not None
    assert port.authorization.name == "rules"
    assert warnings(text) == []


def test_flat_form_switched_off() -> None:
    text = together(flat_listener(), linked("BrokerAuthentication", "sat", SAT))
    assert configuration(text).ports[0].authentication is None
    assert "does not say authenticationEnabled: true, so this has no effect" in warnings(text)[0]


def test_flat_form_without_what_it_needs() -> None:
    assert (
        "no BrokerAuthentication names flat in its listenerRef"
        in problems(flat_listener("authenticationEnabled: true"))[0]
    )
    text = together(
        flat_listener("authenticationEnabled: true\n  authorizationEnabled: true"),
        linked("BrokerAuthentication", "sat", SAT),
    )
    authorization = configuration(text).ports[0].authorization
    assert authorization is not None
    assert authorization.rules == ()
    assert "so everything is denied" in warnings(text)[0]


def test_flat_form_with_two_for_one_listener() -> None:
    text = together(
        flat_listener("authenticationEnabled: true"),
        linked("BrokerAuthentication", "one", SAT),
        linked("BrokerAuthentication", "two", SAT),
    )
    assert "both name flat in listenerRef" in problems(text)[0]


def test_a_listener_ref_to_what_is_not_there_or_has_ports() -> None:
    text = linked("BrokerAuthentication", "sat", SAT)
    assert "there is no BrokerListener 'flat'" in problems(text)[1]
    assert (
        "has ports, for which listenerRef has no effect: write authenticationRef there"
        in problems(together(text, listener(name="flat")))[0]
    )


def test_current_and_flat_form_do_not_mix() -> None:
    assert (
        "put authenticationRef: NAME into the entry of ports"
        in problems(listener(extra="authenticationEnabled: true"))[0]
    )
    assert "belongs to the older form without ports" in problems(listener(extra="port: 1883"))[0]
    assert "use authenticationEnabled: true" in problems(flat_listener("authenticationRef: x"))[0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "has no key tls.crt, which it needs"),
        ({"tls_cert": b"x", "tls_key": pair().key}, "has no key tls.crt, which it needs (did you mean tls.cert?)"),
        ({"tls_crt": b"x", "tls_key": pair().key}, "key 'tls.crt' of Secret 'server-tls' holds no certificate in PEM"),
        ({"tls_crt": pair().certificate, "tls_key": b"x"}, "key 'tls.key' of Secret 'server-tls' holds no private key"),
        (
            {"tls_crt": pair().certificate, "tls_key": pair("other").key},
            "key 'tls.key' of Secret 'server-tls' does not belong to the first certificate under tls.crt",
        ),
        ({"tls_crt": pair().certificate, "tls_key": pair().encrypted_key}, "is encrypted; write it unencrypted with"),
        ({"tls_crt": pair().key, "tls_key": pair().key}, "holds a private key, which does not belong there"),
        (
            {"tls_crt": pair().certificate[:200] + b"\n-----END CERTIFICATE-----", "tls_key": pair().key},
            "cannot be read as a certificate (block 1)",
        ),
        (
            {"tls_crt": pair().certificate, "tls_key": pair().key[:100] + b"\n-----END PRIVATE KEY-----"},
            "holds a private key that cannot be read",
        ),
    ],
)
def test_a_certificate_secret_that_is_not_one(data: dict[str, bytes], expected: str) -> None:
    port = listener("- {port: 8883, tls: {manual: {secretName: server-tls}}}")
    assert any(expected in problem for problem in problems(together(port, secret("server-tls", **data))))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(-60, -1, "expired on 2025-12-31 00:00 UTC"), (30, 90, "is not valid before 2026-01-31 00:00 UTC")],
)
def test_a_certificate_out_of_its_time_is_a_warning(start: int, end: int, expected: str) -> None:
    made = pair("old", start=start, end=end)
    port = listener("- {port: 8883, tls: {manual: {secretName: server-tls}}}")
    text = together(port, secret("server-tls", tls_crt=made.certificate, tls_key=made.key))
    assert f"'CN=old' in key 'tls.crt' of Secret 'server-tls' {expected}" in warnings(text)[0]


def test_references_to_authentication() -> None:
    text = authentication("- {method: ServiceAccountToken, serviceAccountTokenSettings: {audiences: [a]}}", uses="auht")
    assert problems(text) == [
        "0.yaml:7: spec.ports[0].authenticationRef: there is no BrokerAuthentication 'auht'"
        " in namespace azure-iot-operations (did you mean auth?)"
    ]
