"""The core stays pure, and imports between its floors point down only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up, as in docs/architecture.md. A module imports from its own floor and from those below it.
FLOORS = (
    {"codes", "errors", "hidden"},
    {"wire", "topics"},
    {"packets", "properties"},
    {"codec", "framing", "events", "limits", "message"},
    {"states"},
    {"connection", "session", "auth"},
    {"authenticators", "broker", "client"},
    {"", "testing"},
)
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}

# What would let the core wait, look at a clock or touch the world; RANDOM is for mqttcore.testing alone.
IMPURE = {"anyio", "asyncio", "logging", "os", "secrets", "socket", "ssl", "threading", "time", "trio"}
RANDOM = {"hypothesis", "random"}

MODULES = sorted((ROOT / "mqttcore").rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path) for path in MODULES}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it, if only for types."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in NAMES else node.module


def floor(name: str) -> int:
    """The floor of a module of the core, by the part of its name after "mqttcore."."""
    part = name.removeprefix("mqttcore").removeprefix(".").partition(".")[0]
    assert part in FLOOR_OF, f"{name} has no floor yet: give it one here and in docs/architecture.md"
    return FLOOR_OF[part]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_are_pure_and_point_down(path: Path) -> None:
    name = module_name(path)
    testing = name.startswith("mqttcore.testing")
    forbidden = IMPURE | {"trio_broker"} | (set() if testing else RANDOM)
    for imported in imports(path):
        assert imported.partition(".")[0] not in forbidden, f"{name} imports {imported}"
        if imported.partition(".")[0] == "mqttcore":
            assert floor(imported) <= floor(name), f"{name} imports {imported} from a floor above it"


def test_importing_the_core_loads_attrs_and_nothing_else() -> None:
    names = [name for name in sorted(NAMES) if not name.startswith(("mqttcore.testing", "mqttcore.authenticators"))]
    program = f"""
import importlib, sys
before = set(sys.modules)
for name in {names}:
    importlib.import_module(name)
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(loaded - set(sys.stdlib_module_names)))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) <= {"attr", "attrs", "mqttcore"}
