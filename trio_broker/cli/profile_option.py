"""The option of every command that goes by a profile."""

import click

from trio_broker.profiles import DEFAULT_PROFILE, PROFILES

profile_option = click.option(
    "--profile",
    type=click.Choice([*PROFILES]),
    default=DEFAULT_PROFILE,
    show_default=True,
    help="Limits to begin with: all of MQTT 5, or those of the Azure IoT Operations broker.",
)
