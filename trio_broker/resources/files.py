"""Reads files: manifests, and what stands in for a ConfigMap or Secret."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from trio_broker.resources.document import MAXIMUM_BYTES
from trio_broker.resources.identity import Identity, Kind
from trio_broker.resources.objects import Bundle, Datum
from trio_broker.resources.problems import Place, Problems

MAXIMUM_FILES = 1000
"""Files that are read of one directory."""
MAXIMUM_BUNDLE_BYTES = 1_048_576
"""Size of one file of a ConfigMap or Secret, in bytes: Kubernetes' bound for a whole one."""
_SUFFIXES = (".yaml", ".yml")


def list_sources(manifests: Iterable[Path], stand_ins: Iterable[Path]) -> tuple[Path, ...]:
    """All that decides what is read, as it is now: the paths that are given, there or not, and directories' files."""
    found: dict[Path, None] = {}
    for paths, suffixes in ((manifests, _SUFFIXES), (stand_ins, None)):
        for path in paths:
            found[path] = None
            if os.path.isdir(path):
                # What goes wrong is said by whoever reads it. One file too many is a problem, which may go away.
                with suppress(OSError):
                    found.update(dict.fromkeys(_listed(path, suffixes)[: MAXIMUM_FILES + 1]))
    return tuple(found)


def read_manifests(paths: Iterable[Path], problems: Problems) -> Iterator[tuple[str, bytes]]:
    """Names and contents: of each file, and of the YAML files directly in each directory, sorted by name."""
    seen = set()
    for path in paths:
        for file in _yaml_files(path, problems) if os.path.isdir(path) else (path,):
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                content = _read(file, MAXIMUM_BYTES, problems)
                if content is not None:
                    yield str(file), content


def _yaml_files(directory: Path, problems: Problems) -> list[Path]:
    files = _files(directory, problems, _SUFFIXES)
    if not files:
        problems.add(Place(str(directory)), f"the directory has no file {' or '.join('*' + end for end in _SUFFIXES)}")
    return files


def _files(directory: Path, problems: Problems, suffixes: Collection[str] | None = None) -> list[Path]:
    try:
        files = _listed(directory, suffixes)
    except OSError as error:
        problems.add(Place(str(directory)), f"the directory cannot be read: {error.strerror}")
        return []
    if len(files) > MAXIMUM_FILES:
        problems.add(Place(str(directory)), f"the directory has more than {MAXIMUM_FILES} files")
    return files[:MAXIMUM_FILES]


def _listed(directory: Path, suffixes: Collection[str] | None) -> list[Path]:
    """The files directly in a directory, by name. Raises OSError."""
    # Kubernetes mounts a ConfigMap or Secret with links beside the files that begin with "..".
    entries = (entry for entry in directory.iterdir() if not entry.name.startswith(".."))
    return sorted(entry for entry in entries if (suffixes is None or entry.suffix in suffixes) and entry.is_file())


def _read(file: Path, limit: int, problems: Problems) -> bytes | None:
    try:
        with file.open("rb") as opened:
            content = opened.read(limit + 1)
    except OSError as error:
        problems.add(Place(str(file)), f"the file cannot be read: {error.strerror}")
        return None
    if len(content) > limit:
        problems.add(Place(str(file)), f"the file has more than {limit} bytes")
        return None
    return content


def read_stand_ins(kind: Kind, paths: Mapping[str, Path], problems: Problems) -> dict[str, Bundle | None]:
    """ConfigMaps or Secrets by name, each with a key per file, as `kubectl create … --from-file` makes them.

    None for one that cannot be read, with a problem.
    """
    bundles: dict[str, Bundle | None] = {}
    for name, path in paths.items():
        files = _files(path, problems) if os.path.isdir(path) else [path]
        contents = [(file, _read(file, MAXIMUM_BUNDLE_BYTES, problems)) for file in files]
        data = {file.name: Datum(content, Place(str(file))) for file, content in contents if content is not None}
        complete = len(data) == len(contents)
        bundles[name] = Bundle(Identity(kind, "", name, Place(str(path))), data) if complete else None
    return bundles
