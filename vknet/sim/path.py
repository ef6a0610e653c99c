"""The effect of a cable on the frames of one direction.  Pure: the caller passes the time.

    frame -> loss -> queue -> rate -> delay, jitter -> out
                                   -> reordered: without delay -> out

The terms are those of tc-netem(8), and of tc-tbf(8) for the queue.  A frame occupies the bottleneck
for its size divided by `rate`; the size is that of the whole frame, without preamble and FCS.  The
frames behind it wait.  A frame that would have to wait too long is dropped (tail drop).  The delay
comes after the bottleneck.

It differs from netem in one point: jitter alone never changes the order of frames.  A frame that
would overtake another one waits for it, as on a real path.  Only `reorder` lets frames overtake.

Due times are computed from earlier due times, and not from the times at which frames are taken out.
So the rate is exact even if frames are taken out late.

A new rate counts at once for the frames at the bottleneck: the bits that are left of them go at the
new rate.  A new delay, jitter, loss or reordering applies to the frames that follow.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from vknet.counters import DropReason
from vknet.packet.ethernet import FULL_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vknet.packet.ethernet import Frame

__all__ = ["Counts", "Impairment", "Path"]

# The size of the queue if none is given: the default of netem, 1000 frames.
QUEUE_BYTES: Final = 1000 * FULL_FRAME

# The maximum number of bytes held in one direction, which bounds memory where the delay is long and
# no rate is given: two seconds of 1 Gbit/s.
HELD_MAX_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Path:
    """The properties of one direction of a cable.

    Attributes:
        delay: the delay, in seconds.
        jitter: the maximum deviation from the delay, in seconds; it is uniformly distributed.
        rate: the rate of the bottleneck, in bits per second; None for no limit.
        limit: the size of the queue at the bottleneck, in bytes, including the frame that is being
            sent.  None means 1000 full frames, or no limit if `latency` is given.
        latency: the maximum time that a frame waits at the bottleneck, in seconds; None means that
            `limit` alone bounds the queue.
        loss: the fraction of frames that are lost, 0 to 1.
        reorder: the fraction of frames that are not delayed, and so overtake others, 0 to 1.

    Raises:
        ValueError: a value is out of range, or `limit` or `latency` is given without a rate.
    """

    delay: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    limit: int | None = None
    latency: float | None = None
    loss: float = 0.0
    reorder: float = 0.0

    def __post_init__(self) -> None:
        for name in ("delay", "jitter", "limit", "latency"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be 0 or more, but is {value}")
        for name in ("loss", "reorder"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1 (100 %), but is {value:g}")
        if self.rate is None:
            if self.limit is not None or self.latency is not None:
                raise ValueError("limit and latency need a rate: without one there is no queue")
        elif not self.rate > 0:
            raise ValueError(f"rate must be positive, but is {self.rate:g}")


@dataclass(slots=True)
class Counts:
    """The counters of one direction.

    Attributes:
        frames: frames delivered at the other end.
        bytes: their bytes.
        drops: frames dropped, by reason.
    """

    frames: int = 0
    bytes: int = 0
    drops: Counter[DropReason] = field(default_factory=Counter)


class _Held(NamedTuple):
    """A frame on its way.

    Attributes:
        due: when it comes out.
        sent: when the bottleneck has sent it.
        delay: the time between the two, unless an earlier frame is due later.
        frame: the frame.
    """

    due: float
    sent: float
    delay: float
    frame: bytes


class Impairment:
    """One direction of a cable: frames go in, and come out when they are due.

    Args:
        path: the properties of the direction.
        seed: the seed of loss, jitter and reordering.

    Attributes:
        counts: the counters so far.
        on_new_path: called when `path` was replaced, because `next_due` may change.
    """

    def __init__(self, path: Path, seed: int | str = 0) -> None:
        self._path = path
        self.counts = Counts()
        self.on_new_path: Callable[[], None] | None = None
        # The rate of all due times so far.
        self._rate = path.rate
        self._random = random.Random(seed).random
        # When the bottleneck has sent all frames so far.
        self._idle_at = float("-inf")
        # Earliest first.
        self._in_order: deque[_Held] = deque()
        self._reordered: deque[_Held] = deque()
        self._held_bytes = 0

    @property
    def path(self) -> Path:
        """The properties of the direction.  A new path applies from the next `put` or `take`."""
        return self._path

    @path.setter
    def path(self, path: Path) -> None:
        self._path = path
        if self.on_new_path is not None:
            self.on_new_path()

    def put(self, frames: Sequence[Frame], now: float) -> None:
        """Put frames in, in order.

        Args:
            frames: the frames.
            now: the time in seconds; it must not go backwards from call to call.
        """
        self._apply_rate(now)
        path = self._path
        in_order = self._in_order
        for frame in frames:
            # The same number of draws for each frame, so that the loss of one frame does not change
            # what happens to the next ones.
            lost = bool(path.loss) and self._random() < path.loss
            reordered = bool(path.reorder) and self._random() < path.reorder
            jitter = path.jitter * (2 * self._random() - 1) if path.jitter else 0.0
            size = len(frame)
            if lost:
                self.counts.drops[DropReason.LOSS] += 1
                continue
            if self._is_full(size, now):
                self.counts.drops[DropReason.QUEUE_FULL] += 1
                continue
            sent = now
            if path.rate is not None:
                sent = self._idle_at = max(now, self._idle_at) + 8 * size / path.rate
            self._held_bytes += size
            if reordered:
                self._reordered.append(_Held(sent, sent, 0.0, bytes(frame)))
                continue
            delay = max(0.0, path.delay + jitter)
            due = sent + delay
            if in_order and due < in_order[-1].due:
                due = in_order[-1].due
            in_order.append(_Held(due, sent, delay, bytes(frame)))

    def _apply_rate(self, now: float) -> None:
        """Let the frames at the bottleneck go at the rate of a new path from now on.

        The bottleneck is busy from now until the last of them is sent.  So the time that is left
        for each changes by the ratio of the rates.
        """
        old, new = self._rate, self._path.rate
        self._rate = new
        if old is None or old == new or self._idle_at <= now:
            return
        factor = 0.0 if new is None else old / new
        self._idle_at = now + factor * (self._idle_at - now)

        def apply(held: deque[_Held]) -> deque[_Held]:
            result: deque[_Held] = deque()
            latest = float("-inf")
            for one in held:
                if one.sent > now:
                    sent = now + factor * (one.sent - now)
                    one = _Held(max(sent + one.delay, latest), sent, one.delay, one.frame)
                latest = one.due
                result.append(one)
            return result

        self._in_order = apply(self._in_order)
        self._reordered = apply(self._reordered)

    def _is_full(self, size: int, now: float) -> bool:
        path = self._path
        if self._held_bytes + size > HELD_MAX_BYTES:
            return True
        wait = self._idle_at - now
        if path.rate is None or wait <= 0:
            return False
        if path.latency is not None and wait > path.latency:
            return True
        if path.limit is None and path.latency is not None:
            return False
        limit = QUEUE_BYTES if path.limit is None else path.limit
        return wait * path.rate / 8 + size > limit

    def next_due(self) -> float | None:
        """Return when the next frame is due; None if there is none."""
        in_order, reordered = self._in_order, self._reordered
        if reordered and (not in_order or reordered[0].due < in_order[0].due):
            return reordered[0].due
        return in_order[0].due if in_order else None

    def take(self, now: float, limit: int | None = None) -> list[Frame]:
        """Take out the frames that are due, in the order of their due times.

        Args:
            now: the time in seconds.
            limit: the maximum number of frames; None for no limit.
        """
        self._apply_rate(now)
        frames: list[Frame] = []
        size = 0
        in_order, reordered = self._in_order, self._reordered
        while (in_order or reordered) and len(frames) != limit:
            source = in_order
            if reordered and (not in_order or reordered[0].due < in_order[0].due):
                source = reordered
            if source[0].due > now:
                break
            frame = source.popleft().frame
            frames.append(frame)
            size += len(frame)
        self._held_bytes -= size
        self.counts.frames += len(frames)
        self.counts.bytes += size
        return frames
