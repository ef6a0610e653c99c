"""When to tell the peer what was handed on: the other half of its window.  Pure.

An ACK that goes alone costs four processes a wake-up, which on a LAN is a tenth of all there is,
and for every small frame its block would cost a sixth of the bytes.  So an ACK waits a moment for a
frame that goes its way anyway, as the answer of a TCP that was handed a segment does at once.  Nor
does every batch of a fast path have one, where both ends are busy with thousands in a second.

But a window that is yet to open waits for each ACK, and so a beginning has one with every answer:
on a LAN a link reaches its full rate in a few milliseconds, instead of over a hundred.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from vknet.congestion import window

__all__ = [
    "ACK_DELAY",
    "ACK_EVERY",
    "BEGINNING",
    "FAST",
    "MANY",
    "PAUSE",
    "USUAL",
    "VERY_FAST",
    "AckPolicy",
    "AckTiming",
]

ACK_EVERY: Final = 2000
"""Bytes handed over that are worth an ACK: of so many its block is one in a hundred."""

ACK_DELAY: Final = 0.02
"""Seconds from one ACK to the next, if it is for fewer bytes."""

PAUSE: Final = 0.1
"""Seconds after which what comes is a beginning."""

BEGINNING_BYTES: Final = 4_000_000
"""How much belongs to it."""

# Bytes and frames per second from which on each ACK is felt, and the sender's window has room for
# them to be rare: see the slack in vknet.congestion.window.  And the seconds that it takes to tell.
FAST_BYTES: Final = window.BUSY_RATE
VERY_FAST_BYTES: Final = window.BUSIEST * window.BUSY_RATE
MANY_FRAMES: Final = 2 * window.MANY_FRAMES
JUDGED_BY: Final = 0.01


class AckTiming(NamedTuple):
    """How ACKs go; the greater, the rarer."""

    min_interval_s: float
    """Seconds from one to the next, at the least."""
    piggyback_s: float
    """Seconds that one waits for a frame to go along with."""
    timer_slack_s: float
    """Seconds that one which goes alone may come late: an alarm for each would cost more."""


USUAL: Final = AckTiming(0.001, 0.002, 0.002)
LITTLE: Final = USUAL._replace(min_interval_s=ACK_DELAY)
BEGINNING: Final = USUAL._replace(min_interval_s=0.0)
FAST: Final = AckTiming(0.004, 0.008, 0.004)
VERY_FAST: Final = AckTiming(0.016, 0.016, 0.004)
MANY: Final = AckTiming(0.048, 0.048, 0.016)


class AckPolicy:
    """When to tell the peer how many bytes its frames were, so that its window can go on.

    Every frame taken out of the stream counts, whether the endpoint took it or dropped it: what is
    never acknowledged would stay under way for good.

    Attributes:
        delivered_bytes: bytes so far; what an ACK says.
        not_before: the least that `due` may be, for who asks often.
        not_before_alone: and the least where nothing else goes that way.
        manner: how those of `ACK_EVERY` bytes and more go now.
    """

    def __init__(self) -> None:
        self.delivered_bytes = 0
        self.not_before = self.not_before_alone = -math.inf
        self.timing = BEGINNING
        self._acked_bytes = 0
        self._acked_at = -math.inf
        # Since when something waits.
        self._since = 0.0
        self._delivered_at = -math.inf
        # What is handed over by then belongs to a beginning.
        self._beginning_until = BEGINNING_BYTES
        # The manner goes by what was handed over since then: bytes before, and frames after.
        self._judged_at = -math.inf
        self._judged = 0
        self._frames = 0

    def on_delivered(self, size: int, now: float, frames: int = 1) -> None:
        """So many bytes were handed to the endpoint; to be called once a batch.

        Args:
            size: these bytes.
            now: the time.
            frames: how many frames they were.
        """
        if now - self._delivered_at > PAUSE:
            self._beginning_until = self.delivered_bytes + BEGINNING_BYTES
            self.timing = BEGINNING
        self._delivered_at = now
        if self.delivered_bytes == self._acked_bytes:
            self._since = now
            self.not_before_alone = max(now + USUAL.piggyback_s, self.not_before)
        self.delivered_bytes += size
        self._frames += frames

    def due(self, *, piggyback: bool = False) -> float:
        """When the next ACK has to go, perhaps long ago; infinity while there is nothing to tell.

        Args:
            piggyback: something else goes that way now: since when an ACK may go along with it.
        """
        waiting = self.delivered_bytes - self._acked_bytes
        if not waiting:
            return math.inf
        timing = self._timing_for(waiting)
        worth = max(self._since, self._acked_at + timing.min_interval_s)
        return worth if piggyback else max(worth, self._since + timing.piggyback_s)

    def alarm(self, now: float) -> float:
        """When to look at what is due if nothing else is a reason to: at a round time.

        Args:
            now: the time.
        """
        due = max(self.due(), self.not_before)
        patience = self._timing_for(self.delivered_bytes - self._acked_bytes).timer_slack_s
        if now < due < math.inf:
            return max(due, math.ceil(due / patience) * patience)
        return due

    def on_ack_sent(self, now: float) -> None:
        """An ACK of all that was delivered was sent."""
        if self.delivered_bytes < self._beginning_until:
            self._judge(BEGINNING, now)
        elif self.timing is BEGINNING:
            self._judge(USUAL, now)
        elif (passed := now - self._judged_at) >= JUDGED_BY:
            self._judge(self._timing_at(passed), now)
        self._acked_bytes, self._acked_at = self.delivered_bytes, now
        self.not_before = now + self.timing.min_interval_s

    def _timing_for(self, waiting: int) -> AckTiming:
        """How an ACK of so many bytes goes."""
        # Of few, one goes no sooner than one of many.
        return max(LITTLE, self.timing) if waiting < ACK_EVERY else self.timing

    def _timing_at(self, passed: float) -> AckTiming:
        """How ACKs go where so much came in so many seconds."""
        if self._frames > MANY_FRAMES * passed:
            return MANY
        size = self.delivered_bytes - self._judged
        if size > FAST_BYTES * passed:
            return VERY_FAST if size > VERY_FAST_BYTES * passed else FAST
        return USUAL

    def _judge(self, timing: AckTiming, now: float) -> None:
        self.timing = timing
        self._judged, self._judged_at, self._frames = self.delivered_bytes, now, 0
