"""What the flow queue costs a frame: nanoseconds of push and pull together.

    .venv/bin/python -m bench.queueing [rounds]

Needs no root.  Prints a Markdown table of medians.  A round pushes and pulls batches of 256 frames,
whose flows take turns; "standing" has 4 000 frames of the same flows queued all the time and late,
so that CoDel looks at each; "flood" pushes into a full queue, each frame a flow of its own.
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
BATCHES: Final = 200
STANDING: Final = 4000
ALL: Final = 1 << 30


def frame(flow: int, size: int) -> bytes:
    """UDP over IPv4 of one of many flows, by its source address."""
    packet = struct.pack("!BBHHHBBHIIHHHH", 69, 0, size - 14, 0, 0, 64, 17, 0, flow, 1, 7, 9, 0, 0)
    return (bytes(12) + b"\x08\x00" + packet).ljust(size, b"\0")


def batches(flows: int, size: int) -> list[list[bytes]]:
    """Frames of each flow in turn."""
    source = cycle([frame(n, size) for n in range(flows)])
    return [list(islice(source, BATCH)) for _ in range(BATCHES)]


def passing(flows: int, size: int) -> float:
    """Each batch is pulled as soon as it was pushed."""
    queue = FlowQueue[bytes]()
    work = batches(flows, size)
    begin = perf_counter_ns()
    for batch in work:
        queue.push(batch, 0.0)
        queue.pull(0.0, ALL)
    return (perf_counter_ns() - begin) / (BATCH * BATCHES)


def standing(flows: int, size: int) -> float:
    """As much is pulled as was pushed, from a queue that is never empty."""
    queue = FlowQueue[bytes](limit_bytes=ALL)
    work = batches(flows, size)
    queue.push([f for batch in work for f in batch][:STANDING], 0.0)
    now = 1.0
    begin = perf_counter_ns()
    for batch in work:
        now += 0.001
        queue.push(batch, now)
        queue.pull(now, BATCH * size)
    return (perf_counter_ns() - begin) / (BATCH * BATCHES)


def flood(flows: int, size: int) -> float:
    """Nothing but new flows, and nothing is pulled: push, and the drop that it takes."""
    queue = FlowQueue[bytes]()
    work = batches(flows, size)
    begin = perf_counter_ns()
    for batch in work:
        queue.push(batch, 0.0)
    return (perf_counter_ns() - begin) / (BATCH * BATCHES)


def classify(flows: int, size: int) -> float:
    """`flow_of` alone."""
    work = batches(flows, size)
    begin = perf_counter_ns()
    for batch in work:
        for one in batch:
            flow_of(one)
    return (perf_counter_ns() - begin) / (BATCH * BATCHES)


def main() -> None:
    rounds = rounds_from("bench.queueing", __doc__, 7)
    rows = [("flow_of alone", classify, 1)]
    rows += [("passing", passing, n) for n in (1, 8, 1000)]
    rows += [("standing", standing, n) for n in (1, 8, 1000)]
    rows += [("flood", flood, BATCH * BATCHES)]
    print("| ns a frame | flows | 64 bytes | 1500 bytes |\n|---|---|---|---|")
    for name, measure, flows in rows:
        figures = [
            statistics.median(measure(flows, size) for _ in range(rounds)) for size in (64, 1500)
        ]
        print(f"| {name} | {flows} | {figures[0]:.0f} | {figures[1]:.0f} |")


if __name__ == "__main__":
    main()
