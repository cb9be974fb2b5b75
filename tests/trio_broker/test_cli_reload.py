"""The command follows its files: on SIGHUP, and with --watch by itself."""

import json
import os
import pty
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
import yaml

from mqttcore import Connect, Publish, ReasonCode
from tests.trio_broker.deployments import MANUAL, free_port, listener, port, server_pair
from tests.trio_broker.support import running, until
from tests.trio_broker.test_cli_run import COMMAND, Process, ended, mistake, started
from trio_broker.cli.serving import Reload, _follow
from trio_broker.client import Client, ClientError, open_client
from trio_broker.pki_files import ROOTS_FILE
from trio_broker.server import Server

if sys.platform == "win32":
    pytest.skip("there is no SIGHUP", allow_module_level=True)

PATIENCE = 60.0
"""Seconds after which a test fails."""


class Log:
    """What the broker has written to standard error, in JSON."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self._text = ""
        self._read = 0

    @property
    def events(self) -> list[dict[str, Any]]:
        self._text += self._capfd.readouterr().err
        return [json.loads(line) for line in self._text.splitlines(keepends=True) if line.endswith("\n")]

    async def next(self, *names: str) -> dict[str, Any]:
        """The next line about one of these events."""
        while True:
            for fields in self.events[self._read :]:
                self._read += 1
                if fields["event"] in names:
                    return fields
            await trio.sleep(0.01)

    async def outcome(self) -> dict[str, Any]:
        """What came of the next reload."""
        return await self.next("reloaded", "reload_refused", "internal_error")


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Log:
    return Log(capfd)


@asynccontextmanager
async def broker(*arguments: str | Path) -> AsyncIterator[Process]:
    with trio.fail_after(PATIENCE):
        async with started(
            *map(str, arguments), "--bind=127.0.0.1", "--log-format=json", "--log-level=debug"
        ) as process:
            yield process


@asynccontextmanager
async def client(number: int, client_id: str = "c", tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    async with open_client(Connect(client_id=client_id), host="127.0.0.1", port=number, tls=tls) as connected:
        yield connected


def write(path: Path, *resources: Mapping[str, Any]) -> Path:
    """Replace a file in one step."""
    new = path.with_name("new")
    new.write_text(yaml.safe_dump_all(resources))
    new.replace(path)
    return path


def ask(process: Process) -> None:
    process.process.send_signal(signal.SIGHUP)


async def alive(connected: Client) -> bool:
    await connected.publish(Publish("alive", b"", qos=1))
    return connected.connected


# ---------------------------------------------------------------------------------------------------------- SIGHUP


async def test_manifests_are_read_again(tmp_path: Path, log: Log) -> None:
    one, two = free_port(), free_port()
    manifest = write(tmp_path / "broker.yaml", listener(port(one)))
    async with broker(manifest) as process, client(one) as connected:
        write(manifest, listener(port(one), port(two)))
        ask(process)
        outcome = await log.outcome()
        assert (outcome["event"], outcome["opened"]) == ("reloaded", str(two))
        async with client(two, "new") as later:
            assert await alive(later)
        ask(process)
        assert (await log.outcome())["outcome"] == "nothing has changed"
        assert await alive(connected)


async def test_what_is_wrong_is_told_line_by_line_with_its_place(tmp_path: Path, log: Log) -> None:
    one = free_port()
    manifest = write(tmp_path / "broker.yaml", listener(port(one)))
    async with broker(manifest) as process, client(one) as connected:
        write(manifest, listener(port(one, protocoll="Mqtt"), port(70_000)))
        ask(process)
        refused = [await log.outcome(), await log.outcome()]
        assert {each["event"] for each in refused} == {"reload_refused"}
        text = manifest.read_text().splitlines()
        wrong = [next(n for n, line in enumerate(text, 1) if word in line) for word in ("70000", "protocoll")]
        reasons = sorted(each["reason"] for each in refused)
        assert all(any(reason.startswith(f"{manifest}:{line}: spec.ports[") for reason in reasons) for line in wrong)
        manifest.write_text("kind: [")
        ask(process)
        refused = [await log.outcome()]
        assert refused[0]["reason"].startswith(f"{manifest}:1: ")
        manifest.unlink()
        ask(process)
        assert (await log.outcome())["reason"] == f"{manifest}: the file cannot be read: No such file or directory"
        assert await alive(connected)
        write(manifest, listener(port(one)))
        ask(process)
        assert (await log.outcome())["event"] == "reloaded"
        assert await alive(connected)


async def test_a_port_in_use_is_told(tmp_path: Path, log: Log) -> None:
    one, two = free_port(), free_port()
    manifest = write(tmp_path / "broker.yaml", listener(port(one)))
    async with broker(manifest) as process:
        [taken] = await trio.open_tcp_listeners(two, host="127.0.0.1")
        async with taken:
            write(manifest, listener(port(one), port(two)))
            ask(process)
            outcome = await log.outcome()
            assert outcome["event"] == "reload_refused"
            assert outcome["reason"] == (
                f"port {two} on 127.0.0.1 is in use by another program; choose another with BrokerListener listener"
            )


async def test_certificate_files_without_manifests(tmp_path: Path, log: Log) -> None:
    secret = tmp_path / "pair"
    old = server_pair(secret, trustme.CA())
    async with broker(
        "--port=0", "--tls-port=0", "--tls-cert", secret / "tls.crt", "--tls-key", secret / "tls.key"
    ) as process:
        number = process.port("mqtts")
        async with client(number, "stays", old) as stays:
            new = server_pair(secret, trustme.CA())
            ask(process)
            assert (await log.outcome())["outcome"] == "the certificate has been read again"
            async with client(number, "new", new) as later:
                assert await alive(later)
            with pytest.raises(ClientError, match="certificate"):
                async with client(number, "old", old):
                    pass
            (secret / "tls.key").write_text("no key")
            ask(process)
            outcome = await log.outcome()
            assert outcome["event"] == "reload_refused"
            assert str(secret / "tls.key") in outcome["reason"]
            async with client(number, "again", new) as later:
                assert await alive(later)
            assert await alive(stays)


async def test_where_there_is_nothing_to_read_again_nobody_dies(log: Log) -> None:
    async with broker("--port=0") as process, client(process.port("mqtt")) as connected:
        ask(process)
        assert (await log.outcome())["outcome"].startswith("there is nothing to reload")
        assert await alive(connected)


async def test_twice_in_quick_succession_and_right_after_the_banner(tmp_path: Path, log: Log) -> None:
    one, two = free_port(), free_port()
    manifest = write(tmp_path / "broker.yaml", listener(port(one)))
    async with broker(manifest) as process:
        write(manifest, listener(port(one), port(two)))
        for _ in range(20):
            ask(process)
        assert (await log.outcome())["opened"] == str(two)
        async with client(two) as connected:
            write(manifest, listener(port(two)))
            ask(process)
            while (outcome := await log.outcome()).get("outcome") == "nothing has changed":
                pass
            assert outcome["closed"] == str(one)
            assert await alive(connected)


async def test_what_is_asked_for_during_a_reload_is_one_more() -> None:
    under_way, go = trio.Event(), trio.Event()
    begun = 0

    async def apply(_server: Server) -> None:
        nonlocal begun
        begun += 1
        under_way.set()
        await go.wait()
        if begun == 1:
            raise RuntimeError("a fault of ours")

    reload = Reload(apply=apply, sources=lambda: (), seen=(), watch=False)
    with trio.fail_after(PATIENCE):
        async with running() as run:
            await run.nursery.start(_follow, run.server, reload)
            signal.raise_signal(signal.SIGHUP)
            await under_way.wait()
            for _ in range(5):
                signal.raise_signal(signal.SIGHUP)
                await trio.testing.wait_all_tasks_blocked(0.02)
            go.set()
            await run.log_of("internal_error")
            await until(lambda: begun == 2)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert begun == 2


async def test_a_broker_that_is_to_end_does_not_wait_for_a_reload(tmp_path: Path, log: Log) -> None:
    one = free_port()
    manifest = write(tmp_path / "broker.yaml", listener(port(one)))
    slow = listener(
        port(
            one,
            tls={
                "mode": "Automatic",
                "certManagerCertificateSpec": {
                    "issuerRef": {"name": "local", "kind": "Issuer"},
                    "privateKey": {"algorithm": "Rsa8192", "rotationPolicy": "Always"},  # takes its time
                },
            },
        )
    )
    async with broker(manifest, f"--tokens=local:{tmp_path / 'session'}") as process:
        async with client(one) as connected:
            write(manifest, slow)
            ask(process)
            await until((tmp_path / "session" / ROOTS_FILE).exists, 0.01)  # the key is made next
            process.process.send_signal(signal.SIGTERM)
            assert (await connected.ended()).reason_code is ReasonCode.SERVER_SHUTTING_DOWN
        assert await ended(process.process) == 0
    assert not [each for each in log.events if each["event"] in ("internal_error", "background_task_failed")]


# --------------------------------------------------------------------------------------------------------- --watch


async def test_a_manifest_that_is_replaced_is_noticed(tmp_path: Path, log: Log) -> None:
    one, two = free_port(), free_port()
    manifest = write(tmp_path / "broker.yaml", listener(port(one)))
    async with broker(manifest, "--watch"), client(one) as connected:
        write(manifest, listener(port(one), port(two)))
        assert (await log.outcome())["opened"] == str(two)
        write(manifest, listener(port(one), port(two), {"port": "many"}))
        refused = await log.outcome()
        assert refused["event"] == "reload_refused"
        assert refused["reason"].startswith(f"{manifest}:")
        write(manifest, listener(port(one)))
        assert (await log.outcome())["closed"] == str(two)
        assert await alive(connected)


async def test_a_new_file_in_a_directory_is_noticed(tmp_path: Path, log: Log) -> None:
    one, two = free_port(), free_port()
    write(tmp_path / "one.yaml", listener(port(one), name="one"))
    async with broker(tmp_path, "--watch"), client(one) as connected:
        second = listener(port(two), name="two")
        second["spec"]["serviceType"] = "LoadBalancer"
        write(tmp_path / "two.yaml", second)
        assert (await log.outcome())["opened"] == str(two)
        (tmp_path / "two.yaml").unlink()
        assert (await log.outcome())["closed"] == str(two)
        assert await alive(connected)


async def test_a_secret_mounted_by_kubernetes_is_noticed(tmp_path: Path, log: Log) -> None:
    one = free_port()
    mount = tmp_path / "mount"
    mount.mkdir()

    def put(version: str) -> ssl.SSLContext:
        context = server_pair(mount / f"..{version}", trustme.CA())
        (mount / "..data_tmp").symlink_to(f"..{version}")
        (mount / "..data_tmp").replace(mount / "..data")
        return context

    old = put("first")
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    manifest = write(tmp_path / "broker.yaml", listener(port(one, tls=MANUAL)))
    async with broker(manifest, f"--secret=server={mount}", "--watch"), client(one, "stays", old) as stays:
        new = put("second")
        assert (await log.outcome())["changed"] == str(one)
        async with client(one, "new", new) as later:
            assert await alive(later)
        assert await alive(stays)


async def test_certificate_files_are_noticed(tmp_path: Path, log: Log) -> None:
    secret = tmp_path / "pair"
    server_pair(secret, trustme.CA())
    async with broker(
        "--port=0", "--tls-port=0", "--tls-cert", secret / "tls.crt", "--tls-key", secret / "tls.key", "--watch"
    ) as process:
        new = server_pair(secret, trustme.CA())
        while (await log.outcome())["event"] == "reload_refused":  # between the two files
            pass
        async with client(process.port("mqtts"), "new", new) as later:
            assert await alive(later)


def test_watching_needs_something_to_watch(capsys: pytest.CaptureFixture[str]) -> None:
    line = mistake(capsys, "run", "--port=0", "--watch")
    assert line == "--watch has nothing to watch: there are neither manifests nor a TLS certificate"


def test_a_broker_whose_terminal_is_closed_ends() -> None:
    """The system says so with SIGHUP, too: nobody could end a broker that went on."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [*COMMAND, "run", "--port", "0"])
    try:
        output = b""
        while b"Ctrl-C" not in output:
            output += os.read(terminal, 65_536)
        os.kill(child, signal.SIGHUP)
        while b"nothing to reload" not in output:  # with its terminal it stays
            output += os.read(terminal, 65_536)
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
