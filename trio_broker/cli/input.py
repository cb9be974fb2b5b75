"""What pub publishes from a file or standard input."""

import os
import select
from pathlib import Path

import trio

from trio_broker.client import ClientError

STANDARD_INPUT = 0
READ_SIZE = 64 * 1024
MAXIMUM_PAYLOAD = 268_435_455
"""The longest payload there can be, in bytes: the largest Remaining Length (section 2.1.4)."""


def read_file(path: Path) -> bytes:
    """The file's content. Raises ClientError when it cannot be read or is too long for a payload."""
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_PAYLOAD + 1)
    except OSError as exc:
        raise ClientError(f"{path} cannot be read: {exc.strerror}") from None
    _check_length(len(content), str(path))
    return content


async def read_all() -> bytes:
    """Standard input to its end. Raises ClientError when it is too long for a payload."""
    content = bytearray()
    while data := await _read_some():
        content += data
        _check_length(len(content), "standard input")
    return bytes(content)


async def read_line(ahead: bytearray) -> bytes | None:
    """The next line of standard input, without its line break; None at the end.

    `ahead` holds what was read beyond the line; pass the same one each time. Raises ClientError for a line
    that is too long for a payload.
    """
    searched = 0
    while (end := ahead.find(b"\n", searched)) < 0:
        searched = len(ahead)
        data = await _read_some()
        if not data:
            line = bytes(ahead)
            ahead.clear()
            return line or None
        ahead += data
        _check_length(searched, "a line of standard input")
    line = bytes(ahead[:end])
    del ahead[: end + 1]
    return line


async def _read_some() -> bytes:
    # In a thread, which is left behind when the connection is lost meanwhile; and not through sys.stdin,
    # whose lock that thread would hold at the interpreter's exit.
    return await trio.to_thread.run_sync(_read, abandon_on_cancel=True)


def _read() -> bytes:
    while True:
        try:
            return os.read(STANDARD_INPUT, READ_SIZE)
        except BlockingIOError:  # whoever started us left it in non-blocking mode
            select.select([STANDARD_INPUT], [], [])


def _check_length(length: int, what: str) -> None:
    if length > MAXIMUM_PAYLOAD:
        raise ClientError(f"{what} is longer than a payload can be ({MAXIMUM_PAYLOAD} bytes)")
