"""Each endpoint alone: nanoseconds per frame, sent and received.

    .venv/bin/python -m bench.endpoints

The output is a Markdown table.  Frames sent into one end of a memory or SOCK_SEQPACKET pair are
received from the other end.  The TAP is measured only for root, in a network namespace of its own:
the kernel takes the frames that are sent, and a packet(7) socket sends those that are received.
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

from bench.timing import FRAME_SIZES, TABLE_HEAD, batch_of, median_ns, row
from vknet.counters import DropReason
from vknet.endpoints import SeqpacketEndpoint, memory_endpoint_pair
from vknet.endpoints.tap import open_tap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from vknet.endpoints import Endpoint

    # An endpoint to send into, one to receive from, and what fills the latter if sending does not.
    Opened = tuple[Endpoint, Endpoint, Callable[[list[bytes]], None] | None]
    Opener = Callable[[], AbstractAsyncContextManager[Opened]]

# The environment variable of the process in a network namespace of its own.
IN_NAMESPACE: Final = "VKNET_BENCH_INSIDE"

TAP: Final = "bench0"
TAP_MTU: Final = 65000

# A SOCK_SEQPACKET socket holds this number of the largest frames with the kernel's default limits.
LARGE_FRAME_BYTES: Final = 60_000
LARGE_FRAMES: Final = 3


@asynccontextmanager
async def memory() -> AsyncIterator[Opened]:
    """Open two endpoints in memory."""
    a, b = memory_endpoint_pair()
    async with a, b:
        yield a, b, None


@asynccontextmanager
async def seqpacket() -> AsyncIterator[Opened]:
    """Open two endpoints on the ends of a socket pair."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    a, b = (SeqpacketEndpoint(end, "bench") for end in ends)
    async with a, b:
        yield a, b, None


@asynccontextmanager
async def tap() -> AsyncIterator[Opened]:
    """Open one TAP for both directions; a packet socket makes the kernel send frames out of it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as outside:
        async with await open_tap(TAP, mtu=TAP_MTU) as endpoint:
            outside.bind((TAP, 0))

            def fill(frames: list[bytes]) -> None:
                for frame in frames:
                    outside.send(frame)

            # The kernel sends frames of its own when an interface comes up.
            endpoint.discard(DropReason.STALE)
            yield endpoint, endpoint, fill


UNPRIVILEGED: Final[Mapping[str, Opener]] = {"memory": memory, "SEQPACKET": seqpacket}
ROOT_ONLY: Final[Mapping[str, Opener]] = {"TAP": tap}


async def measure(name: str, opener: Opener, size: int) -> None:
    """Print the time to send and the time to receive a frame of `size` bytes."""
    frames = batch_of(size)[: LARGE_FRAMES if size > LARGE_FRAME_BYTES else None]
    async with opener() as (sink, source, fill):

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
            raise AssertionError(f"{name} dropped frames: {sink.send_drops}")


async def measure_all(openers: Mapping[str, Opener]) -> None:
    for name, opener in openers.items():
        for size in FRAME_SIZES:
            await measure(name, opener, size)


def main() -> None:
    if IN_NAMESPACE in os.environ:
        trio.run(measure_all, ROOT_ONLY)
        return
    print(TABLE_HEAD, flush=True)
    trio.run(measure_all, UNPRIVILEGED)
    if os.geteuid() == 0:
        again = ["unshare", "--net", sys.executable, "-m", "bench.endpoints"]
        subprocess.run(again, env={**os.environ, IN_NAMESPACE: "1"}, check=True)
    else:
        print("the TAP is left out: only root may create one", file=sys.stderr)


if __name__ == "__main__":
    main()
