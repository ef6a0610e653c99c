"""How long to wait between two attempts.  Pure.

The delay doubles with each failure, up to a limit that depends on the kind of the failure.
Attempts at a constant rate would keep a rate limiter on the other side at its limit for ever, and
would be taken for an attack where they are refused.
"""

from __future__ import annotations

import random
from enum import Enum
from typing import Final

__all__ = ["MIN_DELAY_S", "Backoff", "Failure"]

MIN_DELAY_S: Final = 0.1
"""A shorter first delay would fill the log, and start ssh without a pause."""

GROWTH: Final = 2.0

# The shortest wait, as a part of the delay.  It differs from client to client, so that those that
# lost the same server do not all come back in the same second.
JITTER_MIN: Final = 0.5


class Failure(Enum):
    """The kind of a failure; the value is the limit of its delay in seconds."""

    LOCAL = 10.0
    """The local endpoint cannot be opened: an attempt sends nothing to the peer."""

    OUTAGE = 60.0
    """The peer cannot be reached, or the link broke."""

    REFUSAL = 300.0
    """The other side refuses, or has no vknet: a person has to change something there."""


class Backoff:
    """The delays of consecutive failures.

    The first delay is exact.  The following ones are random, between half of the doubled delay and
    all of it, but not shorter than the first one.

    Args:
        first: the first delay in seconds; at least `MIN_DELAY_S` is used.  A first delay above a
            limit replaces the limit.
    """

    def __init__(self, first: float) -> None:
        self._first = max(first, MIN_DELAY_S)
        self._delay = 0.0

    def next_delay(self, failure: Failure) -> float:
        """Return the seconds to wait after this failure."""
        if self._delay == 0:
            self._delay = self._first
            return self._first
        limit = max(failure.value, self._first)
        self._delay = min(limit, GROWTH * self._delay)
        return max(self._first, self._delay * part())

    def reset(self) -> None:
        """Begin with the first delay again."""
        self._delay = 0.0


def part() -> float:
    """Return the random part of a delay that is waited."""
    return random.uniform(JITTER_MIN, 1)
