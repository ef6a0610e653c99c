"""Uniform batches: when frames form one, and what then holds for each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.blocks import feed
from tests.support.packets import UDP
from tests.support.superframes import Super
from vknet.framing import (
    FRAME_LIMIT_V2,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.packet.gso import batch_from_kernel
from vknet.packet.uniform_batch import (
    UNIFORM_FRAME_MAX,
    UNIFORM_MAX,
    UNIFORM_MIN,
    UniformBatch,
    count_uniform,
)
from vknet.packet.virtio import ALL_OFFLOADS, OffloadFrame, header_kinds, validate
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.virtio import AnyFrame

DATAGRAM: Final = Super(bytes(18), size=0, protocol=UDP)
HELLO: Final = encode_control(
    Hello("test", "test", FRAME_LIMIT_V2, mtu=None, mtu_fixed=False, timeout=15)
)


def raws(one: Super = DATAGRAM, count: int = UNIFORM_MIN) -> list[bytes]:
    """Return this number of frames as a TAP returns them; the last byte is the number of each."""
    data = bytes(one.frame().data)
    return [data[:-1] + bytes([number % 256]) for number in range(count)]


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def decoded(stream: bytes) -> list[Sequence[AnyFrame]]:
    """The batches in a stream that follows a HELLO."""
    decoder = Decoder(Wire.V2, offloads=ALL_OFFLOADS)
    feed(decoder, HELLO)
    piece = decoder.feed(stream)
    assert piece.error is None
    decoder.end()
    return piece.batches


def encoded(datas: Sequence[bytes]) -> bytes:
    frames = [*map(OffloadFrame, datas)]
    return encode_frames(frames, FRAME_LIMIT_V2, header_kinds(ALL_OFFLOADS)).data


# --- creation -------------------------------------------------------------------------------------


def test_flood_from_a_tap_is_a_uniform_batch_of_its_frames() -> None:
    batch = batch_from_kernel(raws())
    assert isinstance(batch, UniformBatch)
    assert [*batch] == [*map(OffloadFrame, raws())]


def test_flood_of_plain_frames_is_a_uniform_batch_without_offload_headers() -> None:
    plain = [bytes(10) + raw[10:] for raw in raws()]
    batch = batch_from_kernel(plain)
    assert isinstance(batch, UniformBatch)
    assert [*batch] == [raw[10:] for raw in raws()]


@pytest.mark.parametrize(
    ("why", "batch"),
    [
        ("too few", raws()[1:]),
        ("one is longer", [*raws(), raws()[0] + b"x"]),
        ("one in the middle is longer", [*raws(), raws()[0] + b"x", *raws()]),
        ("one in the middle has another header", [*raws(), with_byte(raws()[0], 8, 7), *raws()]),
        ("they are long", [bytes(UNIFORM_FRAME_MAX + 1)] * UNIFORM_MIN),
        ("one may be DHCP's", [*raws(), with_byte(raws()[0], 47, 68), *raws()]),
        ("their kernel found their sums good", [with_byte(raw, 0, 3) for raw in raws()]),
    ],
)
def test_frames_that_differ_make_no_uniform_batch(why: str, batch: list[bytes]) -> None:
    assert not isinstance(batch_from_kernel(batch), UniformBatch), why


def test_flood_from_the_wire_is_a_uniform_batch_after_its_first_frame() -> None:
    first, batch = decoded(encoded(raws(count=100)))
    assert first == [OffloadFrame(raws()[0])]
    assert isinstance(batch, UniformBatch)
    assert [*batch] == [*map(OffloadFrame, raws(count=100)[1:])]


def test_long_flood_from_the_wire_is_several_uniform_batches() -> None:
    _, *batches = decoded(encoded(raws(count=2 * UNIFORM_MAX + 1)))
    assert [len(batch) for batch in batches if isinstance(batch, UniformBatch)] == [UNIFORM_MAX] * 2


def test_uniform_batch_from_the_wire_ends_at_a_frame_of_another_length() -> None:
    flood = encoded(raws(count=50))
    longer = encode_frames([bytes(400)], FRAME_LIMIT_V2).data
    blocks = decoded(flood + longer + flood)
    assert [isinstance(batch, UniformBatch) for batch in blocks] == [False, True, False, True]
    assert [len(batch) for batch in blocks] == [1, 49, 2, 49]
    assert blocks[2][0] == bytes(400)


def test_uniform_batch_from_the_wire_ends_at_a_frame_of_another_kind() -> None:
    to_cut = [with_byte(raw, 1, 1) for raw in raws(count=50)]
    blocks = decoded(encoded(raws(count=50)) + encoded(to_cut))
    batches = [block for block in blocks if isinstance(block, UniformBatch)]
    assert [len(batch) for batch in batches] == [49, 50]
    assert [batch.kind for batch in batches] == [1, 257]


def test_stream_that_resembles_uniform_batches_is_scanned_once() -> None:
    """Of two and two of one length: each time they look like the beginning of many."""
    two_and_two = b"".join(
        encode_frames([bytes(length)] * 2, FRAME_LIMIT_V2).data for length in (60, 61) * 50
    )
    (batch,) = decoded(two_and_two + encoded(raws(count=50)))
    assert not isinstance(batch, UniformBatch)
    assert len(batch) == 250


# --- the offsets of all frames --------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_uniform_batch_of_tcp_or_udp_is_valid_if_its_first_frame_is(
    version: int, protocol: int
) -> None:
    datas = raws(replace(DATAGRAM, version=version, protocol=protocol))
    offsets = UniformBatch(datas, offload=True).offsets()
    assert offsets is not None
    assert {validate(data) for data in datas} == {offsets}


@pytest.mark.parametrize(
    ("why", "datas"),
    [
        ("one is a fragment", [*raws(), with_byte(raws()[0], 30, 0x20)]),
        ("one is of another protocol", [*raws(), with_byte(raws()[0], 33, 6)]),
        ("one is no IP", [*raws(), with_byte(raws()[0], 22, 0x88)]),
        ("one has options", [*raws(), with_byte(raws()[0], 24, 0x46)]),
        ("none fits", [with_byte(raw, 6, 200) for raw in raws()]),
        ("they have tags", raws(replace(DATAGRAM, tags=bytes.fromhex("81000005")))),
        ("IPv6 has extensions", raws(replace(DATAGRAM, version=6, extensions=b"\x11" + bytes(7)))),
        ("they are to be cut", raws(Super(bytes(400), size=100))),
        ("they are too short", [bytes([1]) + bytes(24)] * UNIFORM_MIN),
    ],
)
def test_batch_whose_frames_have_to_be_validated_one_by_one_is_recognized(
    why: str, datas: list[bytes]
) -> None:
    assert UniformBatch(datas, offload=True).offsets() is None, why


def test_plain_frames_have_no_offload_header_to_validate() -> None:
    assert UniformBatch([raw[10:] for raw in raws()], offload=False).offsets() is None


# --- a batch as a sequence ------------------------------------------------------------------------


@pytest.mark.parametrize("offload", [True, False])
def test_uniform_batch_is_a_sequence(*, offload: bool) -> None:
    batch = UniformBatch(raws(), offload=offload)
    frames = [OffloadFrame(raw) if offload else raw for raw in raws()]
    assert [*batch] == frames
    assert len(batch) == len(frames)
    assert (batch[0], batch[-1]) == (frames[0], frames[-1])
    assert batch[3:] == frames[3:]
    assert batch[len(batch) :] == []


@pytest.mark.parametrize(
    ("records", "columns", "agreeing"),
    [
        (b"abacad", (0,), 3),
        (b"abacbb", (0,), 2),
        (b"abacab", (0, 1), 1),
        (b"ababab", (), 3),
        (b"ab", (0, 1), 1),
    ],
)
def test_number_of_records_that_agree_with_the_first_is_counted(
    records: bytes, columns: tuple[int, ...], agreeing: int
) -> None:
    assert count_uniform(records, 2, columns) == agreeing
