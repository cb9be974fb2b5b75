"""One MQTT connection of a Trio application: the core's client role with a reader, a writer and a timer."""

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import trio

from mqttcore import (
    Auth,
    ConnAck,
    Connect,
    ConnectionClosed,
    Disconnect,
    Limits,
    LocalProtocolError,
    PingReq,
    Publish,
    ReasonCode,
    Session,
    SubAck,
    Subscription,
    UnsubAck,
)
from mqttcore.client import Client as ClientCore
from mqttcore.client import Delivered, Event
from mqttcore.codes import V5
from trio_broker.client.bounds import Bounds
from trio_broker.client.errors import ClientError, printable, reason_name, with_reason
from trio_broker.client.streams import broken_reason, finish
from trio_broker.client.waiting import Answer, Delivery, size

A = TypeVar("A")
T = TypeVar("T")
UserProperties = tuple[tuple[str, str], ...]

READ_SIZE = 64 * 1024

AnswerChallenge = Callable[[Auth], Awaitable[bytes | None]]
"""Gives the authentication data that answers an AUTH 0x18 (section 4.12); raises ClientError to give up."""


class Client:
    """A connected client; made by `open_client`.

    Its methods raise ClientError: for what the server or this side refuses, and, once the connection has
    ended, always. An application that publishes with QoS 1 or 2 takes its messages in a task of its own: the
    answers of the server come behind the messages, and are not read while the message queue is full.
    """

    def __init__(
        self,
        connect: Connect,
        stream: trio.abc.Stream,
        *,
        limits: Limits,
        session: Session | None,
        bounds: Bounds,
        message_limit: int | None,
        answer_challenge: AnswerChallenge | None,
    ) -> None:
        self._core = ClientCore(connect, trio.current_time(), limits=limits, session=session)
        self._stream = stream
        self._bounds = bounds
        self._message_limit = math.inf if message_limit is None else message_limit
        self._answer_challenge = answer_challenge
        self._client_id = connect.client_id
        self._protocol_version = connect.protocol_version

        self._messages: deque[Publish] = deque()
        self._waiting_bytes = 0
        self._unsettled_messages = 0
        self._unsettled_bytes = 0
        self._authentication: Answer[ConnAck | Auth] = Answer()
        self._acknowledgements: dict[int, Answer[SubAck | UnsubAck]] = {}
        self._unwritten: list[Delivery] = []  # QoS 0
        self._unacknowledged: dict[int, Delivery] = {}  # QoS 1 and 2, by the core's number

        self._connack: ConnAck | None = None
        self._leaving = False
        self._paused = False
        self._ping_due: float | None = None
        self._broken: str | None = None
        self._last_word: Disconnect | None = None
        self._ended: ClientError | None = None

        self._timer = trio.CancelScope()
        self._end_event = trio.Event()
        self._reader_finished = trio.Event()
        self._writer_finished = trio.Event()
        self._output_to_write = trio.lowlevel.ParkingLot()
        self._room_for_output = trio.lowlevel.ParkingLot()
        self._room_for_messages = trio.lowlevel.ParkingLot()
        self._message_arrived = trio.lowlevel.ParkingLot()

    # What an application calls.

    @property
    def client_id(self) -> str:
        """The Client Identifier, also when the server assigned it (section 3.2.2.3.7)."""
        return self._client_id

    @property
    def connack(self) -> ConnAck:
        """What the server granted."""
        assert self._connack is not None, "open_client waits for it"
        return self._connack

    @property
    def connected(self) -> bool:
        """Whether the connection stands; it is so from the beginning of `open_client`'s block."""
        return self._ended is None and not self._leaving

    async def ended(self) -> ClientError:
        """Wait for the connection to end and say why it did."""
        await self._end_event.wait()
        assert self._ended is not None
        return self._ended.again()

    @property
    def session(self) -> Session:
        """The session; a later `open_client` can resume it."""
        return self._core.session

    async def publish(self, publish: Publish) -> ReasonCode:
        """Publish and wait until the server has taken the message, with QoS 0 until it has been sent."""
        return await (await self.hand_over(publish)).wait()

    async def hand_over(self, publish: Publish) -> Delivery:
        """Publish without waiting for the outcome: messages leave in the order of these calls.

        Waits while `Bounds.unsettled_messages` or `Bounds.unsettled_bytes` is reached.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._ended is None and not self._has_room():
            await self._room_for_output.park()
        number = self._call(self._core.publish, publish)
        delivery = Delivery(publish)
        self._unsettled_messages += 1
        self._unsettled_bytes += delivery.size
        if number:
            self._unacknowledged[number] = delivery
        else:
            self._unwritten.append(delivery)
        self._pump()
        return delivery

    async def subscribe(
        self,
        subscriptions: Subscription | str | Iterable[Subscription],
        *,
        subscription_identifier: int | None = None,
        user_properties: UserProperties = (),
    ) -> SubAck:
        """Subscribe. Raises ClientError naming the Topic Filters that were refused; the others then stand."""
        if isinstance(subscriptions, str):
            subscriptions = Subscription(subscriptions)
        wanted = (subscriptions,) if isinstance(subscriptions, Subscription) else tuple(subscriptions)
        request = partial(
            self._core.subscribe,
            subscription_identifier=subscription_identifier,
            user_properties=user_properties,
        )
        packet_id = self._call(request, wanted)
        suback = await self._acknowledgement(packet_id)
        assert isinstance(suback, SubAck)
        _check_filters("a subscription to", [each.topic_filter for each in wanted], suback)
        return suback

    async def unsubscribe(
        self, topic_filters: str | Iterable[str], *, user_properties: UserProperties = ()
    ) -> UnsubAck:
        """Unsubscribe. Raises ClientError naming the Topic Filters that were refused."""
        wanted = (topic_filters,) if isinstance(topic_filters, str) else tuple(topic_filters)
        request = partial(self._core.unsubscribe, user_properties=user_properties)
        packet_id = self._call(request, wanted)
        unsuback = await self._acknowledgement(packet_id)
        assert isinstance(unsuback, UnsubAck)
        _check_filters("to unsubscribe from", wanted, unsuback)
        return unsuback

    async def receive(self) -> Publish:
        """The next message. Raises trio.EndOfChannel when this side has ended the connection."""
        await self._wait_for_message()
        message = self._messages.popleft()
        self._waiting_bytes -= size(message)
        self._messages_taken()
        return message

    async def receive_all(self) -> tuple[Publish, ...]:
        """All messages that are here, at least one. Raises trio.EndOfChannel like `receive`."""
        await self._wait_for_message()
        messages = tuple(self._messages)
        self._messages.clear()
        self._waiting_bytes = 0
        self._messages_taken()
        return messages

    def messages(self) -> AsyncIterator[Publish]:
        """The messages as they come, until this side ends the connection."""
        return _Messages(self)

    async def reauthenticate(self, data: bytes | None) -> None:
        """Authenticate anew with the method of CONNECT (AUTH 0x19, section 4.12.1); other traffic goes on.

        Raises ClientError when that fails. If it failed because no answer to a challenge was found, the
        connection stands and this may be called again.
        """
        self._call(self._core.reauthenticate, data)
        self._authentication = Answer()
        self._pump()
        await self._authenticated()

    # The course of the connection, for open_client.

    async def start(self, nursery: trio.Nursery) -> None:
        """Start reading and writing, and wait until the server has accepted the connection."""
        nursery.start_soon(self._read)
        nursery.start_soon(self._write)
        nursery.start_soon(self._keep_time)
        await self._authenticated()

    async def leave(self, *, send_will: bool = False) -> None:
        """Send DISCONNECT and wait, for a bounded time, until the server has closed the connection.

        Closing at once could destroy what is under way: a TCP reset answers data that nobody reads any more.
        """
        self._leaving = True
        self._room_for_messages.unpark_all()
        if send_will and self._protocol_version < V5:
            # In MQTT 3.1.1 the server sends the Will when the connection closes without DISCONNECT.
            self._core.receive_eof(trio.current_time())
            self._pump()
            await trio.aclose_forcefully(self._stream)
            return
        reason_code = ReasonCode.DISCONNECT_WITH_WILL_MESSAGE if send_will else ReasonCode.NORMAL_DISCONNECTION
        with trio.CancelScope(deadline=trio.current_time() + self._bounds.closing_timeout, shield=True):
            if self._ended is None:
                self._core.disconnect(trio.current_time(), reason_code)
                self._pump()
            await self._writer_finished.wait()
            await finish(self._stream)
            await self._reader_finished.wait()
        await trio.aclose_forcefully(self._stream)

    # The three tasks.

    async def _read(self) -> None:
        try:
            while True:
                await self._wait_for_room()
                data = await self._receive_some()
                if self._ended is None:
                    if data:
                        self._core.receive(data, trio.current_time())
                    else:
                        self._core.receive_eof(trio.current_time())
                    self._pump()
                if not data:
                    return
        finally:
            self._reader_finished.set()

    async def _receive_some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_SIZE))
        except trio.BrokenResourceError as exc:
            self._broken = broken_reason(exc)
        except trio.ClosedResourceError:
            self._broken = "it was closed on this side"
        return b""

    async def _wait_for_room(self) -> None:
        if self._takes_messages() or self._leaving:
            return
        self._paused = True
        self._unheard_since_now()
        while not self._takes_messages() and not self._leaving:
            with trio.move_on_after(self._bounds.stalled_timeout) as stalled:
                await self._room_for_messages.park()
            if stalled.cancelled_caught:
                count = len(self._messages)
                self._fail_waiting(
                    ClientError(
                        f"no message was taken for {self._bounds.stalled_timeout:g} s, {count} wait,"
                        " and the server's answer is behind them; take messages in a task of their own"
                    )
                )
        self._paused = False
        self._unheard_since_now()

    async def _write(self) -> None:
        try:
            while True:
                count = len(self._unwritten)
                output = self._core.take_output()
                if output:
                    await self._stream.send_all(output)
                    for delivery in self._unwritten[:count]:
                        self._settle(delivery, ReasonCode.SUCCESS)
                    del self._unwritten[:count]
                elif self._ended is not None:
                    return
                else:
                    await self._output_to_write.park()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            # The reader goes on: the server may have left a word about why.
            if isinstance(exc, trio.BrokenResourceError):
                self._broken = broken_reason(exc)
        finally:
            self._writer_finished.set()

    async def _keep_time(self) -> None:
        while self._ended is None:
            self._timer = trio.CancelScope(deadline=self._deadline())
            with self._timer:
                await trio.sleep_forever()
            if self._ended is not None:
                return
            if self._ping_due is None:
                self._core.handle_timeout(trio.current_time())
            elif self._paused and self._core.connected:
                self._core.connection.send(PingReq(), trio.current_time())
                self._unheard_since_now()
            else:
                self._ping_due = None
            self._pump()

    def _deadline(self) -> float:
        return self._core.next_deadline() if self._ping_due is None else self._ping_due

    def _unheard_since_now(self) -> None:
        # While nothing is read the server's answers to our PINGREQs are not either, and their absence tells
        # nothing. So the core is not asked then: we ping, and expect no answer until the reader has been at
        # work for a while.
        if self._core.connection.keep_alive:
            self._ping_due = trio.current_time() + self._core.connection.keep_alive / 2
            self._timer.deadline = self._ping_due

    # What the core tells.

    def _call(self, function: Callable[[A, float], T], argument: A) -> T:
        """Call into the core on the application's behalf; the caller notes what to expect, then pumps."""
        if self._ended is not None:
            raise self._ended.again()
        try:
            return function(argument, trio.current_time())
        except LocalProtocolError as exc:
            raise ClientError(str(exc), exc.reason_code) from exc

    def _pump(self) -> None:
        """After every call into the core: take events while there is room, wake the writer, set the timer."""
        while self._takes_messages() or self._leaving:
            event = self._core.next_event()
            if event is None:
                break
            self._handle(event)
        self._output_to_write.unpark_all()
        self._timer.deadline = self._deadline()

    def _handle(self, event: Event) -> None:
        match event:
            case Publish():
                self._messages.append(event)
                self._waiting_bytes += size(event)
                self._message_limit -= 1
                self._message_arrived.unpark_all()
            case Delivered(number=number, reason_code=code):
                delivery = self._unacknowledged.pop(number, None)
                if delivery is not None:  # none: it was handed over by an earlier client of the session
                    self._settle(delivery, code)
            case SubAck(packet_id=packet_id) | UnsubAck(packet_id=packet_id):
                acknowledgement = self._acknowledgements.pop(packet_id, None)
                if acknowledgement is not None:  # none: the task that waited was cancelled
                    acknowledgement.give(event)
            case ConnAck(reason_code=code) if code.is_failure:
                self._end(_refused(event))
            case ConnAck(assigned_client_identifier=assigned):
                self._connack = event
                self._client_id = assigned or self._client_id
                self._authentication.give(event)
            case Auth():
                self._authentication.give(event)
            case Disconnect():
                self._last_word = event
            case ConnectionClosed():
                self._end(self._why(event))

    def _why(self, closed: ConnectionClosed) -> ClientError:
        if self._leaving:
            return ClientError("this side has closed the connection")
        if self._last_word is not None:
            return _closed_by_server(self._last_word)
        if closed.by == "eof":
            how = self._broken or "the server closed it"
            return ClientError(f"the connection was lost: {how}", closed.reason_code)
        if closed.by == "timeout":
            message = "the server does not answer"
        elif self._connack is None:
            message = "the answer is not that of an MQTT server"
        else:
            message = "the connection had to be closed"
        return ClientError(f"{message}: {printable(closed.reason)}", closed.reason_code)

    def _end(self, failure: ClientError) -> None:
        if self._ended is not None:
            return
        self._ended = failure
        self._end_event.set()
        self._authentication.fail(failure)
        self._fail_waiting(failure)
        self._message_arrived.unpark_all()
        self._room_for_output.unpark_all()
        self._timer.cancel()

    def _fail_waiting(self, failure: ClientError) -> None:
        for acknowledgement in self._acknowledgements.values():
            acknowledgement.fail(failure)
        for delivery in (*self._unacknowledged.values(), *self._unwritten):
            delivery.fail(failure)

    def _settle(self, delivery: Delivery, reason_code: ReasonCode) -> None:
        delivery.give(reason_code)
        self._unsettled_messages -= 1
        self._unsettled_bytes -= delivery.size
        self._room_for_output.unpark_all()

    # What the application's calls share.

    def _takes_messages(self) -> bool:
        return (
            len(self._messages) < self._bounds.waiting_messages
            and self._waiting_bytes < self._bounds.waiting_bytes
            and self._message_limit > 0
        )

    def _has_room(self) -> bool:
        return (
            self._unsettled_messages < self._bounds.unsettled_messages
            and self._unsettled_bytes < self._bounds.unsettled_bytes
        )

    async def _acknowledgement(self, packet_id: int) -> SubAck | UnsubAck:
        answer: Answer[SubAck | UnsubAck] = Answer()
        self._acknowledgements[packet_id] = answer
        self._pump()
        try:
            return await answer.wait()
        finally:
            self._acknowledgements.pop(packet_id, None)

    async def _authenticated(self) -> None:
        while True:
            word = await self._authentication.wait()
            if word.reason_code != ReasonCode.CONTINUE_AUTHENTICATION:
                return
            assert isinstance(word, Auth)
            if self._answer_challenge is None:
                raise ClientError("the server asks for another step of authentication, which is not foreseen")
            self._authentication = Answer()
            self._call(self._core.authenticate, await self._answer_challenge(word))
            self._pump()

    async def _wait_for_message(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._messages:
            if self._leaving:
                raise trio.EndOfChannel
            if self._ended is not None:
                raise self._ended.again()
            await self._message_arrived.park()

    def _messages_taken(self) -> None:
        self._pump()
        self._room_for_messages.unpark_all()


class _Messages:
    # Not a generator: those are no good to leave half-way in Trio.

    def __init__(self, client: Client) -> None:
        self._client = client

    def __aiter__(self) -> "_Messages":
        return self

    async def __anext__(self) -> Publish:
        try:
            return await self._client.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


def _refused(connack: ConnAck) -> ClientError:
    message = with_reason("the server refused the connection", connack.reason_code, connack.reason_string)
    return ClientError(message + _other_server(connack.server_reference), connack.reason_code)


def _closed_by_server(disconnect: Disconnect) -> ClientError:
    message = with_reason("the server closed the connection", disconnect.reason_code, disconnect.reason_string)
    return ClientError(message + _other_server(disconnect.server_reference), disconnect.reason_code)


def _other_server(reference: str | None) -> str:
    return f" (it names another server: {printable(reference)})" if reference else ""


def _check_filters(what: str, topic_filters: Sequence[str], answer: SubAck | UnsubAck) -> None:
    refused = [
        (topic_filter, code)
        for topic_filter, code in zip(topic_filters, answer.reason_codes, strict=False)
        if code.is_failure
    ]
    if refused:
        each = "; ".join(f"{topic_filter}: {reason_name(code)}" for topic_filter, code in refused)
        reason = f": {printable(answer.reason_string)}" if answer.reason_string else ""
        raise ClientError(f"the server refused {what} {each}{reason}", refused[0][1])
