"""The commands of the vendor's documentation, as they stand, against `trio-broker up`. Its ports have to be free."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import DEADLINE

pytestmark = pytest.mark.interop

WITH_A_TOKEN = (
    "mosquitto_pub --host localhost --port 8884 --message hello --topic world --debug --cafile ca.crt"
    " -D CONNECT authentication-method K8S-SAT -D CONNECT authentication-data {token}"
)
WITH_A_CERTIFICATE = (
    "mosquitto_pub -q 1 -t hello -d -V mqttv5 -m world -i thermostat -h localhost --cert thermostat_cert.pem"
    " --key thermostat_key.pem --cafile chain.pem -p 8883"
)


@contextmanager
def session(folder: Path) -> Iterator[None]:
    """Run the broker of the folder's `.session`."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "trio_broker", "up"], cwd=folder, stdout=file, stderr=file)
    try:
        give_up = time.monotonic() + DEADLINE
        while "Ctrl-C stops it" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < give_up, output.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0, output.read_text()


def run(folder: Path, command: str) -> str:
    result = subprocess.run(
        shlex.split(command), cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    """One test, because the ports are fixed and tests may run side by side."""
    with session(tmp_path):
        shutil.copy(tmp_path / ".session/broker-ca.crt", tmp_path / "ca.crt")
        token = (tmp_path / ".session/token.txt").read_text()
        assert "received CONNACK (0)" in run(tmp_path, WITH_A_TOKEN.format(token=token))
        for port in ("18883", "8883"):
            run(tmp_path, WITH_A_TOKEN.replace("8884", port).format(token=token))
        run(tmp_path, f"{sys.executable} -m trio_broker cert create thermostat")
        assert "received PUBACK" in run(tmp_path, WITH_A_CERTIFICATE)
        create = f"{sys.executable} -m trio_broker token create mqtt-client --audience aio-internal"
        for bad in (run(tmp_path, f"{create} --expired"), run(tmp_path, f"{create} --dir elsewhere")):
            refused = shlex.split(WITH_A_TOKEN.format(token=bad.strip()))
            assert subprocess.run(refused, cwd=tmp_path, capture_output=True, timeout=DEADLINE, check=False).returncode
