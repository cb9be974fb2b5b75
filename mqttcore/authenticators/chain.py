"""Several methods of authentication in order, with fallback: the flow of the Azure IoT Operations broker."""

from collections.abc import Iterable

from attrs import evolve, frozen

from mqttcore.auth import (
    Authentication,
    Authenticator,
    AuthRequest,
    Denied,
    Granted,
    NotRelevant,
    Trace,
    Unavailable,
    Verdict,
    outcome,
)
from mqttcore.codes import ReasonCode


@frozen
class Method:
    """One method of authentication and what a trace calls it."""

    name: str
    authenticate: Authenticator


def chain(methods: Iterable[Method]) -> Authenticator:
    """An authenticator that tries `methods` in their order.

    The first that grants or denies decides, and later ones are not tried. One that is not relevant, or not available,
    is passed over. If none decides, the client is denied: with 0x8C if it named an Authentication Method that nobody
    handles; as Unavailable, which a re-authenticating client survives, if a method could not be asked.
    """
    methods = tuple(methods)

    def authenticate(request: AuthRequest) -> Authentication:
        unavailable: Unavailable | None = None
        for method in methods:
            verdict: Verdict = yield from method.authenticate(request)
            message = "" if isinstance(verdict, Granted) else verdict.message
            yield Trace(method.name, outcome(verdict), message)
            if isinstance(verdict, Granted):
                return evolve(verdict, method=method.name)
            if isinstance(verdict, Denied):
                return verdict
            if isinstance(verdict, Unavailable) and unavailable is None:
                unavailable = Unavailable(f"{method.name}: {verdict.message}")
        if unavailable is not None:
            return unavailable
        return nobody(request)

    return authenticate


def nobody(request: AuthRequest) -> Denied | NotRelevant:
    """The verdict on credentials that no method is for."""
    if request.authentication_method is not None:
        return Denied("no method handles this Authentication Method", ReasonCode.BAD_AUTHENTICATION_METHOD)
    return NotRelevant("no method is relevant to these credentials")
