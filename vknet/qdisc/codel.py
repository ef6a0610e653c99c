"""CoDel (RFC 8289): when to signal a standing queue.  Pure: the caller passes the time in.

Theory.  A good queue absorbs a burst and drains.  A bad queue stands: it adds delay and no
throughput.  The minimum sojourn time over an interval in which senders could react tells them
apart.  So a queue is bad if every packet of an interval had a sojourn time of at least the target.
Then one packet is marked or dropped, the next after interval / sqrt(2), then interval / sqrt(3),
and so on, since a TCP's rate falls with the square root of its losses.  This goes on until a
packet's sojourn time is below the target.  A queue that goes bad again soon starts with the signal
rate that it needed last.

Times are in any unit, the same for all of them.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Final

__all__ = ["INTERVAL_S", "TARGET_S", "Codel"]

TARGET_S: Final = 0.005
"""The sojourn time that a standing queue may have (RFC 8289, section 4.3)."""

INTERVAL_S: Final = 0.1
"""The worst-case round-trip time of usual paths (RFC 8289, section 4.2)."""

# The number of intervals for which the last signal rate is worth trying again (section 5).
RATE_MEMORY_INTERVALS: Final = 16


class Codel:
    """The state of CoDel for one queue; the names are those of RFC 8289, section 5.

    Attributes:
        count: the signals since the queue went bad; drops for another reason add to it.
        lastcount: `count` when the queue last went bad.
        dropping: whether the queue is bad.
        first_above_time: when the queue goes bad if no packet is below the target until then; None
            if the last packet was below it.
        drop_next: when the next signal is due.
    """

    __slots__ = ("count", "drop_next", "dropping", "first_above_time", "lastcount")

    def __init__(self) -> None:
        self.count = 0
        self.lastcount = 0
        self.dropping = False
        self.first_above_time: float | None = None
        self.drop_next = -inf

    def on_below_target(self) -> None:
        """Note that a packet left below the target, or left almost nothing behind it."""
        self.first_above_time = None

    def should_signal(self, now: float, interval: float) -> bool:
        """Whether to mark or drop a packet that is about to leave, and is not below the target.

        If it is dropped, call this again for the packet behind it.
        """
        if self.first_above_time is None:
            self.first_above_time = now + interval
        if now < self.first_above_time:
            self.dropping = False
            return False
        if not self.dropping:
            self.dropping = True
            needed = self.count - self.lastcount
            recent = now - self.drop_next < RATE_MEMORY_INTERVALS * interval
            self.count = self.lastcount = needed if needed > 1 and recent else 1
            self.drop_next = now + interval / sqrt(self.count)
            return True
        if now < self.drop_next:
            return False
        self.count += 1
        self.drop_next += interval / sqrt(self.count)
        return True
