"""Whom rules are for, found by look-ups of what a client has."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar, final

from mqttcore.auth import Principal

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]


def has_all(principal: Principal, wanted: Mapping[str, str]) -> bool:
    """Whether the client has all attributes of a map. None has all of an empty one."""
    return bool(wanted) and all(principal.attributes.get(name) == value for name, value in wanted.items())


@final
class ByPrincipal(Generic[T]):
    """Values for clients with one of some user names or client identifiers, or with all attributes of some map.

    Maps of attributes are found by their names and then by their values: the cost of a search depends on the names
    that maps put together, and not on how many maps there are.
    """

    __slots__ = ("_by_attributes", "_by_client_id", "_by_username", "_names")

    def __init__(self) -> None:
        self._by_username: dict[str, list[T]] = {}
        self._by_client_id: dict[str, list[T]] = {}
        self._by_attributes: dict[Pairs, list[T]] = {}
        self._names: dict[str, list[tuple[str, ...]]] = {}  # of maps, by one of them

    def add(
        self,
        usernames: Iterable[str],
        client_ids: Iterable[str],
        attributes: Iterable[Pairs],
        value: T,
    ) -> None:
        """Add a value for those with any of these; attributes are the sorted pairs of a map."""
        for username in usernames:
            self._by_username.setdefault(username, []).append(value)
        for client_id in client_ids:
            self._by_client_id.setdefault(client_id, []).append(value)
        for wanted in attributes:
            if wanted:
                self._by_attributes.setdefault(wanted, []).append(value)

    def compile(self) -> None:
        """Make ready for searches, once all is added."""
        shapes = dict.fromkeys(tuple(name for name, _ in pairs) for pairs in self._by_attributes)
        frequency = Counter(name for names in shapes for name in names)
        for names in shapes:
            # Under the rarest: what is in all of them, such as the organization, would lead to all.
            self._names.setdefault(min(names, key=frequency.__getitem__), []).append(names)

    def find(self, principal: Principal) -> list[T]:
        """The values for a client, each once."""
        found = list(self._by_client_id.get(principal.client_id, ()))
        if principal.username is not None:
            found += self._by_username.get(principal.username, ())
        own = principal.attributes
        for each in own:
            for names in self._names.get(each, ()):
                if all(name in own for name in names):
                    found += self._by_attributes.get(tuple((name, own[name]) for name in names), ())
        return list(dict.fromkeys(found))
