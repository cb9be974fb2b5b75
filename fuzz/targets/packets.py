"""Packet decoding, both versions.

Input: a byte whose lowest bit is the version, then one packet in its fixed header, or a stream of them.
"""

from attrs import evolve

from mqttcore.codec import decode, encode
from mqttcore.codes import V5, V311
from mqttcore.errors import ProtocolError
from mqttcore.framing import FrameBuffer
from mqttcore.packets import Connect, Packet

MAXIMUM = 65_536
LONGEST_MESSAGE = 300
"""Characters of an error's text."""


def check(data: bytes) -> None:
    """Every frame becomes a packet or the one protocol error, with a failure code and one line of bounded length.

    A packet encodes again, into no more bytes than it came in, and decodes to itself; its repr does not depend on its
    secrets. What is buffered is within the largest frame.
    """
    version = V5 if not data or data[0] & 1 else V311
    frames = FrameBuffer(MAXIMUM)
    for at in range(1, len(data), 97):
        frames.feed(data[at : at + 97])
        try:
            while (frame := frames.next_frame()) is not None:
                _check_frame(*frame, version)
        except ProtocolError as error:
            _check_error(error)
            return
        assert len(frames) <= MAXIMUM


def _check_frame(first: int, body: bytes, version: int) -> None:
    try:
        packet = decode(first, body, version)
    except ProtocolError as error:
        _check_error(error)
        return
    if isinstance(packet, Connect):
        version = packet.protocol_version
        _check_secrets(packet)
    again = encode(packet, version)
    frames = FrameBuffer(len(body) + 5)  # it must fit where it came from
    frames.feed(again)
    frame = frames.next_frame()
    assert frame is not None
    assert len(frames) == 0
    assert len(frame[1]) <= len(body)
    copy: Packet = decode(*frame, version)
    assert copy == packet
    assert encode(copy, version) == again


def _check_error(error: ProtocolError) -> None:
    assert error.reason_code.is_failure
    text = str(error)
    assert text
    assert text.isprintable()
    assert len(text) <= LONGEST_MESSAGE


def _check_secrets(packet: Connect) -> None:
    shown = [
        repr(
            evolve(
                packet,
                password=None if packet.password is None else secret,
                authentication_data=None if packet.authentication_data is None else secret,
            )
        )
        for secret in (b"one", b"another")
    ]
    assert shown[0] == shown[1]
