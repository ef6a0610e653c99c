"""Signals while a command starts, before it has anything to clean up.

This module imports nothing that takes long to load, so that its handlers are in place before the
command imports trio.
"""

from __future__ import annotations

import os
import signal

from vknet.exit_codes import EXIT_STOPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Final

__all__ = [
    "STOP_SIGNALS",
    "begin_work",
    "exit_on_signals",
]

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def exit_on_signals() -> None:
    """Make the stop signals end the process immediately, until `begin_work` is called.

    A signal that is ignored stays ignored.  SIGUSR1 has no effect, instead of ending the process.
    SIGUSR2 is ignored, also by all child processes: it has no meaning here.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit_unless_working)
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, _do_nothing)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def begin_work() -> None:
    """Disable the handlers of `exit_on_signals`: from now on the process has to clean up.

    It stays so.  trio restores these handlers when it ends, and a late signal must not replace the
    exit status.
    """
    _Work.begun = True


class _Work:
    begun = False


def _exit_unless_working(_number: int, _frame: FrameType | None) -> None:
    if not _Work.begun:
        os._exit(EXIT_STOPPED)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignore SIGUSR1.

    SIG_IGN would not do: it looks like a signal that the parent process had ignored, and those are
    not handled later on.
    """
