"""What a test can do with a broker, whether it runs in a thread or in memory."""

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import trio
from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding

from mqttcore import Publish
from mqttcore.auth import Effect, Reply
from mqttcore.broker import Broker, Link
from mqttcore.broker.reports import Decided, Denied, Event, Published
from trio_broker.client import client_tls_context
from trio_broker.deployment import Deployment
from trio_broker.https import Address
from trio_broker.listeners import Listener
from trio_broker.pki import CLIENT_LIFETIME
from trio_broker.pki_files import file_name, write_client
from trio_broker.resources import Configuration
from trio_broker.resources.identity import DEFAULT_NAMESPACE
from trio_broker.server import Server
from trio_broker.testing.clocks import BrokerClock, MemoryClock, OffsetClock
from trio_broker.testing.custom_server import CustomServer
from trio_broker.testing.options import Manifests, Setup
from trio_broker.testing.recorder import Recorder
from trio_broker.tokens import TokensLocal
from trio_broker.tokens.issuer import LocalIssuer

T = TypeVar("T")

HOST = "127.0.0.1"
WAIT_TIMEOUT = 5.0
"""Seconds that a test waits for something unless it says otherwise."""
POLL = 0.01
"""Seconds between two looks at a condition that may come true without the broker."""
TOKEN_LIFETIME = 3600.0
"""Seconds that a token is valid unless the test says otherwise."""


@frozen
class ClientCertificate:
    """A client's certificate: PEM files of its chain and of its key, and the chain in DER."""

    certificate_file: Path
    key_file: Path
    chain: tuple[bytes, ...]


@frozen(kw_only=True)
class SessionState:
    """A session as it was when it was looked at.

    `subscriptions` are Topic Filters with the granted QoS, `waiting` the QoS 1 and 2 messages that the client has not
    acknowledged yet, or not been sent, and `expiry_interval` seconds.
    """

    client_id: str
    connected: bool
    username: str | None
    attributes: Mapping[str, str]
    subscriptions: Mapping[str, int]
    waiting: int
    expiry_interval: int


class BrokerUnderTest(ABC):
    """A broker that tells a test what it does, and does what the test needs.

    Properties tell what has happened so far. What a method does has been done when it returns.
    """

    def __init__(
        self,
        setup: Setup,
        clock: OffsetClock | MemoryClock,
        listen: Callable[..., list[Listener]],
        resolve: Mapping[Address, Address],
    ) -> None:
        configuration, self._warnings = setup.configuration()
        self._setup = setup
        self._issuer = LocalIssuer(setup.directory)
        self._deployment = Deployment(
            profile=setup.profile,
            settings=setup.settings,
            bind=[HOST],
            tokens=TokensLocal(setup.directory),
            resolve=resolve,
            listen=listen,
        )
        self._deployment.start(configuration)
        limits = setup.settings.server_limits
        self._recorder = Recorder(self._changed)
        # The same seed each time: Client Identifiers that it assigns are, too.
        self._broker = Broker(self._deployment.running.limits, seed=bytes(32), wall_offset=0.0, report_traffic=True)
        self._server = Server(
            self._broker,
            limits=limits,
            perform=self._try_to_perform,
            wall_clock=clock.wall_time,
            on_report=self._recorder.report,
        )
        self._server.log = self._recorder.event_log(limits)
        self.clock = BrokerClock(clock, self._broker, self._call, self._server.dispatch)
        self.custom_server = CustomServer(self._call, clock.wall_time)

    # ---------------------------------------------------------------------------------------- what has happened

    @property
    def events(self) -> list[Event]:
        """All that the broker has reported, in its order: the classes of mqttcore.broker.reports."""
        return [*self._recorder.events]

    @property
    def received(self) -> list[Published]:
        """What clients have published and were allowed to, Wills (`will`) included."""
        return [event for event in self._recorder.of(Published) if not event.reason_code.is_failure]

    @property
    def decisions(self) -> list[Decided]:
        """How authentications have ended, with their steps (`trace`)."""
        return self._recorder.of(Decided)

    @property
    def denials(self) -> list[Denied]:
        """What clients were not allowed to do."""
        return self._recorder.of(Denied)

    @property
    def sessions(self) -> dict[str, SessionState]:
        """The sessions by Client Identifier, of connected clients and of those that are away."""
        return self._call(self._session_states)

    @property
    def log(self) -> str:
        """The broker's log, with debug lines."""
        return self._recorder.log

    # --------------------------------------------------------------------------------------------- credentials

    @property
    def ca_file(self) -> Path:
        """The roots that the broker's certificates, and those of `certificate`, lead to."""
        self._setup.authority()
        return self._setup.ca_file

    def token(
        self,
        account: str,
        *,
        audience: str = "aio-internal",
        lifetime: float = TOKEN_LIFETIME,
        namespace: str = DEFAULT_NAMESPACE,
        attributes: Mapping[str, str] | None = None,
    ) -> str:
        """A service account token that is valid for `lifetime` seconds of the broker's clock, less a part of a second.

        `attributes` become annotations of the account.
        """
        if attributes:
            annotations = {f"aio-broker-auth/{name}": value for name, value in attributes.items()}
            self._issuer.annotate(namespace, account, annotations)
        return self._issuer.mint(
            account, audiences=[audience], now=self.clock.time(), duration=lifetime, namespace=namespace
        )

    def certificate(self, common_name: str, *, lifetime: float = CLIENT_LIFETIME) -> ClientCertificate:
        """A client certificate of the local authority that is valid for `lifetime` seconds of the broker's clock.

        Raises ConfigurationError for a name that a certificate cannot have.
        """
        issued = self._setup.authority().issue_client(common_name, self.clock.time(), lifetime=lifetime)
        folder = self._setup.directory / "clients"
        name = file_name(common_name)
        files = folder / f"{name}.crt", folder / f"{name}.key"
        write_client(*files, issued)
        return ClientCertificate(*files, tuple(each.public_bytes(Encoding.DER) for each in issued.certificates))

    def tls_context(self, certificate: ClientCertificate | None = None) -> ssl.SSLContext:
        """A context for a client that trusts the broker, and shows this certificate."""
        if certificate is None:
            return client_tls_context(cafile=self.ca_file)
        return client_tls_context(
            cafile=self.ca_file, certificate=certificate.certificate_file, key=certificate.key_file
        )

    # ------------------------------------------------------------------------------------------ what is to happen

    def expire(self, client_id: str) -> None:
        """Have the credential of a connected client expire now: its connection ends, without DISCONNECT.

        The same credential still lets it in again. To have it refused, too, give it a lifetime and advance the clock.
        Raises LookupError if the client is not connected; so does `cut`.
        """
        self._call(lambda: self._broker.expire(self._link(client_id), trio.current_time()), dispatch=True)

    def cut(self, client_id: str) -> None:
        """Break the connection of a client, as when its network fails. Its Will is due."""
        self._call(lambda: self._server.cut(self._link(client_id)))

    def publish(
        self, topic: str, payload: bytes | str = b"", *, qos: int = 0, retain: bool = False, **properties: Any
    ) -> None:
        """Publish as the broker itself. `properties` are further fields of mqttcore.Publish.

        Raises LocalProtocolError for what cannot be encoded.
        """
        data = payload.encode() if isinstance(payload, str) else payload
        message = Publish(topic, data, qos=qos, retain=retain, **properties)
        self._call(lambda: self._broker.publish(message, trio.current_time()), dispatch=True)

    def reload(self, manifests: Manifests) -> None:
        """Run by these manifests from now on, as docs/reload.md says.

        Raises ConfigurationError that has all mistakes; nothing changes then.
        """
        configuration, _ = self._setup.read(manifests)
        self._call(lambda: self._change(configuration))

    # ------------------------------------------------------------------------------------------- for subclasses

    @abstractmethod
    def _call(self, function: Callable[[], T], *, dispatch: bool = False) -> T:
        """Run something where the broker runs, and what it then wants done."""

    @abstractmethod
    def _changed(self) -> None:
        """Something has happened."""

    async def _perform(self, effect: Effect) -> Reply:
        return await self._deployment.perform(effect)

    def _change(self, configuration: Configuration) -> None:
        self._deployment.change(configuration, self._server)

    def _tell_warnings(self) -> None:
        for warning in self._warnings:
            self._server.log.write("warning", "manifest_warning", reason=str(warning))

    def _number(self, port: int | None) -> int:
        """The number of a port in the manifests, the first one for None. Raises LookupError if there is none such."""
        numbers = [*self._deployment.running.ports]
        if port is None:
            return numbers[0]
        if port not in numbers:
            raise LookupError(f"there is no port {port}; there are {', '.join(map(str, numbers))}")
        return port

    def _looking_for(
        self, what: "type[Event] | Callable[[], object]", count: int, fields: dict[str, object]
    ) -> tuple[Callable[[], object], str]:
        """How to see whether something has happened, and how to say that it has not."""
        if not isinstance(what, type):
            if fields or count != 1:
                raise TypeError("count and fields are for events")
            return what, "the condition has not come true"
        for name in fields:
            if not hasattr(what, name):
                raise TypeError(f"{what.__name__} has no {name}")
        with_fields = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        times = "" if count == 1 else f" number {count}"
        return lambda: self._recorder.find(what, count, fields), f"no {what.__name__}({with_fields}){times}"

    async def _try_to_perform(self, effect: Effect) -> Reply:
        try:
            return await self._perform(effect)
        except Exception as error:
            self._recorder.fault(error)
            raise

    def _link(self, client_id: str) -> Link:
        session = self._broker.sessions.get(client_id)
        if session is None or session.link is None:
            connected = [name for name, other in self._broker.sessions.items() if other.link is not None]
            raise LookupError(f"{client_id!r} is not connected; connected are: {', '.join(connected) or 'none'}")
        return session.link

    def _session_states(self) -> dict[str, SessionState]:
        return {
            client_id: SessionState(
                client_id=client_id,
                connected=session.link is not None,
                username=session.principal.username,
                attributes=dict(session.principal.attributes),
                subscriptions={topic_filter: stored.qos for topic_filter, stored in session.subscriptions.items()},
                waiting=session.pending,
                expiry_interval=session.expiry_interval,
            )
            for client_id, session in self._broker.sessions.items()
        }
