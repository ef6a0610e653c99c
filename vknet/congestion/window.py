"""The window: how many bytes may be in flight to the peer.  Pure: the caller passes the time in.

ssh accepts two megabytes before it pushes back; at 10 Mbit/s that is more than a second of delay.
So the sender counts the bytes in flight: those sent, less those that the peer's ACKs report as
delivered.  They may not exceed the window.  Further frames wait in the flow queue.

Theory (draft-ietf-ccwg-bbr).  Two figures of a path can be measured from its ends: the delivery
rate of its bottleneck, which needs a full path, and its min RTT, which needs an empty one.  Their
product, the BDP, is the number of bytes in flight that fills the path without a queue.

    rate         The maximum delivery rate sample of ten round trips (vknet.congestion.bandwidth).
                 A sample is the bytes acknowledged from the last ACK before a batch was sent to the
                 ACK of that batch, divided by the time between these ACKs, or by the time that
                 sending those bytes took, whichever is longer.  A batch is app-limited if the
                 sender had too little to send in the round trip before it; then its sample counts
                 only if it exceeds the rate, or if its RTT shows a long queue.
    min RTT      The minimum RTT of ten seconds (vknet.congestion.min_rtt).  Probes prevent a queue
                 of our own from passing for a longer path.
    extra_acked  The bytes acknowledged within a round trip beyond rate x time: the second greatest
                 value of ten round trips, since one burst alone says little.  Below a BDP, it is 0.

    window   =   gain x rate x min RTT  +  max(rate x slack, extra_acked)  +  a quantum

In startup it is at least the initial window.  `Window._target_size` has the details.

A gain above one makes a short queue, and that queue shows that the path is full.  Without a queue,
each round delivers more than the last, and the rate rises with it.  Three such rounds begin a
startup, in which the window grows faster.  A new link begins in startup.

ACKs may come in bursts, over Wi-Fi or from a busy peer.  Then most bytes are acknowledged much
later than after a min RTT, and a window of one BDP would leave the path idle until the next burst.
The rate, and with it the window, would shrink to almost nothing.  extra_acked and slack prevent it.

Differences from BBR.  The stream below is reliable and ordered: there is no loss to react to.  A
loss of the outer TCP shows as ACKs that stop and then come in a burst: one low sample of ten.  Only
slow paths are paced, elsewhere (vknet.congestion.pacer).  What the outer TCP's congestion window
holds back in ssh and in the socket buffer is a queue of the path, and its rate is the TCP's.  On a
fast path, two ssh processes and a busy peer make the ACKs come unevenly: the slack allows for that.

Competing traffic.  The min RTT includes a competing queue, since probes cannot drain it.  A TCP
that reacts to loss alone fills that queue, and the min RTT is seen just after its loss.  When the
queue is full again, GAIN x BDP is too little: our share would shrink from loss to loss.  No sender
can keep the RTT of an empty path there.  So a competing queue makes the gain greater.

Reverse delay.  The time that an ACK waited in the queue of the reverse direction
(vknet.congestion.reverse_delay) is no part of the RTT, so the directions do not see each other's
queue.  The bytes that waiting ACKs report have left the path: as many more may be in flight.

The send quota grows only in `Window.on_ack`, never by time: it needs no timer.  Sizes are in bytes,
times in seconds of any monotonic clock, and rates in bytes per second.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from vknet.congestion.bandwidth import RESOLUTION_S, BandwidthEstimator
from vknet.congestion.min_rtt import MinRttEstimator
from vknet.congestion.reverse_delay import ReverseDelay
from vknet.packet.ethernet import FULL_FRAME

__all__ = ["Window"]

# The window before the first ACK, in quanta: ten segments, as in TCP (RFC 6928).
INITIAL_QUANTA: Final = 10

# The gain (BBR.cwnd_gain): enough to detect a full path whose delay varies.  It costs a standing
# queue of a quarter of the min RTT.
GAIN: Final = 1.25

# The gain while the path has a competing queue.
COMPETING_GAIN: Final = 1.75

# The gain in startup.  2 / ln 2, as in BBR, doubles the rate in every round; this is a little less,
# and overshoots less.
STARTUP_GAIN: Final = 2.5

# The pacing rate in startup, in windows per min RTT.  The bursts of an inner TCP in slow start,
# delayed by an eighth of the RTT, would make it believe that the path is full (HyStart, RFC 9406).
STARTUP_PACING_GAIN: Final = 2.0

# A startup begins after BEGIN_ROUNDS consecutive rounds without a queue in which the rate grew by
# the factor GROWTH.  It ends after END_ROUNDS consecutive rounds with a queue or with less growth.
STARTUP_BEGIN_ROUNDS: Final = 3
STARTUP_END_ROUNDS: Final = 2
STARTUP_GROWTH: Final = 1.1

# On a fast path the CPUs are the bottleneck, and their schedulers add jitter.  The host slack is
# HOST_SLACK_S x min(rate / HOST_SLACK_RATE, HOST_SLACK_SCALE_MAX).  ssh's buffers bound the bytes
# in flight where they hold less than the slack: at the maximum, rate x slack is 4.8 MB.
HOST_SLACK_S: Final = 0.012
HOST_SLACK_RATE: Final = 100e6
HOST_SLACK_SCALE_MAX: Final = 2.0

# The slack for many frames per second, as a rule small ones: 0 up to SMALL_FRAMES_PER_S, all of
# SMALL_FRAMES_SLACK_S from twice that on, in proportion between.  To queue them would cost CPU time
# that carrying them needs.  Again, ssh's buffers are the bound where they hold less.
SMALL_FRAMES_SLACK_S: Final = 0.25
SMALL_FRAMES_PER_S: Final = 30e3

# A min RTT that grows by the factor RATIO at once is probably that of another path, with another
# rate; competing traffic adds less.  The window then keeps its size, and may double in each round
# without a queue.  The first ROUNDS rounds do not count: the path is still as empty as it was.
PATH_CHANGE_RATIO: Final = 20.0
PATH_CHANGE_ROUNDS: Final = 2

# An RTT above this factor times the full-window RTT means a standing queue.
QUEUE_RTT_RATIO: Final = 1.5

# The most that is subtracted from the RTT as reverse delay: what a full reverse direction of a path
# of 100 ms takes.  It bounds what a wrong clock gains a peer.  The rest counts as path length, as
# all of it does if ACKs have no time stamps.
REVERSE_DELAY_MAX_S: Final = 0.25

# The number of batches in flight that have a record each; further ones share the last record.
RECORDS_MAX: Final = 4096


class _Record(NamedTuple):
    """A batch in flight, and the state of the connection when it was sent."""

    end: int
    """All bytes sent up to the end of the batch."""
    sent_at: float
    acked: int
    """All bytes acknowledged."""
    acked_at: float
    """When they were acknowledged, or when the path was last idle, whichever is later."""
    acked_sent_at: float
    """When the last of them was sent, or when the path was last idle, whichever is later."""
    app_limited: bool
    """Whether the sender had too little to send in the round trip before."""


class Window:
    """The congestion window of one direction of a link.

    The sender asks for `send_quota` and reports `on_sent`, or `note_app_limited` if it has nothing
    to send.  The receiver of ACKs reports `on_ack`, which may raise the quota.

    Args:
        now: the time.
        quantum: the bytes of a full frame.
        size: a fixed window; None to measure the path.
        sent: bytes sent before, at unknown times.

    Attributes:
        size: the window: how many bytes may be in flight.
        pacing_rate: the rate that spreads a window over the min RTT; in startup, over half of it.
        reverse_delay_s: the reverse delay of the last ACK, at most `REVERSE_DELAY_MAX_S`.
        in_startup: whether the path may have room, so that the window grows fast.
    """

    def __init__(
        self, now: float, quantum: int = FULL_FRAME, *, size: int | None = None, sent: int = 0
    ) -> None:
        self._min_rtt = MinRttEstimator(now, quantum)
        self._bandwidth = BandwidthEstimator(now)
        self._reverse = ReverseDelay()
        self._quantum = quantum
        self._fixed_size = size
        # The recent mean size of a frame.
        self._mean_frame = float(quantum)
        self.size = INITIAL_QUANTA * quantum if size is None else size
        self.pacing_rate = math.inf
        self.reverse_delay_s = 0.0
        self._sent = self._sent_before_window = sent
        self._acked = 0
        self._acked_at = self._acked_sent_at = now
        self._records: deque[_Record] = deque()
        if sent:
            self._records.append(_Record(sent, now, 0, now, now, app_limited=True))
        # The estimated bytes that have left the path while their ACKs wait on the reverse path.
        self._delivered_unacked = 0
        # Bytes sent while no more than this is acknowledged are app-limited.
        self._app_limited_until = -1
        # A round ends when the bytes sent before its beginning are acknowledged.
        self._round_end = 0
        self._round_min_rtt_s = math.inf
        self._round_rate = 0.0
        self._round_was_full = False
        self.in_startup = True
        # Consecutive rounds that spoke for a change of `in_startup`.
        self._change_rounds = 0
        # After a path change: the window's limit until the old rate is confirmed, and the rounds.
        self._path_change_limit = math.inf
        self._path_change_rounds = 0
        self._size_before_change = self.size

    # --- the link's interface ---------------------------------------------------------------------

    @property
    def rate(self) -> float:
        """The estimated delivery rate; 0 before the first sample."""
        return self._bandwidth.rate

    @property
    def min_rtt_s(self) -> float | None:
        """The min RTT without reverse delay; None before the first ACK."""
        return self._min_rtt.min_rtt_s

    @property
    def bytes_in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        return self._sent - self._acked

    @property
    def send_quota(self) -> int:
        """How many bytes may be sent now.

        If it is not 0, the last frame may exceed it, so one frame can always be in flight.
        """
        return max(0, self.size - self.bytes_in_flight)

    def on_sent(self, total: int, now: float, frames: int = 1) -> None:
        """Record a batch that is about to be written.

        Args:
            total: all bytes sent so far, this batch included.
            now: the time.
            frames: the number of frames in the batch.
        """
        if total == self._sent:
            return
        self._mean_frame += ((total - self._sent) / frames - self._mean_frame) / 8
        self._min_rtt.frame_bytes = max(self._quantum, self._mean_frame)
        if self._sent == self._acked:
            # The idle time before this batch is no part of a rate sample.
            self._acked_at = self._acked_sent_at = now
        limited = self._acked <= self._app_limited_until
        record = _Record(total, now, self._acked, self._acked_at, self._acked_sent_at, limited)
        if len(self._records) == RECORDS_MAX:
            record = self._records.pop()._replace(end=total)
        self._records.append(record)
        self._sent = total

    def note_app_limited(self) -> None:
        """Note that there is nothing to send although the quota is not 0."""
        self._app_limited_until = self._sent

    def on_ack(self, total: int, now: float, at: int | None = None) -> None:
        """Take an ACK, and update the window.

        Args:
            total: all bytes that the peer has delivered so far.
            now: the time.
            at: the ACK's time stamp, as `vknet.congestion.reverse_delay.stamp` returns it; None if
                it has none.

        Raises:
            ValueError: more bytes than were sent, or fewer than were acknowledged before.
        """
        if not self._acked <= total <= self._sent:
            raise ValueError(
                f"acknowledged {total} bytes, where {self._sent} were sent"
                f" and {self._acked} were acknowledged before"
            )
        if total == self._acked:
            return
        was_full = not self.send_quota
        min_rtt_before = math.inf if self.min_rtt_s is None else self.min_rtt_s
        record = self._take_record(total)
        rtt = max(0.0, now - record.sent_at)
        # Reverse delay, and the part of it that is left in the RTT: unknown without a time stamp.
        waited, left_in_rtt = 0.0, math.inf
        if at is not None:
            estimate = self._reverse.estimate(at, now, rtt)
            waited = min(REVERSE_DELAY_MAX_S, estimate)
            left_in_rtt = estimate - waited
        self.reverse_delay_s = waited
        rtt -= waited
        # When the ACK would have come without reverse delay.
        came_at = max(now - waited, self._acked_at)
        self._bandwidth.on_acked(total - self._acked, came_at, self.min_rtt_s or 0.0, self.size)
        self._acked = total
        self._round_was_full |= was_full
        if self._fixed_size is None:
            # If everything is acknowledged, nothing waits on the reverse path.
            self._delivered_unacked = int(self.rate * waited) if total < self._sent else 0
        if total > self._sent_before_window:
            # What was sent before has no sending time, and gives no RTT.
            self._round_min_rtt_s = min(self._round_min_rtt_s, rtt)
            idle = record.sent_at == record.acked_sent_at
            self._min_rtt.on_sample(rtt, now, rate=self.rate, reverse_s=left_in_rtt, was_idle=idle)
            self._update_probe(now)
            if self.min_rtt_s and self.min_rtt_s > PATH_CHANGE_RATIO * min_rtt_before:
                self._path_change_limit, self._path_change_rounds = self._size_before_change, 0
        # Behind a long queue the path is slow, even if the batch was app-limited.
        queued = was_full and rtt > QUEUE_RTT_RATIO * self._full_window_rtt_s()
        if record.acked >= self._sent_before_window:
            self._sample_rate(record, came_at, limited=record.app_limited and not queued)
        self._acked_at = came_at
        self._acked_sent_at = record.sent_at
        if total >= self._round_end:
            self._end_round(now, limited=record.app_limited)
        self._resize()

    def _take_record(self, total: int) -> _Record:
        """Return the record of the batch that ends or contains this byte; forget earlier ones."""
        records = self._records
        while records[0].end < total:
            records.popleft()
        return records.popleft() if records[0].end == total else records[0]

    # --- estimates --------------------------------------------------------------------------------

    def _sample_rate(self, record: _Record, now: float, *, limited: bool) -> None:
        size = self._acked - record.acked
        elapsed = max(now - record.acked_at, record.sent_at - record.acked_sent_at, RESOLUTION_S)
        if not limited or size > self.rate * elapsed:
            self._bandwidth.on_sample(size, elapsed, now, self.min_rtt_s or 0.0)

    def _update_probe(self, now: float) -> None:
        sent, acked, left = self._sent, self._acked, self._delivered_unacked
        if self._min_rtt.probing and self._min_rtt.update_probe(
            now, sent=sent, acked=acked, rate=self.rate, left_path_bytes=left
        ):
            self._round_end = self._sent

    def _full_window_rtt_s(self) -> float:
        """The RTT that a full window causes, in seconds."""
        if self.min_rtt_s is None or not self.rate:
            return math.inf
        return self._gain() * self.min_rtt_s + self._slack_s() + self._quantum / self.rate

    # --- rounds: whether the path is full, and whether it has changed -----------------------------

    def _end_round(self, now: float, *, limited: bool) -> None:
        round_min_rtt_s, self._round_min_rtt_s = self._round_min_rtt_s, math.inf
        rate_before, self._round_rate = self._round_rate, self.rate
        was_full, self._round_was_full = self._round_was_full, False
        self._round_end = self._sent
        if self._min_rtt.probing or self.min_rtt_s is None:
            return
        full_rtt_s = self._full_window_rtt_s()
        half_full_rtt_s = (self.min_rtt_s + full_rtt_s) / 2
        self._path_change_rounds += 1
        if self._path_change_rounds > PATH_CHANGE_ROUNDS and round_min_rtt_s < half_full_rtt_s:
            self._path_change_limit *= 2
        if not limited:
            no_queue = round_min_rtt_s < (full_rtt_s if self.in_startup else half_full_rtt_s)
            self._judge_round(has_room=no_queue and self.rate >= STARTUP_GROWTH * rate_before)
        elif round_min_rtt_s > full_rtt_s:
            # Even an app-limited round made a queue.
            self._judge_round(has_room=False)
        self._min_rtt.on_round_end(self.rate, now, window_was_full=was_full)

    def _judge_round(self, *, has_room: bool) -> None:
        """Begin or end startup when enough consecutive rounds speak for it."""
        if has_room is self.in_startup:
            self._change_rounds = 0
            return
        self._change_rounds += 1
        if self._change_rounds == (STARTUP_END_ROUNDS if self.in_startup else STARTUP_BEGIN_ROUNDS):
            self.in_startup = has_room
            self._change_rounds = 0

    # --- the window -------------------------------------------------------------------------------

    def _resize(self) -> None:
        """Set the window and the pacing rate from the estimates."""
        size = self._target_size()
        if not self._min_rtt.probing:
            if size <= self._path_change_limit:
                self._path_change_limit = math.inf
            size = self._size_before_change = int(min(size, self._path_change_limit))
        self.size = size + self._delivered_unacked
        # A frame larger than the window is sent as a whole.
        paced = max(size, self._quantum, self._mean_frame)
        rate = paced / self.min_rtt_s if self.min_rtt_s else math.inf
        self.pacing_rate = STARTUP_PACING_GAIN * rate if self.in_startup else rate

    def _target_size(self) -> int:
        if self._min_rtt.probing:
            size = self._min_rtt.probe_bytes(self.rate)
            return size if self._fixed_size is None else min(size, self._fixed_size)
        if self._fixed_size is not None:
            return self._fixed_size
        gain = STARTUP_GAIN if self.in_startup else self._gain()
        bdp = self.rate * (self.min_rtt_s or 0.0)
        extra = self._bandwidth.extra_acked
        if extra < bdp:
            # The gain covers it, and a reverse queue that ACKs without time stamps do not show.
            extra = 0.0
        size = int(gain * bdp + max(self.rate * self._slack_s(), extra)) + self._quantum
        # Sparse traffic before says nothing about the path's capacity.
        return max(size, INITIAL_QUANTA * self._quantum) if self.in_startup else size

    def _gain(self) -> float:
        """The gain of a window that fills the path."""
        return COMPETING_GAIN if self._min_rtt.has_competing_queue(self.rate) else GAIN

    def _slack_s(self) -> float:
        """The slack: how long the window covers for jitter of the hosts."""
        host = min(HOST_SLACK_SCALE_MAX, self.rate / HOST_SLACK_RATE)
        frames_per_s = self.rate / self._mean_frame
        small_frames = min(1.0, max(0.0, frames_per_s / SMALL_FRAMES_PER_S - 1.0))
        return RESOLUTION_S + HOST_SLACK_S * host + SMALL_FRAMES_SLACK_S * small_frames
