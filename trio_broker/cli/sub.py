"""trio-broker sub: print the messages of subscriptions."""

from collections.abc import Iterator

import click
import trio
from attrs import define, evolve, field, frozen

from mqttcore import Connect, ReasonCode, Session, Subscription
from mqttcore.codes import V5
from trio_broker.cli.authentication import Reauthentication, tell
from trio_broker.cli.backoff import delays
from trio_broker.cli.connection_options import ConnectionOptions, connection_options, refuse_version_5_options
from trio_broker.cli.grouping import GroupedCommand, option
from trio_broker.cli.output import Format, json_object, payload_only, topic_and_payload, write
from trio_broker.cli.parameters import QOS, SECONDS, topic_filter, user_property
from trio_broker.cli.running import EXIT_STATUSES, run_client
from trio_broker.client import Client, ClientError, background

SUBSCRIPTION = "Subscription"
DETAILS = "Subscription options and properties (MQTT 5)"
OUTPUT = "Output and end"
RECONNECT_EXPIRY = 300
"""Seconds for which --reconnect asks the server to keep the session, unless -x says otherwise."""


@frozen(kw_only=True)
class _Request:
    """What to subscribe to, and what to do with the messages."""

    subscriptions: tuple[Subscription, ...]
    subscription_identifier: int | None
    user_properties: tuple[tuple[str, str], ...]
    form: Format
    end: bytes
    count: int | None
    only_subscribe: bool
    reconnect: bool


@define
class _Subscriber:
    """The course of the command, over one connection or, with --reconnect, several."""

    options: ConnectionOptions
    request: _Request
    _remaining: int | None = field(init=False)
    _connect: Connect = field(init=False)
    _subscribed: bool = field(default=False, init=False)
    _session: Session | None = field(default=None, init=False)
    _delays: Iterator[float] = field(factory=delays, init=False)

    async def run(self) -> None:
        """Until the wanted messages are there; ClientError when the connection is lost for good."""
        self._remaining = self.request.count
        self._connect = self.options.connect()
        if self.request.reconnect and self.options.version == V5 and not self._connect.session_expiry_interval:
            self._connect = evolve(self._connect, session_expiry_interval=RECONNECT_EXPIRY)
        while True:
            try:
                await self._connection()
            except ClientError as exc:
                if not self._may_return(exc):
                    raise
                delay = next(self._delays)
                tell(f"{exc}; connecting again in {delay:.1f} s")
                await trio.sleep(delay)
            else:
                return
            self._connect = evolve(
                self._connect,
                clean_start=self.options.version < V5 and not self.options.keep_session,
                password=self.options.current_password(),
                authentication_data=self.options.current_authentication_data(),
            )

    def _may_return(self, exc: ClientError) -> bool:
        # Not before a first success: what the options got wrong, trying again does not mend. And where the
        # session was taken over, the two clients would throw each other out for ever.
        return self.request.reconnect and self._subscribed and exc.reason_code != ReasonCode.SESSION_TAKEN_OVER

    async def _connection(self) -> None:
        reauthentication = Reauthentication(self.options.auth_data)
        connecting = self.options.open(
            self._connect,
            session=self._session,
            message_limit=self._remaining,
            answer_challenge=reauthentication.answer_challenge,
        )
        async with connecting as client, background() as nursery:
            self._session = client.session
            self._connect = evolve(self._connect, client_id=client.client_id)
            refusals: list[ClientError] = []
            with trio.CancelScope() as printing:
                # Beside each other: the messages that wait in the session come before the SUBACK.
                nursery.start_soon(self._subscribe, client, printing, refusals)
                nursery.start_soon(reauthentication.run, client)
                await self._print(client)
            if refusals:
                raise refusals[0]

    async def _subscribe(self, client: Client, printing: trio.CancelScope, refusals: list[ClientError]) -> None:
        try:
            if not self._subscribed or not client.connack.session_present:
                await client.subscribe(
                    self.request.subscriptions,
                    subscription_identifier=self.request.subscription_identifier,
                    user_properties=self.request.user_properties,
                )
        except ClientError as exc:
            refusals.append(exc)
            printing.cancel()
        else:
            self._subscribed = True
            self._delays = delays()
            if self.request.only_subscribe:
                printing.cancel()

    async def _print(self, client: Client) -> None:
        while self._remaining is None or self._remaining > 0:
            messages = await client.receive_all()
            await write(messages, self.request.form, self.request.end)
            if self._remaining is not None:
                self._remaining -= len(messages)


@click.command(cls=GroupedCommand, epilog=EXIT_STATUSES)
@option(
    SUBSCRIPTION,
    "-t",
    "--topic",
    "topics",
    type=topic_filter,
    multiple=True,
    required=True,
    metavar="FILTER",
    help="Topic filter to subscribe to; may be repeated.",
)
@option(
    SUBSCRIPTION,
    "-q",
    "--qos",
    type=QOS,
    metavar="0|1|2",
    default=0,
    show_default=True,
    help="Highest quality of service.",
)
@option(DETAILS, "--no-local", is_flag=True, help="Not what this client identifier publishes itself.")
@option(
    DETAILS,
    "--retain-as-published",
    is_flag=True,
    help="Keep the retain flag with which messages were published.",
)
@option(
    DETAILS,
    "--retain-handling",
    type=QOS,
    metavar="0|1|2",
    help="Retained messages: 0 send them, 1 only if the subscription is new, 2 do not.  [0]",
)
@option(
    DETAILS,
    "--subscription-identifier",
    type=click.IntRange(1, 268_435_455),
    metavar="N",
    help="Number that comes with the messages of these subscriptions.",
)
@option(
    DETAILS,
    "--user-property",
    type=user_property,
    multiple=True,
    metavar="KEY=VALUE",
    help="User property of SUBSCRIBE; may be repeated.",
)
@option(OUTPUT, "-v", "--verbose", is_flag=True, help="Print topic, space, payload.")
@option(
    OUTPUT,
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object per message, with all properties.",
)
@option(OUTPUT, "-N", "no_line_break", is_flag=True, help="Print no line break after a message.")
@option(OUTPUT, "-C", "count", type=click.IntRange(min=1), metavar="N", help="End after this many messages.")
@option(OUTPUT, "-W", "timeout", type=SECONDS, metavar="SECONDS", help="End after this time, with status 1.")
@option(
    OUTPUT,
    "-E",
    "only_subscribe",
    is_flag=True,
    help="End once the server has granted the subscriptions.",
)
@option(
    OUTPUT, "--reconnect", is_flag=True,
    help="When the connection is lost, connect again, with growing delays, and resume the session.",
)  # fmt: skip
@connection_options
def sub(
    connection: ConnectionOptions,
    topics: tuple[str, ...],
    qos: int,
    verbose: bool,
    as_json: bool,
    no_line_break: bool,
    count: int | None,
    timeout: float | None,
    only_subscribe: bool,
    reconnect: bool,
    subscription_identifier: int | None,
    retain_handling: int | None,
    user_property: tuple[tuple[str, str], ...],
    **switches: bool,
) -> None:
    """Subscribe to topic filters and print the messages that come.

    It goes on until a signal (Ctrl-C), -C, -W or -E ends it.

    \b
    trio-broker sub -t 'home/#' -v
    trio-broker sub -h broker.example --tls -i me -c -q 1 -t orders --json
    """
    if verbose and as_json:
        raise click.UsageError("-v and --json exclude each other")
    refuse_version_5_options(
        connection,
        subscription_identifier=subscription_identifier,
        user_property=user_property,
        retain_handling=retain_handling,
        **switches,
    )
    request = _Request(
        subscriptions=tuple(
            Subscription(topic, qos, retain_handling=retain_handling or 0, **switches) for topic in topics
        ),
        subscription_identifier=subscription_identifier,
        user_properties=user_property,
        form=json_object if as_json else topic_and_payload if verbose else payload_only,
        end=b"" if no_line_break else b"\n",
        count=count,
        only_subscribe=only_subscribe,
        reconnect=reconnect,
    )
    run_client(_Subscriber(connection, request).run, timeout)
