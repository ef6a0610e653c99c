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

# Seconds that may be made up for by who had to wait and was woken late: the processor was busy.
LATE: Final = 0.01

# From so many bytes per second on, a grain is as much as one of ssh's packets anyway.
UNPACED: Final = 16e6


class Pacer:
    """Spreads what is sent at a pace, which may be another each time.

    Attributes:
        next_at: when more may go; perhaps long ago.
    """

    def __init__(self) -> None:
        self.next_at = -math.inf
        # What went last, and when it was its turn.
        self._size = 0
        self._since = -math.inf

    def budget(self, pace: float, now: float) -> float:
        """Bytes that may go now; where it is not 0, the frame that passes it may go too.

        Args:
            pace: in bytes per second.
            now: the time.
        """
        if pace >= UNPACED:
            return math.inf
        if self._size:
            # The pace may be another one by now.
            self.next_at = self._since + self._size / pace
        return max(1.0, GRAIN * pace) if now >= self.next_at else 0.0

    def on_sent(self, size: int, pace: float, now: float, *, waited: bool = False) -> None:
        """So many bytes go now.

        Args:
            size: in bytes.
            pace: in bytes per second.
            now: the time.
            waited: they have waited for `next_at`.
        """
        if pace >= UNPACED:
            self._size, self.next_at = 0, now
        else:
            # Who comes late makes up for it; who was idle saves no more than a grain up.
            self._since = max(self.next_at, now - (LATE if waited else GRAIN))
            self._size = size
            self.next_at = self._since + size / pace
