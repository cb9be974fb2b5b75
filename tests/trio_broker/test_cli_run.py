"""The command as its user meets it: mistakes in one line, a banner, and an end."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import frozen

from mqttcore.codes import ReasonCode
from mqttcore.packets import ConnAck, Disconnect, Publish, Subscribe, Subscription
from tests.trio_broker.conftest import Certificates
from tests.trio_broker.support import Peer
from trio_broker.cli import main, typed
from trio_broker.settings import ALL_LIMITS

COMMAND = [sys.executable, "-m", "trio_broker"]


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line that a mistake is answered with."""
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("trio-broker: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("trio-broker: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fly"], "No such command 'fly'; see trio-broker --help"),
        (["run", "--fly"], "No such option '--fly'; see trio-broker run --help"),
        (["run", "--port", "65536"], "'65536' is not a port: a number from 0 (any free one) to 65535"),
        (["run", "--port", "-1"], "'-1' is not a port"),
        (["run", "--set", "maximum_qos=3"], "maximum_qos is a whole number from 0 to 2 (QoS), not '3'"),
        (["run", "--set", "max_qos=1"], "there is no limit 'max_qos'; did you mean maximum_qos?"),
        (["run", "--log-format", "xml"], "'xml' is not one of 'text', 'json'"),
        (
            ["run", "--bind", "192.0.2.1", "--port", "0"],
            "192.0.2.1 is not an address of this system; see --bind",
        ),
        (["run", "--tls-port", "0"], "TLS needs both --tls-cert FILE and --tls-key FILE"),
        (["run", "--wss-port", "0", "--tls-cert", "x"], "TLS needs both --tls-cert FILE and --tls-key FILE"),
        (
            ["run", "--tls-cert", "x"],
            "--tls-cert and --tls-key are of no use without --tls-port or --wss-port",
        ),
        (
            ["run", "--tls-port", "0", "--tls-cert", "/missing.pem", "--tls-key", "/missing.pem"],
            "cannot read the TLS certificate /missing.pem: No such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert line in mistake(capsys, *arguments)


def test_a_port_in_use_is_one_line_and_frees_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = mistake(capsys, "run", "--port", "0", "--ws-port", str(port))
        assert line == f"port {port} on 127.0.0.1 is in use by another program; choose another with --ws-port"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert all(f"\n  {command} " in output for command in ("run", "limits", "pub", "sub"))


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "Usage: trio-broker" in capsys.readouterr().out


def test_limits_are_listed_with_default_unit_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["limits"])
    assert caught.value.code == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "DEFAULT", "UNIT", "MEANING"]
    assert [row.split()[0] for row in rows] == sorted(ALL_LIMITS)
    for row in rows:
        assert re.fullmatch(r"\w+ +\S+  \S+ +\S.*", row)


@frozen
class Process:
    """A broker that has said where it listens."""

    process: trio.Process
    urls: list[str]
    banner: str

    def port(self, scheme: str) -> int:
        [port] = {url.rpartition(":")[2] for url in self.urls if url.startswith(f"{scheme}://")}
        return int(port)

    async def dial(self) -> Peer:
        return Peer(await trio.open_tcp_stream("127.0.0.1", self.port("mqtt")))


@asynccontextmanager
async def started(*arguments: str, log: Path | None = None) -> AsyncIterator[Process]:
    """Run the command until its banner is complete; at the end, end it. Its log goes into a file if one is given."""
    async with trio.open_nursery() as nursery:
        errors = None if log is None else log.open("wb")
        process: trio.Process = await nursery.start(
            lambda task_status: trio.run_process(
                [*COMMAND, "run", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                check=False,
                task_status=task_status,
            )
        )
        if errors is not None:
            errors.close()
        assert process.stdout is not None
        banner = b""
        with trio.fail_after(30):
            while b"Ctrl-C" not in banner:
                data = await process.stdout.receive_some()
                assert data, banner
                banner += data
        text = banner.decode()
        yield Process(process, re.findall(r"\w+://\S+", text), text)
        await process.stdout.aclose()
        if process.returncode is None:
            process.kill()


async def ended(process: trio.Process, seconds: float = 5.0) -> int:
    with trio.fail_after(seconds):
        return await process.wait()


async def test_the_banner_says_where_it_listens_and_what_to_try(certificates: Certificates) -> None:
    async with started(
        *("--port", "0", "--ws-port", "0", "--tls-port", "0", "--wss-port", "0"),
        *("--tls-cert", str(certificates.certificate), "--tls-key", str(certificates.key)),
    ) as broker:
        assert {url.partition(":")[0] for url in broker.urls} == {"mqtt", "mqtts", "ws", "wss"}
        for scheme in ("mqtt", "mqtts", "ws", "wss"):
            port = broker.port(scheme)
            assert f"{scheme}://127.0.0.1:{port}" in broker.urls
            assert f"{scheme}://[::1]:{port}" in broker.urls
        assert "Authentication is off" in broker.banner
        assert f" sub --port {broker.port('mqtt')} -t 'demo/#'" in broker.banner


async def test_settings_reach_the_broker() -> None:
    async with started("--port", "0", "--set", "server_keep_alive=77", "--set", "maximum_qos=1") as broker:
        peer = await broker.dial()
        answer = await peer.connect("a", keep_alive=100)
        assert (answer.server_keep_alive, answer.maximum_qos) == (77, 1)
        await peer.stream.aclose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_whatever_clients_do(number: signal.Signals) -> None:
    async with started("--port", "0") as broker:
        peer, stubborn = await broker.dial(), await broker.dial()
        await peer.connect("reads")
        await stubborn.connect("does not read")
        await stubborn.send(Subscribe(1, (Subscription("t"),)))
        await stubborn.receive()
        for _ in range(5):
            await peer.send(Publish("t", bytes(5_000_000)))
        unfinished = await trio.open_tcp_stream("127.0.0.1", broker.port("mqtt"))
        broker.process.send_signal(number)
        word = await peer.receive()
        assert isinstance(word, Disconnect)
        assert word.reason_code == ReasonCode.SERVER_SHUTTING_DOWN
        assert await ended(broker.process) == 0
        for stream in (peer.stream, stubborn.stream, unfinished):
            await stream.aclose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    async with started("--port", "0", "--set", "shutdown_timeout=4") as broker:
        peer = await broker.dial()
        assert isinstance(await peer.connect("a"), ConnAck)
        broker.process.send_signal(number)
        assert isinstance(await peer.receive(), Disconnect)
        broker.process.send_signal(number)
        assert await ended(broker.process, 3.5) == -number
        await peer.stream.aclose()


async def test_without_clients_it_ends_at_once_and_without_a_word() -> None:
    async with started("--port", "0") as broker:
        broker.process.send_signal(signal.SIGTERM)
        assert await ended(broker.process, 3.5) == 0


def test_the_file_limit_is_raised() -> None:
    resource = pytest.importorskip("resource")
    from trio_broker.cli.serving import raise_file_limit

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_output_that_nobody_reads_is_no_traceback(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "limits"], stdout=write, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 1


def test_commands_to_copy_are_called_as_this_one_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / ".venv" / "bin" / "trio-broker"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", "")
    assert typed() == ".venv/bin/trio-broker"
    monkeypatch.setenv("PATH", str(script.parent))
    assert typed() == "trio-broker"
    monkeypatch.setattr(sys, "argv", ["/somewhere/trio_broker/__main__.py"])
    monkeypatch.setenv("PATH", "")
    assert typed().endswith(" -m trio_broker")
