"""Which changes of files are noticed, which are not, and how the waiting ends."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import watchfiles
from attrs import define

from tests.trio_broker.support import until
from trio_broker import watch
from trio_broker.resources import list_sources
from trio_broker.watch import Signature, directories, next_change, signature

PATIENCE = 60.0
"""Seconds after which a test fails."""
NEVER = 3600.0


@define
class Reports:
    """How often a thread has begun to wait for a report, and how often that has ended."""

    begun: int = 0
    ended: int = 0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "QUIET", 0.01)
    monkeypatch.setattr(watch, "RECHECK", 0.05)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Reports:
    """What is noticed, is noticed by reports of the system."""
    monkeypatch.setattr(watch, "RECHECK", NEVER)
    counted = Reports()
    wait = watch._wait

    def counting(paths: list[Path], stop: threading.Event) -> bool:
        counted.begun += 1
        try:
            return wait(paths, stop)
        finally:
            counted.ended += 1

    monkeypatch.setattr(watch, "_wait", counting)
    return counted


@asynccontextmanager
async def waiting(sources: watch.Sources, seen: Signature | None = None) -> AsyncIterator[list[Signature]]:
    """A task that waits for the next change; a list that gets the signature."""
    found: list[Signature] = []
    start = signature(sources()) if seen is None else seen

    async def wait() -> None:
        found.append(await next_change(sources, start))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            yield found
            nursery.cancel_scope.cancel()


class Kinds:
    """For each kind of change: makes what is watched, and gives what makes such a change, each time another one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.manifests: list[Path] = []
        self.stand_ins: list[Path] = []

    def sources(self) -> Iterable[Path]:
        return list_sources(self.manifests, self.stand_ins)

    def file(self) -> Path:
        file = self.place / "a.yaml"
        file.write_text("x")
        self.manifests.append(file)
        return file

    def replaced(self) -> Callable[[int], None]:
        file = self.file()

        def change(number: int) -> None:
            (self.place / "new").write_text("x")
            (self.place / "new").replace(file)

        return change

    def written_in_place(self) -> Callable[[int], None]:
        file = self.file()
        return lambda number: append(file)

    def wherever_it_is(self) -> Callable[[int], None]:
        (self.place / ".git").mkdir()  # what changes there is commonly not reported
        self.place /= ".git"
        return self.written_in_place()

    def created_and_deleted(self) -> Callable[[int], None]:
        file = self.file()
        return lambda number: file.unlink() if file.exists() else append(file)

    def permissions(self) -> Callable[[int], None]:
        file = self.file()
        return lambda number: file.chmod((0o440, 0o640)[number % 2])

    def new_manifest_in_a_directory(self) -> Callable[[int], None]:
        self.manifests.append(self.place)
        return lambda number: append(self.place / f"{number}.{('yaml', 'yml')[number % 2]}")

    def new_key_in_a_directory(self) -> Callable[[int], None]:
        self.stand_ins.append(self.place)
        return lambda number: append(self.place / f"{number}.crt")

    def key_in_place(self) -> Callable[[int], None]:
        self.stand_ins.append(self.place)
        append(self.place / "ca.crt")
        return lambda number: append(self.place / "ca.crt")

    def kubernetes_mount(self) -> Callable[[int], None]:
        def mount(number: int) -> None:
            (self.place / f"..{number}").mkdir()
            append(self.place / f"..{number}" / "ca.crt")
            (self.place / "..data_tmp").symlink_to(f"..{number}")
            (self.place / "..data_tmp").replace(self.place / "..data")

        mount(0)
        (self.place / "ca.crt").symlink_to("..data/ca.crt")
        self.stand_ins.append(self.place)
        return mount

    def link(self) -> Path:
        target = self.place / "elsewhere" / "target"
        target.parent.mkdir()
        append(target)
        (self.place / "a.yaml").symlink_to(target)
        self.manifests.append(self.place / "a.yaml")
        return target

    def target_of_a_link_in_place(self) -> Callable[[int], None]:
        target = self.link()
        return lambda number: append(target)

    def target_of_a_link_replaced(self) -> Callable[[int], None]:
        target = self.link()

        def change(number: int) -> None:
            append(target.with_name("new"))
            target.with_name("new").replace(target)

        return change

    def link_replaced(self) -> Callable[[int], None]:
        target = self.link()

        def change(number: int) -> None:
            append(target.with_name(str(number)))
            (self.place / "new").symlink_to(target.with_name(str(number)))
            (self.place / "new").replace(self.place / "a.yaml")

        return change

    def directory_replaced(self) -> Callable[[int], None]:
        directory = self.place / "manifests"
        directory.mkdir()
        append(directory / "a.yaml")
        self.manifests.append(directory)

        def change(number: int) -> None:
            (self.place / "new").mkdir()
            append(self.place / "new" / "a.yaml")
            directory.rename(self.place / f"old{number}")
            (self.place / "new").rename(directory)

        return change


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("x")


KINDS = (
    Kinds.replaced,
    Kinds.written_in_place,
    Kinds.wherever_it_is,
    Kinds.created_and_deleted,
    Kinds.permissions,
    Kinds.new_manifest_in_a_directory,
    Kinds.new_key_in_a_directory,
    Kinds.key_in_place,
    Kinds.kubernetes_mount,
    Kinds.target_of_a_link_in_place,
    Kinds.target_of_a_link_replaced,
    Kinds.link_replaced,
    Kinds.directory_replaced,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestKindsOfChange:
    async def test_it_is_reported(
        self, tmp_path: Path, reports: Reports, kind: Callable[[Kinds], Callable[[int], None]]
    ) -> None:
        kinds = Kinds(tmp_path)
        change = kind(kinds)
        async with waiting(kinds.sources) as found:
            await until(lambda: reports.begun)
            number = 0
            while not found:  # more than once, for the thread has begun, but perhaps not yet watched
                number += 1
                change(number)
                with trio.move_on_after(0.2):
                    await until(lambda: found)

    async def test_without_reports_it_is_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Kinds], Callable[[int], None]]
    ) -> None:
        errors = RuntimeError("too many"), FileNotFoundError(), UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no UTF-8")
        refused = []

        def refuse(*paths: str, **options: object) -> Iterator[object]:
            refused.append(paths)
            raise errors[len(refused) % len(errors)]
            yield

        monkeypatch.setattr(watchfiles, "watch", refuse)
        kinds = Kinds(tmp_path)
        change = kind(kinds)
        async with waiting(kinds.sources) as found:
            await until(lambda: len(refused) > len(errors))
            change(1)
            await until(lambda: found)
            assert found == [signature(kinds.sources())]

    async def test_it_is_found_if_it_was_made_before_the_watching(
        self, tmp_path: Path, reports: Reports, kind: Callable[[Kinds], Callable[[int], None]]
    ) -> None:
        kinds = Kinds(tmp_path)
        change = kind(kinds)
        seen = signature(kinds.sources())
        change(1)
        async with waiting(kinds.sources, seen) as found:
            await until(lambda: found)
        assert found == [signature(kinds.sources())]
        assert not reports.begun


async def test_a_change_between_the_comparison_and_the_watching_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.yaml"
    wait = watch._wait

    def late(paths: list[Path], stop: threading.Event) -> bool:
        if not file.exists():
            append(file)
        return wait(paths, stop)

    monkeypatch.setattr(watch, "_wait", late)
    async with waiting(lambda: [file]) as found:
        await until(lambda: found)


@pytest.mark.parametrize("given", ["the directory", "the file"])
async def test_other_files_beside_the_sources_are_ignored(tmp_path: Path, reports: Reports, given: str) -> None:
    file, log = tmp_path / "a.yaml", tmp_path / "broker.log"
    append(file)
    sources = partial(list_sources, [tmp_path if given == "the directory" else file], [])
    async with waiting(sources) as found:
        await until(lambda: reports.begun)
        number = 0
        while reports.ended < 3:
            number += 1
            append(log)
            append(tmp_path / f".a.yaml.{number}.swp")
            (tmp_path / f"{number}").mkdir()
            await trio.sleep(0.01)
        await until(lambda: reports.begun > 3)  # it was compared, and is waited for again
        assert not found
        while not found:
            append(file)
            with trio.move_on_after(0.2):
                await until(lambda: found)


async def test_a_directory_that_comes_and_goes(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "yet"
    sources = partial(list_sources, [directory], [])
    seen = signature(sources())
    make, remove = partial(directory.mkdir, parents=True), partial(shutil.rmtree, tmp_path / "not")
    write = partial(append, directory / "a.yaml")
    for step in (make, write, remove, make, write, write):
        async with waiting(sources, seen) as found:
            step()
            await until(lambda: found)
        [seen] = found


class TestSeveralChanges:
    def sources(self, file: Path, changing: range) -> tuple[watch.Sources, list[int]]:
        """Sources that are changed while they are looked at, at those looks."""
        looks: list[int] = []

        def look() -> Iterable[Path]:
            looks.append(len(looks))
            if len(looks) in changing:
                append(file)
            return [file]

        return look, looks

    async def test_they_are_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch, "LONGEST", NEVER)
        file = tmp_path / "a.yaml"
        look, looks = self.sources(file, range(1, 10))
        with trio.fail_after(PATIENCE):
            assert await next_change(look, signature([file])) == signature([file])
        assert len(looks) == 10

    async def test_they_are_not_waited_for_forever(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch, "LONGEST", 0.05)
        file = tmp_path / "a.yaml"
        look, _looks = self.sources(file, range(1, sys.maxsize))
        with trio.fail_after(PATIENCE):
            await next_change(look, signature([file]))

    async def test_one_that_is_taken_back_is_none(self, tmp_path: Path) -> None:
        looks: list[int] = []

        def look() -> Iterable[Path]:
            looks.append(len(looks))
            return [tmp_path / "a.yaml"] if len(looks) != 3 else []

        async with waiting(look) as found:
            await until(lambda: len(looks) > 10)
            assert not found


class TestEnd:
    async def test_cancellation_takes_the_thread_along(self, tmp_path: Path, reports: Reports) -> None:
        async with waiting(lambda: [tmp_path]) as found:
            await until(lambda: reports.begun)
        assert not found
        assert (reports.begun, reports.ended) == (1, 1)

    def test_the_process_ends_and_who_watches_nothing_loads_nothing(self, tmp_path: Path) -> None:
        program = f"""
import sys, threading
from pathlib import Path
import trio
import trio_broker.cli.run
from trio_broker import watch
assert "watchfiles" not in sys.modules
watch.RECHECK = {NEVER}

paths = [Path({str(tmp_path)!r})]

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.next_change, lambda: paths, watch.signature(paths))
        while "watchfiles" not in sys.modules:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()

trio.run(main)
print("ended")
"""
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
        assert (ended.stdout, ended.stderr, ended.returncode) == ("ended\n", "", 0)


class TestSignature:
    def test_of_what_cannot_be_read(self, tmp_path: Path) -> None:
        missing, below_a_file, loop = tmp_path / "missing", tmp_path / "file" / "x", tmp_path / "loop"
        append(tmp_path / "file")
        loop.symlink_to(loop)
        taken = signature([missing, below_a_file, loop])
        assert taken == signature([missing, below_a_file, loop])
        assert [path for path, _ in taken] == [missing, below_a_file, loop]
        append(missing)
        assert signature([missing]) != taken[:1]

    def test_reading_is_no_change(self, tmp_path: Path) -> None:
        append(tmp_path / "a")
        taken = signature([tmp_path / "a", tmp_path])
        (tmp_path / "a").read_bytes()
        list(tmp_path.iterdir())
        assert signature([tmp_path / "a", tmp_path]) == taken

    def test_where_changes_are_reported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("real", "given"):
            Path(name).mkdir()
        append(Path("real/file"))
        Path("given/link").symlink_to("../real/file")
        place = os.path.realpath(tmp_path)
        assert directories([Path("given/link")]) == [f"{place}/given", f"{place}/real"]
        assert directories([Path("given"), Path("given/a")]) == [f"{place}/given", place]
        assert directories([Path("missing/a")]) == []
