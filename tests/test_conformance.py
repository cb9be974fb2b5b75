"""docs/conformance is up to date and whole, and its generator notices when it is not."""

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "generate_conformance.py"
GENERATOR = runpy.run_path(str(SCRIPT))


def statement(name: str = "MQTT-1.2.3-4", *, binds: str = "server", text: str = "x", reason: str = "") -> Any:
    return GENERATOR["Statement"](id=name, binds=binds, text=text, reason=reason)


def judged(*statements: Any, label: bool = True, marker: bool = True) -> list[str]:
    """What is wrong with statements that have a label and a marker, or not."""
    found = GENERATOR["Findings"]({item.id: item for item in statements})
    place = GENERATOR["Place"]("a.py", "b")
    for item in statements:
        if label:
            found.labels[item.id].add(place)
        if marker:
            found.markers[item.id].add(place)
    problems: list[str] = GENERATOR["judge"](statements, found)
    return problems


def markers(source: str) -> list[tuple[str, str]]:
    return [(marker, name) for marker, _, name in GENERATOR["markers_in"](source)]


def test_every_statement_has_a_label_and_a_test_or_a_reason_and_the_pages_say_so() -> None:
    result = subprocess.run(
        [sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stderr


def test_the_markers_that_are_read_are_those_that_pytest_finds() -> None:
    files = ["tests/mqttcore/test_session.py", "tests/mqttcore/test_codec_errors.py", "tests/conformance"]
    code = (
        "import pytest, sys\n"
        "class Collected:\n"
        "    def pytest_collection_modifyitems(self, items):\n"
        "        for item in items:\n"
        "            for mark in item.iter_markers('conformance'):\n"
        "                for name in mark.args: print('MARK', name, item.nodeid.split('::')[0])\n"
        f"pytest.main(['--collect-only', '-qq', '-p', 'no:cacheprovider', *{files!r}], plugins=[Collected()])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    collected = {tuple(line.split()[1:]) for line in result.stdout.splitlines() if line.startswith("MARK")}
    read = {
        (marker, str(path.relative_to(ROOT)))
        for name in files
        for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
        for marker, _ in markers(path.read_text())
    }
    assert read == collected


def test_a_sound_list_has_no_problems() -> None:
    assert judged(statement(), statement("MQTT3-1.2.3-4", binds="both")) == []
    assert judged(statement(reason="nobody can see it"), label=False, marker=False) == []


@pytest.mark.parametrize(
    ("problems", "word"),
    [
        (lambda: judged(statement(), marker=False), "neither a test nor a reason"),
        (lambda: judged(statement(binds="client"), label=False), "no label"),
        (lambda: judged(statement(reason="nobody can see it")), "a test, and a reason"),
        (lambda: judged(statement(), statement()), "listed twice"),
        (lambda: judged(statement(binds="nobody")), "whom it binds"),
        (lambda: judged(statement(text="")), "wording"),
    ],
)
def test_what_is_wrong_with_a_statement(problems: Any, word: str) -> None:
    [problem] = problems()
    assert problem.startswith("MQTT-1.2.3-4 ")
    assert word in problem


def test_labels_are_found_with_the_name_of_what_they_stand_in() -> None:
    source = (
        '"""[MQTT-1.5.4-1]"""\n'
        "TABLE = [\n    1,  # [MQTT-1.5.4-2] [MQTT3-1.4.0-1]\n]\n"
        "class C:\n    def f(self):\n        def inner():\n            return 1  # [MQTT-1.5.4-3]\n"
        "# [MQTT-1.5.5-1]\n# more\ndef g(): ...\n"
    )
    assert [(label, name) for label, _, name in GENERATOR["labels_in"](source)] == [
        ("MQTT-1.5.4-1", ""),
        ("MQTT-1.5.4-2", "TABLE"),
        ("MQTT3-1.4.0-1", "TABLE"),
        ("MQTT-1.5.4-3", "C.f.inner"),
        ("MQTT-1.5.5-1", "g"),
    ]


def test_markers_are_found_wherever_pytest_takes_them() -> None:
    source = (
        "pytestmark = pytest.mark.conformance('module')\n"
        "ROWS = [pytest.param(1, marks=pytest.mark.conformance('row of a table'))]\n"
        "TestMachine = pytest.mark.conformance('machine')(Machine.TestCase)\n"
        "@pytest.mark.parametrize('x', ROWS)\ndef test_table(x): ...\n"
        "@pytest.mark.conformance('class')\nclass TestC:\n"
        "    @pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.conformance('row'))])\n"
        "    @pytest.mark.conformance('one', 'two')\n    async def test_f(self, x): ...\n"
    )
    assert sorted(markers(source)) == sorted(
        [
            ("module", ""),
            ("row of a table", "test_table"),
            ("machine", "TestMachine"),
            ("class", "TestC"),
            ("row", "TestC.test_f"),
            ("one", "TestC.test_f"),
            ("two", "TestC.test_f"),
        ]
    )


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.conformance('a')\ndef helper(): ...\n",
        "def test_f():\n    pytest.mark.conformance('a')\n",
        "ROWS = [pytest.param(1, marks=pytest.mark.conformance('a'))]\n",
        "@pytest.mark.conformance(NAME)\ndef test_f(): ...\n",
        "@pytest.mark.conformance()\ndef test_f(): ...\n",
    ],
)
def test_a_marker_that_proves_nothing_is_noticed(source: str) -> None:
    [(marker, _)] = markers(source)
    assert marker == ""
