"""The event queue of the discrete-event simulations."""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EventQueue"]


class EventQueue:
    """Functions to call at a virtual time; those of one time in the order of their addition.

    Attributes:
        now: the virtual time, in seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Call a function at this time."""
        heapq.heappush(self._events, (when, next(self._numbers), do))

    @property
    def next_at(self) -> float:
        """When the next event happens; infinity if there is none."""
        return self._events[0][0] if self._events else math.inf

    def step(self) -> None:
        """Run the next event."""
        self.now, _, do = heapq.heappop(self._events)
        do()

    def run_until(self, when: float) -> None:
        """Run all events up to this time."""
        while self.next_at <= when:
            self.step()
        self.now = when
