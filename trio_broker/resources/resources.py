"""The typed resources of a set of documents, each found by kind, namespace and name."""

from typing import TypeVar

from attrs import define, field

from trio_broker.resources.authentication import BrokerAuthentication, read_authentication
from trio_broker.resources.authorization import BrokerAuthorization, read_authorization
from trio_broker.resources.broker import Broker, read_broker
from trio_broker.resources.device import Device, read_device
from trio_broker.resources.document import Document, Mapping
from trio_broker.resources.identity import Identity, Kind, Reference, read_identity, read_kind
from trio_broker.resources.listener import Listener, read_listener
from trio_broker.resources.objects import Bundle, ServiceAccount, read_config_map, read_secret, read_service_account
from trio_broker.resources.problems import Place, Problems
from trio_broker.resources.reader import Fields, Item

Resource = Listener | BrokerAuthentication | BrokerAuthorization | Broker | Device | Bundle | ServiceAccount
R = TypeVar("R", bound=Resource)
_MAXIMUM_LISTS = 3
"""Lists inside lists."""


@define
class Resources:
    """All resources of a set."""

    problems: Problems
    _resources: dict[tuple[Kind, str, str], Resource] = field(factory=dict, init=False)

    def add(self, document: Document) -> None:
        """Read a document and keep its resource, or the resources of a List."""
        self._add_item(Item(document.root, Place(document.file, document.root.line), self.problems), 0)

    def of(self, resource_type: type[R]) -> list[R]:
        """The resources of a type, in the order of the documents."""
        return [resource for resource in self._resources.values() if isinstance(resource, resource_type)]

    def find(self, reference: Reference) -> Resource | None:
        """The resource that is referred to."""
        return self._resources.get((reference.kind, reference.namespace, reference.name))

    def names(self, kind: Kind) -> list[tuple[str, str]]:
        """Namespaces and names of a kind's resources."""
        return [(namespace, name) for known, namespace, name in self._resources if known is kind]

    def _add_item(self, item: Item, depth: int) -> None:
        if isinstance(item.node, Mapping) and _text(item, "kind").endswith("List") and depth < _MAXIMUM_LISTS:
            # What "kubectl get -o yaml" prints.
            with item.fields() as fields:
                fields.accept("apiVersion", "kind", "metadata")
                items = fields.required("items")
                for entry in items.items() if items else ():
                    self._add_item(entry, depth + 1)
            return
        fields = item.fields()
        if fields.broken:
            return
        kind = read_kind(fields)
        if kind is None:
            return
        with fields:
            fields.accept("status")
            identified = read_identity(kind, fields)
            # Without a name the rest is read all the same, for the problems in it.
            identity, annotations = identified or (Identity(kind, "", "", item.place), {})
            resource = _read(identity, annotations, fields)
        if identified:
            self._keep(resource)

    def _keep(self, resource: Resource) -> None:
        identity = resource.identity
        key = (identity.kind, identity.namespace, identity.name)
        if key in self._resources:
            first = self._resources[key].identity.place
            where = f"{first.file}:{first.line}"
            self.problems.add(identity.place, f"{identity} in namespace {identity.namespace} is also in {where}")
        else:
            self._resources[key] = resource


def _text(item: Item, key: str) -> str:
    node = item.node.entries.get(key) if isinstance(item.node, Mapping) else None
    return getattr(node, "text", "")


def _read(identity: Identity, annotations: dict[str, str], root: Fields) -> Resource:
    match identity.kind:
        case Kind.CONFIG_MAP:
            return read_config_map(identity, root)
        case Kind.SECRET:
            return read_secret(identity, root)
        case Kind.SERVICE_ACCOUNT:
            return read_service_account(identity, annotations, root)
    spec_item = root.required("spec")
    spec = spec_item.fields() if spec_item else Fields(Mapping(0, {}, {}, 1), root.place, root.problems, broken=True)
    with spec:
        match identity.kind:
            case Kind.LISTENER:
                return read_listener(identity, spec)
            case Kind.AUTHENTICATION:
                return read_authentication(identity, spec)
            case Kind.AUTHORIZATION:
                return read_authorization(identity, spec)
            case Kind.BROKER:
                return read_broker(identity, spec)
            case Kind.DEVICE:
                return read_device(identity, spec)
