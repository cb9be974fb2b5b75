"""Reloads of a broker that has clients: who stays, who goes, what ends, what is refused."""

import datetime as dt
import errno
import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from cryptography.x509 import DNSName, SubjectAlternativeName, load_der_x509_certificate

from mqttcore import ConnAck, Connect, Disconnect, Publish, ReasonCode, Subscription, Will
from mqttcore.auth import Action
from mqttcore.authenticators.effects import HttpAnswer, HttpPost
from mqttcore.broker import Broker, Policy
from tests.mqttcore.authenticators.certificates import AUTHORITY, Identity, issue
from tests.mqttcore.authenticators.test_revocation import crl
from tests.trio_broker.custom_server import Answer, CustomServer, Received, Site, at, custom_server, passes
from tests.trio_broker.deployments import (
    MANUAL,
    PASSWORD,
    PATIENCE,
    Stage,
    authentication,
    authorization,
    automatic,
    config_map,
    deployed,
    device,
    free_port,
    listener,
    port,
    resource,
    server_pair,
    users,
    x509,
)
from tests.trio_broker.support import Peer, Running, listen, running, until
from tests.trio_broker.test_client_certificates import write_pair
from trio_broker.client import Client, ClientError, open_client
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Listener
from trio_broker.pki_files import ROOTS_FILE
from trio_broker.port_tls import PortTls
from trio_broker.resources import Loaded
from trio_broker.tokens.issuer import LocalIssuer

SENT_AWAY, WRONG = ReasonCode.ADMINISTRATIVE_ACTION, ReasonCode.BAD_USER_NAME_OR_PASSWORD
NOW = dt.datetime.now(dt.UTC)
VALID = NOW - dt.timedelta(days=1), NOW + dt.timedelta(days=30)
ANN: dict[str, Any] = {"username": "ann", "password": b"sesame"}
LASTING: dict[str, Any] = {"clean_start": False, "session_expiry_interval": 1000}
LOGIN = (authentication(PASSWORD), users(ann="sesame"))
ALL = authorization(publish=["#"], subscribe=["#"])


async def alive(client: Client) -> bool:
    """Whether the client's connection stands: the broker answers."""
    await client.publish(Publish("alive", b"", qos=1))
    return client.connected


async def refusal(stage: Stage, number: int, **fields: Any) -> ReasonCode | None:
    """The code that a client is refused with."""
    with pytest.raises(ClientError) as caught:
        async with stage.client(number, "refused", **fields):
            pass
    return caught.value.reason_code


async def why_ended(client: Client) -> ReasonCode | None:
    return (await client.ended()).reason_code


# ------------------------------------------------------------------------------------------- what stays, what goes


async def test_connections_survive_a_reload_of_what_they_do_not_use(tmp_path: Path) -> None:
    one, two, three = free_port(), free_port(), free_port()
    async with deployed(tmp_path, listener(port(one), port(two, "login", "rules")), *LOGIN, ALL) as stage:
        async with stage.client(one) as bystander, stage.client(two, "ann", **ANN) as ann:
            policy = stage.deployment.running.policies[one]
            rules = authorization(publish=["t"])
            outcome = await stage.reloaded(
                listener(port(one), port(two, "login", "rules"), port(three)),
                authentication(PASSWORD),
                users(ann="x"),
                rules,
            )
            assert (outcome["opened"], outcome["changed"]) == (str(three), str(two))
            assert await why_ended(ann) is SENT_AWAY
            assert stage.deployment.running.policies[one] is policy
            assert await alive(bystander)
            assert await refusal(stage, two, **ANN) is WRONG
            async with stage.client(three, "third") as third:
                assert await alive(third)
            outcome = await stage.reloaded()
            assert outcome["outcome"] == "nothing has changed"
            assert await alive(bystander)


async def test_new_ports_open_and_removed_ones_close(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    async with deployed(tmp_path, listener(port(one))) as stage:
        async with stage.client(one) as client:
            outcome = await stage.reloaded(listener(port(two)))
            assert (outcome["opened"], outcome["closed"]) == (str(two), str(one))
            assert await why_ended(client) is SENT_AWAY
        [gone] = stage.run.logged("disconnected")
        assert "its port has been closed" in gone["reason"]
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", one)
        async with stage.client(two) as client:
            assert await alive(client)
        assert [each.address[1] for each in stage.deployment.listeners] == [two]


async def test_a_changed_authorization_sends_its_clients_away_and_they_may_return(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    ports = listener(port(one, "login", "rules"), port(two, "login", "others"))
    others = authorization(publish=["#"], name="others")
    async with deployed(tmp_path, ports, *LOGIN, authorization(publish=["a"]), others) as stage:
        async with stage.client(one, "a", **ANN) as client, stage.client(two, "b", **ANN) as other:
            await stage.reloaded(ports, *LOGIN, authorization(publish=["b"]), others)
            assert await why_ended(client) is SENT_AWAY
            assert await alive(other)
        async with stage.client(one, "a", **ANN) as client:
            await client.publish(Publish("b", qos=1))
            with pytest.raises(ClientError, match="Not authorized"):
                await client.publish(Publish("a", qos=1))


async def test_another_reference_is_a_change_too(tmp_path: Path) -> None:
    one = free_port()
    narrow = authorization(publish=["b"], name="narrow")
    async with deployed(tmp_path, listener(port(one, "login")), *LOGIN) as stage:
        for rules, resources in (("rules", [ALL]), ("narrow", [narrow]), ("", [])):
            async with stage.client(one, **ANN) as client:
                await stage.reloaded(listener(port(one, "login", rules)), *LOGIN, *resources)
                assert await why_ended(client) is SENT_AWAY


# ------------------------------------------------------------------------------------------------------- revoking


async def test_subscriptions_retained_messages_and_wills_under_revoked_rights(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    ports = listener(port(one, "login", "rules"), port(two))
    async with deployed(tmp_path, ports, *LOGIN, ALL) as stage:
        will = Will(topic="will", payload=b"gone", will_delay_interval=1000)
        async with stage.client(one, "ann", **ANN, **LASTING, will=will) as ann:
            await ann.subscribe([Subscription("secret", 1), Subscription("open", 1)])
            for topic in ("secret", "open"):
                await ann.publish(Publish(f"retained/{topic}", b"kept", qos=1, retain=True))
            narrow = authorization(publish=["retained/open"], subscribe=["open"])
            await stage.reloaded(ports, *LOGIN, narrow)
            assert await why_ended(ann) is SENT_AWAY
        async with stage.client(two, "bystander") as bystander:
            await bystander.subscribe("retained/#")
            assert (await bystander.receive()).topic == "retained/open"
            await bystander.subscribe("will")
            for topic in ("secret", "open"):
                await bystander.publish(Publish(topic, b"news", qos=1))
            session = stage.run.broker.sessions["ann"]
            assert set(session.subscriptions) == {"open"}
            assert not session.port.allows(session.principal, Action.PUBLISH, "will")
            async with stage.client(one, "ann", session=ann.session, **ANN, **LASTING) as ann:
                assert (await ann.receive()).topic == "open"
            await bystander.publish(Publish("retained/end", b"", qos=1))
            assert (await bystander.receive()).topic == "retained/end"  # and nothing before it
    assert {each["topic"] for each in stage.run.logged("denied")} >= {"secret"}


async def test_a_port_that_is_removed_and_brought_back_finds_its_sessions(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    both = listener(port(one, "login", "rules"), port(two))
    async with deployed(tmp_path, both, *LOGIN, ALL) as stage:
        async with stage.client(one, "ann", **ANN, **LASTING) as ann:
            await ann.subscribe(Subscription("t", 1))
            await ann.publish(Publish("kept", b"k", qos=1, retain=True))
            await stage.reloaded(listener(port(two)), *LOGIN, ALL)
            assert await why_ended(ann) is SENT_AWAY
        async with stage.client(two, "other") as other:
            await other.subscribe("kept")
            assert (await other.receive()).payload == b"k"
            await other.publish(Publish("t", b"meanwhile", qos=1))
            await stage.reloaded(both, *LOGIN, ALL)
            async with stage.client(one, "ann", session=ann.session, **ANN, **LASTING) as ann:
                assert ann.connack.session_present
                assert (await ann.receive()).payload == b"meanwhile"
            # Without its rules nothing of it is left to anybody.
            await stage.reloaded(listener(port(two)))
            await other.unsubscribe("kept")
            await other.subscribe("kept")
            await other.publish(Publish("kept", b"own", qos=1))
            assert (await other.receive()).payload == b"own"


# --------------------------------------------------------------------------------------------------- authentication


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def server(site: Site) -> Iterator[CustomServer]:
    with custom_server(site.context("127.0.0.1")) as started:
        yield started


def asking(server: CustomServer, site: Site) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = {"endpoint": f"https://127.0.0.1:{server.port}", "caCertConfigMap": "custom-ca"}
    return authentication({"method": "Custom", "customSettings": settings}), config_map("custom-ca", site.ca_pem)


async def test_clients_of_a_changed_authentication_keep_their_session_and_their_deadline(
    tmp_path: Path, site: Site, server: CustomServer
) -> None:
    one = free_port()
    expiry = dt.datetime.fromtimestamp(time.time() + 600, dt.UTC).isoformat().replace("+00:00", "Z")
    server.answer = lambda request: passes(expiry=expiry)
    async with deployed(tmp_path, listener(port(one, "login")), *asking(server, site)) as stage:
        async with stage.client(one, **ANN) as client:
            await client.subscribe("t")
            [link] = stage.run.broker.links
            before = link.credential_deadline
            assert before < trio.current_time() + 600
            outcome = await stage.reloaded(listener(port(one, "login")), authentication(PASSWORD), users(bob="x"))
            assert outcome["changed"] == str(one)
            assert await refusal(stage, one, **ANN) is WRONG
            await client.publish(Publish("t", b"still here", qos=1))
            assert (await client.receive()).payload == b"still here"
            assert link.credential_deadline == pytest.approx(before, abs=1)


class Gate:
    """An answer of a custom server that is held back."""

    def __init__(self, server: CustomServer) -> None:
        self._opened = threading.Event()
        self._server = server
        server.answer = self._answer

    def _answer(self, request: Received) -> Answer:
        while not self._opened.wait(0.01):
            if self._server.stopping.is_set():
                break
        return passes()

    def open(self) -> None:
        self._opened.set()


async def connecting(stage: Stage, number: int, server: CustomServer) -> Peer:
    """A client about whom the custom server has been asked."""
    before = len(server.requests)
    peer = Peer(await stage.run.dial(stage.deployment.listeners[0]))
    await peer.send(Connect(client_id="c", **ANN))
    await until(lambda: len(server.requests) > before)
    return peer


async def test_a_port_closes_while_a_client_is_authenticated(tmp_path: Path, site: Site, server: CustomServer) -> None:
    one, two = free_port(), free_port()
    gate = Gate(server)
    async with deployed(tmp_path, listener(port(one, "login")), *asking(server, site)) as stage:
        peer = await connecting(stage, one, server)
        await stage.reloaded(listener(port(two, "login")), *asking(server, site))
        answer = await peer.receive()
        assert isinstance(answer, ConnAck)
        assert answer.reason_code is ReasonCode.SERVER_UNAVAILABLE
        gate.open()


@pytest.mark.parametrize("allowed", [True, False])
async def test_rules_change_while_a_client_is_authenticated(
    tmp_path: Path, site: Site, server: CustomServer, allowed: bool
) -> None:
    one = free_port()
    gate = Gate(server)
    ports = listener(port(one, "login", "rules"))
    rules = authorization(clientIds=["c"]), authorization(publish=["t"], clientIds=["c" if allowed else "d"])
    async with deployed(tmp_path, ports, *asking(server, site), rules[0]) as stage:
        peer = await connecting(stage, one, server)
        await stage.reloaded(ports, *asking(server, site), rules[1])
        gate.open()
        answer = await peer.receive()
        assert isinstance(answer, ConnAck)
        assert answer.reason_code is (ReasonCode.SUCCESS if allowed else ReasonCode.NOT_AUTHORIZED)


async def test_a_custom_server_that_is_named_no_more_answers_what_is_under_way(
    tmp_path: Path, site: Site, server: CustomServer
) -> None:
    one = free_port()
    ports = listener(port(one, "login"))
    async with deployed(tmp_path, ports, *asking(server, site)) as stage:
        async with stage.client(one, "first", **ANN):
            pass
        assert len(server._open) == 1  # the connection is kept
        gate = Gate(server)
        peers = [await connecting(stage, one, server) for _ in range(2)]
        await stage.reloaded(ports, *LOGIN)
        gate.open()
        for peer in peers:
            answer = await peer.receive()
            assert isinstance(answer, (ConnAck, Disconnect))
            assert answer.reason_code in (ReasonCode.SUCCESS, ReasonCode.SESSION_TAKEN_OVER)
        await until(lambda: not server._open)
        before = len(server.requests)
        async with stage.client(one, "later", **ANN):
            pass
        assert len(server.requests) == before


async def test_a_kept_connection_to_a_custom_server_that_is_named_no_more_is_closed(
    tmp_path: Path, site: Site, server: CustomServer
) -> None:
    one = free_port()
    ports = listener(port(one, "login"))
    async with deployed(tmp_path, ports, *asking(server, site)) as stage:
        async with stage.client(one, **ANN):
            pass
        assert len(server._open) == 1
        await stage.reloaded(ports, *LOGIN)
        await until(lambda: not server._open)
        connections = server.connections
        await stage.reloaded(ports, *asking(server, site))
        async with stage.client(one, **ANN):
            pass
        assert server.connections == connections + 1


async def test_what_an_exchange_asks_a_server_that_is_named_no_more_leaves_no_connection(
    tmp_path: Path, site: Site, server: CustomServer
) -> None:
    ports = listener(port(free_port(), "login"))
    async with deployed(tmp_path, ports, *asking(server, site)) as stage:
        await stage.reloaded(ports, *LOGIN)
        answer = await stage.deployment.perform(HttpPost(at(server, site), "/", b"{}"))
        assert isinstance(answer, HttpAnswer)
        await until(lambda: not server._open)


async def test_annotations_of_service_accounts_hold_from_the_next_authentication_on(tmp_path: Path) -> None:
    one = free_port()

    def account(color: str) -> dict[str, Any]:
        found = resource("ServiceAccount", "robot", api_version="v1")
        found["metadata"] |= {"annotations": {"aio-broker-auth/color": color}}
        return found

    ports = listener(port(one, "login", "rules"))
    method = {"method": "ServiceAccountToken", "serviceAccountTokenSettings": {"audiences": ["aio"]}}
    rest = (authentication(method), authorization(publish=["red"], attributes=[{"color": "red"}]))
    async with deployed(tmp_path, ports, account("red"), *rest) as stage:
        issuer = LocalIssuer(tmp_path / "session")

        def token() -> bytes:
            return issuer.mint("robot", audiences=["aio"], now=time.time(), duration=3600).encode()

        fields = {"authentication_method": "K8S-SAT"}
        async with stage.client(one, "a", **fields, authentication_data=token()) as client:
            await client.publish(Publish("red", qos=1))
            outcome = await stage.reloaded(ports, account("blue"), *rest)
            assert outcome["outcome"] == "service accounts have changed"
            await client.publish(Publish("red", qos=1))
            assert await refusal(stage, one, **fields, authentication_data=token()) is ReasonCode.NOT_AUTHORIZED
            await stage.reloaded(ports, account("red"), *rest)
            await client.reauthenticate(token())
            await stage.reloaded(ports, account("blue"), *rest)
            with pytest.raises(ClientError) as caught:
                await client.reauthenticate(token())
            assert caught.value.reason_code is ReasonCode.NOT_AUTHORIZED


# ------------------------------------------------------------------------------------------------- certificates, TLS


async def test_swapped_certificates_disconnect_nobody(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    authority = trustme.CA()
    secret = tmp_path / "server"
    old = server_pair(secret, authority)
    ports = listener(port(one, tls=MANUAL), port(two, tls=MANUAL, protocol="WebSockets"))
    async with deployed(tmp_path, ports, secrets={"server": secret}) as stage:
        async with (
            stage.client(one, "a", tls=old) as client,
            stage.client(two, "b", tls=old, websocket="/mqtt") as web,
        ):
            new = server_pair(secret, trustme.CA())
            outcome = await stage.reloaded()
            assert outcome["changed"] == f"{one}, {two}"
            for number, options in ((one, {}), (two, {"websocket": "/mqtt"})):
                async with stage.client(number, "new", tls=new, **options) as later:
                    assert await alive(later)
                with pytest.raises(ClientError, match="certificate"):
                    async with stage.client(number, "old", tls=old, **options):
                        pass
            assert await alive(client)
            assert await alive(web)


@pytest.mark.parametrize("missing", ["tls.key", "tls.crt", "all of it", "halves of two"])
async def test_unreadable_certificates_change_nothing(tmp_path: Path, missing: str) -> None:
    one, two = free_port(), free_port()
    secret = tmp_path / "server"
    context = server_pair(secret, trustme.CA())
    async with deployed(tmp_path, listener(port(one, tls=MANUAL)), secrets={"server": secret}) as stage:
        async with stage.client(one, "a", tls=context) as client:
            before = stage.deployment.running
            if missing == "all of it":
                secret.rename(tmp_path / "elsewhere")
            elif missing == "halves of two":
                server_pair(tmp_path / "other", trustme.CA())
                (tmp_path / "other" / "tls.key").replace(secret / "tls.key")
            else:
                (secret / missing).unlink()
            outcome = await stage.reload(listener(port(one, tls=MANUAL), port(two)))
            assert outcome["event"] == "reload_refused"
            assert str(secret) in outcome["reason"]
            assert stage.deployment.running is before
            assert await alive(client)
            async with stage.client(one, "b", tls=context) as later:
                assert await alive(later)


async def test_a_mistake_changes_nothing_and_is_told_with_its_place(tmp_path: Path) -> None:
    one = free_port()
    async with deployed(tmp_path, listener(port(one))) as stage:
        async with stage.client(one) as client:
            before = stage.deployment.running
            stage.write(listener(port(one), {"port": 1, "authenticationReff": "x"}))
            await stage.deployment.reload(stage.load, stage.run.server)
            [refused] = stage.outcomes
            line = stage.manifest.read_text().splitlines().index("  - authenticationReff: x") + 1
            assert refused["reason"].startswith(f"{stage.manifest}:{line}: spec.ports[1].authenticationReff: ")
            assert "did you mean authenticationRef?" in refused["reason"]
            stage.manifest.unlink()
            outcome = await stage.reload()
            assert "No such file" in outcome["reason"]
            assert stage.deployment.running is before
            assert await alive(client)


async def test_warnings_are_told_when_they_are_new(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    unused = authorization(name="unused")
    async with deployed(tmp_path, listener(port(one, "login")), *LOGIN) as stage:  # without TLS
        await stage.reloaded()
        assert not stage.run.logged("manifest_warning")
        stage.write({"kind": "Nonsense"})
        await stage.deployment.reload(stage.load, stage.run.server)
        await stage.reloaded(unused, listener(port(one, "login")), *LOGIN)  # lines further down
        [warning] = stage.run.logged("manifest_warning")
        assert "BrokerAuthorization 'unused' is not used" in warning["reason"]
        await stage.reloaded(listener(port(one, "login"), port(two, "login")), *LOGIN)
        [_, warning] = stage.run.logged("manifest_warning")
        assert "spec.ports[1].port: the port has no TLS" in warning["reason"]


async def test_a_port_in_use_refuses_the_whole(tmp_path: Path) -> None:
    one, two, taken = free_port(), free_port(), free_port()
    async with deployed(tmp_path, listener(port(one, "login")), *LOGIN) as stage:
        async with stage.client(one, "a", **ANN) as client:
            before = stage.deployment.running
            new = (listener(port(two), port(one, "login"), port(taken)), authentication(PASSWORD), users(ann="other"))
            with socket.create_server(("127.0.0.1", taken)):
                outcome = await stage.reload(*new)
            assert outcome["event"] == "reload_refused"
            assert f"port {taken} on 127.0.0.1 is in use by another program" in outcome["reason"]
            assert stage.deployment.running is before
            socket.create_server(("127.0.0.1", two)).close()
            async with stage.client(one, "b", **ANN):
                assert await alive(client)
            await stage.reloaded()
            assert await refusal(stage, one, **ANN) is WRONG
            assert await alive(client)


@pytest.mark.parametrize("websocket", [False, True])
async def test_a_port_that_becomes_one_for_another_protocol(tmp_path: Path, websocket: bool) -> None:
    one = free_port()
    secret = tmp_path / "server"
    context = server_pair(secret, trustme.CA())
    fields: dict[str, Any] = {"protocol": "WebSockets"} if websocket else {"tls": MANUAL}
    options: dict[str, Any] = {"websocket": "/mqtt"} if websocket else {"tls": context}
    async with deployed(tmp_path, listener(port(one)), secrets={"server": secret}) as stage:
        async with stage.client(one, **LASTING) as client:
            await client.subscribe("t")
            await stage.reloaded(listener(port(one, **fields)))
            assert await why_ended(client) is SENT_AWAY
        async with stage.client(one, session=client.session, **options, **LASTING) as client:
            assert client.connack.session_present
            await client.publish(Publish("t", b"x", qos=1))
            assert (await client.receive()).payload == b"x"
            await stage.reloaded(listener(port(one)))
            assert await why_ended(client) is SENT_AWAY
        async with stage.client(one, session=client.session, **LASTING) as client:
            assert client.connack.session_present


async def test_a_port_that_changes_its_protocol_and_its_authentication_at_once(tmp_path: Path) -> None:
    one = free_port()
    async with deployed(tmp_path, listener(port(one, "login")), *LOGIN) as stage:
        async with stage.client(one, **ANN) as client:
            await stage.reloaded(listener(port(one, protocol="WebSockets")))
            assert await why_ended(client) is SENT_AWAY


HANDSHAKES = [{"tls": MANUAL}, {"protocol": "WebSockets"}, {"tls": MANUAL, "protocol": "WebSockets"}]


@pytest.mark.parametrize("fields", HANDSHAKES, ids=["tls", "ws", "wss"])
@pytest.mark.parametrize("change", ["another certificate", "closed", "plain", "removed and back"])
async def test_a_reload_while_a_handshake_is_under_way(tmp_path: Path, fields: dict[str, Any], change: str) -> None:
    one, two = free_port(), free_port()
    authority = trustme.CA()
    secret = tmp_path / "server"
    context = server_pair(secret, authority)
    async with deployed(tmp_path, listener(port(one, **fields), port(two)), secrets={"server": secret}) as stage:
        stream = await trio.open_tcp_stream("127.0.0.1", one)
        await until(lambda: len(stage.run.server._guests) == 1)
        if change == "another certificate":
            server_pair(secret, authority)
            await stage.reloaded()
        elif change == "plain":
            await stage.reloaded(listener(port(one), port(two)))
        else:
            await stage.reloaded(listener(port(two)))
            if change == "removed and back":
                await stage.reloaded(listener(port(one, **fields), port(two)))
        options: dict[str, Any] = {"tls": context} if "tls" in fields else {}
        if "protocol" in fields:
            options["websocket"] = "/mqtt"
        try:
            async with open_client(
                Connect(client_id="c"),
                stream=await upgraded(stream, fields, context),
                websocket=options.get("websocket"),
            ) as client:
                assert change == "another certificate"
                assert await alive(client)
        except (ClientError, trio.BrokenResourceError):
            assert change != "another certificate"
        finally:
            await trio.aclose_forcefully(stream)
        await until(lambda: len(stage.run.server._guests) == 0)
        if change in ("another certificate", "removed and back"):
            async with stage.client(one, "later", **options) as client:
                assert await alive(client)


async def upgraded(stream: trio.SocketStream, fields: dict[str, Any], context: ssl.SSLContext) -> trio.abc.Stream:
    if "tls" not in fields:
        return stream
    secure = trio.SSLStream(stream, context, server_hostname="127.0.0.1")
    await secure.do_handshake()
    return secure


def shown(context: ssl.SSLContext, number: int) -> set[str]:
    """The names in the certificate that a port shows."""
    with socket.create_connection(("127.0.0.1", number), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            der = secure.getpeercert(True)
    assert der is not None
    names = load_der_x509_certificate(der).extensions.get_extension_for_class(SubjectAlternativeName)
    return {*names.value.get_values_for_type(DNSName)}


async def test_a_changed_automatic_certificate(tmp_path: Path) -> None:
    one = free_port()
    async with deployed(tmp_path, listener(port(one, tls=automatic()))) as stage:
        context = ssl.create_default_context(cafile=str(tmp_path / "session" / ROOTS_FILE))
        async with stage.client(one, tls=context) as client:
            outcome = await stage.reloaded(listener(port(one, tls=automatic("broker.example"))))
            assert outcome["changed"] == str(one)
            assert "broker.example" in await trio.to_thread.run_sync(shown, context, one)
            assert await alive(client)


# ------------------------------------------------------------------------------------------------------------ X.509

ROOT, OTHER_ROOT = (issue(name, extensions=AUTHORITY, validity=VALID) for name in ("root", "other root"))
THERMOSTAT, LAMP = (issue(name, ROOT, validity=VALID) for name in ("thermostat", "lamp"))
STRANGER = issue("stranger", OTHER_ROOT, validity=VALID)


class Doors:
    """A port whose clients have certificates."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._secret = directory / "server"
        self._authority = trustme.CA()
        server_pair(self._secret, self._authority)
        self.number = free_port()

    @property
    def secrets(self) -> dict[str, Path]:
        return {"server": self._secret}

    def resources(self, *trusted: bytes, **settings: Any) -> list[dict[str, Any]]:
        return [
            listener(port(self.number, "login", tls=MANUAL)),
            authentication(x509(**settings)),
            config_map("client-ca", b"".join(trusted)),
        ]

    def context(self, client: Identity) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        context.load_cert_chain(*write_pair(self._directory, "client", [client]))
        return context


async def test_another_authority_is_trusted(tmp_path: Path) -> None:
    doors = Doors(tmp_path)
    async with deployed(tmp_path, *doors.resources(ROOT.pem), secrets=doors.secrets) as stage:
        async with stage.client(doors.number, "a", tls=doors.context(THERMOSTAT)) as client:
            with pytest.raises((ClientError, OSError)):
                async with stage.client(doors.number, "b", tls=doors.context(STRANGER)):
                    pass
            await stage.reloaded(*doors.resources(OTHER_ROOT.pem))
            async with stage.client(doors.number, "b", tls=doors.context(STRANGER)) as stranger:
                assert await alive(stranger)
            with pytest.raises((ClientError, OSError)):
                async with stage.client(doors.number, "c", tls=doors.context(LAMP)):
                    pass
            assert await alive(client)
            [*_, failed] = stage.run.logged("handshake_failed")
            assert "the client certificate was refused" in failed["reason"]


async def test_a_revoked_client_is_dropped(tmp_path: Path) -> None:
    doors = Doors(tmp_path)
    async with deployed(tmp_path, *doors.resources(ROOT.pem), secrets=doors.secrets) as stage:
        async with (
            stage.client(doors.number, "a", tls=doors.context(THERMOSTAT)) as revoked,
            stage.client(doors.number, "b", tls=doors.context(LAMP)) as lamp,
        ):
            await stage.reloaded(*doors.resources(ROOT.pem, crl(ROOT, validity=VALID)))
            assert await alive(revoked)
            await stage.reloaded(*doors.resources(ROOT.pem, crl(ROOT, THERMOSTAT, validity=VALID)))
            assert await why_ended(revoked) is ReasonCode.NOT_AUTHORIZED
            assert await alive(lamp)
            code = await refusal(stage, doors.number, tls=doors.context(THERMOSTAT))
            assert code is ReasonCode.NOT_AUTHORIZED
        [dropped] = [each for each in stage.run.logged("disconnected") if each["client_id"] == "a"]
        assert "has been revoked by" in dropped["reason"]


async def test_a_disabled_device_is_dropped_within_the_review_interval(tmp_path: Path) -> None:
    doors = Doors(tmp_path)
    resources = doors.resources(ROOT.pem, additionalValidation="AzureDeviceRegistry")
    enabled = (device("thermostat", True), device("lamp", True))
    async with deployed(
        tmp_path, *resources, *enabled, secrets=doors.secrets, settings=["review_interval=0.05"]
    ) as stage:
        async with (
            stage.client(doors.number, "a", tls=doors.context(THERMOSTAT)) as thermostat,
            stage.client(doors.number, "b", tls=doors.context(LAMP)) as lamp,
        ):
            outcome = await stage.reloaded(*resources, device("thermostat", False), device("lamp", True))
            assert outcome["changed"] == str(doors.number)
            assert await why_ended(thermostat) is ReasonCode.NOT_AUTHORIZED
            await stage.reloaded(*resources, device("thermostat", True))
            assert await why_ended(lamp) is ReasonCode.NOT_AUTHORIZED
            async with stage.client(doors.number, "a", tls=doors.context(THERMOSTAT)) as thermostat:
                assert await alive(thermostat)


# ----------------------------------------------------------------------------------------------------------- limits


async def test_limits_hold_for_new_connections(tmp_path: Path) -> None:
    one = free_port()

    def broker(maximum: int) -> dict[str, Any]:
        return resource("Broker", "default", spec={"advanced": {"clients": {"maxReceiveMaximum": maximum}}})

    async with deployed(tmp_path, listener(port(one)), broker(7)) as stage:
        async with stage.client(one, "a") as client:
            assert client.connack.receive_maximum == 7
            [link] = stage.run.broker.links
            outcome = await stage.reloaded(listener(port(one)), broker(8))
            assert outcome["changed"] == str(one)
            assert await alive(client)
            assert link.policy.limits.receive_maximum == 7
            async with stage.client(one, "b") as later:
                assert later.connack.receive_maximum == 8


# -------------------------------------------------------------------------------------------------------------- end


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
async def test_a_hundred_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    doors, one, two = Doors(tmp_path), free_port(), free_port()
    authority = trustme.CA()

    def resources(number: int) -> list[dict[str, Any]]:
        [_, *rest] = doors.resources(ROOT.pem, *([OTHER_ROOT.pem] if number % 2 else []))
        ports = [port(doors.number, "login", tls=MANUAL), port(one, "users", "rules")]
        if number % 3:
            ports += [port(two, "users", "rules", **({"tls": automatic()} if number % 2 else {}))]
        rules = authorization(publish=["#"] if number % 2 else ["t", "u"], subscribe=["#"])
        return [listener(*ports), *rest, authentication(PASSWORD, name="users"), users(ann="sesame"), rules]

    def counted() -> dict[str, int]:
        gc.collect()
        kinds = dict.fromkeys((ssl.SSLContext, Policy, Listener, PortTls, socket.socket), 0)
        for found in gc.get_objects():
            for kind in kinds:
                kinds[kind] += type(found) is kind
        return {
            **{kind.__name__: count for kind, count in kinds.items()},
            "files": len(os.listdir("/dev/fd")),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "retired": len(stage.deployment.running.retired),
        }

    async with deployed(tmp_path, *resources(0), secrets=doors.secrets) as stage:
        async with stage.client(doors.number, "device", tls=doors.context(THERMOSTAT)) as stays:
            async with stage.client(one, "ann", **ANN, **LASTING) as ann:
                await ann.subscribe("t")
                await ann.publish(Publish("t", b"", qos=1, retain=True))
            for number in range(7):
                await stage.reloaded(*resources(number))
            before = counted()
            for number in range(7, 103):
                if number % 10 == 0:
                    server_pair(tmp_path / "server", authority)
                await stage.reloaded(*resources(number))
            assert counted() == before
            assert await alive(stays)


async def test_a_reload_that_ends_after_the_server_opens_nothing(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    async with deployed(tmp_path, listener(port(one))) as stage:
        async with stage.client(one) as client:
            stage.run.server.stop()
            assert await why_ended(client) is ReasonCode.SERVER_SHUTTING_DOWN
        await until(lambda: stage.run.server._nursery is None)
        await stage.reload(listener(port(one), port(two)))
        socket.create_server(("127.0.0.1", two)).close()


async def test_a_listener_that_is_closed_before_it_could_accept() -> None:
    with trio.fail_after(PATIENCE):
        async with running() as run:
            run.server.listen([listen()])
            run.server.unlisten([*run.server._listeners])
            await trio.testing.wait_all_tasks_blocked()
            async with run.open_memory() as stream:
                await Peer(stream).connect("c")


async def test_a_listener_that_is_closed_while_it_makes_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(self: socket.socket) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    with trio.fail_after(PATIENCE):
        first = listen()
        async with running(first, bounds=ServerLimits(accept_retry_delay=0.05)) as run:
            monkeypatch.setattr(socket.socket, "accept", exhausted)
            await run.dial(first)
            await run.log_of("accept_failed")
            run.server.unlisten([first])
            await until(lambda: not accepting(run))
            async with run.open_memory() as stream:
                await Peer(stream).connect("c")


def accepting(run: Running) -> bool:
    """Whether a task still accepts connections."""
    return any(task.name.endswith("_accept") for task in run.nursery.child_tasks for task in tasks_under(task))


def tasks_under(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from tasks_under(child)


async def test_files_that_never_answer_do_not_keep_later_reloads_from_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_broker.deployment.LOADING_TIMEOUT", 0.05)
    number = free_port()
    async with deployed(tmp_path, listener(port(number))) as stage:
        answer = threading.Event()

        def load() -> Loaded:
            answer.wait(PATIENCE)
            return stage.load()

        await stage.deployment.reload(load, stage.run.server)
        assert [each["reason"] for each in stage.outcomes] == ["the files could not be read within 0.05 seconds"]
        answer.set()
        monkeypatch.undo()
        await stage.reloaded()


async def test_a_fault_in_a_change_leaves_no_port_that_nobody_accepts_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = free_port(), free_port()
    async with deployed(tmp_path, listener(port(one))) as stage:

        def broken(*_arguments: object) -> None:
            raise RuntimeError("for this test")

        with monkeypatch.context() as patch:
            patch.setattr(Broker, "disconnect", broken)
            with pytest.raises(RuntimeError, match="for this test"):
                await stage.reload(listener(port(one), port(other)))
        async with stage.client(other):
            pass
