"""Signals while a command works: they cancel the work, so that it cleans up before it ends."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import trio

from vknet.cli.early_signals import STOP_SIGNALS, begin_work

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["handle_signals"]

log = logging.getLogger(__name__)


async def handle_signals(
    work: trio.CancelScope,
    report: Callable[[], None],
    stopping: Callable[[], None] | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel the work on SIGTERM, SIGINT or SIGHUP; report on SIGUSR1.

    A signal that was ignored when the process started stays ignored, as nohup(1) requires.

    Args:
        work: cancelled by the first of the stop signals.
        report: called on SIGUSR1.
        stopping: called before the work is cancelled.
        task_status: started as soon as signals are received here.
    """
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
