"""Every client over every transport that it has, in both protocol versions."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.interop.harness import Endpoint, Message, Options, Transport, Version
from tests.interop.peers import PEERS, Peer

pytestmark = pytest.mark.interop

EIGHT_MEGABYTES = bytes(range(256)) * (8 * 1024 * 1024 // 256)

Endpoints = dict[Transport, Endpoint]
Unique = Callable[[str], str]


@pytest.fixture(params=[5, 4], ids=["v5", "v311"])
def version(request: pytest.FixtureRequest) -> Version:
    result: Version = request.param
    return result


@pytest.fixture(
    params=[(peer, transport) for peer in PEERS.values() for transport in peer.transports],
    ids=lambda pair: f"{pair[0].name}-{pair[1]}",
)
def peer_and_endpoint(request: pytest.FixtureRequest, endpoints: Endpoints) -> tuple[Peer, Endpoint]:
    peer, transport = request.param
    return peer, endpoints[transport]


@pytest.fixture
def peer(peer_and_endpoint: tuple[Peer, Endpoint]) -> Peer:
    return peer_and_endpoint[0]


@pytest.fixture
def endpoint(peer_and_endpoint: tuple[Peer, Endpoint]) -> Endpoint:
    return peer_and_endpoint[1]


async def test_delivers_at_the_lower_qos(peer: Peer, endpoint: Endpoint, version: Version, unique: Unique) -> None:
    topic, last = unique("qos"), Message(topic=unique("last"), qos=2)
    sent = [Message(topic=topic, payload=payload, qos=qos) for qos in (0, 1, 2) for payload in (b"%d" % qos, b"")]
    async with AsyncExitStack() as stack:
        subscribers = [
            await stack.enter_async_context(
                peer.start(
                    endpoint,
                    Options(version=version, client_id=unique(f"sub{qos}-"), qos=qos, filters=(topic, last.topic)),
                )
            )
            for qos in (0, 1, 2)
        ]
        for subscriber in subscribers:
            await subscriber.ready()
        await peer.publish(endpoint, Options(version=version, client_id=unique("pub"), messages=(*sent, last)))
        received = [await subscriber.messages_until(last) for subscriber in subscribers]
    for qos, messages in enumerate(received):
        expected = [(message.payload, min(message.qos, qos)) for message in sent]
        assert sorted((message.payload, message.qos) for message in messages) == sorted(expected)


async def test_eight_megabytes(
    peer: Peer, endpoint: Endpoint, endpoints: Endpoints, version: Version, unique: Unique
) -> None:
    topic = unique("large")
    sent = [Message(topic=topic, payload=EIGHT_MEGABYTES + b"%d" % qos, qos=qos) for qos in (0, 1)]
    subscriber = Options(version=version, client_id=unique("sub"), qos=1, filters=(topic,))
    publisher = Options(version=version, client_id=unique("pub"), messages=tuple(sent))
    through = endpoint
    if endpoint.transport in ("ws", "wss") and not peer.large_over_websocket:
        through = endpoints["tcp" if endpoint.transport == "ws" else "tls"]
    async with peer.start(endpoint, subscriber) as running:
        await running.ready()
        await peer.publish(through, publisher)
        received = [await running.message() for _ in sent]
    assert [message.payload for message in received] == [message.payload for message in sent]


async def test_retained_message_is_kept_and_cleared(
    peer: Peer, endpoint: Endpoint, version: Version, unique: Unique
) -> None:
    topic = unique("retained")
    kept = Message(topic=topic, payload=b"kept", qos=1, retain=True)
    live = Message(topic=topic, payload=b"live", qos=1)

    async def publish(message: Message) -> None:
        options = Options(version=version, client_id=unique("pub"), messages=(message,))
        await peer.publish(endpoint, options)

    subscriber = Options(version=version, client_id=unique("sub"), qos=1, filters=(topic,))
    await publish(kept)
    async with peer.start(endpoint, subscriber) as running:
        received = await running.message()
        assert (received.payload, received.retain) == (b"kept", True)

    await publish(Message(topic=topic, retain=True, qos=1))
    async with peer.start(endpoint, subscriber) as running:
        await running.ready()
        await publish(live)
        received = await running.message()
        assert (received.payload, received.retain) == (b"live", False)


async def test_will_is_published_when_the_client_is_killed(
    peer: Peer, endpoint: Endpoint, version: Version, unique: Unique
) -> None:
    will = Message(topic=unique("will"), payload=b"gone", qos=1)
    watcher = Options(version=version, client_id=unique("watcher"), qos=1, filters=(will.topic,))
    mortal = Options(version=version, client_id=unique("mortal"), filters=(unique("other"),), will=will)
    async with peer.start(endpoint, watcher) as watching, peer.start(endpoint, mortal) as dying:
        await watching.ready()
        await dying.ready()
        await dying.kill()
        assert await watching.message() == will


async def test_shared_subscription_hands_each_message_to_one_client(
    peer: Peer, endpoint: Endpoint, version: Version, unique: Unique
) -> None:
    topic, last = unique("shared"), Message(topic=unique("last"), qos=1)
    sent = [Message(topic=topic, payload=b"%d" % number, qos=1) for number in range(10)]
    filters = (f"$share/{unique('group')}/{topic}", last.topic)
    one = Options(version=version, client_id=unique("one"), qos=1, filters=filters)
    two = Options(version=version, client_id=unique("two"), qos=1, filters=filters)
    async with peer.start(endpoint, one) as first, peer.start(endpoint, two) as second:
        await first.ready()
        await second.ready()
        await peer.publish(endpoint, Options(version=version, client_id=unique("pub"), messages=(*sent, last)))
        of_first, of_second = await first.messages_until(last), await second.messages_until(last)
    assert of_first
    assert of_second
    payloads = [message.payload for message in of_first + of_second]
    assert sorted(payloads) == sorted(message.payload for message in sent)


async def test_session_is_resumed_after_a_kill(
    peer: Peer, endpoint: Endpoint, version: Version, unique: Unique
) -> None:
    topic, last = unique("resumed"), Message(topic=unique("last"), qos=2)
    sent = [Message(topic=topic, payload=b"%d" % number, qos=1 + number % 2) for number in range(6)]
    first = Options(
        version=version,
        client_id=unique("sub"),
        clean=False,
        expiry=600,
        qos=2,
        filters=(topic, last.topic),
    )
    async with peer.start(endpoint, first) as running:
        await running.ready()
        assert running.session_present in (False, None)
        await running.kill()
    await peer.publish(endpoint, Options(version=version, client_id=unique("pub"), messages=(*sent, last)))
    second = Options(version=version, client_id=unique("sub"), clean=False, expiry=600, qos=2)
    async with peer.start(endpoint, second) as running:
        await running.ready()
        assert running.session_present in (True, None)
        received = await running.messages_until(last)
    assert sorted(message.payload for message in received) == [message.payload for message in sent]
