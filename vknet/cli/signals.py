"""Signals while there is something to undo: they cancel the work, and it is brought to its end."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import trio

from vknet.cli.early_signals import STOP_SIGNALS, begin_work

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["obey_signals"]

log = logging.getLogger(__name__)


async def obey_signals(
    work: trio.CancelScope,
    report: Callable[[], None],
    stopping: Callable[[], None] | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM, SIGINT and SIGHUP cancel the work, alone; SIGUSR1 asks for a report.

    Args:
        work: what is cancelled.
        report: called for a report.
        stopping: called before the work is cancelled.
        task_status: told when a signal is obeyed from now on.
    """
    # What was ignored when we were started stays ignored: nohup(1).
    wanted = (*STOP_SIGNALS, signal.SIGUSR1)
    signals = [s for s in wanted if signal.getsignal(s) is not signal.SIG_IGN]
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
