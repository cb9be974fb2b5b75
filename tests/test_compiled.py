"""What is tested is what was to be tested: the sources, or the extension modules that were compiled from them."""

import os
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES

import pytest

SUFFIXES = EXTENSION_SUFFIXES if os.environ.get("MQTTCORE_COMPILE") == "1" else SOURCE_SUFFIXES


@pytest.mark.parametrize("name", ["codec", "connection", "framing", "message", "session", "wire"])
def test_the_core_is_what_was_to_be_tested(name: str) -> None:
    assert (import_module(f"mqttcore.{name}").__file__ or "").endswith(tuple(SUFFIXES))


@pytest.mark.parametrize("name", ["broker", "distribution", "handshake", "link", "registry", "relay", "sessions"])
def test_the_broker_is_what_was_to_be_tested(name: str) -> None:
    assert (import_module(f"mqttcore.broker.{name}").__file__ or "").endswith(tuple(SUFFIXES))
