"""The part of trio-broker explain about authorization: which rule allows what, or what is missing."""

from collections.abc import Sequence

import click
from attrs import frozen

from mqttcore.auth import Action, Principal
from mqttcore.broker.authorization import Rule
from mqttcore.broker.authorization_diagnosis import Explanation, explain
from mqttcore.broker.authorization_values import shown
from mqttcore.errors import ProtocolError
from mqttcore.topics import SERVER_PREFIX, check_topic_filter, check_topic_name, split_share

_REFUSALS = {
    Action.CONNECT: "CONNACK 0x87",
    Action.PUBLISH: "PUBACK or PUBREC 0x87, or nothing with QoS 0, and passes the message on to nobody",
    Action.SUBSCRIBE: "SUBACK 0x87",
}


@frozen
class Wanted:
    """What the client wants to do; `topic` is a Topic Name or a Topic Filter, "" for CONNECT."""

    action: Action
    topic: str


def wanted(action: str | None, topic: str | None) -> Wanted | None:
    """What --action and --topic ask about. Raises click.UsageError."""
    if action in (None, Action.CONNECT.value):
        if topic is not None:
            raise click.UsageError("--topic goes with --action publish or --action subscribe")
        return None if action is None else Wanted(Action.CONNECT, "")
    if topic is None:
        raise click.UsageError(f"--action {action} needs --topic")
    asked = Wanted(Action(action), topic)
    try:
        if asked.action is Action.PUBLISH:
            check_topic_name(topic)
        else:
            check_topic_filter(topic)
    except ProtocolError as error:
        raise click.UsageError(f"--topic {shown(topic)}: {error}") from None
    if asked.action is Action.PUBLISH and topic.startswith(SERVER_PREFIX):
        raise click.UsageError(f"--topic {shown(topic)}: only the broker itself publishes to {SERVER_PREFIX}")
    return asked


def judge_connect(rules: Sequence[Rule], principal: Principal) -> bool:
    """Say by which rule the client may connect, or why not; whether it may."""
    return _tell("connect", explain(rules, principal, Action.CONNECT, principal.client_id))


def judge(rules: Sequence[Rule], principal: Principal, asked: Wanted) -> bool:
    """Say by which rule the client may publish or subscribe, or why not; whether it may."""
    share_name, name = split_share(asked.topic) if asked.action is Action.SUBSCRIBE else (None, asked.topic)
    what = f"{asked.action.value} {'' if asked.action is Action.PUBLISH else 'to '}{shown(name)}"
    if share_name is not None:
        what += f" (of {shown(asked.topic)})"
    return _tell(what, explain(rules, principal, asked.action, name))


def refusal(action: Action) -> str:
    """What the broker answers to an action that no rule allows."""
    return f"The broker answers {_REFUSALS[action]}."


def _tell(what: str, explanation: Explanation) -> bool:
    place = f"rules[{explanation.rule}].brokerResources[{explanation.resource}]"
    if explanation.allowed:
        click.echo(f"  {what}: allowed by {place}")
    elif explanation.rule is None:
        click.echo(f"  {what}: denied: no rule has a brokerResource with this method")
    else:
        click.echo(f"  {what}: denied; {place} comes nearest, but")
    for reason in explanation.reasons:
        click.echo(f"    {reason}")
    return explanation.allowed
