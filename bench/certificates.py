"""A certificate for brokers on this machine, and what to check it by."""

from dataclasses import dataclass
from pathlib import Path

import trustme

from bench.generator.target import Target


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority, the broker's chain, its private key."""

    authority: Path
    chain: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make new ones, with keys on the curve P-256."""
    authority = trustme.CA()
    issued = authority.issue_cert(Target.host)
    made = Certificates(directory / "authority.pem", directory / "chain.pem", directory / "key.pem")
    authority.cert_pem.write_to_path(str(made.authority))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(made.chain), append=True)
    issued.private_key_pem.write_to_path(str(made.key))
    # mosquitto reads them as a user of its own. They are for one run, and protect nothing.
    for path in (made.authority, made.chain, made.key):
        path.chmod(0o644)
    return made
