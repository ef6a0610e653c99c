"""Wake a task at an exact time.

trio sleeps in epoll_wait(2), whose timeout is in whole milliseconds, rounded up.  That is too
coarse for a delay of a few milliseconds.  So, on Linux and in real time, a timerfd_create(2) timer
wakes the task, and epoll only reports that it has expired.  On a virtual clock, trio's own sleep is
exact.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Alarm", "SleepAlarm", "TimerAlarm", "new_alarm"]

# The minimum time between two wake-ups.  A turn of trio's event loop costs as much as ten frames.
# So on a busy cable frames are delivered together, and each is late by at most this time.
WAKE_INTERVAL_S: Final = 0.0001

# linux/time.h
CLOCK_MONOTONIC: Final = 1
NS_PER_S: Final = 10**9


class Alarm(Protocol):
    """Wakes one task.  It may own a file descriptor, so it is a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def set(self, when: float) -> None:
        """Set the time, of trio's clock, to wake at; it replaces the one set before.

        A time in the past wakes at once.
        """

    async def wait(self) -> None:
        """Wait until the time that is set; without limit if none is set."""


class SleepAlarm:
    """An alarm that sleeps on trio's clock."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def set(self, when: float) -> None:
        self._scope.deadline = when

    async def wait(self) -> None:
        with self._scope:
            await trio.sleep_forever()
        self._scope = trio.CancelScope()


class Timespec(ctypes.Structure):
    """C's ``struct timespec``; timespec(3type)."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Itimerspec(ctypes.Structure):
    """C's ``struct itimerspec``; timerfd_settime(2)."""

    _fields_ = (("interval", Timespec), ("value", Timespec))


class TimerAlarm:
    """An alarm on a timer of the kernel; it wakes at most every `WAKE_INTERVAL_S`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._woken_at = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def set(self, when: float) -> None:
        # At least 1 ns: zero would disarm the timer.
        left = max(when, self._woken_at + WAKE_INTERVAL_S) - trio.current_time()
        seconds, rest = divmod(max(1, int(left * NS_PER_S)), NS_PER_S)
        value = Itimerspec(value=Timespec(seconds, rest))
        self._libc.timerfd_settime(self._fd, 0, ctypes.byref(value), None)

    async def wait(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                os.read(self._fd, 8)
            except BlockingIOError:
                # The timer was set again after it had expired.
                continue
            self._woken_at = trio.current_time()
            return


def new_alarm() -> Alarm:
    """Return an alarm that suits the clock of trio: real or virtual time."""
    clock = trio.lowlevel.current_clock()
    is_real_time = math.isclose(
        clock.deadline_to_sleep_time(trio.current_time() + 1.0), 1.0, abs_tol=0.1
    )
    return TimerAlarm() if sys.platform == "linux" and is_real_time else SleepAlarm()
