"""A program that runs `capture`: ``watcher.py SOCKET [PCAP]``.

On SIGTERM it exits with status 0.
"""

from __future__ import annotations

import signal
import sys

import trio

from vknet.capture.capture import capture
from vknet.errors import VknetError


async def watch(arguments: list[str]) -> int:
    """Capture until SIGTERM or an error; return the exit status."""
    status = 0
    with trio.open_signal_receiver(signal.SIGTERM) as received:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                async for _ in received:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            try:
                await capture(*arguments)
            except VknetError as exc:
                print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
                status = 1
            nursery.cancel_scope.cancel()
    return status


if __name__ == "__main__":
    sys.exit(trio.run(watch, sys.argv[1:]))
