"""An HTTPS server of the standard library in threads of its own, which answers as a test says and keeps what it was
asked.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme
from attrs import field, frozen


@frozen
class Asked:
    """A request; names of headers are in lower case, `certificate` is the subject's CN of the client's."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    certificate: str | None

    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, object]
"""Status and body: bytes as they are, anything else as JSON."""
Answerer = Callable[[Asked], Answer]


@frozen
class HttpsServer:
    """A server that runs; `answer` may be replaced in `state`."""

    port: int
    asked: list[Asked]
    state: dict[str, Answerer] = field(repr=False)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def answer(self, answerer: Answerer | Answer) -> None:
        """Answer like this from now on."""
        self.state["answer"] = answerer if callable(answerer) else lambda _: answerer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        names: Any = self.connection.getpeercert() or {}
        subject = {name: value for part in names.get("subject", ()) for name, value in part}
        asked = Asked(
            self.command,
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
            subject.get("commonName"),
        )
        self.server.asked.append(asked)
        status, body = self.server.state["answer"](asked)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the name is the library's


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.context = context
        self.asked: list[Asked] = []
        self.state: dict[str, Answerer] = {"answer": lambda _: (500, {})}

    def get_request(self) -> tuple[Any, Any]:
        sock, address = super().get_request()
        # The handshake takes place in the connection's own thread, at the first read.
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that does not trust us, or has gone


@contextmanager
def https_server(authority: trustme.CA, *names: str) -> Iterator[HttpsServer]:
    """A server with a certificate for `names` (localhost), which asks for a client certificate and demands none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost",))).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    with _Server(context) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield HttpsServer(server.server_address[1], server.asked, server.state)
        finally:
            server.shutdown()
            thread.join()
