"""The sockets of a custom server: HTTPS for any name, in the broker's own loop."""

import ipaddress
import socket
import time
from collections.abc import Iterable
from functools import partial
from typing import final

import h11
import trio

from trio_broker.https import Address
from trio_broker.pki import LocalAuthority
from trio_broker.testing.custom_server import CustomServer
from trio_broker.tls import bare_context, load_key_pair

READ_SIZE = 65_536
HOST = "127.0.0.1"


@final
class HttpsServer:
    """Answers for a CustomServer. `resolve` says where its names are to be found, as Performer takes it."""

    def __init__(self) -> None:
        self.resolve: dict[Address, Address] = {}
        self._context = bare_context()
        self._connections: set[trio.CancelScope] = set()
        self._listening: socket.socket | None = None
        self._refusing: socket.socket | None = None

    def answer_for(
        self, server: CustomServer, endpoints: Iterable[Address], authority: LocalAuthority, nursery: trio.Nursery
    ) -> None:
        """Have `server` answer for these names and ports, too, from now on, in tasks of `nursery`."""
        endpoints = set(endpoints) - self.resolve.keys()
        if not endpoints:
            return
        self.resolve |= dict.fromkeys(endpoints, (HOST, 0))
        names, addresses = set(), set()
        for host, _ in self.resolve:
            try:
                addresses.add(ipaddress.ip_address(host))
            except ValueError:
                names.add(host)
        issued = authority.issue_server(time.time(), dns_names=sorted(names), addresses=sorted(addresses, key=str))
        load_key_pair(self._context, issued.chain_pem, issued.key_pem)
        if self._listening is None:
            self._refusing = socket.socket()
            self._refusing.bind((HOST, 0))  # and does not listen: whoever connects is refused
            self._listening = socket.create_server((HOST, 0))
            nursery.start_soon(self._serve, server, self._listening, nursery)
            server.on_change = partial(self._route, server)
        self._route(server)

    def close(self) -> None:
        """Free the ports."""
        for sock in (self._listening, self._refusing):
            if sock is not None:
                sock.close()

    def _route(self, server: CustomServer) -> None:
        sock = self._refusing if server.gone else self._listening
        if sock is not None:
            address: Address = sock.getsockname()
            self.resolve.update(dict.fromkeys(self.resolve, address))
        if server.gone:
            for scope in self._connections:
                scope.cancel()

    async def _serve(self, server: CustomServer, sock: socket.socket, nursery: trio.Nursery) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        await trio.serve_listeners(partial(self._converse, server), [listener], handler_nursery=nursery)

    async def _converse(self, server: CustomServer, stream: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                async with trio.SSLStream(stream, self._context, server_side=True, https_compatible=True) as secure:
                    await _answer(server, secure)
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                pass  # the broker has given up; it says why
            finally:
                self._connections.discard(scope)
                await trio.aclose_forcefully(stream)


async def _answer(server: CustomServer, stream: "trio.SSLStream[trio.SocketStream]") -> None:
    while True:
        connection = h11.Connection(h11.SERVER)
        request, body = None, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(READ_SIZE)))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return
        assert request is not None
        headers = {name.decode(): value.decode() for name, value in request.headers}
        answer = server.answer(request.target.decode(), headers, body)
        if answer.status is None:
            await trio.sleep_forever()
        size = str(len(answer.body))
        head = h11.Response(
            status_code=answer.status, headers=[("content-type", "application/json"), ("content-length", size)]
        )
        told = [connection.send(each) for each in (head, h11.Data(data=answer.body), h11.EndOfMessage())]
        await stream.send_all(b"".join(data for data in told if data))
