"""The min RTT of a path, and when to measure it again.  Pure: the caller passes the time in.

The min RTT is the path's round-trip time without a queue of our own.  A queue of our own that never
drains would pass for a longer path: the window would grow with the estimate, and the queue with the
window.  So when no sample has been as short as the min RTT for ten seconds, a probe (ProbeRTT in
draft-ietf-ccwg-bbr) lets our queue drain for about one round trip, and the minimum of its samples
becomes the min RTT, even if it is greater.  A fall of the rate, a new competing queue, and a rise
of the rate beside one start a probe early (`MinRttEstimator._needs_probe`).

A queue that a probe sees is not ours.  If the min RTT is then much longer than the shortest RTT
ever seen, and reverse delay does not explain it, the path has a competing queue: other traffic
fills the bottleneck.  A route that has become longer looks the same.  Reverse delay explains
everything if ACKs carry no time stamps: then a competing queue is never found.

Sizes are in bytes, times in seconds of any monotonic clock, and rates in bytes per second.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["MinRttEstimator"]

# A min RTT expires if no sample was as short for this long; it stays in use until a probe replaces
# it.  The longer of a time and a number of min RTTs counts: on a long path, the number bounds the
# cost of probes to one part in twenty.
EXPIRY_S: Final = 10.0
EXPIRY_RTTS: Final = 30

# The bytes in flight during a probe, as a part of rate x shortest RTT (BBR.ProbeRTTCwndGain).
PROBE_GAIN: Final = 0.5

# The number of RTT samples that end a probe.
PROBE_SAMPLES: Final = 8

# A rate below this part of the maximum since the last probe begins a probe, if the window was full:
# the path may have become longer, so that the window no longer fills it.
PROBE_RATE_FALL: Final = 0.9

# If the last probe found a competing queue, a rise of the rate by this factor begins a probe: the
# competing traffic may have ended, and the queue may be our own.
PROBE_RATE_RISE: Final = 1.75

# The rate beside a competing queue settles in this number of rounds.  After them, a rise counts
# from the minimum rate in them.
SETTLING_ROUNDS: Final = 5

# The minimum time from the end of one probe to the next.
PROBE_SPACING_S: Final = 1.0

# A probe checks a new competing queue again after this long, since the competing traffic may be
# short-lived: the longer of a time and a number of min RTTs.
RECHECK_S: Final = 2.0
RECHECK_RTTS: Final = 5

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
        # When a sample was last as short as the min RTT.
        self._seen_at = now
        # When the min RTT was last measured again, by a probe or on an idle path.
        self._remeasured_at = now
        # When a probe last ended.
        self._probed_at = now
        # The maximum rate since the last probe.
        self._max_rate = 0.0
        # Rounds since the min RTT was remeasured.
        self._rounds = 0
        # Whether the remeasured min RTT included a competing queue.
        self._had_competing_queue = False
        # Whether that queue is new: the min RTT before did not include one.
        self._is_new_queue = False
        # The minimum rate in the rounds in which the rate settled beside that queue.
        self._settled_rate = math.inf
        # The running probe takes samples from bytes after this number; None until our queue has
        # drained.
        self._samples_from_byte: int | None = None
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

        It is a part of rate x shortest RTT, not of rate x min RTT.  If the peer's direction is full
        and ACKs carry no time stamps, our min RTT includes the peer's queue.  With rate x min RTT
        in flight, our probe would not drain our own queue, the peer's probe would see that queue,
        and neither would ever shrink.

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
            self._remeasure(rtt, reverse_s, now, rate)
        if self.probing and self._samples_from_byte is not None:
            self._samples.append((rtt, reverse_s))

    def on_round_end(self, rate: float, now: float, *, window_was_full: bool) -> None:
        """A round has ended: begin a probe if one is needed.

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
            self._samples_from_byte = None
            self._samples = []

    def update_probe(
        self, now: float, *, sent: int, acked: int, rate: float, left_path_bytes: int
    ) -> bool:
        """Continue the running probe after a sample.

        Args:
            now: the time.
            sent: all bytes sent so far.
            acked: all bytes acknowledged so far.
            rate: the path's delivery rate.
            left_path_bytes: the unacknowledged bytes that have left the path already.

        Returns:
            Whether the probe has ended.
        """
        if self._samples_from_byte is None:
            if sent - acked <= self.probe_bytes(rate) + left_path_bytes:
                self._samples_from_byte = sent
            return False
        if acked <= self._samples_from_byte:
            self._samples.clear()
            return False
        if len(self._samples) < PROBE_SAMPLES and sent > acked:
            return False
        self._remeasure(*min(self._samples), now, rate)
        self._probed_at = now
        self._max_rate = rate
        self.probing = False
        return True

    def _remeasure(self, rtt: float, reverse_s: float, now: float, rate: float) -> None:
        """Replace the min RTT by a new one, even if it is greater."""
        # At the present rate the path may no longer count as having one.
        had_competing_queue = self._had_competing_queue and self.has_competing_queue(rate)
        self.min_rtt_s, self._reverse_s = rtt, reverse_s
        self._seen_at = self._remeasured_at = now
        self._rounds = 0
        self._settled_rate = math.inf
        self._had_competing_queue = self.has_competing_queue(rate)
        self._is_new_queue = self._had_competing_queue and not had_competing_queue

    def _needs_probe(self, rate: float, now: float, *, window_was_full: bool) -> bool:
        """Whether the min RTT has expired, or a probe has to begin early.

        A probe begins early in three cases:

        - The last probe found a new competing queue, and it is time to check it again.
        - The last probe found a competing queue, and the rate has risen since it settled.
        - The rate has fallen although the window was full.  A window that was not full did not
          limit the rate.
        """
        if self._is_expired(now):
            return True
        recheck_s = max(RECHECK_S, RECHECK_RTTS * (self.min_rtt_s or 0.0))
        if self._is_new_queue and now - self._remeasured_at > recheck_s:
            return True
        if self._rounds > SETTLING_ROUNDS and rate > PROBE_RATE_RISE * self._settled_rate:
            return True
        return window_was_full and rate < PROBE_RATE_FALL * self._max_rate

    def _is_expired(self, now: float) -> bool:
        """Whether no sample has been as short as the min RTT for too long."""
        return now - self._seen_at > max(EXPIRY_S, EXPIRY_RTTS * (self.min_rtt_s or 0.0))
