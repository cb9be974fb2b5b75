"""Files that are written in one step: a reader finds the old content or the new, never half of either."""

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, mode: int) -> None:
    """Write `content` to `path` with the permissions `mode`.

    Raises OSError, and leaves what was there, if it cannot.
    """
    temporary = _write_beside(path, content, mode)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def create_atomically(path: Path, content: bytes, *, mode: int) -> None:
    """Write `content` to `path` unless there is such a file already: of several that create it at once, one does.

    Raises OSError if it cannot.
    """
    temporary = _write_beside(path, content, mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # not every file system has links
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _write_beside(path: Path, content: bytes, mode: int) -> str:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary
