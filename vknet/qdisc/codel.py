"""CoDel (RFC 8289): when a queue that stands has to be signalled.  Pure: the time is handed in.

Theory.  A good queue takes up a burst and is gone again; a bad one stands, and delays everybody for
nothing.  What tells them apart is the least delay over a time in which senders could react.  So the
queue is bad when no packet has left it within `target` for an `interval`.  Then a packet is marked
or dropped, the next after interval / sqrt(2), interval / sqrt(3) and so on, since a TCP's rate goes
with the inverse of the root of its losses, until a packet leaves in time.  A queue that goes bad
again soon begins with the rate that was needed last.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Final

__all__ = ["INTERVAL", "TARGET", "Codel"]

TARGET: Final = 0.005
"""Seconds that packets may wait in a queue that stands: section 4.3."""

INTERVAL: Final = 0.1
"""Seconds: the longest of usual round trips, section 4.2."""

# Section 5.6.  For so many intervals the rate that was needed last is worth trying again.
MEMORABLE: Final = 16


class Codel:
    """What CoDel remembers of one queue, under the names of RFC 8289.

    Attributes:
        count: signals since the queue went bad.  Whoever drops for other reasons adds to it.
    """

    __slots__ = ("count", "drop_next", "dropping", "first_above", "last_count")

    def __init__(self) -> None:
        self.count = 0
        self.last_count = 0
        self.dropping = False
        self.first_above: float | None = None
        self.drop_next = -inf

    def in_time(self) -> None:
        """A packet left within the target, or with next to nothing queued behind it."""
        self.first_above = None

    def late(self, now: float, interval: float) -> bool:
        """A packet is about to leave late; whether it is to be marked or dropped.

        If it is dropped, the one behind it is asked about in turn.
        """
        if self.first_above is None:
            self.first_above = now + interval
        if now < self.first_above:
            self.dropping = False
            return False
        if not self.dropping:
            self.dropping = True
            needed = self.count - self.last_count
            recent = now - self.drop_next < MEMORABLE * interval
            self.count = self.last_count = needed if needed > 1 and recent else 1
            self.drop_next = now + interval / sqrt(self.count)
            return True
        if now < self.drop_next:
            return False
        self.count += 1
        self.drop_next += interval / sqrt(self.count)
        return True
