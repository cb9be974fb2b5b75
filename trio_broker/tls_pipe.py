"""TLS over a TCP connection: a handshake that ends in a reason, not in a silence, and bytes in both directions.

OpenSSL is given what the socket has received, and gives what is to be sent, so that nothing in here waits but for the
socket: what comes over TLS is read by the poller as what comes without it.
"""

import ssl
from contextlib import suppress
from math import inf
from typing import final

import trio

from trio_broker.errors import HandshakeError, TransportError
from trio_broker.tls import reason
from trio_broker.transports import GONE, TcpPipe, see_off, send_all

RECORD_SIZE = 16_384
"""Bytes in a record of TLS, at most. (RFC 8446, section 5.1)"""
ANSWER_SIZE = 16_384
"""Bytes that TLS has to say to a peer on its own behalf, at most, while the broker says nothing."""


@final
class TlsPipe:
    """The server's side of TLS, as bytes that are neither encrypted nor in records."""

    __slots__ = ("_ended", "_failure", "_incoming", "_outgoing", "_parted", "_secure", "_tcp")

    behind = False

    def __init__(self, tcp: TcpPipe, context: ssl.SSLContext) -> None:
        self._tcp = tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._secure = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ended = False  # whether the peer has said that nothing more comes
        self._failure: str | None = None  # what is wrong with a record, behind what has been received
        self._parted = False  # whether it has been told the same, after which what it sends is nobody's

    @property
    def ready(self) -> bool:
        return not self._parted and (self._ended or self._failure is not None or self._incoming.pending > 0)

    def fileno(self) -> int:
        return self._tcp.fileno()

    async def handshake(self) -> None:
        """Let the peer in; raises one of GONE, ssl.SSLError among them."""
        while True:
            try:
                self._secure.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
            else:
                return await self._flush()
            data = await self._tcp.receive()
            if not data:
                raise trio.BrokenResourceError
            self._incoming.write(data)

    async def alert(self) -> None:
        """Tell the peer why its handshake has failed, and wait until it has read that."""
        with suppress(*GONE):
            if self._outgoing.pending:
                await self._flush()
                await see_off(self._tcp)

    def presented_chain(self) -> tuple[bytes, ...]:
        """The certificates (DER) that the client has presented, its own first."""
        own = self._secure.getpeercert(True)
        if own is None:
            return ()
        public = getattr(self._secure, "get_unverified_chain", None)
        if public is not None:  # Python 3.13
            return tuple(public())
        chain = self._secure._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
        return tuple(ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain)

    def receive_now(self) -> bytes | None:
        if self._parted:
            return self._tcp.receive_now()
        if self._failure is not None:
            self._parted = True
            raise TransportError(self._failure)
        if self._ended:
            return b""
        if not self._incoming.pending:
            data = self._tcp.receive_now()
            if not data:
                return data
            self._incoming.write(data)
        return self._decrypt()

    async def receive(self) -> bytes:
        while True:
            await (trio.lowlevel.checkpoint() if self.ready else trio.lowlevel.wait_readable(self.fileno()))
            if (data := self.receive_now()) is not None:
                return data

    def send_now(self, data: bytes) -> bool:
        if len(data) <= RECORD_SIZE:
            return self._tcp.send_now(self._encrypt(data))
        # Record by record: OpenSSL's buffer keeps, until the connection ends, the size that it once had.
        starts = range(0, len(data), RECORD_SIZE)
        return self._tcp.send_now(b"".join([self._encrypt(data[start : start + RECORD_SIZE]) for start in starts]))

    async def drain(self, stall_timeout: float) -> None:
        await self._tcp.drain(stall_timeout)

    async def finish(self) -> None:
        self.part()
        await self._tcp.drain(inf)
        await self._tcp.finish()

    async def close(self) -> None:
        pass

    def part(self) -> bool:
        self._parted = True
        with suppress(ssl.SSLError):  # that the peer has not parted yet
            self._secure.unwrap()
        self._tcp.send_now(self._outgoing.read())
        return True

    def _encrypt(self, data: bytes) -> bytes:
        self._secure.write(data)
        return self._outgoing.read()

    def _decrypt(self) -> bytes | None:
        """What is in the records that are complete; b"" if there is nothing and the peer has finished, else None."""
        pieces = []
        try:
            while self._incoming.pending and not self._ended:
                pieces.append(self._secure.read(RECORD_SIZE))
                self._ended = not pieces[-1]
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._failure = f"TLS failed: {reason(error)}"
            with suppress(*GONE):
                self._tcp.send_now(self._outgoing.read())
        if self._outgoing.pending > ANSWER_SIZE:
            self._failure = "TLS failed: the client has it answer all the time"
        return b"".join(pieces) or (b"" if self._ended else None)

    async def _flush(self) -> None:
        await send_all(self._tcp, self._outgoing.read())


async def accept_tls(tcp: TcpPipe, context: ssl.SSLContext, *, timeout: float, linger: float) -> TlsPipe:
    """Do the server's side of a TLS handshake.

    Raises HandshakeError after `timeout` seconds, or when the client is refused; the alert that tells it why
    has then up to `linger` seconds to reach it.
    """
    pipe = TlsPipe(tcp, context)
    try:
        with trio.fail_after(timeout):
            await pipe.handshake()
    except trio.TooSlowError:
        raise HandshakeError(f"no TLS handshake within {timeout:g} seconds") from None
    except GONE as error:
        with trio.move_on_after(linger):
            await pipe.alert()
        raise HandshakeError(f"TLS handshake failed: {reason(error)}") from None
    return pipe
