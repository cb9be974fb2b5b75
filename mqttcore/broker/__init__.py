"""The broker as a value machine, see `broker.Broker`."""

from mqttcore.broker.actions import Action, Close, Flush, Perform, Report
from mqttcore.broker.broker import Broker
from mqttcore.broker.handshake import refusal_code
from mqttcore.broker.link import Link
from mqttcore.broker.policy import Policy, Transport

__all__ = ["Action", "Broker", "Close", "Flush", "Link", "Perform", "Policy", "Report", "Transport", "refusal_code"]
