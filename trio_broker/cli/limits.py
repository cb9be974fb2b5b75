"""trio-broker limits: every bound that --set can change."""

import click

from trio_broker.settings import ALL_LIMITS, show


@click.command()
def limits() -> None:
    """Print every bound and protocol limit: name, default, unit and meaning.

    "trio-broker run --set NAME=VALUE" changes one.
    """
    rows = [
        (limit.name, show(limit.default), limit.metadata["unit"], limit.metadata["meaning"])
        for limit in sorted(ALL_LIMITS.values(), key=lambda limit: limit.name)
    ]
    rows.insert(0, ("NAME", "DEFAULT", "UNIT", "MEANING"))
    name, default, unit = (max(len(row[column]) for row in rows) for column in range(3))
    for row in rows:
        click.echo(f"{row[0]:<{name}}  {row[1]:>{default}}  {row[2]:<{unit}}  {row[3]}")
