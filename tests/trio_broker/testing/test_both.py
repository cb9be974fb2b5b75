"""What a broker in a thread and one in memory have in common."""

from contextlib import suppress

import pytest
import trio
from argon2 import PasswordHasher

from mqttcore import Connect, Publish, ReasonCode, Subscription, Will
from mqttcore.codes import V311
from tests.trio_broker.testing.support import (
    CERTIFICATES,
    CUSTOM,
    MANIFEST,
    TOKENS,
    AnyBroker,
    both,
    connected,
)
from trio_broker.client import ClientError
from trio_broker.errors import ConfigurationError
from trio_broker.testing import (
    Connected,
    Decided,
    Disconnected,
    Published,
    Refused,
    SessionEnded,
    SessionState,
    Subscribed,
)


def with_token(client_id: str, token: str) -> Connect:
    return Connect(client_id=client_id, authentication_method="K8S-SAT", authentication_data=token.encode())


# ---------------------------------------------------------------------------------------------- what is to be seen


@both()
async def test_what_clients_publish_is_to_be_seen(broker: AnyBroker) -> None:
    async with connected(broker, Connect(client_id="a")) as client:
        for qos in range(3):
            await client.publish(Publish("t", b"%d" % qos, qos=qos, content_type="c"))
        with pytest.raises(ClientError):
            await client.publish(Publish("$SYS/t", qos=1))
        await broker.wait_for_async(Published, topic="$SYS/t")
    assert [(m.client_id, m.topic, m.payload, m.qos, m.publish.content_type) for m in broker.received] == [
        ("a", "t", b"0", 0, "c"),
        ("a", "t", b"1", 1, "c"),
        ("a", "t", b"2", 2, "c"),
    ]


@both()
async def test_the_broker_publishes(broker: AnyBroker) -> None:
    async with connected(broker, Connect(client_id="a")) as client:
        await client.subscribe(Subscription("t/#", qos=1))
        broker.publish("t/1", "ä", qos=1, content_type="c")
        broker.publish("t/2", b"\xff", retain=True)
        first, second = await client.receive(), await client.receive()
        assert (first.payload, first.qos, first.content_type) == ("ä".encode(), 1, "c")
        assert (second.payload, second.qos) == (b"\xff", 0)
    assert broker.received == []


@both()
async def test_sessions_are_to_be_seen(broker: AnyBroker) -> None:
    async with connected(broker, Connect(client_id="a", username="ann", session_expiry_interval=60)) as client:
        await client.subscribe(Subscription("t/#", qos=1))
        event = await broker.wait_for_async(Subscribed, client_id="a")
        assert (event.topic_filter, event.reason_code) == ("t/#", ReasonCode.GRANTED_QOS_1)
    await broker.wait_for_async(Disconnected, client_id="a")
    broker.publish("t", qos=1)
    assert broker.sessions == {
        "a": SessionState(
            client_id="a",
            connected=False,
            username="ann",
            attributes={},
            subscriptions={"t/#": 1},
            waiting=1,
            expiry_interval=60,
        )
    }


@both()
async def test_an_event_is_waited_for_by_kind_fields_and_count(broker: AnyBroker) -> None:
    for client_id in "aba":
        async with connected(broker, Connect(client_id=client_id)):
            await broker.wait_for_async(Connected, client_id=client_id)
    assert (await broker.wait_for_async(Connected, count=2, client_id="a")).client_id == "a"
    assert await broker.wait_for_async(lambda: broker.events) == broker.events
    with pytest.raises(
        TimeoutError, match=r"no Connected\(client_id='a'\) number 3 within 0.05 seconds.*\n.*Connected"
    ):
        await broker.wait_for_async(Connected, count=3, client_id="a", timeout=0.05)
    with pytest.raises(TimeoutError, match="the condition has not come true"):
        await broker.wait_for_async(lambda: False, timeout=0.05)
    with pytest.raises(TypeError, match="Connected has no clientid"):
        await broker.wait_for_async(Connected, clientid="a")


@both()
async def test_a_condition_may_come_true_without_the_broker(broker: AnyBroker) -> None:
    told: list[str] = []

    async def tell() -> None:
        await trio.sleep(0.05)
        told.append("now")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        assert await broker.wait_for_async(lambda: told) == ["now"]


# ------------------------------------------------------------------------------------------ connections and time


@both()
async def test_a_connection_that_is_cut_has_its_will_published(broker: AnyBroker) -> None:
    async with connected(broker, Connect(client_id="a", will=Will(topic="gone", payload=b"x"))) as client:
        broker.cut("a")
        assert [(m.topic, m.payload, m.will) for m in broker.received] == [("gone", b"x", True)]
        assert "a" not in broker.sessions
        await client.ended()
    [event] = [event for event in broker.events if isinstance(event, Disconnected)]
    assert event.by == "eof"


@both()
async def test_who_is_not_connected_can_neither_be_cut_nor_expire(broker: AnyBroker) -> None:
    async with connected(broker, Connect(client_id="b")):
        for do in (broker.cut, broker.expire):
            with pytest.raises(LookupError, match="'a' is not connected; connected are: b"):
                do("a")


@both()
async def test_time_moves_on_and_what_was_due_was_done_in_its_order(broker: AnyBroker) -> None:
    will = Will(topic="gone", will_delay_interval=500, message_expiry_interval=1000, retain=True, payload=b"x")
    async with connected(broker, Connect(client_id="a", session_expiry_interval=3000, will=will)):
        broker.cut("a")
    broker.clock.advance(400)
    assert broker.received == []
    broker.clock.advance(500)  # the Will has been published 400 seconds ago
    async with connected(broker, Connect(client_id="b")) as client:
        await client.subscribe(Subscription("gone"))
        assert (await client.receive()).message_expiry_interval == pytest.approx(600, abs=30)
    before = broker.clock.time()
    broker.clock.advance(3600)
    assert broker.clock.time() - before == pytest.approx(3600, abs=30)
    assert broker.sessions == {}
    with pytest.raises(ValueError, match="not by -1"):
        broker.clock.advance(-1)


@both()
async def test_a_client_that_is_silent_for_too_long_is_disconnected(broker: AnyBroker) -> None:
    async with connected(broker, Connect(client_id="a", keep_alive=60, protocol_version=V311)) as client:
        broker.clock.advance(91)
        assert (await client.ended()).args
    await broker.wait_for_async(Disconnected, client_id="a", by="timeout")


# ---------------------------------------------------------------------------------------------------- credentials


@both(manifests=MANIFEST)
async def test_tokens(broker: AnyBroker) -> None:
    token = broker.token("account", lifetime=1000, attributes={"group": "fleet"})
    async with connected(broker, with_token("a", token), port=TOKENS):
        assert broker.sessions["a"].attributes["group"] == "fleet"
        broker.clock.advance(900)
        assert broker.sessions["a"].connected
        broker.clock.advance(101)
        await broker.wait_for_async(Disconnected, client_id="a", reason="the credential has expired")
    for refused in (token, broker.token("account", audience="other")):
        with pytest.raises(ClientError, match="0x87"):
            async with connected(broker, with_token("a", refused), port=TOKENS):
                pass
    async with connected(broker, with_token("a", broker.token("account")), port=TOKENS):
        pass
    assert [decision.outcome for decision in broker.decisions] == ["granted", "denied", "denied", "granted"]


@both(manifests=MANIFEST)
async def test_certificates(broker: AnyBroker) -> None:
    certificate = broker.certificate("thermostat", lifetime=3600)
    async with connected(broker, Connect(client_id="a"), port=CERTIFICATES, certificate=certificate):
        assert broker.sessions["a"].username == "thermostat"
        broker.clock.advance(3601)
        await broker.wait_for_async(Disconnected, client_id="a", reason="the credential has expired")
    with pytest.raises(ClientError):
        async with connected(broker, Connect(client_id="a"), port=CERTIFICATES):
            pass
    decision = broker.decisions[-1]
    assert (decision.outcome, decision.trace[-1].method) == ("not relevant", "X509")
    assert broker.ca_file.read_text().startswith("-----BEGIN CERTIFICATE-----")


@both(manifests=MANIFEST)
async def test_a_credential_expires_now(broker: AnyBroker) -> None:
    connect = Connect(client_id="a", username="ann", session_expiry_interval=60)
    broker.custom_server.grant(attributes={"group": "fleet"})
    async with connected(broker, connect, port=CUSTOM) as client:
        broker.expire("a")
        assert not broker.sessions["a"].connected
        await client.ended()
    async with connected(broker, connect, port=CUSTOM):
        pass


@both(manifests=MANIFEST)
async def test_what_the_rules_deny_is_to_be_seen(broker: AnyBroker) -> None:
    broker.custom_server.grant(attributes={"group": "fleet"})
    async with connected(broker, Connect(client_id="a"), port=CUSTOM) as client:
        await client.publish(Publish("fleet/1", qos=1))
        with pytest.raises(ClientError):
            await client.publish(Publish("other", qos=1))
    assert [(denial.client_id, denial.topic, denial.rules) for denial in broker.denials] == [("a", "other", "rules")]
    assert [message.topic for message in broker.received] == ["fleet/1"]


@both(manifests=MANIFEST)
async def test_manifests_are_changed(broker: AnyBroker) -> None:
    broker.custom_server.grant(attributes={"group": "fleet"})
    async with connected(broker, Connect(client_id="a"), port=CUSTOM) as client:
        broker.reload(MANIFEST.replace("fleet/#", "fleet/+").replace("auth-server:8443", "another-server"))
        await broker.wait_for_async(Disconnected, client_id="a", reason_code=ReasonCode.ADMINISTRATIVE_ACTION)
        await client.ended()
        async with connected(broker, Connect(client_id="b"), port=CUSTOM) as other:
            with pytest.raises(ClientError):
                await other.publish(Publish("fleet/1/2", qos=1))
    with pytest.raises(ConfigurationError, match=r"manifest-1.yaml:\d+: .*rulez(.|\n)*tokenz"):
        broker.reload(MANIFEST.replace("Ref: tokens", "Ref: tokenz").replace("Ref: rules", "Ref: rulez"))


PASSWORDS = """\
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: default}
spec:
  ports: [{port: 1883, authenticationRef: passwords}]
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: passwords}
spec:
  authenticationMethods: [{method: Password, passwordSettings: {secretName: users}}]
---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData:
  ann: HASH
""".replace("HASH", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("sesame"))


@both(manifests=PASSWORDS)
async def test_passwords_and_what_check_warns_about(broker: AnyBroker) -> None:
    for password in (b"wrong", b"sesame"):
        with suppress(ClientError):
            async with connected(broker, Connect(client_id="a", username="ann", password=password)):
                pass
    assert [decision.outcome for decision in broker.decisions] == ["denied", "granted"]
    assert "manifest_warning" in broker.log  # there is no TLS


# --------------------------------------------------------------------------------------------- the custom server


async def outcome(broker: AnyBroker, username: str = "ann") -> str:
    """What comes of a client that connects: what it is told and why."""
    before = len(broker.decisions)
    try:
        async with connected(broker, Connect(client_id="a", username=username, password=b"pw"), port=CUSTOM):
            await broker.wait_for_async(Connected, client_id="a")
        await broker.wait_for_async(SessionEnded)
    except ClientError:
        pass
    [decision] = broker.decisions[before:]
    return decision.reason or decision.outcome


@both(manifests=MANIFEST)
async def test_the_custom_server_does_what_it_is_told(broker: AnyBroker) -> None:
    server = broker.custom_server
    assert await outcome(broker) == "granted"
    server.deny("bob", reason=0x86, message="no bob")
    assert await outcome(broker) == "granted"
    assert await outcome(broker, "bob") == "the server denied the client with reason 134: no bob"
    server.fail(status=503)
    assert await outcome(broker) == "Custom: the server answered with HTTP status 503, which neither passes nor fails"
    server.vanish()
    assert await outcome(broker) == "Custom: the server could not be asked: no connection: Connection refused"
    server.grant("ann", attributes={"group": "fleet"}, lifetime=60)
    assert await outcome(broker) == "granted"
    with pytest.raises(ValueError, match="grant"):
        server.fail(status=200)
    asked = server.requests
    assert [request.username for request in asked] == ["ann", "ann", "bob", "ann", "ann"]
    assert {(request.type, request.password, request.path) for request in asked} == {
        ("connect", b"pw", "/check/?api-version=0.5.0")
    }
    assert asked[0].headers["x-a"] == "b"
    assert "pw" not in repr(asked[0])


@both(manifests=MANIFEST.replace("auth-server:8443", "127.0.0.5"))
async def test_a_custom_server_may_be_meant_by_its_address(broker: AnyBroker) -> None:
    broker.custom_server.grant(attributes={"group": "fleet"})
    assert await outcome(broker) == "granted"
    broker.reload(MANIFEST.replace("auth-server:8443", "127.0.0.5").replace("1883", "1884"))
    broker.custom_server.deny()
    assert await outcome(broker) == "the server denied the client with reason 135"


@both(manifests=MANIFEST)
async def test_a_credential_of_the_custom_server_has_its_lifetime(broker: AnyBroker) -> None:
    broker.custom_server.grant(attributes={"group": "fleet"}, lifetime=60)
    async with connected(broker, Connect(client_id="a"), port=CUSTOM):
        broker.clock.advance(61)
        await broker.wait_for_async(Disconnected, client_id="a", reason="the credential has expired")


@both(manifests=MANIFEST)
async def test_a_custom_server_that_hangs(broker: AnyBroker) -> None:
    broker.custom_server.hang()

    async def connect() -> None:
        with pytest.raises(ClientError):
            async with connected(broker, Connect(client_id="a"), port=CUSTOM):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        await broker.wait_for_async(lambda: broker.custom_server.requests)
        assert broker.decisions == []
        broker.clock.advance(10)
        decision = await broker.wait_for_async(Decided, client_id="a")
    assert decision.reason == "Custom: the server could not be asked: no complete answer within 10 seconds"


@both(manifests=MANIFEST)
async def test_a_custom_server_that_vanishes_while_it_is_asked(broker: AnyBroker) -> None:
    broker.custom_server.hang()

    async def connect() -> None:
        with pytest.raises(ClientError):
            async with connected(broker, Connect(client_id="a"), port=CUSTOM):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        await broker.wait_for_async(lambda: broker.custom_server.requests)
        broker.custom_server.vanish()
        await broker.wait_for_async(Refused, client_id="a")
    assert "could not be asked" in broker.decisions[-1].reason
