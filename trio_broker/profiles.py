"""Profiles: sets of limits under one name. What they announce to clients is in docs/profiles.md."""

from collections.abc import Mapping
from types import MappingProxyType

from mqttcore.limits import Limits

DEFAULT_PROFILE = "mqtt5"

PROFILES: Mapping[str, Limits] = MappingProxyType(
    {
        # All of MQTT 5.0.
        DEFAULT_PROFILE: Limits(),
        # What the Azure IoT Operations MQTT broker grants its clients.
        "aio": Limits(
            maximum_qos=1,
            receive_maximum=100,
            maximum_packet_size=67_108_864,
            topic_alias_maximum=0,
            assigned_topic_aliases=0,
            subscription_identifiers_available=False,
        ),
    }
)
"""The limits of each profile, which a Broker resource and then `--set` change."""
