"""Kubernetes clusters for tests: a stand-in that is strict about what it is asked, and the one of $KUBECONFIG.

The stand-in knows what the published API says of TokenReview (authentication.k8s.io/v1) and ServiceAccount (v1), and
answers as an API server does. The real one is used only when KUBECONFIG is set; the tests then make service accounts
in the namespace "default", by kubectl, and remove them.
"""

import os
import subprocess
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import jwt
import trustme
import yaml

from tests.processes import DEADLINE
from tests.trio_broker.tokens.https_server import Answer, Asked, HttpsServer, https_server
from trio_broker.tokens.issuer import LocalIssuer

NAMESPACE = "default"
BROKER_TOKEN = "the-broker-itself"
CLUSTERS = ("stand-in", "real") if os.environ.get("KUBECONFIG") else ("stand-in",)
"""What a test with the parameter `cluster` runs against."""


class Cluster(Protocol):
    """What tests need of a cluster; names of service accounts are made unique by whoever needs that."""

    kubeconfig: Path

    def create(self, account: str, annotations: dict[str, str]) -> None:
        """Make a service account."""

    def delete(self, account: str) -> None:
        """Remove it, and with it its tokens' validity."""

    def token(self, account: str, audience: str) -> str:
        """A token that is valid for ten minutes."""


class StandIn:
    """An API server whose answers are those of a real one. What is not as published ends in `violations`."""

    def __init__(self, directory: Path, server: HttpsServer, authority: trustme.CA) -> None:
        self.server = server
        self.violations: list[str] = []
        self.accounts: dict[str, dict[str, str]] = {}
        self.bearers = {BROKER_TOKEN}
        self.certificates = {"broker"}
        self.kubeconfig = directory / "config"
        self._issuer = LocalIssuer(directory / "issuer")
        server.answer(self.answer)
        self.write_kubeconfig(
            cluster={"certificate-authority-data": b64encode(authority.cert_pem.bytes()).decode()},
            user={"token": BROKER_TOKEN},
        )

    def write_kubeconfig(self, *, cluster: dict[str, Any], user: dict[str, Any]) -> None:
        """A kubeconfig for the server."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [
                {"name": "there", "context": {"cluster": "x", "user": "x"}},
                {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "elsewhere"}},
            ],
            "clusters": [{"name": "c", "cluster": {"server": self.server.url} | cluster}],
            "users": [{"name": "u", "user": user}],
            "preferences": {},
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def create(self, account: str, annotations: dict[str, str]) -> None:
        self.accounts[account] = annotations

    def delete(self, account: str) -> None:
        del self.accounts[account]

    def token(self, account: str, audience: str, duration: float = 600) -> str:
        return self._issuer.mint(account, audiences=[audience], now=time.time(), duration=duration, namespace=NAMESPACE)

    def answer(self, asked: Asked) -> Answer:
        """As an API server answers."""
        try:
            return self._answer(asked)
        except AssertionError as error:
            self.violations.append(f"{asked.method} {asked.path}: {error}")
            return _status(400, "BadRequest")

    def _answer(self, asked: Asked) -> Answer:
        assert asked.headers.get("accept") in ("application/json", "*/*"), "no JSON is accepted"
        authorization = asked.headers.get("authorization")
        if authorization is not None:
            scheme, _, bearer = authorization.partition(" ")
            assert scheme == "Bearer", "the authorization is no bearer token"
            if bearer not in self.bearers:
                return _status(401, "Unauthorized")
        elif asked.certificate not in self.certificates:
            return _status(403, "Forbidden")  # system:anonymous
        if asked.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            return self._review(asked)
        head, _, account = asked.path.rpartition("/")
        assert head == f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", "there is no such path"
        assert (asked.method, asked.body) == ("GET", b""), "not a plain GET"
        if account not in self.accounts:
            return _status(404, "NotFound")
        metadata: dict[str, object] = {"name": account, "namespace": NAMESPACE, "uid": str(uuid.uuid4())}
        if self.accounts[account]:
            metadata["annotations"] = self.accounts[account]
        return 200, {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": metadata}

    def _review(self, asked: Asked) -> Answer:
        assert asked.method == "POST", "a TokenReview is created"
        assert asked.headers.get("content-type") == "application/json", "the body's type is not JSON"
        body = asked.json()
        assert set(body) == {"apiVersion", "kind", "spec"}, f"fields {set(body)}"
        assert (body["apiVersion"], body["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
        spec = body["spec"]
        assert set(spec) == {"token", "audiences"}, f"fields {set(spec)} of spec"
        assert isinstance(spec["token"], str), "the token is no string"
        assert spec["audiences"], "no audiences"
        assert all(isinstance(audience, str) for audience in spec["audiences"]), "audiences are no strings"
        review = {"metadata": {"managedFields": []}, "status": self._verdict(spec["token"], spec["audiences"])}
        return 201, body | review

    def _verdict(self, token: str, audiences: list[str]) -> dict[str, object]:
        try:
            key = jwt.PyJWK(self._issuer.jwks()["keys"][0])
            claims = jwt.decode(token, key, algorithms=["ES256"], audience=audiences)
        except jwt.ExpiredSignatureError:
            return {"user": {}, "error": "[invalid bearer token, service account token has expired]"}
        except jwt.InvalidAudienceError:
            return {"user": {}, "error": f"token audiences are invalid for the target audiences {audiences}"}
        except jwt.PyJWTError:
            return {"user": {}, "error": "[invalid bearer token, square/go-jose: error in cryptographic primitive]"}
        account = claims["kubernetes.io"]["serviceaccount"]
        if account["name"] not in self.accounts:
            return {"user": {}, "error": "[invalid bearer token, serviceaccounts not found]"}
        return {
            "authenticated": True,
            "user": {
                "username": claims["sub"],
                "uid": account["uid"],
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]},
            },
            "audiences": [audience for audience in audiences if audience in claims["aud"]],
        }


def _status(code: int, reason: str) -> Answer:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": reason,
        "reason": reason,
        "code": code,
    }


@contextmanager
def stand_in(directory: Path, authority: trustme.CA, *names: str) -> Iterator[StandIn]:
    """A stand-in that runs; in the end nothing may have been asked that is not as published."""
    with https_server(authority, *names) as server:
        cluster = StandIn(directory, server, authority)
        yield cluster
        assert not cluster.violations


class Real:
    """The cluster of $KUBECONFIG, by kubectl. Its user must be allowed to create TokenReviews."""

    def __init__(self) -> None:
        self.kubeconfig = Path(os.environ["KUBECONFIG"])

    def create(self, account: str, annotations: dict[str, str]) -> None:
        self._kubectl("create", "serviceaccount", account)
        pairs = [f"{key}={value}" for key, value in annotations.items()]
        self._kubectl("annotate", "serviceaccount", account, *pairs)

    def delete(self, account: str) -> None:
        self._kubectl("delete", "serviceaccount", account)

    def token(self, account: str, audience: str) -> str:
        return self._kubectl("create", "token", account, f"--audience={audience}", "--duration=10m").strip()

    def _kubectl(self, *arguments: str) -> str:
        result = subprocess.run(
            ["kubectl", f"--namespace={NAMESPACE}", *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout
