"""The codec alone: nanoseconds per frame, in batches as large as those of a link.

    .venv/bin/python -m bench.codec

The codec treats frames of equal length as a uniform batch.  A second row measures frames one by
one: each has a different length than the one before it.  The output is a Markdown table.  The
program needs no root, and does no I/O.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from bench.timing import FRAME_SIZES, TABLE_HEAD, batch_of, median_ns, row
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


def mixed(size: int) -> list[bytes]:
    """Return a batch in which each frame has a different length than the one before it."""
    return [frame + bytes(number % 2) for number, frame in enumerate(batch_of(size))]


def uniform(size: int) -> UniformBatch:
    return UniformBatch(batch_of(size), offload=False)


async def time_encoding(frames: Sequence[AnyFrame]) -> float:
    """Return the nanoseconds that it takes to encode one frame of this batch."""

    async def once() -> int:
        began = time.perf_counter_ns()
        encode_frames(frames, FRAME_LIMIT_V2)
        return time.perf_counter_ns() - began

    return await median_ns(once) / len(frames)


async def time_decoding(frames: Sequence[AnyFrame]) -> float:
    """Return the nanoseconds that it takes to decode one frame, from a buffer of whole blocks."""
    data = encode_frames(frames, FRAME_LIMIT_V2).data
    decoder = Decoder(Wire.V2)
    # Before a HELLO the frame limit is that of v1.
    hello = Hello("bench", "bench", FRAME_LIMIT_V2, mtu=None, mtu_fixed=False, timeout=15)
    decoder.feed(encode_control(hello))

    async def once() -> int:
        began = time.perf_counter_ns()
        decoded = decoder.feed(data)
        spent = time.perf_counter_ns() - began
        count = sum(map(len, decoded.batches))
        if count != len(frames):
            raise AssertionError(f"the decoder returned {count} of {len(frames)} frames")
        return spent

    return await median_ns(once) / len(frames)


async def main() -> None:
    print(TABLE_HEAD)
    for name, measure in (("encode", time_encoding), ("decode", time_decoding)):
        for size in FRAME_SIZES:
            if size <= UNIFORM_FRAME_MAX:
                print(row(f"{name}, uniform", size, await measure(uniform(size))), flush=True)
            print(row(f"{name}, one by one", size, await measure(mixed(size))), flush=True)


if __name__ == "__main__":
    trio.run(main)
