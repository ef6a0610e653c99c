"""Two TCPs that share a bottleneck: that of ssh, behind a `Window`, and a competing one.

It models what starves one of them.  The bottleneck has one queue for both, and drops a segment that
arrives at a full queue.  A TCP's congestion window grows by a segment per round trip, and shrinks
to 0.7 of its size after a loss, as in CUBIC (RFC 9438).  A lost segment is sent again; later
segments are not delivered before it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from tests.support.congestion_window import CUBIC_BETA, CongestionWindow
from tests.support.paths import Path, Simulation
from vknet.packet.ethernet import FULL_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CompetingSimulation"]


class Tcp:
    """A TCP flow of segments of `FULL_FRAME` bytes.

    Args:
        simulation: gives the time.
        bottleneck: the shared bottleneck.
        written: the bytes to send; infinity for a greedy flow.
        arrive: called with the number of bytes that were delivered in order.

    Attributes:
        written: see above; it may be raised.
        delivered: the bytes delivered in order so far.
        cwnd: the congestion window.
    """

    def __init__(
        self,
        simulation: CompetingSimulation,
        bottleneck: Bottleneck,
        written: float,
        arrive: Callable[[int], None],
    ) -> None:
        self.written = written
        self.delivered = 0
        self.cwnd = CongestionWindow(CUBIC_BETA)
        self._simulation = simulation
        self._bottleneck = bottleneck
        self._arrive = arrive
        # Numbers of segments: the next new one, and the lost ones to send again.
        self._next = 0
        self._lost: deque[int] = deque()
        self._in_flight = 0
        # At the receiver: segments that came out of order, and the next one in order.
        self._out_of_order: set[int] = set()
        self._expected = 0

    def send(self) -> None:
        while self._in_flight < self.cwnd.size:
            if self._lost:
                self._transmit(self._lost.popleft())
            elif (self._next + 1) * FULL_FRAME <= self.written:
                self._next += 1
                self._transmit(self._next - 1)
            else:
                return

    def end(self) -> None:
        """Send no new segments."""
        self.written = self._next * FULL_FRAME

    def _transmit(self, number: int) -> None:
        self._in_flight += 1
        simulation = self._simulation
        rtt_s = simulation.path.rtt_s
        leaves_at = self._bottleneck.enqueue(simulation.now)
        if leaves_at is None:
            # The ACKs of the segments behind it reveal the loss.
            detected = simulation.now + self._bottleneck.queue_delay_s(simulation.now) + rtt_s
            simulation.at(detected, lambda: self._lose(number))
            return
        simulation.at(leaves_at + rtt_s / 2, lambda: self._receive(number))
        simulation.at(leaves_at + rtt_s, self._acknowledge)

    def _receive(self, number: int) -> None:
        self._out_of_order.add(number)
        size = 0
        while self._expected in self._out_of_order:
            self._out_of_order.remove(self._expected)
            self._expected += 1
            size += FULL_FRAME
        if size:
            self.delivered += size
            self._arrive(size)

    def _acknowledge(self) -> None:
        # A congestion window that is not full does not grow.
        if self._in_flight + 1 >= self.cwnd.size:
            self.cwnd.grow()
        self._in_flight -= 1
        self.send()

    def _lose(self, number: int) -> None:
        self.cwnd.reduce(number, self._next)
        self._lost.append(number)
        self._in_flight -= 1
        self.send()


class Bottleneck:
    """A drop-tail queue in front of a link.

    Args:
        path: gives the rate.
        limit_s: the maximum queueing delay.
    """

    def __init__(self, path: Path, limit_s: float) -> None:
        self._path = path
        self._limit_s = limit_s
        self._busy_until = 0.0

    def queue_delay_s(self, now: float) -> float:
        """Return how long a segment that arrives now waits."""
        return max(0.0, self._busy_until - now)

    def enqueue(self, now: float) -> float | None:
        """Queue a segment; return when it leaves the bottleneck, or None if it is dropped."""
        delay_s = self.queue_delay_s(now)
        if delay_s > self._limit_s:
            return None
        self._busy_until = now + delay_s + FULL_FRAME / self._path.rate
        return self._busy_until


class CompetingSimulation(Simulation):
    """A greedy sender over ssh, which shares its path with a TCP after `begin_competing`.

    Args:
        path: the path of both.
        limit_s: the maximum queueing delay in the bottleneck.
        seed: the seed of all random values.

    Attributes:
        competitor: the competing TCP; `Tcp.end` ends its traffic.
    """

    def __init__(self, path: Path, limit_s: float, seed: int = 0) -> None:
        super().__init__(path, seed, timestamps=True)
        bottleneck = Bottleneck(path, limit_s)
        self._ssh = Tcp(self, bottleneck, 0, self._arrive)
        self.competitor = Tcp(self, bottleneck, 0, lambda _: None)

    def begin_competing(self) -> None:
        """Make the competing TCP greedy."""
        self.competitor.written = math.inf
        self.competitor.send()

    def _write(self, size: int) -> None:
        self._ssh.written += size
        self._ssh.send()
