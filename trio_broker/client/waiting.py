"""What tasks wait for: an answer of the server, a message's delivery."""

from typing import Generic, TypeVar

import trio

from mqttcore import Publish, ReasonCode
from trio_broker.client.errors import ClientError, with_reason

T = TypeVar("T")


class Answer(Generic[T]):
    """A value that comes later, or the error that comes instead."""

    def __init__(self) -> None:
        self._settled = trio.Event()
        self._values: list[T] = []
        self._failure: ClientError | None = None

    def give(self, value: T) -> None:
        """Answer with `value`; later answers and failures are ignored."""
        if not self._settled.is_set():
            self._values.append(value)
            self._settled.set()

    def fail(self, failure: ClientError) -> None:
        """Answer with an error; later answers and failures are ignored."""
        if not self._settled.is_set():
            self._failure = failure
            self._settled.set()

    @property
    def settled(self) -> bool:
        """Whether `wait` would return, or raise, at once."""
        return self._settled.is_set()

    async def wait(self) -> T:
        """The value. Raises the ClientError that came instead."""
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure.again()
        return self._values[0]


def size(publish: Publish) -> int:
    """What a message counts for in a bound on bytes."""
    return len(publish.topic) + len(publish.payload)


class Delivery(Answer[ReasonCode]):
    """A message that was handed over, and what becomes of it."""

    def __init__(self, publish: Publish) -> None:
        super().__init__()
        self._topic = publish.topic
        self.size = size(publish)

    async def wait(self) -> ReasonCode:
        """Wait until the server has acknowledged the message, with QoS 0 until it has been sent.

        Raises ClientError when the server refused it, or the connection ended first (section 4.3).
        """
        code = await super().wait()
        if code.is_failure:
            raise ClientError(with_reason(f"the server refused a message to {self._topic}", code, None), code)
        return code
