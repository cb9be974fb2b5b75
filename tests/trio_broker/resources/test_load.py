"""Files and directories, stand-ins, and what must hold of every set of files."""

import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trio_broker.resources.support import (
    NOW,
    V1,
    authentication,
    client_ca,
    listener,
    loads,
    loads_bytes,
    pair,
    secret,
    server_tls,
    together,
)
from tests.trio_broker.resources.test_authorization import FULL
from tests.trio_broker.resources.test_objects import BROKER
from trio_broker.resources import (
    AutomaticTls,
    CertificateSpec,
    Configuration,
    IssuerKind,
    KeyAlgorithm,
    ManualTls,
    Port,
    RotationPolicy,
    ServiceAccountTokenSettings,
    X509Settings,
    list_sources,
    load,
)
from trio_broker.resources.files import MAXIMUM_BUNDLE_BYTES

TLS = listener("- {port: 8883, tls: {manual: {secretName: server-tls}}}")


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return directory


def test_files_and_directories_are_one_set(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, b_yml=server_tls(), a_yaml=TLS, c_txt="not: [yaml", d_json="{")
    write(tmp_path / "sub", e_yaml="not: [read")
    assert load([tmp_path], now=NOW).problems == ()
    assert load([tmp_path / "a.yaml", tmp_path / "b.yml", tmp_path, tmp_path / "a.yaml"], now=NOW).problems == ()
    assert [problem.line for problem in load([tmp_path / "a.yaml"], now=NOW).problems] == [6]


class TestSources:
    """What a watcher has to look at."""

    def test_all_that_decides_once_and_in_order(self, tmp_path: Path) -> None:
        manifests, mount, bundle = tmp_path / "manifests", tmp_path / "mount", tmp_path / "tls"
        for directory in (manifests, mount / "..2026", bundle):
            directory.mkdir(parents=True)
        write(manifests, b_yml=TLS, a_yaml=client_ca(), c_txt="no manifest")
        write(mount / "..2026", ca_crt="x")
        (mount / "..data").symlink_to("..2026")
        (mount / "ca.crt").symlink_to("..data/ca.crt")
        (mount / "to.come").symlink_to("..data/to.come")
        write(bundle, tls_key="x", tls_crt="x")
        missing = tmp_path / "missing"
        given = [manifests / "b.yml", manifests, missing, manifests]
        configmaps, secrets = {"client-ca": mount, "other": missing / "ca.pem"}, {"server-tls": bundle}
        loaded = load(given, configmaps=configmaps, secrets=secrets, now=NOW)
        assert loaded.configuration is None
        assert list_sources(given, (*configmaps.values(), *secrets.values())) == (
            manifests / "b.yml",
            manifests,
            manifests / "a.yaml",
            missing,
            mount,
            mount / "ca.crt",
            missing / "ca.pem",
            bundle,
            bundle / "tls.crt",
            bundle / "tls.key",
        )

    def test_of_a_set_without_problems(self, tmp_path: Path) -> None:
        write(tmp_path, a_yaml=TLS, b_yaml=server_tls())
        loaded = load([tmp_path], now=NOW)
        assert loaded.problems == ()
        assert list_sources([tmp_path], []) == (tmp_path, tmp_path / "a.yaml", tmp_path / "b.yaml")

    def test_a_file_more_than_are_read_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trio_broker.resources.files.MAXIMUM_FILES", 2)
        write(tmp_path, **{f"{number}_yaml": "" for number in range(5)})
        assert [path.name for path in list_sources([tmp_path], [])[1:]] == ["0.yaml", "1.yaml", "2.yaml"]


def told(*paths: Path) -> list[str]:
    loaded = load(paths, now=NOW)
    assert loaded.configuration is None
    return [str(problem) for problem in loaded.problems]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert told(missing) == [f"{missing}: the file cannot be read: No such file or directory"]
    assert told(tmp_path) == [f"{tmp_path}: the directory has no file *.yaml or *.yml"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "the file cannot be read: Too many levels of symbolic links" in told(tmp_path / "loop")[0]
    os.mkfifo(tmp_path / "pipe.yaml")
    assert told(tmp_path) == [f"{tmp_path}: the directory has no file *.yaml or *.yml"]


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing", "\ufeff", "~"])
def test_an_empty_set(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, a_yaml=text) / "a.yaml"
    assert told(file) == [f"{file}: there is no BrokerListener, and so no port to listen on"]


def test_no_paths_at_all() -> None:
    assert told() == ["manifests: there is no BrokerListener, and so no port to listen on"]


def test_a_file_that_ends_early_does_not_make_its_rest_missing() -> None:
    loaded = loads(TLS, "a: [")
    assert [problem.message for problem in loaded.problems if "there is no" in problem.message] == []
    assert len(loaded.problems) == 1


@pytest.fixture
def tls_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "tls"
    directory.mkdir()
    made = pair("stand-in")
    # As Kubernetes mounts it.
    (directory / "..data").mkdir()
    (directory / "..data" / "tls.crt").write_bytes(made.certificate)
    (directory / "..data" / "tls.key").write_bytes(made.key)
    (directory / "tls.crt").symlink_to(directory / "..data" / "tls.crt")
    (directory / "tls.key").symlink_to(directory / "..data" / "tls.key")
    (directory / "..ignored").write_text("hunter2")
    return directory


def test_a_directory_stands_in_for_a_secret(tls_directory: Path) -> None:
    expected = ManualTls(pair("stand-in").certificate, pair("stand-in").key)
    for texts in [(TLS,), (TLS, server_tls())]:
        loaded = loads(*texts, secrets={"server-tls": tls_directory})
        assert loaded.configuration is not None
        assert loaded.configuration.ports[0].tls == expected
    elsewhere = TLS.replace("server-tls", "server-tls, secretNamespace: other")
    assert loads(elsewhere, secrets={"server-tls": tls_directory}).problems == ()


def test_a_file_stands_in_for_a_config_map(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(pair("Client CA", authority=True).certificate)
    loaded = loads(authentication("- method: X509"), configmaps={"client-ca": file})
    assert loaded.configuration is not None
    authenticated = loaded.configuration.ports[0].authentication
    assert authenticated is not None
    assert isinstance(authenticated.methods[0], X509Settings)


def test_a_directory_with_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_broker.resources.files.MAXIMUM_FILES", 1)
    write(tmp_path, a_yaml=listener(), b_yaml="")
    assert told(tmp_path) == [f"{tmp_path}: the directory has more than 1 files"]


def test_what_is_wrong_with_a_stand_in(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("x")
    loaded = loads(TLS, secrets={"server-tls": tmp_path})
    assert [str(problem) for problem in loaded.problems] == [
        f"{tmp_path}: Secret 'server-tls' has no key tls.key, which it needs",
        f"{tmp_path / 'tls.crt'}: key 'tls.crt' of Secret 'server-tls' holds no certificate in PEM format"
        " (-----BEGIN CERTIFICATE-----)",
    ]
    missing = tmp_path / "missing"
    assert "cannot be read" in str(loads(TLS, secrets={"server-tls": missing}).problems[-1])
    (tmp_path / "tls.key").write_bytes(b"x" * (MAXIMUM_BUNDLE_BYTES + 1))
    assert "has more than 1048576 bytes" in str(loads(TLS, secrets={"server-tls": tmp_path}).problems[-1])


def test_a_stand_in_that_nothing_refers_to(tls_directory: Path) -> None:
    [warning] = loads(listener(), secrets={"server-tls": tls_directory}).warnings
    assert warning.message == "--secret server-tls: nothing refers to it"


def test_the_missing_stand_in_is_suggested() -> None:
    [problem] = loads(TLS).problems
    assert problem.message.endswith("; --secret server-tls=PATH can stand in for it")


WHOLE = together(
    authentication("- method: X509\n- sat: {audiences: [a]}\n- custom: {endpoint: 'https://a'}").rstrip(),
    client_ca(),
    FULL,
    BROKER,
    secret("other"),
)
LINES = WHOLE.splitlines(keepends=True)
WORDS = st.sampled_from(sorted(set(re.findall(r"[A-Za-z0-9.{}\[\]:-]+", WHOLE))))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A set of manifests with some lines lost, doubled, cut, moved or with another word in them."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                del lines[number : number + draw(st.integers(1, 3))]
            case 1:
                lines.insert(number, lines[number])
            case 2:
                lines[number] = lines[number][: draw(st.integers(0, len(lines[number])))]
            case 3:
                lines[number] = " " * draw(st.integers(0, 8)) + lines[number].lstrip(" ")
            case 4:
                words = re.split(r"([A-Za-z0-9.{}\[\]:-]+)", lines[number])
                words[draw(st.integers(0, len(words) - 1))] = draw(WORDS)
                lines[number] = "".join(words)
    return "".join(lines).encode()


def test_the_set_to_be_damaged_is_right() -> None:
    assert loads(WHOLE).problems == ()


@settings(max_examples=100, deadline=None)
@given(st.one_of(damaged(), st.binary(max_size=100)))
def test_whatever_files_hold_there_is_a_configuration_or_problems_in_them(content: bytes) -> None:
    loaded = loads_bytes(content)
    assert (loaded.configuration is None) == bool(loaded.problems)
    lines = len(re.split(rb"\r\n|\r|\n", content))
    for problem in (*loaded.problems, *loaded.warnings):
        assert problem.message
        if problem.file.endswith("0.yaml"):
            assert 1 <= problem.line <= lines
        assert "\n" not in str(problem)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | WORDS, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(
    st.sampled_from(["BrokerListener", "BrokerAuthentication", "BrokerAuthorization", "Broker", "ConfigMap", "Secret"]),
    JSON,
    JSON,
)
def test_resources_of_any_shape_raise_nothing(kind: str, spec: object, data: object) -> None:
    version = "v1" if kind in ("ConfigMap", "Secret") else V1
    resource = {"apiVersion": version, "kind": kind, "metadata": {"name": "thing"}, "spec": spec, "data": data}
    loaded = loads_bytes(yaml.safe_dump(resource, allow_unicode=True).encode("utf-8", "surrogatepass"))
    assert loaded.problems


NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True)


def any_case(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from((text, text.lower(), text.upper(), text.swapcase(), text.capitalize()))


@st.composite
def ports(draw: st.DrawFn) -> tuple[dict[str, object], Port]:
    """A port as a manifest has it, and as a configuration has it."""
    number = draw(st.integers(1, 65_535))
    websocket, automatic, authenticated = (draw(st.booleans()) for _ in range(3))
    given_port: dict[str, object] = {"port": number}
    if websocket or draw(st.booleans()):
        given_port["protocol"] = draw(any_case("WebSockets" if websocket else "Mqtt"))
    tls = None
    if automatic:
        issuer_kind, algorithm = draw(st.sampled_from(IssuerKind)), draw(st.sampled_from(KeyAlgorithm))
        rotation, issuer = draw(st.sampled_from(RotationPolicy)), draw(NAMES)
        hours = draw(st.integers(2, 10_000))
        given_port["tls"] = {
            "mode": draw(any_case("Automatic")),
            "certManagerCertificateSpec": {
                "issuerRef": {"name": issuer, "kind": draw(any_case(issuer_kind.value))},
                "duration": f"{hours}h",
                "renewBefore": "1h",
                "privateKey": {
                    "algorithm": draw(any_case(algorithm.value)),
                    "rotationPolicy": draw(any_case(rotation.value)),
                },
            },
        }
        tls = AutomaticTls(
            CertificateSpec(
                issuer_name=issuer,
                issuer_kind=issuer_kind,
                duration=hours * 3600,
                renew_before=3600,
                algorithm=algorithm,
                rotation_policy=rotation,
            )
        )
    if authenticated:
        given_port["authenticationRef"] = "my-auth"
    port = Port(listener="x", namespace="x", service_name="x", number=number, websocket=websocket, tls=tls)
    return given_port, port


@settings(deadline=None)
@given(
    st.lists(ports(), min_size=1, max_size=5, unique_by=lambda port: port[1].number),
    NAMES,
    NAMES,
    st.lists(st.text(min_size=1, max_size=10).filter(lambda text: text.isprintable()), min_size=1, max_size=3),
    st.data(),
)
def test_a_set_that_is_right_comes_to_what_it_says(
    given_ports: list[tuple[dict[str, object], Port]],
    name: str,
    namespace: str,
    audiences: list[str],
    data: st.DataObject,
) -> None:
    metadata = {"namespace": namespace}
    resources = [
        {
            "apiVersion": V1,
            "kind": "BrokerListener",
            "metadata": {**metadata, "name": name},
            "spec": {"serviceType": data.draw(any_case("NodePort")), "ports": [port for port, _ in given_ports]},
        },
        {
            "apiVersion": V1,
            "kind": "BrokerAuthentication",
            "metadata": {**metadata, "name": "my-auth"},
            "spec": {
                "authenticationMethods": [
                    {
                        "method": data.draw(any_case("ServiceAccountToken")),
                        "serviceAccountTokenSettings": {"audiences": audiences},
                    }
                ]
            },
        },
    ]
    loaded = loads_bytes(yaml.safe_dump_all(resources, allow_unicode=True).encode())
    assert loaded.problems == ()
    found: Configuration | None = loaded.configuration
    assert found is not None
    for port, (given_port, expected) in zip(found.ports, given_ports, strict=True):
        assert (port.listener, port.namespace, port.service_name) == (name, namespace, name)
        assert (port.number, port.websocket, port.tls) == (expected.number, expected.websocket, expected.tls)
        if "authenticationRef" in given_port:
            assert port.authentication is not None
            assert port.authentication.methods == (ServiceAccountTokenSettings(tuple(audiences)),)
        else:
            assert port.authentication is None
