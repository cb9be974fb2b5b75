"""From files to a configuration, or to all that is wrong with them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from attrs import frozen

from trio_broker.resources.configuration import Configuration
from trio_broker.resources.document import parse
from trio_broker.resources.files import read_manifests, read_stand_ins
from trio_broker.resources.identity import Kind
from trio_broker.resources.problems import Place, Problem, Problems
from trio_broker.resources.resolve import resolve
from trio_broker.resources.resources import Resources


@frozen
class Loaded:
    """What came of a set of manifests: a configuration, or problems; and warnings either way."""

    configuration: Configuration | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def load(
    paths: Iterable[Path],
    *,
    configmaps: Mapping[str, Path] | None = None,
    secrets: Mapping[str, Path] | None = None,
    now: datetime | None = None,
) -> Loaded:
    """Read manifests from files, and from the *.yaml and *.yml files directly in directories, as one set.

    `configmaps` and `secrets` stand in for resources of those names, in every namespace: a file, or a directory with a
    file for each key. `now` (default: the clock's) is what certificates' dates are compared with. Nothing is raised for
    what files hold, or for files that cannot be read: the set is taken as a whole or, with problems, not at all.
    """
    problems = Problems()
    resources = Resources(problems)
    paths = list(paths)
    complete = True
    for name, content in read_manifests(paths, problems):
        documents, whole = parse(content, name, problems)
        complete = complete and whole
        for document in documents:
            resources.add(document)
    stand_ins = {
        (kind, name): bundle
        for kind, given in ((Kind.CONFIG_MAP, configmaps), (Kind.SECRET, secrets))
        for name, bundle in read_stand_ins(kind, given or {}, problems).items()
    }
    configuration = resolve(
        resources,
        stand_ins,
        complete=complete and not any(problem.line == 0 for problem in problems.problems),
        now=now or datetime.now(UTC),
        problems=problems,
        origin=Place(str(paths[0]) if paths else "manifests"),
    )
    return Loaded(configuration, problems.problems, problems.warnings)
