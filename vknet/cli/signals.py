"""Signals while a command works: they cancel the work, so that it cleans up before it ends."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import trio

from vknet.cli.early_signals import STOP_SIGNALS, begin_work
from vknet.exit_codes import EXIT_STOPPED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["run_until_signal"]

log = logging.getLogger(__name__)


async def run_until_signal(
    work: Callable[[], Awaitable[int]],
    report: Callable[[], None],
    stopping: Callable[[], None] | None = None,
) -> int:
    """Work until that ends, or until SIGTERM, SIGINT or SIGHUP; report on SIGUSR1.

    A signal that was ignored when the process started stays ignored, as nohup(1) requires.

    Args:
        work: cancelled by the first of the stop signals; it returns the exit status.
        report: called on SIGUSR1.
        stopping: called before the work is cancelled.

    Returns:
        The exit status.
    """
    status = EXIT_STOPPED
    async with trio.open_nursery() as nursery:
        # Only the work is cancelled: signals are received until it has cleaned up.
        scope = trio.CancelScope()
        await nursery.start(_handle_signals, scope, report, stopping)
        with scope:
            status = await work()
        nursery.cancel_scope.cancel()
    return status


async def _handle_signals(
    work: trio.CancelScope,
    report: Callable[[], None],
    stopping: Callable[[], None] | None,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Receive signals until cancelled; the task is started as soon as they are received here."""
    handled = (*STOP_SIGNALS, signal.SIGUSR1)
    signals = [s for s in handled if signal.getsignal(s) is not signal.SIG_IGN]
    if not signals:
        task_status.started()
        return
    with trio.open_signal_receiver(*signals) as received:
        begin_work()
        task_status.started()
        async for number in received:
            if number == signal.SIGUSR1:
                report()
            elif not work.cancel_called:
                log.info("stopped by %s", signal.Signals(number).name)
                if stopping is not None:
                    stopping()
                work.cancel()
