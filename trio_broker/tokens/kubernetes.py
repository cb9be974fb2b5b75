"""Token reviews and ServiceAccounts by the Kubernetes API, in a cluster or by a kubeconfig."""

import json
import os
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final
from urllib.parse import quote, urlsplit

import yaml
from attrs import field, frozen

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import HttpAnswer, HttpServer, JsonWebKeys, TokenReviewed
from trio_broker.errors import ConfigurationError
from trio_broker.https import Address, HttpsClient
from trio_broker.limits import ServerLimits

MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its own token and the API server's CA."""
DEFAULT_KUBECONFIG = Path("~/.kube/config")
MEANINGS = {
    401: ": it does not accept the broker's own credentials",
    403: ": the broker's own account lacks the right to do this",
}
"""What HTTP statuses of an API server mean to us."""


@frozen(kw_only=True)
class ClusterAccess:
    """How to reach an API server and what to show it: a client certificate (in `server`), a token, or a file with
    one.
    """

    server: HttpServer
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    resolve: Mapping[Address, Address] = field(factory=dict)


def in_cluster() -> ClusterAccess | None:
    """The access that a pod has by its mounted token; None outside a cluster."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (MOUNTED / "token").exists():
        return None
    name = f"[{host}]" if ":" in host else host
    server = HttpServer(url=f"https://{name}:{port}", ca_pem=_read(MOUNTED / "ca.crt", "the API server's CA"))
    return ClusterAccess(server=server, token_file=MOUNTED / "token")


def from_kubeconfig(path: Path | None = None) -> ClusterAccess:
    """The access of a kubeconfig's current context; without `path` that of $KUBECONFIG or ~/.kube/config.

    Raises ConfigurationError that says what is missing, or not supported here.
    """
    if path is None:
        path = _usual_kubeconfig()
    path = path.expanduser()
    try:
        config = yaml.safe_load(_read(path, "the kubeconfig"))
    except (yaml.YAMLError, ValueError):
        raise ConfigurationError(f"{path}: not YAML") from None
    try:
        return _Kubeconfig(path, config).access()
    except (AttributeError, TypeError, KeyError):
        raise ConfigurationError(f"{path}: not a kubeconfig") from None


def _usual_kubeconfig() -> Path:
    named = [name for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    if len(named) > 1:
        raise ConfigurationError("KUBECONFIG names several files; say which with --tokens kubernetes:FILE")
    return Path(named[0]) if named else DEFAULT_KUBECONFIG


UNSUPPORTED = {
    "insecure-skip-tls-verify": "give the API server's certificate-authority instead",
    "proxy-url": "the API server must be reachable directly",
    "exec": "use a token, a tokenFile or a client certificate",
    "auth-provider": "use a token, a tokenFile or a client certificate",
    "username": "use a token, a tokenFile or a client certificate",
    "as": "use the credentials of that user",
}
"""What a cluster or user of a kubeconfig may have that is refused, and what to do instead."""


@final
class _Kubeconfig:
    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self._path = path
        self._config = config

    def access(self) -> ClusterAccess:
        context = self._named("contexts", self._config.get("current-context"), "context")
        cluster = self._named("clusters", context.get("cluster"), "cluster")
        user = self._named("users", context.get("user"), "user")
        for holder in (cluster, user):
            for key, advice in UNSUPPORTED.items():
                if holder.get(key):
                    raise ConfigurationError(f"{self._path}: {key} is not supported: {advice}")
        url, resolve = self._url(cluster)
        token_file = user.get("tokenFile")
        return ClusterAccess(
            server=HttpServer(
                url=url,
                ca_pem=self._material(cluster, "certificate-authority"),
                client_cert_pem=self._material(user, "client-certificate"),
                client_key_pem=self._material(user, "client-key"),
            ),
            token=user.get("token") or None,
            token_file=self._path.parent / token_file if token_file else None,
            resolve=resolve,
        )

    def _url(self, cluster: Mapping[str, Any]) -> tuple[str, dict[Address, Address]]:
        """The URL, and where to connect to instead of its name if the certificate is for another."""
        url = cluster["server"]
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 443
        except ValueError:
            raise ConfigurationError(f"{self._path}: the server's URL cannot be understood") from None
        if parts.scheme != "https" or not host:
            raise ConfigurationError(f"{self._path}: the server's URL must begin with https://")
        name = cluster.get("tls-server-name")
        if not name:
            return url, {}
        return f"https://{name}:{port}{parts.path}", {(name.lower(), port): (host, port)}

    def _named(self, kind: str, name: object, field_name: str) -> Mapping[str, Any]:
        for item in self._config.get(kind) or ():
            if item["name"] == name:
                found: Mapping[str, Any] = item[field_name]
                return found
        raise ConfigurationError(f"{self._path}: there is no {field_name} {name!r}")

    def _material(self, holder: Mapping[str, Any], name: str) -> bytes | None:
        if data := holder.get(f"{name}-data"):
            try:
                return b64decode(data, validate=True)
            except ValueError:
                raise ConfigurationError(f"{self._path}: {name}-data is not Base64") from None
        if file := holder.get(name):
            return _read(self._path.parent / file, name)
        return None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read {what}: {error.strerror}") from None


@final
class KubernetesTokens:
    """Has tokens reviewed by an API server. Its own token is read anew each time, since it rotates."""

    def __init__(self, access: ClusterAccess, limits: ServerLimits | None = None) -> None:
        """Raises ConfigurationError if the certificates or the key cannot be used."""
        self._access = access
        try:
            self._client = HttpsClient(access.server, limits or ServerLimits(), access.resolve)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    async def review(self, token: str, audiences: tuple[str, ...]) -> TokenReviewed | Failed:
        """POST a TokenReview."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        answer = await self._request(
            "POST", "/apis/authentication.k8s.io/v1/tokenreviews", json.dumps(body).encode(), (200, 201)
        )
        if isinstance(answer, Failed):
            return answer
        status = answer.get("status")
        if answer.get("kind") != "TokenReview" or not isinstance(status, dict):
            return Failed("the API server's answer is not a TokenReview")
        user = _mapping(status.get("user"))
        reviewed = status.get("audiences")
        return TokenReviewed(
            status.get("authenticated") is True,
            str(user.get("username") or ""),
            tuple(item for item in reviewed if isinstance(item, str)) if isinstance(reviewed, list) else (),
            str(status.get("error") or ""),
        )

    async def annotations(self, namespace: str, name: str) -> Mapping[str, str] | Failed:
        """GET a ServiceAccount."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/serviceaccounts/{quote(name, safe='')}"
        answer = await self._request("GET", path, None, (200, 404))
        if isinstance(answer, Failed):
            return answer
        if answer.get("kind") not in ("ServiceAccount", "Status"):
            return Failed("the API server's answer is not a ServiceAccount")
        annotations = _mapping(_mapping(answer.get("metadata")).get("annotations"))
        return {key: value for key, value in annotations.items() if isinstance(value, str)}

    async def keys(self, key_id: str | None) -> JsonWebKeys | Failed:
        """Not asked for where an API server reviews the tokens."""
        return Failed("tokens are reviewed by the API server")

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._client.aclose()

    async def _request(
        self, method: str, path: str, body: bytes | None, fine: tuple[int, ...]
    ) -> Mapping[str, Any] | Failed:
        headers = [("accept", "application/json")]
        if body is not None:
            headers.append(("content-type", "application/json"))
        token = self._access.token
        if self._access.token_file is not None:
            try:
                token = self._access.token_file.read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                return Failed("the broker's own token cannot be read")
        if token is not None:
            headers.append(("authorization", f"Bearer {token}"))
        answer = await self._client.request(method, path, headers, body)
        if not isinstance(answer, HttpAnswer):
            return Failed(f"the API server could not be asked: {answer.kind}")
        if answer.status not in fine:
            meaning = MEANINGS.get(answer.status, "")
            return Failed(f"the API server answered with HTTP status {answer.status}{meaning}")
        try:
            value = json.loads(answer.body)
        except (ValueError, RecursionError):
            value = None
        return value if isinstance(value, dict) else Failed("the API server's answer is not a JSON object")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
