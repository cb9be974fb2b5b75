"""From a deployment to what is to run."""

from collections.abc import Sequence

from trio_broker.cli.serving import Plan, Reload, Task
from trio_broker.deployment import Deployment
from trio_broker.resources import METHOD_NAMES, Port


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
