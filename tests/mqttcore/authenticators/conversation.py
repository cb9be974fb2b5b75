"""Runs an authenticator to its verdict, with somebody who performs what it asks for."""

from collections.abc import Callable

from attrs import frozen

from mqttcore.auth import Authenticator, AuthRequest, Effect, Exchange, Reply, Trace, Verdict

STEPS = 32


@frozen
class Conversation:
    """What was asked for, what the answers were, what was traced, and the verdict."""

    effects: tuple[Effect, ...]
    replies: tuple[Reply, ...]
    trace: tuple[Trace, ...]
    verdict: Verdict


def converse(
    authenticator: Authenticator, request: AuthRequest, perform: Callable[[Effect], Reply], steps: int = STEPS
) -> Conversation:
    """The whole of an exchange; it must end within `steps` effects."""
    exchange = Exchange(authenticator, request, steps)
    effects: list[Effect] = []
    replies: list[Reply] = []
    step = exchange.start()
    while not isinstance(step, Verdict):
        assert len(effects) < steps
        effects.append(step)
        replies.append(perform(step))
        step = exchange.resume(replies[-1])
    return Conversation(tuple(effects), tuple(replies), tuple(exchange.trace), step)
