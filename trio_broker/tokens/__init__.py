"""Where service account tokens are verified: an API server, published keys, or a local issuer."""

from pathlib import Path

from attrs import frozen

SESSION_DIRECTORY = Path(".session")
"""Where the local issuer and the local authority keep their keys unless told otherwise."""


@frozen
class TokensKubernetes:
    """Tokens are reviewed by an API server: the one of the kubeconfig file, or of the cluster that we run in."""

    kubeconfig: Path | None = None


@frozen
class TokensJwks:
    """Tokens are checked with the keys of a JWKS: a file, or an https:// URL as text."""

    file_or_url: Path | str


@frozen
class TokensOidc:
    """Tokens are checked with the keys that the issuer, an https:// URL, publishes by OIDC discovery."""

    issuer: str


@frozen
class TokensLocal:
    """Tokens are those of the local issuer, whose keys are in `directory`."""

    directory: Path = SESSION_DIRECTORY


Tokens = TokensKubernetes | TokensJwks | TokensOidc | TokensLocal
