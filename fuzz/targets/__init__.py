"""The targets: each a module with a function `check`, whose docstring says what is held to be true of all bytes."""

NAMES = (
    "packets",
    "server_connection",
    "client_connection",
    "broker",
    "authentication",
    "topics",
    "manifests",
    "custom_server",
    "tokens",
    "certificates",
    "websocket",
)
