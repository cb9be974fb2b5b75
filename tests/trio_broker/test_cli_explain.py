"""trio-broker explain: verdicts, rules and exit statuses, and nothing secret."""

import socket
import time
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from mqttcore.authenticators.service_account import METHOD
from trio_broker import cli
from trio_broker.tokens.issuer import LocalIssuer

PASSWORD = "correct horse"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
VERSION = "apiVersion: mqttbroker.iotoperations.azure.com/v1"
MANIFESTS = f"""
{VERSION}
kind: BrokerListener
metadata: {{name: main}}
spec:
  ports:
    - {{port: 2001}}
    - {{port: 2002, authenticationRef: passwords, authorizationRef: rules}}
    - {{port: 2003, authenticationRef: accounts, authorizationRef: rules}}
    - {{port: 2004, authenticationRef: custom}}
    - {{port: 2005, authenticationRef: fallback}}
    - {{port: 2006, authenticationRef: passwords, authorizationRef: nothing}}
    - port: 2007
      authenticationRef: certificates
      authorizationRef: rules
      tls: {{mode: Automatic, certManagerCertificateSpec: {{issuerRef: {{name: ca, kind: Issuer}}}}}}
---
{VERSION}
kind: BrokerAuthentication
metadata: {{name: passwords}}
spec: {{authenticationMethods: [{{method: Password, passwordSettings: {{secretName: users}}}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: users}}
stringData: {{ann: '{HASH}'}}
---
{VERSION}
kind: BrokerAuthentication
metadata: {{name: accounts}}
spec: {{authenticationMethods: [{{method: ServiceAccountToken, serviceAccountTokenSettings: {{audiences: [a]}}}}]}}
---
{VERSION}
kind: BrokerAuthentication
metadata: {{name: custom}}
spec: {{authenticationMethods: [{{method: Custom, customSettings: {{endpoint: 'https://custom.example:8443'}}}}]}}
---
{VERSION}
kind: BrokerAuthentication
metadata: {{name: fallback}}
spec:
  authenticationMethods:
    - {{method: Custom, customSettings: {{endpoint: 'https://custom.example:8443'}}}}
    - {{method: Password, passwordSettings: {{secretName: users}}}}
    - {{method: ServiceAccountToken, serviceAccountTokenSettings: {{audiences: [a]}}}}
---
{VERSION}
kind: BrokerAuthentication
metadata: {{name: certificates}}
spec:
  authenticationMethods:
    - method: X509
      x509Settings:
        authorizationAttributes: {{fan: {{subject: CN = fan, attributes: {{building: '17'}}}}}}
---
{VERSION}
kind: BrokerAuthorization
metadata: {{name: rules}}
spec:
  authorizationPolicies:
    rules:
      - principals: {{usernames: [ann]}}
        brokerResources:
          - {{method: Connect}}
          - {{method: Publish, topics: ['clients/{{principal.clientId}}/#']}}
      - principals: {{attributes: [{{building: '17'}}]}}
        brokerResources:
          - {{method: Connect, clientIds: ['{{principal.attributes.building}}-*']}}
          - {{method: Subscribe, topics: ['news/+']}}
          - {{method: Publish, topics: [status]}}
---
{VERSION}
kind: BrokerAuthorization
metadata: {{name: nothing}}
spec: {{authorizationPolicies: {{rules: []}}}}
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with manifests, an authority, a certificate, and a token of a service account of building 17."""
    directory = tmp_path_factory.mktemp("explain")
    issuer = LocalIssuer(directory / ".session")
    issuer.annotate("azure-iot-operations", "fan", {"aio-broker-auth/building": "17"})
    for name, age in (("token", 0), ("old", 7200)):
        token = issuer.mint("fan", audiences=["a"], now=time.time() - age, duration=3600)
        (directory / name).write_text(token)
    (directory / "password").write_text(f"{PASSWORD}\n")
    (directory / "all.yaml").write_text(MANIFESTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for arguments in (["fan"], ["gone", "--expired"]):
            with pytest.raises(SystemExit) as caught:
                cli.main(["cert", "create", *arguments])
            assert caught.value.code == 0
    return directory


@pytest.fixture(autouse=True)
def place(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(session)


class Explain:
    """Runs the command and gives what it printed, split into lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str], session: Path) -> None:
        self._capsys = capsys
        self._secrets = [PASSWORD, HASH, "hunter2", *((session / name).read_text() for name in ("token", "old"))]

    def __call__(self, status: int, port: int, *arguments: str) -> list[str]:
        with pytest.raises(SystemExit) as caught:
            stand_in = ("--configmap", "client-ca=.session/broker-ca.crt")
            cli.main(["explain", "all.yaml", "--port", str(port), *stand_in, *arguments])
        captured = self._capsys.readouterr()
        assert not any(secret in captured.out + captured.err for secret in self._secrets)
        assert caught.value.code == status, captured
        if status == 2:
            assert captured.out == ""
            return captured.err.splitlines()[-1:]
        assert all(line.startswith("warning: ") for line in captured.err.splitlines())
        return captured.out.splitlines()


@pytest.fixture
def explain(capsys: pytest.CaptureFixture[str], session: Path) -> Explain:
    return Explain(capsys, session)


ANN = ("--username", "ann", "--password", "@password")
FAN = ("--auth-method", METHOD, "--auth-data", "@token", "--client-id", "17-fan")


def unreachable() -> str:
    """A --resolve of the custom server to where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"--resolve=custom.example:8443=127.0.0.1:{taken.getsockname()[1]}"


# ------------------------------------------------------------------------------------------------- authentication


def test_granted(explain: Explain) -> None:
    assert explain(0, 2002, *ANN) == [
        "Port 2002 (main) authenticates by passwords.",
        "  Password: granted",
        "The credentials are good, of ann.",
        "  The credential does not expire.",
        "What clients may do is up to BrokerAuthorization rules:",
        "  connect: allowed by rules[0].brokerResources[0]",
        "    it is for the user name 'ann'",
        "The broker answers CONNACK 0x00.",
    ]


def test_denied(explain: Explain) -> None:
    lines = explain(1, 2002, "--username", "ann", "--password", "hunter2")
    assert lines[1].startswith("  Password: denied")
    assert lines[2:] == ["The client does not get in. The broker answers CONNACK 0x86 (BAD_USER_NAME_OR_PASSWORD)."]


def test_not_relevant(explain: Explain) -> None:
    lines = explain(1, 2002, *FAN)
    assert lines[1].startswith("  Password: not relevant")
    assert lines[-1].startswith("The client does not get in. The broker answers CONNACK 0x8")


def test_a_token(explain: Explain) -> None:
    lines = explain(0, 2003, *FAN)
    assert lines[1:3] == [
        "  ServiceAccountToken: granted",
        "The credentials are good, of system:serviceaccount:azure-iot-operations:fan.",
    ]
    assert "  attribute building = 17" in lines
    assert any(line.startswith("  The credential expires at 2") for line in lines)
    lines = explain(1, 2003, "--auth-method", METHOD, "--auth-data", "@old")
    assert lines[1].startswith("  ServiceAccountToken: denied: ")


def test_a_custom_server_that_does_not_answer(explain: Explain) -> None:
    lines = explain(1, 2004, unreachable(), *ANN)
    assert lines[1].startswith("  Custom: unavailable: ")
    assert lines[2].startswith("The client does not get in. The broker answers CONNACK 0x8")
    lines = explain(0, 2005, unreachable(), *ANN)
    assert [line.partition(":")[0] for line in lines[1:4]] == ["  Custom", "  Password", "  ServiceAccountToken"]
    assert lines[2:4] == ["  Password: granted", "  ServiceAccountToken: not tried"]
    assert lines[-1] == "The broker answers CONNACK 0x00."


def test_reauthentication(explain: Explain) -> None:
    lines = explain(0, 2003, *FAN, "--re-auth")
    assert lines[1] == "  ServiceAccountToken: granted"
    assert lines[-1] == "The broker answers AUTH 0x00."
    assert not any("connect" in line for line in lines)
    lines = explain(1, 2003, "--re-auth", "--auth-method", METHOD, "--auth-data", "@old")
    assert lines[-1] == "The client does not get in. The broker answers DISCONNECT 0x87 (NOT_AUTHORIZED)."
    lines = explain(1, 2004, unreachable(), *FAN, "--re-auth")
    assert lines[-1].endswith("the old credential stays in force. The broker answers AUTH 0x18.")


def test_a_certificate(explain: Explain) -> None:
    lines = explain(0, 2007, "--cert", "fan_cert.pem", "--client-id", "17-fan")
    assert lines[1:4] == [
        "  X509: attributes: entry 'fan' is for certificate 1 of the chain",
        "  X509: granted",
        "The credentials are good, of fan.",
    ]
    assert "  attribute building = 17" in lines
    lines = explain(1, 2007, "--cert", "gone_cert.pem")
    assert lines[1].startswith("  X509: denied: ")
    assert explain(1, 2007)[1].startswith("  X509: not relevant: ")


def test_a_port_without_authentication(explain: Explain) -> None:
    assert explain(0, 2001, *ANN, "--action", "publish", "--topic", "t") == [
        "Port 2001 (main) has no authentication.",
        "User names, passwords and certificates are not looked at: CONNACK 0x00.",
        "The port has no authorization: every client may do everything.",
    ]
    assert explain(1, 2001, *FAN)[-1].endswith("which nobody there handles: CONNACK 0x8C.")


# -------------------------------------------------------------------------------------------------- authorization


def test_an_allowed_publish(explain: Explain) -> None:
    lines = explain(0, 2002, *ANN, "--client-id", "c", "--action", "publish", "--topic", "clients/c/x")
    assert lines[-4:] == [
        "The broker answers CONNACK 0x00.",
        "  publish 'clients/c/x': allowed by rules[0].brokerResources[1]",
        "    it is for the user name 'ann'",
        "    its topic 'clients/{principal.clientId}/#' ('clients/c/#' for this client) matches 'clients/c/x'",
    ]


def test_a_denied_publish(explain: Explain) -> None:
    lines = explain(1, 2002, *ANN, "--client-id", "c", "--action", "publish", "--topic", "clients/d/x")
    assert lines[-4] == "The broker answers CONNACK 0x00."
    assert lines[-3:-1] == [
        "  publish 'clients/d/x': denied; rules[0].brokerResources[1] comes nearest, but",
        "    its topic 'clients/{principal.clientId}/#' ('clients/c/#' for this client) does not match 'clients/d/x'",
    ]
    assert lines[-1].startswith("The broker answers PUBACK or PUBREC 0x87")
    lines = explain(1, 2002, *ANN, "--action", "publish", "--topic", "status")
    assert lines[-3:-1] == [
        "  publish 'status': denied; rules[1].brokerResources[2] comes nearest, but",
        "    it is for attribute building = '17' (the client has none)",
    ]


def test_a_client_that_could_widen_its_rule(explain: Explain) -> None:
    lines = explain(1, 2002, *ANN, "--client-id", "c/#", "--action", "publish", "--topic", "clients/c/x")
    assert lines[-2].endswith(": the client's client identifier 'c/#' has a '/' in it")


@pytest.mark.parametrize("port", [2003, 2007])
def test_subscriptions(explain: Explain, port: int) -> None:
    who = FAN if port == 2003 else ("--cert", "fan_cert.pem", "--client-id", "17-fan")
    for asked, judged in (("news/+", "'news/+'"), ("$share/g/news/a", "'news/a' (of '$share/g/news/a')")):
        lines = explain(0, port, *who, "--action", "subscribe", "--topic", asked)
        assert lines[-3] == f"  subscribe to {judged}: allowed by rules[1].brokerResources[1]"
    lines = explain(1, port, *who, "--action", "subscribe", "--topic", "news/#")
    assert lines[-2:] == [
        "    its topic 'news/+' does not cover all of 'news/#'",
        "The broker answers SUBACK 0x87.",
    ]


def test_a_client_that_may_not_connect_may_do_nothing(explain: Explain) -> None:
    who = ("--auth-method", METHOD, "--auth-data", "@token", "--client-id", "18-fan")
    for wanted in ((), ("--action", "connect"), ("--action", "subscribe", "--topic", "news/a")):
        lines = explain(1, 2003, *who, *wanted)
        pattern = "'{principal.attributes.building}-*' ('17-*' for this client)"
        assert lines[-3:] == [
            "  connect: denied; rules[1].brokerResources[0] comes nearest, but",
            f"    the client identifier '18-fan' does not fit {pattern}",
            "The broker answers CONNACK 0x87.",
        ]
    lines = explain(1, 2003, *who, "--re-auth", "--action", "publish", "--topic", "no")
    assert lines[-4] == "The broker answers AUTH 0x00."


def test_no_rules(explain: Explain) -> None:
    assert explain(1, 2006, *ANN)[-2:] == [
        "  connect: denied: no rule has a brokerResource with this method",
        "The broker answers CONNACK 0x87.",
    ]


def test_no_authorization(explain: Explain) -> None:
    lines = explain(0, 2005, unreachable(), *ANN, "--action", "publish", "--topic", "t")
    assert lines[-1] == "The port has no authorization: every client may do everything."


# ------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((2000,), "the manifests open no port 2000; they open 2001, 2002"),
        ((2002, "--auth-data", "x"), "--auth-data needs --auth-method"),
        ((2002, "--password", "@missing"), "missing: No such file or directory"),
        ((2007, "--cert", "token"), "token holds no certificate in PEM"),
        ((2002, "--action", "publish"), "--action publish needs --topic"),
        ((2002, "--action", "subscribe"), "--action subscribe needs --topic"),
        ((2002, "--topic", "t"), "--topic goes with --action publish or --action subscribe"),
        ((2002, "--action", "connect", "--topic", "t"), "--topic goes with --action publish or --action subscribe"),
        ((2002, "--re-auth", "--action", "connect"), "--action connect does not go with --re-auth"),
        ((2002, "--action", "publish", "--topic", "a/+"), "--topic 'a/+': a Topic Name must not contain wildcards"),
        ((2002, "--action", "publish", "--topic", "$SYS/a"), "only the broker itself publishes to $SYS/"),
        ((2002, "--action", "subscribe", "--topic", "a/#/b"), "--topic 'a/#/b': '#' must fill a level of its own"),
        ((2002, "--action", "fly"), "'fly' is not one of 'connect', 'publish', 'subscribe'"),
    ],
)
def test_a_mistake_is_one_line(explain: Explain, arguments: tuple[int, *tuple[str, ...]], line: str) -> None:
    port, *others = arguments
    [said] = explain(2, port, *others)
    assert line in said
