"""The bounds of the Trio shell; those of the protocol are `mqttcore.Limits`."""

from attrs import frozen

from mqttcore.limits import limit


@frozen(kw_only=True)
class ServerLimits:
    """The bounds that hold for sockets, handshakes and log lines; immutable."""

    listen_backlog: int = limit(
        4096, "connections", "connections that wait in the kernel to be accepted, on one listener", 1, 65_535
    )
    connections_per_listener: int = limit(
        100_000, "connections", "open connections of one listener; more are closed at once", 1, 10_000_000
    )
    connections_per_address: int = limit(
        10_000,
        "connections",
        "open connections from one IPv4 address or one IPv6 /64 network; more are closed at once",
        1,
        10_000_000,
    )
    tls_handshake_timeout: float = limit(
        10.0, "seconds", "time from the opening of a connection to the end of its TLS handshake", 0.01, 3600
    )
    websocket_handshake_timeout: float = limit(
        10.0, "seconds", "time for the WebSocket handshake of a connection", 0.01, 3600
    )
    stall_timeout: float = limit(
        30.0,
        "seconds",
        "time that a client may take nothing of what waits for it before it is dropped",
        0.01,
        3600,
    )
    linger_timeout: float = limit(
        2.0,
        "seconds",
        "time for the last packet to a client to be sent, and again for the client to read it and to close",
        0.01,
        60,
    )
    shutdown_timeout: float = limit(
        3.0, "seconds", "time for all clients to take their DISCONNECT when the broker stops", 0.01, 4
    )
    accept_retry_delay: float = limit(
        0.1, "seconds", "pause in accepting while the system has no file descriptor or memory left", 0.001, 60
    )
    http_timeout: float = limit(
        10.0, "seconds", "time for a custom, Kubernetes or key server to answer one request completely", 0.01, 3600
    )
    http_connections: int = limit(
        100, "connections", "requests under way to one server at a time; others wait their turn", 1, 10_000
    )
    http_answer_bytes: int = limit(
        262_144, "bytes", "size of a server's answer; a longer one counts as none", 1024, 1_000_000_000
    )
    password_threads: int = limit(2, "threads", "passwords that are hashed at a time", 1, 256)
    log_interval: float = limit(
        10.0,
        "seconds",
        "time over which log lines are counted, for log_lines and log_lines_per_address",
        0.01,
        3600,
    )
    log_lines: int = limit(
        500, "lines", "lines of one kind of event per log_interval; a summary counts the others", 1, 1_000_000
    )
    log_lines_per_address: int = limit(
        20,
        "lines",
        "warnings of one kind about one address per log_interval; a summary counts the others",
        1,
        1_000_000,
    )
