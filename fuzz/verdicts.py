"""What holds of an authenticator's verdict and its trace, whatever the credentials and the replies."""

from collections.abc import Callable, Iterable

from mqttcore.auth import (
    MAXIMUM_TRACE,
    Authenticator,
    AuthRequest,
    Effect,
    Granted,
    Reply,
    Trace,
    Verdict,
)
from trio_broker.logs import printable

LONGEST_MESSAGE = 1000
"""Characters of a message for the log, at most."""
WINDOW = 12
"""Characters of a secret that, one after another, must not be in a message."""


def run(
    authenticator: Authenticator, request: AuthRequest, perform: Callable[[Effect], Reply], effects: int
) -> tuple[Verdict, list[Trace]]:
    """The verdict and the trace, without the Exchange that would turn an exception into a denial."""
    generator = authenticator(request)
    trace: list[Trace] = []
    reply: Reply = None
    verdict: Verdict | None = None
    while verdict is None:
        try:
            effect = generator.send(reply)
        except StopIteration as stop:
            verdict = stop.value
            assert isinstance(verdict, Verdict)
            break
        assert isinstance(effect, Effect)
        if isinstance(effect, Trace):
            trace.append(effect)
            reply = None
            assert len(trace) <= MAXIMUM_TRACE
            continue
        effects -= 1
        assert effects >= 0, "too many steps"
        assert_hidden([repr(effect)], secrets_of(request))
        reply = perform(effect)
    assert verdict is not None
    texts = [step.message for step in trace]
    if isinstance(verdict, Granted):
        assert verdict.expires_at is None or verdict.expires_at > request.time
        assert all(isinstance(value, str) for pair in verdict.attributes.items() for value in pair)
    else:
        texts.append(verdict.message)
    for text in texts:
        assert len(text) <= LONGEST_MESSAGE
        assert printable(text).isprintable()  # as the log has it, whatever a server said
    assert_hidden([*texts, repr(request)], secrets_of(request))
    return verdict, trace


def secrets_of(request: AuthRequest) -> list[str]:
    """The secrets of a request that are long enough not to be found in a message by chance."""
    given = [secret for secret in (request.password, request.authentication_data) if secret is not None]
    return [text for secret in given if len(text := secret.decode("latin-1")) >= 2 * WINDOW]


def assert_hidden(texts: Iterable[str], secrets: Iterable[str]) -> None:
    """No part of a secret is in a text."""
    secrets = list(secrets)
    for text in texts:
        for secret in secrets:
            starts = range(0, len(secret) - WINDOW + 1, WINDOW // 2)
            found = [part for at in starts if (part := secret[at : at + WINDOW]) in text]
            # What the client sends twice, once where it is no secret, is none.
            assert not found or len({*found[0]}) < WINDOW // 2, f"{found[0]!r} is in a message"
