"""Who a resource is: apiVersion, kind, name and namespace; and references from one to another."""

import re
from difflib import get_close_matches
from enum import Enum

from attrs import field, frozen

from trio_broker.resources.problems import Place, nearest, shown
from trio_broker.resources.reader import Fields, Item

DEFAULT_NAMESPACE = "azure-iot-operations"
API_VERSIONS = (
    "mqttbroker.iotoperations.azure.com/v1",
    "mqttbroker.iotoperations.azure.com/v1beta1",
    "mq.iotoperations.azure.com/v1beta1",
)
CORE_API_VERSION = "v1"
REGISTRY_API_VERSIONS = (
    "namespaces.deviceregistry.microsoft.com/v1",
    "namespaces.deviceregistry.microsoft.com/v1beta1",
)


class Kind(Enum):
    """The kinds of resource that are read."""

    LISTENER = "BrokerListener"
    AUTHENTICATION = "BrokerAuthentication"
    AUTHORIZATION = "BrokerAuthorization"
    BROKER = "Broker"
    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"
    SERVICE_ACCOUNT = "ServiceAccount"
    DEVICE = "Device"


CORE_KINDS = (Kind.CONFIG_MAP, Kind.SECRET, Kind.SERVICE_ACCOUNT)
_DOTTED_KINDS = (*CORE_KINDS, Kind.DEVICE)
"""Kinds whose names are Kubernetes' and not the product's."""
_KINDS_OF_OTHERS_TOO = (Kind.BROKER, Kind.DEVICE)
"""Kinds whose names are also those of other groups' kinds."""
_KINDS = {kind.value: kind for kind in Kind}
_OTHERS_OF_THE_PRODUCT = (
    "DataLakeConnector",
    "DataLakeConnectorTopicMap",
    "DiagnosticService",
    "IoTHubConnector",
    "IoTHubConnectorRoutesMap",
    "KafkaConnector",
    "KafkaConnectorTopicMap",
    "MqttBridgeConnector",
    "MqttBridgeTopicMap",
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DOTTED_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_SIMILAR_KIND = 0.85
"""How similar to one of ours a kind must be to be taken for a slip of the pen."""


@frozen
class Identity:
    """What a resource is referred to by; `place` is where its document begins."""

    kind: Kind
    namespace: str
    name: str
    place: Place = field(eq=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind.value} {shown(self.name)}"


@frozen
class Reference:
    """A reference to a resource, and where it stands."""

    kind: Kind
    namespace: str
    name: str
    place: Place = field(eq=False, repr=False)


def read_kind(fields: Fields) -> Kind | None:
    """The kind of a document; None, with a problem or a warning, for what is not read here."""
    version_item, kind_item = fields.required("apiVersion"), fields.required("kind")
    if version_item is None or kind_item is None:
        return None
    version, name = version_item.text(), kind_item.text()
    if not version or not name:
        return None
    ours, registrys = _is_group_of(version, API_VERSIONS), _is_group_of(version, REGISTRY_API_VERSIONS)
    kind = _KINDS.get(name)
    api_versions = REGISTRY_API_VERSIONS if kind is Kind.DEVICE else API_VERSIONS
    if kind in CORE_KINDS:
        if version == CORE_API_VERSION:
            return kind
        version_item.add(f"the apiVersion of a {name} is {CORE_API_VERSION}, not {shown(version)}")
    elif kind is not None and version in api_versions:
        return kind
    elif kind is not None and (ours or registrys or kind not in _KINDS_OF_OTHERS_TOO):
        known = nearest(version, api_versions) or api_versions[0]
        version_item.add(f"{shown(version)} is no apiVersion of a {name} that is known here", known)
    elif ours and name not in _OTHERS_OF_THE_PRODUCT:
        kind_item.add(f"there is no kind {shown(name)}", nearest(name, _KINDS))
    elif kind is None and (similar := _similar_kind(name, registrys=registrys)):
        kind_item.add(f"there is no kind {shown(name)}", similar)
    else:
        fields.problems.warn(kind_item.place, f"kind {shown(name)} is not the broker's and has been left out")
    return None


def _is_group_of(version: str, api_versions: tuple[str, ...]) -> bool:
    return version.partition("/")[0] in {known.partition("/")[0] for known in api_versions}


def _similar_kind(name: str, *, registrys: bool) -> str:
    # A name so common is a slip of the pen in its own group alone.
    possible = [known for known, kind in _KINDS.items() if registrys or kind is not Kind.DEVICE]
    by_folded = {known.casefold(): known for known in possible}
    matches = get_close_matches(name[:100].casefold(), by_folded, n=1, cutoff=_SIMILAR_KIND)
    return by_folded[matches[0]] if matches else ""


def read_identity(kind: Kind, root: Fields) -> tuple[Identity, dict[str, str]] | None:
    """A resource's identity and annotations; None with a problem if it has no name."""
    item = root.required("metadata")
    if item is None:
        return None
    with item.fields() as fields:
        fields.accept(
            "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName",
            "generation", "labels", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
        )  # fmt: skip
        name_item = fields.required("name")
        name = _read_name(kind, name_item) if name_item else ""
        namespace = DEFAULT_NAMESPACE
        if namespace_item := fields.optional("namespace"):
            namespace = read_namespace(namespace_item)
        annotations = fields.optional("annotations")
        texts = annotations.text_map() if annotations else {}
    return (Identity(kind, namespace, name, item.place), texts) if name else None


def _read_name(kind: Kind, item: Item) -> str:
    name = item.text()
    if not name:
        return ""
    if kind in _DOTTED_KINDS:
        if len(name) > 253 or not _DOTTED_NAME.fullmatch(name):
            item.add("a name has up to 253 characters of a-z, 0-9, - and ., with a letter or digit at both ends")
    elif not 3 <= len(name) <= 63 or not _NAME.fullmatch(name):
        item.add("a name has 3 to 63 characters of a-z, 0-9 and -, with a letter or digit at both ends")
    return name


def read_namespace(item: Item) -> str:
    """The name of a namespace."""
    name = item.text()
    if name and (len(name) > 63 or not _NAME.fullmatch(name)):
        item.add("a namespace has 1 to 63 characters of a-z, 0-9 and -, with a letter or digit at both ends")
    return name


def read_reference(item: Item | None, kind: Kind, namespace: str) -> Reference | None:
    """A reference to a resource of `namespace`."""
    name = item.text() if item else ""
    return Reference(kind, namespace, name, item.place) if item and name else None


def read_secret_reference(fields: Fields, namespace: str, *, required: bool = False) -> Reference | None:
    """A Secret by `secretName` or `secretRef`, with or without `secretNamespace` or `namespace` beside it."""
    item = (fields.required if required else fields.optional)("secretName", "secretRef")
    if beside := fields.optional("secretNamespace", "namespace"):
        namespace = read_namespace(beside)
    return read_reference(item, Kind.SECRET, namespace)
