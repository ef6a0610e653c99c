"""Fewer and larger turns of the event loop while it is busy, as a network card's interrupts.

Theory.  Under load frames come in small pieces: ssh hands over 32 KB at a time, a sender one
datagram after the other.  An event loop that is quicker than what feeds it has a turn for each of
them, and a turn costs ten times what a frame does, here and in ssh, whose packets then are as small
as what it is given.  A network card in this place waits for a moment before it interrupts (ethtool
-C, rx-usecs), and so does this: when the loop is about to wait, and hardly had to of late, it first
sleeps so long that more can come together.  The processor is free for others meanwhile.

A loop that has to wait never meets it: only one that hardly waited several times in a row is busy.
Of those that ask and answer in turn, as fast as they can, the other host's answer takes longer.

The loop sleeps as a whole, by `time.sleep`: its own waits are of whole milliseconds, as epoll's.  A
timer may come later by as much, so one that is due before that keeps it awake.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Coalescing"]

# Seconds up to which a wait is hardly one: to the other host and back, with ssh in between, takes
# longer.
SHORT: Final = 0.00003

# How many such waits in a row make a busy loop.
ROW: Final = 4

# Seconds to sleep; the kernel makes half as much again of it (timer slack).
NAP: Final = 0.0001


class Coalescing(trio.abc.Instrument):
    """Has trio's loop take such naps, once added with `trio.lowlevel.add_instrument`.

    Args:
        clock: in seconds.
        sleep: takes seconds, and lets nothing else run.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._row = 0
        self._began = 0.0

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio; a timeout of 0 is a look, with something left to do at once."""
        if timeout == 0:
            return
        if self._row >= ROW and timeout > NAP:
            self._sleep(NAP)
        self._began = self._clock()

    def after_io_wait(self, timeout: float) -> None:
        """Called by trio, with the same."""
        if timeout == 0:
            return
        self._row = self._row + 1 if self._clock() - self._began < SHORT else 0
