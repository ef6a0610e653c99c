"""How many bytes may be under way to the peer.  Pure, the time handed in.

ssh takes in two megabytes before it pushes back: at 10 Mbit/s that is seconds.  So the sender keeps
a count of its own: bytes under way are those sent less those that the peer's ACKs say it handed to
its endpoint, and they may not pass a window.  What may not go yet waits where it can be overtaken.

Theory.  A path has two figures that can be measured from its ends (draft-ietf-ccwg-bbr): the rate
of its bottleneck, seen as the most that is delivered per unit of time, and its least round trip,
seen while no queue stands in it.  Rate x least round trip fills the path, and no queue.  The two
cannot be seen at once: the first wants a full path, the second an empty one.

    rate         The greatest of ten round trips.  A sample is what was delivered from the moment a
                 batch was sent until it was acknowledged, per the time that took; or per the time
                 that the same bytes took to be sent, if that was longer.  Where the sender had run
                 out of data it says nothing about the path, and counts only if it is greater, or if
                 it came through a long queue all the same.
    round trip   The least of ten seconds, of which `vknet.congestion.min_rtt` sees to it that a
    queue of our
                 own never passes for a longer path.

    bunch        What was acknowledged within a round trip over and above the rate: the greatest but
                 one of ten round trips, so that once is not enough.

    window   =   gain x rate x round trip  +  slack x rate or a bunch  +  a quantum

A gain above one makes a short queue, and by the queue the window knows that the path is full: where
there is none, more is delivered from one round to the next, and the estimate rises with it.  After
three such rounds it rises faster; a new link begins so.

Where ACKs come in bunches, as over the air or from a peer with other things to do, hardly a byte
has the least round trip.  A window for that alone would leave the path idle until the next bunch;
so less would be delivered, and rate and window would fall to next to nothing (BBR's extra_acked).

What differs from BBR.  The stream below is reliable and in order.  There is no loss to react to:
one of the outer TCP's shows as ACKs that stop and come in a bunch, which makes one low sample of
ten, however long it took.  Pacing is somebody else's (vknet.congestion.pacer), and only for slow
paths.  What the outer TCP holds back under its own congestion window waits in ssh and in its
socket; that is a part of the path like any router's queue, and its rate is that of that TCP.  So on
10 Mbit/s, 30 ms with losses of 0, 0.1 and 1 % under 8 TCP the round trip stays between 31 and 34
ms, while the rate is 9.3, 9.3 and 4.1 Mbit/s, and what arrives 8.7, 7.5 and 3.2 (medians, seen).
And a batch goes through two ssh and a peer that are busy, so that the ACKs of a fast path are
    lumpy: that is what
the slack is for.

Other traffic's queue in the bottleneck is in the least round trip for as long as it stands
(`vknet.congestion.min_rtt` tells it from a queue of our own, and from one on the way back).  A TCP
that backs off only when its packets are lost fills the bottleneck's queue, and the least is seen
just after such a loss.  A window of GAIN times that is not enough for one's share when the queue is
full again, and so the share would shrink from one loss to the next.  To answer pings as on an empty
path is in nobody's power there; so in such company the gain is greater.

What an ACK waited in the queue of the other direction (vknet.congestion.reverse_delay) is no part
of the round trip: so the two directions do not see each other's queues.  And what it acknowledges
    had left the path so
much earlier, so that as much more may be under way.

The room grows by `Window.on_ack` alone, never by time: nobody needs a timer for it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from vknet.congestion.bandwidth import FINE, BandwidthEstimator
from vknet.congestion.min_rtt import MinRttEstimator
from vknet.congestion.reverse_delay import ReverseDelay
from vknet.packet.ethernet import FULL_FRAME

__all__ = ["Window"]

# What may be under way before anything is known: ten segments, as in TCP (RFC 6928).
INITIAL_QUANTA: Final = 10

# Enough to see that the path is full although its delay varies; the price is a standing queue of a
# quarter of the round trip.
GAIN: Final = 1.25

# Where somebody else's queue stands on the path.
CROWDED_GAIN: Final = 1.75

# While no queue is seen.  2 / ln 2, BBR's, is what doubles in every round; a little less will do,
# and overshoots less.
FAST_GAIN: Final = 2.5

# And how much sooner it goes then: the bunches of a TCP in its slow start, held up for an eighth of
# the round trip, would make it believe that the path is full (HyStart, RFC 9406).
OPENING_PACE: Final = 2.0

# So many rounds in a row without a queue, each with so much more delivered, and the path is not
# full; so many with a queue, or with no more, and it is.
CLEAR_ROUNDS: Final = 3
FULL_ROUNDS: Final = 2
GROWTH: Final = 1.1

# On a fast path the processors are the bottleneck, with the jitter of their schedulers: seconds
# more of slack at so many bytes per second, and up to so many times as much in proportion.  What
# ssh's buffers hold at the greatest of these rates is less than that.
BUSY: Final = 0.012
BUSY_RATE: Final = 100e6
BUSIEST: Final = 2.0

# And so are they where many small frames come: from so many a second on, in full from twice as
# many.  To queue them there would take the processors' time from carrying them; it is enough that
# ssh's own buffers bound what is under way, which at such a rate hold less than so many seconds.
MANY: Final = 0.25
MANY_FRAMES: Final = 30e3

# A round trip so many times as long is more likely that of another path, on which the rate may be
# anything.  What fills a queue beside us makes less of a difference.
MUCH_LONGER: Final = 20.0

# Rounds after which a longer round trip without a queue speaks for a longer path, with the rate
# that it had.  Before, the path is as empty as it was when that round trip was seen.
HELD_ROUNDS: Final = 2

# A round trip so much longer than a full window explains has seen a queue.
LONG: Final = 1.5

# Seconds that an ACK is taken to wait on its way back, at the most: as long as it does where a path
# of 100 ms is being filled the other way; and all that a wrong clock gains a peer.  Where ACKs go
# on to wait longer, what is over it counts as a longer path, as all of it does without a stamp.
WAIT_MAX: Final = 0.25

# Batches under way that have a record of their own; more share the last one.
RECORDS_MAX: Final = 4096


class _Record(NamedTuple):
    """A batch under way, and how things stood when it was sent."""

    end: int
    """Bytes sent, with it."""
    sent_at: float
    acked: int
    """Bytes acknowledged."""
    acked_at: float
    """When they were; or when the path was no longer idle, if that was later."""
    acked_sent_at: float
    """When the last of them was sent, or likewise."""
    limited: bool
    """There had been less to send than there was room for."""


class Window:
    """The window of one direction of one link.

    The sender asks for `send_quota`, tells what was `on_sent`, and that it is `app_limited` when
    nothing more waits while there is room.  The receiver of ACKs tells what was acknowledged
    (`on_ack`); after that there may be room again.

    Args:
        now: the time, in seconds of any monotonic clock.
        quantum: bytes of the largest frame.
        size: bytes that may be under way, whatever the path may be; None to find out.
        sent: bytes that were sent before, at times that nobody noted.

    Attributes:
        size: bytes that may be under way.
        pacing_rate: bytes per second that may go, so that what the path holds of a window is spread
            over the least round trip; or over half of it, while the window opens.
        reverse_delay: seconds that the last ACK did so.
        in_startup: the path is not known to be full yet: the window still opens.
    """

    def __init__(
        self, now: float, quantum: int = FULL_FRAME, *, size: int | None = None, sent: int = 0
    ) -> None:
        self._length = MinRttEstimator(now, quantum)
        self._bandwidth = BandwidthEstimator(now)
        self._quantum = quantum
        self._fixed = size
        # Bytes of a frame, of late.
        self._mean = float(quantum)
        self.size = INITIAL_QUANTA * quantum if size is None else size
        self.pacing_rate = math.inf
        self._sent = self._sent_before = sent
        self._acked = 0
        self._acked_at = self._acked_sent_at = now
        self._records: deque[_Record] = deque()
        self._reverse = ReverseDelay()
        # What is there already while its ACKs wait on their way back: under way by our count, and
        # no longer on the path.
        self._unseen = 0
        self.reverse_delay = 0.0
        if sent:
            self._records.append(_Record(sent, now, 0, now, now, limited=True))
        # Until more than this is acknowledged, what is sent joins too little to fill the path.
        self._limited_until = -1
        # A round ends when what was sent by its beginning has been acknowledged.
        self._round_end = 0
        self._round_least = math.inf
        self._round_rate = 0.0
        self._round_full = False
        self.in_startup = True
        # Rounds in a row that spoke for the other gain.
        self._other_rounds = 0
        # Where the round trip has become much longer all at once: bytes that may be under way until
        # it shows whether the rate is still what it was, and rounds since then.
        self._most = math.inf
        self._rounds_held = 0
        self._size_before = self.size

    # --- what the link asks and tells -------------------------------------------------------------

    @property
    def rate(self) -> float:
        """Bytes per second, as estimated; 0 before the first sample."""
        return self._bandwidth.rate

    @property
    def round_trip(self) -> float | None:
        """The least one of late, in seconds, without what the ACKs wait on their way back.

        None before the first ACK.
        """
        return self._length.round_trip

    @property
    def bytes_in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        return self._sent - self._acked

    @property
    def send_quota(self) -> int:
        """Bytes that may go now.

        Where it is not 0, the frame that passes it may go too: so there is always one under way.
        """
        return max(0, self.size - self._sent + self._acked)

    def on_sent(self, total: int, now: float, frames: int = 1) -> None:
        """More is about to be written.

        Args:
            total: bytes sent, with it, in all.
            now: the time.
            frames: how many frames these are.
        """
        if total == self._sent:
            return
        self._mean += ((total - self._sent) / frames - self._mean) / 8
        self._length.frame = max(self._quantum, self._mean)
        if self._sent == self._acked:
            # The path was idle until now, which says nothing about its rate.
            self._acked_at = self._acked_sent_at = now
        limited = self._acked <= self._limited_until
        record = _Record(total, now, self._acked, self._acked_at, self._acked_sent_at, limited)
        if len(self._records) == RECORDS_MAX:
            record = self._records.pop()._replace(end=total)
        self._records.append(record)
        self._sent = total

    def app_limited(self) -> None:
        """There is room and nothing to send."""
        self._limited_until = self._sent

    def on_ack(self, total: int, now: float, at: int | None = None) -> None:
        """The peer says that it handed so many bytes in all to its endpoint.

        Args:
            total: these bytes.
            now: the time.
            at: when it wrote that, as `vknet.congestion.reverse_delay.stamp` gives it; None if it
                does not say.

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
        before = self.round_trip
        record = self._newest(total)
        round_trip = max(0.0, now - record.sent_at)
        # Without a stamp any part of the round trip may be the way back's.
        waited, back = 0.0, math.inf
        if at is not None:
            back = self._reverse.estimate(at, now, round_trip)
            waited = min(WAIT_MAX, back)
            back -= waited
        self.reverse_delay = waited
        round_trip -= waited
        # When it would have come if nothing had held it up.
        came = max(now - waited, self._acked_at)
        self._bandwidth.on_acked(total - self._acked, came, self.round_trip or 0.0, self.size)
        self._acked = total
        self._round_full |= was_full
        if self._fixed is None:
            # When all is there, whatever comes next finds nothing waiting.
            self._unseen = int(self.rate * waited) if total < self._sent else 0
        if total > self._sent_before:
            # When what was sent before went, nobody knows.
            self._round_least = min(self._round_least, round_trip)
            alone = record.sent_at == record.acked_sent_at
            self._length.see(round_trip, now, rate=self.rate, back=back, alone=alone)
            self._go_on_probing(now)
            if before is not None and (self.round_trip or 0.0) > MUCH_LONGER * before:
                self._most, self._rounds_held = self._size_before, 0
        # Behind a long queue it is the path that is slow, whatever there was to send before.
        queued = was_full and round_trip > LONG * self._full_round_trip()
        if record.acked >= self._sent_before:
            self._see_delivery(record, came, limited=record.limited and not queued)
        self._acked_at = came
        self._acked_sent_at = record.sent_at
        if total >= self._round_end:
            self._end_round(now, limited=record.limited)
        size = self._size_now()
        if not self._length.probing:
            if size <= self._most:
                self._most = math.inf
            else:
                size = int(self._most)
            self._size_before = size
        self.size = size + self._unseen
        # A frame that passes a window smaller than itself is a window's worth, too.
        worth = max(size, self._quantum, self._mean)
        pace = worth / self.round_trip if self.round_trip else math.inf
        self.pacing_rate = OPENING_PACE * pace if self.in_startup else pace

    def _newest(self, total: int) -> _Record:
        """The batch that the last of so many bytes went with; those before it are done with."""
        records = self._records
        while records[0].end < total:
            records.popleft()
        return records.popleft() if records[0].end == total else records[0]

    # --- what an ACK tells ------------------------------------------------------------------------

    def _see_delivery(self, record: _Record, now: float, *, limited: bool) -> None:
        size = self._acked - record.acked
        seconds = max(now - record.acked_at, record.sent_at - record.acked_sent_at, FINE)
        if not limited or size > self.rate * seconds:
            self._bandwidth.on_sample(size, seconds, now, self.round_trip or 0.0)

    def _go_on_probing(self, now: float) -> None:
        length = self._length
        if length.probing and length.probe(
            now, sent=self._sent, acked=self._acked, rate=self.rate, gone=self._unseen
        ):
            self._round_end = self._sent

    # --- once a round: is the path full, and is it longer than it was? ----------------------------

    def _end_round(self, now: float, *, limited: bool) -> None:
        least, self._round_least = self._round_least, math.inf
        rate_before, self._round_rate = self._round_rate, self.rate
        was_full, self._round_full = self._round_full, False
        self._round_end = self._sent
        if self._length.probing or self.round_trip is None:
            return
        full = self._full_round_trip()
        half_full = (self.round_trip + full) / 2
        self._rounds_held += 1
        if self._rounds_held > HELD_ROUNDS and least < half_full:
            self._most *= 2
        if not limited:
            most = full if self.in_startup else half_full
            self._judge_round(clear=least < most and self.rate >= GROWTH * rate_before)
        elif least > full:
            # Little as there was to send, it made a queue.
            self._judge_round(clear=False)
        self._length.end_round(self.rate, now, was_full=was_full)

    def _judge_round(self, *, clear: bool) -> None:
        """Change the gain when enough rounds in a row spoke for it."""
        if clear is self.in_startup:
            self._other_rounds = 0
            return
        self._other_rounds += 1
        if self._other_rounds == (FULL_ROUNDS if self.in_startup else CLEAR_ROUNDS):
            self.in_startup = clear
            self._other_rounds = 0

    # --- the window -------------------------------------------------------------------------------

    def _gain(self) -> float:
        """That of a window which fills the path."""
        return CROWDED_GAIN if self._length.has_competing_queue(self.rate) else GAIN

    def _slack(self) -> float:
        """Seconds."""
        fast = min(BUSIEST, self.rate / BUSY_RATE)
        many = min(1.0, max(0.0, self.rate / self._mean / MANY_FRAMES - 1.0))
        return FINE + BUSY * fast + MANY * many

    def _full_round_trip(self) -> float:
        """Seconds that a round trip takes when it is the window that fills the path."""
        if self.round_trip is None or not self.rate:
            return math.inf
        return self._gain() * self.round_trip + self._slack() + self._quantum / self.rate

    def _size_now(self) -> int:
        if self._length.probing:
            size = self._length.probe_size(self.rate)
            return size if self._fixed is None else min(size, self._fixed)
        if self._fixed is not None:
            return self._fixed
        gain = FAST_GAIN if self.in_startup else self._gain()
        full = self.rate * (self.round_trip or 0.0)
        bunch = self._bandwidth.extra_acked
        if bunch < full:
            # The gain will do; and also for the queue of the other direction, which is no jitter,
            # where the ACKs do not say what they waited in it.
            bunch = 0.0
        size = int(gain * full + max(self.rate * self._slack(), bunch)) + self._quantum
        # What was sparse until now says nothing of what the path carries.
        return max(size, INITIAL_QUANTA * self._quantum) if self.in_startup else size
