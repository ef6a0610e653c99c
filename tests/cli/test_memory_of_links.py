"""The memory of a client after many links that failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

# In a process of its own: the settings of the garbage collector apply to the whole process.
SCRIPT: Final = """
import tracemalloc
import trio
from trio.testing import MockClock, memory_stream_pair
from vknet import LinkSettings, Monitor, PeerGone, RetryPolicy, Transport, keep_linked
from vknet import memory_endpoint_pair
from vknet.cli.malloc import collect_after_links, tune_malloc
from vknet.transport.base import AdaptedStream

LINKS = 1000
counts = {}
links = 0

class Stream(AdaptedStream):
    def __init__(self, inner):
        super().__init__(inner)
        self.buffer = bytearray(256 * 1024)

class Failing(Transport):
    async def open(self, start_soon):
        global links
        links += 1
        if links in (10, LINKS):
            counts[links] = tracemalloc.get_traced_memory()[0]
        start_soon(trio.sleep_forever)
        ours, theirs = memory_stream_pair()
        if links % 2:
            raise PeerGone("it cannot be opened")
        await theirs.aclose()
        return Stream(ours)

async def open_endpoint():
    await trio.lowlevel.checkpoint()
    return memory_endpoint_pair()[0]

async def main():
    monitor = Monitor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect_after_links, monitor)
        try:
            await keep_linked(
                open_endpoint,
                lambda: Failing("the peer"),
                RetryPolicy(1.0, LINKS - 1),
                monitor=monitor,
            )
        except PeerGone:
            pass
        nursery.cancel_scope.cancel()

tune_malloc()
tracemalloc.start()
trio.run(main, clock=MockClock(autojump_threshold=0))
print(links, counts[LINKS] - counts[10])
"""

# One link has a buffer of 256 KiB; less than one of a thousand may stay.
GROWTH_MAX_BYTES: Final = 200_000


def test_thousand_failed_links_leave_no_memory() -> None:
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    links, growth = map(int, done.stdout.split())
    assert links == 1000
    assert growth < GROWTH_MAX_BYTES
