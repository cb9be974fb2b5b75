"""What the fuzzer has found, and the ways into the code that it knows, again without it."""

import importlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.places import CORPUS, MAXIMUM_BYTES, MAXIMUM_FILES
from fuzz.targets import NAMES

TARGETS = pytest.mark.parametrize("name", NAMES)


def target(name: str) -> Callable[[bytes], None]:
    check: Callable[[bytes], None] = importlib.import_module(f"fuzz.targets.{name}").check
    return check


@TARGETS
def test_every_input_of_the_corpus(name: str) -> None:
    check = target(name)
    paths = sorted((CORPUS / name).iterdir())
    assert paths
    for path in paths:
        try:
            check(path.read_bytes())
        except Exception as error:
            error.add_note(f"with {path}")
            raise


@TARGETS
@settings(max_examples=30)
@given(data=st.binary(max_size=300))
def test_any_input(name: str, data: bytes) -> None:
    target(name)(data)


def test_the_corpora_are_small() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {*NAMES}
    for name in NAMES:
        sizes = [path.stat().st_size for path in (CORPUS / name).iterdir()]
        assert len(sizes) <= MAXIMUM_FILES
        assert sum(sizes) <= MAXIMUM_BYTES
