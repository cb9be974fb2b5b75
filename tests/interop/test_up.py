"""The commands of the vendor's documentation, as they stand, against `trio-broker up`. Its ports have to be free."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a `.session` whose broker runs."""
    folder = tmp_path_factory.mktemp("up")
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "trio_broker", "up"], cwd=folder, stdout=file, stderr=file)
    try:
        give_up = time.monotonic() + DEADLINE
        while "Ctrl-C stops it" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < give_up, output.read_text()
            time.sleep(0.05)
        yield folder
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0, output.read_text()


def run(folder: Path, command: str) -> str:
    result = subprocess.run(
        shlex.split(command), cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_token(session: Path) -> None:
    shutil.copy(session / ".session/broker-ca.crt", session / "ca.crt")
    token = (session / ".session/token.txt").read_text()
    assert "received CONNACK (0)" in run(session, WITH_A_TOKEN.format(token=token))
    run(session, WITH_A_TOKEN.replace("8884", "18883").format(token=token))
    run(session, WITH_A_TOKEN.replace("8884", "8883").format(token=token))


def test_a_certificate(session: Path) -> None:
    run(session, f"{sys.executable} -m trio_broker cert create thermostat")
    assert "received PUBACK" in run(session, WITH_A_CERTIFICATE)


def test_an_expired_token_and_a_forged_one_are_refused(session: Path) -> None:
    shutil.copy(session / ".session/broker-ca.crt", session / "ca.crt")
    create = f"{sys.executable} -m trio_broker token create mqtt-client --audience aio-internal"
    for token in (run(session, f"{create} --expired"), run(session, f"{create} --dir elsewhere")):
        command = WITH_A_TOKEN.format(token=token.strip())
        result = subprocess.run(shlex.split(command), cwd=session, capture_output=True, timeout=DEADLINE, check=False)
        assert result.returncode != 0
