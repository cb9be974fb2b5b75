"""Expiry and re-authentication (section 4.12.1) with service account tokens of the local issuer.

First the broker's core with a virtual clock, then the Trio server with our client, and at last the command as a process
with a few lines over a socket that share no code with us.
"""

import base64
import json
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttcore import Auth, ConnAck, Connect, Disconnect, PingReq, PingResp, Publish, ReasonCode, Subscription, Will
from mqttcore.auth import Failed
from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.effects import JsonWebKeys, ServiceAccountAnnotations, SigningKeys
from mqttcore.authenticators.service_account import METHOD, by_signature
from mqttcore.authenticators.x509 import trust_anchors, x509
from mqttcore.broker import Policy, Transport
from mqttcore.broker.reports import Disconnected, Reauthenticated
from mqttcore.limits import Limits
from tests.mqttcore.authenticators import certificates
from tests.mqttcore.broker.support import WALL, Network, Peer
from tests.processes import DEADLINE, ROOT
from tests.trio_broker.support import Peer as WirePeer
from tests.trio_broker.support import listen, running
from trio_broker.client import ClientError, open_client
from trio_broker.effects import Performer
from trio_broker.tokens.issuer import ISSUER, LocalIssuer
from trio_broker.tokens.keys import PublishedKeys

AUDIENCE = "aio-internal"
SAT = Method("ServiceAccountToken", by_signature((AUDIENCE,), ISSUER))
AGAIN = pytest.mark.parametrize("again", [ReasonCode.RE_AUTHENTICATE, ReasonCode.CONTINUE_AUTHENTICATION])


@pytest.fixture
def issuer(tmp_path: Path) -> LocalIssuer:
    return LocalIssuer(tmp_path / ".session")


class Site:
    """A network in memory whose port takes tokens; time is that of `Network`."""

    def __init__(self, issuer: LocalIssuer, *before: Method, **limits: Any) -> None:
        self.issuer = issuer
        self.net = Network(**limits)
        self.net.policy = self.net.policy_with(authenticate=chain([*before, SAT]))
        self.watcher = self.net.connect("watcher", policy=self.net.policy_with())
        self.watcher.subscribe("#")

    def token(self, lifetime: float = 60, audience: str = AUDIENCE) -> bytes:
        now = WALL + self.net.now
        return self.issuer.mint("press", audiences=[audience], now=now, duration=lifetime).encode()

    def perform(self) -> None:
        """Do what the authenticators ask for."""
        while self.net.performs:
            effect = self.net.performs[0].effect
            if isinstance(effect, SigningKeys):
                self.net.perform(tuple(self.issuer.jwks()["keys"]))
            else:
                assert isinstance(effect, ServiceAccountAnnotations)
                self.net.perform({})

    def fail(self) -> None:
        """The keys cannot be had."""
        assert isinstance(self.net.perform(Failed("HTTP status 503")).effect, SigningKeys)

    def connect(self, token: bytes | None = None, **fields: Any) -> Peer:
        peer = self.net.peer(transport=fields.pop("transport", None))
        usual: dict[str, Any] = {
            "client_id": "a",
            "will": Will(topic="will", payload=b"gone"),
            "authentication_method": METHOD,
            "authentication_data": token or self.token(),
        }
        peer.send(Connect(**usual | fields))
        self.perform()
        connack = peer.expect(ConnAck)
        assert connack.reason_code is ReasonCode.SUCCESS
        assert connack.authentication_method == fields.get("authentication_method", METHOD)
        self.net.reports.clear()
        return peer

    def auth(
        self, peer: Peer, token: bytes, code: ReasonCode = ReasonCode.RE_AUTHENTICATE, method: str = METHOD
    ) -> None:
        peer.send(auth_packet(token, code, method))

    def closes_silently_after(self, peer: Peer, seconds: float) -> None:
        self.net.advance(seconds - 0.001)
        assert peer.closed is None
        assert not self.watcher.received
        self.net.advance(0.001)
        assert peer.closed == "abrupt"
        assert not peer.received  # no DISCONNECT
        assert self.watcher.messages() == [("will", b"gone", 0)]
        [report] = self.net.take_reports(Disconnected)
        assert report.reason == "the credential has expired"


GRANTED = Auth(ReasonCode.SUCCESS, authentication_method=METHOD)
UNDECIDED = Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method=METHOD)


def auth_packet(token: bytes | None, code: ReasonCode = ReasonCode.RE_AUTHENTICATE, method: str = METHOD) -> Auth:
    return Auth(code, authentication_method=method, authentication_data=token)


class TestCore:
    def test_without_it_the_connection_closes_with_the_token(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect(site.token(60))
        site.closes_silently_after(peer, 60)

    def test_success_moves_the_deadline(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect(site.token(60))
        for _ in range(5):
            site.net.advance(59)
            site.auth(peer, site.token(60))
            site.perform()
            assert peer.expect(Auth) == GRANTED
        site.closes_silently_after(peer, 60)

    def test_a_shorter_token_brings_it_forward(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect(site.token(1000))
        site.auth(peer, site.token(10))
        site.perform()
        assert peer.expect(Auth) == GRANTED
        site.closes_silently_after(peer, 10)

    def test_the_old_token_holds_while_the_new_one_is_looked_at(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect(site.token(60))
        site.net.advance(50)
        site.auth(peer, site.token(1000))
        site.closes_silently_after(peer, 10)
        site.perform()  # too late
        assert not site.net.take_reports(Reauthenticated)

    def test_traffic_goes_on_meanwhile(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect(site.token(60))
        site.auth(peer, site.token(1000))
        for number in range(20):
            site.net.advance(1)
            assert peer.publish("up", b"%d" % number, qos=2) is ReasonCode.SUCCESS
            assert site.watcher.payloads() == [b"%d" % number]
            if number == 0:
                peer.subscribe("down")
            site.net.publish("down", b"%d" % number, qos=2)
            assert peer.payloads() == site.watcher.payloads() == [b"%d" % number]
            peer.send(PingReq())
            assert peer.take(PingResp) == [PingResp()]
        site.perform()
        assert peer.take(Auth) == [GRANTED]
        site.net.advance(500)
        assert peer.closed is None

    @AGAIN
    def test_the_source_of_keys_is_away(self, issuer: LocalIssuer, again: ReasonCode) -> None:
        site = Site(issuer)
        peer = site.connect(site.token(60))
        token = site.token(1000)
        site.auth(peer, token)
        site.fail()
        assert peer.expect(Auth) == UNDECIDED
        for _ in range(3):
            site.net.advance(5)
            site.auth(peer, token, again)
            site.fail()
            assert peer.expect(Auth) == UNDECIDED
        site.net.advance(5)
        site.auth(peer, token, again)
        site.perform()
        assert peer.expect(Auth) == GRANTED
        site.net.advance(900)
        assert peer.closed is None

    def test_and_stays_away(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect(site.token(60))
        site.auth(peer, site.token(1000))
        site.fail()
        assert peer.expect(Auth) == UNDECIDED
        site.closes_silently_after(peer, 60)

    def test_a_client_that_answers_every_0x18_at_once_is_held_back(self, issuer: LocalIssuer) -> None:
        site = Site(issuer, reauthentication_interval=2.0)
        peer = site.connect(site.token(1000))
        token = site.token(1000)
        site.auth(peer, token)
        tries = 0
        while site.net.now < 60:
            while site.net.performs:
                tries += 1
                site.fail()
                assert peer.expect(Auth) == UNDECIDED
                site.auth(peer, token, ReasonCode.CONTINUE_AUTHENTICATION)
            assert peer.publish("up", b"", qos=1) is ReasonCode.SUCCESS
            site.net.advance(0.05)
        assert 29 <= tries <= 31

    @pytest.mark.parametrize("wrong", ["expired", "audience", "garbage", "empty"])
    def test_a_wrong_token(self, issuer: LocalIssuer, wrong: str) -> None:
        site = Site(issuer)
        peer = site.connect()
        token = {
            "expired": site.token(-1),
            "audience": site.token(audience="other"),
            "garbage": b"x.y.z",
            "empty": b"",
        }[wrong]
        site.auth(peer, token)
        site.perform()
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
        assert site.watcher.messages() == [("will", b"gone", 0)]
        [report] = site.net.take_reports(Disconnected)
        assert report.reason.startswith("re-authentication was refused: the")

    def test_no_token(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect()
        peer.send(auth_packet(None))
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED

    def test_another_method(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        peer = site.connect()
        site.auth(peer, site.token(), method="SCRAM-SHA-256")
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR
        assert not site.net.performs

    @pytest.mark.parametrize("packet", [b"\xf0\x00", b"\xf0\x02\x19\x00"])
    def test_no_method(self, issuer: LocalIssuer, packet: bytes) -> None:
        site = Site(issuer)
        peer = site.connect()
        peer.send_bytes(packet)
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR

    @AGAIN
    def test_a_second_one_while_one_is_decided(self, issuer: LocalIssuer, again: ReasonCode) -> None:
        site = Site(issuer)
        peer = site.connect()
        site.auth(peer, site.token())
        site.auth(peer, site.token(), again)
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR

    @AGAIN
    def test_a_second_one_while_one_is_held_back(self, issuer: LocalIssuer, again: ReasonCode) -> None:
        site = Site(issuer, reauthentication_interval=10.0)
        peer = site.connect()
        site.auth(peer, site.token())
        site.fail()
        assert peer.expect(Auth) == UNDECIDED
        site.auth(peer, site.token())
        assert not site.net.performs
        site.auth(peer, site.token(), again)
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR

    @pytest.mark.parametrize("method", [METHOD, "mine"])
    def test_a_client_that_x509_let_in(self, issuer: LocalIssuer, method: str) -> None:
        now = certificates.NOW.timestamp()
        root = certificates.issue("root", extensions=certificates.AUTHORITY)
        leaf = certificates.issue("press", root)
        site = Site(issuer, Method("X509", x509(trust_anchors(root.pem))))
        site.net.broker.wall_offset = now
        transport = Transport("peer", "tls", (leaf.der,))
        peer = site.connect(b"no token at all", authentication_method=method, transport=transport)
        token = issuer.mint("press", audiences=[AUDIENCE], now=now, duration=60).encode()
        site.auth(peer, token, method=method)
        assert not site.net.performs
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED

    def test_a_client_that_a_user_name_let_in(self, issuer: LocalIssuer) -> None:
        site = Site(issuer)
        fields: dict[str, Any] = {"authentication_method": None, "authentication_data": None, "username": METHOD}
        peer = site.connect(**fields, password=site.token(60))
        site.closes_silently_after(peer, 60)
        peer = site.connect(**fields, password=site.token(60))
        site.auth(peer, site.token(60))
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR


class Source:
    """The local issuer's keys; they come when `gate` is open, and not at all while it is `away`."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.issuer = issuer
        self.gate = trio.Event()
        self.gate.set()
        self.away = False
        self.asked = 0
        self._start = time.time()

    def wall_clock(self) -> float:
        """Unix seconds that go by Trio's clock, however slow the machine: no token is from the broker's future."""
        return self._start + trio.current_time()

    async def keys(self, key_id: str | None) -> JsonWebKeys | Failed:
        self.asked += 1
        if self.away:
            return Failed("HTTP status 503")
        await self.gate.wait()
        return await PublishedKeys(self.issuer.source(), lambda *account: {}).keys(key_id)

    async def annotations(self, namespace: str, name: str) -> Mapping[str, str]:
        return self.issuer.annotations(namespace, name)

    async def review(self, token: str, audiences: tuple[str, ...]) -> Failed:
        return Failed("not here")

    async def aclose(self) -> None:
        pass

    def token(self, lifetime: float = 600) -> bytes:
        return self.issuer.mint("press", audiences=[AUDIENCE], now=self.wall_clock(), duration=lifetime).encode()

    def connect(self, lifetime: float = 600) -> Connect:
        return Connect(client_id="c", authentication_method=METHOD, authentication_data=self.token(lifetime))


class TestClient:
    """Our client and the Trio server, in memory."""

    POLICY = Policy(authenticate=chain([SAT]), limits=Limits(reauthentication_interval=5.0))

    @pytest.fixture
    def source(self, issuer: LocalIssuer) -> Source:
        return Source(issuer)

    async def test_success_moves_the_deadline(self, autojump_clock: MockClock, source: Source) -> None:
        async with running(perform=Performer(source).perform, wall_clock=source.wall_clock) as run:
            async with open_client(source.connect(100), stream=run.open_memory(self.POLICY)) as client:
                await client.reauthenticate(source.token(1000))
                await trio.sleep(900)
                assert client.connected
                error = await client.ended()
            assert 998 <= trio.current_time() <= 1001
            assert "the connection was lost" in str(error)  # and no DISCONNECT told why
            [line] = await run.log_of("disconnected")
            assert line["reason"] == "the credential has expired"

    async def test_traffic_goes_on_during_a_slow_one(self, autojump_clock: MockClock, source: Source) -> None:
        async with running(perform=Performer(source).perform, wall_clock=source.wall_clock) as run:
            async with open_client(source.connect(), stream=run.open_memory(self.POLICY)) as client:
                await client.subscribe(Subscription("t", qos=2))
                source.gate = trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.reauthenticate, source.token())
                    await wait_all_tasks_blocked()
                    for number in range(20):
                        assert await client.publish(Publish("t", b"%d" % number, qos=2)) is ReasonCode.SUCCESS
                        assert (await client.receive()).payload == b"%d" % number
                        await trio.sleep(1)
                    assert nursery.child_tasks
                    source.gate.set()
                assert len(run.logged("reauthenticated")) == 1

    async def test_a_source_that_is_away_for_a_while(self, autojump_clock: MockClock, source: Source) -> None:
        async def in_a_second(auth: Auth) -> bytes:
            await trio.sleep(1)
            return source.token()

        async with running(perform=Performer(source).perform, wall_clock=source.wall_clock) as run:
            stream = run.open_memory(self.POLICY)
            async with open_client(source.connect(), stream=stream, answer_challenge=in_a_second) as client:
                source.away = True
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.reauthenticate, source.token())
                    await trio.sleep(20)
                    assert client.connected
                    source.away = False
                codes = [line["reason_code"] for line in run.logged("reauthenticated")]
                assert codes[-1] == "0x00"
                assert set(codes[:-1]) == {"0x18"}
                assert 2 <= len(codes) <= 6  # one in five seconds

    async def test_one_that_answers_at_once_is_held_back(self, autojump_clock: MockClock, source: Source) -> None:
        async def at_once(auth: Auth) -> bytes:
            return source.token()

        async with running(perform=Performer(source).perform, wall_clock=source.wall_clock) as run:
            async with open_client(
                source.connect(), stream=run.open_memory(self.POLICY), answer_challenge=at_once
            ) as client:
                source.away = True
                before = source.asked
                with trio.move_on_after(100):
                    await client.reauthenticate(source.token())
                assert 19 <= source.asked - before <= 22
                assert client.connected

    async def test_a_wrong_token(self, autojump_clock: MockClock, source: Source) -> None:
        async with running(perform=Performer(source).perform, wall_clock=source.wall_clock) as run:
            async with open_client(source.connect(), stream=run.open_memory(self.POLICY)) as client:
                with pytest.raises(ClientError) as caught:
                    await client.reauthenticate(source.token(-1))
                assert caught.value.reason_code is ReasonCode.NOT_AUTHORIZED
                with pytest.raises(ClientError):
                    await client.publish(Publish("t"))
            assert source.token()[:20].decode() not in run.file.getvalue()

    async def test_packets(self, autojump_clock: MockClock, source: Source) -> None:
        """The same seen from the wire, for a moment, without our client's judgement."""
        async with running(perform=Performer(source).perform, wall_clock=source.wall_clock) as run:
            peer = WirePeer(run.open_memory(self.POLICY))
            connack = await peer.connect("c", authentication_method=METHOD, authentication_data=source.token())
            assert (connack.reason_code, connack.authentication_method) == (ReasonCode.SUCCESS, METHOD)
            await peer.send(auth_packet(source.token()))
            assert await peer.receive() == GRANTED
            await peer.send(auth_packet(b"wrong"))
            last = await peer.receive()
            assert isinstance(last, Disconnect)
            assert last.reason_code is ReasonCode.NOT_AUTHORIZED


# What follows shares no code with the broker or our client.

MANIFEST = """
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: devices}
spec:
  authenticationMethods:
    - {method: ServiceAccountToken, serviceAccountTokenSettings: {audiences: [aio-internal]}}
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: devices}
spec:
  ports:
    - {port: PORT, authenticationRef: devices}
"""


def text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def packet(first: int, body: bytes) -> bytes:
    remaining = b""
    length = len(body)
    while length > 127:
        remaining += bytes([length % 128 | 128])
        length //= 128
    return bytes([first]) + remaining + bytes([length]) + body


def properties(method: bytes, data: bytes) -> bytes:
    content = b"\x15" + text(method) + b"\x16" + text(data)
    return packet(0, content)[1:]  # its length is written as that of a packet


def connect_packet(name: bytes, token: bytes) -> bytes:
    variable = text(b"MQTT") + b"\x05" + b"\x06" + b"\0\0" + properties(b"K8S-SAT", token)  # Clean Start, Will
    return packet(0x10, variable + text(name) + b"\0" + text(b"will/" + name) + text(b"gone"))


class Raw:
    """A socket, and packets as first byte and body."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.file = self.socket.makefile("rb")

    def read(self) -> tuple[int, bytes] | None:
        """The next packet, None at the end of the connection."""
        try:
            first = self.file.read(1)
            if not first:
                return None
            length, shift = 0, 0
            while True:
                byte = self.file.read(1)[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return first[0], self.file.read(length)
        except ConnectionResetError:
            return None

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trio_broker", *arguments]


def create_token(directory: Path, duration: str) -> bytes:
    arguments = (
        "token",
        "create",
        "press",
        "--audience",
        "aio-internal",
        "--duration",
        duration,
        "--dir",
        str(directory),
    )
    result = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, check=True, timeout=DEADLINE)
    return result.stdout.strip()


def expiry(token: bytes) -> int:
    payload = token.split(b".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    return int(claims["exp"])


@contextmanager
def broker_process(directory: Path) -> Iterator[int]:
    """`trio-broker run` with the manifest above; its port."""
    manifest, output = directory / "manifest.yaml", directory / "output.txt"
    with output.open("wb") as file:
        while True:
            # Below those that the system gives to outgoing connections; another one if it is taken.
            port = random.SystemRandom().randrange(20_000, 32_000)
            manifest.write_text(MANIFEST.replace("PORT", str(port)))
            process = subprocess.Popen(
                command("run", str(manifest), "--tokens", f"local:{directory / 'session'}", "--log-format", "json"),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
            give_up = time.monotonic() + DEADLINE
            while "Ctrl-C" not in output.read_text() and process.poll() is None and time.monotonic() < give_up:
                time.sleep(0.02)
            if process.poll() is None or "in use" not in output.read_text():
                break
            file.truncate(0)
            file.seek(0)
    try:
        assert "Ctrl-C" in output.read_text(), output.read_text()
        yield port
    finally:
        process.terminate()
        try:
            status = process.wait(DEADLINE)
        finally:
            process.kill()
    assert status == 0


def test_in_real_time(tmp_path: Path) -> None:
    with broker_process(tmp_path) as port:
        lasting, renewed, expiring = Raw(port), Raw(port), Raw(port)
        lasting.send(connect_packet(b"lasting", create_token(tmp_path / "session", "1h")))
        first, body = lasting.read() or (0, b"")
        assert (first, body[:2]) == (0x20, b"\0\0")
        assert b"\x15" + text(b"K8S-SAT") in body
        lasting.send(packet(0x82, b"\0\1\0" + text(b"will/#") + b"\0"))
        assert lasting.read() == (0x90, b"\0\1\0\0")

        short, longer = create_token(tmp_path / "session", "8s"), create_token(tmp_path / "session", "10s")
        assert expiry(short) < expiry(longer)
        for name, client in ((b"renewed", renewed), (b"expiring", expiring)):
            client.send(connect_packet(name, short))
            first, body = client.read() or (0, b"")
            assert (first, body[1]) == (0x20, 0), body
        renewed.send(packet(0xF0, b"\x19" + properties(b"K8S-SAT", longer)))
        first, body = renewed.read() or (0, b"")
        assert (first, body[:1]) in ((0xF0, b"\0"), (0xF0, b""))
        renewed.send(b"\xc0\0")
        assert renewed.read() == (0xD0, b"")

        for name, client, end in ((b"expiring", expiring, expiry(short)), (b"renewed", renewed, expiry(longer))):
            assert client.read() is None  # without DISCONNECT
            assert end - 0.05 <= time.time() < end + 5
            assert lasting.read() == (0x30, text(b"will/" + name) + b"\0gone")

        lasting.send(packet(0xF0, b"\x19" + properties(b"K8S-SAT", short)))  # which has expired
        first, body = lasting.read() or (0, b"")
        assert (first, body[:1]) == (0xE0, b"\x87")
        assert lasting.read() is None
        for client in (lasting, renewed, expiring):
            client.close()
    log = (tmp_path / "output.txt").read_text()
    assert log.count("the credential has expired") == 2
    for token in (short, longer):
        assert token[-40:].decode() not in log


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        (b"\x19" + properties(b"K8S-SAT", b"x.y.z"), 0x87),
        (b"\x19" + properties(b"OTHER", b"x.y.z"), 0x82),
        (b"\x19\0", 0x82),
        (b"", 0x82),
        (b"\x18" + properties(b"K8S-SAT", b"x.y.z"), 0x82),
    ],
)
async def test_refusals_on_a_socket(issuer: LocalIssuer, auth: bytes, code: int) -> None:
    token = issuer.mint("press", audiences=[AUDIENCE], now=time.time(), duration=600).encode()
    listener = listen(policy=Policy(authenticate=chain([SAT])))
    async with running(listener, perform=Performer(Source(issuer)).perform):

        def converse() -> None:
            raw = Raw(listener.address[1])
            raw.send(connect_packet(b"c", token))
            first, body = raw.read() or (0, b"")
            assert (first, body[:2]) == (0x20, b"\0\0")
            raw.send(packet(0xF0, auth))
            first, body = raw.read() or (0, b"")
            assert (first, body[:1]) == (0xE0, bytes([code]))
            assert raw.read() is None
            raw.close()

        await trio.to_thread.run_sync(converse)
