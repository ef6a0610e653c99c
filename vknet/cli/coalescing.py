"""Fewer and larger turns of a busy event loop, like the interrupt coalescing of a network card.

Theory.  Under load, data comes in small pieces: ssh passes on 32 KB at a time, and a sender passes
on one datagram at a time.  An event loop that is faster than its sources takes one turn for each
piece.  A turn costs ten times as much as a frame, here and in ssh, whose packets are then as small
as the pieces it is given.  A network card delays its interrupt instead (ethtool -C, rx-usecs).
This module does the same: if the loop is busy and about to wait, it first sleeps for a moment, so
that more data arrives for its next turn.  Other processes can use the processor in that time.

A loop is busy if its last `BUSY_WAITS` waits were all shorter than `SHORT_WAIT_S`.  Request and
response traffic does not make a loop busy, because the answer of the other host takes longer.

The whole loop sleeps, in `time.sleep`, because trio waits in whole milliseconds (epoll).  A timer
may therefore fire late by the length of the sleep; a timer that is due earlier than that prevents
the sleep.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Coalescing"]

# The longest wait that counts as short.  A round trip to the other host through ssh takes longer.
SHORT_WAIT_S: Final = 0.00003

# The number of consecutive short waits that make a loop busy.
BUSY_WAITS: Final = 4

# The length of the sleep.  The kernel's timer slack adds about half of it.
SLEEP_S: Final = 0.0001


class Coalescing(trio.abc.Instrument):
    """Makes trio's loop sleep while it is busy, once added by `trio.lowlevel.add_instrument`.

    Args:
        clock: returns the time in seconds.
        sleep: takes seconds, and blocks the whole loop.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._short_waits = 0
        self._wait_started = 0.0

    def before_io_wait(self, timeout: float) -> None:
        """Sleep first if the loop is busy.  A timeout of 0 is a poll by a loop that has work."""
        if timeout == 0:
            return
        if self._short_waits >= BUSY_WAITS and timeout > SLEEP_S:
            self._sleep(SLEEP_S)
        self._wait_started = self._clock()

    def after_io_wait(self, timeout: float) -> None:
        """Count the wait if it was short; the timeout is that of `before_io_wait`."""
        if timeout == 0:
            return
        waited = self._clock() - self._wait_started
        self._short_waits = self._short_waits + 1 if waited < SHORT_WAIT_S else 0
