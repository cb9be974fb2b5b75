"""trio-broker check, and the options that every command with manifests has."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.trio_broker.resources.support import (
    AUTOMATIC,
    authentication,
    client_ca,
    listener,
    pair,
    server_tls,
    together,
)
from trio_broker.cli.check import check
from trio_broker.cli.manifest_options import (
    ManifestOptions,
    Resolve,
    manifest_options,
    parse_resolve,
    parse_tokens,
)
from trio_broker.tokens import TokensJwks, TokensKubernetes, TokensLocal, TokensOidc


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(check, [str(argument) for argument in arguments])


def write(directory: Path, text: str) -> Path:
    file = directory / "manifest.yaml"
    file.write_text(text)
    return file


def test_manifests_that_are_right_are_summed_up_in_one_line(tmp_path: Path) -> None:
    ports = f"""
    - port: 1883
    - {{port: 8443, protocol: WebSockets, authenticationRef: default, tls: {AUTOMATIC}}}
    """
    other = authentication("- method: X509\n- sat: {audiences: [a]}").replace("{name: default}", "{name: other}")
    other = other.replace("spec:\n  ports", "spec:\n  serviceType: LoadBalancer\n  ports", 1)
    result = run(write(tmp_path, together(listener(ports), other, client_ca())))
    assert result.stderr == ""
    assert result.exit_code == 0
    assert result.stdout == (
        "The manifests are right. default: port 1883 (MQTT, no authentication),"
        " port 8443 (WebSocket over TLS, ServiceAccountToken);"
        " other: port 8883 (MQTT over TLS, X509 then ServiceAccountToken)\n"
    )


def test_problems_and_warnings_are_a_line_each(tmp_path: Path) -> None:
    file = write(tmp_path, together(listener("- port: 0\n- prot: 1"), server_tls()))
    result = run(file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"error: {file}:6: spec.ports[0].port: must be from 1 to 65535",
        f"error: {file}:7: spec.ports[1]: port is missing",
        f"error: {file}:7: spec.ports[1].prot: there is no such key (did you mean port?)",
        f"warning: {file}:12: metadata: Secret 'server-tls' is not used",
    ]


def test_warnings_alone_are_no_failure(tmp_path: Path) -> None:
    result = run(write(tmp_path, together(listener(), server_tls())))
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert result.stdout.startswith("The manifests are right. ")


def test_stand_ins(tmp_path: Path) -> None:
    file = write(tmp_path, listener("- {port: 8883, tls: {manual: {secretName: server-tls}}}"))
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "tls.crt").write_bytes(pair().certificate)
    (tmp_path / "tls" / "tls.key").write_bytes(pair().key)
    assert run(file).exit_code == 2
    assert run(file, "--secret", f"server-tls={tmp_path / 'tls'}").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "give at least one MANIFEST"),
        (("/missing.yaml",), "Path '/missing.yaml' does not exist"),
        (("/", "--secret", "x"), "'x': write NAME=PATH"),
        (("/", "--secret", "=/"), "'=/': write NAME=PATH"),
        (("/", "--configmap", "x=/missing"), "there is no file or directory '/missing'"),
        (("/", "--configmap", "x=/", "--configmap", "x=/"), "'x' is given twice; put its files into one directory"),
        (("/", "--resolve", "a:1=b:2", "--resolve", "A:1=c:2"), "a:1 is given twice"),
        (("/", "--tokens", "x"), "'x' is not kubernetes[:KUBECONFIG], jwks:FILE-OR-URL, oidc:ISSUER or local[:DIR]"),
    ],
)
def test_mistakes_on_the_command_line(arguments: tuple[str, ...], expected: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auth-server:443=127.0.0.1:8443", Resolve("auth-server", 443, "127.0.0.1", 8443)),
        ("Auth.Example:443=[::1]:8443", Resolve("auth.example", 443, "::1", 8443)),
        ("a:1=localhost:65535", Resolve("a", 1, "localhost", 65535)),
    ],
)
def test_resolve(text: str, expected: Resolve) -> None:
    assert parse_resolve(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1", "there is no equals sign"),
        ("a=b:1", "'a' is not a port"),
        ("a:0=b:1", "'0' is not a port"),
        ("a:1=b:65536", "'65536' is not a port"),
        (":1=b:1", "'' is not a host"),
        ("a:1=::1:2", "'::1' is not a host"),
        ("a:1=[x]:2", "'x' does not appear to be an IPv4 or IPv6 address"),
        ("a/b:1=c:2", "'a/b' is not a host"),
    ],
)
def test_what_is_wrong_with_resolve(text: str, expected: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        parse_resolve(text)
    assert expected in caught.value.message
    assert caught.value.message.endswith("; write HOST:PORT=ADDRESS:PORT")


def test_tokens(tmp_path: Path) -> None:
    file = write(tmp_path, "{}")
    assert parse_tokens("kubernetes") == TokensKubernetes(None)
    assert parse_tokens(f"kubernetes:{file}") == TokensKubernetes(file)
    assert parse_tokens(f"jwks:{file}") == TokensJwks(file)
    assert parse_tokens("jwks:https://issuer/keys") == TokensJwks("https://issuer/keys")
    assert parse_tokens("oidc:https://issuer/") == TokensOidc("https://issuer/")
    assert parse_tokens("local") == TokensLocal(Path(".session"))
    assert parse_tokens("local:/tmp/x") == TokensLocal(Path("/tmp/x"))


@pytest.mark.parametrize(
    "text",
    [
        "", "Kubernetes", "kubernetes:", "kubernetes:/missing", "jwks", "jwks:", "jwks:/missing", "jwks:http://a/k",
        "jwks:https://", "oidc:", "oidc:issuer", "oidc:http://a", "oidc:https://u:p@a", "oidc:https://a:x", "local:",
    ],
)  # fmt: skip
def test_what_is_wrong_with_tokens(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_tokens(text)


def test_other_commands_get_the_same_options_and_a_configuration(tmp_path: Path) -> None:
    seen: list[ManifestOptions] = []

    @click.command()
    @manifest_options
    @click.option("--other")
    def command(manifests: ManifestOptions, other: str) -> None:
        seen.append(manifests)
        click.echo(f"{other} {manifests.configuration().ports[0].number}")

    file = write(tmp_path, together(listener(), server_tls()))
    result = CliRunner().invoke(command, [str(file), "--other", "x", "--tokens", "local", "--resolve", "a:1=b:2"])
    assert result.stdout == "x 1883\n"
    assert result.stderr.startswith("warning: ")
    [options] = seen
    assert options == ManifestOptions(
        manifests=(file,),
        configmaps={},
        secrets={},
        resolve=(Resolve("a", 1, "b", 2),),
        tokens=TokensLocal(),
    )
    result = CliRunner().invoke(command, [str(write(tmp_path, "a"))])
    assert result.exit_code == 2
    assert result.stdout == ""
