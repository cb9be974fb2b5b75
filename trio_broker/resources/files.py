"""Reads files: manifests, and what stands in for a ConfigMap or Secret."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from trio_broker.resources.document import MAXIMUM_BYTES
from trio_broker.resources.identity import Identity, Kind
from trio_broker.resources.objects import Bundle, Datum
from trio_broker.resources.problems import Place, Problems

MAXIMUM_FILES = 1000
"""Files of one directory."""
MAXIMUM_BUNDLE_BYTES = 1_048_576
"""Size of one file of a ConfigMap or Secret, in bytes: Kubernetes' bound for a whole one."""
_SUFFIXES = (".yaml", ".yml")


def read_manifests(paths: Iterable[Path], problems: Problems) -> Iterator[tuple[str, bytes]]:
    """Names and contents: of each file, and of the YAML files directly in each directory, sorted by name."""
    seen = set()
    for path in paths:
        for file in _yaml_files(path, problems) if path.is_dir() else (path,):
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                content = _read(file, MAXIMUM_BYTES, problems)
                if content is not None:
                    yield str(file), content


def _yaml_files(directory: Path, problems: Problems) -> list[Path]:
    files = [file for file in _files(directory, problems) if file.suffix in _SUFFIXES]
    if not files:
        problems.add(Place(str(directory)), f"the directory has no file {' or '.join('*' + end for end in _SUFFIXES)}")
    return files


def _files(directory: Path, problems: Problems) -> list[Path]:
    try:
        # Kubernetes mounts a ConfigMap or Secret with links beside the files that begin with "..".
        files = sorted(file for file in directory.iterdir() if file.is_file() and not file.name.startswith(".."))
    except OSError as error:
        problems.add(Place(str(directory)), f"the directory cannot be read: {error.strerror}")
        return []
    if len(files) > MAXIMUM_FILES:
        problems.add(Place(str(directory)), f"the directory has more than {MAXIMUM_FILES} files")
    return files[:MAXIMUM_FILES]


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
        files = _files(path, problems) if path.is_dir() else [path]
        contents = [(file, _read(file, MAXIMUM_BUNDLE_BYTES, problems)) for file in files]
        data = {file.name: Datum(content, Place(str(file))) for file, content in contents if content is not None}
        complete = len(data) == len(contents)
        bundles[name] = Bundle(Identity(kind, "", name, Place(str(path))), data) if complete else None
    return bundles
