"""User names and passwords against Argon2id hashes: an extension for local use."""

from collections.abc import Mapping

from mqttcore.auth import (
    Authentication,
    Authenticator,
    AuthRequest,
    Denied,
    Failed,
    Granted,
    NotRelevant,
    Unavailable,
)
from mqttcore.authenticators.effects import VerifyPassword
from mqttcore.authenticators.service_account import METHOD as SERVICE_ACCOUNT
from mqttcore.codes import ReasonCode


def password(hashes: Mapping[str, str]) -> Authenticator:
    """An authenticator for the users in `hashes`: user name to Argon2id hash in the PHC string format; at least one.

    Relevant to a client that presents a user name and a password and no Authentication Method. An unknown user costs
    the time of a known one. Raises ValueError if `hashes` is empty.
    """
    if not hashes:
        raise ValueError("there must be at least one user")
    somebody = next(iter(hashes.values()))

    def authenticate(request: AuthRequest) -> Authentication:
        username, secret = request.username, request.password
        if username is None or secret is None or request.authentication_method is not None:
            return NotRelevant("no user name and password, or an Authentication Method beside them")
        if username.startswith(SERVICE_ACCOUNT):
            return NotRelevant(f"a user name that begins with {SERVICE_ACCOUNT} stands for a token")
        known = hashes.get(username)
        right = yield VerifyPassword(somebody if known is None else known, secret)
        if isinstance(right, Failed):
            return Unavailable(f"the password could not be checked: {right.kind}")
        if known is None or right is not True:
            return Denied("the user name or the password is wrong", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        return Granted(username=username)

    return authenticate
