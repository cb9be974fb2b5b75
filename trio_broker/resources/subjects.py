"""Attributes of X.509 clients by the subjects in their certificate chain: from YAML, or from TOML in a Secret."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mqttcore.authenticators.distinguished_names import DistinguishedName
from mqttcore.authenticators.x509 import SubjectAttributes, subject_attributes
from trio_broker.resources.document import Scalar
from trio_broker.resources.objects import Datum
from trio_broker.resources.pasted import quoted
from trio_broker.resources.problems import Place, Problems, nearest, shown
from trio_broker.resources.reader import Item

_ASSIGNMENTS = re.compile(r"([A-Za-z0-9_.-]+)\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"']+)")
_LONGEST = 4096


def read_authorization_attributes(item: Item) -> tuple[SubjectAttributes, ...]:
    """The mapping of labels to a subject and its attributes."""
    if _explain_assignment(item):
        return ()
    found: list[tuple[SubjectAttributes | None, Place]] = []
    for label, entry in item.pairs():
        if _explain_assignment(entry):
            continue
        with entry.fields() as fields:
            subject_item, attributes_item = fields.required("subject"), fields.required("attributes")
            subject = subject_item.text() if subject_item else ""
            attributes: dict[str, str] = {}
            if attributes_item and not _explain_assignment(attributes_item):
                attributes = attributes_item.text_map()
            add = (subject_item or entry).add
        found.append((_entry(label, subject, attributes, add), entry.place))
    return without_repeated(found, item.problems)


def _explain_assignment(item: Item) -> bool:
    """Whether the value is `key = value`, as in the vendor's own sample, which YAML takes for one text."""
    if not isinstance(item.node, Scalar) or len(item.node.text) > _LONGEST:
        return False
    found = _ASSIGNMENTS.findall(item.node.text)
    if not found:
        return False
    written = (f"{key}: {quoted(value)}" for key, value in found)
    item.add("this is TOML, not YAML", ", ".join(written))
    return True


def _entry(
    label: str, subject: str, attributes: Mapping[str, str], add: Callable[[str], None]
) -> SubjectAttributes | None:
    if not subject:
        return None
    try:
        return subject_attributes(label, subject, attributes)
    except ValueError as error:
        add(str(error))
        return None


def without_repeated(
    found: Iterable[tuple[SubjectAttributes | None, Place]], problems: Problems
) -> tuple[SubjectAttributes, ...]:
    """The entries; a label or subject that was there before is a problem."""
    labels: dict[str, SubjectAttributes] = {}
    subjects: dict[DistinguishedName, SubjectAttributes] = {}
    for entry, place in found:
        if entry is None:
            continue
        if labels.setdefault(entry.label, entry) is not entry:
            problems.add(place, f"there are two tables {shown(entry.label)}")
        elif (other := subjects.setdefault(entry.subject, entry)) is not entry:
            problems.add(place, f"{shown(entry.label)} is for the same subject as {shown(other.label)}: join them")
    return tuple(labels.values())


def read_toml_attributes(datum: Datum, problems: Problems) -> list[tuple[SubjectAttributes | None, Place]]:
    """The TOML file: one table per label, with `subject` and a sub-table `attributes`."""
    try:
        document = tomllib.loads(datum.content.decode())
    except UnicodeDecodeError:
        problems.add(datum.place, "the attributes are not UTF-8 text")
        return []
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError is a ValueError
        where = re.search(r"\(at [^()]*\)$", str(error))
        problems.add(datum.place, f"the attributes are not TOML {where[0] if where else ''}".rstrip())
        return []
    return [(_toml_entry(label, table, datum, problems), datum.place) for label, table in document.items()]


def _toml_entry(label: str, table: Any, datum: Datum, problems: Problems) -> SubjectAttributes | None:
    place = datum.place
    if not isinstance(table, Mapping):
        problems.add(place, f"{shown(label)} must be a table: [{label}], with subject and attributes")
        return None
    for key in table.keys() - {"subject", "attributes"}:
        problems.add(
            place, f"there is no key {shown(key)} in table {shown(label)}", nearest(key, ("subject", "attributes"))
        )
    subject, attributes = table.get("subject"), table.get("attributes")
    if not isinstance(subject, str) or not subject:
        problems.add(place, f"table {shown(label)} needs a subject, as text")
        subject = ""
    if not isinstance(attributes, Mapping):
        problems.add(place, f"table {shown(label)} needs a table [{label}.attributes]")
        attributes = {}
    for name, value in attributes.items():
        if not isinstance(value, str):
            problems.add(place, f"attribute {shown(name)} of table {shown(label)} must be text; put it in quotes")
    texts = {name: value for name, value in attributes.items() if isinstance(value, str)}
    return _entry(label, subject, texts, lambda message: problems.add(place, message))
