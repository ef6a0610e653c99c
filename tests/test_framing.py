"""The codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.blocks import singly
from tests.replaying import (
    FRAME,
    GREETING,
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
from tests.superframes import Super, checksums_hold
from vknet.decoding import Decoder
from vknet.errors import LocalProtocolError, RemoteProtocolError
from vknet.framing import (
    BYE_LIMIT,
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    MAGIC,
    Ack,
    Block,
    Bye,
    Ping,
    Pong,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.hello import HELLO_LIMIT
from vknet.offload import DEFAULT_OFFLOADS, OFFLOADS, Misfit, OffloadFrame, kinds

if TYPE_CHECKING:
    from vknet.offload import AnyFrame

# --- frames ---------------------------------------------------------------------------------------


def test_the_magic_and_the_limits_are_those_of_the_document() -> None:
    assert MAGIC == 0x5A69782B
    assert FRAME_LIMIT_V1 == 8320
    assert FRAME_LIMIT_V2 == 65664
    assert encode_frames([b"\xaa"], FRAME_LIMIT_V1).data == b"\x2b\x78\x69\x5a\1\0\0\0\xaa"


@pytest.mark.parametrize("wire", Wire)
def test_the_longest_frame_before_hello_comes_through(wire: Wire) -> None:
    frame = b"\x55" * FRAME_LIMIT_V1
    block = frame_block(frame)
    assert block[:8] == bytes.fromhex("2b78695a80200000")
    assert decoded(wire, block) == [{"frame": frame.hex()}]


@pytest.mark.parametrize("wire", [Wire.AUTO, Wire.V2])
def test_a_hello_lifts_the_limit_of_what_comes_after_it(wire: Wire) -> None:
    frame = b"\x55" * FRAME_LIMIT_V2
    outcome = replay(wire, [HELLO_BLOCK + frame_block(frame)])
    assert outcome.error is None
    assert outcome.blocks[1] == {"frame": frame.hex()}


def test_the_limit_after_hello_is_the_one_this_side_promised() -> None:
    decoder = Decoder(Wire.V2, frame_limit=100)
    blocks: list[Block] = []
    decoder.feed(HELLO_BLOCK + frame_block(bytes(100)), blocks)
    with pytest.raises(RemoteProtocolError, match=r"a block of 101 bytes .* 1 to 100$"):
        decoder.feed(header(101), blocks)
    assert len(blocks) == 2


def test_the_encoder_leaves_out_empty_and_oversized_frames_and_counts_them() -> None:
    encoded = encode_frames([b"", b"abc", bytes(11), bytes(10)], 10)
    assert encoded.data == frame_block(b"abc") + frame_block(bytes(10))
    assert (encoded.frames, encoded.size, encoded.refused) == (2, 13, 2)


def test_the_encoder_makes_nothing_of_nothing() -> None:
    assert encode_frames([], 10) == ([], 0, 0, 0, ())


def test_the_encoder_makes_one_part_of_small_frames_and_copies_no_large_ones() -> None:
    small, large = bytes(60), bytes(60_000)
    assert encode_frames([small] * 100, FRAME_LIMIT_V2).parts == [100 * frame_block(small)]
    mixed = encode_frames([large, small, large], FRAME_LIMIT_V2)
    assert [part for part in mixed.parts if part is large] == [large, large]
    assert mixed.data == frame_block(large) + frame_block(small) + frame_block(large)


def test_the_encoder_takes_views_as_well_as_bytes() -> None:
    view = memoryview(b"xxabcxx")[2:5]
    assert encode_frames([view], 10).data == frame_block(b"abc")


def test_offload_frames_are_carried_as_they_are() -> None:
    sent: list[AnyFrame] = [b"plain", Super().frame(), Super(size=0).frame()]
    encoded = encode_frames(sent, FRAME_LIMIT_V2, kinds(DEFAULT_OFFLOADS))
    assert (encoded.frames, encoded.refused, encoded.misfits) == (3, 0, ())
    assert encoded.size == sum(map(len, sent))
    for chunks in ([encoded.data], one_by_one(encoded.data)):
        blocks: list[Block] = []
        decoder = Decoder(Wire.V2, offload=True)
        decoder.feed(HELLO_BLOCK, blocks)
        for chunk in chunks:
            decoder.feed(chunk, blocks)
        assert blocks[1:] == sent


def test_what_the_peer_does_not_take_is_done_before_it_is_sent() -> None:
    four, six = (Super(bytes(3000), version=version).frame() for version in (4, 6))
    sent: list[AnyFrame] = [four, six, b"last"]
    encoded = encode_frames(sent, FRAME_LIMIT_V1, kinds(["csum", "tso6"]))
    assert encoded.frames == 5
    decoder = Decoder(Wire.V2, offload=True)
    blocks: list[Block] = []
    decoder.feed(HELLO_BLOCK + encoded.data, blocks)
    *cut, whole, last = blocks[1:]
    assert all(isinstance(block, memoryview) and checksums_hold(bytes(block)) for block in cut)
    assert whole == six
    assert last == b"last"
    assert encoded.size == sum(len(f) for f in cut if isinstance(f, memoryview)) + len(six) + 4


def test_an_offload_frame_that_fits_nothing_is_left_out_and_told() -> None:
    sent = [Super().but(flags=5).frame(), Super(tags=b"\x81\0" * 10).frame()]
    encoded = encode_frames(sent, FRAME_LIMIT_V2)
    assert encoded == ([], 0, 0, 0, (Misfit.UNKNOWN, Misfit.HEADER))


def test_segments_over_the_limit_are_left_out_one_by_one() -> None:
    encoded = encode_frames([Super(bytes(3000)).frame()], 1000)
    assert (encoded.frames, encoded.refused) == (1, 2)


def test_the_frame_limit_counts_an_offload_frame_without_its_header() -> None:
    frame = Super(bytes(9000)).frame()
    limit = len(frame)
    assert encode_frames([frame], limit, kinds(OFFLOADS)).data[:4] == b"\2VK2"
    assert encode_frames([frame], limit - 1, kinds(OFFLOADS)).data[:4] == MAGIC_BYTES
    block = control(2, bytes(10 + limit))
    for promised, error in ((limit, None), (limit - 1, f"a block of {limit + 10} bytes")):
        decoder = Decoder(Wire.V2, promised, offload=True)
        blocks: list[Block] = []
        decoder.feed(HELLO_BLOCK, blocks)
        if error is None:
            decoder.feed(block, blocks)
            assert isinstance(blocks[1], OffloadFrame)
        else:
            with pytest.raises(RemoteProtocolError, match=error):
                decoder.feed(block, blocks)


def test_frames_stay_good_while_the_decoder_goes_on() -> None:
    decoder = Decoder(Wire.V1)
    blocks: list[Block] = []
    for chunk in one_by_one(frame_block(b"first") + frame_block(b"second")):
        decoder.feed(chunk, blocks)
    decoder.feed(frame_block(b"third") + frame_block(b"fourth")[:9], blocks)
    assert [plain(b) for b in singly(blocks)] == [
        {"frame": name.hex()} for name in (b"first", b"second", b"third")
    ]


def test_a_frame_that_holds_a_hello_is_a_frame() -> None:
    assert decoded(Wire.AUTO, frame_block(HELLO_BLOCK)) == [{"frame": HELLO_BLOCK.hex()}]


# --- limits and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, FRAME_LIMIT_V1 + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("wire", Wire)
def test_a_length_out_of_range_is_refused_at_the_header(wire: Wire, length: int) -> None:
    decoder = Decoder(wire)
    blocks: list[Block] = []
    decoder.feed(header(length)[:7], blocks)
    assert decoder.held == 7
    with pytest.raises(RemoteProtocolError, match=f"a block of {length} bytes .* 1 to 8320$"):
        decoder.feed(header(length)[7:], blocks)
    assert decoder.held == 0
    assert blocks == []


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(0x03, 12), (0x04, 8), (0x05, 8), (0x06, 4096), (0x7F, 4096)],
)
def test_every_control_block_has_its_limit(kind: int, limit: int) -> None:
    mark = bytes([kind]) + b"VK2"
    for length in (0, limit + 1, 2**32 - 1):
        outcome = replay(Wire.V2, [HELLO_BLOCK + header(length, mark)])
        assert outcome.error == f"a block of {length} bytes from the peer; it may have 1 to {limit}"
        assert len(outcome.blocks) == 1
    outcome = replay(Wire.V2, [HELLO_BLOCK + header(limit, mark)], end=False)
    assert outcome.error is None
    assert outcome.held == 8


def test_a_hello_over_its_limit_is_refused_at_the_header() -> None:
    outcome = replay(Wire.AUTO, [header(HELLO_LIMIT + 1, b"\1VK2")])
    assert outcome.error == "a block of 4097 bytes from the peer; it may have 1 to 4096"
    padded = GREETING.to_json().ljust(HELLO_LIMIT)
    assert decoded(Wire.AUTO, control(1, padded)) == [plain(GREETING)]


def test_what_is_held_is_the_unfinished_block_and_nothing_else() -> None:
    decoder = Decoder(Wire.V1)
    blocks: list[Block] = []
    block = frame_block(bytes(FRAME_LIMIT_V1))
    for size, chunk in enumerate(one_by_one(block[:-1]), 1):
        decoder.feed(chunk, blocks)
        assert decoder.held == size
    decoder.feed(block[-1:] + block * 3 + block[:5], blocks)
    assert decoder.held == 5
    assert len(blocks) == 4


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [header(0), b"not vknet at all", control(0x80, b"x")])
def test_an_error_is_final(bad: bytes) -> None:
    decoder = Decoder(Wire.V2)
    blocks: list[Block] = []
    with pytest.raises(RemoteProtocolError) as first:
        decoder.feed(HELLO_BLOCK + bad, blocks)
    assert len(blocks) == 1
    for again in (b"", frame_block(FRAME), HELLO_BLOCK, bad):
        with pytest.raises(RemoteProtocolError) as later:
            decoder.feed(again, blocks)
        assert later.value is first.value
    with pytest.raises(RemoteProtocolError) as at_the_end:
        decoder.end()
    assert at_the_end.value is first.value
    assert len(blocks) == 1
    assert decoder.held == 0


def test_an_error_at_the_end_is_final() -> None:
    decoder = Decoder(Wire.V1)
    decoder.feed(frame_block(FRAME)[:20], [])
    with pytest.raises(RemoteProtocolError) as first:
        decoder.end()
    blocks: list[Block] = []
    with pytest.raises(RemoteProtocolError) as later:
        decoder.feed(frame_block(FRAME)[20:], blocks)
    assert later.value is first.value
    assert blocks == []


def test_blocks_before_an_error_are_delivered() -> None:
    stream = HELLO_BLOCK + frame_block(b"a") + encode_control(Ping(7)) + frame_block(b"b")
    expected = [plain(GREETING), {"frame": "61"}, {"ping": 7}, {"frame": "62"}]
    for chunks in ([stream + header(0)], one_by_one(stream + header(0))):
        outcome = replay(Wire.V2, chunks)
        assert outcome.blocks == expected
        assert outcome.raised == "feed"


def test_shell_noise_is_shown_with_what_to_do_about_it() -> None:
    noise = b"\x1b[1mWelcome\x1b[0m to \xff\n" + b"x" * 100
    error = replay(Wire.AUTO, [noise]).error
    assert error is not None
    assert error.startswith(r'the remote side began with "\x1b[1mWelcome\x1b[0m to \xff\nx')
    assert "x" * 38 + '"' in error
    assert "x" * 50 not in error
    assert ".bashrc" in error
    assert error.isprintable()


def test_noise_after_the_first_block_does_not_blame_the_shell() -> None:
    error = replay(Wire.AUTO, [frame_block(FRAME) + b"oops, something else"]).error
    assert error == 'what the peer sent is not a block: "oops, something else"'


def test_a_critical_block_says_its_type() -> None:
    error = replay(Wire.V2, [HELLO_BLOCK + control(0xFE, b"x")]).error
    assert error is not None
    assert "0xfe" in error
    assert "too old" in error


# --- which block may come when --------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [HELLO_BLOCK, encode_control(Ping(1)), encode_control(Pong(1)), encode_control(Bye("x"))],
    ids=["hello", "ping", "pong", "bye"],
)
def test_v1_refuses_every_control_block(block: bytes) -> None:
    outcome = replay(Wire.V1, [block])
    assert outcome.blocks == []
    assert outcome.raised == "feed"
    after_a_frame = replay(Wire.V1, [frame_block(b"a") + block])
    assert after_a_frame.blocks == [{"frame": "61"}]
    assert after_a_frame.raised == "feed"


@pytest.mark.parametrize("wire", [Wire.AUTO, Wire.V2])
@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03, 0x04, 0x05, 0x07, 0x7F, 0x80, 0xFF])
def test_nothing_but_hello_and_bye_may_come_before_hello(wire: Wire, kind: int) -> None:
    outcome = replay(wire, [control(kind, bytes(8))])
    assert outcome.blocks == []
    assert outcome.error is not None
    assert outcome.error.startswith("the remote side began with")


def test_auto_takes_hello_or_bye_as_the_first_block_only() -> None:
    assert decoded(Wire.AUTO, HELLO_BLOCK) == [plain(GREETING)]
    assert decoded(Wire.AUTO, encode_control(Bye("no"))) == [{"bye": "no"}]
    for late in (HELLO_BLOCK, encode_control(Bye("no"))):
        outcome = replay(Wire.AUTO, [frame_block(b"a") + late])
        assert outcome.blocks == [{"frame": "61"}]
        assert outcome.raised == "feed"


def test_auto_takes_everything_after_hello() -> None:
    stream = HELLO_BLOCK + encode_control(Ping(1)) + frame_block(b"a") + encode_control(Bye("x"))
    assert decoded(Wire.AUTO, stream)[1:] == [{"ping": 1}, {"frame": "61"}, {"bye": "x"}]


def test_v2_takes_frames_before_hello() -> None:
    stream = frame_block(b"a") + frame_block(b"b") + HELLO_BLOCK + frame_block(b"c")
    kinds = [next(iter(block)) for block in decoded(Wire.V2, stream)]
    assert kinds == ["frame", "frame", "hello", "frame"]


def test_v2_takes_a_bye_instead_of_a_hello() -> None:
    stream = frame_block(b"a") + encode_control(Bye("no TAP"))
    assert decoded(Wire.V2, stream) == [{"frame": "61"}, {"bye": "no TAP"}]


@pytest.mark.parametrize("wire", [Wire.AUTO, Wire.V2])
def test_a_second_hello_ends_the_link(wire: Wire) -> None:
    outcome = replay(wire, [HELLO_BLOCK + frame_block(b"a") + HELLO_BLOCK])
    assert outcome.error == "the peer sent a second HELLO"
    assert len(outcome.blocks) == 2


def test_unknown_blocks_below_the_bound_are_skipped() -> None:
    unknown = b"".join(control(kind, b"?" * 9) for kind in (0x00, 0x07, 0x7F))
    assert decoded(Wire.V2, HELLO_BLOCK + unknown + frame_block(b"a"))[1:] == [{"frame": "61"}]


# --- the end of the stream ------------------------------------------------------------------------


@pytest.mark.parametrize("wire", Wire)
def test_the_end_on_a_boundary_is_no_error(wire: Wire) -> None:
    decoder = Decoder(wire)
    decoder.end()
    blocks: list[Block] = []
    decoder.feed(frame_block(FRAME), blocks)
    decoder.end()
    assert len(blocks) == 1


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 67])
def test_the_end_inside_a_block_says_how_far_it_got(cut: int) -> None:
    stream = frame_block(b"a") + frame_block(FRAME)[:cut]
    for chunks in ([stream], one_by_one(stream)):
        outcome = replay(Wire.V1, chunks)
        assert outcome.error == f"the stream ended inside a block, {cut} bytes into it"
        assert outcome.raised == "end"


def test_the_end_after_a_little_noise_shows_the_noise() -> None:
    outcome = replay(Wire.AUTO, [b"motd\n"])
    assert outcome.raised == "end"
    assert outcome.error is not None
    assert outcome.error.startswith(r'the remote side began with "motd\n", which is not vknet')


# --- control blocks -------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [0, 1, 2**63, 2**64 - 1])
def test_a_token_comes_back_as_it_was(token: int) -> None:
    stream = HELLO_BLOCK + b"".join(encode_control(kind(token)) for kind in (Ack, Ping, Pong))
    assert decoded(Wire.V2, stream)[1:] == [{"ack": token}, {"ping": token}, {"pong": token}]


@pytest.mark.parametrize("token", [-1, 2**64])
def test_a_token_that_is_no_u64_is_not_sent(token: int) -> None:
    for block in (Ack(token), Ping(token), Pong(token)):
        with pytest.raises(LocalProtocolError, match="u64"):
            encode_control(block)


@pytest.mark.parametrize("length", range(1, 8))
def test_a_number_of_another_length_ends_the_link(length: int) -> None:
    for kind in (0x04, 0x05):
        outcome = replay(Wire.V2, [HELLO_BLOCK + control(kind, bytes(length))])
        assert outcome.error == f"a PING or PONG of {length} bytes, not 8"


@pytest.mark.parametrize("length", [*range(1, 8), *range(9, 12)])
def test_an_ack_of_another_length_ends_the_link(length: int) -> None:
    outcome = replay(Wire.V2, [HELLO_BLOCK + control(0x03, bytes(length))])
    assert outcome.error == f"an ACK of {length} bytes, neither 8 nor 12"


@pytest.mark.parametrize(("total", "at"), [(0, 0), (2**64 - 1, 2**32 - 1), (5, 2**31)])
def test_the_time_of_an_ack_comes_back_as_it_was(total: int, at: int) -> None:
    stream = HELLO_BLOCK + encode_control(Ack(total, at))
    assert decoded(Wire.V2, stream)[1:] == [{"timed_ack": [total, at]}]


@pytest.mark.parametrize(("total", "at"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**32)])
def test_an_ack_that_does_not_fit_is_not_sent(total: int, at: int) -> None:
    with pytest.raises(LocalProtocolError, match="u64 and a u32"):
        encode_control(Ack(total, at))


def test_a_long_reason_is_cut_between_characters() -> None:
    block = encode_control(Bye("x" + "ä" * BYE_LIMIT))
    payload = block[8:]
    assert len(payload) == BYE_LIMIT - 1
    assert payload.decode() == "x" + "ä" * 511


def test_an_empty_reason_still_makes_a_block() -> None:
    assert encode_control(Bye("")) == control(0x06, b"-")


def test_a_reason_from_a_stranger_cannot_reach_the_terminal() -> None:
    stream = control(0x06, b"bye\x1b[2J\n\xff" + b"z" * 4000)
    (block,) = decoded(Wire.V2, stream)
    assert block["bye"].startswith(r"bye\x1b[2J\n\xff")
    assert block["bye"].isprintable()
    assert len(block["bye"]) < 1050
