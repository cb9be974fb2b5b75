"""Our broker as it is measured: python -m bench.broker [--port PORT] [--tls-port ...] [--ws-port ...] [--wss-port ...]

It is what `trio-broker run` starts, but with authentication by a table of users and with rules that are in force: for
the one user of the load generator among those for many others.
"""

import argparse
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from mqttcore.auth import Action, Authentication, Authenticator, Authorizer, AuthRequest, Denied, Granted, NotRelevant
from mqttcore.broker import Policy
from mqttcore.broker.authorization import Resource, Rule, authorizer
from mqttcore.limits import Limits
from trio_broker.cli.serving import Plan, raise_file_limit, run_plan
from trio_broker.limits import ServerLimits
from trio_broker.listeners import Listener, open_listeners
from trio_broker.logs import Level
from trio_broker.tls import server_context

USERNAME = "bench"
PASSWORD = "a password for nothing but this"
METHOD = "BENCH"
"""The Authentication Method that takes user name and password, joined by a zero byte, as Authentication Data."""
OTHER_USERS = 100
"""Users of whom no client comes; there is a rule for each."""
CONNECTIONS = 100_000
"""Connections from one address: all clients of a load generator have the same."""


def by_table(passwords: Mapping[str, bytes]) -> Authenticator:
    """An authenticator that looks users up in a table, and hashes nothing: so it is the broker that is measured."""

    def authenticate(request: AuthRequest) -> Authentication:
        username, password = request.username, request.password
        if request.authentication_method == METHOD:
            name, _, password = (request.authentication_data or b"").partition(b"\0")
            username = name.decode(errors="replace")
        elif request.authentication_method is not None or username is None or password is None:
            return NotRelevant("no user name and password")
        if not hmac.compare_digest(passwords.get(username, b""), password) or username not in passwords:
            return Denied("the user name or the password is wrong")
        return Granted(username=username)
        yield  # an authenticator is a generator, even one that asks for nothing

    return authenticate


def rules(others: int = OTHER_USERS) -> Authorizer:
    """What the load generator needs, for its user alone, and a rule for each of so many others."""
    found = [
        Rule(
            usernames=(USERNAME,),
            resources=(
                Resource(action=Action.CONNECT),
                Resource(action=Action.PUBLISH, topics=("bench/+/+",)),
                Resource(action=Action.SUBSCRIBE, topics=("bench/#",)),
            ),
        )
    ]
    found += [
        Rule(
            usernames=(f"user{number}",),
            resources=(
                Resource(action=Action.CONNECT, client_ids=(f"device{number}-*",)),
                Resource(action=Action.PUBLISH, topics=("telemetry/{principal.username}/#", f"events/{number}/+")),
                Resource(action=Action.SUBSCRIBE, topics=("commands/{principal.clientId}/#", f"news/{number}/#")),
            ),
        )
        for number in range(others)
    ]
    return authorizer(found)


def policy(limits: Limits, others: int = OTHER_USERS) -> Policy:
    """What holds on each port."""
    passwords = {USERNAME: PASSWORD.encode()} | {f"user{n}": f"secret{n}".encode() for n in range(OTHER_USERS)}
    return Policy(limits=limits, authenticate=by_table(passwords), authorize=rules(others))


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.broker", description=__doc__.partition(":")[0])
    for name in ("--port", "--tls-port", "--ws-port", "--wss-port"):
        parser.add_argument(name, type=int)
    parser.add_argument("--tls-cert", type=Path, metavar="FILE")
    parser.add_argument("--tls-key", type=Path, metavar="FILE")
    parser.add_argument("--log-level", choices=get_args(Level), default="warning")
    options = parser.parse_args()
    limits = Limits()
    server_limits = ServerLimits(connections_per_address=CONNECTIONS)
    raise_file_limit()
    context = server_context(options.tls_cert, options.tls_key) if options.tls_cert else None
    listeners: list[Listener] = []
    for number, tls, websocket in (
        (options.port, None, False),
        (options.tls_port, context, False),
        (options.ws_port, None, True),
        (options.wss_port, context, True),
    ):
        if number is not None:
            listeners += open_listeners(
                number,
                ("127.0.0.1",),
                server_limits.listen_backlog,
                policy(limits),
                context=tls,
                websocket=websocket,
            )
    banner = "\n".join(listener.url for listener in listeners)
    plan = Plan(limits=limits, server_limits=server_limits, listeners=listeners, banner=banner)
    run_plan(plan, "text", options.log_level)


if __name__ == "__main__":
    main()
