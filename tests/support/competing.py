"""Two TCPs that share a bottleneck: that of ssh, under a `Window`, and somebody else's, under none.

What is modelled is what makes one of them starve.  The bottleneck has one queue for both, and drops
what comes last when it is full.  A TCP grows by a segment in a round trip, and shrinks to 0.7 when
one was lost (CUBIC's); what is lost is sent again, and until it is there nothing that came after it
is handed over.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from tests.support.paths import Path, Simulation
from vknet.packet.ethernet import FULL_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Beside"]

BETA = 0.7


class Tcp:
    """One flow of segments of `FULL_FRAME` bytes, greedy unless `written` says what there is.

    Args:
        simulation: the clock.
        bottleneck: whom it shares.
        written: bytes there are to send; infinity for as many as can go.
        arrive: told of bytes that were handed over in order.
    """

    def __init__(
        self,
        simulation: Beside,
        bottleneck: Bottleneck,
        written: float,
        arrive: Callable[[int], None],
    ) -> None:
        self.written = written
        self.delivered = 0
        self.cwnd = 10.0
        self._simulation = simulation
        self._bottleneck = bottleneck
        self._arrive = arrive
        self._threshold = math.inf
        # By number: the next one to be sent, the ones to be sent again, those that are on the path.
        self._next = 0
        self._again: deque[int] = deque()
        self._flight = 0
        # What came too early; and the first one that was sent after the last loss was seen.
        self._early: set[int] = set()
        self._expected = 0
        self._recovered = 0

    def send(self) -> None:
        while self._flight < self.cwnd:
            if self._again:
                self._transmit(self._again.popleft())
            elif (self._next + 1) * FULL_FRAME <= self.written:
                self._next += 1
                self._transmit(self._next - 1)
            else:
                return

    def end(self) -> None:
        """Nothing more is sent."""
        self.written = self._next * FULL_FRAME

    def _transmit(self, number: int) -> None:
        self._flight += 1
        simulation = self._simulation
        round_trip = simulation.path.round_trip
        leaves = self._bottleneck.leaves(simulation.now)
        if leaves is None:
            # Those behind it tell.
            seen = simulation.now + self._bottleneck.wait(simulation.now) + round_trip
            simulation.at(seen, lambda: self._lose(number))
            return
        simulation.at(leaves + round_trip / 2, lambda: self._receive(number))
        simulation.at(leaves + round_trip, self._acknowledge)

    def _receive(self, number: int) -> None:
        self._early.add(number)
        size = 0
        while self._expected in self._early:
            self._early.remove(self._expected)
            self._expected += 1
            size += FULL_FRAME
        if size:
            self.delivered += size
            self._arrive(size)

    def _acknowledge(self) -> None:
        # Who has not sent all that it may does not grow.
        if self._flight + 1 >= self.cwnd:
            self.cwnd += 1.0 if self.cwnd < self._threshold else 1.0 / self.cwnd
        self._flight -= 1
        self.send()

    def _lose(self, number: int) -> None:
        if number >= self._recovered:
            self.cwnd = self._threshold = max(2.0, BETA * self.cwnd)
            self._recovered = self._next
        self._again.append(number)
        self._flight -= 1
        self.send()


class Bottleneck:
    """Carries a segment after the other.

    Args:
        path: its rate.
        limit: seconds that one may wait.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self._path = path
        self._limit = limit
        self._busy_until = 0.0

    def wait(self, now: float) -> float:
        """Seconds that a segment has to wait now."""
        return max(0.0, self._busy_until - now)

    def leaves(self, now: float) -> float | None:
        """When a segment that comes now has been carried; None if it was dropped."""
        wait = self.wait(now)
        if wait > self._limit:
            return None
        self._busy_until = now + wait + FULL_FRAME / self._path.rate
        return self._busy_until


class Beside(Simulation):
    """A greedy sender over ssh; `begin` has somebody else use the path as well.

    Args:
        path: that of both.
        limit: seconds that a segment may wait at the bottleneck.
        seed: of what is random.
    """

    def __init__(self, path: Path, limit: float, seed: int = 0) -> None:
        super().__init__(path, seed, timed=True)
        bottleneck = Bottleneck(path, limit)
        self._ssh = Tcp(self, bottleneck, 0, self._arrive)
        self.other = Tcp(self, bottleneck, 0, lambda _: None)

    def begin(self) -> None:
        self.other.written = math.inf
        self.other.send()

    def _write(self, size: int) -> None:
        self._ssh.written += size
        self._ssh.send()
