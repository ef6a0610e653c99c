"""How long an ACK waited in the reverse queue.  Pure: the caller passes the time in.

ACKs travel with the peer's frames.  They overtake frames that wait in the peer's flow queue, but
not the bytes that wait in ssh, in the outer TCP and in the path's routers.  So when both directions
are full, each direction sees the queue of the other in its round trips.  Without the reverse delay
it could not tell that queue from a longer path, or from its own queue.

Theory.  An ACK's time stamp is the time when it was written, on the peer's clock.  That clock runs
as fast as ours, but has another zero.  So arrival time minus time stamp is the one-way delay plus
an unknown constant.  The recent minimum belongs to an ACK that met no queue; anything above it is
queueing delay.  Only a recent minimum is valid, because clocks drift, stop and are set.  Half a
minute is enough: in that time the peer empties its queue several times to measure its own min RTT.

An ACK cannot have waited longer than its round trip exceeds the minimum round trip.  If the time
stamps say otherwise, a clock was changed or the peer lies, and the minimum is corrected.

Times are in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["ReverseDelay", "stamp"]

MICROSECONDS_PER_S: Final = 10**6
STAMP_MODULUS: Final = 2**32
STAMP_MASK: Final = STAMP_MODULUS - 1

# The length of the minimum filters: the longer of a time and a number of min RTTs, since on a long
# path the peer empties its queue more rarely.  A minimum is kept for at least this time, and
# for up to three times as long where ACKs are rare.
REVERSE_FILTER_S: Final = 30.0
REVERSE_FILTER_RTTS: Final = 60


def stamp(now: float) -> int:
    """Return a time as the time stamp of an ACK: a u32 of microseconds, which wraps modulo 2**32.

    It wraps every 71 minutes.
    """
    return int(now * MICROSECONDS_PER_S) & STAMP_MASK


class ReverseDelay:
    """Estimates the queueing delay of the ACKs of one link."""

    def __init__(self) -> None:
        # The last ACK's arrival time minus time stamp: modulo 2**32 in microseconds, and unwrapped
        # in seconds.
        self._wrapped_delay = 0
        self._delay = 0.0
        self._min_delay = _MinFilter()
        self._min_rtt = _MinFilter()

    def estimate(self, at: int, now: float, rtt: float) -> float:
        """Return how long an ACK waited on its way, in seconds.

        Args:
            at: the ACK's time stamp: `stamp` of the time when the peer wrote it.
            now: when the ACK arrived.
            rtt: the round-trip time that the ACK ended.
        """
        wrapped = stamp(now) - at
        # Consecutive delays differ by less than half the modulus, however often a clock wrapped.
        half = STAMP_MODULUS // 2
        change = ((wrapped - self._wrapped_delay + half) & STAMP_MASK) - half
        self._delay += change / MICROSECONDS_PER_S
        self._wrapped_delay = wrapped
        length = max(REVERSE_FILTER_S, REVERSE_FILTER_RTTS * min(rtt, self._min_rtt.value))
        limit = rtt - self._min_rtt.update(rtt, now, length)
        waited = self._delay - self._min_delay.update(self._delay, now, length)
        if waited > limit:
            self._min_delay.raise_to(self._delay - limit)
            return limit
        return waited


class _MinFilter:
    """The minimum of recent values, over the current and the previous period."""

    def __init__(self) -> None:
        self._period_began_at = -math.inf
        self._current = self._previous = math.inf

    @property
    def value(self) -> float:
        """The minimum at the last update; infinity before the first."""
        return min(self._current, self._previous)

    def update(self, value: float, now: float, period_s: float) -> float:
        """Add a value, and return the recent minimum.

        Args:
            value: the new value.
            now: the time.
            period_s: how long a value is kept at least.
        """
        elapsed = now - self._period_began_at
        if elapsed > period_s:
            self._previous = self._current if elapsed <= 2 * period_s else math.inf
            self._current = math.inf
            self._period_began_at = now
        self._current = min(self._current, value)
        return self.value

    def raise_to(self, value: float) -> None:
        """Raise the minimum to a value: what was less is known to be wrong."""
        self._current = max(self._current, value)
        self._previous = max(self._previous, value)
