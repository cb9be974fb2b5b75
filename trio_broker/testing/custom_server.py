"""The custom authentication server of a test: it answers as the test says, and keeps what it was asked (API 0.5.0)."""

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, final

import trio
from attrs import field, frozen

from mqttcore.auth import Failed
from mqttcore.authenticators.effects import HttpAnswer, HttpPost
from mqttcore.codes import ReasonCode
from mqttcore.hidden import hidden

T = TypeVar("T")


@frozen(kw_only=True)
class CustomRequest:
    """What the server was asked; what the client did not present is None. Its repr shows no secret.

    `type` is "connect" or "auth", for a re-authentication; `certificates` is the client's chain in PEM.
    """

    type: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=hidden)
    certificates: str | None = field(default=None, repr=False)
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=hidden)
    path: str
    headers: Mapping[str, str] = field(repr=False)


@frozen
class Answer:
    """What the server answers; None for `status` is never."""

    status: int | None
    body: bytes = b"{}"


@final
class CustomServer:
    """Stands in for the custom servers of all manifests. It grants everybody until it is told otherwise.

    Each method holds from when it returns on, for the user name that it is given, or for all without one of their own.
    """

    def __init__(self, call: Callable[[Callable[[], None]], None], time: Callable[[], float]) -> None:
        """`call` runs something where the server runs, `time` is the broker's in Unix seconds."""
        self._call = call
        self._time = time
        self._answers: dict[str | None, Answer] = {None: Answer(200)}
        self._requests: list[CustomRequest] = []
        self.gone = False
        self.on_change: Callable[[], None] = lambda: None
        self._leaving = trio.Event()

    @property
    def requests(self) -> list[CustomRequest]:
        """All that it was asked so far."""
        return [*self._requests]

    def grant(
        self,
        username: str | None = None,
        *,
        attributes: Mapping[str, str] | None = None,
        lifetime: float | None = None,
    ) -> None:
        """Pass, with these attributes. The credential expires `lifetime` seconds after the answer, or never."""
        fields: dict[str, Any] = {}
        if attributes is not None:
            fields["attributes"] = dict(attributes)
        if lifetime is not None:
            fields["expiry"] = datetime.fromtimestamp(self._time() + lifetime, UTC).isoformat()
        self._set(username, Answer(200, json.dumps(fields).encode()))

    def deny(self, username: str | None = None, *, reason: int = ReasonCode.NOT_AUTHORIZED, message: str = "") -> None:
        """Fail with this reason code; `message` is for the broker's log."""
        told = {"message": message} if message else {}
        self._set(username, Answer(403, json.dumps({"reason": int(reason), **told}).encode()))

    def fail(self, username: str | None = None, *, status: int = 500) -> None:
        """Answer with this HTTP status, which neither passes nor fails. Raises ValueError for 200 and 403, which do."""
        if status in (200, 403):
            raise ValueError(f"{status} is what grant() and deny() answer")
        self._set(username, Answer(status))

    def hang(self, username: str | None = None) -> None:
        """Take requests, and never answer."""
        self._set(username, Answer(None))

    def vanish(self) -> None:
        """Refuse connections and break those that there are, until another of these methods is called."""

        def vanish() -> None:
            self.gone = True
            self._leaving.set()
            self.on_change()

        self._call(vanish)

    def _set(self, username: str | None, answer: Answer) -> None:
        def put() -> None:
            self._answers[username] = answer
            if self.gone:
                self.gone = False
                self._leaving = trio.Event()
                self.on_change()

        self._call(put)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a request, which is kept."""
        asked = _read(path, headers, body)
        self._requests.append(asked)
        return self._answers.get(asked.username, self._answers[None])

    async def perform(self, post: HttpPost, timeout: float) -> HttpAnswer | Failed:
        """The reply to a request that goes over no network, or why there is none after `timeout` seconds."""
        await trio.lowlevel.checkpoint()
        if self.gone:
            return Failed("no connection: Connection refused")
        _, _, path = post.server.url.partition("://")[2].partition("/")
        answer = self.answer(f"/{path}".rstrip("/") + post.path, dict(post.server.headers), post.body)
        if answer.status is not None:
            return HttpAnswer(answer.status, answer.body)
        with trio.move_on_after(timeout):
            await self._leaving.wait()
            return Failed("the server closed the connection, or what it sent is not HTTP")
        return Failed(f"no complete answer within {timeout:g} seconds")


def _read(path: str, headers: Mapping[str, str], body: bytes) -> CustomRequest:
    fields = json.loads(body)
    enhanced = fields.get("enhancedAuthentication", {})
    return CustomRequest(
        type=fields["type"],
        username=fields.get("username"),
        password=_decoded(fields.get("password")),
        certificates=fields.get("certs"),
        authentication_method=enhanced.get("method"),
        authentication_data=_decoded(enhanced.get("data")),
        path=path,
        headers=headers,
    )


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
