"""The wire's codec on its own: nanoseconds a frame, in batches of a pump's size.

    python -m bench.codec

Prints a Markdown table.  Needs no root, and does no I/O.
"""

from __future__ import annotations

import time

import trio

from bench.timing import HEAD, SIZES, batch_of, median_ns, row
from vknet.framing import FRAME_LIMIT_V2, Block, Decoder, Wire, encode_control, encode_frames
from vknet.hello import Hello


async def time_encoding(size: int) -> float:
    """Nanoseconds to encode a frame of this size."""
    frames = batch_of(size)

    async def once() -> int:
        began = time.perf_counter_ns()
        encode_frames(frames, FRAME_LIMIT_V2)
        return time.perf_counter_ns() - began

    return await median_ns(once) / len(frames)


async def time_decoding(size: int) -> float:
    """Nanoseconds to decode a frame of this size, from a buffer that ends where a block does."""
    frames = batch_of(size)
    data = encode_frames(frames, FRAME_LIMIT_V2).data
    decoder = Decoder(Wire.V2)
    # Until it has come, frames may be no longer than in v1.
    hello = Hello("bench", "bench", FRAME_LIMIT_V2, mtu=None, mtu_fixed=False, timeout=15)
    decoder.feed(encode_control(hello), [])

    async def once() -> int:
        blocks: list[Block] = []
        began = time.perf_counter_ns()
        decoder.feed(data, blocks)
        spent = time.perf_counter_ns() - began
        if len(blocks) != len(frames):
            raise AssertionError(f"{len(blocks)} of {len(frames)} frames")
        return spent

    return await median_ns(once) / len(frames)


async def main() -> None:
    print(HEAD)
    for name, measure in (("encode", time_encoding), ("decode", time_decoding)):
        for size in SIZES:
            print(row(name, size, await measure(size)), flush=True)


if __name__ == "__main__":
    trio.run(main)
