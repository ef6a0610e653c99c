"""The congestion window of TCP, for the simulated senders: RFC 5681, without retransmission."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["CUBIC_BETA", "RENO_BETA", "CongestionWindow"]

# What remains of the congestion window after a signal: RFC 9438 and RFC 5681.
CUBIC_BETA: Final = 0.7
RENO_BETA: Final = 0.5


class CongestionWindow:
    """Slow start, then congestion avoidance; one reduction per window with a loss or a mark.

    Args:
        beta: what remains of the window after a reduction.

    Attributes:
        size: the window, in segments; ten at first (RFC 6928).
    """

    def __init__(self, beta: float) -> None:
        self.size = 10.0
        self._beta = beta
        self._threshold = math.inf
        # The first segment sent after the last reduction.
        self._recovery_point = 0

    def grow(self) -> None:
        """Count one acknowledged segment."""
        self.size += 1.0 if self.size < self._threshold else 1.0 / self.size

    def reduce(self, number: int, following: int) -> bool:
        """Respond to the loss or the mark of a segment.

        Args:
            number: the number of the segment.
            following: the number of the next segment to send.

        Returns:
            Whether the window was reduced: not twice for segments of one window.
        """
        if number < self._recovery_point:
            return False
        self.size = self._threshold = max(2.0, self._beta * self.size)
        self._recovery_point = following
        return True

    def time_out(self) -> None:
        """Respond to a time without ACKs."""
        self.size = 2.0
