"""Topic Names and Topic Filters, section 4.7, and shared subscriptions' filters, section 4.8.2.

Matching compares strings as they are, level by level, without regular expressions, recursion or backtracking.
"""

from mqttcore.codes import ReasonCode
from mqttcore.errors import ProtocolError

SHARE_PREFIX = "$share/"
SERVER_PREFIX = "$SYS/"
"""Topics that only the server itself publishes to (section 4.7.2)."""


def check_topic_name(topic: str) -> None:
    """Raise ProtocolError (0x90 Topic Name invalid) unless `topic` can be published to, section 4.7."""
    if not topic:  # [MQTT-4.7.3-1]
        raise ProtocolError("a Topic Name must have at least one character", ReasonCode.TOPIC_NAME_INVALID)
    if "+" in topic or "#" in topic:  # [MQTT-3.3.2-2] [MQTT-4.7.0-1]
        raise ProtocolError("a Topic Name must not contain wildcards", ReasonCode.TOPIC_NAME_INVALID)


def check_topic_filter(topic_filter: str) -> None:
    """Raise ProtocolError (0x8F Topic Filter invalid) unless `topic_filter` is well-formed, sections 4.7.1 and
    4.8.2.
    """
    if topic_filter.startswith(SHARE_PREFIX):
        _, slash, rest = topic_filter[len(SHARE_PREFIX) :].partition("/")
        share_name = topic_filter[len(SHARE_PREFIX) : len(topic_filter) - len(rest) - len(slash)]
        if not share_name or "+" in share_name or "#" in share_name:  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
            raise _bad_filter("a ShareName has at least one character and no wildcard")
        if not rest:  # [MQTT-4.8.2-2]
            raise _bad_filter("a shared subscription needs a Topic Filter after its ShareName")
        topic_filter = rest
    if not topic_filter:  # [MQTT-4.7.3-1]
        raise _bad_filter("a Topic Filter must have at least one character")
    if "+" not in topic_filter and "#" not in topic_filter:
        return
    levels = topic_filter.split("/")
    last = len(levels) - 1
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != last):  # [MQTT-4.7.1-1]
            raise _bad_filter("'#' must fill a level of its own, and the last one")
        if "+" in level and level != "+":  # [MQTT-4.7.1-2]
            raise _bad_filter("'+' must fill a level of its own")


def _bad_filter(message: str) -> ProtocolError:
    return ProtocolError(message, ReasonCode.TOPIC_FILTER_INVALID)


def has_wildcard(topic_filter: str) -> bool:
    """Whether a well-formed Topic Filter has a wildcard."""
    return "+" in topic_filter or "#" in topic_filter


def split_share(topic_filter: str) -> tuple[str | None, str]:
    """The ShareName (None without one) and the Topic Filter behind it, section 4.8.2."""
    if not topic_filter.startswith(SHARE_PREFIX):
        return None, topic_filter
    share_name, _, rest = topic_filter[len(SHARE_PREFIX) :].partition("/")
    return share_name, rest


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a well-formed Topic Filter (without ShareName) matches a Topic Name, section 4.7."""
    filter_levels = topic_filter.split("/")
    topic_levels = topic.split("/")
    if topic.startswith("$") and filter_levels[0] in ("+", "#"):  # [MQTT-4.7.2-1]
        return False
    for index, level in enumerate(filter_levels):
        if level == "#":
            return True
        if index == len(topic_levels) or level not in ("+", topic_levels[index]):  # [MQTT-4.7.3-4]
            return False
    return len(filter_levels) == len(topic_levels)
