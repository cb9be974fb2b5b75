"""The client's own values in rules: the tokens that stand for them, and when they stand for nothing.

`{principal.username}`, `{principal.clientId}` and `{principal.attributes.<name>}`. A value that is missing, or that
could widen the rule, matches nothing.
"""

import re

from attrs import frozen

from mqttcore.auth import Principal

_USERNAME = "{principal.username}"
_CLIENT_ID = "{principal.clientId}"
_ATTRIBUTE = "{principal.attributes."
_TOKEN = re.compile(r"\{principal\.(?:username|clientId|attributes\.[^{}]+)\}")
_LIKE_A_TOKEN = "{principal."
_WIDER = "/+#"


class Unusable(Exception):
    """A client's own value that a token cannot stand for; the message says why."""


@frozen
class Token:
    """A token as it stands in a rule."""

    text: str

    def value(self, principal: Principal) -> str:
        """What it stands for. Raises Unusable if the client has no such value, or one that could widen a rule."""
        value: str | None
        if self.text == _USERNAME:
            what, value = "user name", principal.username
        elif self.text == _CLIENT_ID:
            what, value = "client identifier", principal.client_id
        else:
            name = self.text[len(_ATTRIBUTE) : -1]
            what, value = f"attribute {shown(name)}", principal.attributes.get(name)
        if value is None:
            raise Unusable(f"the client has no {what}")
        if not value:
            raise Unusable(f"the client's {what} is empty")
        if wider := _wider(value):
            raise Unusable(f"the client's {what} {shown(value)} has a {wider!r} in it")
        return value


def parse(text: str) -> tuple[str | Token, ...]:
    """`text` as literal text, token, literal text and so on, from text to text.

    Raises ValueError for a token that does not exist.
    """
    if _LIKE_A_TOKEN not in text:
        return (text,)
    parts: list[str | Token] = []
    end = 0
    for found in _TOKEN.finditer(text):
        parts += text[end : found.start()], Token(found[0])
        end = found.end()
    parts.append(text[end:])
    if any(isinstance(part, str) and _LIKE_A_TOKEN in part for part in parts):
        raise ValueError(f"{text!r} has a token that does not exist")
    return tuple(parts)


def filled(text: str, principal: Principal) -> str:
    """`text` with the client's values put in. Raises Unusable."""
    return "".join(part if isinstance(part, str) else part.value(principal) for part in parse(text))


def tokens_by_value(principal: Principal) -> dict[str, list[str]]:
    """The texts of the tokens that stand for something, by what they stand for."""
    every = {_CLIENT_ID: principal.client_id}
    if principal.username is not None:
        every[_USERNAME] = principal.username
    for name, value in principal.attributes.items():
        every[f"{_ATTRIBUTE}{name}}}"] = value
    found: dict[str, list[str]] = {}
    for token, value in every.items():
        if value and not _wider(value):
            found.setdefault(value, []).append(token)
    return found


def _wider(value: str) -> str | None:
    return next((character for character in _WIDER if character in value), None)


_MAXIMUM_SHOWN = 100


def shown(text: str) -> str:
    """A name or a value for a message: quoted, on one line, and not too long."""
    return repr(text if len(text) <= _MAXIMUM_SHOWN else f"{text[:_MAXIMUM_SHOWN]}…")
