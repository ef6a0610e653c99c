"""Timing in nanoseconds: work is repeated for a while, and the median of several runs counts."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from vknet.packet.ethernet import BATCH_BYTES, BATCH_FRAMES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["FRAME_SIZES", "TABLE_HEAD", "batch_of", "median_ns", "row"]

# Frame sizes in bytes: a small frame, a full one of an ordinary LAN, and a multi-segment frame.
FRAME_SIZES: Final = (64, 1500, 65000)

TABLE_HEAD: Final = """\
| what | frame, bytes | ns per frame | thousand frames/s | Gbit/s |
|---|---|---|---|---|"""

RUNS: Final = 7
RUN_NS: Final = 100_000_000


def batch_of(size: int) -> list[bytes]:
    """Return as many frames of this size as vknet carries in one batch.

    They are broadcasts with the local experimental EtherType 0x88B5 (IEEE 802), so no host answers.
    """
    frame = b"\xff" * 6 + b"\2" + bytes(5) + b"\x88\xb5" + bytes(size - 14)
    return [frame] * min(BATCH_FRAMES, -(-BATCH_BYTES // size))


async def median_ns(once: Callable[[], Awaitable[int]]) -> float:
    """Return the median of the mean times of several runs, in nanoseconds.

    Args:
        once: does the work once, and returns the nanoseconds of it that count.
    """
    means = []
    for _ in range(RUNS):
        spent = calls = 0
        until = time.perf_counter_ns() + RUN_NS
        while time.perf_counter_ns() < until:
            spent += await once()
            calls += 1
        means.append(spent / calls)
    return statistics.median(means)


def row(what: str, size: int, ns: float) -> str:
    """Return a row under `TABLE_HEAD`, for a frame of `size` bytes that takes `ns` nanoseconds."""
    return f"| {what} | {size} | {ns:.0f} | {1e6 / ns:.0f} | {8 * size / ns:.2f} |"
