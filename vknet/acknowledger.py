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
from typing import Final

__all__ = [
    "ACK_APART",
    "ACK_APART_FAST",
    "ACK_COMPANY",
    "ACK_DELAY",
    "ACK_EVERY",
    "ACK_MUCH",
    "BEGINNING",
    "PAUSE",
    "Acknowledger",
]

ACK_EVERY: Final = 2000
"""Bytes handed over that are worth an ACK: of so many its block is one in a hundred."""

ACK_DELAY: Final = 0.02
"""Seconds from one ACK to the next, if it is for fewer bytes."""

ACK_APART: Final = 0.001
"""Seconds from one ACK to the next, if it is for so many."""

ACK_MUCH: Final = 100_000
"""Bytes that come within that time only where the path is a fast one, as a LAN."""

ACK_APART_FAST: Final = 0.004
"""Seconds from one ACK to the next there: a small part of what the sender's window leaves for."""

ACK_COMPANY: Final = 0.002
"""Seconds that an ACK waits for a frame to go along with."""

PAUSE: Final = 0.1
"""Seconds after which what comes is a beginning."""

BEGINNING: Final = 4_000_000
"""Bytes that belong to it.  In it an ACK that goes along keeps no distance from the last."""


class Acknowledger:
    """When to tell the peer how many bytes its frames were, so that its window can go on.

    Every frame taken out of the stream counts, whether the endpoint took it or dropped it: what is
    never acknowledged would stay under way for good.

    Attributes:
        handed: bytes so far; what an ACK says.
        not_before: no ACK goes before this time.
        not_alone_before: nor does one go before this time if nothing else goes its way.
    """

    def __init__(self) -> None:
        self.handed = 0
        self.not_before = self.not_alone_before = -math.inf
        self._told = 0
        self._told_at = -math.inf
        self._since = 0.0
        self._handed_at = -math.inf
        # What is handed over by then belongs to a beginning.
        self._begun = 0

    def hand(self, size: int, now: float) -> None:
        """So many bytes were handed to the endpoint; to be called once a batch."""
        if now - self._handed_at > PAUSE:
            self._begun = self.handed + BEGINNING
        self._handed_at = now
        if self.handed == self._told:
            self._since = now
            self.not_alone_before = max(now + ACK_COMPANY, self.not_before)
        self.handed += size

    def due(self, *, along: bool = False) -> float:
        """When the next ACK has to go, perhaps long ago; infinity while there is nothing to tell.

        Args:
            along: something else goes that way now: since when an ACK may go along with it.
        """
        waiting = self.handed - self._told
        if not waiting:
            return math.inf
        worth = max(self._since, self._told_at + self._apart(waiting))
        return worth if along else max(worth, self._since + ACK_COMPANY)

    def told(self, now: float) -> None:
        """An ACK of all that was `handed` was sent."""
        self._told = self.handed
        self._told_at = now
        self.not_before = now + self._apart(ACK_EVERY)

    def _apart(self, waiting: int) -> float:
        """Seconds from the last ACK to one of so many bytes."""
        if waiting < ACK_EVERY:
            return ACK_DELAY
        if self.handed < self._begun:
            return 0.0
        return ACK_APART if waiting < ACK_MUCH else ACK_APART_FAST
