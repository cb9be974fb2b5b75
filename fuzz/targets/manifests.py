"""Manifests: YAML to a configuration, and that to authenticators, rules and limits.

Input: the text of one file.
"""

from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from mqttcore.authenticators.service_account import by_signature
from mqttcore.broker.authorization import authorizer
from mqttcore.limits import Limits
from trio_broker.assembly import TokenVerification, limits_of, login, rules
from trio_broker.errors import ConfigurationError
from trio_broker.resources import Configuration, Problem
from trio_broker.resources.document import (
    MAXIMUM_BYTES,
    MAXIMUM_NODES,
    Document,
    Mapping,
    Node,
    Scalar,
    Sequence,
    parse,
)
from trio_broker.resources.problems import MAXIMUM_PROBLEMS, MAXIMUM_SHOWN, Place, Problems
from trio_broker.resources.resolve import resolve
from trio_broker.resources.resources import Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILE = "manifests.yaml"
LONGEST_PROBLEM = 2000
"""Characters of a problem."""
LONG_SECRET = 16
"""Characters from which on a Secret's value is not in a problem by chance."""
_NOBODY: Any = None  # nothing is asked of it here
VERIFICATION = TokenVerification(partial(by_signature, issuer=None), _NOBODY)


def check(data: bytes) -> None:
    """A configuration or problems, never both and never neither, and the same ones each time.

    Each problem is one line of bounded length with the number of a line that the file has, and holds nothing of a
    Secret. There are at most `MAXIMUM_PROBLEMS`, and at most `MAXIMUM_NODES` values, what aliases repeat included. A
    configuration becomes a chain of methods, rules and limits, or one ConfigurationError.
    """
    if len(data) > MAXIMUM_BYTES:
        return
    configuration, problems, warnings, documents = _read(data)
    assert (configuration is None) == bool(problems)
    assert len(problems) <= MAXIMUM_PROBLEMS
    assert sum(document.root.size for document in documents) <= MAXIMUM_NODES
    lines = len(data.decode("utf-8-sig", "replace").splitlines()) + 1
    secrets = [secret for document in documents for secret in _secrets(document.root)]
    public = [text for document in documents for text in _public(document.root)]
    for problem in (*problems, *warnings):
        text = str(problem)
        assert text.isprintable()
        assert len(text) <= LONGEST_PROBLEM
        assert 0 <= problem.line <= lines
        told = f"{problem.path} {problem.message}"  # what is suggested is out of lists of names
        assert not [secret for secret in secrets if secret in told and not any(secret in other for other in public)]
    assert _read(data)[:3] == (configuration, problems, warnings)
    if configuration is not None:
        _assemble(configuration)


def _read(
    data: bytes,
) -> tuple[Configuration | None, tuple[Problem, ...], tuple[Problem, ...], list[Document]]:
    problems = Problems()
    resources = Resources(problems)
    documents, whole = parse(data, FILE, problems)
    for document in documents:
        resources.add(document)
    found = resolve(resources, {}, complete=whole, now=NOW, problems=problems, origin=Place(FILE))
    return found, problems.problems, problems.warnings, documents


def _assemble(configuration: Configuration) -> None:
    try:
        limits_of(configuration.broker, Limits())
        for port in configuration.ports:
            if port.authentication is not None:
                login(port.authentication, VERIFICATION)
            if port.authorization is not None:
                authorizer(rules(port.authorization))
    except ConfigurationError as error:
        told = str(error)
        assert told.isprintable()


def _is_secret(node: Node) -> bool:
    kind = node.entries.get("kind") if isinstance(node, Mapping) else None
    return isinstance(kind, Scalar) and kind.text.casefold() == "secret"


def _scalars(node: Node) -> Iterator[str]:
    stack = [node]
    while stack:
        match stack.pop():
            case Scalar(text=text):
                yield text
            case Sequence(items=items):
                stack += items
            case Mapping(entries=entries):
                stack += entries.values()
                yield from entries


def _secrets(node: Node) -> Iterator[str]:
    """What a Secret has in it, as it stands there and decoded."""
    if not isinstance(node, Mapping) or not _is_secret(node):
        return
    for name in ("data", "stringData"):
        values = node.entries.get(name)
        for value in values.entries.values() if isinstance(values, Mapping) else ():
            text = value.text if isinstance(value, Scalar) else ""
            texts = [text]
            if name == "data":
                with suppress(ValueError):
                    texts.append(b64decode(text, validate=True).decode())
            yield from (each for each in texts if LONG_SECRET <= len(each) <= MAXIMUM_SHOWN)


def _public(node: Node) -> Iterator[str]:
    """All that may be told."""
    if isinstance(node, Mapping) and _is_secret(node):
        yield from (
            text for key, value in node.entries.items() if key not in ("data", "stringData") for text in _scalars(value)
        )
    else:
        yield from _scalars(node)
