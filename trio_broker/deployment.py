"""A broker that runs by manifests: its ports, certificates and policies, and how they follow what the manifests say."""

import ssl
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import final

import trio
from attrs import evolve, frozen

from mqttcore.broker import Policy
from trio_broker import assembly
from trio_broker.effects import Performer
from trio_broker.errors import ConfigurationError
from trio_broker.https import Address
from trio_broker.listeners import Listener, close_listeners, open_listeners
from trio_broker.logs import EventLog
from trio_broker.port_tls import PortTls, renew_certificates
from trio_broker.profiles import PROFILES
from trio_broker.resources import Configuration, Loaded, Port, Problem
from trio_broker.running import NOTHING, Difference, Running, difference, follow
from trio_broker.server import Server
from trio_broker.settings import Settings
from trio_broker.tokens import SESSION_DIRECTORY, Tokens, TokensLocal

CLOSING_TIMEOUT = 0.5
"""Seconds that the connections to other servers have to be closed in when the broker stops."""
LOADING_TIMEOUT = 30.0
"""Seconds that the files have to be read in: one that never answers does not keep later reloads from coming."""
PORT_IS_CLOSED = "its port has been closed, or made one for another protocol"
"""Why clients are disconnected whose port a reload has taken away."""


@frozen(kw_only=True)
class _Prepared:
    """What can fail about a change and takes its time, done; its ports are still to be opened."""

    running: Running
    difference: Difference
    certificates: Mapping[int, PortTls]  # of ports to be opened, and of those that show others from now on


@final
class Deployment:
    """What runs by manifests: `start` it with the first configuration, then `reload`, one at a time, in its Server."""

    def __init__(
        self,
        *,
        profile: str,
        settings: Settings,
        bind: Sequence[str],
        tokens: Tokens | None,
        resolve: Mapping[Address, Address],
        elsewhere: str = "",
        listen: Callable[..., list[Listener]] = open_listeners,
    ) -> None:
        """`bind` are the addresses of all ports, none for this machine's own; `resolve` as in Performer. `elsewhere`
        completes "choose another with …", for when a port is in use; without it that is the port's BrokerListener.
        `listen` opens a port, as open_listeners does.

        Raises ConfigurationError for tokens that cannot be verified.
        """
        self.running = NOTHING
        self.settings = settings
        self._profile = profile
        self._bind = bind
        self._elsewhere = elsewhere
        self._listen = listen
        self._directory = tokens.directory if isinstance(tokens, TokensLocal) else SESSION_DIRECTORY
        self._verification = assembly.token_verification(
            tokens, lambda: self.running.configuration.service_accounts, settings.server_limits
        )
        self._performer = Performer(self._verification.source, limits=settings.server_limits, resolve=resolve)
        self.perform = self._performer.perform
        self._warnings: set[Problem] = set()  # about what runs, wherever in their files; they need not be told twice
        self._listeners: dict[int, Sequence[Listener]] = {}
        self._certificates: dict[int, PortTls] = {}

    @property
    def listeners(self) -> list[Listener]:
        """Those that are open, port by port."""
        return [listener for listeners in self._listeners.values() for listener in listeners]

    def listeners_of(self, number: int) -> Sequence[Listener]:
        """Those of one port. Raises KeyError if there is no such port."""
        return self._listeners[number]

    def port_of(self, listener: Listener) -> Port:
        """The port that a listener is open for."""
        number = next(number for number, listeners in self._listeners.items() if listener in listeners)
        return self.running.ports[number]

    def start(self, configuration: Configuration, warnings: Iterable[Problem] = ()) -> None:
        """Open the ports of the first configuration, whose `warnings` have been told.

        Raises ConfigurationError; nothing is left open then.
        """
        prepared = self._prepare(configuration, ())
        self._take(prepared, self._open(prepared))
        self._warnings = {evolve(warning, line=0) for warning in warnings}

    def change(self, configuration: Configuration, server: Server) -> None:
        """Run by another configuration from now on, at once. Raises ConfigurationError; then nothing changes."""
        prepared = self._prepare(configuration, self._in_use(server))
        self._change(prepared, self._open(prepared), server)

    async def reload(self, load: Callable[[], Loaded], server: Server) -> None:
        """Run by what `load` gives from now on. What is wrong with it is logged, and then nothing changes."""
        # In threads, since files and keys take their time: so much that a broker that stops does not wait for them.
        loaded = None
        with trio.move_on_after(LOADING_TIMEOUT):
            loaded = await trio.to_thread.run_sync(load, abandon_on_cancel=True)
        if loaded is None:
            reason = f"the files could not be read within {LOADING_TIMEOUT:g} seconds"
            server.log.write("error", "reload_refused", reason=reason)
            return
        if loaded.configuration is None:
            for problem in loaded.problems:
                server.log.write("error", "reload_refused", reason=str(problem))
            return
        in_use = self._in_use(server)
        try:
            prepared = await trio.to_thread.run_sync(
                self._prepare, loaded.configuration, in_use, abandon_on_cancel=True
            )
            listeners = await trio.to_thread.run_sync(self._open, prepared)
        except ConfigurationError as error:
            server.log.write("error", "reload_refused", reason=str(error))
            return
        for warning in loaded.warnings:
            if evolve(warning, line=0) not in self._warnings:
                server.log.write("warning", "manifest_warning", reason=str(warning))
        self._warnings = {evolve(warning, line=0) for warning in loaded.warnings}
        self._change(prepared, listeners, server)
        await self._performer.keep(loaded.configuration.custom_servers)

    async def keep_certificates(self, log: EventLog) -> None:
        """Renew automatic certificates when they are due."""
        await renew_certificates(self._certificates.values, log)

    async def close_in_the_end(self, _log: EventLog) -> None:
        """Wait to be cancelled, and close the connections to other servers then."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(deadline=trio.current_time() + CLOSING_TIMEOUT, shield=True):
                await self._performer.aclose()

    def _in_use(self, server: Server) -> set[Policy]:
        return {former.policy for former in self.running.retired.values() if server.broker.in_use(former.policy)}

    def _prepare(self, configuration: Configuration, in_use: Container[Policy]) -> _Prepared:
        limits = self.settings.limits(assembly.limits_of(configuration.broker, PROFILES[self._profile]))
        running = follow(self.running, configuration, limits, self._verification, in_use)
        wanted = difference(self.running, running)
        ports = running.ports
        now = time.time()
        certificates = {
            number: PortTls(ports[number], self._directory, now)
            for number in (*wanted.opened, *wanted.certified)
            if ports[number].tls is not None
        }
        return _Prepared(running=running, difference=wanted, certificates=certificates)

    def _open(self, prepared: _Prepared) -> Mapping[int, Sequence[Listener]]:
        """The listeners of all ports that are to be opened. Raises ConfigurationError; then none of them is open."""
        listeners: dict[int, Sequence[Listener]] = {}
        try:
            for number in prepared.difference.opened:
                listeners[number] = self._listen(
                    number,
                    self._bind,
                    self.settings.server_limits.listen_backlog,
                    prepared.running.policies[number],
                    option=self._elsewhere or f"BrokerListener {prepared.running.ports[number].listener}",
                    context=_context(prepared.certificates.get(number)),
                    websocket=prepared.running.ports[number].websocket,
                )
        except BaseException:
            for opened in listeners.values():
                close_listeners(opened)
            raise
        return listeners

    def _take(self, prepared: _Prepared, opened: Mapping[int, Sequence[Listener]]) -> list[Listener]:
        """Have the next configuration hold for what is to come; the listeners that are of no more use."""
        running, wanted = prepared.running, prepared.difference
        self.running = running
        closed = [listener for number in wanted.closed for listener in self._listeners.pop(number)]
        self._listeners |= opened
        for number in (*wanted.closed, *wanted.certified):
            self._certificates.pop(number, None)
        self._certificates |= prepared.certificates
        for number, port in running.ports.items():
            for listener in self._listeners[number]:
                listener.policy = running.policies[number]
                listener.websocket = port.websocket
                listener.tls = _context(self._certificates.get(number))
        return closed

    def _change(self, prepared: _Prepared, opened: Mapping[int, Sequence[Listener]], server: Server) -> None:
        before, wanted = self.running, prepared.difference
        now = trio.current_time()
        server.unlisten(self._take(prepared, opened))
        try:
            server.broker.change(wanted.policies, now)
            ended = [before.policies[number] for number in wanted.ended]
            server.broker.disconnect([wanted.policies.get(policy, policy) for policy in ended], PORT_IS_CLOSED, now)
        finally:
            server.listen(listener for listeners in opened.values() for listener in listeners)
            server.dispatch()
        _log_change(server.log, before, prepared)


def _log_change(log: EventLog, before: Running, prepared: _Prepared) -> None:
    wanted = prepared.difference
    touched = {number for number, policy in before.policies.items() if policy in wanted.policies}
    numbers = {
        "opened": wanted.opened,
        "closed": wanted.closed,
        "changed": tuple(sorted({*touched, *wanted.ended, *wanted.certified} - {*wanted.closed})),
    }
    told = {name: ", ".join(map(str, value)) for name, value in numbers.items() if value}
    if not told:
        told["outcome"] = _outcome(before.configuration, prepared.running.configuration)
    log.write("info", "reloaded", **told)


def _outcome(before: Configuration, after: Configuration) -> str:
    """What to say of a reload that concerns no port."""
    if before == after:
        return "nothing has changed"
    if before.service_accounts != after.service_accounts:
        return "service accounts have changed"
    return "no port has changed"


def _context(certificate: PortTls | None) -> ssl.SSLContext | None:
    return None if certificate is None else certificate.context
