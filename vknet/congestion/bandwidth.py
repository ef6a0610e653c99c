"""The delivery rate of a path, and how bursty its ACKs are.  Pure: the caller passes the time in.

Both are maximum filters over the last `BANDWIDTH_FILTER_ROUNDS` round trips in which there was a
sample: they are BBR.max_bw and BBR.extra_acked of draft-ietf-ccwg-bbr.  `vknet.congestion.window`
feeds them.

Sizes are in bytes, times in seconds of any monotonic clock, and rates in bytes per second.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["RESOLUTION_S", "BandwidthEstimator"]

RESOLUTION_S: Final = 0.002
"""The shortest time that is measured.  Either end may be busy with a batch for this long, and this
much delay is negligible."""

# The length of both filters in round trips, as BBR.ExtraAckedFilterLen.
BANDWIDTH_FILTER_ROUNDS: Final = 10

# The longest aggregation time that extra_acked allows for.  Wi-Fi and a busy peer hold ACKs back
# for less.
EXTRA_ACKED_MAX_S: Final = 0.1


class BandwidthEstimator:
    """Estimates the delivery rate and the extra_acked of a path.

    Args:
        now: the time.

    Attributes:
        rate: the greatest delivery rate sample in the filter; 0 before the first sample.
    """

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        # The greatest sample of each round in the filter, and when the newest round began.
        self._rates: deque[float] = deque([0.0], BANDWIDTH_FILTER_ROUNDS)
        self._round_began_at = now
        # The greatest extra_acked of each of these rounds.
        self._extras: deque[float] = deque([0.0, 0.0], BANDWIDTH_FILTER_ROUNDS)
        # The bytes acknowledged in the current measurement of extra_acked, and when it began.
        self._interval_acked = 0
        self._interval_began_at = now

    def on_sample(self, size: int, elapsed_s: float, now: float, min_rtt_s: float) -> None:
        """Add a delivery rate sample.

        Args:
            size: the bytes delivered.
            elapsed_s: the time that their delivery took; at least `RESOLUTION_S`.
            now: the time.
            min_rtt_s: the path's min RTT.
        """
        sample = size / elapsed_s
        if now - self._round_began_at >= max(RESOLUTION_S, min_rtt_s):
            self._round_began_at = now
            self._rates.append(sample)
            self._extras.append(0.0)
        else:
            self._rates[-1] = max(self._rates[-1], sample)
        self.rate = max(self._rates)

    def on_acked(self, size: int, now: float, min_rtt_s: float, limit_bytes: float) -> None:
        """Count newly acknowledged bytes for extra_acked.

        Args:
            size: the bytes.
            now: the time.
            min_rtt_s: the path's min RTT.
            limit_bytes: the greatest extra_acked that is allowed.
        """
        elapsed = now - self._interval_began_at
        if self._interval_acked <= self.rate * elapsed or elapsed > max(RESOLUTION_S, min_rtt_s):
            self._interval_acked, self._interval_began_at, elapsed = 0, now, 0.0
        self._interval_acked += size
        extra = self._interval_acked - self.rate * elapsed
        limit = min(limit_bytes, EXTRA_ACKED_MAX_S * self.rate)
        self._extras[-1] = max(self._extras[-1], min(extra, limit))

    @property
    def extra_acked(self) -> float:
        """Bytes acknowledged within a round trip beyond what the delivery rate explains.

        It is the second greatest value in the filter: one burst alone does not count.
        """
        return sorted(self._extras)[-2]
