"""Each endpoint on its own: nanoseconds a frame, sent and received.

    python -m bench.endpoints

Prints a Markdown table.  What is sent into one end of a memory or SOCK_SEQPACKET pair is received
from the other.  The TAP is measured for root only, in a network namespace of its own, against the
kernel: it takes what is sent, and what is received was sent by way of packet(7).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from bench.timing import HEAD, SIZES, batch_of, median_ns, row
from vknet.counters import DropReason
from vknet.endpoints import SeqpacketEndpoint, memory_endpoint_pair
from vknet.endpoints.tap import open_tap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from vknet.endpoints import Endpoint

    # What sends into an endpoint, what receives, and what else it takes for something to be there.
    Opened = tuple[Endpoint, Endpoint, Callable[[list[bytes]], None] | None]
    Opening = Callable[[], AbstractAsyncContextManager[Opened]]

# Set for the process that is in a network namespace of its own.
INSIDE: Final = "VKNET_BENCH_INSIDE"

TAP: Final = "bench0"
TAP_MTU: Final = 65000

# How many of the largest frames a SOCK_SEQPACKET socket holds with the kernel's default limits.
HUGE: Final = 60_000
HUGE_AT_ONCE: Final = 3


@asynccontextmanager
async def memory() -> AsyncIterator[Opened]:
    """Two endpoints in memory."""
    a, b = memory_endpoint_pair()
    async with a, b:
        yield a, b, None


@asynccontextmanager
async def seqpacket() -> AsyncIterator[Opened]:
    """Two endpoints on the ends of a socket pair."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    a, b = (SeqpacketEndpoint(end, "bench") for end in ends)
    async with a, b:
        yield a, b, None


@asynccontextmanager
async def tap() -> AsyncIterator[Opened]:
    """One TAP for both, and what has the kernel send frames out of it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as outside:
        async with await open_tap(TAP, mtu=TAP_MTU) as endpoint:
            outside.bind((TAP, 0))

            def fill(frames: list[bytes]) -> None:
                for frame in frames:
                    outside.send(frame)

            # What the kernel sends of its own accord when an interface comes up.
            endpoint.discard(DropReason.STALE)
            yield endpoint, endpoint, fill


AS_ANYBODY: Final[Mapping[str, Opening]] = {"memory": memory, "SEQPACKET": seqpacket}
AS_ROOT: Final[Mapping[str, Opening]] = {"TAP": tap}


async def measure(name: str, opening: Opening, size: int) -> None:
    """Print what sending and what receiving a frame of this size takes."""
    frames = batch_of(size)[: HUGE_AT_ONCE if size > HUGE else None]
    async with opening() as (sink, source, fill):

        async def send() -> int:
            began = time.perf_counter_ns()
            await sink.send(frames)
            spent = time.perf_counter_ns() - began
            if fill is None:
                source.discard(DropReason.STALE)
            return spent

        async def receive() -> int:
            if fill is None:
                await sink.send(frames)
            else:
                fill(frames)
            count = 0
            began = time.perf_counter_ns()
            while count < len(frames):
                count += len(source.receive_nowait())
            return time.perf_counter_ns() - began

        for what, once in (("send", send), ("receive", receive)):
            ns = await median_ns(once) / len(frames)
            print(row(f"{name}, {what}", size, ns), flush=True)
        if sink.send_drops:
            raise AssertionError(f"{name} dropped some: {sink.send_drops}")


async def measure_all(openings: Mapping[str, Opening]) -> None:
    for name, opening in openings.items():
        for size in SIZES:
            await measure(name, opening, size)


def main() -> None:
    if INSIDE in os.environ:
        trio.run(measure_all, AS_ROOT)
        return
    print(HEAD, flush=True)
    trio.run(measure_all, AS_ANYBODY)
    if os.geteuid() == 0:
        again = ["unshare", "--net", sys.executable, "-m", "bench.endpoints"]
        subprocess.run(again, env={**os.environ, INSIDE: "1"}, check=True)
    else:
        print("the TAP is left out: only root may make one", file=sys.stderr)


if __name__ == "__main__":
    main()
