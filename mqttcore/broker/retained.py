"""Retained messages, section 3.3.1.3, in a trie over topic levels."""

from typing import final

from mqttcore.broker.policy import Publisher
from mqttcore.limits import Limits
from mqttcore.message import Message


@final
class _Node:
    __slots__ = ("children", "message", "publisher", "serial")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.message: Message | None = None
        self.publisher: Publisher | None = None
        self.serial: int = 0


@final
class Retained:
    """The last retained message of each topic, bounded in number and in bytes. `serial` grows with each one stored."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._root = _Node()
        self._nodes: dict[bytes, _Node] = {}
        self.bytes = 0
        self.serial = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, topic: bytes) -> Message | None:
        """What is retained for a topic."""
        node = self._nodes.get(topic)
        return None if node is None else node.message

    def withheld(self, message: Message) -> bool:
        """Whether the rights that a retained message was published by have been revoked."""
        node = self._nodes[message.topic]
        return node.publisher is not None and not node.publisher.may_publish(message.topic_name)

    def has_room(self, message: Message) -> bool:
        """Whether storing `message` would stay within the bounds."""
        old = self.get(message.topic)
        count = len(self._nodes) + (old is None)
        total = self.bytes + message.size - (0 if old is None else old.size)
        return count <= self._limits.maximum_retained_messages and total <= self._limits.maximum_retained_bytes

    def store(self, message: Message, publisher: Publisher | None) -> None:
        """Keep `message` in place of what its topic retained. [MQTT-3.3.1-5]

        `publisher` has the rights that it was published by, None for the server's own.
        """
        node = self._nodes.get(message.topic)
        if node is None:
            node = self._root
            for level in message.topic_name.split("/"):
                if node.children is None:
                    node.children = {}
                child = node.children.get(level)
                if child is None:
                    child = node.children[level] = _Node()
                node = child
            self._nodes[message.topic] = node
        if node.message is not None:
            self.bytes -= node.message.size
        node.message = message
        node.publisher = publisher
        self.bytes += message.size
        self.serial += 1
        node.serial = self.serial

    def delete(self, topic: bytes) -> None:
        """Forget what a topic retained, if anything. [MQTT-3.3.1-6]"""
        node = self._nodes.pop(topic, None)
        if node is None or node.message is None:
            return
        self.bytes -= node.message.size
        node.message = node.publisher = None
        levels = topic.decode().split("/")
        path = [self._root]
        for level in levels:
            children = path[-1].children
            assert children is not None
            path.append(children[level])
        for depth in range(len(levels), 0, -1):
            if path[depth].children or path[depth].message is not None:
                break
            above = path[depth - 1].children
            assert above is not None
            del above[levels[depth - 1]]

    def search(self, topic_filter: str) -> "Search":
        """A search for what is retained now and matches a filter (without ShareName), section 4.7."""
        return Search(self._root, topic_filter, self.serial)


@final
class Search:
    """The messages that a filter matches, found step by step: a long search must not keep everybody else waiting.

    Messages that are stored while it goes on are not found. Those that are deleted may be.
    """

    __slots__ = ("_levels", "_root", "_serial", "_stack")

    def __init__(self, root: _Node, topic_filter: str, serial: int) -> None:
        self._root: _Node = root
        self._levels: list[str] = topic_filter.split("/")
        self._serial: int = serial
        self._stack: list[tuple[_Node, int]] = [(root, 0)]

    @property
    def done(self) -> bool:
        """Whether there is nothing more to find."""
        return not self._stack

    def step(self, nodes: int) -> list[Message]:
        """What is found at the next `nodes` nodes of the trie."""
        found: list[Message] = []
        levels = self._levels
        stack = self._stack
        while stack and nodes > 0:
            nodes -= 1
            node, depth = stack.pop()
            level = levels[depth] if depth < len(levels) else None
            if (level is None or level == "#") and node.message is not None and node.serial <= self._serial:
                found.append(node.message)
            if level is None or node.children is None:
                continue
            if level not in ("+", "#"):
                child = node.children.get(level)
                if child is not None:
                    stack.append((child, depth + 1))
                continue
            for name, child in node.children.items():
                if node is self._root and name.startswith("$"):  # [MQTT-4.7.2-1]
                    continue
                stack.append((child, depth if level == "#" else depth + 1))
        return found
