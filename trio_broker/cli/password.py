"""trio-broker password: what the methods Password and Scram keep of a password."""

import os
import sys
from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256
from hmac import digest

import argon2
import click

# The least that OWASP recommends: when a broker starts, all its clients come at once, and each costs one of these.
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
SCRAM_ITERATIONS = 4096
SALT_SIZE = 16
MAXIMUM_PASSWORD = 65_535
"""Bytes, MQTT 5.0 section 1.5.6."""


@click.command()
@click.option("--scram", is_flag=True, help="Make a SCRAM-SHA-256 verifier instead of an Argon2id hash.")
def password(scram: bool) -> None:
    """Ask for a password (or read it from standard input) and print what to put into the Secret.

    The Secret of `passwordSettings` or `scramSettings` has one key per user name, with this as its value.
    """
    stdin = sys.stdin.buffer
    if stdin.isatty():
        # On standard error: standard output may be the file that the result goes to.
        secret = os.fsencode(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        secret = stdin.readline(MAXIMUM_PASSWORD + 2).rstrip(b"\r\n")
    if not secret:
        raise click.ClickException("the password is empty")
    if len(secret) > MAXIMUM_PASSWORD:
        raise click.ClickException(f"the password is longer than the {MAXIMUM_PASSWORD} bytes that MQTT can carry")
    click.echo(_scram_verifier(secret) if scram else HASHER.hash(secret))


def _scram_verifier(secret: bytes) -> str:
    salt = os.urandom(SALT_SIZE)
    salted = pbkdf2_hmac("sha256", secret, salt, SCRAM_ITERATIONS)
    stored_key = sha256(digest(salted, b"Client Key", "sha256")).digest()
    server_key = digest(salted, b"Server Key", "sha256")
    encoded = [b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
