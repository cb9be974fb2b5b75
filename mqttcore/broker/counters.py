"""What a broker counts instead of reporting it one by one."""

from attrs import define


@define
class Counters:
    """Messages that did not reach a subscriber, by cause; they only grow."""

    qos0_dropped: int = 0  # the subscriber's connection had no room
    queue_full_dropped: int = 0  # the subscriber's session had no room
    too_large_dropped: int = 0  # over the subscriber's Maximum Packet Size
    not_retained: int = 0  # QoS 0, and the store of retained messages had no room
    share_without_member: int = 0  # nobody in the share could take it
