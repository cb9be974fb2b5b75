"""Manifests for tests: text in, problems and configuration out."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent, indent

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from trio_broker.resources import Configuration, Loaded, load

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V1 = "mqttbroker.iotoperations.azure.com/v1"


def loads(
    *texts: str, configmaps: Mapping[str, Path] | None = None, secrets: Mapping[str, Path] | None = None
) -> Loaded:
    """What comes of manifests, each in a file of its own: 0.yaml, 1.yaml, ..."""
    return loads_bytes(*(dedent(text).encode() for text in texts), configmaps=configmaps, secrets=secrets)


def loads_bytes(
    *contents: bytes, configmaps: Mapping[str, Path] | None = None, secrets: Mapping[str, Path] | None = None
) -> Loaded:
    """As `loads`, of bytes."""
    with TemporaryDirectory() as directory:
        for number, content in enumerate(contents):
            Path(directory, f"{number}.yaml").write_bytes(content)
        return load([Path(directory)], configmaps=configmaps, secrets=secrets, now=NOW)


def configuration(*texts: str) -> Configuration:
    """The configuration of manifests that are right."""
    loaded = loads(*texts)
    assert loaded.problems == ()
    assert loaded.configuration is not None
    return loaded.configuration


def problems(*texts: str) -> list[str]:
    """The problems of manifests that are wrong, without the directory."""
    loaded = loads(*texts)
    assert loaded.configuration is None
    assert loaded.problems
    return [_short(str(problem)) for problem in loaded.problems]


def warnings(*texts: str) -> list[str]:
    """The warnings of manifests that are right, without the directory."""
    loaded = loads(*texts)
    assert loaded.problems == ()
    return [_short(str(problem)) for problem in loaded.warnings]


def _short(text: str) -> str:
    return re.sub(r"\S*/(\d+\.yaml)", r"\1", text)


def listener(ports: str = "- port: 1883", *, name: str = "default", extra: str = "") -> str:
    """A BrokerListener; ports begin in line 6."""
    return "\n".join(
        (
            f"apiVersion: {V1}",
            "kind: BrokerListener",
            f"metadata: {{name: {name}}}",
            "spec:" if not extra else f"spec:\n  {extra}",
            "  ports:",
            indent(dedent(ports).strip(), "    "),
            "",
        )
    )


def authentication(methods: str, *, name: str = "auth", uses: str | None = None) -> str:
    """A listener with a TLS port that uses it, and a BrokerAuthentication whose methods begin in line 15."""
    port = f"""
    - port: 8883
      authenticationRef: {uses or name}
      tls: {AUTOMATIC}
    """
    return "\n".join(
        (
            listener(port).rstrip(),
            "---",
            f"apiVersion: {V1}",
            "kind: BrokerAuthentication",
            f"metadata: {{name: {name}}}",
            "spec:",
            "  authenticationMethods:",
            indent(dedent(methods).strip("\n"), "    "),
            "",
        )
    )


AUTOMATIC = "{mode: Automatic, certManagerCertificateSpec: {issuerRef: {name: ca, kind: Issuer}}}"


def manifest(kind: str, name: str, body: str, version: str = "v1") -> str:
    """Any resource."""
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\n{dedent(body)}\n"


@frozen
class Pair:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes
    encrypted_key: bytes


@cache
def pair(name: str = "test", *, authority: bool = False, start: int = -3650, end: int = 36_500) -> Pair:
    """A self-signed certificate, valid from `start` to `end` days after NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW + timedelta(days=start))
        .not_valid_after(NOW + timedelta(days=end))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    form = PrivateFormat.PKCS8
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, form, NoEncryption()),
        key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")),
    )


def config_map(name: str, **data: bytes) -> str:
    """A ConfigMap; underscores in keys become dots."""
    return _data("ConfigMap", "data", name, data)


def secret(name: str, **data: bytes) -> str:
    """A Secret; underscores in keys become dots."""
    return _data("Secret", "stringData", name, data)


def _data(kind: str, field: str, name: str, data: Mapping[str, bytes]) -> str:
    entries = [f"  {key.replace('_', '.')}: |\n{indent(value.decode(), '    ')}" for key, value in data.items()]
    return manifest(kind, name, "\n".join([f"{field}:" if entries else "", *entries]))


def together(*texts: str) -> str:
    """Several documents."""
    return "\n---\n".join(texts)


def client_ca(name: str = "client-ca") -> str:
    """A ConfigMap with a CA."""
    return config_map(name, ca_pem=pair("Client CA", authority=True).certificate)


def server_tls(name: str = "server-tls") -> str:
    """A Secret with a certificate and its key."""
    made = pair("server")
    return secret(name, tls_crt=made.certificate, tls_key=made.key)
