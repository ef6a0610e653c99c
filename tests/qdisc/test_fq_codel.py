"""The flow queue: turns, CoDel, marks, bounds, and a slow path in virtual time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.bottleneck import CE, ECT0, Bottleneck, Responsive, Steady, datagram, read
from tests.support.packets import ones_sum, tag
from vknet.counters import DropReason
from vknet.packet.ethernet import FULL_FRAME
from vknet.qdisc.fq_codel import FLOWS_MAX, FlowQueue

EVERYTHING = 1 << 40
SUPER = 65000


def frames_of(
    flow: int, count: int, size: int = FULL_FRAME, *, start: int = 0, ecn: int = 0
) -> list[bytes]:
    return [datagram(flow, number, size, ecn=ecn) for number in range(start, start + count)]


def flows_in(frames: list[bytes]) -> list[int]:
    return [read(frame)[0] for frame in frames]


def numbers_in(frames: list[bytes]) -> list[int]:
    return [read(frame)[1] for frame in frames]


@dataclass(frozen=True)
class Parcel:
    """A frame behind a header of ten bytes, as an endpoint with offloads reads it."""

    data: bytes

    @property
    def frame(self) -> memoryview:
        return memoryview(self.data)[10:]

    def with_frame(self, frame: bytes) -> Parcel:
        return Parcel(self.data[:10] + frame)

    def __len__(self) -> int:
        return len(self.data)


# --- push, pull and discard -----------------------------------------------------------------------


def test_empty_queue_returns_nothing() -> None:
    queue = FlowQueue[bytes]()
    assert queue.pull(0.0, EVERYTHING) == []
    queue.push([], 0.0)
    assert not queue
    assert queue.backlog_bytes == queue.flows == 0


def test_frames_of_a_flow_leave_in_order() -> None:
    queue = FlowQueue[bytes]()
    frames = frames_of(1, 10)
    queue.push(frames[:4], 0.0)
    queue.push(frames[4:], 0.001)
    assert (len(queue), queue.backlog_bytes) == (10, 10 * FULL_FRAME)
    assert queue.pull(0.002, EVERYTHING) == frames
    assert (len(queue), queue.backlog_bytes, queue.drops.total()) == (0, 0, 0)


def test_only_the_last_pulled_frame_exceeds_the_limit() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 10), 0.0)
    assert queue.pull(0.0, 0) == []
    assert queue.pull(0.0, -5) == []
    assert len(queue.pull(0.0, 1)) == 1
    assert len(queue.pull(0.0, FULL_FRAME)) == 1
    assert len(queue.pull(0.0, 2 * FULL_FRAME + 1)) == 3
    assert (len(queue), queue.backlog_bytes) == (5, 5 * FULL_FRAME)


def test_view_is_copied_so_that_a_small_frame_keeps_no_large_buffer() -> None:
    queue = FlowQueue[bytes | memoryview]()
    buffer = bytearray(datagram(1, 0, 100) + datagram(1, 1, 100))
    with memoryview(buffer) as view:
        queue.push([view[:100], view[100:]], 0.0)
    buffer.clear()
    frames = queue.pull(0.0, EVERYTHING)
    assert all(isinstance(frame, bytes) for frame in frames)
    assert frames == [datagram(1, 0, 100), datagram(1, 1, 100)]


def test_wrapped_frame_queues_by_its_frame_and_leaves_unchanged() -> None:
    queue = FlowQueue[bytes | Parcel]()
    parcels = [Parcel(bytes(10) + frame) for frame in frames_of(1, 3, SUPER)]
    queue.push(parcels, 0.0)
    queue.push([datagram(2)], 0.0)
    queue.push(frames_of(1, 1), 0.0)
    assert queue.backlog_bytes == 3 * (SUPER + 10) + 64 + FULL_FRAME
    out = queue.pull(0.0, EVERYTHING)
    assert out == [parcels[0], datagram(2), *parcels[1:], *frames_of(1, 1)]
    assert out[0] is parcels[0]


def test_empty_and_short_frames_queue_like_others() -> None:
    queue = FlowQueue[bytes](limit_frames=3)
    queue.push([b"", b"\0", b""], 0.0)
    assert queue.pull(0.0, 1) == [b"", b"\0"]
    queue.push([b""] * 5, 0.0)
    assert (len(queue), queue.drops.total()) == (3, 3)
    assert queue.pull(0.0, 1) == [b"", b"", b""]


def test_discarded_frames_are_counted_and_leave_no_state() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 5) + frames_of(2, 5), 0.0)
    queue.pull(0.0, 1)
    assert queue.discard(DropReason.LINK_ENDED) == 9
    assert (len(queue), queue.backlog_bytes, queue.flows) == (0, 0, 0)
    assert queue.drops == {"link-ended": 9}
    queue.push(frames_of(1, 1), 1.0)
    assert queue.pull(1.0, EVERYTHING) == frames_of(1, 1)


# --- turns ----------------------------------------------------------------------------------------


def test_ping_overtakes_a_download() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 100), 0.0)
    queue.pull(0.0, 2 * FULL_FRAME)
    queue.push([datagram(2)], 0.0)
    assert flows_in(queue.pull(0.0, 2 * FULL_FRAME))[0] == 2


def test_flows_of_large_and_small_frames_share_by_bytes() -> None:
    queue = FlowQueue[bytes](limit_bytes=EVERYTHING)
    queue.push(
        frames_of(1, 5000, 100) + frames_of(2, 400, FULL_FRAME) + frames_of(3, 10, SUPER), 0.0
    )
    out = queue.pull(0.0, 6 * SUPER)
    shares = [sum(len(frame) for frame in out if read(frame)[0] == flow) for flow in (1, 2, 3)]
    assert max(shares) - min(shares) <= SUPER + 2 * FULL_FRAME


def test_flow_pays_for_a_super_frame_before_its_next_frame() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 3, SUPER) + frames_of(2, 200), 0.0)
    out = flows_in(queue.pull(0.0, EVERYTHING))
    assert out[0] == 1
    assert SUPER - FULL_FRAME <= out[1:].index(1) * FULL_FRAME <= SUPER + 2 * FULL_FRAME


def test_flows_of_single_frames_do_not_stay_new() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 100), 0.0)
    queue.pull(0.0, 2 * FULL_FRAME)
    served = []
    for number in range(600):
        # Two flows are new in turn: each is found empty when the other has a frame.
        queue.push([datagram(2 + number % 2, number)], 0.0)
        served += flows_in(queue.pull(0.0, 1))
    # Flows share by bytes.
    assert served.count(1) * FULL_FRAME > 0.9 * 64 * (served.count(2) + served.count(3)) / 2


def test_deficit_lapses_when_the_queue_is_empty() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 1, SUPER), 0.0)
    queue.pull(0.0, EVERYTHING)
    queue.push(frames_of(1, 1) + frames_of(2, 1), 0.0)
    assert flows_in(queue.pull(0.0, EVERYTHING)) == [1, 2]


# --- delay ----------------------------------------------------------------------------------------


def millisecond_queue() -> FlowQueue[bytes]:
    """Return a queue whose clock counts milliseconds, so that all sums are exact."""
    return FlowQueue[bytes](target=5.0, interval=100.0)


def serve(queue: FlowQueue[bytes], begin: int, end: int) -> list[bytes]:
    """Pull a frame at each whole millisecond of a range."""
    return [frame for ms in range(begin, end) for frame in queue.pull(float(ms), 1)]


def test_burst_passes_without_a_drop() -> None:
    queue = millisecond_queue()
    queue.push(frames_of(1, 100), 0.0)
    assert serve(queue, 0, 100) == frames_of(1, 100)
    assert queue.drops.total() == 0


def test_standing_queue_loses_frames_from_its_head() -> None:
    queue = millisecond_queue()
    queue.push(frames_of(1, 1000), 0.0)
    left = numbers_in(serve(queue, 0, 300))
    # Above the target from 5 ms on, so bad at 105 ms; then the intervals are 100, 71 and 58 ms.
    lost = sorted(set(range(left[-1])) - set(left))
    assert lost == [105, 206, 278]
    assert queue.drops == {DropReason.QUEUE_DELAY: 3}


def test_one_frame_behind_another_is_no_queue_at_any_sojourn_time() -> None:
    queue = FlowQueue[bytes]()
    for second in range(10):
        queue.push(frames_of(1, 2, start=2 * second), float(second))
        assert len(queue.pull(second + 0.9, 1)) == len(queue.pull(second + 0.95, 1)) == 1
    assert queue.drops.total() == 0


def test_one_super_frame_behind_another_is_a_queue() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 20, SUPER), 0.0)
    for ms in range(100, 1000, 50):
        queue.pull(ms / 1000, 1)
    assert queue.drops[DropReason.QUEUE_DELAY] > 3


def test_waiting_for_other_flows_turns_drops_no_frame() -> None:
    queue = millisecond_queue()
    # Forty flows with two frames each, at a frame per millisecond: each frame waits for 80 ms.
    for number in range(2, 22):
        for flow in range(40):
            queue.push(frames_of(flow, 1, start=number), 40.0 * number)
        if number > 2:
            serve(queue, 40 * number, 40 * number + 40)
    assert len(queue) == 40
    assert queue.drops.total() == 0


def test_flow_that_returns_soon_is_signalled_at_its_last_rate() -> None:
    def drops_of_a_second_rush(pause: int) -> int:
        queue = millisecond_queue()
        queue.push(frames_of(1, 1000), 0.0)
        serve(queue, 0, 600)
        queue.pull(600.0, EVERYTHING)
        assert not queue
        before = queue.drops.total()
        queue.push(frames_of(1, 1000), 600.0 + pause)
        serve(queue, 600 + pause, 900 + pause)
        return queue.drops.total() - before

    assert drops_of_a_second_rush(1000) > 2 * drops_of_a_second_rush(5000) > 0


def test_discarded_queue_starts_with_fresh_codel_state() -> None:
    queue = millisecond_queue()
    queue.push(frames_of(1, 1000), 0.0)
    serve(queue, 0, 205)
    assert queue.discard(DropReason.LINK_ENDED) == 794
    queue.push(frames_of(1, 200, start=1000), 300.0)
    assert numbers_in(serve(queue, 300, 400)) == list(range(1000, 1100))


def test_flow_that_lost_all_frames_is_not_above_target_when_it_returns() -> None:
    queue = FlowQueue[bytes](target=5.0, interval=100.0, floor=0, limit_frames=40)
    queue.push(frames_of(1, 2) + frames_of(1, 1, 70, start=2), 0.0)
    queue.pull(0.0, 2 * FULL_FRAME)
    queue.push(frames_of(2, 20, 100), 0.0)
    assert flows_in(queue.pull(10.0, 1)) == [2]
    # Flow 2 is above the target from here on.  It is the fattest and loses all its frames.
    queue.push(frames_of_other_flows(40), 10.0)
    assert queue.drops == {DropReason.QUEUE_FULL: 20}
    queue.pull(20.0, 5 * 64)
    queue.push(frames_of(2, 3, 100, start=20), 20.0)
    assert queue.pull(130.0, EVERYTHING)[-3:] == frames_of(2, 3, 100, start=20)


# --- marks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", [b"", tag(5)], ids=["untagged", "tagged"])
def test_ecn_capable_flow_is_marked_and_loses_nothing(version: int, tags: bytes) -> None:
    queue = millisecond_queue()
    frames = [datagram(1, n, FULL_FRAME, ecn=ECT0, tags=tags, version=version) for n in range(400)]
    marked = datagram(1, 105, FULL_FRAME, ecn=CE, tags=tags, version=version)
    queue.push(frames, 0.0)
    left = serve(queue, 0, 300)
    assert len(left) == 300
    assert [n for n in range(300) if left[n] != frames[n]] == [105, 205, 276]
    assert left[105] == marked
    assert (queue.ecn_marks, queue.drops.total()) == (3, 0)
    if version == 4:
        start = 14 + len(tags)
        assert all(ones_sum(frame[start : start + 20]) == 0xFFFF for frame in left)


def test_wrapped_frame_is_marked_in_its_wrapper() -> None:
    queue = FlowQueue[Parcel](target=5.0, interval=100.0)
    queue.push([Parcel(b"ten bytes." + frame) for frame in frames_of(1, 300, ecn=ECT0)], 0.0)
    left = [parcel for ms in range(200) for parcel in queue.pull(float(ms), 1)]
    assert left[105] == Parcel(b"ten bytes." + datagram(1, 105, FULL_FRAME, ecn=CE))
    assert (len(left), queue.ecn_marks, queue.drops.total()) == (200, 1, 0)


@pytest.mark.parametrize("ecn", [0, CE])
def test_wrapped_frame_that_is_not_newly_marked_is_not_copied(ecn: int) -> None:
    queue = FlowQueue[Parcel](target=5.0, interval=100.0)
    parcels = [Parcel(bytes(10) + frame) for frame in frames_of(1, 300, ecn=ecn)]
    queue.push(parcels, 0.0)
    left = [parcel for ms in range(200) for parcel in queue.pull(float(ms), 1)]
    assert all(any(parcel is other for other in parcels) for parcel in left)
    assert (queue.ecn_marks, queue.drops.total()) == ((1, 0) if ecn else (0, 1))


# --- bounds ---------------------------------------------------------------------------------------


def test_full_queue_drops_from_the_head_of_the_fattest_flow() -> None:
    queue = FlowQueue[bytes](limit_frames=64)
    queue.push(frames_of(1, 10, 100) + frames_of(2, 40) + frames_of(3, 14), 0.0)
    queue.push(frames_of(1, 10, 100, start=10), 0.0)
    # 74 frames, less a bound of 64, and a 64th part of the bound.
    assert queue.drops == {DropReason.QUEUE_FULL: 11}
    left = queue.pull(0.0, EVERYTHING)
    assert [flows_in(left).count(flow) for flow in (1, 2, 3)] == [20, 29, 14]
    assert numbers_in([f for f in left if read(f)[0] == 2]) == list(range(11, 40))


def test_frames_and_bytes_are_both_bounded() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 12_000, 64), 0.0)
    assert 10_000 < len(queue) <= 10_240
    queue = FlowQueue[bytes]()
    queue.push(frames_of(1, 100, SUPER), 0.0)
    assert 4_000_000 < queue.backlog_bytes <= 4 * 1024 * 1024


def frames_of_other_flows(count: int, size: int = 64, *, start: int = 0) -> list[bytes]:
    """Return one frame each of a number of flows, other than the flows of `datagram`."""
    other = datagram(0, 0, size)
    return [other[:26] + n.to_bytes(4, "big") + other[30:] for n in range(start, start + count)]


def test_flood_of_flows_is_bounded_and_shared_queues_keep_order() -> None:
    queue = FlowQueue[bytes](limit_frames=1 << 20)
    for _ in range(2):
        waves = 8
        for wave in range(waves):
            queue.push(
                [frame[:-1] + bytes([wave]) for frame in frames_of_other_flows(5 * FLOWS_MAX)], 0.0
            )
            # How many flows share a queue depends on this run's hash seed; many do in any run.
            assert FLOWS_MAX // 2 < queue.flows <= 2 * FLOWS_MAX
            queue.pull(0.0, 64 * FLOWS_MAX)
        left = queue.pull(0.0, EVERYTHING)
        assert len(left) == 4 * waves * FLOWS_MAX
        last: dict[bytes, int] = {}
        for frame in left:
            assert last.get(frame[26:30], -1) < frame[-1]
            last[frame[26:30]] = frame[-1]
        assert queue.flows == 0


def test_flow_stays_in_a_shared_queue_until_that_is_empty() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of_other_flows(FLOWS_MAX), 0.0)
    queue.push(frames_of(1, 20), 0.0)
    queue.pull(0.0, FLOWS_MAX * 64 + 1)
    # The other flows have left; this flow still has frames in its shared queue.
    assert (len(queue), queue.flows) == (19, 1)
    queue.push(frames_of(1, 1, start=20), 0.0)
    assert numbers_in(queue.pull(0.0, EVERYTHING)) == list(range(1, 21))


def test_flood_of_flows_does_not_starve_an_old_flow() -> None:
    queue = FlowQueue[bytes]()
    queue.push(frames_of(7, 100), 0.0)
    queue.pull(0.0, 2 * FULL_FRAME)
    served = 0
    for turn in range(100):
        queue.push(frames_of_other_flows(256, FULL_FRAME, start=256 * turn), 0.0)
        out = queue.pull(0.0, 256 * FULL_FRAME)
        served += sum(frame[26:30] == datagram(7)[26:30] for frame in out)
    # The others have twice FLOWS_MAX queues; once each was new, all flows take turns.
    assert served >= 100 * 256 // (2 * FLOWS_MAX) - 2


def test_state_of_idle_flows_is_bounded() -> None:
    queue = FlowQueue[bytes](limit_frames=1)
    for n in range(3 * FLOWS_MAX):
        queue.push(frames_of_other_flows(1, start=n) * 2, 0.0)
        queue.pull(0.0, EVERYTHING)
    assert queue.drops == {DropReason.QUEUE_FULL: 3 * FLOWS_MAX}
    assert queue.flows == FLOWS_MAX


# --- a slow path ----------------------------------------------------------------------------------


def test_eight_downloads_share_a_slow_path_and_do_not_delay_a_ping() -> None:
    bottleneck = Bottleneck(FlowQueue[bytes](), 1_250_000)
    for flow in range(8):
        Responsive(bottleneck, flow, 0.03)
    Steady(bottleneck, 99, 0.1, 98)
    bottleneck.run_until(10)
    shares = [bottleneck.arrived[flow] for flow in range(8)]
    assert sum(shares) ** 2 / 8 / sum(share**2 for share in shares) > 0.99
    assert sum(shares) > 0.95 * 10 * bottleneck.rate
    pings = bottleneck.delays_after(99, 1.0)
    assert pings[len(pings) * 95 // 100] < 0.005


def test_flood_at_twice_the_rate_harms_only_itself() -> None:
    queue = FlowQueue[bytes]()
    bottleneck = Bottleneck(queue, 1_250_000)
    Steady(bottleneck, 1, FULL_FRAME / bottleneck.rate / 2, FULL_FRAME)
    sender = Responsive(bottleneck, 2, 0.03)
    Steady(bottleneck, 99, 0.1, 98)
    bottleneck.run_until(10)
    assert bottleneck.delays_after(99, 1.0)[-1] < 0.005
    assert bottleneck.arrived[2] > 0.35 * 10 * bottleneck.rate
    assert sender.losses < 100 < queue.drops.total()
    assert bottleneck.arrived[1] + bottleneck.arrived[2] > 0.95 * 10 * bottleneck.rate
