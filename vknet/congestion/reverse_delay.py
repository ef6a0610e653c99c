"""How long the other direction's own queue keeps ACKs.  Pure, the time handed in.

An ACK goes the way of the peer's frames.  Those that wait at the peer it overtakes; those that wait
in ssh, in the outer TCP and in the path's routers it does not.  So where both directions are full,
each sees the other's queue in its round trips, and cannot tell it from a longer path, or from a
queue of its own.

Theory.  Every ACK says when it was written, on the peer's clock, which runs as fast as ours but has
another zero.  What lies between that and its coming is the way back plus a constant that nobody
knows.  The least of it of late was an ACK that met no queue: whatever another one took longer, it
waited.  "Of late", for clocks drift, and are stopped or set: half a minute, in which the peer has
emptied its queue a few times to see its own round trip.

No ACK waited longer than the round trip that it ends is over the least of late.  Where the stamps
say so, it is the clocks that are no longer what they were, or a liar's; and the least is set right.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["ReverseDelay", "stamp"]

MICROSECONDS: Final = 10**6
STAMP_BITS: Final = 32
HALF: Final = 2 ** (STAMP_BITS - 1)
MASK: Final = 2**STAMP_BITS - 1

# For how long a least is good, at the least; where ACKs are seldom it may be three times as long.
# Seconds, and round trips, the longer of the two: on a long path the peer's queue is empty as much
# more seldom.
AGE: Final = 30.0
AGE_ROUNDS: Final = 60


def stamp(now: float) -> int:
    """The time as an ACK has it: microseconds, a u32 that begins anew every 71 minutes."""
    return int(now * MICROSECONDS) & MASK


class ReverseDelay:
    """The way that the ACKs of one link come."""

    def __init__(self) -> None:
        # From its stamp to its coming, of the last ACK: as it is, and with all that it went round.
        self._took = 0
        self._delay = 0.0
        self._delays = _Least()
        self._round_trips = _Least()

    def estimate(self, at: int, now: float, round_trip: float) -> float:
        """How long an ACK waited on its way, in seconds.

        Args:
            at: when it was written, as `stamp` gave it to the peer.
            now: the time.
            round_trip: of what it acknowledges, in seconds.
        """
        took = stamp(now) - at
        # From one to the next it differs by little, however often either clock has gone round.
        self._delay += (((took - self._took + HALF) & MASK) - HALF) / MICROSECONDS
        self._took = took
        age = max(AGE, AGE_ROUNDS * min(round_trip, self._round_trips.least))
        most = round_trip - self._round_trips.see(round_trip, now, age)
        waited = self._delay - self._delays.see(self._delay, now, age)
        if waited > most:
            self._delays.raise_to(self._delay - most)
            return most
        return waited


class _Least:
    """The least of what was seen of late."""

    def __init__(self) -> None:
        self._since = -math.inf
        # Since then, and in the time before that.
        self._now = self._before = math.inf

    @property
    def least(self) -> float:
        """As it was when something was seen last; infinity before anything was."""
        return min(self._now, self._before)

    def see(self, value: float, now: float, age: float) -> float:
        """See one more.

        Args:
            value: this one.
            now: the time.
            age: for how long it is good at the least, in seconds.

        Returns:
            The least of late.
        """
        passed = now - self._since
        if passed > age:
            self._before = self._now if passed <= 2 * age else math.inf
            self._now = math.inf
            self._since = now
        self._now = min(self._now, value)
        return self.least

    def raise_to(self, value: float) -> None:
        """What was less than this was wrong."""
        self._now = max(self._now, value)
        self._before = max(self._before, value)
