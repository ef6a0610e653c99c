"""Waking a task at a moment, exactly.

trio sleeps by epoll_wait(2): in milliseconds, rounded up, which is all of a short delay.  So on
real time and on Linux it is a timerfd_create(2) that wakes, and epoll only reports it.  On any
other clock trio's own sleep is exact.
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

# A turn of trio's loop costs as much as ten frames.  So it is not woken again before so many
# seconds have passed: on a busy wire a frame comes at most so much later, and others with it.
GRAIN: Final = 0.0001

# linux/time.h
CLOCK_MONOTONIC: Final = 1
NANOSECONDS: Final = 10**9


class Alarm(Protocol):
    """Wakes one task; a context manager, because it may hold a descriptor."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def set(self, when: float) -> None:
        """Wake at this time of trio's clock instead; at once if it has passed."""

    async def wait(self) -> None:
        """Wait for the time that is set; for ever while none is."""


class SleepAlarm:
    """By trio's clock."""

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
    """``struct timespec``."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Itimerspec(ctypes.Structure):
    """``struct itimerspec``."""

    _fields_ = (("interval", Timespec), ("value", Timespec))


class TimerAlarm:
    """By a timer of the kernel's; not more often than every `GRAIN` seconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._woken = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def set(self, when: float) -> None:
        # Zero would turn the timer off.
        left = max(when, self._woken + GRAIN) - trio.current_time()
        seconds, rest = divmod(max(1, int(left * NANOSECONDS)), NANOSECONDS)
        value = Itimerspec(value=Timespec(seconds, rest))
        self._libc.timerfd_settime(self._fd, 0, ctypes.byref(value), None)

    async def wait(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                os.read(self._fd, 8)
            except BlockingIOError:
                # Set anew since it went off.
                continue
            self._woken = trio.current_time()
            return


def new_alarm() -> Alarm:
    """The alarm for the clock that trio runs on."""
    clock = trio.lowlevel.current_clock()
    runs_true = math.isclose(
        clock.deadline_to_sleep_time(trio.current_time() + 1.0), 1.0, abs_tol=0.1
    )
    return TimerAlarm() if sys.platform == "linux" and runs_true else SleepAlarm()
