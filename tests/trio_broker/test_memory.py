"""A thousand clients come, exchange messages and go, and the broker is as large as before."""

import gc
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from mqttcore import Connect, Disconnect, Packet, PubAck, Publish, Subscribe, Subscription
from mqttcore.broker import Broker, Policy, Transport
from mqttcore.codec import encode
from trio_broker.cli.serving import raise_file_limit

CLIENTS = 1000
WAVES = 3


def visit(number: int) -> tuple[bytes, bytes]:
    """What a client sends, and what it has to get."""
    topic = f"visitors/{number}"
    sent: list[Packet] = [
        Connect(client_id=f"visitor-{number}"),
        Subscribe(1, (Subscription(topic, 1),)),
        Publish(topic, b"here", qos=1, packet_id=2),
    ]
    return b"".join(encode(packet) for packet in sent), encode(PubAck(2))


def test_nothing_of_a_thousand_clients_stays_in_the_core() -> None:
    core = Broker(seed=bytes(32), wall_offset=0.0)

    def wave() -> None:
        links = [core.open(0.0, Transport(f"peer-{number}"), Policy()) for number in range(CLIENTS)]
        for number, link in enumerate(links):
            sent, last = visit(number)
            core.receive(link, sent, 1.0)
            assert core.take_output(link, 1.0).endswith(last)
        for link in links:
            core.receive(link, encode(PubAck(1)) + encode(Disconnect()), 2.0)
        core.take_actions()

    wave()  # what is made once, and kept, is there now
    gc.collect()
    tracemalloc.start()
    try:
        wave()
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not core.sessions
    assert not core.links
    assert kept < peak / 20


async def meet(port: int) -> None:
    """One wave of clients, all connected at the same time."""
    arrived = 0
    everybody = trio.Event()

    async def client(number: int) -> None:
        nonlocal arrived
        sent, last = visit(number)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(sent)
            received = b""
            while last not in received:
                received += await stream.receive_some()
            arrived += 1
            if arrived == CLIENTS:
                everybody.set()
            await everybody.wait()
            await stream.send_all(encode(PubAck(1)) + encode(Disconnect()))
            while await stream.receive_some():
                pass

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(client, number)


def resident(pid: int) -> int:
    """The resident memory of a process, KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@contextmanager
def running() -> Iterator[tuple[int, int]]:
    """A broker as a process: its id and its port."""
    command = [sys.executable, "-m", "trio_broker", "run", "--port", "0", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"mqtt://127\.0\.0\.1:(\d+)", line):
                    yield process.pid, int(found.group(1))
                    break
        finally:
            process.terminate()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_waves_of_a_thousand_clients_do_not_add_up() -> None:
    raise_file_limit()
    with running() as (pid, port):
        trio.run(meet, port)
        first = resident(pid)
        for _ in range(WAVES):
            trio.run(meet, port)
        assert resident(pid) < 1.1 * first
