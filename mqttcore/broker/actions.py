"""What a broker asks of the shell around it.

Nobody changes an action; that they are not frozen is because one is made for each write, and that costs a fraction.
"""

from typing import TYPE_CHECKING

from attrs import define

from mqttcore.auth import Effect
from mqttcore.broker.reports import Event

if TYPE_CHECKING:
    from mqttcore.broker.link import Link


@define(eq=False)
class Flush:
    """Output waits: write what `take_output` gives until it gives nothing."""

    link: "Link"


@define(eq=False)
class Close:
    """The broker is done with the link. Not `abrupt`: let the output reach its reader first, within a bounded time.

    `expected` says that the client has taken its leave with DISCONNECT and waits for nothing.
    """

    link: "Link"
    abrupt: bool
    expected: bool


@define(eq=False)
class Perform:
    """Do what an authenticator asks for, and hand the reply to `Broker.resume` with this very action."""

    link: "Link"
    effect: Effect


@define(eq=False)
class Report:
    """Something happened that a log, a test or a metric may want."""

    event: Event


Action = Flush | Close | Perform | Report
