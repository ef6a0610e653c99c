"""When the receiver acknowledges delivered bytes.  Pure: the caller passes the time in.

The ACKs open the peer's window (`vknet.congestion.window`).  An ACK that is written by itself wakes
up four processes, which on a LAN is a tenth of all wake-ups.  With an ACK for every small frame,
ACKs would be a sixth of all bytes.  So an ACK waits a short time for a frame that goes the same way
and shares its write: a TCP that has received a segment answers at once, for example.  On a fast
path, where both ends handle thousands of batches per second, not every batch is acknowledged.

In startup the peer's window grows with each ACK.  So in startup every write carries an ACK: on a
LAN, a link then reaches its full rate in a few milliseconds instead of more than a hundred.

Sizes are in bytes, times in seconds of any monotonic clock, and rates in bytes per second.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from vknet.congestion import window

__all__ = [
    "ACK_DELAY_S",
    "ACK_EVERY_BYTES",
    "STARTUP_AFTER_IDLE_S",
    "TIMING_FAST",
    "TIMING_FASTER",
    "TIMING_NORMAL",
    "TIMING_SMALL_FRAMES",
    "TIMING_STARTUP",
    "AckPolicy",
    "AckTiming",
]

ACK_EVERY_BYTES: Final = 2000
"""The number of unacknowledged bytes that justifies an ACK: its block is a hundredth of them."""

ACK_DELAY_S: Final = 0.02
"""The time from one ACK to the next while fewer than `ACK_EVERY_BYTES` wait for it."""

STARTUP_AFTER_IDLE_S: Final = 0.1
"""The pause in the traffic after which ACKs are timed as in startup again."""

STARTUP_BYTES: Final = 4_000_000
"""The number of bytes that are acknowledged as in startup."""

# From these rates on the cost of each ACK shows, and the sender's window has room for rare ACKs:
# see the slack in vknet.congestion.window.
FAST_RATE: Final = window.HOST_SLACK_RATE
FASTER_RATE: Final = window.HOST_SLACK_SCALE_MAX * window.HOST_SLACK_RATE
RARE_ACK_FRAMES_PER_S: Final = 2 * window.SMALL_FRAMES_PER_S

# The shortest time over which the rates are measured.
MEASURED_OVER_S: Final = 0.01


class AckTiming(NamedTuple):
    """How often ACKs are sent.  A greater tuple means rarer ACKs."""

    min_interval_s: float
    """The minimum time from one ACK to the next."""
    piggyback_s: float
    """The time that an ACK waits for a frame to share its write."""
    timer_slack_s: float
    """How late an ACK may be written by itself.  An exact timer for each would cost more."""


TIMING_NORMAL: Final = AckTiming(0.001, 0.002, 0.002)
TIMING_FEW_BYTES: Final = TIMING_NORMAL._replace(min_interval_s=ACK_DELAY_S)
TIMING_STARTUP: Final = TIMING_NORMAL._replace(min_interval_s=0.0)
TIMING_FAST: Final = AckTiming(0.004, 0.008, 0.004)
TIMING_FASTER: Final = AckTiming(0.016, 0.016, 0.004)
TIMING_SMALL_FRAMES: Final = AckTiming(0.048, 0.048, 0.016)


class AckPolicy:
    """Decides when to send an ACK.

    Every frame that was read from the stream counts as delivered, whether the endpoint accepted or
    dropped it.  Bytes that are never acknowledged would stay in flight for ever.

    Attributes:
        delivered_bytes: all bytes delivered so far; the number that an ACK carries.
        not_before: a lower bound of `due`, for callers that ask often.
        not_before_alone: a lower bound of `due` without piggybacking.
        timing: how often ACKs of `ACK_EVERY_BYTES` or more are sent now.
    """

    def __init__(self) -> None:
        self.delivered_bytes = 0
        self.not_before = self.not_before_alone = -math.inf
        self.timing = TIMING_STARTUP
        self._acked_bytes = 0
        self._acked_at = -math.inf
        # When the oldest unacknowledged bytes were delivered.
        self._unacked_since = 0.0
        self._delivered_at = -math.inf
        # The value of `delivered_bytes` at which startup ends.
        self._startup_until_bytes = STARTUP_BYTES
        # The measurement of the rates: when it began, `delivered_bytes` at that time, and the
        # frames delivered since.
        self._measured_at = -math.inf
        self._measured_bytes = 0
        self._measured_frames = 0

    def on_delivered(self, size: int, now: float, frames: int = 1) -> None:
        """Count one batch of frames that was delivered to the endpoint.

        Args:
            size: the bytes of the batch.
            now: the time.
            frames: the number of frames in it.
        """
        if now - self._delivered_at > STARTUP_AFTER_IDLE_S:
            self._startup_until_bytes = self.delivered_bytes + STARTUP_BYTES
            self.timing = TIMING_STARTUP
        self._delivered_at = now
        if self.delivered_bytes == self._acked_bytes:
            self._unacked_since = now
            self.not_before_alone = max(now + TIMING_NORMAL.piggyback_s, self.not_before)
        self.delivered_bytes += size
        self._measured_frames += frames

    def due(self, *, piggyback: bool = False) -> float:
        """Return the time from which an ACK is due.

        Args:
            piggyback: whether the ACK would share the write of a frame.

        Returns:
            The time, which may be in the past; infinity if every delivered byte is acknowledged.
        """
        unacked = self.delivered_bytes - self._acked_bytes
        if not unacked:
            return math.inf
        timing = self._timing_for(unacked)
        earliest = max(self._unacked_since, self._acked_at + timing.min_interval_s)
        return earliest if piggyback else max(earliest, self._unacked_since + timing.piggyback_s)

    def alarm(self, now: float) -> float:
        """Return when to call `due` next if no other event leads to a call.

        The time is rounded up to a multiple of the timer slack, so that timers coincide.

        Args:
            now: the time.
        """
        due = max(self.due(), self.not_before)
        slack = self._timing_for(self.delivered_bytes - self._acked_bytes).timer_slack_s
        if now < due < math.inf:
            return max(due, math.ceil(due / slack) * slack)
        return due

    def on_ack_sent(self, now: float) -> None:
        """Note that an ACK of all delivered bytes was sent.

        Args:
            now: the time.
        """
        if self.delivered_bytes < self._startup_until_bytes:
            self._set_timing(TIMING_STARTUP, now)
        elif self.timing is TIMING_STARTUP:
            self._set_timing(TIMING_NORMAL, now)
        elif (elapsed := now - self._measured_at) >= MEASURED_OVER_S:
            self._set_timing(self._timing_at_rate(elapsed), now)
        self._acked_bytes, self._acked_at = self.delivered_bytes, now
        self.not_before = now + self.timing.min_interval_s

    def _timing_for(self, unacked_bytes: int) -> AckTiming:
        """Return the timing of an ACK of that many bytes."""
        if unacked_bytes < ACK_EVERY_BYTES:
            # Few bytes are never acknowledged sooner than many.
            return max(TIMING_FEW_BYTES, self.timing)
        return self.timing

    def _timing_at_rate(self, elapsed_s: float) -> AckTiming:
        """Return the timing for what was delivered in the measured time."""
        if self._measured_frames > RARE_ACK_FRAMES_PER_S * elapsed_s:
            return TIMING_SMALL_FRAMES
        size = self.delivered_bytes - self._measured_bytes
        if size > FAST_RATE * elapsed_s:
            return TIMING_FASTER if size > FASTER_RATE * elapsed_s else TIMING_FAST
        return TIMING_NORMAL

    def _set_timing(self, timing: AckTiming, now: float) -> None:
        """Apply a timing, and begin a new measurement."""
        self.timing = timing
        self._measured_bytes, self._measured_at = self.delivered_bytes, now
        self._measured_frames = 0
