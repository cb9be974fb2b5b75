"""Opening a client connection and leaving it."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from mqttcore import Connect, Limits, Session
from trio_broker.client.background import lasting_background
from trio_broker.client.bounds import Bounds
from trio_broker.client.client import AnswerChallenge, Client
from trio_broker.client.errors import ClientError
from trio_broker.client.streams import default_port, open_stream

QUEUE = 1_073_741_824
"""Bytes that the core may queue: any message there can be, beside those that `Bounds.unsettled_bytes` lets in."""


@asynccontextmanager
async def open_client(
    connect: Connect,
    *,
    host: str = "localhost",
    port: int | None = None,
    tls: ssl.SSLContext | None = None,
    websocket: str | None = None,
    stream: trio.abc.Stream | None = None,
    session: Session | None = None,
    limits: Limits | None = None,
    bounds: Bounds | None = None,
    message_limit: int | None = None,
    answer_challenge: AnswerChallenge | None = None,
) -> AsyncIterator[Client]:
    """Connect to an MQTT server; the end of the block disconnects.

    `websocket` is the path for MQTT over WebSocket, such as "/mqtt". `stream` takes the place of the TCP
    connection. `session` resumes that of an earlier client (`connect` then has `clean_start=False`). Without
    `port` the usual one of the transport. After `message_limit` messages nothing more is read: the others
    stay with the server. An exception that leaves the block makes the server send the Will (DISCONNECT
    0x04); a cancelled block does not. Raises ClientError when no connection comes about.
    """
    bounds = bounds or Bounds()
    port = port or default_port(tls=tls is not None, websocket=websocket is not None)
    async with lasting_background() as nursery:
        with _within(bounds.connect_timeout, f"no connection to {host} port {port}"):
            opened = await open_stream(nursery, host=host, port=port, tls=tls, websocket=websocket, stream=stream)
            client = Client(
                connect,
                opened,
                limits=limits or Limits(connect_timeout=bounds.connect_timeout, maximum_queued_bytes=QUEUE),
                session=session,
                bounds=bounds,
                message_limit=message_limit,
                answer_challenge=answer_challenge,
            )
            try:
                await client.start(nursery)
            except BaseException:
                await trio.aclose_forcefully(opened)
                raise
        try:
            yield client
        except (Exception, KeyboardInterrupt):
            await client.leave(send_will=True)
            raise
        except BaseException:
            await client.leave()
            raise
        await client.leave()


@contextmanager
def _within(seconds: float, message: str) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise ClientError(f"{message} within {seconds:g} s") from None
