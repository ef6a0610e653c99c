"""A discrete-event simulation of a path: a sender with a `Window`, ssh, a bottleneck, a receiver.

It models what misleads a window.  The bottleneck passes pieces one by one and in order.  Delays
vary in both directions, and no piece overtakes another.  The receiver's scheduler delays each read.
A read takes everything that has arrived, and ACKs follow when `AckPolicy` says so.  The forward
path may stall and then deliver everything in one burst, like a TCP that repairs a loss.  The stream
is reliable: no queue drops.

One seed determines every random value.  Sizes are in bytes, times in seconds, and rates in bytes
per second.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.support.events import EventQueue
from vknet.congestion.ack_policy import AckPolicy
from vknet.congestion.reverse_delay import stamp
from vknet.congestion.window import Window
from vknet.packet.ethernet import BATCH_BYTES, FULL_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MBIT", "Path", "Simulation", "dsl", "run_both", "settled", "utilization"]

MBIT = 1e6 / 8
"""One Mbit/s in bytes per second."""

# The rate at which the receiver's kernel hands over a burst.
MEMORY_RATE = 2.5e9


@dataclass
class Path:
    """The parameters of a path; they may change while a simulation runs.

    Attributes:
        rate: of the bottleneck.
        rtt_s: the round-trip time of the empty path.
        jitter_s: the maximum additional delay in each direction, evenly distributed.
        busy_s: the maximum delay until the receiver reads, evenly distributed.
        buffer_bytes: how much the sender may write ahead of the bottleneck.
        reverse_delay_s: how long an ACK waits in the queue of the reverse direction.
    """

    rate: float
    rtt_s: float
    jitter_s: float = 0.0
    busy_s: float = 0.0
    buffer_bytes: float = math.inf
    reverse_delay_s: float = 0.0


class Ack(NamedTuple):
    """An ACK that the sender received."""

    at: float
    """When it arrived."""
    total: int
    """All bytes delivered."""
    rtt_s: float
    """The round-trip time of the last byte it acknowledges, reverse delay included."""


class Simulation(EventQueue):
    """A sender, its path and its receiver.  The sender is greedy unless `offer` limits it.

    Args:
        path: the path to the receiver and back.
        seed: the seed of all random values.
        tick_s: the resolution of the window's clock; 0 is exact.
        timestamps: whether ACKs have time stamps.

    Attributes:
        path: see above; it may be changed.
        now: the time of the simulation.
        window: the sender's window.
        acks: all ACKs received so far.
        stalled_until: until when the forward path delivers nothing.
        receiver_clock_s: how far the receiver's clock is ahead.
    """

    def __init__(
        self, path: Path, seed: int = 0, *, tick_s: float = 0.0, timestamps: bool = False
    ) -> None:
        super().__init__()
        self.path = path
        self._tick_s = tick_s
        self.window = Window(self.clock())
        self.acks: list[Ack] = [Ack(0.0, 0, 0.0)]
        self.stalled_until = 0.0
        self._random = random.Random(seed)
        # The sender.
        self._sent = 0
        self._offered = math.inf
        self._sent_at: deque[tuple[int, float]] = deque()
        # The bottleneck: the queued pieces, of which it is passing the first, and their bytes.
        self._pieces: deque[int] = deque()
        self._queued_bytes = 0
        # The receiver.
        self._last_arrival = self._last_ack = 0.0
        self._arrived = 0
        self._reading = False
        self._ack_policy = AckPolicy()
        self._ack_alarm: float | None = None
        self._timestamps = timestamps
        self.receiver_clock_s = 4294.9

    def clock(self) -> float:
        """The time on the window's clock."""
        return math.floor(self.now / self._tick_s) * self._tick_s if self._tick_s else self.now

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        self._send()
        self.run_until(until)

    @property
    def queue_delay_s(self) -> float:
        """How long a byte that is written now waits for the bottleneck."""
        return self._queued_bytes / self.path.rate

    def offer(self, size: float) -> None:
        """Give the sender this many bytes to send; infinity makes it greedy again."""
        self._offered = self._sent + size
        self._send()

    def stall(self, seconds: float) -> None:
        """Stall the forward path; what was due meanwhile arrives as one burst afterwards."""
        self.stalled_until = self.now + seconds

    def every(self, seconds: float, do: Callable[[], None]) -> None:
        """Call a function now, and then in this interval."""

        def again() -> None:
            do()
            self.at(self.now + seconds, again)

        again()

    # --- results ----------------------------------------------------------------------------------

    def delivered(self, since: float, until: float) -> float:
        """Return the bytes acknowledged in this time, as a part of what the path can carry."""
        first = next(ack for ack in reversed(self.acks) if ack.at <= since)
        last = next(ack for ack in reversed(self.acks) if ack.at <= until)
        return (last.total - first.total) / (until - since) / self.path.rate

    def median_rtt_s(self, since: float) -> float:
        """Return the median round-trip time of the ACKs since then."""
        rtts = sorted(ack.rtt_s for ack in self.acks if ack.at >= since)
        return rtts[len(rtts) // 2]

    # --- the sender -------------------------------------------------------------------------------

    def _send(self) -> None:
        window = self.window
        while window.send_quota and self._queued_bytes < self.path.buffer_bytes:
            left = self._offered - self._sent
            if left <= 0:
                window.note_app_limited()
                return
            # Whole frames, of which the last may exceed the quota.
            frames = math.ceil(min(window.send_quota, self._batch()) / FULL_FRAME)
            size = int(min(frames * FULL_FRAME, left))
            self._sent += size
            self._sent_at.append((self._sent, self.now))
            window.on_sent(self._sent, self.clock())
            self._write(size)

    def _batch(self) -> float:
        """The largest batch; it exceeds `BATCH_BYTES` only if gigabytes are in flight."""
        return max(BATCH_BYTES, self.path.rate * self.path.rtt_s / 400)

    # --- ssh and the bottleneck -------------------------------------------------------------------

    def _write(self, size: int) -> None:
        idle = not self._pieces
        # A piece is a frame, or on a fast path what passes in a quarter of a millisecond or in a
        # small part of the round trip.
        piece = max(FULL_FRAME, int(self.path.rate * max(0.00025, self.path.rtt_s / 400)))
        self._pieces.extend(min(piece, size - start) for start in range(0, size, piece))
        self._queued_bytes += size
        if idle:
            self._pass_next()

    def _pass_next(self) -> None:
        self.at(self.now + self._pieces[0] / self.path.rate, self._passed)

    def _passed(self) -> None:
        size = self._pieces.popleft()
        self._queued_bytes -= size
        if self._pieces:
            self._pass_next()
        arrival = max(self.now + self._delay(), self.stalled_until)
        # Even a burst takes some time.
        arrival = max(arrival, self._last_arrival + size / MEMORY_RATE)
        self._last_arrival = arrival
        self.at(arrival, lambda: self._arrive(size))
        self._send()

    def _delay(self) -> float:
        return self.path.rtt_s / 2 + self._random.random() * self.path.jitter_s

    # --- the receiver -----------------------------------------------------------------------------

    def _arrive(self, size: int) -> None:
        self._arrived += size
        if not self._reading:
            self._reading = True
            self.at(self.now + self._random.random() * self.path.busy_s, self._read)

    def _read(self) -> None:
        self._reading = False
        self._ack_policy.on_delivered(self._arrived - self._ack_policy.delivered_bytes, self.now)
        self._acknowledge()

    def _acknowledge(self) -> None:
        due = self._ack_policy.due()
        if due == math.inf:
            return
        if due > self.now:
            if self._ack_alarm != due:
                self._ack_alarm = due
                self.at(due, self._acknowledge)
            return
        total = self._ack_policy.delivered_bytes
        self._ack_policy.on_ack_sent(self.now)
        at = stamp(self.now + self.receiver_clock_s)
        self._last_ack = max(self.now + self._delay() + self.path.reverse_delay_s, self._last_ack)
        self.at(self._last_ack, lambda: self._take_ack(total, at))

    def _take_ack(self, total: int, at: int) -> None:
        while self._sent_at[0][0] < total:
            self._sent_at.popleft()
        self.window.on_ack(total, self.clock(), at if self._timestamps else None)
        self.acks.append(Ack(self.now, total, self.now - self._sent_at[0][1]))
        self._send()


def run_both(one: Simulation, other: Simulation, seconds: float) -> None:
    """Run both directions of a path; the ACKs of each wait in the queue of the other."""
    one.run(0)
    other.run(0)
    while min(one.next_at, other.next_at) <= seconds:
        first, second = (one, other) if one.next_at <= other.next_at else (other, one)
        first.path.reverse_delay_s = second.queue_delay_s
        first.step()
    one.now = other.now = seconds


def dsl() -> Path:
    """A path of 10 Mbit/s and 30 ms."""
    return Path(10 * MBIT, 0.03)


def settled(path: Path, tick_s: float = 0.0) -> Simulation:
    """Return a simulation that has run long enough for the window to know the path."""
    simulation = Simulation(path, tick_s=tick_s)
    simulation.run(max(3.0, 30 * path.rtt_s))
    return simulation


def utilization(simulation: Simulation, seconds: float) -> float:
    """Run a simulation, and return the part of the path's rate that it delivered meanwhile."""
    start = simulation.now
    simulation.run(seconds)
    return simulation.delivered(start, simulation.now)
