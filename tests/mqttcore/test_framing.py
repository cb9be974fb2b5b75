"""Frames are cut out of the stream the same way whatever the chunks, at a cost linear in the bytes."""

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.codec import frame
from mqttcore.codes import ReasonCode
from mqttcore.errors import MalformedPacket, ProtocolError
from mqttcore.framing import FrameBuffer
from mqttcore.testing.strategies import chunks

LARGEST = 268_435_460
MAXIMUM = 400

Cut = list[tuple[int, bytes] | ReasonCode | bytes]

frames = st.builds(frame, st.integers(0, 255), st.binary(max_size=20) | st.integers(120, 450).map(bytes))
bad_ends = st.sampled_from(
    [
        b"",
        b"\x30",
        b"\x30\xff",
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\x80\x00",
        b"\x10\xff\xff\xff\x7fabc",
        b"\x30\x05abc",
    ]
)
streams = st.builds(lambda items, end: b"".join(items) + end, st.lists(frames, max_size=5), bad_ends)


def take(buffer: FrameBuffer) -> tuple[Cut, bool]:
    """The frames that are there, and whether there can be more."""
    found: Cut = []
    try:
        while (item := buffer.next_frame()) is not None:
            found.append(item)
    except ProtocolError as error:
        return [*found, error.reason_code, buffer.previewed], False
    return found, True


def cut(pieces: Iterable[bytes], preview: int) -> tuple[Cut, int]:
    """The frames in a stream, up to its first error, and how much is left over."""
    buffer = FrameBuffer(MAXIMUM)
    buffer.preview = preview
    found: Cut = []
    for piece in pieces:
        buffer.feed(piece)
        more, alive = take(buffer)
        found += more
        if not alive:
            return found, 0
    return found, len(buffer)


@given(data=st.data(), stream=streams, preview=st.sampled_from([0, 9]))
def test_the_frames_do_not_depend_on_the_chunks(data: st.DataObject, stream: bytes, preview: int) -> None:
    assert cut(data.draw(chunks(stream)), preview) == cut([stream], preview)


@given(data=st.data(), stream=streams)
def test_the_frames_do_not_depend_on_when_they_are_asked_for(data: st.DataObject, stream: bytes) -> None:
    buffer = FrameBuffer(MAXIMUM)
    found: Cut = []
    for piece in data.draw(chunks(stream)):
        buffer.feed(piece)
        if data.draw(st.booleans()):
            assert buffer.first_byte() == (stream[_used(found)] if len(buffer) else None)
            if (item := _next(buffer)) is not None:
                found.append(item)
                if isinstance(item, ReasonCode):
                    break
    if not any(isinstance(item, ReasonCode) for item in found):
        rest, _ = take(buffer)
        found += [item for item in rest if not isinstance(item, bytes)]
    expected, _ = cut([stream], 0)
    assert found == [item for item in expected if not isinstance(item, bytes)]


def _next(buffer: FrameBuffer) -> tuple[int, bytes] | ReasonCode | None:
    try:
        return buffer.next_frame()
    except ProtocolError as error:
        return error.reason_code


def _used(found: Cut) -> int:
    return sum(len(frame(item[0], item[1])) for item in found if isinstance(item, tuple))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_every_length_of_remaining_length(size: int) -> None:
    buffer = FrameBuffer(LARGEST)
    buffer.feed(frame(0x30, bytes(size)) + b"\xc0\x00")
    assert buffer.next_frame() == (0x30, bytes(size))
    assert buffer.next_frame() == (0xC0, b"")
    assert buffer.next_frame() is None


@pytest.mark.conformance("MQTT-1.5.5-1")
@pytest.mark.parametrize("length", ["8000", "808000", "80808000", "ff00", "80808080", "ffffffff", "ffffffff01"])
def test_a_remaining_length_in_no_form_that_there_is(length: str) -> None:
    buffer = FrameBuffer(LARGEST)
    buffer.feed(b"\x30" + bytes.fromhex(length))
    with pytest.raises(MalformedPacket):
        buffer.next_frame()


@pytest.mark.parametrize("maximum", [2, 100, 129, 130, 131, 132, 16_000, 2_500_000])
def test_a_frame_is_refused_by_its_fixed_header_alone(maximum: int) -> None:
    for body in (maximum - 4, maximum - 3, maximum - 2, maximum - 1, maximum):
        if body < 0:
            continue
        header = frame(0x30, b"")[:1] + _length(body)
        buffer = FrameBuffer(maximum)
        buffer.feed(header)
        if len(header) + body > maximum:
            with pytest.raises(ProtocolError) as caught:
                buffer.next_frame()
            assert caught.value.reason_code is ReasonCode.PACKET_TOO_LARGE
        elif body:
            assert buffer.next_frame() is None


def _length(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


@pytest.mark.parametrize("before", [0, 9])
def test_of_a_frame_that_is_too_large_only_the_preview_is_waited_for(before: int) -> None:
    buffer = FrameBuffer(10)
    buffer.preview = 4
    buffer.feed(b"\xc0\x00" * before + b"\x10\xff\x7fab")
    assert [buffer.next_frame() for _ in range(before)] == [(0xC0, b"")] * before
    assert buffer.next_frame() is None
    buffer.feed(b"c")
    assert buffer.next_frame() is None
    buffer.feed(b"def")
    with pytest.raises(ProtocolError):
        buffer.next_frame()
    assert buffer.previewed == b"abcd"


@pytest.mark.parametrize("drained", [True, False])
def test_the_work_is_linear_a_byte_at_a_time(drained: bool) -> None:
    """Copying what is there for every byte would move a terabyte, which no time-out leaves room for."""
    size, steps = 1 << 25, 30_000
    body = bytes(size)
    buffer = FrameBuffer(LARGEST)
    buffer.feed(b"\xc0\x00" + frame(0x30, body)[:-steps])
    if drained:
        assert buffer.next_frame() == (0xC0, b"")
    for _ in range(steps):
        if drained:
            assert buffer.next_frame() is None
        buffer.feed(b"\0")
    buffer.feed(b"\xe0")
    if not drained:
        assert buffer.next_frame() == (0xC0, b"")
    assert buffer.next_frame() == (0x30, body)
    assert len(buffer) == 1


def test_the_memory_is_linear_a_byte_at_a_time() -> None:
    size = 30_000
    stream = frame(0x30, bytes(size))
    found = None
    tracemalloc.start()
    try:
        buffer = FrameBuffer(LARGEST)
        for at in range(len(stream)):
            buffer.feed(stream[at : at + 1])
            found = buffer.next_frame()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert peak < 3 * size
