"""A custom authentication server as somebody else would write it: the standard library alone, in threads of its own."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from attrs import field, frozen

from mqttcore.authenticators.effects import HttpServer

NAME = "auth-server.azure-iot-operations"
"""The name that a server has in the cluster, and that no resolver here knows."""


@frozen
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@frozen
class Answer:
    """What is said to a request: an HTTP answer, or just `raw`; `then_close` closes without a word about it."""

    status: int = 200
    body: bytes = b"{}"
    raw: bytes | None = None
    then_close: bool = False


NOTHING = Answer(raw=b"", then_close=True)


def passes(**fields: Any) -> Answer:
    """A 200."""
    return Answer(200, json.dumps(fields).encode())


def fails(**fields: Any) -> Answer:
    """A 403."""
    return Answer(403, json.dumps(fields).encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        answer = self.server.owner.take(Received(self.path, dict(self.headers), body))
        self.close_connection |= answer.then_close
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            return
        self.send_response(answer.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 1024

    def __init__(self, owner: "CustomServer", context: ssl.SSLContext, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.owner = owner
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError):
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            with self.owner.serving(secure):
                secure.do_handshake()
                self.owner.connections += 1
                super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class CustomServer:
    """A server that runs; `answer` says what it answers, and may be replaced at any time."""

    def __init__(self, context: ssl.SSLContext, port: int = 0) -> None:
        self.answer: Callable[[Received], Answer] = lambda request: passes()
        self.requests: list[Received] = []
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[ssl.SSLSocket] = set()
        self._server = _Server(self, context, port)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def take(self, request: Received) -> Answer:
        with self._lock:
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.answer(request)
        finally:
            with self._lock:
                self.at_once -= 1

    def never(self, request: Received) -> Answer:
        """An `answer` that does not come."""
        self.stopping.wait()
        return NOTHING

    @contextlib.contextmanager
    def serving(self, secure: ssl.SSLSocket) -> Iterator[None]:
        with self._lock:
            self._open.add(secure)
        try:
            if not self.stopping.is_set():
                yield
        finally:
            with self._lock:
                self._open.discard(secure)
            with contextlib.suppress(OSError):
                # What the client has sent is read, so that the alert that refuses it is not lost to a reset.
                secure.settimeout(0.2)
                secure.shutdown(socket.SHUT_WR)
                while socket.socket.recv(secure, 65_536):
                    pass
            secure.close()

    def stop(self) -> None:
        """Answer nothing more, and free the port."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for secure in self._open:
                with contextlib.suppress(OSError):
                    secure.shutdown(socket.SHUT_RDWR)
        self._server.server_close()


@frozen
class Site:
    """An authority, and the servers and clients that it vouches for."""

    authority: trustme.CA = field(factory=trustme.CA)

    @property
    def ca_pem(self) -> bytes:
        return self.authority.cert_pem.bytes()

    def context(self, *names: str, clients: trustme.CA | None = None, **options: Any) -> ssl.SSLContext:
        """For a server with these names; with `clients` it demands a certificate by that authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*(names or (NAME, "127.0.0.1")), **options).configure_cert(context)
        if clients is not None:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_pair(self, name: str = "broker@example.org") -> tuple[bytes, bytes]:
        """A client's certificate chain and key, in PEM."""
        leaf = self.authority.issue_cert(name)
        return b"".join(blob.bytes() for blob in leaf.cert_chain_pems), leaf.private_key_pem.bytes()

    def write_client_pair(self, directory: Path) -> None:
        """As the files of a Secret."""
        directory.mkdir()
        chain, key = self.client_pair()
        (directory / "tls.crt").write_bytes(chain)
        (directory / "tls.key").write_bytes(key)


@contextlib.contextmanager
def custom_server(context: ssl.SSLContext, port: int = 0) -> Iterator[CustomServer]:
    """A server for the time of a block."""
    server = CustomServer(context, port)
    try:
        yield server
    finally:
        server.stop()


def at(server: CustomServer, site: Site, *, host: str = "127.0.0.1", path: str = "", **fields: Any) -> HttpServer:
    """How to reach a server."""
    return HttpServer(url=f"https://{host}:{server.port}{path}", **{"ca_pem": site.ca_pem} | fields)
