"""Fewer and larger turns of the event loop while it is busy, as a network card's interrupts.

Theory.  Under load frames come in small pieces: ssh hands over 32 KB at a time, a sender one
datagram after the other.  An event loop that is quicker than what feeds it has a turn for each of
them, and a turn costs ten times what a frame does, here and in ssh, whose packets then are as small
as what it is given.  A network card in this place waits for a moment before it interrupts (ethtool
-C, rx-usecs), and so does this: when the loop is about to wait, and has waited a moment ago, it
first sleeps so long that more can come together.  The processor is free for others meanwhile.

A path that is idle never meets it: the first frame after a pause goes at once, and its answer,
which takes far longer than such a sleep, comes to a loop that waits again.

The loop sleeps as a whole, by `time.sleep`: its own waits are of whole milliseconds, as epoll's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Moderation"]

# Seconds from one wait to the next, up to which the loop counts as busy: frames of one transfer are
# closer together, those of a conversation are not.
BUSY: Final = 0.001

# Seconds to sleep; the kernel makes half as much again of it (timer slack).
NAP: Final = 0.0001


class Moderation(trio.abc.Instrument):
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
        self._waited_at = -BUSY

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio; a timeout of 0 is a look, with something left to do at once."""
        if timeout == 0:
            return
        now = self._clock()
        if now - self._waited_at < BUSY:
            self._sleep(min(NAP, timeout))
        self._waited_at = now
