"""trio-broker limits: every bound that --set can change."""

import click
from attrs import asdict

from trio_broker.cli.profile_option import profile_option
from trio_broker.limits import ServerLimits
from trio_broker.profiles import PROFILES
from trio_broker.settings import ALL_LIMITS, show


@click.command()
@profile_option
def limits(profile: str) -> None:
    """Print every bound and protocol limit: name, the profile's default, unit and meaning.

    "trio-broker run --set NAME=VALUE" changes one.
    """
    values = asdict(PROFILES[profile]) | asdict(ServerLimits())
    rows = [
        (limit.name, show(values[limit.name]), limit.metadata["unit"], limit.metadata["meaning"])
        for limit in sorted(ALL_LIMITS.values(), key=lambda limit: limit.name)
    ]
    rows.insert(0, ("NAME", "DEFAULT", "UNIT", "MEANING"))
    name, default, unit = (max(len(row[column]) for row in rows) for column in range(3))
    for row in rows:
        click.echo(f"{row[0]:<{name}}  {row[1]:>{default}}  {row[2]:<{unit}}  {row[3]}")
