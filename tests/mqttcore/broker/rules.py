"""Rules, clients, topics and filters for tests, and an oracle that decides by enumerating."""

import itertools
import re
from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from mqttcore.auth import Action, Principal
from mqttcore.broker.authorization import Resource, Rule
from mqttcore.topics import matches

# Few of each, so that what is drawn apart from each other meets often enough.
USERNAME, CLIENT_ID, SITE, PATH = (
    "{principal.username}",
    "{principal.clientId}",
    "{principal.attributes.site}",
    "{principal.attributes.a/b*c}",
)
TOKENS = (USERNAME, CLIENT_ID, SITE, PATH)
VALUES = ("a", "b", "", "$s", "$share", "a/b", "+", "#", "*", "a*", USERNAME, "{principal.attributes.x}")
FRESH = "a level that no rule and no filter names"

values = st.sampled_from(("a",) * 12 + ("b",) * 4 + VALUES)  # mostly one, so that rules are for clients
principals = st.builds(
    Principal,
    client_id=values.filter(bool),
    username=st.none() | values,
    attributes=st.dictionaries(st.sampled_from(["site", "a/b*c"]), values),
)


def filters(*more: str, max_levels: int = 3) -> st.SearchStrategy[str]:
    """Topic Filters of up to `max_levels` levels; `more` are levels beside the usual ones."""
    levels = st.sampled_from(["a", "b", "", "$s", "+", *more])
    return st.builds(
        lambda start, end: "/".join([*start, *end][:max_levels]),
        st.lists(levels, max_size=max_levels - 1),
        st.sampled_from([["#"], ["a"], ["+"], []]) | st.sampled_from([[level] for level in more] or [["a"]]),
    ).filter(bool)


templates = filters(*TOKENS)
patterns = st.lists(st.sampled_from(["a", "b", "*", "*", "$", *TOKENS]), min_size=1, max_size=4).map("".join)
resources = st.builds(
    Resource,
    action=st.sampled_from(Action),
    client_ids=st.just(()) | st.lists(patterns, max_size=2).map(tuple),
    topics=st.lists(templates, min_size=1, max_size=4).map(tuple) | st.lists(templates, max_size=1).map(tuple),
)
rules = st.builds(
    Rule,
    usernames=st.lists(values, max_size=2).map(tuple),
    client_ids=st.lists(values, max_size=2).map(tuple),
    attributes=st.lists(st.dictionaries(st.sampled_from(["site", "a/b*c"]), values), max_size=2).map(tuple),
    resources=st.lists(resources, min_size=1, max_size=4).map(tuple),
)


@st.composite
def topics_and_filters(draw: st.DrawFn) -> tuple[Action, str]:
    """What a client may ask for: an action, and a Topic Name or Topic Filter."""
    own = [value for value in VALUES if value and not set(value) & set("/+#")]
    if draw(st.booleans()):
        return Action.SUBSCRIBE, draw(filters(*own))
    levels = draw(st.lists(st.sampled_from(["a", "b", "", "$s", *own]), min_size=1, max_size=4))
    return Action.PUBLISH, "/".join(levels) or "a"


@st.composite
def questions(draw: st.DrawFn, given: list[Rule]) -> tuple[Action, str]:
    """What a client may ask for: mostly what is like a topic of the rules."""
    resources = [resource for rule in given for resource in rule.resources if resource.action is not Action.CONNECT]
    topics = [(resource.action, topic) for resource in resources for topic in resource.topics]
    if not topics or not draw(st.integers(0, 3)):
        return draw(topics_and_filters())
    action, template = draw(st.sampled_from(topics))
    levels: list[str] = []
    for level in template.replace(PATH, "{}").split("/"):
        more = ["+"] if action is Action.SUBSCRIBE else []
        if level == "#":
            levels += draw(st.lists(st.sampled_from(["a", "b", *more]), max_size=2))
            levels += draw(st.sampled_from([[], ["#"]])) if more else []
        elif level == "+" or level.startswith("{"):
            levels.append(draw(st.sampled_from(["a", "a", "b", *more])))
        else:
            levels.append(level)
    return action, "/".join(levels) or "a"


class Oracle:
    """Decides by trying: every rule, every resource, every topic that there could be."""

    def __init__(self, given: Iterable[Rule]) -> None:
        self._rules = list(given)

    def __call__(self, principal: Principal, action: Action, name: str) -> bool:
        return any(
            is_meant(rule, principal)
            and resource.action is action
            and (not resource.client_ids or any(is_like(pattern, principal) for pattern in resource.client_ids))
            and (action is Action.CONNECT or not resource.topics or self._allows(resource, principal, name))
            for rule in self._rules
            for resource in rule.resources
        )

    @staticmethod
    def _allows(resource: Resource, principal: Principal, name: str) -> bool:
        topics = [topic for template in resource.topics if (topic := filled(template, principal)) is not None]
        if resource.action is Action.PUBLISH:
            return any(matches(topic, name) for topic in topics)
        return any(all(matches(topic, each) for each in matched_by(name, topics)) for topic in topics)


def is_meant(rule: Rule, principal: Principal) -> bool:
    """Whether a rule is for a client, by the words of the contract."""
    own = principal.attributes
    return (
        (principal.username is not None and principal.username in rule.usernames)
        or principal.client_id in rule.client_ids
        or any(wanted and {*wanted.items()} <= {*own.items()} for wanted in rule.attributes)
    )


def own_values(principal: Principal) -> Mapping[str, str | None]:
    """What each token stands for, None where it stands for nothing."""
    found = {
        USERNAME: principal.username,
        CLIENT_ID: principal.client_id,
        SITE: principal.attributes.get("site"),
        PATH: principal.attributes.get("a/b*c"),
    }
    return {token: value if value and not set(value) & set("/+#") else None for token, value in found.items()}


def is_like(pattern: str, principal: Principal) -> bool:
    """Whether a client identifier fits a pattern, by a regular expression."""
    own = own_values(principal)
    expression = ""
    for part in re.split("({[^}]*})", pattern):
        if part not in own:
            expression += ".*".join(map(re.escape, part.split("*")))
        elif (value := own[part]) is None:
            return False
        else:
            expression += re.escape(value)
    return re.fullmatch(expression, principal.client_id, re.DOTALL) is not None


def filled(template: str, principal: Principal) -> str | None:
    """A topic with the client's values put in; None if it is for nothing."""
    for token, value in own_values(principal).items():
        mark = f"\0{TOKENS.index(token)}"
        template = template.replace(token, mark)
        if mark in template.split("/") and value is None:
            return None
    own = {f"\0{TOKENS.index(token)}": value for token, value in own_values(principal).items()}
    levels = [own.get(level, level) or "" for level in template.split("/")]
    if template[0] == "\0" and levels[0].startswith("$"):
        return None
    return "/".join(levels)


def matched_by(topic_filter: str, topics: Iterable[str] = ()) -> list[str]:
    """Topic Names that a filter matches: of every kind that the filter and `topics` can tell apart."""
    split = [text.split("/") for text in (topic_filter, *topics)]
    levels = {level for text in split for level in text if level not in ("+", "#")} | {"", FRESH, "$s"}
    depths = range(1, max(map(len, split)) + 2)
    every = (
        "/".join(chosen)
        for depth in depths
        for chosen in itertools.product(*(_possible(topic_filter.split("/"), index, levels) for index in range(depth)))
    )
    return [topic for topic in every if topic and matches(topic_filter, topic)]


def _possible(wanted: list[str], index: int, levels: set[str]) -> Iterable[str]:
    # What the filter says literally need not be tried with anything else.
    level = wanted[index] if index < len(wanted) else "#"
    return sorted(levels) if level in ("+", "#") else [level]
