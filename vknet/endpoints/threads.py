"""Blocking functions in a worker thread, which end soon when they are cancelled.

A thread cannot be cancelled.  But what blocks one for long is a child process of
`vknet.endpoints.isolated`, and a child can be killed.  Without this, a child that hangs would make
the program ignore SIGTERM, because trio waits for its threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from vknet.endpoints.isolated import Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_in_thread"]

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T]) -> T:
    """Call a function in a worker thread, and return its result.

    If this is cancelled, the function's child process is killed, and no further one is started.
    The function is waited for in any case, so that what it opens has an owner.
    """
    interrupt = Interrupt()
    result: T
    error: Exception | None = None

    async def interrupt_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            interrupt.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_when_cancelled)
        # It has to begin before the function does.
        await trio.lowlevel.checkpoint()
        try:
            result = await trio.to_thread.run_sync(interrupt.run, function)
        except Exception as exc:  # noqa: BLE001 - raised below
            # Not raised in the nursery, which would make an exception group of it.
            error = exc
        nursery.cancel_scope.cancel()
    if error is not None:
        await trio.lowlevel.checkpoint_if_cancelled()
        raise error
    return result
