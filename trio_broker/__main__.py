"""python -m trio_broker is the trio-broker command."""

import sys


def main() -> None:
    """The console script."""
    try:
        from trio_broker.cli import main as run
    except ModuleNotFoundError as error:
        sys.stderr.write(f"trio-broker: {error}; install the broker with: pip install 'mqttcore[broker]'\n")
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
