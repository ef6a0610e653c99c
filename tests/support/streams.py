"""Streams of any blocks in any pieces, an oracle, and the result of decoding them."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import accumulate, pairwise
from operator import or_
from typing import TYPE_CHECKING, Final

from hypothesis import settings
from hypothesis import strategies as st

from tests.support.blocks import Outcome, apart, replay
from vknet.framing import (
    FRAME_LIMIT_V1,
    Ack,
    Bye,
    Control,
    Ping,
    Pong,
    Wire,
    encode_control,
)
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, Offload, OffloadFrame
from vknet.wire.blocks import BLOCK_HEADER_SIZE
from vknet.wire.decoder import SKIP_LIMIT, Decoder
from vknet.wire.hello import (
    HELLO_LIMIT,
    MTU_MAX,
    MTU_MIN,
    TIMEOUT_MAX_S,
    TIMEOUT_MIN_S,
    WINDOW_MAX,
    Hello,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.blocks import Item

V1_MAGIC: Final = b"+xiZ"
SHORTEST_BLOCK: Final = BLOCK_HEADER_SIZE + 1
CONTROL_LIMIT: Final = max(HELLO_LIMIT, SKIP_LIMIT)
PROMISES: Final = st.sampled_from([1, 7, 100, FRAME_LIMIT_V1, 65664])
WIRES: Final = st.sampled_from(Wire)

thoroughly = settings(deadline=None, max_examples=200)


# --- an oracle, which knows nothing of the codec --------------------------------------------------


def oracle_encode(frames: Sequence[bytes]) -> bytes:
    return b"".join(V1_MAGIC + len(f).to_bytes(4, "little") + f for f in frames)


def oracle_block(block: bytes | OffloadFrame | Control) -> bytes:
    if isinstance(block, OffloadFrame):
        return b"\2VK2" + len(block.data).to_bytes(4, "little") + block.data
    return oracle_encode([block]) if isinstance(block, bytes) else encode_control(block)


def oracle_decode(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the frames of a v1 stream, and the bytes from the first invalid block on."""
    out: list[bytes] = []
    while data[:4] == V1_MAGIC and 0 < (n := int.from_bytes(data[4:8], "little")) <= len(data) - 8:
        if n > 8320:
            break
        out, data = [*out, data[8 : 8 + n]], data[8 + n :]
    return out, data


# --- the contents of streams ----------------------------------------------------------------------


def frames_to(limit: int) -> st.SearchStrategy[bytes]:
    """Frames of any length up to the limit; the ends of the range more often than by chance."""
    small = st.binary(min_size=1, max_size=min(limit, 80))
    length = st.one_of(st.integers(1, limit), st.sampled_from([limit, max(1, limit - 1)]))
    return st.one_of(small, st.builds(bytes.__mul__, st.binary(min_size=1, max_size=1), length))


offloads = st.sets(st.sampled_from(Offload)).map(lambda flags: reduce(or_, flags, NO_OFFLOADS))
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
    timeout=st.floats(TIMEOUT_MIN_S, TIMEOUT_MAX_S),
    wire=st.integers(2, 2**31),
    offloads=offloads,
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
def uniform_frames(draw: st.DrawFn) -> list[bytes | OffloadFrame]:
    """Frames of one length and one kind, about as many as a uniform batch or two have."""
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
        st.just(V1_MAGIC),
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


def in_small_pieces(stream: bytes) -> list[bytes]:
    """The stream in pieces that complete at most one block each."""
    return [stream[at : at + SHORTEST_BLOCK] for at in range(0, len(stream), SHORTEST_BLOCK)]


def chopped(stream: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The stream in pieces of these sizes, and the rest of it."""
    cuts = [0, *accumulate(sizes), len(stream)]
    return [stream[a:b] for a, b in pairwise(cuts) if a < len(stream) or b > a]


def run(wire: Wire, promised: int, chunks: Sequence[bytes]) -> Outcome:
    """Decode as `run_in_order` does; the control messages come before the frames."""
    outcome = run_in_order(wire, promised, chunks)
    return replace(outcome, blocks=apart(outcome.blocks))


def run_in_order(wire: Wire, promised: int, chunks: Sequence[bytes]) -> Outcome:
    """Decode, and check that only allowed errors are raised and no more is held than allowed.

    The order of the blocks is the true one if no chunk completes more than one of them.
    """
    decoder = Decoder(wire, promised, offloads=ALL_OFFLOADS)

    def check(blocks: list[Item]) -> None:
        greeted = any(isinstance(block, Hello) for block in blocks)
        frame_limit = promised + 10 if greeted else FRAME_LIMIT_V1
        assert decoder.held < BLOCK_HEADER_SIZE + max(frame_limit, CONTROL_LIMIT)

    outcome = replay(decoder, chunks, check=check)
    assert outcome.held == 0
    return outcome
