"""What the commands have in common as processes: signals, and the status they end with."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["EXIT_FAILED", "EXIT_STOPPED", "EXIT_USAGE", "obey_signals", "stop_at_once_on_signals"]

log = logging.getLogger("vknet")

EXIT_STOPPED: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stop_at_once_on_signals() -> None:
    """Until `obey_signals`, and after it, a signal ends the process: nothing is there to undo."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop_at_once)


def _stop_at_once(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_STOPPED)


async def obey_signals(
    work: trio.CancelScope,
    report: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM, SIGINT and SIGHUP cancel the work, alone; SIGUSR1 asks for a report."""
    # What was ignored when we were started stays ignored: nohup(1).
    wanted = (*STOP_SIGNALS, signal.SIGUSR1)
    signals = [s for s in wanted if signal.getsignal(s) is not signal.SIG_IGN]
    if not signals:
        task_status.started()
        return
    with trio.open_signal_receiver(*signals) as received:
        task_status.started()
        async for number in received:
            if number == signal.SIGUSR1:
                report()
            elif not work.cancel_called:
                log.info("stopped by %s", signal.Signals(number).name)
                work.cancel()
