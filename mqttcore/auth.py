"""Authentication and authorization as pure functions, and the conversation that runs an authenticator.

An authenticator is a generator function: it yields the effects that it needs, is resumed with their replies, and
returns a verdict. It never waits, reads no clock and has no randomness of its own.

    def by_password(request: AuthRequest) -> Authentication:
        reply = yield VerifyPassword(request.username, request.password)
        return Granted(username=request.username) if reply is True else Denied()
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, final

from attrs import field, frozen

from mqttcore.codes import V5, ReasonCode
from mqttcore.hidden import hidden


@frozen(kw_only=True)
class AuthRequest:
    """The credentials that a client has presented, and where and when. Its repr shows no secret.

    `certificates` is the chain of the TLS handshake in DER, leaf first; `time` is Unix seconds; `entropy` is 32 bytes
    that no other request has; `re_authentication` says that the client is connected and sent AUTH 0x19.
    """

    client_id: str = ""
    username: str | None = None
    password: bytes | None = field(default=None, repr=hidden)
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=hidden)
    certificates: tuple[bytes, ...] = field(default=(), repr=lambda chain: f"<{len(chain)} certificates>")
    peer: str = ""
    time: float = 0.0
    protocol_version: int = V5
    re_authentication: bool = False
    entropy: bytes = field(default=b"", repr=hidden)


class Effect:
    """What an authenticator asks to have done.

    Subclasses say what; the reply is whatever the subclass documents, or Failed.
    """

    __slots__ = ()


@frozen
class Challenge(Effect):
    """Ask the client for more with AUTH 0x18 (section 4.12). The reply is a Response."""

    data: bytes | None = field(default=None, repr=hidden)


@frozen
class Response:
    """The client's AUTH 0x18 (or, on a second try after a challenge, 0x19) to a Challenge."""

    data: bytes | None = field(default=None, repr=hidden)


@frozen
class Trace(Effect):
    """Keep a step of the decision for whoever wants to know why; nobody performs it, and the reply is None.

    `method` names the authenticator, `outcome` what came of it ("granted", "denied", "not relevant", "unavailable"),
    and `message` says why, without secrets.
    """

    method: str
    outcome: str
    message: str = ""


@frozen
class Failed:
    """The reply to an effect that could not be performed; `kind` says why in a word or two, without secrets."""

    kind: str


@frozen(kw_only=True)
class Granted:
    """The credentials are good.

    `username` is what authorization goes by (None: the one of CONNECT), `expires_at` Unix seconds, None for never,
    `data` the Authentication Data of the CONNACK or AUTH that says so, `renewable` whether AUTH 0x19 may replace the
    credential while the client stays connected, and `method` what traces call the method that granted.
    """

    username: str | None = None
    attributes: Mapping[str, str] = field(factory=dict)
    expires_at: float | None = None
    data: bytes | None = field(default=None, repr=hidden)
    renewable: bool = True
    method: str = ""


@frozen
class Denied:
    """The credentials are not good. The client is told `reason_code` and no more; `message` is for the log."""

    message: str = ""
    reason_code: ReasonCode = ReasonCode.NOT_AUTHORIZED


@frozen
class NotRelevant:
    """These credentials are none that this authenticator judges. With no other to ask, that is a refusal."""

    message: str = ""


@frozen
class Unavailable:
    """No judgement is possible now, for instance because a server that must be asked does not answer."""

    message: str = ""


Reply = Any
Verdict = Granted | Denied | NotRelevant | Unavailable
_OUTCOMES = {Granted: "granted", Denied: "denied", NotRelevant: "not relevant", Unavailable: "unavailable"}


def outcome(verdict: Verdict) -> str:
    """What a verdict is called in a trace: "granted", "denied", "not relevant" or "unavailable"."""
    return _OUTCOMES[type(verdict)]


Authentication = Generator[Effect, Reply, Verdict]
Authenticator = Callable[[AuthRequest], Authentication]


@frozen
class Principal:
    """Who a client is once it has been authenticated: what authorization decides by."""

    client_id: str
    username: str | None = None
    attributes: Mapping[str, str] = field(factory=dict)


NOBODY = Principal("")
"""Who a client is before it has said so."""


class Action(Enum):
    """What a client may be allowed to do."""

    CONNECT = "connect"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


Authorizer = Callable[[Principal, Action, str], bool]
"""Whether the principal may do it to a client identifier (CONNECT), Topic Name (PUBLISH) or Topic Filter
(SUBSCRIBE).
"""


@frozen
class Standing:
    """What a connected client was let in by.

    `method` is what traces call the method that granted, "" if it did not say; `certificates` the chain of the TLS
    handshake in DER, leaf first.
    """

    method: str
    certificates: tuple[bytes, ...] = field(repr=lambda chain: f"<{len(chain)} certificates>")
    principal: Principal


Review = Callable[[Standing, float], str | None]
"""Why, at a time in Unix seconds, a client may not stay connected; for the log. None if it may."""


MAXIMUM_TRACE = 100
"""Steps of a decision that are kept."""


@final
class Exchange:
    """One run of an authenticator: every step gives the next effect to perform, or the verdict, which is the last.

    Whatever the authenticator does, there is a verdict after at most `steps` effects, and it is a denial if the
    authenticator raises, or does not return a verdict.
    """

    __slots__ = ("_authenticator", "_generator", "_request", "_steps", "trace", "verdict")

    def __init__(self, authenticator: Authenticator, request: AuthRequest, steps: int) -> None:
        self.verdict: Verdict | None = None
        self.trace: list[Trace] = []
        self._authenticator: Authenticator = authenticator
        self._request: AuthRequest = request
        self._steps: int = steps
        self._generator: Authentication | None = None

    def start(self) -> Effect | Verdict:
        """Run to the first effect or the verdict."""
        try:
            self._generator = self._authenticator(self._request)
        except Exception as error:
            return self._end(Denied(_failure(error)))
        return self._step(None)

    def resume(self, reply: Reply) -> Effect | Verdict:
        """Run on with the reply to the last effect."""
        return self.verdict if self.verdict is not None else self._step(reply)

    def abandon(self) -> None:
        """End it without a verdict: the client has gone, or its time is up."""
        if self.verdict is None:
            self._end(Denied("abandoned"))

    def _step(self, reply: Reply) -> Effect | Verdict:
        assert self._generator is not None
        try:
            effect = self._generator.send(reply)
            while isinstance(effect, Trace) and len(self.trace) < MAXIMUM_TRACE:
                self.trace.append(effect)
                effect = self._generator.send(None)
        except StopIteration as stop:
            self._generator = None
            verdict = stop.value
            if not isinstance(verdict, Verdict):
                verdict = Denied(f"the authenticator returned {type(verdict).__name__} instead of a verdict")
            return self._end(verdict)
        except Exception as error:
            return self._end(Denied(_failure(error)))
        if not isinstance(effect, Effect):
            return self._end(Denied(f"the authenticator yielded {type(effect).__name__} instead of an effect"))
        self._steps -= 1
        if self._steps < 0 or isinstance(effect, Trace):
            return self._end(Denied("the authenticator takes too many steps"))
        return effect

    def _end(self, verdict: Verdict) -> Verdict:
        self.verdict = verdict
        if self._generator is not None:
            with suppress(Exception):  # a verdict has been reached; a clean-up that fails does not change it
                self._generator.close()
        return verdict


def _failure(error: Exception) -> str:
    # The type only: the text of an exception may hold the credentials.
    return f"the authenticator failed with {type(error).__name__}"
