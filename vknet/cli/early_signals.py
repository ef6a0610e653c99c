"""What the commands have in common as processes: the first instant, and the status they end with.

Nothing here takes long to import: a signal in the first instant has to find somebody.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from vknet.exit_codes import EXIT_STOPPED

if TYPE_CHECKING:
    from types import FrameType

__all__ = [
    "STOP_SIGNALS",
    "begin_work",
    "stop_at_once_on_signals",
]

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stop_at_once_on_signals() -> None:
    """Have a signal end the process: for as long as there is nothing to be undone."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop_at_once)
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, _nothing_to_report)


def begin_work() -> None:
    """From now on there is something to be undone: only whoever waits for signals acts on them."""
    _Work.begun = True


class _Work:
    begun = False


def _stop_at_once(_number: int, _frame: FrameType | None) -> None:
    if not _Work.begun:
        os._exit(EXIT_STOPPED)


def _nothing_to_report(_number: int, _frame: FrameType | None) -> None:
    """SIGUSR1 came before there was anything, or after."""
