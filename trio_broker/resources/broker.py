"""Broker: the limits for clients. Its other parts shape a deployment in a cluster and are accepted as they are."""

from attrs import frozen

from trio_broker.resources.configuration import BrokerSettings, MemoryProfile, QueueStrategy
from trio_broker.resources.identity import Identity
from trio_broker.resources.reader import Fields, Item

UINT16, UINT32 = 65_535, 4_294_967_295
LARGEST_PACKET = 268_435_456
"""Bytes; the product's bound."""


@frozen
class Broker:
    """A Broker."""

    identity: Identity
    settings: BrokerSettings


def read_broker(identity: Identity, spec: Fields) -> Broker:
    """A Broker's spec."""
    spec.accept(
        "authImage", "brokerImage", "brokerNodeTolerations", "cardinality", "diagnostics", "diskBackedMessageBuffer",
        "diskBackedMessageBufferSettings", "encryptInternalTraffic", "generateResourceLimits", "healthManagerImage",
        "healthManagerNodeTolerations", "highPriorityMessagesBackpressureHandling", "internalCerts", "mode",
        "persistence",
    )  # fmt: skip
    profile = spec.optional("memoryProfile")
    memory_profile = profile.choice(MemoryProfile) if profile else None
    settings = BrokerSettings(memory_profile=memory_profile)
    if advanced := spec.optional("advanced"):
        with advanced.fields() as fields:
            fields.accept("encryptInternalTraffic", "internalCerts")
            if clients := fields.optional("clients"):
                settings = _read_clients(clients, memory_profile)
    return Broker(identity, settings)


def _read_clients(item: Item, memory_profile: MemoryProfile | None) -> BrokerSettings:
    with item.fields() as fields:
        length, strategy = None, None
        session_expiry = _number(fields, "maxSessionExpirySeconds", 0, UINT32)
        message_expiry = _number(fields, "maxMessageExpirySeconds", 0, UINT32)
        packet_size = _number(fields, "maxPacketSizeBytes", 1, LARGEST_PACKET)
        receive_maximum = _number(fields, "maxReceiveMaximum", 1, UINT16)
        keep_alive = _number(fields, "maxKeepAliveSeconds", 0, UINT16)
        if queue := fields.optional("subscriberQueueLimit"):
            with queue.fields() as limit:
                length = _number(limit, "length", 1, UINT32)
                strategy_item = limit.optional("strategy")
                strategy = strategy_item.choice(QueueStrategy) if strategy_item else None
    return BrokerSettings(
        memory_profile=memory_profile,
        maximum_session_expiry=session_expiry,
        maximum_message_expiry=message_expiry,
        maximum_packet_size=packet_size,
        receive_maximum=receive_maximum,
        maximum_keep_alive=keep_alive,
        queue_length=length,
        queue_strategy=strategy,
    )


def _number(fields: Fields, name: str, low: int, high: int) -> int | None:
    item = fields.optional(name)
    return item.integer(low, high) if item else None
