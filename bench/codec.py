"""The wire's codec on its own: nanoseconds a frame, in batches of a pump's size.

Frames that are alike go through it together, as uniform; so there is a second row for those that
are not, whose lengths differ by one in turn.

    python -m bench.codec

Prints a Markdown table.  Needs no root, and does no I/O.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from bench.timing import HEAD, SIZES, batch_of, median_ns, row
from vknet.framing import (
    FRAME_LIMIT_V2,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.packet.uniform_batch import UNIFORM_FRAME_MAX, UniformBatch
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.virtio import AnyFrame


def different(size: int) -> list[bytes]:
    """A batch in which no two frames behind each other are of the same length."""
    return [frame + bytes(number % 2) for number, frame in enumerate(batch_of(size))]


def alike(size: int) -> UniformBatch:
    return UniformBatch(batch_of(size), offload=False)


async def time_encoding(frames: Sequence[AnyFrame]) -> float:
    """Nanoseconds to encode a frame of this batch."""

    async def once() -> int:
        began = time.perf_counter_ns()
        encode_frames(frames, FRAME_LIMIT_V2)
        return time.perf_counter_ns() - began

    return await median_ns(once) / len(frames)


async def time_decoding(frames: Sequence[AnyFrame]) -> float:
    """Nanoseconds to decode a frame of this batch, from a buffer that ends where a block does."""
    data = encode_frames(frames, FRAME_LIMIT_V2).data
    decoder = Decoder(Wire.V2)
    # Until it has come, frames may be no longer than in v1.
    hello = Hello("bench", "bench", FRAME_LIMIT_V2, mtu=None, mtu_fixed=False, timeout=15)
    decoder.feed(encode_control(hello))

    async def once() -> int:
        began = time.perf_counter_ns()
        decoded = decoder.feed(data)
        spent = time.perf_counter_ns() - began
        count = sum(map(len, decoded.batches))
        if count != len(frames):
            raise AssertionError(f"{count} of {len(frames)} frames")
        return spent

    return await median_ns(once) / len(frames)


async def main() -> None:
    print(HEAD)
    for name, measure in (("encode", time_encoding), ("decode", time_decoding)):
        for size in SIZES:
            if size <= UNIFORM_FRAME_MAX:
                print(row(f"{name}, uniform", size, await measure(alike(size))), flush=True)
            print(row(f"{name}, one by one", size, await measure(different(size))), flush=True)


if __name__ == "__main__":
    trio.run(main)
