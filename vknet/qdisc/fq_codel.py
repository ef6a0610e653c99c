"""The flow queue: fq_codel (RFC 8290) over CoDel (RFC 8289).  Pure: the time is handed in.

Theory.  Frames queue by flow (`flow_of`), and the flows take turns by deficit round robin: a flow
may send while its deficit is positive, pays with the bytes it sends, and gets a quantum whenever
its turn has come and it cannot.  So flows share by bytes, whatever the size of their frames.

A flow that had nothing queued comes to the list of new flows, which is served before the list of
the old ones; what is sparse (a ping, a key press, a handshake) therefore never waits for what is
bulk.  When its quantum is used up it is an old flow.  When it is found empty it goes to the old
ones as well if there are any, so that nobody stays new by sending a frame at a time.

Each flow has its `Codel`, which has a frame marked (`mark_ce`), or dropped where it cannot be.  A
flow with no more than one frame's worth behind that which leaves is not building a queue, whatever
the others' turns make it wait: it is left alone.  What is behind is counted in bytes, so that a
super-frame is not taken for one small frame.

Who drops what: over a bound the fattest flow loses from its head, until it is not the fattest.
One search makes room for more than a frame, so that a flood costs a constant time per frame.

Memory: frames and bytes are bounded, and so are flows.  When `FLOWS` of them have a queue of their
own, others share queues by hash, and go on sharing one until it is empty, which keeps their order.
Idle flows are forgotten, except for what CoDel learned of the last `FLOWS` that it had to signal.

Nothing here happens by itself as time goes by: a queue changes only by being pushed to and pulled
from, and needs no timer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, cast

from vknet.counters import DropReason
from vknet.packet.ecn import mark_ce
from vknet.packet.ethernet import FULL_FRAME
from vknet.packet.flow import flow_of
from vknet.qdisc.codel import INTERVAL, TARGET, Codel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from vknet.packet.ethernet import Frame

__all__ = ["FlowQueue", "Wrapped"]

LIMIT_FRAMES: Final = 10240
LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Over a second of 30 Mbit/s; what must wait longer is sent again by then."""

FLOWS: Final = 1024

# Of a bound that was passed, the part to make room for in one search: 160 frames, or a super-frame.
ROOM: Final = 64


class Wrapped(Protocol):
    """A frame with something that belongs to it; ``len()`` is the bytes it counts for."""

    @property
    def frame(self) -> Frame:
        """The Ethernet frame in it."""

    def with_frame(self, frame: bytes) -> Self:
        """Make the same, with another frame of the same length."""

    def __len__(self) -> int: ...


ItemT = TypeVar("ItemT", bound="Frame | Wrapped")


class _Flow(Codel, Generic[ItemT]):
    """A flow's queue with its CoDel, and its deficit."""

    __slots__ = ("backlog", "deficit", "entries", "key")

    def __init__(self, key: bytes | int) -> None:
        super().__init__()
        self.key = key
        self.entries: deque[tuple[ItemT, int, float]] = deque()
        """Items, their bytes, and when they came."""
        self.backlog = 0
        self.deficit = 0


class FlowQueue(Generic[ItemT]):
    """A queue for the frames that have to wait before a bottleneck.

    It holds frames, or `Wrapped` ones, or both.  A view is copied when it is queued, and comes out
    as `bytes`: it might keep alive a buffer of many times its size, which no bound here could see.
    Times are in seconds of any monotonic clock.  While nothing is queued, whoever has room for a
    frame need not put it here.

    Args:
        quantum: bytes of a flow's turn.
        target: seconds that frames may wait in a standing queue.
        interval: seconds over which a queue counts as standing.
        floor: bytes behind the frame that leaves, up to which a flow is left alone by CoDel.
        limit_bytes: the most bytes it holds.
        limit_frames: the most frames it holds.
        drops: the counter to use; one of its own if None.

    Attributes:
        backlog_bytes: how much is queued.
        target: as given; may be changed, as may be `interval`.
        drops: frames dropped, by reason (`DropReason`).
        ecn_marks: frames marked instead, those included that were marked before.
    """

    def __init__(
        self,
        *,
        quantum: int = FULL_FRAME,
        target: float = TARGET,
        interval: float = INTERVAL,
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
        # Who is in one of the two lists, and only who is.  A number for a key: a shared queue.
        self._flows: dict[bytes | int, _Flow[ItemT]] = {}
        self._new: deque[_Flow[ItemT]] = deque()
        self._old: deque[_Flow[ItemT]] = deque()
        self._shared = 0
        self._idle: OrderedDict[bytes | int, _Flow[ItemT]] = OrderedDict()

    def __len__(self) -> int:
        """How many frames are queued."""
        return self._frames

    @property
    def flows(self) -> int:
        """How many flows are remembered, idle ones included; at most three times `FLOWS`."""
        return len(self._flows) + len(self._idle)

    def push(self, items: Iterable[ItemT], now: float) -> None:
        """Queue these, which came just now; what that makes too much is dropped."""
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
            flow.backlog += size
            added += size
            frames += 1
        self._frames += frames
        self.backlog_bytes += added
        if self._frames > self._limit_frames or self.backlog_bytes > self._limit_bytes:
            self._make_room()

    def pull(self, now: float, limit_bytes: int) -> list[ItemT]:
        """Take out what is to go now, in the order in which it is to go.

        Args:
            now: the time.
            limit_bytes: when this much was taken nothing more is: the last frame may pass it.
        """
        pulled: list[ItemT] = []
        take = pulled.append
        new, old = self._new, self._old
        quantum, floor = self._quantum, self._floor
        target, interval = self.target, self.interval
        room = limit_bytes
        passed = 0
        while room > 0:
            turns = new or old
            if not turns:
                break
            flow = turns[0]
            deficit = flow.deficit
            if deficit <= 0:
                flow.deficit += quantum
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
                flow.backlog -= size
                if now - since < target or flow.backlog <= floor:
                    # As `in_time` does it: a call for every frame would be felt.
                    flow.first_above = None
                elif flow.late(now, interval):
                    marked = _mark(item)
                    if marked is None:
                        self._count_drop(DropReason.QUEUE_DELAY, size)
                        continue
                    self.ecn_marks += 1
                    item = marked
                deficit -= size
                room -= size
                take(item)
            flow.deficit = deficit
            if not entries and deficit > 0 and room > 0:
                turns.popleft()
                if turns is new and old:
                    flow.in_time()
                    old.append(flow)
                else:
                    self._retire(flow)
        self._frames -= len(pulled)
        self.backlog_bytes -= limit_bytes - room
        if not self._frames:
            self._forget_turns()
        return pulled

    def discard(self, reason: DropReason) -> int:
        """Drop all that is queued, counted under `reason`; how many frames that were."""
        dropped = self._frames
        self.drops[reason] += dropped
        self._frames = self.backlog_bytes = 0
        for flow in self._flows.values():
            flow.entries.clear()
            flow.backlog = 0
        self._forget_turns()
        return dropped

    # --- flows ------------------------------------------------------------------------------------

    def _admit(self, key: bytes) -> _Flow[ItemT]:
        """Find the queue of a flow that has none of its own: a new one, or a shared one."""
        flows = self._flows
        name: bytes | int = key
        if self._shared or len(flows) >= FLOWS:
            number = hash(key) % FLOWS
            # Before a new queue of its own: frames of this flow may still be in the shared one.
            shared = flows.get(number)
            if shared is not None:
                return shared
            if len(flows) - self._shared >= FLOWS:
                name = number
                self._shared += 1
        flow = self._idle.pop(name, None)
        if flow is None:
            flow = _Flow(name)
        flow.deficit = self._quantum
        flows[name] = flow
        self._new.append(flow)
        return flow

    def _retire(self, flow: _Flow[ItemT]) -> None:
        """Forget a flow that was found empty and has been taken from its list."""
        key = flow.key
        del self._flows[key]
        if isinstance(key, int):
            self._shared -= 1
        elif flow.count:
            flow.in_time()
            self._idle[key] = flow
            if len(self._idle) > FLOWS:
                self._idle.popitem(last=False)

    def _forget_turns(self) -> None:
        """Nothing is queued any more: nobody owes anything, and whoever comes is new."""
        for turns in self._new, self._old:
            while turns:
                self._retire(turns.popleft())

    def _skip_rounds(self) -> None:
        """Give at once what all would get in the next rounds in which still none of them may send.

        Without it a super-frame would have everybody pass by once for each quantum in it.
        """
        rounds = min(-flow.deficit for flow in self._old) // self._quantum
        if rounds > 0:
            for flow in self._old:
                flow.deficit += rounds * self._quantum

    # --- bounds -----------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Drop from the head of the fattest flow, and so on, until there is room again."""
        frames, size = self._limit_frames, self._limit_bytes
        if self._frames > frames:
            frames -= frames // ROOM
        if self.backlog_bytes > size:
            size -= size // ROOM
        flows = self._flows.values()
        fattest = [(-flow.backlog, n, flow) for n, flow in enumerate(flows) if flow.entries]
        heapify(fattest)
        while self._frames > frames or self.backlog_bytes > size:
            _, n, flow = fattest[0]
            _, length, _ = flow.entries.popleft()
            flow.backlog -= length
            # As Linux does it: who has to be stopped here needs a stronger signal.
            flow.count += 1
            self._count_drop(DropReason.QUEUE_FULL, length)
            if flow.entries:
                heapreplace(fattest, (-flow.backlog, n, flow))
            else:
                heappop(fattest)

    def _count_drop(self, reason: DropReason, size: int) -> None:
        self.drops[reason] += 1
        self._frames -= 1
        self.backlog_bytes -= size


def _mark(item: ItemT) -> ItemT | None:
    """Mark what an item holds, as `mark_ce` does."""
    if isinstance(item, (bytes, memoryview)):
        return cast("ItemT | None", mark_ce(item))
    frame = item.frame
    marked = mark_ce(frame)
    if marked is None or marked is frame:
        return item if marked is frame else None
    return item.with_frame(bytes(marked))
