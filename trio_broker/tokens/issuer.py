"""A local issuer of service account tokens: what a cluster's API server is to `kubectl create token`."""

import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

import jwt
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import JsonWebKeys
from trio_broker.atomic import create_atomically, write_atomically
from trio_broker.errors import ConfigurationError
from trio_broker.resources.identity import DEFAULT_NAMESPACE
from trio_broker.tokens.source import LOCAL, KeySource

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""The `iss` of the tokens, as a cluster's own issuer writes it."""
KEY_FILE = "issuer.key"
ACCOUNTS_FOLDER = "service-accounts"

# The manifest is read for every client: libyaml, where there is one, takes a tenth of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@final
class LocalIssuer:
    """The issuer of one directory: its key in `issuer.key`, ServiceAccounts in `service-accounts/`."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made before it is needed.

        Raises ConfigurationError if there is a key that cannot be read; so does whatever makes one and cannot.
        """
        self._directory = directory
        self._path = directory / KEY_FILE
        self._key = self._find_key()

    def _failure(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"{self._path}: {error.strerror}")

    def _read_key(self) -> ec.EllipticCurvePrivateKey:
        """Raises OSError, and ConfigurationError for what is no key of ours."""
        path = self._path
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError):
            raise ConfigurationError(f"{path}: not a private key; remove it to have a new one made") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigurationError(f"{path}: not a key of the curve P-256; remove it to have a new one made")
        return key

    def _find_key(self) -> ec.EllipticCurvePrivateKey | None:
        try:
            return self._read_key()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure(error) from None

    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        self._key = self._key or self._find_key() or self._make_key()
        return self._key

    def _make_key(self) -> ec.EllipticCurvePrivateKey:
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            self._make_directory()
            # Of two commands that start together in a new directory, the second takes what the first has made.
            create_atomically(self._path, pem, mode=0o600)
            return self._read_key()
        except OSError as error:
            raise self._failure(error) from None

    def _make_directory(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The issuer's public key as a JSON Web Key Set."""
        key: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._signing_key().public_key()))
        return {"keys": [key | {"kid": self._key_id(key), "alg": "ES256", "use": "sig"}]}

    def source(self) -> KeySource:
        """The key, for PublishedKeys: the one that is in the directory now."""

        async def fetch() -> JsonWebKeys | Failed:
            try:
                self._key = self._read_key()
            except ConfigurationError as error:
                return Failed(str(error))
            except OSError as error:
                return Failed(str(self._failure(error)))
            return tuple(self.jwks()["keys"])

        return KeySource(fetch, *LOCAL)

    def mint(
        self,
        name: str,
        *,
        audiences: Iterable[str],
        now: float,
        duration: float,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> str:
        """A token for a ServiceAccount that is valid for `duration` seconds from `now` (Unix seconds)."""
        claims = {
            "aud": list(audiences),
            "exp": int(now + duration),
            "iat": int(now),
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{namespace}/{name}"))},
            },
            "nbf": int(now),
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return jwt.encode(
            claims, self._signing_key(), algorithm="ES256", headers={"kid": self.jwks()["keys"][0]["kid"]}
        )

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        """Write a ServiceAccount's manifest with these annotations beside those that it has."""
        document = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "annotations": {**self.annotations(namespace, name), **annotations},
            },
        }
        path = self._account_path(namespace, name)
        try:
            self._make_directory()
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, yaml.safe_dump(document, sort_keys=False).encode(), mode=0o644)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from None

    def annotations(self, namespace: str, name: str) -> dict[str, str]:
        """A ServiceAccount's annotations by its manifest, empty without one or if it cannot be understood."""
        try:
            document = yaml.load(self._account_path(namespace, name).read_bytes(), _Loader)
            found = document["metadata"]["annotations"]
            return {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, str)}
        except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def _account_path(self, namespace: str, name: str) -> Path:
        # Neither may hold a slash, nor the first a dot: they are Kubernetes names, as the authenticator and the command
        # check.
        return self._directory / ACCOUNTS_FOLDER / f"{namespace}.{name}.yaml"

    @staticmethod
    def _key_id(key: Mapping[str, Any]) -> str:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{key['x']}.{key['y']}").hex
