"""trio-broker cert: client certificates of the local authority."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from trio_broker.errors import ConfigurationError
from trio_broker.pki import DAY, check_common_name
from trio_broker.pki_files import CHAIN_FILE, PUBLIC, file_name, is_ours, open_authority, write_client, write_file
from trio_broker.tokens import SESSION_DIRECTORY

MAXIMUM_DAYS = 3650
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def cert() -> None:
    """Client certificates of the local authority, which `trio-broker up` trusts."""


def _common_name(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return check_common_name(value)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


@cert.command()
@click.argument("common_name", metavar="CN", callback=_common_name)
@click.option("--key", type=click.Choice(["ec", "rsa"]), default="ec", show_default=True, help="The kind of key.")
@click.option(
    "--days", type=click.IntRange(1, MAXIMUM_DAYS), default=365, show_default=True, metavar="N",
    help="How long it is valid.",
)  # fmt: skip
@click.option("--expired", is_flag=True, help="For tests of clients: a certificate that expired yesterday.")
@click.option("--dir", "directory", type=FOLDER, default=SESSION_DIRECTORY, show_default=True,
              help="The session directory, with the authority.")  # fmt: skip
@click.option("--out", type=FOLDER, default=Path(), help="Where to write the files.  [the current directory]")
def create(common_name: str, key: str, days: int, expired: bool, directory: Path, out: Path) -> None:
    """Make a certificate for the client CN: CN_cert.pem with its chain, CN_key.pem, and chain.pem to trust.

    Files of an earlier certificate are replaced; those that are by another authority are not.
    """
    now = time.time()
    name = file_name(common_name)
    certificate, private, chain = out / f"{name}_cert.pem", out / f"{name}_key.pem", out / CHAIN_FILE
    try:
        authority = open_authority(directory, now)
        for path in (certificate, chain):
            if not is_ours(path):
                raise ConfigurationError(f"{path} is not of the local authority; choose another place with --out")
        if private.exists() and not certificate.exists():
            raise ConfigurationError(f"{private} is there without {certificate.name}; choose another place with --out")
        issued = authority.issue_client(common_name, now, rsa_key=key == "rsa", lifetime=days * DAY, expired=expired)
        write_client(certificate, private, issued)
        write_file(chain, authority.chain_pem, PUBLIC)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    until = datetime.fromtimestamp(issued.not_after, UTC)
    click.echo(f"{certificate}  {'expired' if expired else 'valid until'} {until:%Y-%m-%d %H:%M} UTC")
    click.echo(f"{private}\n{chain}")
