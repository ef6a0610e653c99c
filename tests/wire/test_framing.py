"""The codec: frames and control blocks, there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.blocks import feed, flat
from tests.support.replaying import (
    HELLO_BLOCK,
    MAGIC_BYTES,
    control,
    decoded,
    frame_block,
    header,
    one_by_one,
    plain,
    replay,
)
from tests.support.superframes import Super, checksums_hold
from vknet.counters import DropReason
from vknet.errors import LocalProtocolError, RemoteProtocolError
from vknet.framing import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    V1_MAGIC,
    Ack,
    Bye,
    Encoded,
    Ping,
    Pong,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.packet.virtio import (
    ALL_OFFLOADS,
    DEFAULT_OFFLOADS,
    Offload,
    OffloadFrame,
    header_kinds,
)
from vknet.wire.decoder import Decoder

if TYPE_CHECKING:
    from tests.support.blocks import Item
    from vknet.packet.virtio import AnyFrame

# --- frames ---------------------------------------------------------------------------------------


def test_magic_and_the_limits_are_those_of_the_document() -> None:
    assert V1_MAGIC == 0x5A69782B
    assert FRAME_LIMIT_V1 == 8320
    assert FRAME_LIMIT_V2 == 65664
    assert encode_frames([b"\xaa"], FRAME_LIMIT_V1).data == b"\x2b\x78\x69\x5a\1\0\0\0\xaa"


@pytest.mark.parametrize("wire", Wire)
def test_longest_frame_before_hello_is_decoded(wire: Wire) -> None:
    frame = b"\x55" * FRAME_LIMIT_V1
    block = frame_block(frame)
    assert block[:8] == bytes.fromhex("2b78695a80200000")
    assert decoded(wire, block) == [{"frame": frame.hex()}]


@pytest.mark.parametrize("wire", [Wire.AUTO, Wire.V2])
def test_hello_raises_the_frame_limit_for_the_blocks_after_it(wire: Wire) -> None:
    frame = b"\x55" * FRAME_LIMIT_V2
    outcome = replay(wire, [HELLO_BLOCK + frame_block(frame)])
    assert outcome.error is None
    assert outcome.blocks[1] == {"frame": frame.hex()}


def test_frame_limit_after_hello_is_the_one_that_this_side_sent() -> None:
    decoder = Decoder(Wire.V2, frame_limit=100)
    blocks: list[Item] = []
    feed(decoder, HELLO_BLOCK + frame_block(bytes(100)), blocks)
    with pytest.raises(
        RemoteProtocolError, match=r"a block of 101 bytes; from 1 to 100 are allowed$"
    ):
        feed(decoder, header(101), blocks)
    assert len(blocks) == 2


def test_encoder_leaves_out_empty_and_oversized_frames_and_counts_them() -> None:
    encoded = encode_frames([b"", b"abc", bytes(11), bytes(10)], 10)
    assert encoded.data == frame_block(b"abc") + frame_block(bytes(10))
    assert (encoded.frames, encoded.size) == (2, 13)
    assert encoded.drops == {DropReason.EMPTY: 1, DropReason.OVER_PEER_LIMIT: 1}


def test_encoder_returns_nothing_for_no_frames() -> None:
    assert encode_frames([], 10) == Encoded([], 0, 0, {})


def test_encoder_joins_small_frames_and_copies_no_large_ones() -> None:
    small, large = bytes(60), bytes(60_000)
    assert encode_frames([small] * 100, FRAME_LIMIT_V2).parts == [100 * frame_block(small)]
    mixed = encode_frames([large, small, large], FRAME_LIMIT_V2)
    assert [part for part in mixed.parts if part is large] == [large, large]
    assert mixed.data == frame_block(large) + frame_block(small) + frame_block(large)


def test_encoder_accepts_views_and_bytes() -> None:
    view = memoryview(b"xxabcxx")[2:5]
    assert encode_frames([view], 10).data == frame_block(b"abc")


def test_offload_frames_are_encoded_unchanged() -> None:
    sent: list[AnyFrame] = [b"plain", Super().frame(), Super(size=0).frame()]
    encoded = encode_frames(sent, FRAME_LIMIT_V2, header_kinds(DEFAULT_OFFLOADS))
    assert (encoded.frames, encoded.drops) == (3, {})
    assert encoded.size == sum(map(len, sent))
    for chunks in ([encoded.data], one_by_one(encoded.data)):
        blocks: list[Item] = []
        decoder = Decoder(Wire.V2, offloads=ALL_OFFLOADS)
        feed(decoder, HELLO_BLOCK, blocks)
        for chunk in chunks:
            feed(decoder, chunk, blocks)
        assert blocks[1:] == sent


def test_offloads_that_the_peer_does_not_accept_are_completed_before_sending() -> None:
    four, six = (Super(bytes(3000), version=version).frame() for version in (4, 6))
    sent: list[AnyFrame] = [four, six, b"last"]
    encoded = encode_frames(sent, FRAME_LIMIT_V1, header_kinds(Offload.CSUM | Offload.TSO6))
    assert encoded.frames == 5
    decoder = Decoder(Wire.V2, offloads=ALL_OFFLOADS)
    blocks: list[Item] = []
    feed(decoder, HELLO_BLOCK + encoded.data, blocks)
    *cut, whole, last = blocks[1:]
    segments = [block for block in cut if isinstance(block, bytes)]
    assert len(segments) == len(cut) == 3
    assert all(map(checksums_hold, segments))
    assert whole == six
    assert last == b"last"
    assert encoded.size == sum(map(len, segments)) + len(six) + 4


def test_invalid_offload_frame_is_left_out_and_counted() -> None:
    sent = [Super().but(flags=5).frame(), Super(tags=b"\x81\0" * 10).frame()]
    encoded = encode_frames(sent, FRAME_LIMIT_V2)
    drops = {DropReason.UNKNOWN_OFFLOAD: 1, DropReason.BAD_OFFLOAD_HEADER: 1}
    assert encoded == Encoded([], 0, 0, drops)


def test_segments_over_the_limit_are_left_out_one_by_one() -> None:
    encoded = encode_frames([Super(bytes(3000)).frame()], 1000)
    assert (encoded.frames, encoded.drops) == (1, {DropReason.OVER_PEER_LIMIT: 2})


def test_frame_limit_counts_an_offload_frame_without_its_header() -> None:
    frame = Super(bytes(9000)).frame()
    limit = len(frame)
    assert encode_frames([frame], limit, header_kinds(ALL_OFFLOADS)).data[:4] == b"\2VK2"
    assert encode_frames([frame], limit - 1, header_kinds(ALL_OFFLOADS)).data[:4] == MAGIC_BYTES
    block = control(2, bytes(10 + limit))
    for promised, error in ((limit, None), (limit - 1, f"a block of {limit + 10} bytes")):
        decoder = Decoder(Wire.V2, promised, offloads=ALL_OFFLOADS)
        blocks: list[Item] = []
        feed(decoder, HELLO_BLOCK, blocks)
        if error is None:
            feed(decoder, block, blocks)
            assert isinstance(blocks[1], OffloadFrame)
        else:
            with pytest.raises(RemoteProtocolError, match=error):
                feed(decoder, block, blocks)


def test_decoded_frames_stay_valid_during_later_calls() -> None:
    decoder = Decoder(Wire.V1)
    chunks = one_by_one(frame_block(b"first") + frame_block(b"second"))
    chunks.append(frame_block(b"third") + frame_block(b"fourth")[:9])
    # The frames may be views: they are copied only when the decoder has taken everything.
    pieces = [decoder.feed(chunk) for chunk in chunks]
    assert [plain(block) for piece in pieces for block in flat(piece)] == [
        {"frame": name.hex()} for name in (b"first", b"second", b"third")
    ]


def test_frame_that_holds_a_hello_is_a_frame() -> None:
    assert decoded(Wire.AUTO, frame_block(HELLO_BLOCK)) == [{"frame": HELLO_BLOCK.hex()}]


# --- control blocks -------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [0, 1, 2**63, 2**64 - 1])
def test_token_is_decoded_as_it_was_encoded(token: int) -> None:
    stream = HELLO_BLOCK + b"".join(encode_control(kind(token)) for kind in (Ack, Ping, Pong))
    assert decoded(Wire.V2, stream)[1:] == [{"ack": token}, {"ping": token}, {"pong": token}]


@pytest.mark.parametrize("token", [-1, 2**64])
def test_token_that_is_not_a_u64_is_not_encoded(token: int) -> None:
    for block in (Ack(token), Ping(token), Pong(token)):
        with pytest.raises(LocalProtocolError, match="u64"):
            encode_control(block)


@pytest.mark.parametrize("length", range(1, 8))
def test_ping_or_pong_of_another_length_is_an_error(length: int) -> None:
    for kind in (0x04, 0x05):
        outcome = replay(Wire.V2, [HELLO_BLOCK + control(kind, bytes(length))])
        assert outcome.error == f"a PING or PONG of {length} bytes; it has 8"


@pytest.mark.parametrize("length", [*range(1, 8), *range(9, 12)])
def test_ack_of_another_length_is_an_error(length: int) -> None:
    outcome = replay(Wire.V2, [HELLO_BLOCK + control(0x03, bytes(length))])
    assert outcome.error == f"an ACK of {length} bytes; 8 or 12 are allowed"


@pytest.mark.parametrize(("total", "at"), [(0, 0), (2**64 - 1, 2**32 - 1), (5, 2**31)])
def test_time_of_an_ack_is_decoded_as_it_was_encoded(total: int, at: int) -> None:
    stream = HELLO_BLOCK + encode_control(Ack(total, at))
    assert decoded(Wire.V2, stream)[1:] == [{"timed_ack": [total, at]}]


@pytest.mark.parametrize(("total", "at"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**32)])
def test_ack_that_does_not_fit_is_not_encoded(total: int, at: int) -> None:
    with pytest.raises(LocalProtocolError, match="u64 and a u32"):
        encode_control(Ack(total, at))


def test_long_reason_is_cut_at_200_characters_when_sent() -> None:
    assert encode_control(Bye("ä" * 200))[8:].decode() == "ä" * 200
    assert encode_control(Bye("ä" * 201))[8:].decode() == "ä" * 197 + "..."


@pytest.mark.parametrize("payload", [b"x" * 201, b"\x1b" * 60, b"\xff" * 4096, "ä".encode() * 2000])
def test_long_reason_is_cut_at_200_characters_when_shown(payload: bytes) -> None:
    (bye,) = Decoder(Wire.V2).feed(control(0x06, payload)).controls
    assert isinstance(bye, Bye)
    assert len(bye.reason) == 200
    assert bye.reason.endswith("...")
    assert bye.reason.isprintable()


KINDS = [
    (Offload.CSUM, 0x0001),
    (Offload.TSO4, 0x0101),
    (Offload.TSO6, 0x0401),
    (Offload.TSO4 | Offload.TSO_ECN, 0x8101),
    (Offload.TSO6 | Offload.TSO_ECN, 0x8401),
    (Offload.USO, 0x0501),
]


@pytest.mark.parametrize(("offload", "kind"), KINDS, ids=lambda value: repr(value))
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("bytewise", [False, True])
def test_offload_of_a_kind_that_was_not_offered_is_a_protocol_error(
    offload: Offload, kind: int, count: int, bytewise: bool
) -> None:
    block = control(2, kind.to_bytes(2, "little") + bytes(70))
    plain = frame_block(b"before")
    stream = HELLO_BLOCK + plain + block * count
    chunks = one_by_one(stream) if bytewise else [stream]

    def fed(offloads: Offload) -> tuple[int, str]:
        decoder = Decoder(Wire.V2, offloads=offloads)
        pieces = [decoder.feed(chunk) for chunk in chunks]
        frames = sum(len(batch) for piece in pieces for batch in piece.batches)
        return frames, str(pieces[-1].error or "")

    assert fed(Offload.CSUM | offload) == (1 + count, "")
    others = {one | Offload.CSUM for one, other in KINDS if other != kind}
    for given in others:
        if kind in header_kinds(given):
            continue
        frames, error = fed(given)
        assert frames == 1
        assert f"OFFLOAD of gso_type 0x{kind >> 8:02x}, which this side does not take" in error


def test_offload_of_an_unknown_kind_is_left_to_the_endpoint() -> None:
    for kind in (0x0000, 0x0002, 0x0201, 0xFFFF, 0x8501):
        stream = HELLO_BLOCK + control(2, kind.to_bytes(2, "little") + bytes(70))
        decoded = Decoder(Wire.V2, offloads=Offload.CSUM).feed(stream)
        assert decoded.error is None
        assert sum(map(len, decoded.batches)) == 1


def test_empty_reason_is_replaced_in_the_block() -> None:
    assert encode_control(Bye("")) == control(0x06, b"-")


def test_control_characters_of_a_received_reason_are_escaped() -> None:
    stream = control(0x06, b"bye\x1b[2J\n\xff" + b"z" * 4000)
    (block,) = decoded(Wire.V2, stream)
    assert block["bye"].startswith(r"bye\x1b[2J\n\xff")
    assert block["bye"].isprintable()
    assert len(block["bye"]) < 1050
