"""Enhanced authentication on the command line: where its data come from, and re-authentication."""

import contextlib
import os
from pathlib import Path

import click
import trio

from mqttcore import Auth
from trio_broker.cli.backoff import delays
from trio_broker.client import Client, ClientError
from trio_broker.client.errors import printable

POLL_INTERVAL = 1.0
"""Seconds between two looks at the file."""
MAXIMUM_DATA = 65_535
"""The longest Authentication Data, or Password, that MQTT can carry, in bytes (section 1.5.6)."""
MAXIMUM_TRIES = 12
"""Tries of one re-authentication on which the server cannot decide: with the delays, some six minutes."""


class AuthenticationData:
    """Authentication Data: a fixed value, or what stands in a file now. They are never shown."""

    def __init__(self, data: bytes, path: Path | None = None) -> None:
        self.path = path
        self._data = data

    def current(self) -> bytes:
        """The data; of a file what it holds now, or held last if it cannot be read at this moment."""
        if self.path is not None:
            # It may be just being replaced. Should it stay away, the server will say that the old is not
            # good.
            with contextlib.suppress(OSError, ValueError):
                self._data = read_secret(self.path)
        return self._data

    async def changed(self) -> bytes:
        """Wait until the file holds something else than when it was last read, and return that.

        The file is read once a second, and no notification of the system's is used: a mounted token is
        replaced by renaming a directory two symbolic links away, which no watch on the file notices; network
        file systems notify of nothing; and to read a few kilobytes a second costs nothing.
        """
        known = self._data
        while True:
            await trio.sleep(POLL_INTERVAL)
            if self.current() != known:
                return self._data


def authentication_data(value: str) -> AuthenticationData:
    """TEXT or @FILE from the command line; the file is read for the first time. Raises click.BadParameter."""
    if not value.startswith("@"):
        return AuthenticationData(os.fsencode(value))
    path = Path(value[1:])
    try:
        return AuthenticationData(read_secret(path), path)
    except OSError as exc:
        raise click.BadParameter(f"{path} cannot be read: {exc.strerror}") from None
    except ValueError as exc:
        raise click.BadParameter(f"{path} cannot be used: {exc}") from None


def read_secret(path: Path) -> bytes:
    """What a file with a token or password holds, without a line break at its end.

    Raises OSError, and ValueError when it is empty or too long.
    """
    with path.open("rb") as file:
        data = file.read(MAXIMUM_DATA + 3).removesuffix(b"\n").removesuffix(b"\r")
    if not data:
        raise ValueError("it is empty")
    if len(data) > MAXIMUM_DATA:
        raise ValueError(f"it has more than {MAXIMUM_DATA} bytes")
    return data


class Reauthentication:
    """Re-authenticates a client whenever the file changes, and tells of it on standard error."""

    def __init__(self, data: AuthenticationData | None) -> None:
        self._data = data
        self._under_way = False
        self._delays = delays()
        self._tries = 0

    async def run(self, client: Client) -> None:
        """Until cancelled, or until the connection ends; without a file there is nothing to do."""
        if self._data is None or self._data.path is None:
            return
        while client.connected:
            data = await self._data.changed()
            self._under_way, self._tries, self._delays = True, 0, delays()
            try:
                await client.reauthenticate(data)
            except ClientError as exc:
                tell(f"re-authentication with {self._data.path} failed: {exc}")
            else:
                tell(f"re-authenticated with the new content of {self._data.path}")

    async def answer_challenge(self, auth: Auth) -> bytes:
        """Answer an AUTH 0x18: in a re-authentication it says that the server cannot decide at present."""
        if self._data is None or not self._under_way:
            method = printable(auth.authentication_method or "")
            raise ClientError(f"the server asks for one more step of {method}, and there is none")
        self._tries += 1
        reason = printable(auth.reason_string or "no reason given")
        if self._tries >= MAXIMUM_TRIES:
            raise ClientError(
                f"the server could not decide in {self._tries} tries ({reason});"
                " the earlier credential stays in force until it expires"
            )
        delay = next(self._delays)
        tell(f"the server cannot decide on the re-authentication ({reason}); next try in {delay:.1f} s")
        await trio.sleep(delay)
        return self._data.current()


def tell(message: str) -> None:
    """One line for the person at the terminal."""
    click.echo(f"trio-broker: {message}", err=True)
