"""Offload headers under any bytes: nothing raises, and what passes makes sense."""

from __future__ import annotations

from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.packets import TCP, UDP
from tests.support.superframes import Super, checksums_hold, parts
from vknet.counters import DropReason
from vknet.packet.gso import batch_from_kernel, from_kernel, segment
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import ALL_OFFLOADS, OffloadFrame, Offsets, header_kinds, validate

thoroughly = settings(deadline=None, max_examples=400)

MTU: Final = 1500


@st.composite
def supers(draw: st.DrawFn) -> Super:
    version = draw(st.sampled_from([4, 6]))
    protocol = draw(st.sampled_from([TCP, UDP]))
    size = draw(st.sampled_from([0, 8, 100, 1001, 1400]))
    most = min(size * 100, 20_000) or 1400
    return Super(
        payload=draw(st.binary(min_size=1, max_size=9)) * draw(st.integers(1, most // 9)),
        size=size,
        version=version,
        protocol=protocol,
        tags=draw(st.sampled_from([b"", bytes.fromhex("81000005")])),
        options=bytes(4 * draw(st.integers(0, 10))) if protocol == TCP else b"",
        ip_options=b"\1" * 4 * draw(st.integers(0, 3)) if version == 4 else b"",
        flags=draw(st.integers(0, 255)),
        sequence=draw(st.integers(0, 2**32 - 1)),
        identification=draw(st.integers(0, 2**16 - 1)),
    )


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """The data of a good one with some bytes changed where it matters, and cut short perhaps."""
    data = bytearray(draw(supers()).frame().data)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, min(len(data), 100) - 1))
        data[at] = draw(
            st.sampled_from([0, 1, 4, 5, 6, 17, 44, 60, 0x7F, 0x80, 0xFF, data[at] ^ 1])
        )
    return bytes(data[: draw(st.just(len(data)) | st.integers(24, len(data)))])


@st.composite
def everyday(draw: st.DrawFn) -> bytes:
    """A small frame as kernels hand most of them over."""
    version = draw(st.sampled_from([4, 6]))
    protocol = draw(st.sampled_from([TCP, UDP]))
    data = bytes(Super(bytes(18), size=0, version=version, protocol=protocol).frame().data)
    return draw(st.sampled_from([data, bytes(10) + data[10:], b"\2" + bytes(9) + data[10:]]))


@st.composite
def much_alike(draw: st.DrawFn) -> list[bytes]:
    """Frames of a uniform batch, some altered: a byte, the length of the last one, a port of
    DHCP."""
    data = draw(hostile() | everyday())
    datas = [bytearray(data) for _ in range(draw(st.integers(16, 20)))]
    for _ in range(draw(st.integers(0, 2))):
        one = draw(st.sampled_from(datas))
        one[draw(st.integers(0, min(len(data), 100) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        for number, one in enumerate(datas):
            one[-1] = number
    if draw(st.booleans()):
        draw(st.sampled_from(datas))[44:48] = b"\0\x43\0\x44"
    return [bytes(one) for one in datas[:-1]] + [bytes(datas[-1]) + bytes(draw(st.integers(0, 1)))]


@thoroughly
@given(much_alike())
def test_uniform_batch_equals_its_frames_read_one_by_one(
    raws: list[bytes],
) -> None:
    assert [*batch_from_kernel(raws)] == [*map(from_kernel, raws)]


@thoroughly
@given(much_alike())
def test_offsets_of_a_uniform_batch_hold_for_each_frame(raws: list[bytes]) -> None:
    datas = [raw for raw in raws if len(raw) == len(raws[0])]
    offsets = UniformBatch(datas, offload=True).offsets()
    assert offsets is None or {validate(data) for data in datas} == {offsets}


@thoroughly
@given(supers())
def test_valid_super_frames_are_accepted_and_give_valid_segments(frame: Super) -> None:
    made = frame.frame()
    assert made.kind in header_kinds(ALL_OFFLOADS)
    offsets = validate(made.data, 9000)
    assert isinstance(offsets, Offsets)
    pieces = segment(made, offsets)
    assert all(map(checksums_hold, pieces))
    assert b"".join(parts(piece).payload for piece in pieces) == frame.payload


@thoroughly
@given(hostile() | st.binary(min_size=24, max_size=200))
def test_any_offload_frame_is_rejected_or_gives_frames_within_bounds(data: bytes) -> None:
    frame = OffloadFrame(data)
    offsets = validate(data, MTU)
    if isinstance(offsets, DropReason):
        return
    pieces = segment(frame, offsets)
    assert 1 <= len(pieces) <= len(data)
    assert sum(map(len, pieces)) <= len(frame) * 20
    if frame.is_super:
        assert max(map(len, pieces)) <= MTU + 14 + 4 * 4
    else:
        assert len(pieces[0]) == len(frame)


@thoroughly
@given(hostile() | st.binary(min_size=24, max_size=200))
def test_view_is_validated_like_bytes(data: bytes) -> None:
    assert validate(memoryview(data), MTU) == validate(data, MTU)


@thoroughly
@given(hostile() | st.binary(min_size=24, max_size=200))
def test_any_bytes_of_a_tap_become_a_frame_or_a_drop(data: bytes) -> None:
    made = from_kernel(data)
    assert len(made) == len(data) - 10
    if isinstance(made, OffloadFrame):
        assert made.data[0] in (0, 1)
