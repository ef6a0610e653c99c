"""What goes to the peer next: frames as they come while there is room, and else by the queue.

    endpoint -> Egress -> bytes of the wire, in parts

Pure: frames and the time in, parts of the stream out.  The link's writer calls
    `Scheduler.next_writes` with
what the endpoint has, and writes what comes back.

While nothing is queued and the window is open, a batch passes as it is.  When the window is shut,
what comes waits in the flow queue, which is emptied as ACKs open the window again.  So the endpoint
is always drained, and what has to be dropped is chosen here, and not by the kernel, which drops
what comes last.  Where there is no window, because somebody wants none or the peer is one of 2008,
nothing ever waits here: then the pipe to ssh pushes back, and the endpoint holds what waits.

A window that has much room is not asked for every batch: what a look at it grants may go for a
moment as it comes, and the window is told afterwards, once.

Super-frames count by their bytes.  Where the path is so slow that one of them would keep everything
else from the wire for longer than `SUPER_TIME`, they are cut into their segments before they are
queued, so that others get in between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from vknet.congestion.pacer import UNPACED, Pacer
from vknet.congestion.window import Window
from vknet.endpoints.base import BATCH_BYTES
from vknet.framing import FRAME_LIMIT_V1, Encoded, encode_frames
from vknet.packet.gso import segment
from vknet.packet.virtio import OffloadFrame, validate
from vknet.qdisc.codel import INTERVAL, TARGET
from vknet.qdisc.fq_codel import FlowQueue, QueueDrop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vknet.framing import Frame
    from vknet.monitor import TrafficCounters
    from vknet.packet.virtio import AnyFrame

__all__ = ["TOO_LONG", "Scheduler"]

TOO_LONG: Final = "over the peer's frame limit"
"""The reason for dropping such a frame; a key of the drop counters."""

# Seconds that a super-frame may take at the path's rate, and the bytes of the largest.
SUPER_TIME: Final = 0.005
SUPER_BYTES: Final = 65536

# Seconds that a grant of the window holds: as much as nobody tells apart
# (vknet.congestion.bandwidth) on a path that is so fast as not to be paced.  There a batch comes
# every quarter of a millisecond.
GRANT: Final = 0.001

# What CoDel's interval is at the least, in round trips.
INTERVAL_ROUNDS: Final = 1.5

# And its target (RFC 8289, section 4.3, has a tenth at the most): with 5 ms on a path of 100 ms one
# TCP has to make do with five sixths of it, with a tenth it fills it.
TARGET_ROUNDS: Final = 0.1


class Scheduler:
    """The frames of one link on their way out.

    Args:
        counted: where to count them.

    Attributes:
        window: None where there is none.
        next_at: when to call `next_writes` again, if only time has to pass; infinity otherwise.
    """

    def __init__(self, counted: TrafficCounters) -> None:
        self.window: Window | None = None
        self.next_at = math.inf
        self._pacer = Pacer()
        self._counted = counted
        self._queue: FlowQueue[AnyFrame] = FlowQueue(drops=counted.drops)
        self._marks = 0
        self._frame_limit = FRAME_LIMIT_V1
        self._kinds: frozenset[int] = frozenset()
        self._sent = 0
        # Bytes that may go until some time without asking the window, while nothing waits here; and
        # what it has not been told of: how many frames, since when, and that they ran out.
        self._grant = 0
        self._grant_until = -math.inf
        self._untold = 0
        self._untold_at = 0.0
        self._ran_out = False

    @property
    def is_queued(self) -> bool:
        """Whether something waits here."""
        return self._queue.backlog_bytes > 0

    def on_negotiated(
        self, frame_limit: int, kinds: frozenset[int], window: int | None, now: float
    ) -> None:
        """Take what follows from the peer's HELLO.

        Args:
            frame_limit: the longest frame the peer takes, in bytes.
            kinds: the offload frames it takes, as `vknet.packet.virtio.kinds` gives them.
            window: bytes that may be under way: 0 for no bound, None to find out.
            now: the time.
        """
        self._frame_limit = frame_limit
        self._kinds = kinds
        if window != 0:
            # The peer counts what came before its HELLO as well.
            self.window = Window(now, size=window, sent=self._sent)

    def next_writes(self, frames: Sequence[AnyFrame], now: float) -> Sequence[Frame]:
        """What to write now, in parts; none if nothing may go.

        Args:
            frames: what the endpoint has; empty if nothing.
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
        """As `next_writes`, by what the window says now; the frames may be encoded already."""
        queue = self._queue
        waited = queue.backlog_bytes > 0
        pace = window.pacing_rate
        room = min(window.send_quota, self._pacer.budget(pace, now))
        self.next_at = math.inf
        if frames and room and not waited and encoded is None:
            # To count the bytes beforehand costs as much again, and nearly always there is room.
            encoded = self._encode(frames)
        if frames and (encoded is None or encoded.size > room):
            queue.push(self._cut(frames) if self._is_slow(window) else frames, now)
            encoded, frames = None, ()
        if queue.backlog_bytes:
            self._tune_codel(window)
            frames = queue.pull(now, int(min(room, BATCH_BYTES)))
            encoded = self._encode(frames) if frames else None
            if queue.marks != self._marks:
                self._counted.marks += queue.marks - self._marks
                self._marks = queue.marks
        parts: Sequence[Frame] = ()
        if encoded is not None:
            parts = self._count(encoded)
            window.on_sent(self._sent, now, len(frames))
            self._pacer.on_sent(encoded.size, pace, now, waited=waited)
        if window.send_quota:
            if queue.backlog_bytes:
                self.next_at = self._pacer.next_at
            elif not frames:
                window.app_limited()
            elif pace >= UNPACED:
                self._grant = window.send_quota
                self._grant_until = now + GRANT
        return parts

    def _flush(self, window: Window) -> None:
        """Take the grant back, and tell the window what went by it."""
        self._grant_until = -math.inf
        if self._ran_out:
            # It may have been before any of what it was not told of.
            window.app_limited()
        if self._untold:
            window.on_sent(self._sent, self._untold_at, self._untold)
            self._untold = 0
        if self._ran_out:
            window.app_limited()
            self._ran_out = False

    def on_ack(self, total: int, now: float, at: int | None = None) -> bool:
        """Take the peer's ACK of so many bytes; whether something that waits may go now.

        Args:
            total: of bytes.
            now: the time.
            at: when the peer wrote it, as `vknet.congestion.reverse_delay.stamp` gave it; None if
                it did not say.

        Raises:
            RemoteProtocolError: that cannot be.
        """
        if self.window is None:
            return False
        self._flush(self.window)
        self.window.on_ack(total, now, at)
        return bool(self._queue.backlog_bytes and self.window.send_quota)

    def end(self) -> None:
        """The link has ended: what still waits is dropped, and counted."""
        self._queue.discard(QueueDrop.ENDED)

    def _tune_codel(self, window: Window) -> None:
        """Have the queue's CoDel judge by what it can know.

        Until the path is full, what waits waits for the window to open, and to drop it would end
        the slow start of a TCP that has done nothing wrong.  And nobody can have reacted to a drop
        before a round trip has passed (RFC 8289, section 4.2).
        """
        round_trip = window.round_trip or 0.0
        target = max(TARGET, TARGET_ROUNDS * round_trip)
        self._queue.target = math.inf if window.in_startup else target
        self._queue.interval = max(INTERVAL, INTERVAL_ROUNDS * (round_trip + window.reverse_delay))

    def _is_slow(self, window: Window) -> bool:
        """Whether the path is too slow for super-frames, or not known yet."""
        return window.rate * SUPER_TIME < SUPER_BYTES

    def _cut(self, frames: Iterable[AnyFrame]) -> list[AnyFrame]:
        """The same frames, with segments instead of the super-frames."""
        cut: list[AnyFrame] = []
        for frame in frames:
            if not isinstance(frame, OffloadFrame) or not frame.is_super:
                cut.append(frame)
            elif isinstance(offsets := validate(frame.data), str):
                self._counted.drops[offsets] += 1
            else:
                cut += segment(frame, offsets)
        return cut

    def _encode(self, frames: Sequence[AnyFrame]) -> Encoded:
        return encode_frames(frames, self._frame_limit, self._kinds)

    def _count(self, encoded: Encoded) -> Sequence[Frame]:
        """What goes now counts."""
        counted = self._counted
        counted.frames += encoded.frames
        counted.bytes += encoded.size
        if encoded.refused:
            counted.drops[TOO_LONG] += encoded.refused
        if encoded.misfits:
            counted.drops.update(encoded.misfits)
        self._sent += encoded.size
        return encoded.parts
