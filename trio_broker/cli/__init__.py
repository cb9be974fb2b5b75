"""The trio-broker command. A user's mistake is one line on standard error and exit status 2."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

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
