"""Hands one target to atheris: python -m fuzz.one NAME [options of libFuzzer] DIRECTORY..."""

import importlib
import shlex
import sys
import warnings

import atheris

INSTRUMENTED = ["mqttcore", "trio_broker", "wsproto"]
"""What coverage is counted of: our packages, and what takes WebSocket frames apart for us."""


def main() -> None:
    """Fuzz until libFuzzer's own options say that it is enough."""
    name, *options = sys.argv[1:]
    program = f"{shlex.quote(sys.executable)} -m fuzz.one {name}"  # libFuzzer starts itself again, to merge corpora
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"fuzz.targets.{name}")
    warnings.simplefilter("error")  # nobody may make the broker write to its standard error
    atheris.Setup([program, *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
