"""When to tell the peer what was handed on: the other half of its window.  Pure.

An ACK that goes alone costs four processes a wake-up, which on a LAN is a tenth of all there is,
and for every small frame its block would cost a sixth of the bytes.  So an ACK waits a moment for a
frame that goes its way anyway, as the answer of a TCP that was handed a segment does at once.  Nor
does every batch of a fast path have one, where both ends are busy with thousands in a second.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["ACK_APART", "ACK_COMPANY", "ACK_DELAY", "ACK_EVERY", "Acknowledger"]

ACK_EVERY: Final = 2000
"""Bytes handed over that are worth an ACK: of so many its block is one in a hundred."""

ACK_APART: Final = 0.001
"""Seconds from one ACK to the next, at the least."""

ACK_DELAY: Final = 0.02
"""Seconds from one ACK to the next, if it is for fewer bytes."""

ACK_COMPANY: Final = 0.002
"""Seconds that an ACK waits for a frame to go along with."""


class Acknowledger:
    """When to tell the peer how many bytes its frames were, so that its window can go on.

    Every frame taken out of the stream counts, whether the endpoint took it or dropped it: what is
    never acknowledged would stay under way for good.

    Attributes:
        handed: bytes so far; what an ACK says.
    """

    def __init__(self) -> None:
        self.handed = 0
        self._told = 0
        self._told_at = -math.inf
        self._since = 0.0

    def hand(self, size: int, now: float) -> None:
        """So many bytes were handed to the endpoint; to be called once a batch."""
        if self.handed == self._told:
            self._since = now
        self.handed += size

    def due(self, *, along: bool = False) -> float:
        """When the next ACK has to go, perhaps long ago; infinity while there is nothing to tell.

        Args:
            along: something else goes that way now: since when an ACK may go along with it.
        """
        waiting = self.handed - self._told
        if not waiting:
            return math.inf
        apart = ACK_APART if waiting >= ACK_EVERY else ACK_DELAY
        worth = max(self._since, self._told_at + apart)
        return worth if along else max(worth, self._since + ACK_COMPANY)

    def told(self, now: float) -> None:
        """An ACK of all that was `handed` was sent."""
        self._told = self.handed
        self._told_at = now
