"""A broker that runs by manifests in the test's own loop, and a way to write manifests."""

import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import argon2
import trio
import trustme
import yaml
from attrs import field, frozen

from mqttcore import Connect
from tests.trio_broker import support
from tests.trio_broker.support import running
from trio_broker.client import Client, open_client
from trio_broker.deployment import Deployment
from trio_broker.profiles import DEFAULT_PROFILE
from trio_broker.resources import Loaded, load
from trio_broker.settings import parse_settings
from trio_broker.tokens import TokensLocal

PATIENCE = 60.0
"""Seconds after which a test fails."""
V1 = "mqttbroker.iotoperations.azure.com/v1"
_HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

# Below those that the system gives out by itself, and other ones in each process: nobody takes them but we.
_NUMBERS = itertools.cycle(range(20_000 + os.getpid() % 200 * 60, 20_000 + os.getpid() % 200 * 60 + 60))


def free_port() -> int:
    """A port that is free, and another one than the last times."""
    for number in _NUMBERS:
        try:
            socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            continue
        return number
    raise AssertionError


# ------------------------------------------------------------------------------------------------------- manifests


def resource(kind: str, name: str, api_version: str = V1, **fields: Any) -> dict[str, Any]:
    """A resource; `fields` stand beside its metadata."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def listener(*ports: Mapping[str, Any], name: str = "listener") -> dict[str, Any]:
    """A BrokerListener."""
    return resource("BrokerListener", name, spec={"ports": [*ports]})


def port(number: int, authentication: str = "", authorization: str = "", **fields: Any) -> dict[str, Any]:
    """A port of a BrokerListener."""
    found: dict[str, Any] = {"port": number, **fields}
    if authentication:
        found["authenticationRef"] = authentication
    if authorization:
        found["authorizationRef"] = authorization
    return found


MANUAL: dict[str, Any] = {"mode": "Manual", "manual": {"secretName": "server"}}


def automatic(*names: str) -> dict[str, Any]:
    """The `tls` of a port whose certificate is for these names, too."""
    spec: dict[str, Any] = {"issuerRef": {"name": "local", "kind": "Issuer"}}
    return {
        "mode": "Automatic",
        "certManagerCertificateSpec": {**spec, **({"san": {"dns": [*names]}} if names else {})},
    }


def authentication(*methods: Mapping[str, Any], name: str = "login") -> dict[str, Any]:
    """A BrokerAuthentication."""
    return resource("BrokerAuthentication", name, spec={"authenticationMethods": [*methods]})


PASSWORD: dict[str, Any] = {"method": "Password", "passwordSettings": {"secretName": "users"}}


def users(**passwords: str) -> dict[str, Any]:
    """The Secret that PASSWORD asks for."""
    hashes = {name: _HASHER.hash(password, salt=b"saltsalt") for name, password in passwords.items()}
    return resource("Secret", "users", api_version="v1", stringData=hashes)


def x509(**settings: Any) -> dict[str, Any]:
    """A method X509 that trusts the ConfigMap client-ca."""
    return {"method": "X509", "x509Settings": {"trustedClientCaCert": "client-ca", **settings}}


def config_map(name: str, content: bytes) -> dict[str, Any]:
    """A ConfigMap with one key."""
    return resource("ConfigMap", name, api_version="v1", data={"ca.pem": content.decode()})


def authorization(
    publish: Iterable[str] = (), subscribe: Iterable[str] = (), name: str = "rules", **principals: Any
) -> dict[str, Any]:
    """A BrokerAuthorization that lets ann connect, or `principals`, and do what is listed."""
    resources: list[dict[str, Any]] = [{"method": "Connect"}]
    for method, topics in (("Publish", publish), ("Subscribe", subscribe)):
        if topics:
            resources.append({"method": method, "topics": [*topics]})
    rule = {"principals": principals or {"usernames": ["ann"]}, "brokerResources": resources}
    return resource("BrokerAuthorization", name, spec={"authorizationPolicies": {"rules": [rule]}})


def device(name: str, enabled: bool) -> dict[str, Any]:
    """A Device of the registry."""
    version = "namespaces.deviceregistry.microsoft.com/v1"
    return resource("Device", name, api_version=version, spec={"enabled": enabled})


def server_pair(directory: Path, authority: trustme.CA) -> ssl.SSLContext:
    """Write a server's certificate for 127.0.0.1 as the files of a Secret; the context of its clients."""
    directory.mkdir(exist_ok=True)
    issued = authority.issue_cert("127.0.0.1", "localhost")
    (directory / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (directory / "tls.key").write_bytes(issued.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# ------------------------------------------------------------------------------------------------------ the broker


@frozen
class Stage:
    """A deployment that runs, and the files that it runs by."""

    deployment: Deployment
    run: support.Running
    directory: Path
    secrets: Mapping[str, Path] = field(factory=dict)

    @property
    def manifest(self) -> Path:
        return self.directory / "manifest.yaml"

    def write(self, *resources: Mapping[str, Any]) -> None:
        """Put these in the place of the manifests that are there."""
        self.manifest.write_text(yaml.safe_dump_all(resources))

    def load(self) -> Loaded:
        return load([self.manifest], secrets=self.secrets)

    async def reload(self, *resources: Mapping[str, Any]) -> dict[str, Any]:
        """Reload, with these manifests if there are any; what the log has to say about it."""
        if resources:
            self.write(*resources)
        before = len(self.outcomes)
        await self.deployment.reload(self.load, self.run.server)
        [outcome] = self.outcomes[before:]
        return outcome

    async def reloaded(self, *resources: Mapping[str, Any]) -> dict[str, Any]:
        """As `reload`, which must succeed."""
        outcome = await self.reload(*resources)
        assert outcome["event"] == "reloaded", outcome
        return outcome

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return [each for each in self.run.events if each["event"] in ("reloaded", "reload_refused")]

    @asynccontextmanager
    async def client(self, number: int, client_id: str = "c", **fields: Any) -> AsyncIterator[Client]:
        """A client at a port; `tls`, `websocket` and `session` are open_client's, the rest is CONNECT's."""
        options = {name: fields.pop(name) for name in ("tls", "websocket", "session") if name in fields}
        async with open_client(
            Connect(client_id=client_id, **fields), host="127.0.0.1", port=number, **options
        ) as client:
            yield client


@asynccontextmanager
async def deployed(
    directory: Path,
    *resources: Mapping[str, Any],
    settings: Iterable[str] = (),
    secrets: Mapping[str, Path] | None = None,
) -> AsyncIterator[Stage]:
    """Run by these manifests; at the end nothing of it may be left."""
    wanted = parse_settings(settings)
    deployment = Deployment(
        profile=DEFAULT_PROFILE,
        settings=wanted,
        bind=["127.0.0.1"],
        tokens=TokensLocal(directory / "session"),
        resolve={},
    )
    (directory / "manifest.yaml").write_text(yaml.safe_dump_all(resources))
    loaded = load([directory / "manifest.yaml"], secrets=secrets)
    assert loaded.configuration is not None, loaded.problems
    deployment.start(loaded.configuration, loaded.warnings)
    with trio.fail_after(PATIENCE):
        async with running(
            *deployment.listeners,
            limits=deployment.running.limits,
            bounds=wanted.server_limits,
            perform=deployment.perform,
        ) as run:
            run.nursery.start_soon(deployment.close_in_the_end, run.server.log)
            yield Stage(deployment, run, directory, secrets or {})
            assert not run.logged("internal_error")
    assert all(each.socket.fileno() == -1 for each in deployment.listeners)
