"""BrokerAuthentication: every spelling, and what each method needs."""

from collections.abc import Mapping

import argon2
import pytest

from mqttcore.authenticators.effects import HttpServer
from mqttcore.authenticators.scram import Verifier
from mqttcore.authenticators.x509 import subject_attributes
from tests.trio_broker.resources.support import (
    V1,
    authentication,
    client_ca,
    config_map,
    configuration,
    listener,
    loads,
    manifest,
    pair,
    problems,
    secret,
    server_tls,
    together,
)
from trio_broker.resources import (
    CustomSettings,
    MethodSettings,
    PasswordSettings,
    ScramSettings,
    ServiceAccountTokenSettings,
    X509Settings,
)

HASH = argon2.low_level.hash_secret(b"hunter2", b"saltsalt", 1, 8, 1, 16, argon2.Type.ID).decode()
VERIFIER = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def methods(entry: str, *others: str) -> tuple[MethodSettings, ...]:
    """The methods of a BrokerAuthentication with this entry."""
    [port] = configuration(together(authentication(entry), *others)).ports
    assert port.authentication is not None
    return port.authentication.methods


@pytest.mark.parametrize(
    "entry",
    [
        "- {method: ServiceAccountToken, serviceAccountTokenSettings: {audiences: [a, b]}}",
        "- {method: serviceAccountToken, serviceAccountTokenSettings: {audiences: [a, b]}}",
        "- {method: SERVICEACCOUNTTOKEN, serviceAccountToken: {audiences: [a, b]}}",
        "- {method: serviceaccounttoken, sat: {audiences: [a, b]}}",
        "- {method: sat, sat: {audiences: [a, b]}}",
        "- serviceAccountToken: {audiences: [a, b]}",
        "- sat: {audiences: [a, b]}",
    ],
)
def test_service_account_token_in_every_spelling(entry: str) -> None:
    assert methods(entry) == (ServiceAccountTokenSettings(("a", "b")),)


@pytest.mark.parametrize(
    "name", ["method: X509, ", "method: x509, ", "method: x509Credentials, ", "method: X509CREDENTIALS, ", ""]
)
@pytest.mark.parametrize("key", ["x509Settings", "x509Credentials", "x509"])
@pytest.mark.parametrize("ca", ["trustedClientCaCert", "trustedClientCaCertConfigMap"])
def test_x509_in_every_spelling(name: str, key: str, ca: str) -> None:
    if not name and key == "x509Settings":
        return
    [method] = methods(f"- {{{name}{key}: {{{ca}: my-ca}}}}", client_ca("my-ca"))
    assert isinstance(method, X509Settings)
    assert b"BEGIN CERTIFICATE" in method.trusted_ca_pem
    assert method.devices is None


@pytest.mark.parametrize("entry", ["- method: X509", "- {method: X509, x509Settings: {}}", "- x509Credentials: {}"])
def test_x509_trusts_client_ca_by_default(entry: str) -> None:
    other = pair("Other CA", authority=True).certificate
    text = config_map("client-ca", one=pair("Client CA", authority=True).certificate, two=other + other)
    [method] = methods(entry, text)
    assert isinstance(method, X509Settings)
    assert method.trusted_ca_pem.count(b"BEGIN CERTIFICATE") == 3


ATTRIBUTES = """
- method: X509
  x509Settings:
    additionalValidation: azuredeviceregistry
    authorizationAttributes:
      root:
        subject: CN = Contoso Root CA Cert, OU = Engineering, C = US
        attributes: {organization: contoso}
      smartfan:
        subject: CN = smart-fan
        attributes: {building: '17', empty: ''}
"""
EXPECTED_ATTRIBUTES = (
    subject_attributes("root", "C=US,OU=Engineering,CN=Contoso Root CA Cert", {"organization": "contoso"}),
    subject_attributes("smartfan", "CN=smart-fan", {"building": "17", "empty": ""}),
)
TOML = b"""
[root]
subject = "CN = Contoso Root CA Cert, OU = Engineering, C = US"
[root.attributes]
organization = "contoso"
[smartfan]
subject = "CN = smart-fan"
attributes = {building = "17", empty = ""}
"""


def test_x509_attributes() -> None:
    [method] = methods(ATTRIBUTES, client_ca())
    assert isinstance(method, X509Settings)
    assert method.attributes == EXPECTED_ATTRIBUTES
    assert method.devices == {}


@pytest.mark.parametrize("key", ["secretName", "secretRef"])
def test_x509_attributes_from_toml(key: str) -> None:
    [method] = methods(f"- x509: {{attributes: {{{key}: my-toml}}}}", client_ca(), secret("my-toml", a_toml=TOML))
    assert isinstance(method, X509Settings)
    assert method.attributes == EXPECTED_ATTRIBUTES


@pytest.mark.parametrize(
    "entry",
    [
        "- {method: Custom, customSettings: {endpoint: 'https://auth/'}}",
        "- {method: custom, custom: {endpoint: 'https://auth'}}",
        "- custom: {endpoint: 'https://auth'}",
    ],
)
def test_custom_in_every_spelling(entry: str) -> None:
    assert methods(entry) == (CustomSettings(HttpServer(url="https://auth")),)


@pytest.mark.parametrize("ca", ["caCertConfigMap", "caCert"])
@pytest.mark.parametrize("name", ["secretName", "secretRef"])
@pytest.mark.parametrize(
    "namespace", ["secretNamespace: azure-iot-operations, ", "namespace: azure-iot-operations, ", ""]
)
def test_custom_with_everything(ca: str, name: str, namespace: str) -> None:
    entry = f"""
    - method: Custom
      customSettings:
        endpoint: https://auth-server:8443/path
        {ca}: custom-ca
        auth: {{x509: {{{namespace}{name}: server-tls}}}}
        headers: {{header_key: header_value, X-Api-Key: hunter2}}
    """
    [method] = methods(entry, config_map("custom-ca", ca_crt=pair("server").certificate), server_tls())
    assert isinstance(method, CustomSettings)
    server = method.server
    assert server.url == "https://auth-server:8443/path"
    assert server.ca_pem is not None
    assert server.ca_pem.strip() == pair("server").certificate.strip()
    assert server.client_cert_pem is not None
    assert server.client_key_pem is not None
    assert server.headers == (("header_key", "header_value"), ("X-Api-Key", "hunter2"))
    assert "hunter2" not in repr(method)
    assert "PRIVATE" not in repr(method)


@pytest.mark.parametrize("method", ["Password", "PASSWORD"])
def test_password(method: str) -> None:
    entry = f"- {{method: {method}, passwordSettings: {{secretName: users}}}}"
    [settings] = methods(entry, secret("users", ada=HASH.encode(), bob=HASH.encode()))
    assert settings == PasswordSettings({"ada": HASH, "bob": HASH})
    assert "argon2" not in repr(settings)


def test_scram() -> None:
    [settings] = methods("- {method: scram, scramSettings: {secretRef: users}}", secret("users", ada=VERIFIER.encode()))
    assert isinstance(settings, ScramSettings)
    [verifier] = settings.users.values()
    assert isinstance(verifier, Verifier)
    assert verifier.iterations == 4096
    assert len(verifier.salt) == 16
    assert len(verifier.stored_key) == len(verifier.server_key) == 32


def test_references_leave_the_namespace_only_where_it_is_named() -> None:
    entry = "- {method: Password, passwordSettings: {secretName: users}}"
    elsewhere = secret("users", ada=HASH.encode()).replace("{name: users}", "{name: users, namespace: other}")
    [problem] = problems(together(authentication(entry), elsewhere))
    assert problem == (
        "0.yaml:15: spec.authenticationMethods[0].passwordSettings.secretName:"
        " there is no Secret 'users' in namespace azure-iot-operations, but in namespace other"
    )
    assert methods(entry.replace("users", "users, secretNamespace: other"), elsewhere)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("[]", "spec.authenticationMethods: must have at least one method"),
        ("- {}", "spec.authenticationMethods[0]: method is missing"),
        ("- method: X508", "'X508' is not Custom, ServiceAccountToken, X509, Password or Scram (did you mean X509?)"),
        ("- customSettings: {endpoint: 'https://a'}", "method is missing (did you mean method: Custom?)"),
        ("- {sat: {audiences: [a]}, custom: {endpoint: 'https://a'}}", "there must be one method in each entry"),
        (
            "- {method: Custom, serviceAccountTokenSettings: {audiences: [a]}}",
            "serviceAccountTokenSettings: belongs to method ServiceAccountToken, and the method is Custom",
        ),
        ("- {method: sat, sat: {audiences: [a]}, serviceAccountToken: {audiences: [a]}}", "mean the same: keep one"),
        ("- {method: Custom}", "customSettings is missing"),
        (
            "- {usernamePassword: {secretName: x}}",
            "the previews' usernamePassword is not supported; use method: Password",
        ),
        ("- {method: Custom, customSetings: {}}", "customSetings: there is no such key (did you mean customSettings?)"),
        ("- {method: Custom, customSettings: {}}", "customSettings: endpoint is missing"),
        ("- sat: {}", "sat: audiences is missing"),
        ("- sat: {audiences: []}", "sat.audiences: must have at least one audience"),
        ("- sat: {audiences: aio}", "sat.audiences: must be a list, not text"),
        ("- sat: {audiences: ['']}", "sat.audiences[0]: must not be empty"),
        ("- sat: {audiences: [1]}", "sat.audiences[0]: must be text, not a number; put it in quotes"),
        ("- custom: {endpoint: 'http://auth'}", "must begin with https:// (did you mean 'https://auth'?)"),
        ("- custom: {endpoint: 'auth'}", "endpoint: must begin with https://"),
        ("- custom: {endpoint: 'https://'}", "endpoint: is not a URL"),
        ("- custom: {endpoint: 'https://a:x'}", "endpoint: is not a URL"),
        ("- custom: {endpoint: 'https://a b'}", "endpoint: is not a URL"),
        ("- custom: {endpoint: 'https://a?x=1'}", "endpoint: must end with the path"),
        ("- custom: {endpoint: 'https://me:hunter2@a'}", "must not have a user name or password"),
        ("- custom: {endpoint: 'https://a', caCert: nope}", "there is no ConfigMap 'nope'"),
        ("- custom: {endpoint: 'https://a', caCert: a, caCertConfigMap: b}", "mean the same: keep one of them"),
        ("- custom: {endpoint: 'https://a', auth: {}}", "auth: x509 is missing"),
        ("- custom: {endpoint: 'https://a', auth: {x509: {}}}", "auth.x509: secretName is missing"),
        ("- custom: {endpoint: 'https://a', auth: {x509: {keyVault: {}}}}", "Azure Key Vault is not supported"),
        ("- custom: {endpoint: 'https://a', headers: {'a b': c}}", "is not the name of an HTTP header"),
        ("- custom: {endpoint: 'https://a', headers: {Host: c}}", "the broker sets this header itself"),
        ("- custom: {endpoint: 'https://a', headers: {x: a, X: b}}", "headers.X: is the same header as x"),
        ('- custom: {endpoint: "https://a", headers: {x: "hunter2\\r\\n"}}', "printable ASCII characters"),
        ("- custom: {endpoint: 'https://a', headers: {x: [hunter2]}}", "headers.x: must be text, not a list"),
        ("- x509: {additionalValidation: Some}", "'Some' is not None or AzureDeviceRegistry"),
        ("- x509: {trustedCa: a}", "x509.trustedCa: there is no such key (did you mean trustedClientCaCert?)"),
        ("- x509: {trustedClientCaCert: clientca}", "there is no ConfigMap 'clientca'"),
        ("- x509: {attributes: {secretName: x}, authorizationAttributes: {}}", "keep one of them"),
        ("- x509: {authorizationAttributes: a = b}", 'this is TOML, not YAML (did you mean a: "b"?)'),
        ("- x509: {authorizationAttributes: {a: b = c}}", 'this is TOML, not YAML (did you mean b: "c"?)'),
        ("- x509: {authorizationAttributes: nothing}", "must be a mapping (key: value), not text"),
        ("- custom: {endpoint: ''}", "endpoint: must not be empty"),
        ("- nothing", "spec.authenticationMethods[0]: must be a mapping"),
        ("- x509: {authorizationAttributes: {a: {}}}", "authorizationAttributes.a: subject is missing"),
        (
            "- x509: {authorizationAttributes: {a: {subject: CN = a}}}",
            "authorizationAttributes.a: attributes is missing",
        ),
        ("- x509: {authorizationAttributes: {a: {subject: nobody, attributes: {}}}}", "is no distinguished name"),
        (
            "- x509: {authorizationAttributes: {a: {subject: CN = a, attributes: {building: 17}}}}",
            "attributes.building: must be text, not a number; put it in quotes",
        ),
        (
            "- x509: {authorizationAttributes: {a: {subject: 'CN=a,O=b', attributes: {}},"
            " b: {subject: 'O = b, CN = a', attributes: {}}}}",
            "authorizationAttributes.b: 'b' is for the same subject as 'a': join them",
        ),
        ("- {method: Password, passwordSettings: {}}", "passwordSettings: secretName is missing"),
    ],
)
def test_what_is_wrong_with_a_method(entry: str, expected: str) -> None:
    wrong = problems(together(authentication(entry), client_ca()))
    assert any(expected in problem for problem in wrong), wrong
    assert not any("hunter2" in problem for problem in wrong)


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (b"a = 1", "'a' must be a table: [a], with subject and attributes"),
        (
            b"[a]\nsubject = 'CN=a'\n[a.attribute]",
            "there is no key 'attribute' in table 'a' (did you mean attributes?)",
        ),
        (b"a = " + b"[" * 5000, "the attributes are not TOML"),
        (b"[a]\nsubject = 1\n[a.attributes]", "table 'a' needs a subject, as text"),
        (b"[a]\nsubject = 'CN=a'", "table 'a' needs a table [a.attributes]"),
        (b"[a]\nsubject = 'nobody'\n[a.attributes]", "is no distinguished name"),
        (b"[a]\nsubject = 'CN=a'\n[a.attributes]\nb = 1", "attribute 'b' of table 'a' must be text; put it in quotes"),
        (b"[a]\nsubject: 'CN=a'", "the attributes are not TOML (at line 2, column 8)"),
        (b"[a]\nsubject='CN=a'\nattributes={}\n[b]\nsubject='cn = A'\nattributes={}", "is for the same subject as 'a'"),
    ],
)
def test_what_is_wrong_with_toml_attributes(toml: bytes, expected: str) -> None:
    text = together(
        authentication("- x509: {attributes: {secretName: my-toml}}"), client_ca(), secret("my-toml", a_toml=toml)
    )
    wrong = problems(text)
    assert any(expected in problem for problem in wrong), wrong


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "ConfigMap 'client-ca' holds no certificate"),
        ({"a": b"hello"}, "key 'a' of ConfigMap 'client-ca' holds no certificate in PEM format"),
        ({"a": pair("leaf").certificate}, "cannot be trusted: 'CN=leaf' is not the certificate of an authority"),
        ({"a": pair("Client CA", authority=True).key}, "holds a private key, which does not belong there"),
        ({"a": b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----"}, "cannot be read as a CRL (block 1)"),
    ],
)
def test_what_is_wrong_with_trusted_certificates(data: Mapping[str, bytes], expected: str) -> None:
    wrong = problems(together(authentication("- method: X509"), config_map("client-ca", **data)))
    assert any(expected in problem for problem in wrong), wrong


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hunter2", "is not an Argon2id hash"),
        (HASH.replace("argon2id", "argon2i"), "is not an Argon2id hash"),
        (HASH.replace("v=19", "v=16"), "is not an Argon2id hash"),
        (HASH.replace("m=8", "m=7"), "is an Argon2id hash with impossible parameters"),
        (HASH.replace("m=8", "m=99999999"), "is an Argon2id hash with impossible parameters"),
        (HASH.replace("t=1", "t=0"), "is an Argon2id hash with impossible parameters"),
        (HASH + "=", "is not an Argon2id hash"),
        ("hünter2", "is not ASCII text"),
        ("", "is not an Argon2id hash"),
    ],
)
def test_what_is_wrong_with_a_hash(value: str, expected: str) -> None:
    entry = "- {method: Password, passwordSettings: {secretName: users}}"
    wrong = problems(together(authentication(entry), secret("users", ada=value.encode())))
    assert len(wrong) == 1
    assert f"the value under key 'ada' of Secret 'users' {expected}" in wrong[0]
    assert "nter2" not in wrong[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hunter2", "is not a verifier"),
        (VERIFIER.replace("$4096:", "$4095:"), "number of iterations"),
        (VERIFIER.replace("$4096:", "$99999999:"), "number of iterations"),
        (VERIFIER.replace("SHA-256", "SHA-1"), "is not a verifier"),
        (VERIFIER.replace("gQ==", "gQ="), "is not a verifier"),
        (VERIFIER[:-5], "is not a verifier"),
    ],
)
def test_what_is_wrong_with_a_verifier(value: str, expected: str) -> None:
    entry = "- {method: Scram, scramSettings: {secretName: users}}"
    wrong = problems(together(authentication(entry), secret("users", ada=value.encode())))
    assert len(wrong) == 1
    assert expected in wrong[0]


@pytest.mark.parametrize("method", ["Password", "Scram"])
def test_a_secret_without_users_lets_nobody_in(method: str) -> None:
    entry = f"- {{method: {method}, {method.lower()}Settings: {{secretName: users}}}}"
    assert (
        "Secret 'users' is empty, so that nobody could log in"
        in problems(together(authentication(entry), secret("users")))[0]
    )


def test_a_user_who_could_not_log_in() -> None:
    entry = "- {method: Password, passwordSettings: {secretName: users}}"
    text = together(authentication(entry), manifest("Secret", "users", f"stringData: {{K8S-SAT-ada: {HASH!r}}}"))
    assert "'K8S-SAT-ada' cannot log in: a user name that begins with K8S-SAT stands for a token" in problems(text)[0]


def test_a_table_that_is_under_two_keys() -> None:
    entry = "- x509: {attributes: {secretName: my-toml}}"
    text = together(authentication(entry), client_ca(), secret("my-toml", a_toml=TOML, b_toml=TOML))
    assert "there are two tables 'root'" in problems(text)[0]
    text = together(authentication(entry), client_ca(), manifest("Secret", "my-toml", "data: {a: /w==}"))
    assert "the attributes are not UTF-8 text" in problems(text)[0]
    assert (
        "is empty; it must hold a TOML file"
        in problems(together(authentication(entry), client_ca(), secret("my-toml")))[0]
    )


def test_all_problems_are_told_at_once() -> None:
    text = f"""
    apiVersion: {V1}
    kind: BrokerListener
    metadata: {{name: A}}
    spec: {{ports: [{{port: 0, protocol: x}}], servcieType: y}}
    ---
    apiVersion: {V1}
    kind: BrokerAuthentication
    metadata: {{}}
    spec:
      authenicationMethods: []
    ---
    kind: Secret
    """
    assert len(problems(text)) == 8


@pytest.mark.parametrize("name", ["default", "authn"])
def test_the_products_own_authentication(name: str) -> None:
    [port] = configuration(listener(f"- {{port: 1883, authenticationRef: {name}}}")).ports
    assert port.authentication is not None
    assert port.authentication.name == name
    assert port.authentication.methods == (ServiceAccountTokenSettings(("aio-internal", "aio-mq")),)


def test_secrets_are_not_shown() -> None:
    text = together(
        authentication("- {method: Password, passwordSettings: {secretName: users}}"),
        secret("users", ada=HASH.encode()),
    )
    assert HASH[-20:] not in repr(loads(text))
