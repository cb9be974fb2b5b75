"""The core as a broker on asyncio: python docs/examples/asyncio_broker.py [PORT]"""

import asyncio
import math
import os
import signal
import sys
import time

from mqttcore.auth import Failed
from mqttcore.broker import Broker, Close, Flush, Link, Perform, Policy, Report, Transport

GOODBYE = 2.0  # seconds that a peer has to read our last word before the connection is closed


class Host:
    """What the connections share: the broker, its timer, and doing what it asks for."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.broker = Broker(seed=os.urandom(32), wall_offset=time.time() - self.loop.time())
        self.connections: dict[Link, Connection] = {}
        self.timer = self.loop.call_soon(self.dispatch)

    def dispatch(self) -> None:
        """After every call of the broker."""
        while actions := self.broker.take_actions():
            for action in actions:
                match action:
                    case Flush(link):
                        self.connections[link].flush()
                    case Close(link, abrupt):
                        self.connections[link].close(abrupt)
                    case Perform():  # an authenticator's request: this broker has none
                        self.broker.resume(action, Failed("not offered"), self.loop.time())
                    case Report(event):
                        print(event, flush=True)
        self.timer.cancel()
        if (deadline := self.broker.next_deadline()) < math.inf:
            self.timer = self.loop.call_at(deadline, self.timeout)

    def timeout(self) -> None:
        self.broker.handle_timeout(self.loop.time())
        self.dispatch()


class Connection(asyncio.Protocol):
    """One client. While its socket takes no more, its messages wait in the core, within bounds."""

    transport: asyncio.Transport
    link: Link

    def __init__(self, host: Host) -> None:
        self.host = host
        self.writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        peer = "{}:{}".format(*transport.get_extra_info("peername"))
        self.link = self.host.broker.open(self.host.loop.time(), Transport(peer), Policy())
        self.host.connections[self.link] = self
        self.host.dispatch()

    def data_received(self, data: bytes) -> None:
        self.host.broker.receive(self.link, data, self.host.loop.time())
        self.host.dispatch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.host.broker.lost(self.link, self.host.loop.time())
        self.host.dispatch()
        del self.host.connections[self.link]

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.flush()

    def flush(self) -> None:
        while self.writable and (data := self.host.broker.take_output(self.link, self.host.loop.time())):
            self.transport.write(data)

    def close(self, abrupt: bool) -> None:
        if abrupt:
            self.transport.abort()
        else:  # closing at once could destroy what is still on its way to the peer
            self.flush()
            self.transport.write_eof()
            self.host.loop.call_later(GOODBYE, self.transport.abort)


async def main(port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    host = Host()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        host.loop.add_signal_handler(number, stop.set)
    server = await host.loop.create_server(lambda: Connection(host), "127.0.0.1", port)
    print(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()
    host.broker.shutdown(host.loop.time())
    host.dispatch()
    while host.connections:  # no longer than GOODBYE
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1883))
