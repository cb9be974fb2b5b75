"""What a broker counts instead of reporting it one by one."""

from attrs import define


@define
class Counters:
    """Messages that did not reach a subscriber, by cause; they only grow."""

    qos0_dropped: int = 0  # the subscriber's connection had no room
    queue_full_dropped: int = 0  # the subscriber's session had no room for it, or none for a newer one
    too_large_dropped: int = 0  # over the subscriber's Maximum Packet Size
    not_retained: int = 0  # delivered only: no room among the retained messages, and no answer that could refuse it
    retained_withheld: int = 0  # whoever published it may not do so any more
    share_without_member: int = 0  # nobody in the share could take it
