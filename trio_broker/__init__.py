"""An MQTT 5.0 and 3.1.1 broker on Trio: what a program needs that runs one inside itself."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_broker.errors import ConfigurationError
    from trio_broker.limits import ServerLimits
    from trio_broker.listeners import Listener, open_sockets
    from trio_broker.server import Server, serve
    from trio_broker.tls import server_context

__all__ = [
    "ConfigurationError",
    "Listener",
    "Server",
    "ServerLimits",
    "open_sockets",
    "serve",
    "server_context",
]

_MODULES = {
    "ConfigurationError": "errors",
    "Listener": "listeners",
    "Server": "server",
    "ServerLimits": "limits",
    "open_sockets": "listeners",
    "serve": "server",
    "server_context": "tls",
}


def __getattr__(name: str) -> object:
    # Imported when asked for, so that the command can say in one line that Trio is not installed.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
