"""How long the other direction's own queue keeps ACKs.  Pure, the time handed in.

An ACK goes the way of the peer's frames.  Those that wait at the peer it overtakes; those that wait
in ssh, in the outer TCP and in the path's routers it does not.  So where both directions are full,
each sees the other's queue in its round trips, and cannot tell it from a longer path, or from a
queue of its own.

Theory.  Every ACK says when it was written, on the peer's clock, which runs as fast as ours but has
another zero.  What lies between that and its coming is the way back plus a constant that nobody
knows.  The least of it over half a minute was an ACK that met no queue: whatever another one took
longer, it waited.  Clocks drift, by a few milliseconds a minute; therefore not the least ever.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["ReversePath", "stamp"]

MICROSECONDS: Final = 10**6
STAMP_BITS: Final = 32
HALF: Final = 2 ** (STAMP_BITS - 1)
MASK: Final = 2**STAMP_BITS - 1

# Seconds that a least is good for, at the least; at the most it is twice that.  Every ten seconds
# the peer empties its queue, to see its own round trip.
AGE: Final = 30.0


def stamp(now: float) -> int:
    """The time as an ACK has it: microseconds, a u32 that begins anew every 71 minutes."""
    return int(now * MICROSECONDS) & MASK


class ReversePath:
    """The way that the ACKs of one link come."""

    def __init__(self) -> None:
        self._zero: int | None = None
        self._least = self._least_before = math.inf
        self._since = 0.0

    def wait(self, at: int, now: float) -> float:
        """How long an ACK waited on its way, in seconds.

        Args:
            at: when it was written, as `stamp` gave it to the peer.
            now: the time.
        """
        took = stamp(now) - at
        if self._zero is None:
            self._zero = took
            self._since = now
        # What passes is far less than half the range; whatever a stranger says, this is bounded.
        delay = ((took - self._zero + HALF) & MASK) - HALF
        seconds = delay / MICROSECONDS
        if now - self._since > AGE:
            self._since = now
            self._least_before, self._least = self._least, seconds
        self._least = min(self._least, seconds)
        return seconds - min(self._least, self._least_before)
