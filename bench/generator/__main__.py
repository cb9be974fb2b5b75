"""Loads a broker with a scenario: python -m bench.generator SCENARIO --port PORT [options]; prints one line of JSON."""

import argparse
import json
import math
import os
import resource
import sys
from typing import get_args

from bench.generator.run import Amount, run
from bench.generator.scenarios import SCENARIOS, changed
from bench.generator.target import Target, Transport


def main() -> int:
    """0 if all arrived as it should, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=__doc__.partition(":")[0])
    parser.add_argument("scenario", choices=SCENARIOS, metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--host", default=Target.host)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--transport", choices=get_args(Transport), default=Target.transport)
    parser.add_argument("--version", type=int, choices=(4, 5), default=Target.version, help="4 is MQTT 3.1.1")
    parser.add_argument("--authority", metavar="FILE", help="PEM file to check the broker's certificate by")
    parser.add_argument("--username")
    parser.add_argument("--password")
    parser.add_argument("--method", help="Authentication Method for reauth; takes USERNAME, a zero byte, PASSWORD")
    parser.add_argument("--pid", type=int, help="the broker's process, whose CPU time and memory are measured")
    parser.add_argument("--seconds", type=float, default=Amount.seconds)
    parser.add_argument("--warmup", type=float, default=Amount.warmup)
    parser.add_argument("--messages", type=float, default=math.inf, help="of each publisher, instead of --seconds")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=NUMBER", help="change the scenario")
    parser.add_argument("--cpu", type=int, help="the CPU to run on")
    options = vars(parser.parse_args())
    if (cpu := options.pop("cpu")) is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        scenario = changed(SCENARIOS[options.pop("scenario")], options.pop("set"))
    except ValueError as error:
        parser.error(str(error))
    amount = Amount(**{name: options.pop(name) for name in ("seconds", "warmup", "messages")})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    result = run(scenario, Target(**options), amount)
    print(json.dumps(result.to_json()))
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
