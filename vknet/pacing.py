"""When the next bytes may go, so that they do not go in a bunch.  Pure, the time handed in.

ssh makes one packet of all it finds in its pipe, up to 32 KB, and the other side gets nothing of a
packet before it has all of it.  At 10 Mbit/s that is 26 ms for whatever is in it, a ping included;
and since the whole bunch is then acknowledged at once, the next one goes as a bunch again.  So on a
slow path a window's worth of bytes is spread over the least round trip.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Pacer"]

# Seconds; as much as goes in that time may go at once.  Shorter waits are not had from epoll.
GRAIN: Final = 0.002

# From so many bytes per second on, a grain is as much as one of ssh's packets anyway.
UNPACED: Final = 16e6


class Pacer:
    """Spreads what is sent at a pace, which may be another each time.

    Attributes:
        next_at: when more may go; perhaps long ago.
    """

    def __init__(self) -> None:
        self.next_at = -math.inf

    def room(self, pace: float, now: float) -> float:
        """Bytes that may go now; where it is not 0, the frame that passes it may go too.

        Args:
            pace: in bytes per second.
            now: the time.
        """
        if pace >= UNPACED:
            return math.inf
        return max(1.0, GRAIN * pace) if now >= self.next_at else 0.0

    def sent(self, size: int, pace: float, now: float) -> None:
        """So many bytes go now."""
        if pace >= UNPACED:
            self.next_at = now
        else:
            # Who comes late by no more than a grain makes up for it.
            self.next_at = max(self.next_at, now - GRAIN) + size / pace
