"""YAML text into trees that know their lines: bounded in size, depth and number, without tags of any kind."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import yaml
from attrs import field, frozen

from trio_broker.resources.pasted import explain_assignments
from trio_broker.resources.problems import Place, Problems

MAXIMUM_BYTES = 4_194_304
"""Size of one file, in bytes."""
MAXIMUM_DEPTH = 50
"""Levels of mappings and sequences inside each other."""
MAXIMUM_NODES = 200_000
"""Mappings, sequences and scalars of one file, what aliases repeat included."""

_NEWLINE = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r"'(?!<)[^']{2,}'")
_TAG = "tag:yaml.org,2002:"
_KINDS = {"str": "str", "timestamp": "str", "int": "int", "float": "float", "bool": "bool", "null": "null"}


@frozen
class Scalar:
    """A single value as it was written; `kind` is "str", "int", "float", "bool" or "null"."""

    line: int
    kind: str
    text: str = field(repr=False)
    size: int = 1


@frozen
class Sequence:
    """A list."""

    line: int
    items: tuple["Node", ...]
    size: int


@frozen
class Mapping:
    """Keys and their values; `lines` says where each key stands."""

    line: int
    entries: dict[str, "Node"]
    lines: dict[str, int]
    size: int


Node = Scalar | Sequence | Mapping


class _Refused(Exception):
    def __init__(self, message: str, index: int | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.line = line


@frozen
class Document:
    """One document of a file: what stands between two lines of three dashes."""

    file: str
    root: Node


def parse(data: bytes, file: str, problems: Problems) -> tuple[list[Document], bool]:
    """The documents of a file that can be read, and whether that was all of it.

    Whatever the bytes are, what is wrong becomes a problem with its line.
    """
    if len(data) > MAXIMUM_BYTES:
        problems.add(Place(file), f"the file has more than {MAXIMUM_BYTES} bytes")
        return [], False
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_NEWLINE.findall(data[: error.start].decode("utf-8", "replace"))) + 1
        problems.add(Place(file, line), "the file is not UTF-8 text")
        return [], False
    composer = _Composer(text, file, problems)
    documents: list[Document] = []
    try:
        documents.extend(Document(file, root) for root in composer.documents())
    except _Refused as refused:
        line = refused.line or composer.line(refused.index or 0)
        if not explain_assignments(text, file, line, problems):
            problems.add(Place(file, line), str(refused))
        return documents, False
    return documents, True


def _index(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


class _Composer:
    """Builds nodes from PyYAML's events. Nothing is constructed from tags."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._text = text
        self._file = file
        self._problems = problems
        self._starts = [match.end() for match in _NEWLINE.finditer(text)]
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._resolver: Any = yaml.SafeLoader("")

    def line(self, index: int) -> int:
        """The line, from 1, of the character at `index`."""
        # Not PyYAML's own, which counts line breaks that no editor knows.
        return bisect_right(self._starts, min(index, len(self._text) - 1)) + 1

    def documents(self) -> Iterator[Node]:
        """The root of each document that is not empty."""
        self._events = self._checked_events()
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                root = self._node(next(self._events), 0)
                if not (isinstance(root, Scalar) and root.kind == "null"):
                    yield root

    def _checked_events(self) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(self._text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            raise _Refused("a character that YAML does not allow", int(error.position)) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # What PyYAML quotes may be part of a secret.
            message = _QUOTED.sub("…", " ".join((error.problem or "it cannot be read").split()))
            raise _Refused(f"this is not YAML: {message}", mark.index if mark else 0) from None
        except (ValueError, OverflowError):
            # Numbers in escapes and directives that Python does not take.
            raise _Refused("this is not YAML: an escape or directive with an impossible number") from None

    def _count(self, size: int, index: int) -> None:
        self._nodes += size
        if self._nodes > MAXIMUM_NODES:
            raise _Refused(f"there are more than {MAXIMUM_NODES} values, counting what aliases repeat", index)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        index = _index(event)
        if depth > MAXIMUM_DEPTH:
            raise _Refused(f"values are nested more than {MAXIMUM_DEPTH} levels deep", index)
        if isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(str(event.anchor))
            if known is None:
                raise _Refused("an alias (*) of something not named before; quote text that begins so", index)
            self._count(known.size, index)
            return known
        self._count(1, index)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            assert isinstance(event, yaml.MappingStartEvent)
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[str(event.anchor)] = node
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        index = _index(event)
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        name = tag.removeprefix(_TAG)
        if tag == f"{_TAG}merge" or name == "value":  # "<<" and "=" where no key is
            name = "str"
        kind = _KINDS.get(name)
        if kind is None:
            raise _Refused("tags (!…) are not supported; quote text that begins so", index)
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            raise _Refused("half of a surrogate pair is no character", index)
        return Scalar(self.line(index), kind, event.value)

    def _tag_is(self, event: yaml.CollectionStartEvent, name: str) -> None:
        if event.tag not in (None, "!", f"{_TAG}{name}"):
            raise _Refused("tags (!…) are not supported", _index(event))

    def _sequence(self, event: yaml.SequenceStartEvent, depth: int) -> Sequence:
        self._tag_is(event, "seq")
        items: list[Node] = []
        while not isinstance(following := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(following, depth + 1))
        return Sequence(self.line(_index(event)), tuple(items), 1 + sum(item.size for item in items))

    def _mapping(self, event: yaml.MappingStartEvent, depth: int) -> Mapping:
        self._tag_is(event, "map")
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        merged: list[Mapping] = []
        while not isinstance(following := next(self._events), yaml.MappingEndEvent):
            index = _index(following)
            is_merge = isinstance(following, yaml.ScalarEvent) and following.value == "<<" and following.implicit[0]
            key = self._node(following, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if is_merge:
                merged += self._merged(value)
            elif not isinstance(key, Scalar) or key.kind != "str":
                self._problems.add(Place(self._file, self.line(index)), "a key must be text: put it in quotes")
            elif key.text in entries:
                place = Place(self._file, key.line, key.text)
                self._problems.add(place, f"the key stands here twice, first in line {lines[key.text]}")
            else:
                entries[key.text] = value
                lines[key.text] = key.line
        for mapping in merged:
            for name in mapping.entries.keys() - entries.keys():
                entries[name] = mapping.entries[name]
                lines[name] = mapping.lines[name]
        size = 1 + len(entries) + sum(value.size for value in entries.values())
        return Mapping(self.line(_index(event)), entries, lines, size)

    def _merged(self, value: Node) -> list[Mapping]:
        values = value.items if isinstance(value, Sequence) else (value,)
        mappings = [item for item in values if isinstance(item, Mapping)]
        if len(mappings) < len(values):
            raise _Refused("a merge key (<<) takes a mapping, or a list of them", line=value.line)
        for mapping in mappings:
            self._count(mapping.size, 0)
        return mappings
