"""Which frames go to the peer now, and which wait in the flow queue.

    endpoint -> Scheduler -> parts of the stream

Pure: frames and the time in, parts of the stream out.  The sender calls `Scheduler.next_writes`
with what the endpoint has, and writes what it returns.

While nothing is queued and the window is open, a batch passes unchanged.  While the window is shut,
frames wait in the flow queue, and ACKs that open the window empty it.  So the endpoint is always
drained, and the queue chooses what to drop; the kernel would drop the newest frame.  Without a
window (`--window off`, or a v1 peer) nothing waits here: the pipe to ssh pushes back, and frames
wait in the endpoint.

A window with much room is not asked for every batch: it grants bytes for a moment, and is told
afterwards, once, what used the grant.

Super-frames count by their bytes.  On a path so slow that one of them would occupy it for longer
than `SUPER_TIME_S`, they are segmented before they are queued, so that other frames get in between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from vknet.congestion.pacer import UNPACED_RATE, Pacer
from vknet.congestion.window import Window
from vknet.counters import DropReason
from vknet.packet.ethernet import BATCH_BYTES
from vknet.packet.gso import for_receiver
from vknet.packet.virtio import Offload, header_kinds
from vknet.qdisc.codel import INTERVAL_S, TARGET_S
from vknet.qdisc.fq_codel import FlowQueue
from vknet.wire.blocks import FRAME_LIMIT_V1
from vknet.wire.encoder import Encoded, encode_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.counters import TrafficCounters
    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame
    from vknet.wire.negotiation import Negotiated

__all__ = ["Scheduler"]

# The longest time that a super-frame may occupy the path, and the size of the largest in bytes.
SUPER_TIME_S: Final = 0.005
SUPER_BYTES: Final = 65536

# The frames that are not segmented before they are queued: only their checksum is left to do.
CHECKSUM_KINDS: Final = header_kinds(Offload.CSUM)

# The duration of a grant.  A path that is fast enough for grants delivers a batch every 0.25 ms,
# and the estimators do not resolve less than 2 ms (vknet.congestion.bandwidth).
GRANT_S: Final = 0.001

# CoDel's interval is at least this many round trips.
INTERVAL_RTTS: Final = 1.5

# CoDel's target is at least this part of a round trip (RFC 8289, section 4.3, allows a tenth).
# With 5 ms on a path of 100 ms, one TCP gets five sixths of the path; with a tenth it fills it.
TARGET_RTTS: Final = 0.1


class Scheduler:
    """The outgoing frames of one link.

    Args:
        counters: counts the frames.

    Attributes:
        window: None if there is none.
        next_at: when to call `next_writes` again if nothing else happens; infinity for never.
    """

    def __init__(self, counters: TrafficCounters) -> None:
        self.window: Window | None = None
        self.next_at = math.inf
        self._pacer = Pacer()
        self._counters = counters
        self._queue: FlowQueue[AnyFrame] = FlowQueue(drops=counters.drops)
        self._ecn_marks = 0
        self._frame_limit = FRAME_LIMIT_V1
        self._kinds: frozenset[int] = frozenset()
        self._sent = 0
        # The grant: bytes that may go without asking the window while nothing is queued, and until
        # when.
        self._grant = 0
        self._grant_until = -math.inf
        # What used the grant: the number of frames, since when, and whether the frames ran out.
        self._untold = 0
        self._untold_at = 0.0
        self._ran_out = False

    @property
    def is_queued(self) -> bool:
        """Whether a frame waits in the queue."""
        return self._queue.backlog_bytes > 0

    def on_negotiated(self, terms: Negotiated, now: float) -> None:
        """Schedule by these terms from now on."""
        self._frame_limit = terms.frame_limit
        self._kinds = header_kinds(terms.offloads)
        if terms.window != 0:
            # The peer counts what came before its HELLO as well.
            self.window = Window(now, size=terms.window, sent=self._sent)

    def next_writes(self, frames: Sequence[AnyFrame], now: float) -> Sequence[Frame]:
        """Return what to write now, in parts; empty if nothing may go.

        Args:
            frames: what the endpoint has; empty if it has nothing.
            now: the time.
        """
        window = self.window
        if window is None:
            return self._count(self._encode(frames)) if frames else ()
        encoded = None
        if now < self._grant_until:
            if not frames:
                self._ran_out |= self._grant > 0
                return ()
            encoded = self._encode(frames)
            if encoded.size <= self._grant:
                self._grant -= encoded.size
                if not self._untold:
                    self._untold_at = now
                self._untold += len(frames)
                return self._count(encoded)
        self._flush(window)
        return self._ask_window(window, frames, encoded, now)

    def _ask_window(
        self, window: Window, frames: Sequence[AnyFrame], encoded: Encoded | None, now: float
    ) -> Sequence[Frame]:
        """Do what `next_writes` does, without a grant; the frames may be encoded already."""
        queue = self._queue
        waited = queue.backlog_bytes > 0
        pacing_rate = window.pacing_rate
        quota = min(window.send_quota, self._pacer.budget(pacing_rate, now))
        self.next_at = math.inf
        if frames and quota and not waited and encoded is None:
            # Counting the bytes beforehand costs as much again, and the quota nearly always holds.
            encoded = self._encode(frames)
        if frames and (encoded is None or encoded.size > quota):
            if self._is_slow(window):
                frames = for_receiver(frames, CHECKSUM_KINDS, self._counters.drops)
            queue.push(frames, now)
            encoded, frames = None, ()
        if queue.backlog_bytes:
            self._tune_codel(window)
            frames = queue.pull(now, int(min(quota, BATCH_BYTES)))
            encoded = self._encode(frames) if frames else None
            if queue.ecn_marks != self._ecn_marks:
                self._counters.ecn_marks += queue.ecn_marks - self._ecn_marks
                self._ecn_marks = queue.ecn_marks
        parts: Sequence[Frame] = ()
        if encoded is not None:
            parts = self._count(encoded)
            window.on_sent(self._sent, now, len(frames))
            self._pacer.on_sent(encoded.size, pacing_rate, now, waited=waited)
        if window.send_quota:
            if queue.backlog_bytes:
                self.next_at = self._pacer.next_at
            elif not frames:
                window.note_app_limited()
            elif pacing_rate >= UNPACED_RATE:
                self._grant = window.send_quota
                self._grant_until = now + GRANT_S
        return parts

    def _flush(self, window: Window) -> None:
        """Withdraw the grant, and tell the window what used it."""
        self._grant_until = -math.inf
        if self._ran_out:
            # The frames may have run out before any of those it has not been told of.
            window.note_app_limited()
        if self._untold:
            window.on_sent(self._sent, self._untold_at, self._untold)
            self._untold = 0
        if self._ran_out:
            window.note_app_limited()
            self._ran_out = False

    def on_ack(self, total: int, now: float, at: int | None = None) -> bool:
        """Take the peer's ACK.

        Args:
            total: bytes that the peer has delivered.
            now: the time.
            at: the ACK's time stamp, as `vknet.congestion.reverse_delay.stamp` returns it; None if
                it has none.

        Returns:
            Whether a queued frame may go now.

        Raises:
            ValueError: more bytes than were sent, or fewer than were acknowledged before.
        """
        if self.window is None:
            return False
        self._flush(self.window)
        self.window.on_ack(total, now, at)
        return bool(self._queue.backlog_bytes and self.window.send_quota)

    def end(self) -> None:
        """Drop and count what is still queued: the link has ended."""
        self._queue.discard(DropReason.LINK_ENDED)

    def _tune_codel(self, window: Window) -> None:
        """Set the queue's CoDel parameters for the path.

        In startup, frames wait only for the window to open; a drop would end the slow start of a
        TCP without cause.  And no sender can react to a drop in less than a round trip (RFC 8289,
        section 4.2).
        """
        min_rtt_s = window.min_rtt_s or 0.0
        target = max(TARGET_S, TARGET_RTTS * min_rtt_s)
        self._queue.target = math.inf if window.in_startup else target
        self._queue.interval = max(INTERVAL_S, INTERVAL_RTTS * (min_rtt_s + window.reverse_delay_s))

    def _is_slow(self, window: Window) -> bool:
        """Whether the path is too slow for super-frames; also true while its rate is unknown."""
        return window.rate * SUPER_TIME_S < SUPER_BYTES

    def _encode(self, frames: Sequence[AnyFrame]) -> Encoded:
        return encode_frames(frames, self._frame_limit, self._kinds)

    def _count(self, encoded: Encoded) -> Sequence[Frame]:
        """Count a batch that is about to be written, and return its parts."""
        counters = self._counters
        counters.frames += encoded.frames
        counters.bytes += encoded.size
        if encoded.drops:
            counters.drops.update(encoded.drops)
        self._sent += encoded.size
        return encoded.parts
