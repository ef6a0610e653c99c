"""How long a path is while no queue of ours stands in it, and when to look anew.  Pure.

The least round trip of late is the path's.  A queue of our own that never goes would pass for a
longer path after a while, and the window would grow by it, and the queue again.  So when none so
low was seen for ten seconds, a probe lets the path run nearly empty for about one round trip, and
takes the least seen then.

What a probe finds in the path is not ours.  Where it is much longer than it ever was, and not for
what the ACKs wait on their way back, somebody else's queue stands there: the path is crowded.  Or
it has become longer, which looks the same.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["MinRttEstimator"]

# How long a least round trip is good for: seconds, and round trips; the longer of the two, so that
# on a long path the probes do not cost more than one part in twenty.
AGE: Final = 10.0
AGE_ROUNDS: Final = 30

# A probe: what is under way meanwhile, of rate x round trip, and how many samples are enough.
PROBE_GAIN: Final = 0.5
PROBE_SAMPLES: Final = 8

# A probe before its time: the rate fell so far since the last one, and perhaps only because the
# path is longer now, and the window does not fill it.  Or it rose so far where the last one found
# the path crowded, after so many rounds to find its share: who made that queue may have gone, and
# what stands there be our own.  Seconds between two, at the least.
RATE_FALL: Final = 0.9
RATE_RISE: Final = 1.75
SETTLED_ROUNDS: Final = 5
APART: Final = 1.0

# Whether a path that has just become crowded goes on to be so, is seen sooner: who made that queue
# may have been a passer-by.  Seconds, and round trips, as above.
FIRST_AGE: Final = 2.0
FIRST_AGE_ROUNDS: Final = 5

# A path is crowded where the least of late is so many times the least ever, and so many seconds
# more.  A longer path looks the same; but for that a route has to change under a TCP.
CROWDED: Final = 2.0
CROWDED_BY: Final = 0.02


class MinRttEstimator:
    """The least round trip of a path.

    Args:
        now: the time, in seconds of any monotonic clock.
        quantum: bytes of a full frame.

    Attributes:
        round_trip: the least one of late, in seconds; None before the first.
        probing: no more than `probe_size` may be under way now.
        frame: bytes of a frame of late, if they are more than those of a full one.
    """

    def __init__(self, now: float, quantum: int) -> None:
        self.round_trip: float | None = None
        self.probing = False
        self.frame = float(quantum)
        self._quantum = quantum
        # What of the round trip is the way back's.
        self._back = 0.0
        self._least_ever = math.inf
        self._seen_at = self._taken_at = self._probed_at = now
        # The greatest rate since the last probe.
        self._greatest_rate = 0.0
        # Rounds since a least was taken whatever was before; and, where it was that of a crowded
        # path, the least rate of the first of them.
        self._rounds = 0
        self._was_crowded = self._is_new = False
        self._settled_rate = math.inf
        # Once the path has drained, what was sent by then: samples count of what went later.
        self._drained: int | None = None
        self._samples: list[tuple[float, float]] = []

    def has_competing_queue(self, rate: float) -> bool:
        """Whether somebody else's queue stands on the path.

        Args:
            rate: of the path, in bytes per second.
        """
        if self.round_trip is None or not rate:
            return False
        # What was seen first may have been a small frame.
        empty = self._least_ever + self.frame / rate
        return self.round_trip - self._back > CROWDED * empty + CROWDED_BY

    def probe_size(self, rate: float) -> int:
        """Bytes that a probe lets be under way.

        Where the other direction is full as well, and its ACKs do not say when they were written,
        its queue is in the least of late.  A probe that kept that much under way would take our own
        queue for the path, and so would theirs.

        Args:
            rate: of the path, in bytes per second.
        """
        return max(self._quantum, int(PROBE_GAIN * rate * self._least_ever))

    def see(self, sample: float, now: float, *, rate: float, back: float, alone: bool) -> None:
        """See a round trip.

        Args:
            sample: how long it took, in seconds.
            now: the time.
            rate: of the path, in bytes per second.
            back: seconds of it that its ACK waited on the way back; infinity if nobody can tell.
            alone: the path was empty before what this was the round trip of.
        """
        self._least_ever = min(self._least_ever, sample)
        if self.round_trip is None or sample <= self.round_trip:
            self.round_trip, self._back = sample, back
            self._seen_at = now
        elif alone and not self.probing and self._is_old(now):
            # Who found the path empty has seen what a probe is to see.
            self._take(sample, back, now, rate)
        if self.probing and self._drained is not None:
            self._samples.append((sample, back))

    def end_round(self, rate: float, now: float, *, was_full: bool) -> None:
        """A round trip's worth has been acknowledged: begin a probe if there is reason to.

        Args:
            rate: of the path, in bytes per second.
            now: the time.
            was_full: the window was full in this round.
        """
        self._greatest_rate = max(self._greatest_rate, rate)
        self._rounds += 1
        if self._is_new:
            self._is_new = self.has_competing_queue(rate)
        if self._rounds <= SETTLED_ROUNDS and self._was_crowded:
            self._settled_rate = min(self._settled_rate, rate)
        if now - self._probed_at >= APART and self._is_doubtful(rate, now, was_full=was_full):
            self.probing = True
            self._drained = None
            self._samples = []

    def probe(self, now: float, *, sent: int, acked: int, rate: float, gone: int) -> bool:
        """Go on with the probe, after a round trip was seen; whether it has ended.

        Args:
            now: the time.
            sent: bytes sent in all.
            acked: and acknowledged.
            rate: of the path, in bytes per second.
            gone: bytes of those not acknowledged that are on the path no longer.
        """
        if self._drained is None:
            if sent - acked <= self.probe_size(rate) + gone:
                self._drained = sent
            return False
        if acked <= self._drained:
            self._samples.clear()
            return False
        if len(self._samples) < PROBE_SAMPLES and sent > acked:
            return False
        self._take(*min(self._samples), now, rate)
        self._probed_at = now
        self._greatest_rate = rate
        self.probing = False
        return True

    def _take(self, sample: float, back: float, now: float, rate: float) -> None:
        """Take this for the least of late, whatever was before."""
        # It may have ended to be crowded since it was looked at.
        was_crowded = self._was_crowded and self.has_competing_queue(rate)
        self.round_trip, self._back = sample, back
        self._seen_at = self._taken_at = now
        self._rounds = 0
        self._settled_rate = math.inf
        self._was_crowded = self.has_competing_queue(rate)
        self._is_new = self._was_crowded and not was_crowded

    def _is_doubtful(self, rate: float, now: float, *, was_full: bool) -> bool:
        if self._is_old(now):
            return True
        first = max(FIRST_AGE, FIRST_AGE_ROUNDS * (self.round_trip or 0.0))
        if self._is_new and now - self._taken_at > first:
            return True
        if self._rounds > SETTLED_ROUNDS and rate > RATE_RISE * self._settled_rate:
            return True
        # A window that was never full is not what the rate fell by.
        return was_full and rate < RATE_FALL * self._greatest_rate

    def _is_old(self, now: float) -> bool:
        """Whether the least round trip was seen too long ago."""
        return now - self._seen_at > max(AGE, AGE_ROUNDS * (self.round_trip or 0.0))
