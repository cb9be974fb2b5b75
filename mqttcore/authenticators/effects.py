"""What the authenticators of this package ask to have done, and the replies.

Any of these may also be answered by `Failed`, which says why it could not be done.
"""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from mqttcore.auth import Effect
from mqttcore.hidden import hidden


@frozen(kw_only=True)
class HttpServer:
    """An HTTPS server and how to reach it; equal servers may share connections.

    `ca_pem` has the certificates to trust (None: the system's), `client_cert_pem` and `client_key_pem` what the client
    shows of itself, `headers` what goes with each request. PEM is bytes.
    """

    url: str
    ca_pem: bytes | None = field(default=None, repr=False)
    client_cert_pem: bytes | None = field(default=None, repr=False)
    client_key_pem: bytes | None = field(default=None, repr=hidden)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=hidden)


@frozen
class HttpPost(Effect):
    """POST a JSON body to `path` (with its query) below the server's URL. The reply is an HttpAnswer."""

    server: HttpServer
    path: str
    body: bytes = field(repr=hidden)


@frozen
class HttpAnswer:
    """What an HTTP server answered, whatever its status; the body is complete and within the performer's bound."""

    status: int
    body: bytes = field(repr=hidden)


@frozen
class ReviewToken(Effect):
    """Have the Kubernetes API server review a service account token. The reply is a TokenReviewed."""

    token: str = field(repr=hidden)
    audiences: tuple[str, ...]


@frozen
class TokenReviewed:
    """The status of a TokenReview; `username` is "system:serviceaccount:<namespace>:<name>" when `authenticated`."""

    authenticated: bool
    username: str = ""
    audiences: tuple[str, ...] = ()
    error: str = ""


@frozen
class ServiceAccountAnnotations(Effect):
    """Look up a ServiceAccount's annotations. The reply is a mapping of strings, empty if there is no such account."""

    namespace: str
    name: str


@frozen
class SigningKeys(Effect):
    """Get the keys that tokens are signed with. The reply is a tuple of JSON Web Keys, as dicts.

    `key_id` is the one that is looked for: whoever performs this may fetch the keys anew if it is not among them.
    """

    key_id: str | None


JsonWebKeys = tuple[Mapping[str, Any], ...]


@frozen
class VerifyPassword(Effect):
    """Check a password against a hash in the PHC string format (Argon2id). The reply is True or False."""

    hash: str = field(repr=hidden)
    password: bytes = field(repr=hidden)
