"""What an authorizer costs: steps that are counted, never timed, and what it remembers."""

import gc
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from mqttcore import topics as topics_module
from mqttcore.auth import Action, Principal
from mqttcore.broker import (
    authorization,
    authorization_client_ids,
    authorization_principals,
    authorization_topics,
    authorization_values,
)
from mqttcore.broker.authorization import Resource, Rule, authorizer
from tests.compiled import interpreted
from tests.mqttcore.broker.rules import CLIENT_ID, SITE

CODE = (
    authorization,
    authorization_client_ids,
    authorization_principals,
    authorization_topics,
    authorization_values,
    topics_module,
)
FILES = {module.__file__ for module in CODE}
PUBLISH, SUBSCRIBE, CONNECT = Action.PUBLISH, Action.SUBSCRIBE, Action.CONNECT


def work(function: Callable[[], object]) -> int:
    """How many instructions of the rules' code run while a function does."""
    count = 0

    def counted(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return counted

    earlier = sys.gettrace()
    sys.settrace(counted)
    try:
        function()
    finally:
        sys.settrace(earlier)
    return count


def one(*resources: Resource, **principals: Any) -> Rule:
    """A rule for the client c unless told."""
    return Rule(**(principals or {"client_ids": ("c",)}), resources=resources)


def on(*topics: str, patterns: tuple[str, ...] = ()) -> tuple[Resource, Resource]:
    """To publish and to subscribe to topics."""
    return (
        Resource(action=PUBLISH, client_ids=patterns, topics=topics),
        Resource(action=SUBSCRIBE, client_ids=patterns, topics=topics),
    )


# ------------------------------------------------------------------------------------------------ what is for others

ORGANIZATION = {"organization": "o"}


def rules_for_others(kind: str, number: int) -> Iterator[Rule]:
    """Rules for others than the client that is asked about, of whom it may share some attributes."""
    for index in range(number):
        name = f"x{index:06}"
        shelf = {"building": "17", "shelf": name}
        kinds: dict[str, dict[str, Any]] = {
            "user names": {"usernames": (name,)},
            "client identifiers": {"client_ids": (name, f"y{name}")},
            "attributes": {"attributes": ({"device": name},)},
            "attributes of which one is everybody's": {"attributes": ({**ORGANIZATION, "device": name},)},
            "attributes in another order": {"attributes": ({"device": name, **ORGANIZATION},)},
            "attributes that are common each for itself": {
                "attributes": ({"building": f"{index % 100}", "room": f"{index // 100}"}, shelf)
            },
            "names of attributes": {"attributes": ({**ORGANIZATION, name: "yes"},)},
        }
        yield one(*on("#", f"{name}/+/#"), **kinds[kind])


def resources_for_others(kind: str, number: int) -> Iterator[Resource]:
    """Resources of a rule that is for the client, narrowed to others."""
    for index in range(number):
        name = f"x{index:06}"
        kinds = {
            "a client identifier": (name,),
            "client identifiers": (name, f"y{name}", f"z{name}"),
            "patterns that begin alike": (f"{name}-*",),
            "patterns that end alike": (f"*-{name}",),
            "patterns with tokens": (f"{CLIENT_ID}-{name}", f"{name}/{SITE}*"),
        }
        yield from on("#", f"{name}/+/#", patterns=kinds[kind])


NAME = "longer-than-what-patterns-begin-with"
OWN_ATTRIBUTES = {**ORGANIZATION, "device": "d", "building": "17", "room": "300", "shelf": "s"}
CLIENT = Principal(NAME, "u", OWN_ATTRIBUTES)
OWN = [
    one(*on(f"own/{CLIENT_ID}/+"), usernames=("u",)),
    one(*on(f"own/{CLIENT_ID}/+"), client_ids=(NAME,)),
    one(*on(f"own/{CLIENT_ID}/+"), attributes=(ORGANIZATION,)),
]


def costs(rules: Iterable[Rule]) -> tuple[int, ...]:
    """The work of the client's first decision, of others, and of one that is remembered."""
    authorize = authorizer(rules)
    questions = [
        (PUBLISH, f"own/{NAME}/1"),
        (PUBLISH, f"own/{NAME}/2"),
        (PUBLISH, "x000001/a/b"),
        (SUBSCRIBE, f"own/{NAME}/+"),
        (SUBSCRIBE, "#"),
        (PUBLISH, f"own/{NAME}/2"),
    ]
    assert [authorize(Principal(NAME, "v"), *question) for question in questions] == [
        True, True, False, True, False, True
    ]  # fmt: skip
    return tuple(work(partial(authorize, CLIENT, *question)) for question in questions)


NUMBERS = (10, 1_000, 20_000)


@interpreted
@pytest.mark.parametrize(
    "kind",
    [
        "user names",
        "client identifiers",
        "attributes",
        "attributes of which one is everybody's",
        "attributes in another order",
        "attributes that are common each for itself",
        "names of attributes",
    ],
)
def test_no_decision_costs_more_with_more_rules_for_others(kind: str) -> None:
    [(first, *later, remembered)] = {costs([*rules_for_others(kind, number), *OWN]) for number in NUMBERS}
    assert first < 6_000
    assert max(later) < 500
    assert remembered < 60


@interpreted
@pytest.mark.parametrize(
    "kind",
    [
        "a client identifier",
        "client identifiers",
        "patterns that begin alike",
        "patterns that end alike",
        "patterns with tokens",
    ],
)
def test_no_decision_costs_more_with_more_resources_narrowed_to_others(kind: str) -> None:
    found = set()
    for number in NUMBERS:
        narrowed = one(*resources_for_others(kind, number), client_ids=(NAME,), attributes=(ORGANIZATION,))
        found.add(costs([narrowed, *OWN]))
    [(first, *later, remembered)] = found
    assert first < 6_000
    assert max(later) < 500
    assert remembered < 60


def test_what_others_may_do_is_still_allowed_to_them() -> None:
    """The look-ups of the tests above find, too."""
    for kind, principal in (
        ("a client identifier", Principal("x000123", None, ORGANIZATION)),
        ("client identifiers", Principal("zx000123", None, ORGANIZATION)),
        ("patterns that begin alike", Principal("x000123-1", None, ORGANIZATION)),
        ("patterns that end alike", Principal("1-x000123", None, ORGANIZATION)),
        ("patterns with tokens", Principal("x000123/a1", None, {**ORGANIZATION, "site": "a"})),
    ):
        authorize = authorizer([one(*resources_for_others(kind, 200), attributes=(ORGANIZATION,))])
        assert authorize(principal, PUBLISH, "x000123/a/b"), kind
        assert not authorize(Principal("x000999", None, ORGANIZATION), PUBLISH, "x000123/a/b"), kind


# -------------------------------------------------------------------------------------------- what is for the client


def wildcards(number: int) -> list[str]:
    return [f"a/+/{index:06}/#" for index in range(number)]


def one_rule(number: int) -> list[Rule]:
    return [one(*on(*wildcards(number)))]


def rules_for_the_same(number: int) -> list[Rule]:
    return [one(*on(topic)) for topic in wildcards(number)]


def rules_for_it_and_another(number: int) -> list[Rule]:
    return [one(*on(topic), client_ids=("c", topic)) for topic in wildcards(number)]


def resources_narrowed_to_it(number: int) -> list[Rule]:
    narrowed = (on(topic, patterns=(f"{'*' * index}c",)) for index, topic in enumerate(wildcards(number)[:50]))
    return [one(*itertools.chain.from_iterable(narrowed)), one(*on(*wildcards(number)[50:]))]


QUESTIONS = [
    (PUBLISH, "a/x/000009/y/z", True),
    (PUBLISH, "a/x/y/000009", False),
    (SUBSCRIBE, "a/+/000009/+/#", True),
    (SUBSCRIBE, "a/+/+/#", False),
    (SUBSCRIBE, "a/#", False),
    (SUBSCRIBE, "#", False),
]


@interpreted
def test_a_client_that_only_connects_costs_nothing_for_its_topics() -> None:
    connect = Resource(action=CONNECT)
    found = {
        work(partial(authorizer([one(connect, *on(*wildcards(number)))]), Principal("c"), CONNECT, "c"))
        for number in (1, 7)
    }
    assert len(found) == 1


@interpreted
@pytest.mark.parametrize("rules", [one_rule, rules_for_the_same, rules_for_it_and_another, resources_narrowed_to_it])
def test_a_decision_walks_topics_and_does_not_look_at_each(rules: Callable[[int], list[Rule]]) -> None:
    found = set()
    for number in (100, 10_000):
        authorize = authorizer(rules(number))
        authorize(Principal("c"), PUBLISH, "elsewhere")  # its topics are put together for the first question
        for action, name, allowed in QUESTIONS:
            assert authorize(Principal("c", "v"), action, name) is allowed
        found.add(tuple(work(partial(authorize, Principal("c"), action, name)) for action, name, _ in QUESTIONS))
    assert len(found) == 1
    assert max(found.pop()) < 1_000


@interpreted
def test_topics_of_a_rule_for_many_are_compiled_for_all_of_them() -> None:
    found = set()
    for number in (100, 10_000):
        topics = [f"{topic[:-1]}{CLIENT_ID}/#" for topic in wildcards(number)]
        authorize = authorizer([one(*on(*topics), attributes=(ORGANIZATION,))])
        for index in range(3):
            principal = Principal(f"c{index}", None, ORGANIZATION)
            allowed = partial(authorize, principal, PUBLISH, f"a/x/000009/c{index}/1")
            assert not authorize(Principal(f"d{index}", None, ORGANIZATION), PUBLISH, f"a/x/000009/c{index}/1")
            found.add(work(allowed))
            assert allowed()
    assert len(found) == 1
    assert found.pop() < 1_500


@interpreted
@pytest.mark.parametrize("levels", [8, 11])
def test_a_walk_visits_each_node_at_most_once(levels: int) -> None:
    """With the worst rules that there are: "+" and a level side by side wherever they can be."""
    topics = ["/".join((*chosen, "end")) for chosen in itertools.product("a+", repeat=levels)]
    authorize = authorizer([one(*on(*topics))])
    nodes = 2 ** (levels + 2)
    for name in ("a/" * levels + "other", "a/" * 50 + "a", "a/" * 20_000 + "end"):
        assert not authorize(Principal("c"), PUBLISH, name)
        assert work(partial(authorize, Principal("c"), PUBLISH, f"{name}1")) < 60 * nodes
    # A client's own "+" is covered by a rule's "+" alone: nothing to choose.
    assert work(partial(authorize, Principal("c"), SUBSCRIBE, "+/" * levels + "other")) < 100 * levels


@interpreted
def test_fifty_levels_cost_what_the_rules_have_and_not_what_could_be_chosen() -> None:
    depth = 50
    topics = ["/".join("+" if index == place else "a" for index in range(depth)) for place in range(depth)]
    topics += ["/".join("+a"[(index + start) % 2] for index in range(depth)) + "/#" for start in range(2)]
    authorize = authorizer([one(*on(*topics))])
    assert authorize(Principal("c"), PUBLISH, "a/" * (depth - 1) + "b")
    nodes = sum(len(topic.split("/")) for topic in topics)
    for action in (PUBLISH, SUBSCRIBE):
        for name in ("b/" * 2 + "a/" * depth, "a/" * (depth - 2), "b/" * depth + "b"):
            assert not authorize(Principal("c"), action, name)
            assert work(partial(authorize, Principal("c"), action, f"{name}1")) < 60 * nodes
    for name in ("+/" * depth + "#", "+/" * (depth - 1) + "+", "a/+/" * depth + "#", "#"):
        assert work(partial(authorize, Principal("c"), SUBSCRIBE, name)) < 60 * nodes


@interpreted
def test_client_id_patterns_are_fitted_without_backtracking() -> None:
    resource = Resource(action=CONNECT, client_ids=("*a" * 500 + "*b*",))
    authorize = authorizer([one(resource, usernames=("u",))])
    text = "a" * 20_000
    assert not authorize(Principal(text + "c", "u"), CONNECT, text)
    assert work(partial(authorize, Principal(text, "u"), CONNECT, text)) < 30_000


# ------------------------------------------------------------------------------------------------ what is remembered


def test_principals_and_their_topics_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "MAXIMUM_REMEMBERED_PRINCIPALS", 5)
    monkeypatch.setattr(authorization, "MAXIMUM_REMEMBERED_TOPICS", 20)
    for topics, most in ((1, 5), (7, 2), (15, 1), (30, 5)):  # 30 topics are compiled for all, and count for nobody
        names = tuple(f"{CLIENT_ID}/{number}" for number in range(topics))
        authorize = authorizer([one(Resource(action=PUBLISH, topics=names), attributes=({"a": "b"},))])
        memory: Any = authorize.__self__  # type: ignore[attr-defined]
        sizes = []
        for number in [*range(12)] * 3:
            principal = Principal(f"c{number}", None, {"a": "b"})
            for _ in range(2):
                assert authorize(principal, PUBLISH, f"c{number}/0")
                assert not authorize(principal, PUBLISH, f"c{number + 1}/0")
            sizes.append(len(memory._permits))
            assert memory._topics == sum(permit.topics for permit in memory._permits.values())
            assert memory._decisions == sum(len(permit.decisions) for permit in memory._permits.values())
        assert max(sizes) == max(sizes[-12:]) == most


def test_principals_with_long_names_are_not_remembered() -> None:
    authorize = authorizer([one(Resource(action=PUBLISH, topics=("a/#",)), attributes=({"a": "b"},))])
    memory: Any = authorize.__self__  # type: ignore[attr-defined]
    longest = authorization.LONGEST_REMEMBERED_NAME
    for client_id, username in (("c" * (longest + 1), None), ("c", "u" * longest)):
        principal = Principal(client_id, username, {"a": "b"})
        assert [authorize(principal, PUBLISH, topic) for topic in ("a/b", "b", "a/b")] == [True, False, True]
    assert (len(memory._permits), memory._decisions) == (0, 0)
    assert authorize(Principal("c", "u" * (longest - 1), {"a": "b"}), PUBLISH, "a/b")
    assert (len(memory._permits), memory._decisions) == (1, 1)


def test_decisions_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "MAXIMUM_REMEMBERED_DECISIONS", 10)
    monkeypatch.setattr(authorization, "MAXIMUM_REMEMBERED_DECISIONS_OF_ONE", 4)
    monkeypatch.setattr(authorization, "LONGEST_REMEMBERED_TOPIC", 5)
    authorize = authorizer([one(Resource(action=PUBLISH, topics=("a/#",)), usernames=("u",))])
    memory: Any = authorize.__self__  # type: ignore[attr-defined]
    most = [0, 0]
    for number in range(200):
        principal = Principal(f"c{number % (2 if number < 100 else 7)}", "u")
        for name, allowed in (
            (f"a/{number}", True),
            (f"b/{number}", False),
            ("a/long topic", True),
            ("long topic", False),
        ):
            for _ in range(2):
                assert authorize(principal, PUBLISH, name) is allowed
                assert not authorize(principal, SUBSCRIBE, name)
        decisions = [permit.decisions for permit in memory._permits.values()]
        assert all(len(name) <= 5 for each in decisions for _, name in each)
        assert memory._decisions == sum(map(len, decisions))
        most = [max(most[0], memory._decisions), max(most[1], *map(len, decisions))]
    assert most == [10, 4]


def test_an_authorizer_that_is_replaced_takes_along_what_it_remembered() -> None:
    before = authorizer([one(*on("a/+"))])
    assert before(Principal("c"), PUBLISH, "a/1")
    memory: Any = before.__self__  # type: ignore[attr-defined]
    [permit] = memory._permits.values()
    assert permit.decisions
    kind, identity = type(memory), id(memory)
    after = authorizer([one(*on("b/+"))])
    assert not after(Principal("c"), PUBLISH, "a/1")
    assert after(Principal("c"), PUBLISH, "b/1")
    del before, memory, permit
    assert identity not in [id(each) for each in gc.get_objects() if type(each) is kind]
