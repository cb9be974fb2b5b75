"""Patterns for client identifiers, and what is found by them without looking at each."""

from collections.abc import Iterator
from typing import Generic, TypeVar, final

from mqttcore.auth import Principal
from mqttcore.broker.authorization_values import Token, Unusable, parse

T = TypeVar("T")
Piece = tuple[str | Token, ...]


@final
class Pattern:
    """A pattern for client identifiers: `*` stands for any characters or none, tokens for the client's own values.

    A `*` in a value that is put in is no wildcard. Raises ValueError for a token that does not exist.
    """

    __slots__ = ("_pieces", "exact", "prefix", "suffix")

    def __init__(self, text: str) -> None:
        pieces: list[list[str | Token]] = [[]]
        for part in parse(text):
            if isinstance(part, Token):
                pieces[-1].append(part)
                continue
            first, *others = part.split("*")
            pieces[-1].append(first)
            pieces += [[other] for other in others]
        first_part, last_part = pieces[0][0], pieces[-1][-1]
        assert isinstance(first_part, str)
        assert isinstance(last_part, str)
        self._pieces: tuple[Piece, ...] = tuple(tuple(piece) for piece in pieces)
        # Whether it fits one client identifier, itself; else what each that fits begins and ends with.
        self.exact: bool = len(pieces) == 1 and len(pieces[0]) == 1
        self.prefix: str = first_part
        self.suffix: str = last_part

    def fits(self, principal: Principal) -> bool:
        """Whether the client identifier is as the pattern says. Raises Unusable."""
        pieces = [
            "".join(part if isinstance(part, str) else part.value(principal) for part in piece)
            for piece in self._pieces
        ]
        client_id = principal.client_id
        first, last = pieces[0], pieces[-1]
        if len(pieces) == 1:
            return client_id == first
        if len(client_id) < len(first) + len(last) or not client_id.startswith(first) or not client_id.endswith(last):
            return False
        at, end = len(first), len(client_id) - len(last)
        for piece in pieces[1:-1]:
            start = client_id.find(piece, at, end)
            if start < 0:
                return False
            at = start + len(piece)
        return True


@final
class ByClientId(Generic[T]):
    """Values by patterns. Literal client identifiers are found by a look-up, and so are patterns by their literal
    beginning and end; only those that share both with the client identifier are tried.
    """

    __slots__ = ("_exact", "_lengths", "_patterns")

    def __init__(self) -> None:
        self._exact: dict[str, list[T]] = {}
        self._patterns: dict[tuple[str, str], dict[str, tuple[Pattern, list[T]]]] = {}
        self._lengths: set[tuple[int, int]] = set()  # of the beginnings and ends that there are

    def add(self, text: str, value: T) -> None:
        """Add a value under a pattern. Raises ValueError for a token that does not exist."""
        pattern = Pattern(text)
        if pattern.exact:
            self._exact.setdefault(text, []).append(value)
            return
        self._lengths.add((len(pattern.prefix), len(pattern.suffix)))
        alike = self._patterns.setdefault((pattern.prefix, pattern.suffix), {})
        alike.setdefault(text, (pattern, []))[1].append(value)

    def find(self, principal: Principal) -> Iterator[T]:
        """The values whose pattern fits the client; one that has several may come several times."""
        client_id = principal.client_id
        yield from self._exact.get(client_id, ())
        for prefix, suffix in self._lengths:
            if prefix + suffix > len(client_id):
                continue
            ends = client_id[:prefix], client_id[len(client_id) - suffix :]
            for pattern, values in self._patterns.get(ends, {}).values():
                try:
                    fits = pattern.fits(principal)
                except Unusable:
                    continue
                if fits:
                    yield from values
