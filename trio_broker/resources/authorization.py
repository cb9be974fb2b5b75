"""BrokerAuthorization: rules that allow. One that cannot be understood is a problem, and matches nothing."""

import re
from base64 import b64decode
from enum import Enum
from types import MappingProxyType

from attrs import frozen

from mqttcore.broker.authorization_topics import levels_of
from mqttcore.topics import SHARE_PREFIX
from trio_broker.resources.authentication import read_listener_refs
from trio_broker.resources.configuration import (
    Authorization,
    BrokerResource,
    KeyType,
    Principals,
    ResourceMethod,
    Rule,
    StateStoreMethod,
    StateStoreResource,
)
from trio_broker.resources.document import Mapping
from trio_broker.resources.identity import Identity, Reference
from trio_broker.resources.problems import nearest, shown
from trio_broker.resources.reader import Fields, Item

TOKENS = ("{principal.username}", "{principal.clientId}", "{principal.attributes.<name>}")
_TOKEN = re.compile(r"\{principal\.(?:username|clientId|attributes\.[^{}]+)\}")
_BRACED = re.compile(r"\{[^{}]*\}|[{}]")
_LONGEST_TOPIC = 65_535


class Switch(Enum):
    """On or off, as the product writes it."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


@frozen
class BrokerAuthorization:
    """A BrokerAuthorization; `listener_refs` only in the older form."""

    identity: Identity
    policy: Authorization
    listener_refs: tuple[Reference, ...]


def read_authorization(identity: Identity, spec: Fields) -> BrokerAuthorization:
    """A BrokerAuthorization's spec."""
    item = spec.required("authorizationPolicies")
    cache, rules = True, tuple[Rule, ...]()
    if item:
        with item.fields() as fields:
            cache = _read_cache(fields)
            rules_item = fields.optional("rules")
            if rules_item:
                rules = tuple(_read_rule(entry) for entry in rules_item.items())
        _warn_about_connect(item, rules)
    policy = Authorization(identity.name, identity.namespace, rules, cache)
    return BrokerAuthorization(identity, policy, read_listener_refs(identity, spec))


def _warn_about_connect(item: Item, rules: tuple[Rule, ...]) -> None:
    resources = [resource for rule in rules for resource in rule.broker_resources]
    if not any(resource.method is ResourceMethod.CONNECT for resource in resources):
        item.problems.warn(item.place, "no rule allows Connect, so that nobody gets in")


def _read_cache(fields: Fields) -> bool:
    cache, enable = fields.optional("cache"), fields.optional("enableCache")
    if cache and enable:
        enable.add("is the older spelling of cache, which stands beside it: keep one of them")
    if cache:
        return cache.choice(Switch) is Switch.ENABLED
    return enable.boolean() if enable else True


def _read_rule(entry: Item) -> Rule:
    with entry.fields() as fields:
        principals = _read_principals(fields)
        item = fields.required("brokerResources")
        resources = tuple(_read_resource(resource) for resource in (item.items() if item else ()))
        item = fields.optional("stateStoreResources")
        state_store = tuple(_read_state_store(resource) for resource in (item.items() if item else ()))
    return Rule(principals=principals, broker_resources=resources, state_store_resources=state_store)


def _read_principals(rule: Fields) -> Principals:
    item = rule.optional("principals")
    principals = Principals()
    if item:
        with item.fields() as fields:
            usernames, client_ids = fields.optional("usernames"), fields.optional("clientIds", "clientids")
            maps = fields.optional("attributes")
            principals = Principals(
                usernames=usernames.texts() if usernames else (),
                client_ids=client_ids.texts() if client_ids else (),
                attributes=tuple(_read_attribute_map(entry) for entry in maps.items()) if maps else (),
            )
    if principals == Principals():
        rule.problems.warn(item.place if item else rule.place, "without principals the rule is for nobody")
    return principals


def _read_attribute_map(entry: Item) -> MappingProxyType[str, str]:
    if isinstance(entry.node, Mapping) and not entry.node.entries:
        entry.add("an empty map of attributes would be for everybody: name at least one")
    return MappingProxyType(entry.text_map())


def _read_resource(entry: Item) -> BrokerResource:
    with entry.fields() as fields:
        method_item = fields.required("method")
        method = method_item.choice(ResourceMethod) if method_item else ResourceMethod.CONNECT
        client_ids, topics = fields.explicit("clientIds", "clientids"), fields.explicit("topics")
        resource = BrokerResource(
            method=method,
            client_ids=tuple(_read_pattern(item) for item in client_ids.items()) if client_ids else (),
            topics=tuple(_read_topic(item) for item in topics.items()) if topics else (),
        )
    if method_item and topics and resource.topics and method is ResourceMethod.CONNECT:
        topics.problems.warn(topics.place, "topics mean nothing for Connect")
    return resource


def _read_pattern(item: Item) -> str:
    text = item.text()
    if wrong := _token_error(text):
        item.add(*wrong)
    return text


def _read_topic(item: Item) -> str:
    text = item.text()
    if not text:
        return text
    if wrong := _token_error(text):
        item.add(*wrong)
        return text
    if len(text) > _LONGEST_TOPIC:
        item.add(f"a topic has up to {_LONGEST_TOPIC} characters")
    try:
        levels_of(text)
    except ValueError as error:
        behind = text[len(SHARE_PREFIX) :].partition("/")[2] if text.startswith(SHARE_PREFIX) else ""
        item.add(str(error), shown(behind) if behind else "")
    return text


def _token_error(text: str) -> tuple[str, str] | None:
    """What is wrong with the braces in `text`, and a suggestion."""
    for braced in _BRACED.findall(text):
        if not _TOKEN.fullmatch(braced):
            return f"{shown(braced)} is no substitution; there are {', '.join(TOKENS)}", nearest(braced, TOKENS)
    return None


def _read_state_store(entry: Item) -> StateStoreResource:
    with entry.fields() as fields:
        method, key_type, keys = fields.required("method"), fields.required("keyType"), fields.required("keys")
        resource = StateStoreResource(
            method=method.choice(StateStoreMethod) if method else StateStoreMethod.READ,
            key_type=key_type.choice(KeyType) if key_type else KeyType.PATTERN,
            keys=keys.texts() if keys else (),
        )
        if keys and resource.key_type is KeyType.BINARY:
            for item in keys.items():
                _check_base64(item)
    return resource


def _check_base64(item: Item) -> None:
    try:
        b64decode(item.text(), validate=True)
    except ValueError:
        item.add("a Binary key is written in Base64")
