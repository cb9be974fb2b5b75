"""Who has subscribed to what: exact Topic Filters in a dict, those with wildcards in a trie over topic levels.

Matching visits each trie node at most once, without recursion, so its cost is bounded by the subscriptions that share
levels with the topic.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, final

from mqttcore.packets import Subscription
from mqttcore.topics import has_wildcard, split_share

if TYPE_CHECKING:
    from mqttcore.broker.sessions import ServerSession


@final
class Stored:
    """A subscription of one session, as granted. `share` is the group it belongs to, if it is shared."""

    __slots__ = ("identifier", "no_local", "qos", "retain_as_published", "session", "share")

    def __init__(self, session: "ServerSession", subscription: Subscription, qos: int, identifier: int | None) -> None:
        self.session: ServerSession = session
        self.qos: int = qos
        self.no_local: bool = subscription.no_local
        self.retain_as_published: bool = subscription.retain_as_published
        self.identifier: int | None = identifier
        self.share: Share | None = None

    @property
    def identifiers(self) -> tuple[int, ...]:
        """Its Subscription Identifier, if it has one, as what a message for it alone carries. [MQTT-3.3.4-5]"""
        return () if self.identifier is None else (self.identifier,)


@final
class Share:
    """The sessions that share a subscription under one ShareName, section 4.8.2; they take turns."""

    __slots__ = ("_order", "_turn", "members")

    def __init__(self) -> None:
        self.members: dict[ServerSession, Stored] = {}
        self._order: list[Stored] = []
        self._turn: int = 0

    def add(self, stored: Stored) -> None:
        """Add or replace a member."""
        stored.share = self
        self.members[stored.session] = stored
        self._order = list(self.members.values())

    def remove(self, session: "ServerSession") -> None:
        """Take a member out."""
        del self.members[session]
        self._order = list(self.members.values())
        if self._turn >= len(self._order):
            self._turn = 0

    def turns(self) -> Iterator[Stored]:
        """The members, each once, beginning with the one whose turn it is."""
        order = self._order
        count = len(order)
        start = self._turn
        self._turn = start + 1 if start + 1 < count else 0
        for offset in range(count):
            yield order[(start + offset) % count]

    def take_turns(self, times: int) -> list[Stored]:
        """Whose turn it is next, and next, for so many times; only the first round, since the others repeat it."""
        order = self._order
        start = self._turn
        self._turn = (start + times) % len(order)
        return (order[start:] + order[:start])[:times]


@final
class Entry:
    """The subscriptions to one Topic Filter.

    Most filters have one subscriber, and a dict for one takes more memory than all the rest of a subscription.
    """

    __slots__ = ("_one", "_several", "shares")

    def __init__(self) -> None:
        self._one: Stored | None = None
        self._several: dict[ServerSession, Stored] | None = None
        self.shares: dict[str, Share] | None = None

    @property
    def subscribers(self) -> Collection[Stored]:
        """The subscriptions that are not shared, one for each session."""
        if self._several is not None:
            return self._several.values()
        return () if self._one is None else (self._one,)

    @property
    def empty(self) -> bool:
        """Whether nobody subscribes any more."""
        return not self.subscribers and not self.shares

    def add(self, stored: Stored) -> None:
        """Add a subscription that is not shared, or replace the session's earlier one."""
        one = self._one
        if self._several is not None:
            self._several[stored.session] = stored
        elif one is None or one.session is stored.session:
            self._one = stored
        else:
            self._several = {one.session: one, stored.session: stored}
            self._one = None

    def remove(self, session: "ServerSession") -> None:
        """Take a session's subscription out, which must be there."""
        if self._several is not None:
            del self._several[session]
        else:
            self._one = None


@final
class _Node:
    __slots__ = ("children", "entry")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.entry: Entry | None = None


@final
class Subscriptions:
    """All subscriptions of a broker."""

    def __init__(self) -> None:
        self._exact: dict[str, Entry] = {}
        self._root = _Node()

    def add(self, topic_filter: str, stored: Stored) -> None:
        """Add a subscription, in place of the session's earlier one to the same filter. [MQTT-3.8.4-3]"""
        share_name, topics = split_share(topic_filter)
        if has_wildcard(topics):
            node = self._root
            for level in topics.split("/"):
                child = node.children.get(level)
                if child is None:
                    child = node.children[level] = _Node()
                node = child
            entry = node.entry
            if entry is None:
                entry = node.entry = Entry()
        else:
            found = self._exact.get(topics)
            entry = self._exact[topics] = Entry() if found is None else found
        if share_name is None:
            entry.add(stored)
            return
        if entry.shares is None:
            entry.shares = {}
        share = entry.shares.get(share_name)
        if share is None:
            share = entry.shares[share_name] = Share()
        share.add(stored)

    def remove(self, topic_filter: str, session: "ServerSession") -> None:
        """Take a subscription out that is there."""
        share_name, topics = split_share(topic_filter)
        if not has_wildcard(topics):
            entry = self._exact[topics]
            _remove_from(entry, share_name, session)
            if entry.empty:
                del self._exact[topics]
            return
        levels = topics.split("/")
        path = [self._root]
        for level in levels:
            path.append(path[-1].children[level])
        entry_at = path[-1].entry
        assert entry_at is not None
        _remove_from(entry_at, share_name, session)
        if entry_at.empty:
            path[-1].entry = None
        for depth in range(len(levels), 0, -1):
            if path[depth].children or path[depth].entry is not None:
                break
            del path[depth - 1].children[levels[depth - 1]]

    def match(self, topic: str) -> list[Entry]:
        """The entries whose filter matches a Topic Name, section 4.7."""
        found = []
        entry = self._exact.get(topic)
        if entry is not None:
            found.append(entry)
        if not self._root.children:
            return found
        levels = topic.split("/")
        nodes = [self._root]
        wild = not topic.startswith("$")  # [MQTT-4.7.2-1]: only for the first level
        for level in levels:
            below = []
            for node in nodes:
                children = node.children
                if wild:
                    child = children.get("#")
                    if child is not None and child.entry is not None:
                        found.append(child.entry)
                    child = children.get("+")
                    if child is not None:
                        below.append(child)
                child = children.get(level)  # [MQTT-4.7.3-4]
                if child is not None:
                    below.append(child)
            if not below:
                return found
            nodes = below
            wild = True
        for node in nodes:
            if node.entry is not None:
                found.append(node.entry)
            child = node.children.get("#")  # "a/#" matches "a" as well
            if child is not None and child.entry is not None:
                found.append(child.entry)
        return found


def _remove_from(entry: Entry, share_name: str | None, session: "ServerSession") -> None:
    if share_name is None:
        entry.remove(session)
        return
    assert entry.shares is not None
    share = entry.shares[share_name]
    share.remove(session)
    if not share.members:
        del entry.shares[share_name]
