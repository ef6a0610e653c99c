"""The flow queue against a model written after the RFCs, and its invariants."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Final

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from tests.support.altered_frames import changed
from tests.support.bottleneck import CE, NOT_CAPABLE, Bottleneck, Responsive, Steady, datagram, read
from tests.support.packets import tag
from vknet.counters import DropReason
from vknet.packet.ecn import mark_ce
from vknet.packet.ethernet import FULL_FRAME
from vknet.packet.flow import flow_of
from vknet.qdisc.fq_codel import FlowQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET: Final = 0.005
INTERVAL: Final = 0.1
EVERYTHING: Final = 1 << 40

many_examples = settings(deadline=None, max_examples=400)
few_examples = settings(deadline=None, max_examples=12)


# --- the model ------------------------------------------------------------------------------------


@dataclass
class ModelFlow:
    """A queue of the model; its variables are those of RFC 8289, section 5."""

    name: int
    queue: list[tuple[bytes, float]] = field(default_factory=list)
    deficit: int = 0
    count: int = 0
    lastcount: int = 0
    dropping: bool = False
    first_above: float | None = None
    drop_next: float = float("-inf")

    @property
    def bytes(self) -> int:
        return sum(len(frame) for frame, _ in self.queue)


class Model:
    """RFC 8290, section 4, with the CoDel of RFC 8289, section 5; simple, and not fast."""

    def __init__(self, limit_frames: int, limit_bytes: int) -> None:
        self.limits = limit_frames, limit_bytes
        self.known: dict[int, ModelFlow] = {}
        self.active: list[ModelFlow] = []
        self.new: list[ModelFlow] = []
        self.old: list[ModelFlow] = []
        self.drops: Counter[DropReason] = Counter()
        self.ecn_marks = 0

    def held(self) -> tuple[int, int]:
        return sum(len(flow.queue) for flow in self.active), sum(f.bytes for f in self.active)

    def push(self, frames: Sequence[bytes], now: float) -> None:
        for frame in frames:
            name = read(frame)[0]
            flow = self.known.setdefault(name, ModelFlow(name))
            if flow not in self.active:
                flow.deficit = FULL_FRAME
                self.active.append(flow)
                self.new.append(flow)
            flow.queue.append((frame, now))
        goals = [
            limit - limit // 64 if held > limit else limit
            for held, limit in zip(self.held(), self.limits, strict=True)
        ]
        while any(held > goal for held, goal in zip(self.held(), goals, strict=True)):
            fattest = max(self.active, key=lambda flow: flow.bytes)
            fattest.queue.pop(0)
            fattest.count += 1
            self.drops[DropReason.QUEUE_FULL] += 1

    def pull(self, now: float, limit: int) -> list[bytes]:
        pulled: list[bytes] = []
        while sum(map(len, pulled)) < limit:
            frame = self.dequeue(now)
            if frame is None:
                break
            pulled.append(frame)
        if not self.held()[0]:
            for flow in self.active:
                flow.first_above, flow.dropping = None, False
            self.active, self.new, self.old = [], [], []
        return pulled

    def dequeue(self, now: float) -> bytes | None:
        while self.new or self.old:
            turns = self.new or self.old
            flow = turns[0]
            if flow.deficit <= 0:
                flow.deficit += FULL_FRAME
                self.old.append(turns.pop(0))
                continue
            frame = self.codel_dequeue(flow, now)
            if frame is None:
                turns.pop(0)
                if turns is self.new and self.old:
                    self.old.append(flow)
                else:
                    self.active.remove(flow)
                continue
            flow.deficit -= len(frame)
            return frame
        return None

    def codel_dodequeue(self, flow: ModelFlow, now: float) -> tuple[bytes | None, bool]:
        if not flow.queue:
            flow.first_above = None
            return None, False
        frame, since = flow.queue.pop(0)
        if now - since < TARGET or flow.bytes <= FULL_FRAME:
            flow.first_above = None
        elif flow.first_above is None:
            flow.first_above = now + INTERVAL
        elif now >= flow.first_above:
            return frame, True
        return frame, False

    def codel_dequeue(self, flow: ModelFlow, now: float) -> bytes | None:
        frame, ok_to_drop = self.codel_dodequeue(flow, now)
        if frame is None:
            flow.dropping = False
        elif flow.dropping:
            flow.dropping = ok_to_drop
            while flow.dropping and now >= flow.drop_next and frame is not None:
                flow.count += 1
                flow.drop_next += INTERVAL / sqrt(flow.count)
                if self.mark(frame):
                    break
                self.drops[DropReason.QUEUE_DELAY] += 1
                frame, flow.dropping = self.codel_dodequeue(flow, now)
        elif ok_to_drop:
            if not self.mark(frame):
                self.drops[DropReason.QUEUE_DELAY] += 1
                frame, _ = self.codel_dodequeue(flow, now)
            flow.dropping = True
            delta = flow.count - flow.lastcount
            recent = now - flow.drop_next < 16 * INTERVAL
            flow.count = delta if delta > 1 and recent else 1
            flow.lastcount = flow.count
            flow.drop_next = now + INTERVAL / sqrt(flow.count)
        return frame

    def mark(self, frame: bytes) -> bool:
        capable = frame[15] & CE != NOT_CAPABLE
        self.ecn_marks += capable
        return capable


# --- scenarios ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Push:
    """Push a number of equal frames of a flow at once."""

    flow: int
    size: int
    ecn: int
    frames: int


@dataclass(frozen=True)
class Serve:
    """Wait for a time and pull up to a limit of bytes, several times."""

    wait: float
    limit: int
    times: int


sizes = st.sampled_from([70, 70, 600, FULL_FRAME, FULL_FRAME, 9000, 30000])
pushes = st.builds(
    Push, st.integers(0, 3), sizes, st.sampled_from([0, 0, 1, 2, 3]), st.integers(1, 40)
)
waits = st.sampled_from([0.0, 0.001, 0.004, 0.02, 0.06, 0.5, 2.0])
serves = st.builds(Serve, waits, st.sampled_from([1, 1, 100, 3000, 20000]), st.integers(1, 12))
scenarios = st.lists(pushes | serves, min_size=5, max_size=60)
limits = st.sampled_from([(10240, 4 << 20), (200, 4 << 20), (10240, 60000), (7, 9000)])


@settings(deadline=None, max_examples=600)
@given(scenarios, limits)
def test_flow_queue_matches_the_model(scenario: list[Push | Serve], limit: tuple[int, int]) -> None:
    queue = FlowQueue[bytes](limit_frames=limit[0], limit_bytes=limit[1])
    model = Model(*limit)
    now = 0.0
    pushed = pulled = 0
    for step in scenario:
        if isinstance(step, Push):
            numbers = range(pushed, pushed + step.frames)
            frames = [datagram(step.flow, n, step.size, ecn=step.ecn) for n in numbers]
            pushed += step.frames
            queue.push(frames, now)
            model.push(frames, now)
        else:
            for _ in range(step.times):
                now += step.wait
                got = [read(frame)[:2] for frame in queue.pull(now, step.limit)]
                assert got == [read(frame)[:2] for frame in model.pull(now, step.limit)]
                pulled += len(got)
        assert (len(queue), queue.backlog_bytes) == model.held()
        assert (queue.drops, queue.ecn_marks) == (model.drops, model.ecn_marks)
        assert len(queue) <= limit[0]
        assert queue.backlog_bytes <= limit[1]
        assert pulled + len(queue) + queue.drops.total() == pushed
    event(f"marked: {queue.ecn_marks > 0}")
    event(f"dropped for delay: {min(queue.drops[DropReason.QUEUE_DELAY], 5)}")
    event(f"dropped for room: {queue.drops[DropReason.QUEUE_FULL] > 0}")


# --- invariants -----------------------------------------------------------------------------------


@many_examples
@given(scenarios)
def test_frames_of_a_flow_keep_their_order(scenario: list[Push | Serve]) -> None:
    queue = FlowQueue[bytes]()
    now = 0.0
    pushed = 0
    last: dict[int, int] = {}
    for step in [*scenario, Serve(1.0, EVERYTHING, 1)]:
        if isinstance(step, Push):
            numbers = range(pushed, pushed + step.frames)
            queue.push([datagram(step.flow, n, step.size, ecn=step.ecn) for n in numbers], now)
            pushed += step.frames
            continue
        for _ in range(step.times):
            now += step.wait
            for frame in queue.pull(now, step.limit):
                flow, number, _ = read(frame)
                assert number > last.get(flow, -1)
                last[flow] = number
    assert len(queue) == queue.backlog_bytes == 0


@many_examples
@given(
    fat=st.lists(st.tuples(sizes, st.integers(30, 90)), min_size=1, max_size=6),
    before=st.integers(0, 60),
    size=st.integers(70, FULL_FRAME),
)
def test_sparse_frame_leaves_before_the_next_quantum_of_fat_flows(
    fat: list[tuple[int, int]], before: int, size: int
) -> None:
    queue = FlowQueue[bytes]()
    for flow, (each, frames) in enumerate(fat):
        queue.push([datagram(flow, n, each) for n in range(frames)], 0.0)
    # Each flow uses up its first quantum, and so becomes an old flow.
    first = sum(max(FULL_FRAME, each) + each for each, _ in fat)
    queue.pull(0.0, first)
    for _ in range(before):
        queue.pull(0.0, 1)
    assume(len(queue))
    queue.push([datagram(99, 0, size)], 0.0)
    assert read(queue.pull(0.0, 1)[0])[0] == 99


@many_examples
@given(st.lists(sizes, min_size=2, max_size=8), st.integers(2, 30))
def test_busy_flows_share_by_bytes_at_any_frame_size(each: list[int], rounds: int) -> None:
    enough = 30 * FULL_FRAME + 60000
    queue = FlowQueue[bytes](limit_frames=1 << 20, limit_bytes=1 << 30)
    for flow, size in enumerate(each):
        queue.push([datagram(flow, n, size) for n in range(enough // size + 1)], 0.0)
    share = dict.fromkeys(range(len(each)), 0)
    for frame in queue.pull(0.0, rounds * FULL_FRAME * len(each)):
        share[read(frame)[0]] += len(frame)
    # Shreedhar and Varghese, lemma 2: two flows differ by at most a quantum and a frame of each.
    assert max(share.values()) - min(share.values()) <= FULL_FRAME + 2 * max(each)


@many_examples
@given(st.lists(st.tuples(st.integers(0, 7), sizes), min_size=1, max_size=300), st.integers(1, 60))
def test_flow_smaller_than_the_fattest_loses_nothing(
    arrivals: list[tuple[int, int]], limit: int
) -> None:
    queue = FlowQueue[bytes](limit_frames=limit)
    queue.push([datagram(flow, n, size) for n, (flow, size) in enumerate(arrivals)], 0.0)
    left = [read(frame)[:2] for frame in queue.pull(0.0, EVERYTHING)]
    assert len(left) == min(limit, len(arrivals))
    held = [sum(arrivals[n][1] for f, n in left if f == flow) for flow in range(8)]
    for flow in range(8):
        lost = [n for n, (f, _) in enumerate(arrivals) if f == flow and (f, n) not in left]
        if lost:
            # It was the fattest when it lost its last frame; the others held at least as much.
            assert held[flow] + arrivals[lost[-1]][1] >= max(held)


# --- marks ----------------------------------------------------------------------------------------

TAGS: Final = (b"", tag(5), tag(300, 0x88A8) + tag(5))


@many_examples
@given(
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.integers(0, 3),
    st.sampled_from(TAGS),
    st.sampled_from([4, 6]),
)
def test_mark_changes_the_codepoint_and_keeps_the_checksum_valid(
    flow: int, number: int, ecn: int, tags: bytes, version: int
) -> None:
    frame = datagram(flow, number, 200, ecn=ecn, tags=tags, version=version)
    marked = mark_ce(memoryview(frame))
    expected = datagram(flow, number, 200, ecn=CE, tags=tags, version=version)
    assert marked == (None if ecn == NOT_CAPABLE else expected)
    assert frame == datagram(flow, number, 200, ecn=ecn, tags=tags, version=version)


@settings(deadline=None, max_examples=1000)
@given(st.binary(max_size=120) | changed())
def test_any_bytes_have_a_flow_and_survive_marking(frame: bytes) -> None:
    flow = flow_of(frame)
    assert flow == flow_of(memoryview(frame))
    assert (flow == b"") == (len(frame) < 14)
    marked = mark_ce(frame)
    if marked is not None:
        assert len(marked) == len(frame)
        assert flow_of(marked) == flow
        assert mark_ce(marked) is marked


# --- responsive senders ---------------------------------------------------------------------------


@few_examples
@given(
    megabits=st.sampled_from([5, 10, 20]),
    round_trip=st.sampled_from([0.01, 0.03, 0.06]),
    ecn=st.booleans(),
)
def test_standing_queue_is_reduced_to_about_the_target(
    megabits: int, round_trip: float, ecn: bool
) -> None:
    queue = FlowQueue[bytes]()
    bottleneck = Bottleneck(queue, megabits * 125_000)
    sender = Responsive(bottleneck, 1, round_trip, ecn=2 if ecn else 0)
    bottleneck.run_until(12)
    delays = bottleneck.delays_after(1, 4)
    in_flight = FULL_FRAME / bottleneck.rate
    assert delays[len(delays) // 2] <= 2 * TARGET + 2 * in_flight
    assert delays[len(delays) * 99 // 100] <= INTERVAL
    assert bottleneck.arrived[1] >= 0.8 * 12 * bottleneck.rate
    if ecn:
        assert sender.losses == queue.drops.total() == 0
        assert sender.marked == queue.ecn_marks > 0
    else:
        assert sender.losses <= queue.drops.total() <= sender.losses + 1
        assert queue.ecn_marks == 0 < queue.drops[DropReason.QUEUE_DELAY] == queue.drops.total()


@few_examples
@given(
    size=st.sampled_from([700, FULL_FRAME, 6000]),
    ecn=st.lists(st.sampled_from([0, 2]), min_size=2, max_size=8),
)
def test_equal_flows_get_equal_shares_and_do_not_delay_a_ping(size: int, ecn: list[int]) -> None:
    queue = FlowQueue[bytes]()
    bottleneck = Bottleneck(queue, 1_250_000)
    for flow, kind in enumerate(ecn):
        Responsive(bottleneck, flow, 0.03, size, kind)
    Steady(bottleneck, 99, 0.05, 98)
    bottleneck.run_until(3)
    before = dict(bottleneck.arrived)
    bottleneck.run_until(9)
    shares = [bottleneck.arrived[flow] - before[flow] for flow in range(len(ecn))]
    assert sum(shares) ** 2 / len(shares) / sum(share**2 for share in shares) >= 0.95
    # The leaving frame, and one turn of another flow: more than one of them is rarely new.
    delays = bottleneck.delays_after(99, 3)
    assert delays[len(delays) * 95 // 100] <= (size + FULL_FRAME + size + 99) / bottleneck.rate
