"""Inputs to begin with, beside the corpora: python -m fuzz.seeds writes them to where fuzzing goes on from."""

import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha1

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz import material
from fuzz.places import ROOT, WORK
from fuzz.targets import NAMES
from mqttcore.codec import encode, frame
from mqttcore.codes import V5, V311
from mqttcore.packets import ConnAck, Connect, PubAck, Publish, SubAck
from mqttcore.states import CLIENT, SERVER, Role
from mqttcore.testing.malformed import malformed_packets
from mqttcore.testing.strategies import packets
from tests.mqttcore.support import streams
from tests.trio_broker.resources.support import authentication, client_ca, listener, server_tls, together

EXAMPLES = 150
"""Inputs of each kind."""
VERSIONS = (V5, V311)


def main() -> None:
    """Write the seeds of all targets."""
    for name in NAMES:
        directory = WORK / "corpus" / name
        directory.mkdir(parents=True, exist_ok=True)
        for data in SEEDS[name]():
            (directory / sha1(data).hexdigest()).write_bytes(data)


def drawn(strategy: st.SearchStrategy[bytes]) -> list[bytes]:
    """What a strategy draws, the same each time."""
    found = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(strategy)
    def draw(data: bytes) -> None:
        found.append(data)

    draw()
    return found


def blobs() -> Iterator[bytes]:
    """Bytes without meaning, for targets that take any as operations."""
    generator = random.Random(1)
    for _ in range(EXAMPLES):
        yield generator.randbytes(generator.randint(1, 250))


def of_packets() -> Iterator[bytes]:
    """Packets that are sound, and packets with one thing broken."""
    for version in VERSIONS:
        prefix = bytes((version == V5,))
        yield from (prefix + each for each in drawn(packets(version).map(partial(encode, version=version))))
        yield from (prefix + each for each in drawn(malformed_packets(version).map(lambda broken: frame(*broken))))


def of_connections(role: Role, prefix: bytes) -> Iterator[bytes]:
    """What a peer in the other role says."""
    for version in VERSIONS:
        for number, stream in enumerate(drawn(streams(role, version))):
            yield prefix + (b"\0\0\0", b"\0\0\2\1\x15", b"\1\0\1\3", b"\0\1\1\x40")[number % 4] + stream


def of_servers() -> Iterator[bytes]:
    """Streams, and what comes before a CONNECT that is decided late."""
    yield from of_connections(SERVER, b"")
    for kind in (0, 1):
        for version in VERSIONS:
            early = encode(Publish("t", b"x" * 90), version) * 30
            yield bytes((kind, 1, 1, 200)) + encode(Connect(protocol_version=version)) + early


def of_clients() -> Iterator[bytes]:
    """Streams, and conversations with an application."""
    for stream in of_connections(CLIENT, b"\1"):
        yield stream[:2] + stream[3:]
    for kind in range(5):
        version = V311 if kind > 2 else V5
        said = (ConnAck(), Publish("t", b"x", qos=1, packet_id=1), PubAck(1), SubAck(1, ()))
        steps = b"".join(bytes((0, 0, len(data))) + data for each in said[:3] if (data := encode(each, version)))
        yield bytes((0, kind)) + steps + bytes((4, 1, 0, 0, 1, 120, 0, 0, 6, 0, 0, 3, 1, 7, 0, 9))
    yield from (b"\0" + each for each in blobs())


def of_manifests() -> Iterator[bytes]:
    """The examples, what the documentation shows, and manifests with certificates."""
    for path in sorted(ROOT.joinpath("docs").rglob("*")):
        if path.suffix in (".yaml", ".yml"):
            yield path.read_bytes()
        elif path.suffix == ".md":
            yield from (block.encode() for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL))
    methods = (
        "- method: X509\n  x509Settings: {trustedClientCaCert: client-ca}",
        "- method: ServiceAccountToken\n  serviceAccountTokenSettings: {audiences: [aio-internal]}",
        "- method: Custom\n  customSettings: {endpoint: 'https://a', headers: {a: b}}",
    )
    for method in methods:
        yield together(authentication(method), client_ca()).encode()
    yield together(
        listener("- port: 8883\n  tls: {mode: Manual, manual: {secretName: server-tls}}"), server_tls()
    ).encode()


def of_authentication() -> Iterator[bytes]:
    """Each method alone with what it is asked for, and anything."""
    for method in range(6):
        for secret in range(len(material.TOKENS) + 4):
            for scheme in (0, 2, 3):
                request = bytes((0, 0, 0, 0, 0, 1, secret, 0, scheme, secret, method % 4 + 2, 0, 0))
                for replies in (bytes(16), b"\1\0\1" * 8, bytes(range(1, 30)), b"\1" * 20):
                    yield bytes((1, method)) + request + replies
    yield from blobs()


def of_custom_server() -> Iterator[bytes]:
    """Bodies that pass, fail and are neither, behind every status."""
    bodies = (
        b"{}",
        b'{"attributes": {"a": "b"}, "expiry": "2031-01-01T00:00:00Z"}',
        b'{"expiry": "2031-12-31T23:59:60.5+01:30"}',
        b'{"expiry": "0001-01-01T00:00:00+23:59"}',
        b'{"attributes": {"a": 1}}',
        b'{"reason": 134, "message": "no\\u2028such\\ud800 user"}',
        b'{"reason": true}',
        *(b'{"reason": %d}' % reason for reason in (0, 1, 5, 128, 255)),
        b'{"reason": ' + b"9" * 1000 + b"}",
        b'{"reason": 1e400}',
        b'{"reason": ' + b"9" * 200 + b"}",
        b'{"supportedVersions": ["0.5.0"]}',
        b"[" * 300,
        b'"\xff"',
    )
    for number, body in enumerate(bodies):
        for status in range(5):
            yield bytes((number & 1, 0, 0, 0, status)) + body
            yield bytes((0, 1, 2)) + len(body).to_bytes(2, "big") + body + bytes((0, 0, status)) + body


def of_tokens() -> Iterator[bytes]:
    """Known tokens, changed and whole, and others."""
    known = (*material.TOKENS, *material.BAD_TOKENS)
    headers = (b'{"alg":"none"}', b'{"alg":"HS256"}', b'{"alg":"ES256","kid":1}', b'{"alg":"RS256","crit":["b64"]}')
    forged = {
        "exp": material.TIME + 7200,
        "aud": material.AUDIENCES,
        "iss": material.ISSUER,
        "sub": "system:serviceaccount:default:thermostat",
    }
    claims = (json.dumps(forged).encode(), b'{"exp":1e999}', b'{"exp":1893459600,"aud":[]}', b"[]", b'{"exp":true}')
    for kind in range(3):
        for number, token in enumerate(known):
            yield bytes((kind, 0, number, 0, 1))
            yield bytes((kind, 2)) + token.encode()
            yield bytes((kind, 0, number, 2, 0, number, 65, 0, 99, 66, 1))
        for header in headers:
            for claim in claims:
                sizes = [len(part).to_bytes(2, "big") for part in (header, claim)]
                for known_or_not in b"\0\1":  # a header that is known, and this one
                    parts = sizes[0], header, bytes((known_or_not,)), sizes[1], claim
                    yield bytes((kind, 1, 0)) + b"".join(parts) + b"\1\0\0\0\1"
    yield from (b"\3" + each for each in blobs())


def of_certificates() -> Iterator[bytes]:
    """Chains with and without changes, authorities' certificates, and names."""
    for number in range(len(material.GOOD_CHAINS) + len(material.BAD_CHAINS)):
        yield bytes((0, number))
        yield bytes((0, number, 1, 0, 0, 1, number, 7))
    yield b"\1\1"
    yield b"\1\0" + (900).to_bytes(2, "big") + material.ANCHORS[:900]
    for text in ("CN = a, OU = b + L = c", 'O="d, e";CN=\\C3\\A4', "OID.2.5.4.3=#0c", "/CN=a", "CN=a,,", "1.2.3=x"):
        yield b"\2" + text.encode()
    yield from (b"\3" + each for each in blobs())
    yield from (b"\0" + each for each in blobs())


def of_websocket() -> Iterator[bytes]:
    """Frames behind a handshake, one that a client must not send among them, and a long one."""
    for head in (b"\x82\x81", b"\x81\x81", b"\x02\x81", b"\x88\x82", b"\x82\x01", b"\xf2\x81", b"\x82\xfe\xff\xff"):
        yield b"\1\0" + head + b"\0\0\0\0" + b"x" * 20
    yield b"\1\0\x82\xfe\x10\0\0\0\0\0" + b"x" * 4096
    yield from (b"\2" + each for each in blobs())
    yield b"\0\0GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "packets": of_packets,
    "server_connection": of_servers,
    "client_connection": of_clients,
    "broker": blobs,
    "authentication": of_authentication,
    "topics": blobs,
    "manifests": of_manifests,
    "custom_server": of_custom_server,
    "tokens": of_tokens,
    "certificates": of_certificates,
    "websocket": of_websocket,
}
"""How the seeds of each target are made."""


if __name__ == "__main__":
    main()
