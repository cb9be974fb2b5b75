"""A server's connection, fed by a client in any chunks.

Input: a choice of limits, whether CONNECT is decided late, the sizes of the chunks, and the stream.
"""

from fuzz.conversation import LIMITS, Conversation
from fuzz.source import Source, chunks
from mqttcore.states import SERVER


def check(data: bytes) -> None:
    """In chunks the stream means the same as in one piece: the same events, and the same bytes in answer.

    What is buffered stays within `maximum_connect_size`, `maximum_packet_size` and `maximum_early_data`, and unsettled
    identifiers and aliases within theirs. A byte is copied a bounded number of times. Each event costs bounded bytes of
    output, and the output is packets of MQTT. After the end of the stream there is nothing more.
    """
    source = Source(data)
    limits, slow, sizes = source.pick(LIMITS), source.flag(), source.take(8)
    stream = source.rest()
    parts = Conversation(SERVER, limits, slow=slow)
    parts.hold(chunks(stream, sizes))
    if not slow:  # how much came early depends on when it came
        whole = Conversation(SERVER, limits)
        whole.hold([stream])
        assert parts.heard == whole.heard
        assert parts.said == whole.said
