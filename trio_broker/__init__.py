"""An MQTT 5.0 and 3.1.1 broker on Trio: what a program needs that runs one inside itself."""

try:
    from trio_broker.errors import ConfigurationError
    from trio_broker.limits import ServerLimits
    from trio_broker.listeners import Listener, open_sockets
    from trio_broker.server import Server, serve
    from trio_broker.tls import server_context
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: the broker needs more than the core; install it with pip install 'mqttcore[broker]'", name=error.name
    ) from None

__all__ = [
    "ConfigurationError",
    "Listener",
    "Server",
    "ServerLimits",
    "open_sockets",
    "serve",
    "server_context",
]
