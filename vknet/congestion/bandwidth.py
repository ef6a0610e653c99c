"""What a path delivers: the most per unit of time, and how much of it comes in bunches.  Pure.

Both are filters over the last `ROUNDS` round trips in which there was something to learn, fed by
the ACKs of `vknet.congestion.window`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["FINE", "BandwidthEstimator"]

# Seconds; nothing shorter is told apart.  For so long either end may be busy with a batch, and so
# much delay is nothing to anyone.
FINE: Final = 0.002

ROUNDS: Final = 10

# Seconds of the rate that a bunch may be: longer than Wi-Fi or a busy peer holds ACKs up.
BUNCH_MAX: Final = 0.1


class BandwidthEstimator:
    """Two filters of what was acknowledged, and when.

    Args:
        now: the time, in seconds of any monotonic clock.

    Attributes:
        rate: bytes per second, the greatest sample of the last rounds; 0 before the first one.
    """

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        # The greatest sample in each of the last rounds, and when the newest began.
        self._rates: deque[float] = deque([0.0], ROUNDS)
        self._rates_since = now
        # The greatest bunch in each of the same rounds; and the one that is coming in, since when.
        self._bunches: deque[float] = deque([0.0, 0.0], ROUNDS)
        self._bunch = 0
        self._bunch_since = now

    def on_sample(self, size: int, seconds: float, now: float, round_trip: float) -> None:
        """So many bytes were delivered in so many seconds.

        Args:
            size: bytes.
            seconds: that they took; at least `FINE`.
            now: the time.
            round_trip: that of the path.
        """
        sample = size / seconds
        if now - self._rates_since >= max(FINE, round_trip):
            self._rates_since = now
            self._rates.append(sample)
            self._bunches.append(0.0)
        else:
            self._rates[-1] = max(self._rates[-1], sample)
        self.rate = max(self._rates)

    def on_acked(self, size: int, now: float, round_trip: float, most: float) -> None:
        """So many bytes more were acknowledged.

        Args:
            size: bytes.
            now: the time.
            round_trip: that of the path.
            most: bytes that may be a bunch.
        """
        elapsed = now - self._bunch_since
        if self._bunch <= self.rate * elapsed or elapsed > max(FINE, round_trip):
            self._bunch, self._bunch_since, elapsed = 0, now, 0.0
        self._bunch += size
        extra = self._bunch - self.rate * elapsed
        self._bunches[-1] = max(self._bunches[-1], min(extra, most, BUNCH_MAX * self.rate))

    @property
    def extra_acked(self) -> float:
        """Bytes that come over and above the rate within a round trip, again and again.

        The greatest but one of the last rounds: once is not enough.
        """
        return sorted(self._bunches)[-2]
