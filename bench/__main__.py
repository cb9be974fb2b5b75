"""Measures the broker: python -m bench run|micro|grow|publish; see README.md here."""

import argparse
import json
import sys
from pathlib import Path

from bench.brokers import AMQTT, NAMES, custom, known
from bench.cases import ALL, parse_case
from bench.places import RUNS
from bench.tables import comparison
from bench.turns import Run, take_turns


def main() -> int:
    """0 if all went well, 1 if anything that arrived was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition(":")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="our broker and others under load, in turns")
    run.set_defaults(do=_run)
    run.add_argument("cases", nargs="*", metavar="CASE", help="such as pairs16 or pairs16/tls; all without any")
    run.add_argument("--brokers", default=",".join(NAMES), metavar="NAMES", help=f"some of {', '.join(NAMES)}")
    run.add_argument(
        "--broker", action="append", default=[], metavar="NAME=COMMAND", help="one more, with {port} in its command"
    )
    run.add_argument("--amqtt", default=AMQTT, metavar="COMMAND", help="what starts amqtt")
    run.add_argument("--rounds", type=int, default=3, help="of all brokers, for each case (3)")
    run.add_argument("--seconds", type=float, default=2.0, help="of publishing in one run (2)")
    run.add_argument("--out", type=Path, default=RUNS, metavar="FILE", help="JSON lines, written anew")
    options = parser.parse_args()
    status: int = options.do(options)
    return status


def _run(options: argparse.Namespace) -> int:
    try:
        cases = [parse_case(text) for text in options.cases] or ALL
        more = [custom(text) for text in options.broker]
    except ValueError as error:
        sys.exit(f"bench: {error}")
    every = known(options.amqtt)
    names = [name for name in options.brokers.split(",") if name]
    if strange := [name for name in names if name not in every]:
        sys.exit(f"bench: there is no broker {strange[0]!r}; there are {', '.join(every)}")
    brokers = []
    for broker in [every[name] for name in names] + more:
        if broker.missing:
            _tell(f"{broker.name} is left out: {broker.missing}")
        else:
            brokers.append(broker)
    runs: list[Run] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w") as file:
        for each in take_turns(brokers, cases, options.rounds, options.seconds, _tell):
            runs.append(each)
            file.write(json.dumps(each.to_json()) + "\n")
            file.flush()
    print(comparison(runs))
    return 0 if all(each.result.good for each in runs) else 1


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
