"""The codec under any frames, any chopping, and any garbage."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.blocks import Outcome, apart
from tests.support.streams import (
    PROMISES,
    V1_MAGIC,
    WIRES,
    chopped,
    chops,
    frames_to,
    garbage,
    hellos,
    in_small_pieces,
    later_controls,
    offload_frames,
    offloads,
    oracle_block,
    oracle_decode,
    oracle_encode,
    run,
    run_in_order,
    thoroughly,
    uniform_frames,
)
from vknet.counters import DropReason
from vknet.framing import (
    FRAME_LIMIT_V1,
    Ack,
    Bye,
    Control,
    Ping,
    Pong,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import OffloadFrame, header_kinds
from vknet.wire.hello import (
    Hello,
)


@thoroughly
@given(st.lists(frames_to(FRAME_LIMIT_V1), max_size=12), chops, WIRES)
def test_frames_in_any_pieces_are_decoded_unchanged(
    frames: list[bytes], sizes: list[int], wire: Wire
) -> None:
    encoded = encode_frames(frames, FRAME_LIMIT_V1)
    assert (encoded.frames, encoded.drops) == (len(frames), {})
    assert encoded.size == sum(map(len, frames))
    assert run(wire, 65664, chopped(encoded.data, sizes)) == Outcome([*frames])


@thoroughly
@given(st.lists(frames_to(300), max_size=8), st.integers(1, 20))
def test_frames_in_equal_pieces_are_decoded_unchanged(frames: list[bytes], size: int) -> None:
    stream = encode_frames(frames, FRAME_LIMIT_V1).data
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert run(Wire.V1, 65664, pieces) == Outcome([*frames])


@thoroughly
@given(hellos, st.lists(frames_to(65664) | later_controls | offload_frames, max_size=8), chops)
def test_v2_blocks_in_any_pieces_are_decoded_unchanged(
    hello: Hello, blocks: list[bytes | OffloadFrame | Ack | Ping | Pong | Bye], sizes: list[int]
) -> None:
    pieces = [encode_control(hello), *map(oracle_block, blocks)]
    outcome = run(Wire.AUTO, 65664, chopped(b"".join(pieces), sizes))
    assert outcome == Outcome(apart([hello, *blocks]))
    in_order = run_in_order(Wire.AUTO, 65664, pieces)
    assert in_order == Outcome([hello, *blocks])


@thoroughly
@given(hellos, st.lists(uniform_frames() | later_controls.map(lambda c: [c]), max_size=5), chops)
def test_uniform_batches_in_any_pieces_are_decoded_frame_by_frame(
    hello: Hello, groups: list[list[bytes | OffloadFrame | Control]], sizes: list[int]
) -> None:
    blocks = [block for group in groups for block in group]
    pieces = [encode_control(hello), *map(oracle_block, blocks)]
    outcome = run(Wire.AUTO, 65664, chopped(b"".join(pieces), sizes))
    assert outcome == Outcome(apart([hello, *blocks]))
    in_order = run_in_order(Wire.AUTO, 65664, pieces)
    assert in_order == Outcome([hello, *blocks])


@thoroughly
@given(
    uniform_frames(),
    st.sampled_from([23, 24, 60, 65664]),
    offloads.map(header_kinds),
)
def test_uniform_batch_is_encoded_like_its_frames(
    frames: list[bytes | OffloadFrame], limit: int, taken: frozenset[int]
) -> None:
    offload = isinstance(frames[0], OffloadFrame)
    datas = [bytes(f.data) if isinstance(f, OffloadFrame) else f for f in frames]
    batch = UniformBatch(datas, offload=offload)
    assert [*batch] == frames
    whole, single = encode_frames(batch, limit, taken), encode_frames(frames, limit, taken)
    assert (whole.data, *whole[1:]) == (single.data, *single[1:])


@thoroughly
@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 60))
def test_encoder_agrees_with_the_oracle(frames: list[bytes], limit: int) -> None:
    taken = [frame for frame in frames if 0 < len(frame) <= limit]
    encoded = encode_frames(frames, limit)
    assert encoded.data == oracle_encode(taken)
    assert encoded.frames == len(taken)
    empty, long = frames.count(b""), sum(len(frame) > limit for frame in frames)
    drops = {DropReason.EMPTY: empty, DropReason.OVER_PEER_LIMIT: long}
    assert encoded.drops == {reason: count for reason, count in drops.items() if count}


@thoroughly
@given(garbage, chops)
@example(oracle_encode([b"\0" * 8320]) + V1_MAGIC + (8321).to_bytes(4, "little"), [])
def test_decoder_agrees_with_the_oracle_on_anything(stream: bytes, sizes: list[int]) -> None:
    frames, rest = oracle_decode(stream)
    outcome = run(Wire.V1, 65664, chopped(stream, sizes))
    assert outcome.blocks == frames
    assert (outcome.error is not None) == (rest != b"")


@thoroughly
@given(WIRES, PROMISES, garbage)
def test_garbage_gives_blocks_or_an_error(wire: Wire, promised: int, stream: bytes) -> None:
    outcome = run(wire, promised, [stream])
    frames = [block for block in outcome.blocks if isinstance(block, bytes)]
    assert all(frames)
    assert all(len(frame) <= max(FRAME_LIMIT_V1, promised) for frame in frames)
    assert sum(isinstance(block, Hello) for block in outcome.blocks) <= 1
    assert outcome.error is None or outcome.error.isprintable()


@thoroughly
@given(WIRES, PROMISES, garbage, chops)
def test_pieces_do_not_change_the_decoded_blocks(
    wire: Wire, promised: int, stream: bytes, sizes: list[int]
) -> None:
    whole = run(wire, promised, [stream])
    pieces = run(wire, promised, chopped(stream, sizes))
    assert pieces.blocks == whole.blocks
    assert pieces.raised == whole.raised
    # The error for an invalid block shows the bytes received so far; all other texts are equal.
    for shown in ("the remote side began with", "what the peer sent is not a block"):
        if whole.error is not None and whole.error.startswith(shown):
            assert pieces.error is not None
            assert pieces.error.startswith(shown)
            return
    assert pieces.error == whole.error


@thoroughly
@given(WIRES, PROMISES, garbage, st.integers(0, 1000))
def test_truncated_stream_gives_a_prefix_of_its_blocks(
    wire: Wire, promised: int, stream: bytes, cut: int
) -> None:
    whole = run_in_order(wire, promised, in_small_pieces(stream))
    part = run_in_order(wire, promised, in_small_pieces(stream[:cut]))
    assert part.blocks == whole.blocks[: len(part.blocks)]
    assert run(wire, promised, [stream[:cut]]).blocks == apart(part.blocks)
