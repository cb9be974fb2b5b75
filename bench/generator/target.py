"""The broker that is to be loaded, as its clients see it."""

import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Transport = Literal["tcp", "tls", "ws", "wss"]
TRANSPORTS: tuple[Transport, ...] = ("tcp", "tls", "ws", "wss")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where it listens and who its clients are.

    `version` is 5 for MQTT 5.0 and 4 for MQTT 3.1.1, `authority` a PEM file with what its certificate is checked by,
    `method` the Authentication Method that takes `username` and `password`, joined by a zero byte, as Authentication
    Data. With `pid` its CPU time and memory are measured.
    """

    port: int
    host: str = "127.0.0.1"
    transport: Transport = "tcp"
    version: int = 5
    authority: str | None = None
    username: str | None = None
    password: str | None = None
    method: str | None = None
    pid: int | None = None

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """A context for TLS 1.3, if the transport has it."""
        if self.transport not in ("tls", "wss"):
            return None
        context = ssl.create_default_context(cafile=self.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    @property
    def websocket(self) -> bool:
        """Whether the transport is WebSocket."""
        return self.transport in ("ws", "wss")

    @property
    def credentials(self) -> bytes:
        """The Authentication Data."""
        return f"{self.username}\0{self.password}".encode()
