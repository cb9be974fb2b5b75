import subprocess
import sys
from pathlib import Path

import pytest

from tests.trio_broker.resources.support import pair
from trio_broker.resources import load

DOCS = Path(__file__).parents[1] / "docs"


def test_the_state_diagram_is_what_the_table_says() -> None:
    result = subprocess.run(
        [sys.executable, DOCS / "generate_states.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(DOCS.parent)},
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("example", sorted((DOCS / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_manifests_are_right(example: Path, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(pair("Client CA", authority=True).certificate)
    asked = "client-ca" in example.read_text()
    loaded = load([example], configmaps={"client-ca": authority} if asked else {})
    assert loaded.problems == ()
    assert loaded.warnings == ()
    assert loaded.configuration is not None
