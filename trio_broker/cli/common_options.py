"""The options that pub and sub share, under the names that mosquitto's clients have for them."""

import click

from mqttcore.codes import V5, V311
from trio_broker.cli.authentication import authentication_data
from trio_broker.cli.grouping import option
from trio_broker.cli.parameters import (
    EXISTING_FILE,
    FORMAT_INDICATOR,
    POSITIVE_UINT16,
    POSITIVE_UINT32,
    QOS,
    UINT16,
    UINT32,
    session_expiry,
    topic_name,
    typed_bytes,
    user_property,
)

VERSIONS = {"mqttv5": V5, "5": V5, "mqttv311": V311, "311": V311}

CONNECTION = "Connection"
CREDENTIALS = "Who you are"
SESSION = "Session and flow control"
WILL = "Will, which the server publishes when this client vanishes"

COMMON_OPTIONS = (
    option(
        CONNECTION, "-h", "--host", default="localhost", show_default=True,
        help="Name or address of the server.",
    ),
    option(
        CONNECTION, "-p", "--port", type=POSITIVE_UINT16, metavar="PORT",
        help="Its port.  [1883; TLS 8883; WebSocket 80, with TLS 443]",
    ),
    option(CONNECTION, "--tls", is_flag=True, help="Use TLS and trust the system's CA certificates."),
    option(
        CONNECTION, "--cafile", type=EXISTING_FILE,
        help="Use TLS and trust the CA certificates in this PEM file only.",
    ),
    option(
        CONNECTION, "--cert", type=EXISTING_FILE,
        help="Use TLS with this client certificate (PEM, with its chain).",
    ),
    option(
        CONNECTION, "--key", type=EXISTING_FILE,
        help="The certificate's private key, where that is in a file of its own.",
    ),
    option(
        CONNECTION, "--websocket", is_flag=False, flag_value="/mqtt", metavar="[PATH]",
        help="Use MQTT over WebSocket, at this path.  [/mqtt]",
    ),
    option(
        CONNECTION, "-V", "--protocol-version", type=click.Choice(list(VERSIONS)), default="mqttv5",
        show_default=True, metavar="mqttv5|mqttv311",
        help="MQTT version: 5 or 3.1.1.",
    ),
    option(
        CONNECTION, "-k", "--keepalive", "keep_alive", type=UINT16, default=60, show_default=True,
        metavar="SECONDS",
        help="Longest silence before the connection is checked; 0: never.",
    ),

    option(
        CREDENTIALS, "-i", "--id", "client_id", default="",
        help="Client identifier.  [the server chooses one]",
    ),
    option(CREDENTIALS, "-u", "--username", help="User name."),
    option(
        CREDENTIALS, "-P", "--password", type=typed_bytes, metavar="TEXT",
        help="Password; beware, the list of processes shows it to everybody on this machine.",
    ),
    option(
        CREDENTIALS, "--password-file", type=EXISTING_FILE,
        help="Read the password from this file; a line break at its end is left out.",
    ),
    option(
        CREDENTIALS, "--auth-method", metavar="NAME",
        help="Method of enhanced authentication, such as K8S-SAT.",
    ),
    option(
        CREDENTIALS, "--auth-data", type=authentication_data, metavar="TEXT|@FILE",
        help="Data for it. sub and pub -l watch the file and re-authenticate when its content changes.",
    ),

    option(
        SESSION, "-c", "--disable-clean-session", "keep_session", is_flag=True,
        help="Resume the session of this client identifier, and leave it with the server.",
    ),
    option(
        SESSION, "-x", "--session-expiry-interval", type=session_expiry, metavar="SECONDS",
        help="How long the server keeps the session; -1: for ever.  [with -c -1, else 0]",
    ),
    option(
        SESSION, "--receive-maximum", type=POSITIVE_UINT16, metavar="N",
        help="QoS 1 and 2 messages taken at a time.",
    ),
    option(
        SESSION, "--maximum-packet-size", type=POSITIVE_UINT32, metavar="BYTES",
        help="Largest packet taken.",
    ),
    option(
        SESSION, "--topic-alias-maximum", type=UINT16, metavar="N",
        help="Topic aliases that the server may use.",
    ),
    option(
        SESSION, "--connect-user-property", type=user_property, multiple=True, metavar="KEY=VALUE",
        help="User property of CONNECT; may be repeated.",
    ),

    option(WILL, "--will-topic", type=topic_name, metavar="TOPIC", help="Topic of the will."),
    option(WILL, "--will-payload", type=typed_bytes, metavar="TEXT", help="Its payload.  [empty]"),
    option(WILL, "--will-qos", type=QOS, metavar="0|1|2", help="Its quality of service.  [0]"),
    option(WILL, "--will-retain", is_flag=True, help="Retain it."),
    option(
        WILL, "--will-delay", type=UINT32, metavar="SECONDS",
        help="How long the server waits for our return.",
    ),
    option(WILL, "--will-content-type", metavar="TEXT", help="Content type, such as application/json."),
    option(WILL, "--will-response-topic", type=topic_name, metavar="TOPIC", help="Topic for answers."),
    option(
        WILL, "--will-correlation-data", type=typed_bytes, metavar="TEXT",
        help="What answers are to repeat.",
    ),
    option(
        WILL, "--will-message-expiry-interval", type=UINT32, metavar="SECONDS",
        help="How long it is worth delivering.",
    ),
    option(
        WILL, "--will-payload-format-indicator", type=FORMAT_INDICATOR, metavar="0|1",
        help="1: the payload is UTF-8 text.",
    ),
    option(
        WILL, "--will-user-property", type=user_property, multiple=True, metavar="KEY=VALUE",
        help="User property; may be repeated.",
    ),
)  # fmt: skip
