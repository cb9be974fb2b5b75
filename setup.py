"""How the project is built: by setuptools, as setup.cfg says, and with MQTTCORE_COMPILE=1 by mypyc as well.

A wheel has the same sources either way; in the second case extension modules, which Python prefers, stand beside them.
This file is also the build backend, because what has to be installed for a build depends on the variable.
"""

import os
import sys
from configparser import ConfigParser
from pathlib import Path

from setuptools import Extension, build_meta, setup
from setuptools.build_meta import *  # noqa: F403  # all other hooks of a build backend

COMPILE = os.environ.get("MQTTCORE_COMPILE") == "1"

# Values, enumerations and errors gain nothing. Users derive from the classes of auth, and policies and ports are found
# through weak references, which compiled classes have not.
INTERPRETED = {
    "mqttcore/auth.py",
    "mqttcore/broker/policy.py",
    "mqttcore/errors.py",
    "mqttcore/hidden.py",
    "mqttcore/limits.py",
    "mqttcore/packets.py",
}


def get_requires_for_build_wheel(config_settings: dict[str, str] | None = None) -> list[str]:
    """The hook of PEP 517."""
    requirements: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    if COMPILE:
        metadata = ConfigParser(interpolation=None)
        metadata.read("setup.cfg")
        requirements += metadata["options"]["install_requires"].split("\n")
        requirements += metadata["options.extras_require"]["compiler"].split("\n")
    return [each for each in requirements if each]


def compiled() -> list[Extension]:
    """The core as extension modules."""
    from mypyc.build import mypycify

    modules = {str(path) for folder in ("mqttcore", "mqttcore/broker") for path in Path(folder).glob("[!_]*.py")}
    return mypycify(sorted(modules - INTERPRETED), group_name="mqttcore", debug_level="0")


if __name__ == "__main__":  # as setuptools runs it; for metadata and for editable installations nothing is compiled
    setup(ext_modules=compiled() if COMPILE and "bdist_wheel" in sys.argv else [])
