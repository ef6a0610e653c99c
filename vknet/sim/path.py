"""What a wire does to frames in one direction.  Pure, the time handed in.

    frame -> loss -> queue -> rate -> delay, jitter -> out
                                   -> reordered: at once -> out

The terms are those of tc-netem(8), and of tc-tbf(8) for the queue.  A frame takes its size, from
its destination address to its end, at `rate`; the next one waits for that; what would wait too long
is dropped, the newest first.  Only then it is delayed.

One thing is not as in netem: jitter alone never changes the order.  A frame that would overtake
waits for the one before it, as on a real path, and only `reorder` lets frames overtake.

Every moment is computed from the moments before it and not from when somebody looked, so that the
rate is exact however late the frames are collected.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.ethernet import Frame

__all__ = ["Counts", "Impairment", "Path"]

# netem's own limit, in full frames.
LIMIT: Final = 1000 * 1514

# All that may be held, where there is a long delay and no rate: two seconds of 1 Gbit/s.
HELD_MAX: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Path:
    """One direction of a wire.

    Attributes:
        delay: seconds.
        jitter: seconds by which the delay is longer or shorter at most, evenly spread.
        rate: bits per second; None for no limit.
        limit: bytes that may wait for their turn at `rate`, the frame on its way out included.
        latency: seconds that a frame may wait for its turn; None leaves it to `limit`.
        loss: the share of frames that are lost, 0 to 1.
        reorder: the share of frames that are not delayed, so that they overtake others.

    Raises:
        ValueError: out of range.
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
                raise ValueError(f"{name} cannot be {value}")
        for name in ("loss", "reorder"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1 (100 %), not {value:g}")
        if self.rate is None:
            if self.limit is not None or self.latency is not None:
                raise ValueError("without a rate there is no queue to limit")
        elif not self.rate > 0:
            raise ValueError(f"rate has to be more than {self.rate:g}")


@dataclass(slots=True)
class Counts:
    """What went one way.

    Attributes:
        frames: frames that came out at the other end.
        bytes: their bytes.
        drops: frames that did not, by reason (`DropReason`).
    """

    frames: int = 0
    bytes: int = 0
    drops: Counter[DropReason] = field(default_factory=Counter)


class Impairment:
    """One direction at work: frames go in, and come out when they are due.

    Args:
        path: what to do to them; may be replaced meanwhile, for the frames that follow.
        seed: of loss, jitter and reordering.

    Attributes:
        counts: so far.
    """

    def __init__(self, path: Path, seed: int | str = 0) -> None:
        self.path = path
        self.counts = Counts()
        self._random = random.Random(seed).random
        # When the bottleneck will be done with what it was given.
        self._free = float("-inf")
        # Frames and when they are due, the earliest first.
        self._line: deque[tuple[float, bytes]] = deque()
        self._reordered: deque[tuple[float, bytes]] = deque()
        self._held = 0

    def put(self, frames: Sequence[Frame], now: float) -> None:
        """Frames enter, in order, at this time in seconds; later than those before them."""
        path = self.path
        line = self._line
        for frame in frames:
            # As many draws for every frame, so that the fate of one does not change with another's.
            lost = bool(path.loss) and self._random() < path.loss
            ahead = bool(path.reorder) and self._random() < path.reorder
            jitter = path.jitter * (2 * self._random() - 1) if path.jitter else 0.0
            size = len(frame)
            if lost:
                self.counts.drops[DropReason.LOSS] += 1
                continue
            if self._is_full(size, now):
                self.counts.drops[DropReason.QUEUE_FULL] += 1
                continue
            out = now
            if path.rate is not None:
                out = self._free = max(now, self._free) + 8 * size / path.rate
            self._held += size
            if ahead:
                self._reordered.append((out, bytes(frame)))
                continue
            due = max(out, out + path.delay + jitter)
            if line and due < line[-1][0]:
                due = line[-1][0]
            line.append((due, bytes(frame)))

    def _is_full(self, size: int, now: float) -> bool:
        path = self.path
        if self._held + size > HELD_MAX:
            return True
        wait = self._free - now
        if path.rate is None or wait <= 0:
            return False
        if path.latency is not None and wait > path.latency:
            return True
        if path.limit is None and path.latency is not None:
            return False
        limit = LIMIT if path.limit is None else path.limit
        return wait * path.rate / 8 + size > limit

    def next_due(self) -> float | None:
        """When the next frame is due; None while there is none."""
        line, reordered = self._line, self._reordered
        if reordered and (not line or reordered[0][0] < line[0][0]):
            return reordered[0][0]
        return line[0][0] if line else None

    def take(self, now: float, most: int | None = None) -> list[Frame]:
        """Take out the frames that are due by now, in the order in which they are.

        Args:
            now: the time.
            most: how many frames at once; None is all of them.
        """
        frames: list[Frame] = []
        size = 0
        line, reordered = self._line, self._reordered
        while (line or reordered) and len(frames) != most:
            source = line
            if reordered and (not line or reordered[0][0] < line[0][0]):
                source = reordered
            if source[0][0] > now:
                break
            frame = source.popleft()[1]
            frames.append(frame)
            size += len(frame)
        self._held -= size
        self.counts.frames += len(frames)
        self.counts.bytes += size
        return frames
