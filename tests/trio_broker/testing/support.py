"""Tests that hold for a broker in a thread and for one in memory alike."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Unpack

import pytest
import trio
from trio.testing import MockClock

from mqttcore import Connect
from trio_broker.client import Client, open_client
from trio_broker.testing import (
    ClientCertificate,
    MemoryBroker,
    Options,
    RunningBroker,
    open_memory_broker,
    run_broker,
)

AnyBroker = RunningBroker | MemoryBroker
Opened = Callable[..., AbstractAsyncContextManager[AnyBroker]]

CUSTOM, TOKENS, CERTIFICATES, OPEN = 8885, 8884, 8883, 1883
MANIFEST = """\
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: default}
spec:
  ports:
    - port: 1883
    - port: 8885
      authenticationRef: custom
      authorizationRef: rules
      tls: &tls {mode: Automatic, certManagerCertificateSpec: {issuerRef: {name: local, kind: Issuer}}}
    - port: 8884
      authenticationRef: tokens
      tls: *tls
    - port: 8883
      authenticationRef: certificates
      tls: *tls
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: custom}
spec:
  authenticationMethods:
    - method: Custom
      customSettings: {endpoint: "https://auth-server:8443/check", caCertConfigMap: custom-auth-ca, headers: {x-a: b}}
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: tokens}
spec:
  authenticationMethods:
    - method: ServiceAccountToken
      serviceAccountTokenSettings: {audiences: [aio-internal]}
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: certificates}
spec:
  authenticationMethods: [{method: X509, x509Settings: {}}]
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthorization
metadata: {name: rules}
spec:
  authorizationPolicies:
    rules:
      - principals: {attributes: [{group: fleet}]}
        brokerResources: [{method: Connect}, {method: Publish, topics: [fleet/#]}]
"""


@asynccontextmanager
async def _in_a_thread(**options: Unpack[Options]) -> AsyncIterator[RunningBroker]:
    with run_broker(**options) as broker:
        yield broker


def both(**options: Unpack[Options]) -> Callable[[Callable[[AnyBroker], Awaitable[None]]], Any]:
    """Run a test on a broker in a thread, with the real clock, and on one in memory, with a virtual clock."""

    def decorate(test: Callable[[AnyBroker], Awaitable[None]]) -> Any:
        async def run(opened: Opened) -> None:
            async with opened(**options) as broker:
                await test(broker)

        # A name of its own, for the parameter alone would leave the test's argument a fixture.
        def run_both(kind: str) -> None:
            if kind == "memory":
                trio.run(partial(run, open_memory_broker), clock=MockClock(autojump_threshold=0))
            else:
                trio.run(partial(run, _in_a_thread))

        run_both.__doc__ = test.__doc__
        return pytest.mark.parametrize("kind", ["thread", "memory"])(run_both)

    return decorate


def connected(
    broker: AnyBroker, connect: Connect, *, port: int | None = None, certificate: ClientCertificate | None = None
) -> AbstractAsyncContextManager[Client]:
    """A client on a port."""
    if isinstance(broker, MemoryBroker):
        return broker.open_client(connect, port=port, certificate=certificate)
    return open_client(
        connect,
        host=broker.host,
        port=broker.port if port is None else broker.ports[port],
        tls=None if port in (None, OPEN) else broker.tls_context(certificate),
    )
