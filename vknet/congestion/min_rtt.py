"""The min RTT of a path, and when to measure it again.  Pure: the caller passes the time in.

The min RTT is the path's round-trip time without a queue of our own.  A queue of our own that never
drains would pass for a longer path: the window would grow with the estimate, and the queue with the
window.  So when the min RTT was not seen for ten seconds, a probe (ProbeRTT in
draft-ietf-ccwg-bbr) lets the path run nearly empty for about one round trip, and takes the minimum
of what it sees.

A queue that a probe sees is not ours.  If the min RTT is then much longer than the shortest RTT
ever seen, and reverse delay does not explain it, the path has a competing queue: other traffic
fills the bottleneck.  A route that has become longer looks the same.

Sizes are in bytes, times in seconds of any monotonic clock, and rates in bytes per second.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["MinRttEstimator"]

# How long a min RTT is valid: the longer of a time and a number of round trips.  The latter bounds
# the cost of probes on a long path to one part in twenty.
EXPIRY_S: Final = 10.0
EXPIRY_ROUNDS: Final = 30

# The bytes in flight during a probe, as a part of rate x min RTT (BBR.ProbeRTTCwndGain).
PROBE_GAIN: Final = 0.5

# The number of RTT samples that end a probe.
PROBE_SAMPLES: Final = 8

# A probe begins early in two cases.  The rate fell to this part of the maximum since the last
# probe: the path may have become longer, so that the window no longer fills it.
PROBE_RATE_FALL: Final = 0.9

# Or the last probe found a competing queue, and the rate rose by this factor after it had settled
# for a number of rounds: the competing traffic may have ended, and the queue may be our own.
PROBE_RATE_RISE: Final = 1.75
SETTLING_ROUNDS: Final = 5

# The minimum time from the end of one probe to the next.
PROBE_SPACING_S: Final = 1.0

# How soon a new competing queue is checked again, since the competing traffic may be short-lived:
# the longer of a time and a number of round trips.
RECHECK_S: Final = 2.0
RECHECK_ROUNDS: Final = 5

# A path has a competing queue if its min RTT exceeds the shortest RTT ever seen by this factor and,
# in addition, by this time.  A longer route looks the same, but a route rarely changes under a TCP
# connection.
COMPETING_RATIO: Final = 2.0
COMPETING_MARGIN_S: Final = 0.02


class MinRttEstimator:
    """Estimates the min RTT of a path.

    Args:
        now: the time.
        quantum: the bytes of a full frame.

    Attributes:
        min_rtt_s: the min RTT; None before the first sample.
        probing: whether a probe is running: at most `probe_bytes` may be in flight.
        frame_bytes: the recent mean size of a frame, if it is more than a full frame's.
    """

    def __init__(self, now: float, quantum: int) -> None:
        self.min_rtt_s: float | None = None
        self.probing = False
        self.frame_bytes = float(quantum)
        self._quantum = quantum
        # The part of the min RTT that may be reverse delay.
        self._reverse_s = 0.0
        self._shortest_ever_s = math.inf
        # When the min RTT was last seen, when it was last replaced, and when a probe last ended.
        self._seen_at = self._replaced_at = self._probed_at = now
        # The maximum rate since the last probe.
        self._max_rate = 0.0
        # Rounds since the min RTT was replaced.  If a competing queue was in it: whether that queue
        # is new, and the minimum rate while the rate settled.
        self._rounds = 0
        self._had_competing_queue = self._is_new_queue = False
        self._settled_rate = math.inf
        # The bytes sent when the path had drained for the probe; None before that.  Only bytes sent
        # later give samples.
        self._drained_at_bytes: int | None = None
        # RTTs, each with the part that may be reverse delay.
        self._samples: list[tuple[float, float]] = []

    def has_competing_queue(self, rate: float) -> bool:
        """Whether a queue of other traffic stands on the path.

        Args:
            rate: the path's delivery rate.
        """
        if self.min_rtt_s is None or not rate:
            return False
        # The shortest RTT may be that of a small frame: add the time that a full one takes.
        empty_s = self._shortest_ever_s + self.frame_bytes / rate
        return self.min_rtt_s - self._reverse_s > COMPETING_RATIO * empty_s + COMPETING_MARGIN_S

    def probe_bytes(self, rate: float) -> int:
        """Return how many bytes may be in flight during a probe.

        It is a part of rate x shortest RTT, not of rate x min RTT.  If the reverse direction is
        full and its ACKs have no time stamps, its queue is in our min RTT.  A probe that kept that
        many bytes in flight would take our own queue for the path, and so would the peer's probe.

        Args:
            rate: the path's delivery rate.
        """
        return max(self._quantum, int(PROBE_GAIN * rate * self._shortest_ever_s))

    def on_sample(
        self, rtt: float, now: float, *, rate: float, reverse_s: float, was_idle: bool
    ) -> None:
        """Take an RTT sample.

        Args:
            rtt: the sample.
            now: the time.
            rate: the path's delivery rate.
            reverse_s: the part of the RTT that may be reverse delay; infinity if unknown.
            was_idle: whether nothing else was in flight when the bytes were sent.
        """
        self._shortest_ever_s = min(self._shortest_ever_s, rtt)
        if self.min_rtt_s is None or rtt <= self.min_rtt_s:
            self.min_rtt_s, self._reverse_s = rtt, reverse_s
            self._seen_at = now
        elif was_idle and not self.probing and self._is_expired(now):
            # An idle path shows what a probe would show.
            self._replace(rtt, reverse_s, now, rate)
        if self.probing and self._drained_at_bytes is not None:
            self._samples.append((rtt, reverse_s))

    def on_round_end(self, rate: float, now: float, *, window_was_full: bool) -> None:
        """Begin a probe if there is a reason to: a round trip's bytes have been acknowledged.

        Args:
            rate: the path's delivery rate.
            now: the time.
            window_was_full: whether the window was full in this round.
        """
        self._max_rate = max(self._max_rate, rate)
        self._rounds += 1
        if self._is_new_queue:
            self._is_new_queue = self.has_competing_queue(rate)
        if self._rounds <= SETTLING_ROUNDS and self._had_competing_queue:
            self._settled_rate = min(self._settled_rate, rate)
        if now - self._probed_at < PROBE_SPACING_S:
            return
        if self._needs_probe(rate, now, window_was_full=window_was_full):
            self.probing = True
            self._drained_at_bytes = None
            self._samples = []

    def update_probe(
        self, now: float, *, sent: int, acked: int, rate: float, delivered: int
    ) -> bool:
        """Continue the running probe after a sample.

        Args:
            now: the time.
            sent: all bytes sent so far.
            acked: all bytes acknowledged so far.
            rate: the path's delivery rate.
            delivered: the unacknowledged bytes that have left the path already.

        Returns:
            Whether the probe has ended.
        """
        if self._drained_at_bytes is None:
            if sent - acked <= self.probe_bytes(rate) + delivered:
                self._drained_at_bytes = sent
            return False
        if acked <= self._drained_at_bytes:
            self._samples.clear()
            return False
        if len(self._samples) < PROBE_SAMPLES and sent > acked:
            return False
        self._replace(*min(self._samples), now, rate)
        self._probed_at = now
        self._max_rate = rate
        self.probing = False
        return True

    def _replace(self, rtt: float, reverse_s: float, now: float, rate: float) -> None:
        """Replace the min RTT, even by a greater one."""
        # The rate may have changed the answer since the last call.
        had_competing_queue = self._had_competing_queue and self.has_competing_queue(rate)
        self.min_rtt_s, self._reverse_s = rtt, reverse_s
        self._seen_at = self._replaced_at = now
        self._rounds = 0
        self._settled_rate = math.inf
        self._had_competing_queue = self.has_competing_queue(rate)
        self._is_new_queue = self._had_competing_queue and not had_competing_queue

    def _needs_probe(self, rate: float, now: float, *, window_was_full: bool) -> bool:
        if self._is_expired(now):
            return True
        recheck = max(RECHECK_S, RECHECK_ROUNDS * (self.min_rtt_s or 0.0))
        if self._is_new_queue and now - self._replaced_at > recheck:
            return True
        if self._rounds > SETTLING_ROUNDS and rate > PROBE_RATE_RISE * self._settled_rate:
            return True
        # A window that was never full did not limit the rate.
        return window_was_full and rate < PROBE_RATE_FALL * self._max_rate

    def _is_expired(self, now: float) -> bool:
        """Whether the min RTT was last seen too long ago."""
        return now - self._seen_at > max(EXPIRY_S, EXPIRY_ROUNDS * (self.min_rtt_s or 0.0))
