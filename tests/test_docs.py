import subprocess
import sys
from pathlib import Path

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
