"""TLS contexts for ports of a configuration, and server certificates that are renewed while the broker runs."""

import math
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import final

import trio

from trio_broker.assembly import anchors
from trio_broker.client_certificates import request_client_certificates
from trio_broker.errors import ConfigurationError
from trio_broker.logs import EventLog
from trio_broker.pki import ADDRESSES, DNS_NAMES
from trio_broker.pki_files import ServerCertificate, open_authority, server_certificate
from trio_broker.resources import AutomaticTls, CertificateSpec, ManualTls, Port, RotationPolicy, X509Settings
from trio_broker.tls import bare_context, load_key_pair

RETRY = 60.0
"""Seconds until a renewal that failed is tried again."""
LONGEST_NAP = 60.0
"""Seconds between two looks at the wall clock, which may be set meanwhile, and at the ports, which may be others."""


@final
class PortTls:
    """The context of one port. What `renew` loads into it holds for new connections; nobody is disconnected."""

    def __init__(self, port: Port, directory: Path, now: float) -> None:
        """`directory` has the local authority, for automatic TLS; `now` is Unix seconds. Raises ConfigurationError."""
        assert port.tls is not None
        self._port = port
        self._directory = directory
        self.context = bare_context()
        self.renewal_time = math.inf
        if isinstance(port.tls, ManualTls):
            try:
                load_key_pair(self.context, port.tls.chain_pem, port.tls.key_pem)
            except ssl.SSLError:
                raise ConfigurationError(f"port {port.number}: OpenSSL cannot use its certificate and key") from None
            except OSError as error:
                problem = f"its key cannot be put into a temporary file for OpenSSL: {error.strerror}"
                raise ConfigurationError(f"port {port.number}: {problem}") from None
        else:
            self.install(self.issue(now))
        methods = () if port.authentication is None else port.authentication.methods
        trusted = [anchors(settings) for settings in methods if isinstance(settings, X509Settings)]
        if trusted:
            request_client_certificates(self.context, *trusted)

    @property
    def name(self) -> str:
        """The port, for a log."""
        return f"{self._port.listener}:{self._port.number}"

    def issue(self, now: float) -> ServerCertificate:
        """The certificate that holds at `now`, a new one if the old one is due. A long RSA key takes seconds."""
        assert isinstance(self._port.tls, AutomaticTls)
        spec: CertificateSpec = self._port.tls.spec
        return server_certificate(
            self._directory,
            f"{self._port.namespace}.{self._port.listener}.{self._port.number}",
            open_authority(self._directory, now),
            now,
            dns_names=dict.fromkeys((*spec.dns_names, *DNS_NAMES, self._port.service_name)),
            addresses=dict.fromkeys((*spec.ip_addresses, *ADDRESSES)),
            algorithm=spec.algorithm,
            lifetime=spec.duration,
            renew_before=spec.renew_before,
            keep_key=spec.rotation_policy is RotationPolicy.NEVER,
        )

    def install(self, certificate: ServerCertificate) -> None:
        """Show this certificate to whoever connects from now on."""
        self.context.load_cert_chain(certificate.path)
        self.renewal_time = certificate.renewal_time


async def renew_certificates(ports: Callable[[], Iterable[PortTls]], log: EventLog) -> None:
    """Renew the ports' automatic certificates when they are due, for as long as this runs."""
    while True:
        now = time.time()
        port = min(ports(), key=lambda port: port.renewal_time, default=None)
        if port is None or port.renewal_time > now:
            due_in = math.inf if port is None else port.renewal_time - now
            await trio.sleep(min(due_in, LONGEST_NAP))
            continue
        try:
            port.install(await trio.to_thread.run_sync(port.issue, now))
            log.write("info", "certificate_renewed", port=port.name)
        except (ConfigurationError, OSError) as error:
            port.renewal_time = now + RETRY
            log.write("error", "certificate_not_renewed", port=port.name, reason=str(error))
