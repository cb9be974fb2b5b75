"""Measures the broker: python -m bench run|micro|compare|grow|publish; see README.md here."""

import argparse
import math
import sys
from pathlib import Path

from bench.brokers import AMQTT, NAMES, Broker, custom, known
from bench.cases import ALL, parse_case
from bench.growth import PICTURES, Point, grow
from bench.micro import benchmarks, measure
from bench.places import GROWTH, MICRO, RUNS
from bench.store import keep, read_costs, write_costs
from bench.tables import comparison, growth, side_by_side
from bench.turns import Run, take_turns


def main() -> int:
    """0 if all went well, 1 if anything that arrived was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition(":")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="our broker and others under load, in turns")
    command.set_defaults(do=_run)
    command.add_argument("cases", nargs="*", metavar="CASE", help="such as pairs16 or pairs16/tls; without any, all")
    command.add_argument("--brokers", default=",".join(NAMES), metavar="NAMES", help=f"some of {', '.join(NAMES)}")
    command.add_argument(
        "--broker", action="append", default=[], metavar="NAME=COMMAND", help="one more, with {port} in its command"
    )
    command.add_argument("--amqtt", default=AMQTT, metavar="COMMAND", help="what starts amqtt")
    command.add_argument("--rounds", type=int, default=3, help="of all brokers, for each case (3)")
    command.add_argument("--seconds", type=float, default=2.0, help="of publishing in one run (2)")
    command.add_argument("--out", type=Path, metavar="FILE", help=f"JSON lines, written anew; of all cases in {RUNS}")

    command = commands.add_parser("micro", help="the parts of the core, each by itself")
    command.set_defaults(do=_micro)
    command.add_argument("words", nargs="*", metavar="WORD", help="operations with one of these in their names")
    command.add_argument("--json", type=Path, metavar="FILE", help=f"written anew; of all operations in {MICRO}")

    command = commands.add_parser("compare", help="the figures of micro in two trees")
    command.set_defaults(do=_compare)
    command.add_argument("before", type=Path, metavar="BEFORE", help="a file that micro has written")
    command.add_argument("after", type=Path, metavar="AFTER", help="another one")

    command = commands.add_parser("grow", help="what it costs as there is more of something")
    command.set_defaults(do=_grow)
    command.add_argument("pictures", nargs="*", metavar="PICTURE", help=", ".join(PICTURES))
    command.add_argument("--most", type=float, default=math.inf, help="not more than so much of anything")
    command.add_argument("--out", type=Path, metavar="FILE", help=f"JSON lines, written anew; of all in {GROWTH}")

    command = commands.add_parser("publish", help="write docs/performance from what was measured last")
    command.set_defaults(do=_publish)

    options = parser.parse_args()
    status: int = options.do(options)
    return status


def _run(options: argparse.Namespace) -> int:
    try:
        cases = [parse_case(text) for text in options.cases] or ALL
        more = [custom(text) for text in options.broker]
    except ValueError as error:
        return _wrong(str(error))
    every = known(options.amqtt)
    names = [name for name in options.brokers.split(",") if name]
    if strange := [name for name in names if name not in every]:
        return _wrong(f"there is no broker {strange[0]!r}; there are {', '.join(every)}")
    brokers: list[Broker] = []
    for broker in [every[name] for name in names] + more:
        if broker.missing:
            _tell(f"{broker.name} is left out: {broker.missing}")
        else:
            brokers.append(broker)
    if not brokers:
        return _wrong("there is no broker to run")
    runs = take_turns(brokers, cases, options.rounds, options.seconds, _tell)
    kept = [*keep(options.out or (None if options.cases else RUNS), runs, Run.to_json)]
    print(comparison(kept))
    return 0 if all(each.result.good for each in kept) else 1


def _micro(options: argparse.Namespace) -> int:
    words = options.words or [""]
    wanted = [each for name, each in benchmarks().items() if any(word in name for word in words)]
    if not wanted:
        return _wrong(f"no operation has {' or '.join(words)} in its name")
    costs = measure(wanted, print)
    if path := options.json or (None if options.words else MICRO):
        write_costs(path, costs)
    return 0


def _compare(options: argparse.Namespace) -> int:
    for path in (options.before, options.after):
        if not path.exists():
            return _wrong(f"there is no file {path}: python -m bench micro --json {path}")
    print(side_by_side(read_costs(options.before), read_costs(options.after)))
    return 0


def _grow(options: argparse.Namespace) -> int:
    names = options.pictures or [*PICTURES]
    if strange := [name for name in names if name not in PICTURES]:
        return _wrong(f"there is no picture {strange[0]!r}; there are {', '.join(PICTURES)}")
    path = options.out or (None if options.pictures or options.most < math.inf else GROWTH)
    print(growth([*keep(path, grow(names, options.most, _tell), Point.to_json)]))
    return 0


def _publish(options: argparse.Namespace) -> int:
    try:
        from bench.publish import publish
    except ModuleNotFoundError as error:
        return _wrong(f"{error}: pip install '.[bench]'")
    publish(print)
    return 0


def _wrong(text: str) -> int:
    _tell(f"bench: {text}")
    return 2


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
