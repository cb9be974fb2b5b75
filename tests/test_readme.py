"""What the README tells people to type does what the README says."""

import re
import subprocess
import sys
from pathlib import Path

from tests.processes import DEADLINE, ROOT, broker

README = (ROOT / "README.md").read_text()
MESSAGE = "demo/hello Hello, world\n"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return found


def output_of(*argv: str) -> str:
    result = subprocess.run(
        argv,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_the_demonstration_and_the_client(tmp_path: Path) -> None:
    with broker(tmp_path) as ports:
        port = ports["mqtt"]
        for block in blocks("sh"):
            commands = re.sub(r"\.venv/bin/trio-broker (\w+)", rf"{sys.executable} -m trio_broker \1 -p {port}", block)
            assert f"-p {port}" in commands
            assert output_of("sh", "-ec", commands) == MESSAGE
        for block in blocks("python"):
            assert "1883" in block
            assert output_of(sys.executable, "-W", "error", "-c", block.replace("1883", str(port))) == MESSAGE
