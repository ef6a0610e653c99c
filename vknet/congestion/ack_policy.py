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
    "Acknowledger",
    "Manner",
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


class Manner(NamedTuple):
    """How ACKs go; the greater, the rarer."""

    apart: float
    """Seconds from one to the next, at the least."""
    company: float
    """Seconds that one waits for a frame to go along with."""
    patience: float
    """Seconds that one which goes alone may come late: an alarm for each would cost more."""


USUAL: Final = Manner(0.001, 0.002, 0.002)
LITTLE: Final = USUAL._replace(apart=ACK_DELAY)
BEGINNING: Final = USUAL._replace(apart=0.0)
FAST: Final = Manner(0.004, 0.008, 0.004)
VERY_FAST: Final = Manner(0.016, 0.016, 0.004)
MANY: Final = Manner(0.048, 0.048, 0.016)


class Acknowledger:
    """When to tell the peer how many bytes its frames were, so that its window can go on.

    Every frame taken out of the stream counts, whether the endpoint took it or dropped it: what is
    never acknowledged would stay under way for good.

    Attributes:
        handed: bytes so far; what an ACK says.
        not_before: the least that `due` may be, for who asks often.
        not_alone_before: and the least where nothing else goes that way.
        manner: how those of `ACK_EVERY` bytes and more go now.
    """

    def __init__(self) -> None:
        self.handed = 0
        self.not_before = self.not_alone_before = -math.inf
        self.manner = BEGINNING
        self._told = 0
        self._told_at = -math.inf
        # Since when something waits.
        self._since = 0.0
        self._handed_at = -math.inf
        # What is handed over by then belongs to a beginning.
        self._beginning_until = BEGINNING_BYTES
        # The manner goes by what was handed over since then: bytes before, and frames after.
        self._judged_at = -math.inf
        self._judged = 0
        self._frames = 0

    def hand(self, size: int, now: float, frames: int = 1) -> None:
        """So many bytes were handed to the endpoint; to be called once a batch.

        Args:
            size: these bytes.
            now: the time.
            frames: how many frames they were.
        """
        if now - self._handed_at > PAUSE:
            self._beginning_until = self.handed + BEGINNING_BYTES
            self.manner = BEGINNING
        self._handed_at = now
        if self.handed == self._told:
            self._since = now
            self.not_alone_before = max(now + USUAL.company, self.not_before)
        self.handed += size
        self._frames += frames

    def due(self, *, along: bool = False) -> float:
        """When the next ACK has to go, perhaps long ago; infinity while there is nothing to tell.

        Args:
            along: something else goes that way now: since when an ACK may go along with it.
        """
        waiting = self.handed - self._told
        if not waiting:
            return math.inf
        manner = self._manner_of(waiting)
        worth = max(self._since, self._told_at + manner.apart)
        return worth if along else max(worth, self._since + manner.company)

    def alarm(self, now: float) -> float:
        """When to look at what is due if nothing else is a reason to: at a round time.

        Args:
            now: the time.
        """
        due = max(self.due(), self.not_before)
        patience = self._manner_of(self.handed - self._told).patience
        if now < due < math.inf:
            return max(due, math.ceil(due / patience) * patience)
        return due

    def told(self, now: float) -> None:
        """An ACK of all that was `handed` was sent."""
        if self.handed < self._beginning_until:
            self._judge(BEGINNING, now)
        elif self.manner is BEGINNING:
            self._judge(USUAL, now)
        elif (passed := now - self._judged_at) >= JUDGED_BY:
            self._judge(self._manner_at(passed), now)
        self._told, self._told_at = self.handed, now
        self.not_before = now + self.manner.apart

    def _manner_of(self, waiting: int) -> Manner:
        """How an ACK of so many bytes goes."""
        # Of few, one goes no sooner than one of many.
        return max(LITTLE, self.manner) if waiting < ACK_EVERY else self.manner

    def _manner_at(self, passed: float) -> Manner:
        """How ACKs go where so much came in so many seconds."""
        if self._frames > MANY_FRAMES * passed:
            return MANY
        size = self.handed - self._judged
        if size > FAST_BYTES * passed:
            return VERY_FAST if size > VERY_FAST_BYTES * passed else FAST
        return USUAL

    def _judge(self, manner: Manner, now: float) -> None:
        self.manner = manner
        self._judged, self._judged_at, self._frames = self.handed, now, 0
