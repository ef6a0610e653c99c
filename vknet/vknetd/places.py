"""Places that users share: no user can hold all of them.  Pure.

A user may take a place while the number of places that it holds is below the number that is free.
So one user alone gets half of them, and two users get a third each: there is always a place for the
next user, until there are as many users as places.  Exempt users may take every place.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Places"]


class Places:
    """A fixed number of places.

    Args:
        total: their number.
        exempt: the user IDs that may take every place.

    Attributes:
        total: their number.
        taken: the number of places that are taken.
    """

    def __init__(self, total: int, exempt: Iterable[int] = ()) -> None:
        self.total = total
        self.taken = 0
        self._exempt = frozenset(exempt)
        self._held: Counter[int] = Counter()

    @property
    def free(self) -> int:
        """The number of places that are free."""
        return self.total - self.taken

    def held_by(self, uid: int) -> int:
        """Return the number of places that a user holds."""
        return self._held[uid]

    def take(self, uid: int) -> bool:
        """Take a place for a user; return False if the user may not have one now."""
        if self.free <= (0 if uid in self._exempt else self._held[uid]):
            return False
        self.taken += 1
        self._held[uid] += 1
        return True

    def give_back(self, uid: int) -> None:
        """Return a place that `take` gave to a user."""
        self.taken -= 1
        self._held[uid] -= 1
        if not self._held[uid]:
            del self._held[uid]
