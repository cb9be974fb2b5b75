"""Values on the command line: topics, properties, intervals. What is wrong is told before we connect."""

import os
from pathlib import Path

import click

from mqttcore.errors import ProtocolError
from mqttcore.topics import check_topic_filter, check_topic_name

NEVER_EXPIRES = 4_294_967_295
"""The Session Expiry Interval that means: never (section 3.1.2.11.2)."""

UINT32 = click.IntRange(0, 4_294_967_295)
UINT16 = click.IntRange(0, 65_535)
POSITIVE_UINT16 = click.IntRange(1, 65_535)
POSITIVE_UINT32 = click.IntRange(1, 4_294_967_295)
QOS = click.IntRange(0, 2)
FORMAT_INDICATOR = click.IntRange(0, 1)
SECONDS = click.FloatRange(min=0, min_open=True)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def topic_name(value: str) -> str:
    """A Topic Name, section 4.7. Raises click.BadParameter."""
    try:
        check_topic_name(value)
    except ProtocolError as exc:
        raise click.BadParameter(f"{value!r}: {exc}") from None
    return value


def topic_filter(value: str) -> str:
    """A Topic Filter, section 4.7, or a shared subscription's, section 4.8.2. Raises click.BadParameter."""
    try:
        check_topic_filter(value)
    except ProtocolError as exc:
        raise click.BadParameter(f"{value!r}: {exc}") from None
    return value


def user_property(value: str) -> tuple[str, str]:
    """KEY=VALUE; the value may have equals signs of its own. Raises click.BadParameter."""
    key, equals, rest = value.partition("=")
    if not equals:
        raise click.BadParameter(f"{value!r} has no equals sign; write KEY=VALUE")
    return key, rest


def session_expiry(value: str) -> int:
    """Seconds; -1 is never, as with mosquitto's clients. Raises click.BadParameter."""
    try:
        seconds = int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a number of seconds") from None
    if not -1 <= seconds <= NEVER_EXPIRES:
        raise click.BadParameter(f"{value} is not between 0 and {NEVER_EXPIRES} (-1: never)")
    return NEVER_EXPIRES if seconds == -1 else seconds


def typed_bytes(value: str) -> bytes:
    """The bytes that were typed, be they UTF-8 or not."""
    return os.fsencode(value)
