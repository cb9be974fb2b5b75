"""For whoever tests code built on the core: a simulated network, and Hypothesis strategies for packets and sessions of
them, sound and broken.
"""

from mqttcore.testing.simulator import Simulator
from mqttcore.testing.wires import Wire

__all__ = ["Simulator", "Wire"]
