"""BrokerAuthorization: rules that are understood completely, or refused."""

import json
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqttcore.auth import Action
from mqttcore.broker.authorization import Resource
from tests.trio_broker.resources.support import (
    AUTOMATIC,
    V1,
    configuration,
    listener,
    loads,
    manifest,
    problems,
    together,
    warnings,
)
from trio_broker.resources import (
    Authorization,
    BrokerResource,
    KeyType,
    Principals,
    ResourceMethod,
    Rule,
    StateStoreMethod,
    StateStoreResource,
)

LISTENER = listener(f"- {{port: 8883, authenticationRef: default, authorizationRef: rules, tls: {AUTOMATIC}}}")


def policies(text: str) -> str:
    return together(LISTENER, manifest("BrokerAuthorization", "rules", f"spec: {{authorizationPolicies: {text}}}", V1))


def rule(resources: str, principals: str = "{clientIds: [a]}") -> str:
    return policies(f"{{rules: [{{principals: {principals}, brokerResources: {resources}}}]}}")


def authorization(text: str) -> Authorization:
    policy = configuration(text).ports[0].authorization
    assert policy is not None
    return policy


FULL = """
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthorization
metadata: {name: rules}
spec:
  authorizationPolicies:
    cache: disabled
    rules:
      - principals:
          usernames: [temperature-sensor, humidity-sensor]
          clientIds: [one]
          attributes:
            - {building: '17', organization: contoso}
        brokerResources:
          - method: connect
            clientIds: ['{principal.attributes.building}*']
          - method: PUBLISH
            topics: ['sensors/{principal.attributes.building}/{principal.clientId}/telemetry/*', 'a/+/#']
          - {method: Subscribe}
        stateStoreResources:
          - {method: readwrite, keyType: pattern, keys: ['*', 'clients:{principal.clientId}:*']}
          - {method: Read, keyType: Binary, keys: [MTE2]}
"""


def test_everything() -> None:
    assert authorization(together(LISTENER, FULL)) == Authorization(
        "rules",
        "azure-iot-operations",
        (
            Rule(
                principals=Principals(
                    usernames=("temperature-sensor", "humidity-sensor"),
                    client_ids=("one",),
                    attributes=({"building": "17", "organization": "contoso"},),
                ),
                broker_resources=(
                    BrokerResource(method=ResourceMethod.CONNECT, client_ids=("{principal.attributes.building}*",)),
                    BrokerResource(
                        method=ResourceMethod.PUBLISH,
                        topics=("sensors/{principal.attributes.building}/{principal.clientId}/telemetry/*", "a/+/#"),
                    ),
                    BrokerResource(method=ResourceMethod.SUBSCRIBE),
                ),
                state_store_resources=(
                    StateStoreResource(
                        method=StateStoreMethod.READ_WRITE,
                        key_type=KeyType.PATTERN,
                        keys=("*", "clients:{principal.clientId}:*"),
                    ),
                    StateStoreResource(method=StateStoreMethod.READ, key_type=KeyType.BINARY, keys=("MTE2",)),
                ),
            ),
        ),
        cache=False,
    )
    assert warnings(together(LISTENER, FULL)) == []


@pytest.mark.parametrize(
    ("text", "cache"),
    [
        ("{}", True),
        ("{cache: ENABLED}", True),
        ("{enableCache: false}", False),
        ("{enableCache: true, rules: []}", True),
    ],
)
def test_cache_and_no_rules(text: str, cache: bool) -> None:
    policy = authorization(policies(text))
    assert policy.cache is cache
    assert policy.rules == ()


def test_the_older_spelling_of_client_ids() -> None:
    [read] = authorization(rule("[{method: Connect}]", "{clientids: [a]}")).rules
    assert read.principals.client_ids == ("a",)


@pytest.mark.parametrize("principals", ["{}", "{clientIds: []}", "{usernames: [], attributes: []}", "~"])
def test_a_rule_for_nobody_is_a_warning(principals: str) -> None:
    text = rule("[{method: Connect}]", principals)
    assert authorization(text).rules[0].principals == Principals()
    assert "without principals the rule is for nobody" in warnings(text)[0]


def test_rules_without_connect_are_a_warning() -> None:
    assert "no rule allows Connect, so that nobody gets in" in warnings(rule("[{method: Publish}]"))[0]
    assert "topics mean nothing for Connect" in warnings(rule("[{method: Connect, topics: [a]}]"))[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (policies("{cache: Enabled, enableCache: true}"), "is the older spelling of cache"),
        (policies("{cache: true}"), "must be Enabled or Disabled, not true or false"),
        (policies("{rule: []}"), "authorizationPolicies.rule: there is no such key (did you mean rules?)"),
        (policies("{rules: [{principals: {clientIds: [a]}}]}"), "brokerResources is missing"),
        (rule("[{method: Publish, topics: }]"), "topics: has no value, and would be taken as left out"),
        (rule("[{}]"), "brokerResources[0]: method is missing"),
        (rule("[{method: Conect}]"), "'Conect' is not Connect, Publish or Subscribe (did you mean Connect?)"),
        (rule("[{method: Connect}]", "{attributes: [{}]}"), "an empty map of attributes would be for everybody"),
        (rule("[{method: Connect}]", "{attributes: {a: b}}"), "attributes: must be a list, not a mapping"),
        (rule("[{method: Connect}]", "{attributes: [{a: 1}]}"), "attributes[0].a: must be text, not a number"),
        (rule("[{method: Connect}]", "{username: [a]}"), "there is no such key (did you mean usernames?)"),
        (
            rule("[{method: Publish, topics: ['client-{principal.clientId}/#']}]"),
            "topics[0]: {principal.clientId} must be a whole level of the topic, between slashes",
        ),
        (
            rule("[{method: Publish, topics: ['a/{principal.clientid}']}]"),
            "'{principal.clientid}' is no substitution; there are {principal.username}, {principal.clientId},",
        ),
        (rule("[{method: Publish, topics: ['a/{principal.attributes.}']}]"), "is no substitution"),
        (
            rule("[{method: Publish, topics: ['a/b-{principal.attributes.c/d}']}]"),
            "topics[0]: {principal.attributes.c/d} must be a whole level of the topic, between slashes",
        ),
        (rule("[{method: Publish, topics: ['a/{principal.clientId']}]"), "is no substitution"),
        (rule("[{method: Publish, topics: ['{{principal.clientId}}']}]"), "is no substitution"),
        (rule("[{method: Publish, topics: ['{clientId}']}]"), "is no substitution"),
        (rule("[{method: Publish, topics: ['']}]"), "topics[0]: must not be empty"),
        (rule("[{method: Publish, topics: ['a/#/b']}]"), "is not a Topic Filter: '#' must fill a level"),
        (rule("[{method: Publish, topics: ['a+/b']}]"), "is not a Topic Filter: '+' must fill a level"),
        (
            rule("[{method: Subscribe, topics: ['$share/g/a/b']}]"),
            "a rule is for the Topic Filter behind the ShareName (did you mean 'a/b'?)",
        ),
        (rule("[{method: Connect, clientIds: ['{client}']}]"), "clientIds[0]: '{client}' is no substitution"),
        (rule('[{method: Publish, topics: ["a\\0b"]}]'), "must not contain U+0000"),
        (
            policies(
                "{rules: [{principals: {clientIds: [a]}, brokerResources: [], stateStoreResources: [{method: Raed}]}]}"
            ),
            "'Raed' is not Read, Write or ReadWrite (did you mean Read?)",
        ),
        (
            policies(
                "{rules: [{principals: {}, brokerResources: [],"
                " stateStoreResources: [{method: Read, keyType: Binary, keys: ['a b']}]}]}"
            ),
            "keys[0]: a Binary key is written in Base64",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, expected: str) -> None:
    wrong = problems(text)
    assert any(expected in problem for problem in wrong), wrong


PIECES = (
    *("a", "b", "/", "/", "+", "#", "*", "$", "$share/", "{", "}", "\0", "é"),
    *("{principal.username}", "{principal.clientId}", "{principal.attributes.a}", "{principal.attributes.a/b}"),
    *("{principal.user}", "{principal.attributes.}", "{principal.clientId", "{principal.attributes.a{b}"),
)


@pytest.mark.parametrize("field", ["clientIds", "topics"])
def test_what_is_accepted_the_authorizer_accepts(field: str) -> None:
    outcomes: Counter[tuple[bool, bool]] = Counter()

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join))
    @example("client-{principal.attributes.a/b}")
    @example("{principal.attributes.a/b}c/d")
    def is_accepted(text: str) -> None:
        what = {"clientIds": "client_ids", "topics": "topics"}[field]
        try:
            Resource(action=Action.PUBLISH, **{what: (text,)})
        except ValueError:
            understood = False
        else:
            understood = True
        loaded = loads(rule(f"[{{method: Connect}}, {{method: Publish, {field}: [{json.dumps(text)}]}}]"))
        outcomes[understood, not loaded.problems] += 1
        if loaded.problems:
            for problem in loaded.problems:
                assert problem.file.endswith("0.yaml")
                assert problem.line
                assert problem.path.endswith(f".brokerResources[1].{field}[0]")
        else:
            assert understood
            assert loaded.configuration is not None

    is_accepted()
    assert outcomes[True, True] > 50
    assert outcomes[False, False] > 50
