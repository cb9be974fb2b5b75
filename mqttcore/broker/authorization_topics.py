"""The topics of rules: one by one, and as a trie that is walked without looking at each.

A walk visits each node of the trie at most once, whatever a client asks for, without recursion or backtracking.
"""

from typing import final

from mqttcore.auth import Action, Principal
from mqttcore.broker.authorization_values import Token, Unusable, filled, parse, shown
from mqttcore.errors import ProtocolError
from mqttcore.topics import SHARE_PREFIX, check_topic_filter, matches

# What a last "#" adds is no level or more; where no level leaves an empty Topic Name, which there is not, it is one.
_SAME = {"#": "+/#", "/#": "/+/#"}


def levels_of(template: str) -> list[str | Token]:
    """The levels of a rule's topic.

    Raises ValueError for a token that does not exist or is not a whole level, and for what is no Topic Filter or has
    a ShareName.
    """
    levels: list[str | Token] = []
    parts = parse(template)
    for index, part in enumerate(parts):
        if isinstance(part, Token):
            levels.append(part)
            continue
        texts = part.split("/")
        if (index > 0 and texts.pop(0)) or (index < len(parts) - 1 and (not texts or texts.pop())):
            token = parts[index - 1] if index else parts[1]
            assert isinstance(token, Token)
            raise ValueError(f"{token.text} must be a whole level of the topic, between slashes")
        levels += texts
    if template.startswith(SHARE_PREFIX):
        raise ValueError("a rule is for the Topic Filter behind the ShareName")
    if "\0" in template:
        raise ValueError("a topic must not contain U+0000")
    try:
        check_topic_filter("/".join("x" if isinstance(level, Token) else level for level in levels))
    except ProtocolError as error:
        raise ValueError(f"{shown(template)} is not a Topic Filter: {error}") from None
    return levels


# ------------------------------------------------------------------------------------------------------ one by one


def topic_for(template: str, principal: Principal) -> str:
    """A rule's topic with the client's values put in. Raises Unusable."""
    topic = filled(template, principal)
    if topic.startswith("$") and not template.startswith("$"):
        raise Unusable(f"the client's own value would make it a topic of the server's: {shown(topic)}")
    return topic


def for_anybody(template: str) -> str:
    """A rule's topic with wildcards in place of the client's values."""
    return "".join(part if isinstance(part, str) else "+" for part in parse(template))


def allows(topic: str, action: Action, name: str) -> bool:
    """Whether a topic, with values put in, allows to publish to a Topic Name or to subscribe to a Topic Filter."""
    return matches(topic, name) if action is Action.PUBLISH else covers(topic, name)


def covers(allowed: str, topic_filter: str) -> bool:
    """Whether one Topic Filter matches every Topic Name that another could match (neither with a ShareName)."""
    allowed_levels = allowed.split("/")
    levels = _SAME.get(topic_filter, topic_filter).split("/")
    if allowed_levels[0] in ("+", "#") and levels[0].startswith("$"):  # [MQTT-4.7.2-1]
        return False
    for index, level in enumerate(allowed_levels):
        if level == "#":
            return True
        if index == len(levels) or levels[index] == "#":
            return False
        if level not in ("+", levels[index]):
            return False
    return len(allowed_levels) == len(levels)


# ----------------------------------------------------------------------------------------------------- all at once


@final
class _Node:
    """What may follow the levels above: nothing (`end`), anything (`rest`, "#"), "+", a literal level or a token."""

    __slots__ = ("any_level", "end", "literals", "rest", "tokens")

    def __init__(self) -> None:
        self.end = False
        self.rest = False
        self.any_level: _Node | None = None
        self.literals: dict[str, _Node] | None = None
        self.tokens: dict[str, _Node] | None = None

    def below(self, level: str | Token) -> "_Node":
        """The node of a level, made if there is none."""
        if level == "+":
            if self.any_level is None:
                self.any_level = _Node()
            return self.any_level
        if isinstance(level, Token):
            if self.tokens is None:
                self.tokens = {}
            return self.tokens.setdefault(level.text, _Node())
        if self.literals is None:
            self.literals = {}
        node = self.literals.get(level)
        if node is None:
            node = self.literals[level] = _Node()
        return node


@final
class TopicSet:
    """Topics of rules, with the tokens as they are: one set serves many clients."""

    __slots__ = ("_exact", "_root", "everything")

    def __init__(self) -> None:
        self.everything: bool = False
        self._exact: set[str] = set()
        self._root: _Node | None = None

    def add(self, template: str) -> None:
        """Add a topic that is well-formed, see `levels_of`."""
        if "+" not in template and "#" not in template and "{" not in template:
            self._exact.add(template)
            return
        if self._root is None:
            self._root = _Node()
        node = self._root
        for level in levels_of(template):
            if level == "#":
                node.rest = True
                return
            node = node.below(level)
        node.end = True

    def allows(self, action: Action, name: str, own: dict[str, list[str]]) -> bool:
        """Whether one of the topics matches a Topic Name (PUBLISH), or covers a Topic Filter (SUBSCRIBE).

        `own` has the client's values, as `tokens_by_value` gives them.
        """
        if self.everything or name in self._exact:
            return True
        if self._root is None:
            return False
        return _walk(self._root, (name if action is Action.PUBLISH else _SAME.get(name, name)).split("/"), own)


def _walk(root: _Node, levels: list[str], own: dict[str, list[str]]) -> bool:
    count = len(levels)
    stack = [(root, 0)]
    if levels[0].startswith("$"):  # neither wildcards [MQTT-4.7.2-1] nor the client's own values are for these
        child = root.literals.get(levels[0]) if root.literals is not None else None
        stack = [] if child is None else [(child, 1)]
    while stack:
        node, depth = stack.pop()
        if node.rest:
            return True
        if depth == count:
            if node.end:
                return True
            continue
        level = levels[depth]
        if level == "#":
            continue
        depth += 1
        if node.any_level is not None:
            stack.append((node.any_level, depth))
        if node.tokens is not None:
            for token in own.get(level, ()):
                child = node.tokens.get(token)
                if child is not None:
                    stack.append((child, depth))
        if node.literals is not None:
            child = node.literals.get(level)
            if child is not None:
                stack.append((child, depth))
    return False
