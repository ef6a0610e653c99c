"""Time on the scale of nanoseconds: work repeated often, and the median of several such runs."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from vknet.packet.ethernet import BATCH_BYTES, BATCH_FRAMES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["HEAD", "SIZES", "batch_of", "median_ns", "row"]

# A small frame, a full one of an ordinary LAN, and a super-frame.
SIZES: Final = (64, 1500, 65000)

HEAD: Final = """\
| what | frame, bytes | ns a frame | thousand frames/s | Gbit/s |
|---|---|---|---|---|"""

RUNS: Final = 7
RUN_NS: Final = 100_000_000


def batch_of(size: int) -> list[bytes]:
    """As many frames of this size as one turn of a pump carries.

    They are broadcast, and of an EtherType for local experiments (IEEE 802), which no host answers.
    """
    frame = b"\xff" * 6 + b"\2" + bytes(5) + b"\x88\xb5" + bytes(size - 14)
    return [frame] * min(BATCH_FRAMES, -(-BATCH_BYTES // size))


async def median_ns(once: Callable[[], Awaitable[int]]) -> float:
    """The median of several runs.

    Args:
        once: does the work once, and says how many nanoseconds of that count.
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
    """A row under `HEAD`: a frame of this size takes so many nanoseconds."""
    return f"| {what} | {size} | {ns:.0f} | {1e6 / ns:.0f} | {8 * size / ns:.2f} |"
