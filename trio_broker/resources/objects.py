"""ConfigMap, Secret and ServiceAccount."""

import re
from base64 import b64decode
from collections.abc import Mapping

from attrs import field, frozen

from trio_broker.resources.identity import Identity
from trio_broker.resources.problems import Place
from trio_broker.resources.reader import Fields, Item

_LINE_BREAKS = re.compile(r"[\r\n]")


@frozen
class Datum:
    """The content under one key, and where it stands."""

    content: bytes = field(repr=False)
    place: Place


@frozen
class Bundle:
    """What a ConfigMap or Secret holds, by key."""

    identity: Identity
    data: Mapping[str, Datum]


@frozen
class ServiceAccount:
    """A ServiceAccount, of which only the annotations matter here."""

    identity: Identity
    annotations: Mapping[str, str]


def read_config_map(identity: Identity, root: Fields) -> Bundle:
    """A ConfigMap: `data` is text, `binaryData` Base64."""
    root.accept("immutable")
    data = _texts(root.optional("data"))
    for key, datum in _base64(root.optional("binaryData")).items():
        if key in data:
            root.problems.add(datum.place, "the key stands under data, too")
        data[key] = datum
    return Bundle(identity, data)


def read_secret(identity: Identity, root: Fields) -> Bundle:
    """A Secret: `data` is Base64; `stringData` is text and wins, as in Kubernetes."""
    root.accept("immutable", "type")
    data = _base64(root.optional("data"))
    data.update(_texts(root.optional("stringData")))
    return Bundle(identity, data)


def read_service_account(identity: Identity, annotations: Mapping[str, str], root: Fields) -> ServiceAccount:
    """A ServiceAccount."""
    root.accept("automountServiceAccountToken", "imagePullSecrets", "secrets")
    return ServiceAccount(identity, annotations)


def _texts(item: Item | None) -> dict[str, Datum]:
    if item is None:
        return {}
    return {key: Datum(value.any_text().encode(), value.place) for key, value in item.pairs()}


def _base64(item: Item | None) -> dict[str, Datum]:
    data = {}
    for key, value in item.pairs() if item else ():
        content = b""
        text = _LINE_BREAKS.sub("", value.any_text())
        try:
            content = b64decode(text, validate=True)
        except ValueError:
            value.add("is not Base64; in a Secret, text as it is goes under stringData")
        data[key] = Datum(content, value.place)
    return data
