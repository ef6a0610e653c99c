"""The codec under any frames, any chopping, and any garbage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.blocks import singly
from vknet.decoding import SKIP_LIMIT, Decoder
from vknet.errors import RemoteProtocolError
from vknet.framing import (
    FRAME_LIMIT_V1,
    HEADER_SIZE,
    Ack,
    Block,
    Bye,
    Control,
    Ping,
    Pong,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.hello import (
    HELLO_LIMIT,
    MTU_MAX,
    MTU_MIN,
    TIMEOUT_MAX,
    TIMEOUT_MIN,
    WINDOW_MAX,
    Hello,
    agree_mtu,
)
from vknet.offload import OFFLOADS, OffloadFrame, kinds
from vknet.train import Train

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b"+xiZ"
CONTROL_LIMIT: Final = max(HELLO_LIMIT, SKIP_LIMIT)
PROMISES: Final = st.sampled_from([1, 7, 100, FRAME_LIMIT_V1, 65664])
WIRES: Final = st.sampled_from(Wire)

thoroughly = settings(deadline=None, max_examples=200)


# --- an oracle, which knows nothing of the codec --------------------------------------------------


def oracle_encode(frames: Sequence[bytes]) -> bytes:
    return b"".join(MAGIC + len(f).to_bytes(4, "little") + f for f in frames)


def oracle_block(block: bytes | OffloadFrame | Control) -> bytes:
    if isinstance(block, OffloadFrame):
        return b"\2VK2" + len(block.data).to_bytes(4, "little") + block.data
    return oracle_encode([block]) if isinstance(block, bytes) else encode_control(block)


def oracle_decode(data: bytes) -> tuple[list[bytes], bytes]:
    """The frames of a v1 stream, and what is left where it stops making sense."""
    out: list[bytes] = []
    while data[:4] == MAGIC and 0 < (n := int.from_bytes(data[4:8], "little")) <= len(data) - 8:
        if n > 8320:
            break
        out, data = [*out, data[8 : 8 + n]], data[8 + n :]
    return out, data


# --- what streams are made of ---------------------------------------------------------------------


def frames_to(limit: int) -> st.SearchStrategy[bytes]:
    """Frames of any length up to the limit; the ends of the range more often than by chance."""
    small = st.binary(min_size=1, max_size=min(limit, 80))
    length = st.one_of(st.integers(1, limit), st.sampled_from([limit, max(1, limit - 1)]))
    return st.one_of(small, st.builds(bytes.__mul__, st.binary(min_size=1, max_size=1), length))


names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=150).filter(
    str.isprintable
)
hellos = st.builds(
    Hello,
    program=names.map(lambda s: s[:100]),
    endpoint=names.map(lambda s: s[:100]),
    frame_limit=st.integers(1, 2**31),
    mtu=st.none() | st.integers(MTU_MIN, MTU_MAX),
    mtu_fixed=st.booleans(),
    timeout=st.floats(TIMEOUT_MIN, TIMEOUT_MAX),
    wire=st.integers(2, 2**31),
    offloads=st.frozensets(st.sampled_from(OFFLOADS)),
    window=st.none() | st.integers(0, WINDOW_MAX),
)
reasons = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=200).filter(
    lambda s: s.isprintable() and s != ""
)
tokens = st.integers(0, 2**64 - 1)
later_controls = st.one_of(
    st.builds(Ack, tokens),
    st.builds(Ping, tokens),
    st.builds(Pong, tokens),
    st.builds(Bye, reasons),
)
offload_frames = st.builds(
    OffloadFrame,
    st.one_of(
        st.binary(min_size=24, max_size=80),
        st.sampled_from([24, 8330, 8331, 65673, 65674]).map(bytes),
    ),
)


@st.composite
def trains(draw: st.DrawFn) -> list[bytes | OffloadFrame]:
    """Frames of one length and of one kind, about as many as make a train, or two."""
    data = draw(st.binary(min_size=24, max_size=80))
    if draw(st.booleans()):
        # A kind that a peer may take.
        data = b"\1\0" + data[2:]
    count = draw(st.sampled_from([1, 2, 15, 16, 17, 40, 255, 256, 257, 600]))
    datas = [data[:-2] + number.to_bytes(2, "little") for number in range(count)]
    return [*map(OffloadFrame, datas)] if draw(st.booleans()) else [*datas]


def nearly_blocks() -> st.SearchStrategy[bytes]:
    """Headers that are right, or almost, and payloads that are long enough, or almost."""
    mark = st.one_of(
        st.just(MAGIC),
        st.integers(0, 255).map(lambda kind: bytes([kind]) + b"VK2"),
        st.sampled_from(
            [b"\1VK2", b"\2VK2", b"\3VK2", b"\4VK2", b"\6VK2", b"ZixK", b"+xi[", b"\1VK3"]
        ),
    )
    edges = [0, 1, 7, 8, 9, 100, 101, 4095, 4096, 4097, 8319, 8320, 8321, 65664, 65665, 2**32 - 1]
    length = st.sampled_from(edges) | st.integers(0, 40)
    off_by = st.sampled_from([0, 0, 0, 0, -1, 1])

    def build(mark: bytes, length: int, off_by: int) -> bytes:
        payload = bytes(max(0, min(length, 70_000) + off_by))
        return mark + length.to_bytes(4, "little") + payload

    return st.one_of(
        st.builds(build, mark, length, off_by),
        st.builds(encode_control, hellos),
        st.builds(encode_control, later_controls),
        st.binary(min_size=1, max_size=40).map(lambda f: oracle_encode([f])),
        st.binary(max_size=12),
    )


garbage = st.one_of(
    st.binary(max_size=200),
    st.lists(nearly_blocks(), max_size=6).map(b"".join),
    # What follows a greeting is where most can go wrong.
    st.tuples(st.builds(encode_control, hellos), st.lists(nearly_blocks(), max_size=5)).map(
        lambda parts: parts[0] + b"".join(parts[1])
    ),
)
chops = st.lists(st.integers(1, 20) | st.integers(1, 10_000), max_size=30)


def chopped(stream: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The stream in pieces of these sizes, and the rest of it."""
    cuts = [0, *accumulate(sizes), len(stream)]
    return [stream[a:b] for a, b in pairwise(cuts) if a < len(stream) or b > a]


@dataclass
class Outcome:
    """What a decoder made of a stream: no memoryviews, so that outcomes compare."""

    blocks: list[bytes | OffloadFrame | Control]
    error: str | None
    where: str | None


def run(wire: Wire, promised: int, chunks: Sequence[bytes]) -> Outcome:
    """Decode, and see that nothing is raised but what may be, and no more held than may be."""
    decoder = Decoder(wire, promised, offload=True)
    blocks: list[Block] = []
    error: str | None = None
    where: str | None = None
    try:
        for chunk in chunks:
            decoder.feed(chunk, blocks)
            greeted = any(isinstance(block, Hello) for block in blocks)
            frame_limit = promised + 10 if greeted else FRAME_LIMIT_V1
            assert decoder.held < HEADER_SIZE + max(frame_limit, CONTROL_LIMIT)
    except RemoteProtocolError as exc:
        error, where = str(exc), "feed"
    else:
        try:
            decoder.end()
        except RemoteProtocolError as exc:
            error, where = str(exc), "end"
    assert decoder.held == 0
    return Outcome([*singly(blocks)], error, where)


# --- what has to hold -----------------------------------------------------------------------------


@thoroughly
@given(st.lists(frames_to(FRAME_LIMIT_V1), max_size=12), chops, WIRES)
def test_any_frames_through_any_chopping_come_out_the_same(
    frames: list[bytes], sizes: list[int], wire: Wire
) -> None:
    encoded = encode_frames(frames, FRAME_LIMIT_V1)
    assert (encoded.frames, encoded.refused) == (len(frames), 0)
    assert encoded.size == sum(map(len, frames))
    assert run(wire, 65664, chopped(encoded.data, sizes)) == Outcome([*frames], None, None)


@thoroughly
@given(st.lists(frames_to(300), max_size=8), st.integers(1, 20))
def test_frames_in_equal_pieces_come_out_the_same(frames: list[bytes], size: int) -> None:
    stream = encode_frames(frames, FRAME_LIMIT_V1).data
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert run(Wire.V1, 65664, pieces) == Outcome([*frames], None, None)


@thoroughly
@given(hellos, st.lists(frames_to(65664) | later_controls | offload_frames, max_size=8), chops)
def test_any_blocks_of_v2_through_any_chopping_come_out_the_same(
    hello: Hello, blocks: list[bytes | OffloadFrame | Ack | Ping | Pong | Bye], sizes: list[int]
) -> None:
    stream = encode_control(hello) + b"".join(map(oracle_block, blocks))
    outcome = run(Wire.AUTO, 65664, chopped(stream, sizes))
    assert outcome == Outcome([hello, *blocks], None, None)


@thoroughly
@given(hellos, st.lists(trains() | later_controls.map(lambda c: [c]), max_size=5), chops)
def test_trains_through_any_chopping_come_out_frame_by_frame(
    hello: Hello, groups: list[list[bytes | OffloadFrame | Control]], sizes: list[int]
) -> None:
    blocks = [block for group in groups for block in group]
    stream = encode_control(hello) + b"".join(map(oracle_block, blocks))
    outcome = run(Wire.AUTO, 65664, chopped(stream, sizes))
    assert outcome == Outcome([hello, *blocks], None, None)


@thoroughly
@given(
    trains(),
    st.sampled_from([23, 24, 60, 65664]),
    st.sets(st.sampled_from(list(OFFLOADS))).map(kinds),
)
def test_a_train_is_encoded_as_its_frames_are(
    frames: list[bytes | OffloadFrame], limit: int, taken: frozenset[int]
) -> None:
    offload = isinstance(frames[0], OffloadFrame)
    datas = [bytes(f.data) if isinstance(f, OffloadFrame) else f for f in frames]
    train = Train(datas, offload=offload)
    assert [*train] == frames
    whole, single = encode_frames(train, limit, taken), encode_frames(frames, limit, taken)
    assert (whole.data, *whole[1:]) == (single.data, *single[1:])


@thoroughly
@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 60))
def test_the_encoder_agrees_with_the_oracle(frames: list[bytes], limit: int) -> None:
    taken = [frame for frame in frames if 0 < len(frame) <= limit]
    encoded = encode_frames(frames, limit)
    assert encoded.data == oracle_encode(taken)
    assert encoded.frames == len(taken)
    assert encoded.refused == len(frames) - len(taken)


@thoroughly
@given(garbage, chops)
@example(oracle_encode([b"\0" * 8320]) + MAGIC + (8321).to_bytes(4, "little"), [])
def test_the_decoder_agrees_with_the_oracle_on_anything(stream: bytes, sizes: list[int]) -> None:
    frames, rest = oracle_decode(stream)
    outcome = run(Wire.V1, 65664, chopped(stream, sizes))
    assert outcome.blocks == frames
    assert (outcome.error is not None) == (rest != b"")


@thoroughly
@given(WIRES, PROMISES, garbage)
def test_garbage_ends_in_an_error_or_in_blocks_and_nothing_else(
    wire: Wire, promised: int, stream: bytes
) -> None:
    outcome = run(wire, promised, [stream])
    frames = [block for block in outcome.blocks if isinstance(block, bytes)]
    assert all(frames)
    assert all(len(frame) <= max(FRAME_LIMIT_V1, promised) for frame in frames)
    assert sum(isinstance(block, Hello) for block in outcome.blocks) <= 1
    assert outcome.error is None or outcome.error.isprintable()


@thoroughly
@given(WIRES, PROMISES, garbage, chops)
def test_chopping_changes_nothing_about_what_comes_out(
    wire: Wire, promised: int, stream: bytes, sizes: list[int]
) -> None:
    whole = run(wire, promised, [stream])
    pieces = run(wire, promised, chopped(stream, sizes))
    assert pieces.blocks == whole.blocks
    assert pieces.where == whole.where
    # Of what is no block at all an error shows what has come by then; all else reads the same.
    for shown in ("the remote side began with", "what the peer sent is not a block"):
        if whole.error is not None and whole.error.startswith(shown):
            assert pieces.error is not None
            assert pieces.error.startswith(shown)
            return
    assert pieces.error == whole.error


@thoroughly
@given(WIRES, PROMISES, garbage, st.integers(0, 1000))
def test_a_stream_cut_short_brings_a_prefix_of_its_blocks(
    wire: Wire, promised: int, stream: bytes, cut: int
) -> None:
    whole = run(wire, promised, [stream])
    part = run(wire, promised, [stream[:cut]])
    assert part.blocks == whole.blocks[: len(part.blocks)]


# --- HELLO ----------------------------------------------------------------------------------------

no_json = st.sampled_from([float("nan"), float("inf"), float("-inf")])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
keys = st.sampled_from([*json.loads(Hello("", "", 1, None, mtu_fixed=False, timeout=1).to_json())])
near_numbers = st.sampled_from([0, 1, 1.5, 2, 67, 68, 65521, 65522, 86400, 86400.5, 2**31, -1])


def changed(hello: Hello, changes: dict[str, Any], gone: set[str]) -> bytes:
    values = json.loads(hello.to_json()) | changes
    return json.dumps({key: v for key, v in values.items() if key not in gone}).encode()


payloads = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=50).map(lambda s: s.encode("utf-8", "surrogatepass")),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        changed,
        hellos,
        st.dictionaries(keys, json_values | near_numbers | no_json, max_size=3),
        st.sets(keys, max_size=2),
    ),
)


def read_or_refused(payload: bytes) -> Hello | None:
    """What a HELLO says; None if it is refused, in one printable line."""
    message = ""
    try:
        return Hello.from_json(payload)
    except RemoteProtocolError as exc:
        message = str(exc)
    assert message.isprintable()
    assert message.startswith("the peer's HELLO ")
    return None


@thoroughly
@given(hellos)
def test_a_hello_comes_back_as_it_was(hello: Hello) -> None:
    assert Hello.from_json(hello.to_json()) == hello


@thoroughly
@given(payloads)
@example(b"[" * HELLO_LIMIT)
@example(b'{"a":' * 800)
@example(b"9" * HELLO_LIMIT)
@example(b'{"wire":' + b"9" * 4000 + b"}")
@example(b'{"wire":1e999,"program":"","endpoint":"","frame_limit":1,"timeout":1}')
@example(b"\xff\xfe")
@example(b"")
def test_any_hello_is_read_or_refused_and_what_is_read_makes_sense(payload: bytes) -> None:
    hello = read_or_refused(payload)
    if hello is None:
        return
    assert hello.program.isprintable()
    assert hello.endpoint.isprintable()
    assert isinstance(hello.frame_limit, int)
    assert hello.frame_limit >= 1
    assert hello.mtu is None or MTU_MIN <= hello.mtu <= MTU_MAX
    assert TIMEOUT_MIN <= hello.timeout <= TIMEOUT_MAX
    assert hello.wire >= 2


@thoroughly
@given(hellos, st.dictionaries(st.text(max_size=10), json_values, max_size=5))
def test_unknown_keys_of_a_hello_change_nothing(hello: Hello, more: dict[str, Any]) -> None:
    values = more | json.loads(hello.to_json())
    assert Hello.from_json(json.dumps(values).encode()) == hello


@thoroughly
@given(hellos, hellos)
def test_both_sides_agree_on_the_same_mtu(ours: Hello, theirs: Hello) -> None:
    agreed = agree_mtu(ours, theirs)
    assert agreed == agree_mtu(theirs, ours)
    assert agreed in (ours.mtu, theirs.mtu)
    fixed = [h.mtu for h in (ours, theirs) if h.mtu_fixed and h.mtu is not None]
    assert not fixed or agreed == min(fixed)


@thoroughly
@given(payloads, chops)
def test_a_hello_block_with_any_payload_is_read_or_ends_the_link(
    payload: bytes, sizes: list[int]
) -> None:
    stream = b"\1VK2" + len(payload).to_bytes(4, "little") + payload
    outcome = run(Wire.AUTO, 65664, chopped(stream, sizes))
    hello = read_or_refused(payload) if payload else None
    assert outcome.blocks == ([] if hello is None else [hello])
    assert (outcome.error is None) == (hello is not None)
