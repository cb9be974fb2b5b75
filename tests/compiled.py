"""Whether the core under test has been compiled, which is what "make test-compiled" tests; see setup.py."""

import pytest

from mqttcore.broker import relay

COMPILED = not relay.__file__.endswith(".py")

# For tests that count instructions, or put something of their own in the place of a method.
interpreted = pytest.mark.skipif(COMPILED, reason="compiled code can be neither traced nor patched")
