"""What ends a run before its time."""


class RunFailed(Exception):
    """The broker did what it must not, or nothing at all; the message says what."""
