"""What is wrong with manifests, and where: values that print as one line each."""

from collections.abc import Iterable
from difflib import get_close_matches

from attrs import field, frozen

MAXIMUM_PROBLEMS = 1000
"""Problems, and warnings, that are kept of one set of manifests; what is beyond helps nobody."""
MAXIMUM_SHOWN = 80
"""Characters of a name or value that a message shows."""


@frozen
class Place:
    """Where something stands: a file, a line (from 1; 0: the file as a whole) and a path inside the document."""

    file: str
    line: int = 0
    path: str = ""

    def at(self, key: str) -> "Place":
        """The same line, with `key` added to the path."""
        return Place(self.file, self.line, f"{self.path}.{key}" if self.path else key)


@frozen
class Problem:
    """One thing that is wrong, or surely not meant; `str` gives one line. It never holds a secret."""

    file: str
    line: int
    path: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        path = f"{self.path}: " if self.path else ""
        hint = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return printable(f"{where}: {path}{self.message}{hint}")


@frozen
class Problems:
    """Collects the problems and warnings of one set of manifests, each once."""

    _problems: dict[Problem, None] = field(factory=dict, init=False)
    _warnings: dict[Problem, None] = field(factory=dict, init=False)

    def add(self, place: Place, message: str, suggestion: str = "") -> None:
        """Keep a problem: the set cannot be used."""
        _keep(self._problems, Problem(place.file, place.line, place.path, message, suggestion))

    def warn(self, place: Place, message: str, suggestion: str = "") -> None:
        """Keep a warning: the set can be used and does what was surely not meant."""
        _keep(self._warnings, Problem(place.file, place.line, place.path, message, suggestion))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, by file and line."""
        return _sorted(self._problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """All warnings, by file and line."""
        return _sorted(self._warnings)


def _keep(kept: dict[Problem, None], problem: Problem) -> None:
    if len(kept) < MAXIMUM_PROBLEMS:
        kept[problem] = None


def _sorted(kept: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(kept, key=lambda problem: (problem.file, problem.line)))


def nearest(word: str, possible: Iterable[str]) -> str:
    """The most similar of `possible`, whatever its case; "" when none is similar."""
    by_folded = {candidate.casefold(): candidate for candidate in possible}
    matches = get_close_matches(word[:MAXIMUM_SHOWN].casefold(), by_folded, n=1)
    return by_folded[matches[0]] if matches else ""


def shown(text: str) -> str:
    """A name or a value for a message: quoted, on one line, and not too long."""
    return repr(text if len(text) <= MAXIMUM_SHOWN else text[:MAXIMUM_SHOWN] + "…")


def printable(text: str) -> str:
    """The text on one line, and nothing in it that a terminal would obey."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def listed(words: Iterable[str], conjunction: str = "or") -> str:
    """ "a", "a or b", "a, b or c"."""
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}" if most else last
