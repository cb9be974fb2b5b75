"""From a configuration to what is to run."""

from collections.abc import Mapping, Sequence

from trio_broker.cli.serving import Plan, Reload, Task
from trio_broker.deployment import Deployment
from trio_broker.https import Address
from trio_broker.resources import METHOD_NAMES, Configuration, Port, Problem
from trio_broker.settings import Settings
from trio_broker.tokens import Tokens


def deploy(
    configuration: Configuration,
    *,
    profile: str,
    settings: Settings,
    bind: Sequence[str],
    tokens: Tokens | None,
    resolve: Mapping[Address, Address],
    elsewhere: str = "",
    warnings: Sequence[Problem] = (),
) -> Deployment:
    """A deployment that has the configuration's ports open; `elsewhere` and `warnings` as in Deployment.

    Raises ConfigurationError; nothing is left open then.
    """
    deployment = Deployment(
        profile=profile, settings=settings, bind=bind, tokens=tokens, resolve=resolve, elsewhere=elsewhere
    )
    deployment.start(configuration, warnings)
    return deployment


def plan(
    deployment: Deployment, *, tasks: Sequence[Task] = (), reload: Reload | None = None, epilogue: str = ""
) -> Plan:
    """What runs a deployment."""
    listening = [f"  {listener.url:<28} {_told(deployment.port_of(listener))}" for listener in deployment.listeners]
    return Plan(
        limits=deployment.running.limits,
        server_limits=deployment.settings.server_limits,
        listeners=deployment.listeners,
        banner="\n".join(
            ["trio-broker is listening on", *listening, *([epilogue] if epilogue else []), "Ctrl-C stops it."]
        ),
        perform=deployment.perform,
        tasks=(deployment.keep_certificates, deployment.close_in_the_end, *tasks),
        reload=reload,
    )


def _told(port: Port) -> str:
    if port.authentication is None:
        return f"{port.listener}: no authentication, everybody may do everything"
    return f"{port.listener}: {', then '.join(METHOD_NAMES[type(method)] for method in port.authentication.methods)}"
