"""trio-broker check: are these manifests right?"""

import click

from trio_broker.cli.manifest_options import ManifestOptions, manifest_options, tell_problems
from trio_broker.resources import METHOD_NAMES, Configuration, Port


@click.command()
@manifest_options
def check(manifests: ManifestOptions) -> None:
    """Check manifests without starting anything.

    MANIFEST is a YAML file, or a directory with *.yaml and *.yml files; all of them are one set. What is wrong, and
    what is surely not meant, is told on standard error, a line for each. Exit status: 0 the broker can run with
    these manifests; 2 it cannot.
    """
    if not manifests.manifests:
        raise click.UsageError("give at least one MANIFEST")
    loaded = manifests.load()
    tell_problems(loaded)
    if loaded.configuration is None:
        raise click.exceptions.Exit(2)
    click.echo(summary(loaded.configuration))


def summary(configuration: Configuration) -> str:
    """The listeners, ports and methods of a configuration, on one line."""
    listeners: dict[str, list[Port]] = {}
    for port in configuration.ports:
        listeners.setdefault(port.listener, []).append(port)
    told = (f"{name}: {', '.join(map(_port, ports))}" for name, ports in listeners.items())
    return f"The manifests are right. {'; '.join(told)}"


def _port(port: Port) -> str:
    transport = ("WebSocket" if port.websocket else "MQTT") + (" over TLS" if port.tls else "")
    if port.authentication is None:
        return f"port {port.number} ({transport}, no authentication)"
    methods = " then ".join(METHOD_NAMES[type(method)] for method in port.authentication.methods)
    authorized = ", authorization" if port.authorization else ""
    return f"port {port.number} ({transport}, {methods}{authorized})"
