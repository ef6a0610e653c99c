"""The decoder at the edges: limits, errors, order, the end; docs/protocol.md has the vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.blocks import apart, feed
from tests.support.replaying import (
    FRAME,
    GREETING,
    HELLO_BLOCK,
    control,
    decoded,
    frame_block,
    header,
    one_by_one,
    plain,
    replay,
)
from vknet.errors import RemoteProtocolError
from vknet.framing import (
    FRAME_LIMIT_V1,
    Bye,
    Ping,
    Pong,
    Wire,
    encode_control,
)
from vknet.wire.decoder import Decoder
from vknet.wire.hello import HELLO_LIMIT

if TYPE_CHECKING:
    from tests.support.blocks import Item

# --- limits and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, FRAME_LIMIT_V1 + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("wire", Wire)
def test_length_out_of_range_is_refused_at_the_header(wire: Wire, length: int) -> None:
    decoder = Decoder(wire)
    blocks: list[Item] = []
    feed(decoder, header(length)[:7], blocks)
    assert decoder.held == 7
    with pytest.raises(
        RemoteProtocolError, match=f"a block of {length} bytes; from 1 to 8320 are allowed$"
    ):
        feed(decoder, header(length)[7:], blocks)
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
        assert outcome.error == (
            f"the peer sent a block of {length} bytes; from 1 to {limit} are allowed"
        )
        assert len(outcome.blocks) == 1
    outcome = replay(Wire.V2, [HELLO_BLOCK + header(limit, mark)], end=False)
    assert outcome.error is None
    assert outcome.held == 8


def test_hello_over_its_limit_is_refused_at_the_header() -> None:
    outcome = replay(Wire.AUTO, [header(HELLO_LIMIT + 1, b"\1VK2")])
    assert outcome.error == "the peer sent a block of 4097 bytes; from 1 to 4096 are allowed"
    padded = GREETING.to_json().ljust(HELLO_LIMIT)
    assert decoded(Wire.AUTO, control(1, padded)) == [plain(GREETING)]


def test_decoder_holds_only_the_unfinished_block() -> None:
    decoder = Decoder(Wire.V1)
    blocks: list[Item] = []
    block = frame_block(bytes(FRAME_LIMIT_V1))
    for size, chunk in enumerate(one_by_one(block[:-1]), 1):
        feed(decoder, chunk, blocks)
        assert decoder.held == size
    feed(decoder, block[-1:] + block * 3 + block[:5], blocks)
    assert decoder.held == 5
    assert len(blocks) == 4


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [header(0), b"not vknet at all", control(0x80, b"x")])
def test_error_is_final(bad: bytes) -> None:
    decoder = Decoder(Wire.V2)
    blocks: list[Item] = []
    with pytest.raises(RemoteProtocolError) as first:
        feed(decoder, HELLO_BLOCK + bad, blocks)
    assert len(blocks) == 1
    for again in (b"", frame_block(FRAME), HELLO_BLOCK, bad):
        with pytest.raises(RemoteProtocolError) as later:
            feed(decoder, again, blocks)
        assert later.value is first.value
    with pytest.raises(RemoteProtocolError) as at_the_end:
        decoder.end()
    assert at_the_end.value is first.value
    assert len(blocks) == 1
    assert decoder.held == 0


def test_error_at_the_end_of_the_stream_is_final() -> None:
    decoder = Decoder(Wire.V1)
    feed(decoder, frame_block(FRAME)[:20])
    with pytest.raises(RemoteProtocolError) as first:
        decoder.end()
    blocks: list[Item] = []
    with pytest.raises(RemoteProtocolError) as later:
        feed(decoder, frame_block(FRAME)[20:], blocks)
    assert later.value is first.value
    assert blocks == []


def test_blocks_before_an_error_are_delivered() -> None:
    stream = HELLO_BLOCK + frame_block(b"a") + encode_control(Ping(7)) + frame_block(b"b")
    expected = [plain(GREETING), {"frame": "61"}, {"ping": 7}, {"frame": "62"}]
    bad = stream + header(0)
    for chunks, blocks in (([bad], apart(expected)), (one_by_one(bad), expected)):
        outcome = replay(Wire.V2, chunks)
        assert outcome.blocks == blocks
        assert outcome.raised == "feed"


def test_output_of_a_shell_is_shown_with_advice() -> None:
    noise = b"\x1b[1mWelcome\x1b[0m to \xff\n" + b"x" * 100
    error = replay(Wire.AUTO, [noise]).error
    assert error is not None
    assert error.startswith(r'the remote side began with "\x1b[1mWelcome\x1b[0m to \xff\nx')
    assert "x" * 38 + '"' in error
    assert "x" * 50 not in error
    assert ".bashrc" in error
    assert error.isprintable()


def test_invalid_bytes_after_the_first_block_are_not_blamed_on_the_shell() -> None:
    error = replay(Wire.AUTO, [frame_block(FRAME) + b"oops, something else"]).error
    assert error == 'what the peer sent is not a block: "oops, something else"'


def test_unknown_critical_block_is_named_by_its_type() -> None:
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


def test_auto_accepts_hello_or_bye_only_as_the_first_block() -> None:
    assert decoded(Wire.AUTO, HELLO_BLOCK) == [plain(GREETING)]
    assert decoded(Wire.AUTO, encode_control(Bye("no"))) == [{"bye": "no"}]
    for late in (HELLO_BLOCK, encode_control(Bye("no"))):
        outcome = replay(Wire.AUTO, [frame_block(b"a") + late])
        assert outcome.blocks == [{"frame": "61"}]
        assert outcome.raised == "feed"


def test_auto_accepts_every_block_after_hello() -> None:
    stream = HELLO_BLOCK + encode_control(Ping(1)) + frame_block(b"a") + encode_control(Bye("x"))
    assert decoded(Wire.AUTO, stream)[1:] == [{"ping": 1}, {"frame": "61"}, {"bye": "x"}]


def test_v2_accepts_frames_before_hello() -> None:
    stream = frame_block(b"a") + frame_block(b"b") + HELLO_BLOCK + frame_block(b"c")
    kinds = [next(iter(block)) for block in decoded(Wire.V2, stream)]
    assert kinds == ["frame", "frame", "hello", "frame"]


def test_v2_accepts_a_bye_instead_of_a_hello() -> None:
    stream = frame_block(b"a") + encode_control(Bye("no TAP"))
    assert decoded(Wire.V2, stream) == [{"frame": "61"}, {"bye": "no TAP"}]


@pytest.mark.parametrize("wire", [Wire.AUTO, Wire.V2])
def test_second_hello_ends_the_link(wire: Wire) -> None:
    outcome = replay(wire, [HELLO_BLOCK + frame_block(b"a") + HELLO_BLOCK])
    assert outcome.error == "the peer sent a second HELLO"
    assert len(outcome.blocks) == 2


def test_unknown_blocks_below_the_bound_are_skipped() -> None:
    unknown = b"".join(control(kind, b"?" * 9) for kind in (0x00, 0x07, 0x7F))
    assert decoded(Wire.V2, HELLO_BLOCK + unknown + frame_block(b"a"))[1:] == [{"frame": "61"}]


# --- the end of the stream ------------------------------------------------------------------------


@pytest.mark.parametrize("wire", Wire)
def test_end_between_two_blocks_is_not_an_error(wire: Wire) -> None:
    decoder = Decoder(wire)
    decoder.end()
    blocks: list[Item] = []
    feed(decoder, frame_block(FRAME), blocks)
    decoder.end()
    assert len(blocks) == 1


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 67])
def test_error_for_an_end_inside_a_block_names_the_bytes_received(cut: int) -> None:
    stream = frame_block(b"a") + frame_block(FRAME)[:cut]
    for chunks in ([stream], one_by_one(stream)):
        outcome = replay(Wire.V1, chunks)
        assert outcome.error == f"the stream ended inside a block, {cut} bytes into it"
        assert outcome.raised == "end"


def test_error_for_an_end_after_invalid_bytes_shows_them() -> None:
    outcome = replay(Wire.AUTO, [b"motd\n"])
    assert outcome.raised == "end"
    assert outcome.error is not None
    assert outcome.error.startswith(r'the remote side began with "motd\n", which is not vknet')
