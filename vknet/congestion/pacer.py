"""The pacer: it spreads a window over a round trip on slow paths.  Pure: the time is passed in.

ssh makes one packet of what it reads from its pipe, up to 32 KB, and the remote ssh hands over no
byte of a packet before it has the whole packet.  At 10 Mbit/s one packet takes 26 ms, and every
frame in it waits that long.  The burst is then acknowledged as a whole, so the next window would be
sent as a burst again.  So on a slow path the pacer spreads the window over the min RTT.

Sizes are in bytes, times in seconds of any monotonic clock, and rates in bytes per second.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["UNPACED_RATE", "Pacer"]

# The duration of the burst that may be sent at once, at the pacing rate.  epoll cannot wait for
# much less.
BURST_S: Final = 0.002

# How much of a late wake-up the next send makes up for.  A wake-up is late when the CPU is busy.
LATE_CREDIT_S: Final = 0.01

UNPACED_RATE: Final = 16e6
"""The pacing rate from which on nothing is paced: a burst is as large as an ssh packet."""


class Pacer:
    """Spreads bytes over time; every call may bring another pacing rate.

    Attributes:
        next_at: when more may be sent; may be in the past.
    """

    def __init__(self) -> None:
        self.next_at = -math.inf
        # The size of the last send, and the time that its pacing counts from.
        self._sent_bytes = 0
        self._paced_from = -math.inf

    def budget(self, pacing_rate: float, now: float) -> float:
        """Return how many bytes may be sent now.

        If the result is not 0, the last frame may exceed it.

        Args:
            pacing_rate: the current rate.
            now: the time.
        """
        if pacing_rate >= UNPACED_RATE:
            return math.inf
        if self._sent_bytes:
            # The pacing rate may have changed since the last send.
            self.next_at = self._paced_from + self._sent_bytes / pacing_rate
        return max(1.0, BURST_S * pacing_rate) if now >= self.next_at else 0.0

    def on_sent(self, size: int, pacing_rate: float, now: float, *, waited: bool = False) -> None:
        """Note that bytes are being sent.

        Args:
            size: the bytes.
            pacing_rate: the current rate.
            now: the time.
            waited: whether they had to wait for `next_at`.
        """
        if pacing_rate >= UNPACED_RATE:
            self._sent_bytes, self.next_at = 0, now
        else:
            # Bytes that waited make up for a late wake-up.  An idle time earns one burst only.
            self._paced_from = max(self.next_at, now - (LATE_CREDIT_S if waited else BURST_S))
            self._sent_bytes = size
            self.next_at = self._paced_from + size / pacing_rate
