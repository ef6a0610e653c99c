"""The flow queue: fq_codel (RFC 8290) with CoDel (RFC 8289).  Pure: the caller passes the time in.

Theory.  Frames queue by flow (`flow_of`), and deficit round robin serves the flows.  A flow may
send while its deficit (its credits in RFC 8290) is positive; each frame it sends reduces the
deficit by its bytes.  A flow whose deficit is not positive gets a quantum and moves to the end of
the list.  So flows share the path by bytes, whatever the size of their frames.

A flow that had nothing queued joins the list of new flows, which is served before the list of old
flows.  So a sparse flow (a ping, a key press, a handshake) does not wait behind the queued frames
of a bulk flow.  A new flow that has used up its quantum becomes an old flow.  So does one that is
found empty, if there are old flows: otherwise a flow could stay new by sending one frame at a time.

Each flow has its own CoDel state.  CoDel marks a frame (`mark_ce`), or drops it if it is not
ECN-capable.  CoDel never signals a flow with at most `floor` bytes left once its head is taken:
such a flow waits for other flows' turns, not behind itself.  The backlog is counted in bytes,
because one super-frame is a queue, and one small frame is none.

Who drops what: if the queue exceeds a bound, the fattest flow loses frames from its head, until it
is no longer the fattest.  One search makes room for several frames, so a flood costs constant time
per frame.

Memory: the queue bounds its frames, its bytes and its flows.  When `FLOWS_MAX` flows have a queue
each, further flows share queues by hash.  A flow stays with its shared queue until that is empty,
which keeps its frames in order.  Idle flows are forgotten, except for the CoDel state of the last
`FLOWS_MAX` flows that were signalled.

The queue changes only in `push`, `pull` and `discard`, never by time: it needs no timer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, cast

from vknet.counters import DropReason
from vknet.packet.ecn import mark_ce
from vknet.packet.ethernet import FULL_FRAME
from vknet.packet.flow import flow_of
from vknet.qdisc.codel import INTERVAL_S, TARGET_S, Codel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from vknet.packet.ethernet import Frame

__all__ = ["FlowQueue", "Wrapped"]

LIMIT_FRAMES: Final = 10240
"""The default bound of the queued frames (RFC 8290, section 5.2)."""

LIMIT_BYTES: Final = 4 * 1024 * 1024
"""The default bound of the queued bytes: more than a second at 30 Mbit/s.  By then, the sender of a
frame has sent it again."""

FLOWS_MAX: Final = 1024
"""The number of flows with a queue each, and of shared queues (RFC 8290, section 5.2)."""

# When a bound is exceeded, one search frees 1/64 of it: 160 frames, or one super-frame.
DROP_BATCH_DIVISOR: Final = 64


class Wrapped(Protocol):
    """A frame with data that belongs to it; ``len()`` is the number of bytes that it counts as."""

    @property
    def frame(self) -> Frame:
        """The Ethernet frame."""

    def with_frame(self, frame: bytes) -> Self:
        """Return a copy with another frame of the same length."""

    def __len__(self) -> int: ...


ItemT = TypeVar("ItemT", bound="Frame | Wrapped")


class _Flow(Codel, Generic[ItemT]):
    """The queue of a flow, with its CoDel state and its deficit."""

    __slots__ = ("backlog_bytes", "deficit_bytes", "entries", "key")

    def __init__(self, key: bytes | int) -> None:
        super().__init__()
        self.key = key
        self.entries: deque[tuple[ItemT, int, float]] = deque()
        """Items, each with its bytes and with the time when it was queued."""
        self.backlog_bytes = 0
        self.deficit_bytes = 0


class FlowQueue(Generic[ItemT]):
    """A queue for frames that wait for a bottleneck.

    It holds frames, or `Wrapped` frames, or both.  A memoryview is copied when it is queued, and
    comes out as `bytes`, since a queued view would keep its whole buffer alive.
    While the queue is empty, a frame that may go at once need not pass through it.

    Args:
        quantum: the bytes that a flow may send in one turn.
        target: CoDel's target, in seconds of any monotonic clock.
        interval: CoDel's interval, in seconds.
        floor: CoDel never signals a flow with at most this many bytes left once its head is taken.
        limit_bytes: the bound of the queued bytes.
        limit_frames: the bound of the queued frames.
        drops: the counter of drops; None for a new one.

    Attributes:
        backlog_bytes: the bytes queued.
        target: see above; the caller may change it.
        interval: see above; the caller may change it.
        drops: dropped frames by reason.
        ecn_marks: frames that CoDel marked or found marked, instead of dropping them.
    """

    def __init__(
        self,
        *,
        quantum: int = FULL_FRAME,
        target: float = TARGET_S,
        interval: float = INTERVAL_S,
        floor: int = FULL_FRAME,
        limit_bytes: int = LIMIT_BYTES,
        limit_frames: int = LIMIT_FRAMES,
        drops: Counter[DropReason] | None = None,
    ) -> None:
        self.backlog_bytes = 0
        self.drops: Counter[DropReason] = Counter() if drops is None else drops
        self.ecn_marks = 0
        self._quantum = quantum
        self.target = target
        self.interval = interval
        self._floor = floor
        self._limit_bytes = limit_bytes
        self._limit_frames = limit_frames
        self._frames = 0
        # The flows in the lists of new and of old flows.  The key of a shared queue is a number.
        self._flows: dict[bytes | int, _Flow[ItemT]] = {}
        self._new: deque[_Flow[ItemT]] = deque()
        self._old: deque[_Flow[ItemT]] = deque()
        # The number of shared queues.
        self._shared = 0
        # Idle flows that were signalled; the most recent one comes last.
        self._idle: OrderedDict[bytes | int, _Flow[ItemT]] = OrderedDict()

    def __len__(self) -> int:
        """The number of queued frames."""
        return self._frames

    @property
    def flows(self) -> int:
        """The number of known flows, idle ones included; at most three times `FLOWS_MAX`."""
        return len(self._flows) + len(self._idle)

    def push(self, items: Iterable[ItemT], now: float) -> None:
        """Queue frames, and drop what exceeds the bounds.

        Args:
            items: the frames.
            now: the time of their arrival.
        """
        find = self._flows.get
        frames = added = 0
        for item in items:
            if isinstance(item, bytes):
                key = flow_of(item)
            elif isinstance(item, memoryview):
                key = flow_of(item)
                item = cast("ItemT", bytes(item))
            else:
                key = flow_of(item.frame)
            flow = find(key)
            if flow is None:
                flow = self._admit(key)
            size = len(item)
            flow.entries.append((item, size, now))
            flow.backlog_bytes += size
            added += size
            frames += 1
        self._frames += frames
        self.backlog_bytes += added
        if self._frames > self._limit_frames or self.backlog_bytes > self._limit_bytes:
            self._make_room()

    def pull(self, now: float, limit_bytes: int) -> list[ItemT]:
        """Remove and return the frames to send now, in order.

        Args:
            now: the time.
            limit_bytes: how many bytes to return; the last frame may exceed it.
        """
        pulled: list[ItemT] = []
        take = pulled.append
        new, old = self._new, self._old
        quantum, floor = self._quantum, self._floor
        target, interval = self.target, self.interval
        room = limit_bytes
        # Consecutive flows that could not send.
        passed = 0
        while room > 0:
            turns = new or old
            if not turns:
                break
            flow = turns[0]
            deficit = flow.deficit_bytes
            if deficit <= 0:
                flow.deficit_bytes += quantum
                old.append(turns.popleft())
                passed += 1
                if passed > len(old) and not new:
                    passed = 0
                    self._skip_rounds()
                continue
            passed = 0
            entries = flow.entries
            while entries and deficit > 0 and room > 0:
                item, size, since = entries.popleft()
                flow.backlog_bytes -= size
                if now - since < target or flow.backlog_bytes <= floor:
                    # `on_below_target`, inlined: it runs for nearly every frame.
                    flow.first_above_time = None
                elif flow.should_signal(now, interval):
                    marked = _mark(item)
                    if marked is None:
                        self._count_drop(DropReason.QUEUE_DELAY, size)
                        continue
                    self.ecn_marks += 1
                    item = marked
                deficit -= size
                room -= size
                take(item)
            flow.deficit_bytes = deficit
            if not entries and deficit > 0 and room > 0:
                turns.popleft()
                if turns is new and old:
                    flow.on_below_target()
                    old.append(flow)
                else:
                    self._retire(flow)
        self._frames -= len(pulled)
        self.backlog_bytes -= limit_bytes - room
        if not self._frames:
            self._forget_turns()
        return pulled

    def discard(self, reason: DropReason) -> int:
        """Drop all queued frames, count them under a reason, and return their number."""
        dropped = self._frames
        self.drops[reason] += dropped
        self._frames = self.backlog_bytes = 0
        for flow in self._flows.values():
            flow.entries.clear()
            flow.backlog_bytes = 0
        self._forget_turns()
        return dropped

    # --- flows ------------------------------------------------------------------------------------

    def _admit(self, key: bytes) -> _Flow[ItemT]:
        """Return a queue for a flow that has none of its own: a new one, or a shared one."""
        flows = self._flows
        name: bytes | int = key
        if self._shared or len(flows) >= FLOWS_MAX:
            number = hash(key) % FLOWS_MAX
            # The shared queue comes first: it may still hold frames of this flow.
            shared = flows.get(number)
            if shared is not None:
                return shared
            if len(flows) - self._shared >= FLOWS_MAX:
                name = number
                self._shared += 1
        flow = self._idle.pop(name, None)
        if flow is None:
            flow = _Flow(name)
        flow.deficit_bytes = self._quantum
        flows[name] = flow
        self._new.append(flow)
        return flow

    def _retire(self, flow: _Flow[ItemT]) -> None:
        """Remove an empty flow; keep its CoDel state if it was ever signalled.

        Its list no longer has it.
        """
        key = flow.key
        del self._flows[key]
        if isinstance(key, int):
            self._shared -= 1
        elif flow.count:
            flow.on_below_target()
            self._idle[key] = flow
            if len(self._idle) > FLOWS_MAX:
                self._idle.popitem(last=False)

    def _forget_turns(self) -> None:
        """Remove all flows of an empty queue.

        A flow that comes back is new, and its deficit is a full quantum.
        """
        for turns in self._new, self._old:
            while turns:
                self._retire(turns.popleft())

    def _skip_rounds(self) -> None:
        """Skip the rounds in which no flow may send, and give the old flows their quanta.

        A super-frame costs about 43 quanta; without this, 43 rounds would pass in which no flow
        sends.
        """
        rounds = min(-flow.deficit_bytes for flow in self._old) // self._quantum
        if rounds > 0:
            for flow in self._old:
                flow.deficit_bytes += rounds * self._quantum

    # --- bounds -----------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Drop frames from the head of the respective fattest flow, until there is room."""
        frames, size = self._limit_frames, self._limit_bytes
        if self._frames > frames:
            frames -= frames // DROP_BATCH_DIVISOR
        if self.backlog_bytes > size:
            size -= size // DROP_BATCH_DIVISOR
        flows = self._flows.values()
        fattest = [(-flow.backlog_bytes, n, flow) for n, flow in enumerate(flows) if flow.entries]
        heapify(fattest)
        while self._frames > frames or self.backlog_bytes > size:
            _, n, flow = fattest[0]
            _, length, _ = flow.entries.popleft()
            flow.backlog_bytes -= length
            # As in Linux: a flow that overflows the queue needs a stronger signal.
            flow.count += 1
            self._count_drop(DropReason.QUEUE_FULL, length)
            if flow.entries:
                heapreplace(fattest, (-flow.backlog_bytes, n, flow))
            else:
                heappop(fattest)

    def _count_drop(self, reason: DropReason, size: int) -> None:
        self.drops[reason] += 1
        self._frames -= 1
        self.backlog_bytes -= size


def _mark(item: ItemT) -> ItemT | None:
    """Return the item with its frame marked; None if that is not ECN-capable (see `mark_ce`)."""
    if isinstance(item, (bytes, memoryview)):
        return cast("ItemT | None", mark_ce(item))
    frame = item.frame
    marked = mark_ce(frame)
    if marked is None or marked is frame:
        return item if marked is frame else None
    return item.with_frame(bytes(marked))
