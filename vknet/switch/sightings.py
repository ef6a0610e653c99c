"""What was seen, for some time, in bounded memory: MAC addresses, or IP addresses.  Pure.

A flood of addresses must neither exhaust the memory nor evict an address that matters.  So there
are two segments.  An address begins as a newcomer.  When it is seen again a second or more after it
was first seen, it becomes proven.  A full segment of newcomers evicts the one that was not seen for
the longest time; a full segment of proven addresses takes no more.  No flood evicts a proven
address.

Newcomers are admitted at a limited rate, with a burst, so that a flood needs minutes to evict a
newcomer.  An address that is not admitted has another chance with its next frame.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["HOLD_S", "SIGHTINGS_MAX", "Sightings"]

KeyT = TypeVar("KeyT", bound="Hashable")

HOLD_S: Final = 1800.0
"""How long an address is remembered after it was last seen.  It is the time for which a host keeps
a default router that stays silent (AdvDefaultLifetime of RFC 4861)."""

SIGHTINGS_MAX: Final = 8192
"""The number of addresses that are remembered: about 2 MB when full."""

PROVEN_S: Final = 1.0

# With these values a flood evicts no newcomer for over two minutes.
BURST_SHARE: Final = 2
ADMITTED_PER_S: Final = 16


class Sightings(Generic[KeyT]):
    """The keys that were seen within a time.

    Args:
        limit: the maximum number of keys, half of it for each segment.
        hold_s: how long a key is remembered after it was last seen, in seconds.

    Attributes:
        limit: see above.
        refused: how often a new key was not remembered, because too many came at once.

    Raises:
        ValueError: the limit is below 2.
    """

    def __init__(self, limit: int = SIGHTINGS_MAX, hold_s: float = HOLD_S) -> None:
        if limit < 2:
            raise ValueError(f"two segments need room for at least two keys, not {limit}")
        self.limit = limit
        self.refused = 0
        self._segment = limit // 2
        self._hold_s = hold_s
        self._burst = max(self._segment // BURST_SHARE, 1)
        self._tokens = float(self._burst)
        self._refilled_at = 0.0
        # When a key was first and last seen; and when a proven key was last seen.  Both are in the
        # order in which the keys were last seen.
        self._newcomers: OrderedDict[KeyT, tuple[float, float]] = OrderedDict()
        self._proven: OrderedDict[KeyT, float] = OrderedDict()

    def __contains__(self, key: KeyT) -> bool:
        """Whether a key is remembered; `expire` removes those that are too old."""
        return key in self._proven or key in self._newcomers

    def __len__(self) -> int:
        return len(self._proven) + len(self._newcomers)

    def see(self, key: KeyT, now: float) -> bool:
        """Remember a key that is seen now.

        Returns:
            Whether it is new: it was not remembered before, and is now.
        """
        if key in self._proven:
            self._proven[key] = now
            self._proven.move_to_end(key)
            return False
        newcomer = self._newcomers.get(key)
        if newcomer is None:
            return self._admit(key, now)
        first, _ = newcomer
        if now - first >= PROVEN_S and len(self._proven) < self._segment:
            del self._newcomers[key]
            self._proven[key] = now
        else:
            self._newcomers[key] = first, now
            self._newcomers.move_to_end(key)
        return False

    def expire(self, now: float) -> int:
        """Forget the keys that were not seen for too long, and return their number."""
        before = len(self)
        while self._newcomers:
            key, (_, last) = next(iter(self._newcomers.items()))
            if now - last < self._hold_s:
                break
            del self._newcomers[key]
        while self._proven:
            key, last = next(iter(self._proven.items()))
            if now - last < self._hold_s:
                break
            del self._proven[key]
        return before - len(self)

    def _admit(self, key: KeyT, now: float) -> bool:
        earned = (now - self._refilled_at) * ADMITTED_PER_S
        self._refilled_at = now
        self._tokens = min(self._tokens + earned, self._burst)
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        if len(self._newcomers) >= self._segment:
            self._newcomers.popitem(last=False)
        self._newcomers[key] = now, now
        return True
