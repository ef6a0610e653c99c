"""A path simulated event by event: a sender with a `Window`, ssh, a bottleneck, a busy receiver.

What is modelled is what deceives a window.  The bottleneck lets through what it carries piece by
piece and in order; delays vary both ways, and nothing overtakes.  The receiver takes in all that
has arrived at once, and is held up before it does by its scheduler; only then does it acknowledge,
and as seldom as `AckPolicy` says.  The way there may stop, and then deliver what was on it in
one bunch, as a TCP that mends a loss.  The stream is reliable: no queue drops.

All that is random comes from one seed.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from vknet.congestion.ack_policy import AckPolicy
from vknet.congestion.reverse_delay import stamp
from vknet.congestion.window import Window
from vknet.packet.ethernet import FULL_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MBIT", "Path", "Simulation", "carried", "dsl", "run_both", "settled"]

MBIT = 1e6 / 8

BATCH = 128 * 1024

# Bytes per second that the receiver's kernel hands over when all of them are there.
MEMORY_RATE = 2.5e9


@dataclass
class Path:
    """May be changed while it is in use.

    Attributes:
        rate: bytes per second.
        round_trip: seconds, of an empty path.
        jitter: at most so many seconds more, each way, evenly spread.
        busy: at most so many seconds until the receiver reads, evenly spread.
        buffer: bytes that can be written ahead of the bottleneck, before the sender has to wait.
        back: seconds that an ACK waits in the queue of the other direction.
    """

    rate: float
    round_trip: float
    jitter: float = 0.0
    busy: float = 0.0
    buffer: float = math.inf
    back: float = 0.0


class Ack(NamedTuple):
    at: float
    total: int
    round_trip: float
    """Of the last byte acknowledged."""


class Simulation:
    """A greedy sender, unless `offer` says what it has to send.

    Args:
        path: what leads to the receiver.
        seed: of all that is random.
        tick: of the clock that the window is given, in seconds; 0 is exact.
        timed: whether ACKs say when they were written.
    """

    def __init__(
        self, path: Path, seed: int = 0, *, tick: float = 0.0, timed: bool = False
    ) -> None:
        self.path = path
        self.now = 0.0
        self._tick = tick
        self.window = Window(self.clock())
        self.acks: list[Ack] = [Ack(0.0, 0, 0.0)]
        self.stopped_until = 0.0
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        # The sender.
        self._sent = 0
        self._offered = math.inf
        self._sent_at: deque[tuple[int, float]] = deque()
        # The bottleneck: pieces that wait, the first of which is on its way through.
        self._pieces: deque[int] = deque()
        self._waiting = 0
        # The receiver.
        self._last_arrival = self._last_ack = 0.0
        self._arrived = 0
        self._reading = False
        self._acknowledger = AckPolicy()
        self._ack_alarm: float | None = None
        self._timed = timed
        # How far its clock is ahead, in seconds.
        self.receiver_clock = 4294.9

    def clock(self) -> float:
        """The time as the window is told it."""
        return math.floor(self.now / self._tick) * self._tick if self._tick else self.now

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        self._send()
        while self.next_at <= until:
            self.step()
        self.now = until

    @property
    def next_at(self) -> float:
        """When something happens next; infinity if nothing does."""
        return self._events[0][0] if self._events else math.inf

    @property
    def queue(self) -> float:
        """Seconds that what is written now waits for the bottleneck."""
        return self._waiting / self.path.rate

    def step(self) -> None:
        """Have the next thing happen."""
        self.now, _, do = heapq.heappop(self._events)
        do()

    def offer(self, size: float) -> None:
        """From now on the sender has so many bytes to send; infinity makes it greedy again."""
        self._offered = self._sent + size
        self._send()

    def stop(self, seconds: float) -> None:
        """Nothing arrives for so long; what was due meanwhile comes all at once."""
        self.stopped_until = self.now + seconds

    def every(self, seconds: float, do: Callable[[], None]) -> None:
        """Do this now and again, for good."""

        def again() -> None:
            do()
            self.at(self.now + seconds, again)

        again()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do this then."""
        heapq.heappush(self._events, (when, next(self._numbers), do))

    # --- what came of it --------------------------------------------------------------------------

    def delivered(self, since: float, until: float) -> float:
        """Of what the path can carry, the share that was delivered in this time."""
        first = next(ack for ack in reversed(self.acks) if ack.at <= since)
        last = next(ack for ack in reversed(self.acks) if ack.at <= until)
        return (last.total - first.total) / (until - since) / self.path.rate

    def round_trips(self, since: float) -> list[float]:
        """Sorted."""
        return sorted(ack.round_trip for ack in self.acks if ack.at >= since)

    def median_round_trip(self, since: float) -> float:
        found = self.round_trips(since)
        return found[len(found) // 2]

    # --- the sender -------------------------------------------------------------------------------

    def _send(self) -> None:
        window = self.window
        while window.send_quota and self._waiting < self.path.buffer:
            left = self._offered - self._sent
            if left <= 0:
                window.app_limited()
                return
            # Whole frames, the last of which may pass the room.
            frames = math.ceil(min(window.send_quota, self._batch()) / FULL_FRAME)
            size = int(min(frames * FULL_FRAME, left))
            self._sent += size
            self._sent_at.append((self._sent, self.now))
            window.on_sent(self._sent, self.clock())
            self._write(size)

    def _batch(self) -> float:
        """The most that is sent at once; larger than in life only where gigabytes are under way."""
        return max(BATCH, self.path.rate * self.path.round_trip / 400)

    # --- ssh and the bottleneck -------------------------------------------------------------------

    def _write(self, size: int) -> None:
        idle = not self._pieces
        # A frame at a time, and on a fast path what goes through in a quarter of a millisecond, or
        # in a small part of the round trip.
        piece = max(FULL_FRAME, int(self.path.rate * max(0.00025, self.path.round_trip / 400)))
        self._pieces.extend(min(piece, size - start) for start in range(0, size, piece))
        self._waiting += size
        if idle:
            self._carry_next()

    def _carry_next(self) -> None:
        self.at(self.now + self._pieces[0] / self.path.rate, self._carried)

    def _carried(self) -> None:
        size = self._pieces.popleft()
        self._waiting -= size
        if self._pieces:
            self._carry_next()
        arrival = max(self.now + self._delay(), self.stopped_until)
        # A bunch is no single moment.
        arrival = max(arrival, self._last_arrival + size / MEMORY_RATE)
        self._last_arrival = arrival
        self.at(arrival, lambda: self._arrive(size))
        self._send()

    def _delay(self) -> float:
        return self.path.round_trip / 2 + self._random.random() * self.path.jitter

    # --- the receiver -----------------------------------------------------------------------------

    def _arrive(self, size: int) -> None:
        self._arrived += size
        if not self._reading:
            self._reading = True
            self.at(self.now + self._random.random() * self.path.busy, self._read)

    def _read(self) -> None:
        self._reading = False
        self._acknowledger.on_delivered(
            self._arrived - self._acknowledger.delivered_bytes, self.now
        )
        self._acknowledge()

    def _acknowledge(self) -> None:
        due = self._acknowledger.due()
        if due == math.inf:
            return
        if due > self.now:
            if self._ack_alarm != due:
                self._ack_alarm = due
                self.at(due, self._acknowledge)
            return
        total = self._acknowledger.delivered_bytes
        self._acknowledger.on_ack_sent(self.now)
        at = stamp(self.now + self.receiver_clock)
        self._last_ack = max(self.now + self._delay() + self.path.back, self._last_ack)
        self.at(self._last_ack, lambda: self._take_ack(total, at))

    def _take_ack(self, total: int, at: int) -> None:
        while self._sent_at[0][0] < total:
            self._sent_at.popleft()
        self.window.on_ack(total, self.clock(), at if self._timed else None)
        self.acks.append(Ack(self.now, total, self.now - self._sent_at[0][1]))
        self._send()


def run_both(one: Simulation, other: Simulation, seconds: float) -> None:
    """Run two directions of one path, where the ACKs of each go the way of the other's frames."""
    one.run(0)
    other.run(0)
    while min(one.next_at, other.next_at) <= seconds:
        first, second = (one, other) if one.next_at <= other.next_at else (other, one)
        first.path.back = second.queue
        first.step()
    one.now = other.now = seconds


def dsl() -> Path:
    """10 Mbit/s, 30 ms."""
    return Path(10 * MBIT, 0.03)


def settled(path: Path, tick: float = 0.0) -> Simulation:
    """Long enough under way that the window knows the path."""
    simulation = Simulation(path, tick=tick)
    simulation.run(max(3.0, 30 * path.round_trip))
    return simulation


def carried(simulation: Simulation, seconds: float) -> float:
    """The share of the path's rate delivered from now on for so long."""
    start = simulation.now
    simulation.run(seconds)
    return simulation.delivered(start, simulation.now)
