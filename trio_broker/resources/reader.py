"""Reads a document's trees as fields of known names and types; what does not fit becomes a problem.

A reader goes on after a problem with a stand-in for the value, so that all problems are found at once. A set with
problems is never used, so the stand-ins never reach anybody.
"""

import re
from collections.abc import Iterator
from collections.abc import Mapping as MappingABC
from enum import Enum
from typing import TypeVar

from attrs import define, field, frozen

from trio_broker.resources.document import Mapping, Node, Scalar, Sequence
from trio_broker.resources.problems import Place, Problems, listed, nearest, shown

E = TypeVar("E", bound=Enum)

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_KIND_NAMES = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}


@frozen
class Item:
    """A value, with the place where it stands."""

    node: Node
    place: Place
    problems: Problems

    def add(self, message: str, suggestion: str = "") -> None:
        """Keep a problem with this value."""
        self.problems.add(self.place, message, suggestion)

    def text(self) -> str:
        """Text that is not empty."""
        if not isinstance(self.node, Scalar) or self.node.kind != "str":
            self._wrong("text", quotable=True)
            return ""
        if not self.node.text:
            self.add("must not be empty")
        return self.node.text

    def any_text(self) -> str:
        """Text, be it empty."""
        if isinstance(self.node, Scalar) and self.node.kind == "str":
            return self.node.text
        self._wrong("text", quotable=True)
        return ""

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if not isinstance(self.node, Scalar) or self.node.kind != "int":
            self._wrong("a whole number")
        elif not _INTEGER.fullmatch(self.node.text):
            self.add("write the number with decimal digits only")
        elif not low <= int(self.node.text) <= high:
            self.add(f"must be from {low} to {high}")
        else:
            return int(self.node.text)
        return low

    def boolean(self) -> bool:
        """True or false."""
        if isinstance(self.node, Scalar) and self.node.kind == "bool":
            return self.node.text.casefold() in ("true", "yes", "on")
        self._wrong("true or false")
        return False

    def choice(self, choices: type[E]) -> E:
        """One of the values of an enumeration, in any case."""
        members = list(choices)
        if not isinstance(self.node, Scalar) or self.node.kind != "str":
            self._wrong(listed(str(member.value) for member in members))
            return members[0]
        for member in members:
            if str(member.value).casefold() == self.node.text.casefold():
                return member
        names = [str(member.value) for member in members]
        self.add(f"{shown(self.node.text)} is not {listed(names)}", nearest(self.node.text, names))
        return members[0]

    def items(self) -> list["Item"]:
        """The values of a list, which may be empty."""
        if not isinstance(self.node, Sequence):
            self._wrong("a list")
            return []
        return [
            Item(node, Place(self.place.file, node.line, f"{self.place.path}[{index}]"), self.problems)
            for index, node in enumerate(self.node.items)
        ]

    def texts(self) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(item.text() for item in self.items())

    def pairs(self) -> Iterator[tuple[str, "Item"]]:
        """The keys and values of a mapping whose keys are the user's own."""
        if not isinstance(self.node, Mapping):
            self._wrong("a mapping (key: value)")
            return
        for key, node in self.node.entries.items():
            place = Place(self.place.file, self.node.lines[key], f"{self.place.path}.{key}")
            yield key, Item(node, place, self.problems)

    def text_map(self) -> dict[str, str]:
        """A mapping of the user's own keys to texts."""
        return {key: item.any_text() for key, item in self.pairs()}

    def fields(self) -> "Fields":
        """A mapping with known keys."""
        if not isinstance(self.node, Mapping):
            self._wrong("a mapping (key: value)")
            return Fields(Mapping(self.node.line, {}, {}, 1), self.place, self.problems, broken=True)
        return Fields(self.node, self.place, self.problems)

    def _wrong(self, wanted: str, *, quotable: bool = False) -> None:
        # The value is not shown: it may be a secret.
        if isinstance(self.node, Scalar):
            hint = "; put it in quotes" if quotable and self.node.kind != "null" else ""
            self.add(f"must be {wanted}, not {_KIND_NAMES[self.node.kind]}{hint}")
        else:
            self.add(f"must be {wanted}, not a {'list' if isinstance(self.node, Sequence) else 'mapping'}")


@define
class Fields:
    """A mapping of which each key that was not asked for is a problem.

        with item.fields() as fields:
            port = fields.required("port")

    A key without a value is taken as not there, as Kubernetes does.
    """

    _node: Mapping
    place: Place
    problems: Problems
    broken: bool = False
    _known: list[str] = field(factory=list, init=False)
    _hints: dict[str, str] = field(factory=dict, init=False)

    def __enter__(self) -> "Fields":
        return self

    def __exit__(self, *exc_info: object) -> None:
        unknown = self._node.entries.keys() - set(self._known)
        for key in unknown:
            place = self._place(key)
            if key in self._hints:
                self.problems.add(place, self._hints[key])
            else:
                self.problems.add(place, "there is no such key", self._suggestion(key))

    def _place(self, key: str) -> Place:
        return Place(self.place.file, self._node.lines[key], self.place.at(key).path)

    def _suggestion(self, key: str) -> str:
        return nearest(key, [known for known in self._known if known not in self._node.entries])

    def optional(self, *names: str) -> Item | None:
        """The value under whichever of `names` is there: the first is the current spelling, others are older."""
        self._known += names
        present = [name for name in names if self.has(name)]
        if len(present) > 1:
            message = f"{listed(present, 'and')} mean the same: keep one of them"
            self.problems.add(self._place(present[1]), message)
        if not present:
            return None
        return Item(self._node.entries[present[0]], self._place(present[0]), self.problems)

    def explicit(self, *names: str) -> Item | None:
        """As `optional`, where to leave the key out is to allow more: there without a value, it is a problem."""
        for name in names:
            if name in self._node.entries and not self.has(name):
                self.problems.add(self._place(name), "has no value, and would be taken as left out: give it one")
        return self.optional(*names)

    def required(self, *names: str) -> Item | None:
        """As `optional`; that none is there is a problem."""
        item = self.optional(*names)
        if item is None and not self.broken:
            self.add(f"{names[0]} is missing")
        return item

    def has(self, name: str) -> bool:
        """Whether the key is there and has a value."""
        node = self._node.entries.get(name)
        return node is not None and not (isinstance(node, Scalar) and node.kind == "null")

    def accept(self, *names: str) -> None:
        """These keys may be there, whatever they hold."""
        self._known += names

    def refuse(self, hints: MappingABC[str, str]) -> None:
        """These keys are a problem, each with a message of its own."""
        self._hints.update(hints)

    def add(self, message: str, suggestion: str = "") -> None:
        """Keep a problem with the mapping as a whole."""
        self.problems.add(self.place, message, suggestion)
