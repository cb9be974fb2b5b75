"""The trio-broker command. A user's mistake is one line on standard error and exit status 2."""

import os
import shutil
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

PROGRAM = "trio-broker"
COMMANDS = ("run", "up", "check", "explain", "limits", "pub", "sub", "token", "cert", "password")
"""Each is the command of the same name in the module of the same name, imported when it is asked for."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


def typed() -> str:
    """How this program is called in a terminal, for commands that the user may copy."""
    if shutil.which(PROGRAM) is not None:
        return PROGRAM
    called = Path(sys.argv[0])
    if called.name != PROGRAM:
        return f"{Path(sys.executable).name} -m trio_broker"
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


def program_version() -> str:
    """The installed distribution's version."""
    try:
        return version("mqttcore")
    except PackageNotFoundError:
        return "(not installed)"


@click.group(PROGRAM, cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(program_version(), prog_name=PROGRAM)
def cli() -> None:
    """An MQTT 5.0 and 3.1.1 broker, and clients to try it with."""


def main(arguments: list[str] | None = None) -> None:
    """The console script: runs a command (default: sys.argv) and exits with its status."""
    try:
        status = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = 2
    except click.ClickException as error:
        click.echo(f"{PROGRAM}: {_one_line(error)}", err=True)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except BrokenPipeError:
        # Whoever read our output has had enough; Python would complain once more when it flushes at exit.
        sys.stdout = None
        status = 1
    sys.exit(status or 0)


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see {context.command_path} --help" if context else message
