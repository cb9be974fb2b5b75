"""The options that pub and sub share, put to use: CONNECT, the transport, and what does not go together."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import field, fields_dict, frozen

from mqttcore import Connect, Limits, Session, Will
from mqttcore.codes import V5, V311
from trio_broker.cli.authentication import AuthenticationData, read_secret
from trio_broker.cli.common_options import COMMON_OPTIONS, VERSIONS
from trio_broker.cli.parameters import NEVER_EXPIRES
from trio_broker.client import AnswerChallenge, Client, ClientError, client_tls_context, open_client

T = TypeVar("T")

VERSION_5_ONLY = (
    "auth_method",
    "session_expiry_interval",
    "receive_maximum",
    "maximum_packet_size",
    "topic_alias_maximum",
    "connect_user_property",
    "will_delay",
    "will_payload_format_indicator",
    "will_message_expiry_interval",
    "will_content_type",
    "will_response_topic",
    "will_correlation_data",
    "will_user_property",
)


@frozen(kw_only=True)
class ConnectionOptions:
    """What the common options say. Secrets are not in its repr."""

    host: str
    port: int | None
    tls: bool
    cafile: Path | None
    cert: Path | None
    key: Path | None
    websocket: str | None
    protocol_version: str
    keep_alive: int

    client_id: str
    username: str | None
    password: bytes | None = field(repr=False)
    password_file: Path | None
    auth_method: str | None
    auth_data: AuthenticationData | None

    keep_session: bool
    session_expiry_interval: int | None
    receive_maximum: int | None
    maximum_packet_size: int | None
    topic_alias_maximum: int | None
    connect_user_property: tuple[tuple[str, str], ...]

    will_topic: str | None
    will_payload: bytes | None
    will_qos: int | None
    will_retain: bool
    will_delay: int | None
    will_payload_format_indicator: int | None
    will_message_expiry_interval: int | None
    will_content_type: str | None
    will_response_topic: str | None
    will_correlation_data: bytes | None
    will_user_property: tuple[tuple[str, str], ...]

    @property
    def version(self) -> int:
        """The protocol version as CONNECT has it."""
        return VERSIONS[self.protocol_version]

    def connect(self) -> Connect:
        """The CONNECT packet, the files of secrets being read anew. Raises ClientError when one cannot be."""
        expiry = self.session_expiry_interval
        if expiry is None and self.keep_session and self.version == V5:
            expiry = NEVER_EXPIRES
        return Connect(
            client_id=self.client_id,
            clean_start=not self.keep_session,
            keep_alive=self.keep_alive,
            username=self.username,
            password=self.current_password(),
            will=self._will(),
            protocol_version=self.version,
            session_expiry_interval=expiry,
            receive_maximum=self.receive_maximum,
            maximum_packet_size=self.maximum_packet_size,
            topic_alias_maximum=self.topic_alias_maximum,
            authentication_method=self.auth_method,
            authentication_data=self.current_authentication_data(),
            user_properties=self.connect_user_property,
        )

    def open(
        self,
        connect: Connect,
        *,
        session: Session | None = None,
        message_limit: int | None = None,
        answer_challenge: AnswerChallenge | None = None,
    ) -> AbstractAsyncContextManager[Client]:
        """Connect over the transport that the options name. Raises ClientError, also for a bad TLS file."""
        if session is None and not connect.clean_start:
            session = Session(Limits())  # an empty one: the server may have a session from an earlier run
        context = None
        if self.tls or self.cafile is not None or self.cert is not None:
            context = client_tls_context(cafile=self.cafile, certificate=self.cert, key=self.key)
        return open_client(
            connect,
            host=self.host,
            port=self.port,
            tls=context,
            websocket=self.websocket,
            session=session,
            message_limit=message_limit,
            answer_challenge=answer_challenge,
        )

    def current_password(self) -> bytes | None:
        """The password, as its file has it now. Raises ClientError when the file cannot be used."""
        if self.password_file is None:
            return self.password
        try:
            return read_secret(self.password_file)
        except (OSError, ValueError) as exc:
            raise ClientError(f"the password file {self.password_file} cannot be used: {exc}") from None

    def current_authentication_data(self) -> bytes | None:
        """The authentication data, as their file has them now."""
        return self.auth_data.current() if self.auth_data is not None else None

    def _will(self) -> Will | None:
        if self.will_topic is None:
            return None
        return Will(
            topic=self.will_topic,
            payload=self.will_payload or b"",
            qos=self.will_qos or 0,
            retain=self.will_retain,
            will_delay_interval=self.will_delay,
            payload_format_indicator=self.will_payload_format_indicator,
            message_expiry_interval=self.will_message_expiry_interval,
            content_type=self.will_content_type,
            response_topic=self.will_response_topic,
            correlation_data=self.will_correlation_data,
            user_properties=self.will_user_property,
        )


def connection_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the common options; it is called with them as `connection`, a ConnectionOptions."""

    @wraps(command)
    def with_options(**values: Any) -> T:
        connection = ConnectionOptions(**{name: values.pop(name) for name in fields_dict(ConnectionOptions)})
        for problem in _problems(connection):
            raise click.UsageError(problem)
        return command(connection=connection, **values)

    decorated: Callable[..., T] = with_options
    for add in reversed(COMMON_OPTIONS):
        decorated = add(decorated)
    return decorated


def refuse_version_5_options(connection: ConnectionOptions, **values: object) -> None:
    """Raise click.UsageError when an option is used, by parameter name, that MQTT 3.1.1 does not have."""
    for name, value in values.items():
        if connection.version < V5 and _given(value):
            raise click.UsageError(_needs_version_5(name, connection))


def _problems(options: ConnectionOptions) -> Iterator[str]:
    if options.key is not None and options.cert is None:
        yield "--key belongs to a certificate: give --cert too"
    if options.password is not None and options.password_file is not None:
        yield "-P and --password-file exclude each other"
    if options.auth_data is not None and options.auth_method is None:
        yield "--auth-data is of no use without --auth-method"
    if options.keep_session and not options.client_id:
        yield "-c needs -i: the server finds the session by the client identifier"
    for name in fields_dict(ConnectionOptions):
        is_detail = name.startswith("will_") and options.will_topic is None
        if is_detail and _given(getattr(options, name)):
            yield f"{_option_name(name)} is of no use without --will-topic"
    if options.version == V311:
        if (options.password or options.password_file) and options.username is None:
            yield "in MQTT 3.1.1 a password needs a user name: give -u too"
        for name in VERSION_5_ONLY:
            if _given(getattr(options, name)):
                yield _needs_version_5(name, options)


def _given(value: object) -> bool:
    # Neither absent nor empty nor a switch that is off; a number 0 is a value.
    return value is not None and value is not False and value != ()


def _needs_version_5(name: str, options: ConnectionOptions) -> str:
    return f"{_option_name(name)} exists in MQTT 5 only; leave out -V {options.protocol_version}"


def _option_name(parameter: str) -> str:
    return "--" + parameter.replace("_", "-")
