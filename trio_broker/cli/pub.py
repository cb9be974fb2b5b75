"""trio-broker pub: publish messages."""

from collections import deque
from pathlib import Path
from typing import Any

import click
import trio
from attrs import evolve

from mqttcore import Publish
from trio_broker.cli.authentication import Reauthentication, tell
from trio_broker.cli.connection_options import ConnectionOptions, connection_options, refuse_version_5_options
from trio_broker.cli.grouping import GroupedCommand, option
from trio_broker.cli.input import read_all, read_file, read_line
from trio_broker.cli.parameters import (
    EXISTING_FILE,
    FORMAT_INDICATOR,
    POSITIVE_UINT16,
    QOS,
    SECONDS,
    UINT32,
    topic_name,
    typed_bytes,
    user_property,
)
from trio_broker.cli.running import EXIT_STATUSES, run_client
from trio_broker.client import Client, ClientError, Delivery, background

MESSAGE = "Message"
PROPERTIES = "Properties of the message (MQTT 5)"
SOURCES = "exactly one of -m, -f, -s, -l and -n says what to publish"


@click.command(cls=GroupedCommand, epilog=EXIT_STATUSES)
@option(
    MESSAGE,
    "-t",
    "--topic",
    type=topic_name,
    required=True,
    metavar="TOPIC",
    help="Topic to publish to.",
)
@option(MESSAGE, "-m", "--message", type=typed_bytes, metavar="TEXT", help="Publish this text.")
@option(MESSAGE, "-f", "--file", type=EXISTING_FILE, help="Publish the content of this file.")
@option(
    MESSAGE,
    "-s",
    "--stdin-file",
    "whole_input",
    is_flag=True,
    help="Publish standard input as one message.",
)
@option(MESSAGE, "-l", "--stdin-line", "lines", is_flag=True, help="Publish each line of standard input.")
@option(MESSAGE, "-n", "--null-message", "empty", is_flag=True, help="Publish an empty message.")
@option(
    MESSAGE,
    "-q",
    "--qos",
    type=QOS,
    default=0,
    metavar="0|1|2",
    show_default=True,
    help="Quality of service.",
)
@option(MESSAGE, "-r", "--retain", is_flag=True, help="Retain the message; with -n, remove the retained one.")
@option(MESSAGE, "-W", "timeout", type=SECONDS, metavar="SECONDS", help="Give up after this time.")
@option(PROPERTIES, "--content-type", metavar="TEXT", help="Content type, such as application/json.")
@option(PROPERTIES, "--response-topic", type=topic_name, metavar="TOPIC", help="Topic for answers.")
@option(
    PROPERTIES,
    "--correlation-data",
    type=typed_bytes,
    metavar="TEXT",
    help="What answers are to repeat.",
)
@option(
    PROPERTIES,
    "--message-expiry-interval",
    type=UINT32,
    metavar="SECONDS",
    help="How long it is worth delivering.",
)
@option(
    PROPERTIES,
    "--payload-format-indicator",
    type=FORMAT_INDICATOR,
    metavar="0|1",
    help="1: the payload is UTF-8 text.",
)
@option(
    PROPERTIES,
    "--topic-alias",
    type=POSITIVE_UINT16,
    metavar="N",
    help="Topic alias to set for the topic.",
)
@option(
    PROPERTIES, "--user-property", type=user_property, multiple=True, metavar="KEY=VALUE",
    help="User property; may be repeated.",
)  # fmt: skip
@connection_options
def pub(
    connection: ConnectionOptions,
    topic: str,
    message: bytes | None,
    file: Path | None,
    whole_input: bool,
    lines: bool,
    empty: bool,
    qos: int,
    retain: bool,
    timeout: float | None,
    user_property: tuple[tuple[str, str], ...],
    **properties: Any,
) -> None:
    """Publish a message, or each line of standard input.

    With -q 1 or -q 2 it ends when the server has taken responsibility for every message.

    \b
    trio-broker pub -t home/lamp -m on -r
    sensors | trio-broker pub -h broker.example --tls -t sensors -l -q 1
    """
    if [message is not None, file is not None, whole_input, lines, empty].count(True) != 1:
        raise click.UsageError(SOURCES)
    refuse_version_5_options(connection, user_property=user_property, **properties)
    publish = Publish(topic, qos=qos, retain=retain, user_properties=user_property, **properties)

    async def main() -> None:
        if lines:
            await _publish_lines(connection, publish)
            return
        payload = message or b""
        if file is not None:
            payload = read_file(file)
        elif whole_input:
            payload = await read_all()
        async with connection.open(connection.connect()) as client:
            await client.publish(evolve(publish, payload=payload))

    if not run_client(main, timeout):
        tell("interrupted before everything was published")
        raise click.exceptions.Exit(1)


async def _publish_lines(connection: ConnectionOptions, publish: Publish) -> None:
    reauthentication = Reauthentication(connection.auth_data)
    connecting = connection.open(connection.connect(), answer_challenge=reauthentication.answer_challenge)
    async with connecting as client, background() as nursery:
        nursery.start_soon(reauthentication.run, client)
        with trio.CancelScope() as reading:
            nursery.start_soon(_cancel_when_ended, client, reading)
            refused = await _publish_each(client, publish)
        if reading.cancelled_caught:
            raise await client.ended()
    if refused:
        raise ClientError(f"the server refused {refused} of the messages")


async def _cancel_when_ended(client: Client, scope: trio.CancelScope) -> None:
    # Who waits for a line would not notice.
    await client.ended()
    scope.cancel()


async def _publish_each(client: Client, publish: Publish) -> int:
    """Publish the lines; how many were refused."""
    ahead = bytearray()
    deliveries: deque[Delivery] = deque()
    refused = 0
    while (line := await read_line(ahead)) is not None:
        deliveries.append(await client.hand_over(evolve(publish, payload=line)))
        while deliveries and deliveries[0].settled:
            refused += await _was_refused(client, deliveries.popleft())
    for delivery in deliveries:
        refused += await _was_refused(client, delivery)
    return refused


async def _was_refused(client: Client, delivery: Delivery) -> bool:
    try:
        await delivery.wait()
    except ClientError as exc:
        if not client.connected:
            raise
        tell(str(exc))
        return True
    return False
