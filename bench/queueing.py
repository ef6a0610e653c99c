"""The cost of the flow queue: nanoseconds per frame for a push and a pull together.

    .venv/bin/python -m bench.queueing [rounds]

It needs no root.  The output is a Markdown table of medians.  A round pushes and pulls batches of
256 frames, one of each flow in turn.  In "standing", 4000 frames of the same flows are always
queued and late, so CoDel examines each frame.  "flood" pushes into a full queue; each frame is a
flow of its own.
"""

from __future__ import annotations

import statistics
import struct
from itertools import cycle, islice
from time import perf_counter_ns
from typing import Final

from bench.rounds import rounds_from
from vknet.packet.flow import flow_of
from vknet.qdisc.fq_codel import FlowQueue

BATCH: Final = 256
BATCH_COUNT: Final = 200
STANDING_FRAMES: Final = 4000
UNLIMITED_BYTES: Final = 1 << 30


def frame(flow: int, size: int) -> bytes:
    """Return a UDP datagram over IPv4 whose source address is the number of its flow."""
    packet = struct.pack("!BBHHHBBHIIHHHH", 69, 0, size - 14, 0, 0, 64, 17, 0, flow, 1, 7, 9, 0, 0)
    return (bytes(12) + b"\x08\x00" + packet).ljust(size, b"\0")


def batches(flows: int, size: int) -> list[list[bytes]]:
    """Return batches with one frame of each flow in turn."""
    source = cycle([frame(n, size) for n in range(flows)])
    return [list(islice(source, BATCH)) for _ in range(BATCH_COUNT)]


def passing(flows: int, size: int) -> float:
    """Pull each batch immediately after pushing it."""
    queue = FlowQueue[bytes]()
    work = batches(flows, size)
    begin = perf_counter_ns()
    for batch in work:
        queue.push(batch, 0.0)
        queue.pull(0.0, UNLIMITED_BYTES)
    return (perf_counter_ns() - begin) / (BATCH * BATCH_COUNT)


def standing(flows: int, size: int) -> float:
    """Pull as much as was pushed, from a queue that is never empty."""
    queue = FlowQueue[bytes](limit_bytes=UNLIMITED_BYTES)
    work = batches(flows, size)
    queue.push([f for batch in work for f in batch][:STANDING_FRAMES], 0.0)
    now = 1.0
    begin = perf_counter_ns()
    for batch in work:
        now += 0.001
        queue.push(batch, now)
        queue.pull(now, BATCH * size)
    return (perf_counter_ns() - begin) / (BATCH * BATCH_COUNT)


def flood(flows: int, size: int) -> float:
    """Push new flows only, and pull nothing: a push, and the drop that it causes."""
    queue = FlowQueue[bytes]()
    work = batches(flows, size)
    begin = perf_counter_ns()
    for batch in work:
        queue.push(batch, 0.0)
    return (perf_counter_ns() - begin) / (BATCH * BATCH_COUNT)


def classify(flows: int, size: int) -> float:
    """Classify frames with `flow_of`, without a queue."""
    work = batches(flows, size)
    begin = perf_counter_ns()
    for batch in work:
        for one in batch:
            flow_of(one)
    return (perf_counter_ns() - begin) / (BATCH * BATCH_COUNT)


def main() -> None:
    rounds = rounds_from("bench.queueing", __doc__, 7)
    rows = [("flow_of alone", classify, 1)]
    rows += [("passing", passing, n) for n in (1, 8, 1000)]
    rows += [("standing", standing, n) for n in (1, 8, 1000)]
    rows += [("flood", flood, BATCH * BATCH_COUNT)]
    print("| ns per frame | flows | 64 bytes | 1500 bytes |\n|---|---|---|---|")
    for name, measure, flows in rows:
        figures = [
            statistics.median(measure(flows, size) for _ in range(rounds)) for size in (64, 1500)
        ]
        print(f"| {name} | {flows} | {figures[0]:.0f} | {figures[1]:.0f} |")


if __name__ == "__main__":
    main()
