"""The scheduler of a link: which frames pass, which are queued, and in which order they go."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.blocks import feed
from tests.support.bottleneck import CE, ECT0, datagram, read
from tests.support.superframes import Super
from tests.support.terms import TERMS
from vknet.counters import DropReason, TrafficCounters
from vknet.framing import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    Wire,
    encode_control,
)
from vknet.link.scheduler import GRANT_S, SUPER_BYTES, SUPER_TIME_S, Scheduler
from vknet.packet.ethernet import FULL_FRAME
from vknet.packet.gso import plain_frames
from vknet.packet.virtio import ALL_OFFLOADS, OffloadFrame
from vknet.qdisc.codel import TARGET_S
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from tests.support.blocks import Item
    from vknet.framing import Frame

SUPER = Super(bytes(60_000)).frame()
GREETING = encode_control(Hello("", "", FRAME_LIMIT_V2, None, mtu_fixed=False, timeout=1))

# A path of 1 MB/s and 100 ms.
RATE = 1e6
ROUND_TRIP = 0.1


class Link:
    """A scheduler, the blocks it has written, and a peer that sends ACKs."""

    def __init__(self, window: int | None = None) -> None:
        self.counted = TrafficCounters()
        self.scheduler = Scheduler(self.counted)
        self.scheduler.on_negotiated(replace(TERMS, window=window), 0.0)

    @property
    def drops(self) -> Counter[DropReason]:
        return +self.counted.drops

    def next_writes(
        self, *frames: bytes | OffloadFrame, now: float = 0.0
    ) -> list[bytes | OffloadFrame]:
        return sent(self.scheduler.next_writes(frames, now))

    def ack(self, now: float = 0.0) -> bool:
        """All that was sent has arrived; whether something may go now."""
        return self.scheduler.on_ack(self.counted.bytes, now)

    def drain(self, now: float) -> list[bytes | OffloadFrame]:
        """Acknowledge every write at once, until there is none left."""
        written = []
        while piece := self.next_writes(now=now):
            written += piece
            self.ack(now)
        return written


def sent(parts: Sequence[Frame]) -> list[bytes | OffloadFrame]:
    """Return the frames that were written."""
    blocks: list[Item] = []
    decoder = Decoder(Wire.V2, offloads=ALL_OFFLOADS)
    feed(decoder, GREETING + b"".join(parts), blocks)
    decoder.end()
    frames: list[bytes | OffloadFrame] = []
    for block in blocks[1:]:
        assert isinstance(block, (bytes, OffloadFrame))
        frames.append(block)
    return frames


def flood(flow: int, count: int, ecn: int = 0) -> list[bytes]:
    return [datagram(flow, number, FULL_FRAME, ecn=ecn) for number in range(count)]


def settled(seconds: float = 6.0, ecn: int = 0) -> Link:
    """A link that knows its path, by three times as much as that carries."""
    link = Link()
    step = 0.002
    carried = 0.0
    acks: deque[tuple[float, int]] = deque()
    for number in range(round(seconds / step)):
        now = number * step
        link.next_writes(*flood(1, round(3 * RATE * step / FULL_FRAME), ecn), now=now)
        carried = min(carried + RATE * step, link.counted.bytes)
        acks.append((now + ROUND_TRIP, int(carried)))
        while acks[0][0] <= now:
            link.scheduler.on_ack(acks.popleft()[1], now)
    return link


def test_scheduler_without_a_window_queues_nothing() -> None:
    link = Link(window=0)
    frames = flood(1, 5000)
    assert link.next_writes(*frames) == frames
    assert not link.ack()


def test_batch_passes_unchanged_while_the_window_has_room() -> None:
    link = Link(window=10_000)
    frames = [*flood(1, 3), datagram(2, 0, 60), *flood(1, 3)]
    assert link.next_writes(*frames) == frames
    assert (link.counted.frames, link.counted.bytes) == (7, 6 * FULL_FRAME + 60)


def test_frames_over_the_window_wait_for_an_ack() -> None:
    link = Link(window=3 * FULL_FRAME)
    frames = flood(1, 7)
    assert link.next_writes(*frames) == frames[:3]
    assert link.next_writes() == []
    assert link.ack()
    assert link.next_writes() == frames[3:6]
    assert link.ack()
    assert link.next_writes() == frames[6:]
    assert not link.ack()


def test_ping_passes_queued_frames() -> None:
    link = Link(window=3 * FULL_FRAME)
    link.next_writes(*flood(1, 30))
    ping = datagram(2, 0, 98)
    assert link.next_writes(ping) == []
    link.ack()
    assert link.next_writes()[0] == ping


def test_two_queued_flows_share_the_window() -> None:
    link = Link(window=10 * FULL_FRAME)
    link.next_writes(*flood(1, 50))
    link.next_writes(*flood(2, 50))
    link.ack()
    flows = [read(frame)[0] for frame in link.next_writes() if isinstance(frame, bytes)]
    assert len(flows) == 10
    assert abs(flows.count(1) - flows.count(2)) <= 2


def test_new_frame_does_not_overtake_its_own_flow() -> None:
    link = Link(window=3 * FULL_FRAME)
    frames = flood(1, 9)
    assert link.next_writes(*frames[:6]) == frames[:3]
    link.ack()
    assert link.next_writes(*frames[6:]) == frames[3:6]
    link.ack()
    assert link.next_writes() == frames[6:]


def test_single_frame_larger_than_the_window_is_sent() -> None:
    link = Link(window=100)
    first, second = flood(1, 2)
    assert link.next_writes(first, second) == [first]
    link.ack()
    assert link.next_writes() == [second]


def test_frames_sent_before_the_hello_are_in_flight() -> None:
    counted = TrafficCounters()
    scheduler = Scheduler(counted)
    frame = bytes(1000)
    assert sent(scheduler.next_writes([frame, bytes(FRAME_LIMIT_V1 + 1)], 0.0)) == [frame]
    scheduler.on_negotiated(replace(TERMS, window=1500), 1.0)
    assert scheduler.window is not None
    assert scheduler.window.bytes_in_flight == 1000
    assert not scheduler.on_ack(1000, 1.1)
    assert counted.drops == {DropReason.OVER_PEER_LIMIT: 1}


def test_ack_of_more_than_was_sent_is_an_error() -> None:
    link = Link()
    link.next_writes(bytes(100))
    with pytest.raises(ValueError, match=r"^acknowledged 101 bytes, where 100 were sent"):
        link.scheduler.on_ack(101, 0.1)


def test_ack_without_a_window_is_ignored() -> None:
    assert Link(window=0).scheduler.on_ack(2**64 - 1, 0.1) is False


@pytest.fixture
def fast() -> Link:
    """Return a link on a path that is known to be fast, with no bytes in flight, at 1 s."""
    link = Link()
    window = link.scheduler.window
    assert window is not None
    now = 1.0
    while window.rate < 100e6 or link.scheduler.is_queued:
        assert now < 2
        link.next_writes(*flood(1, 0 if link.scheduler.is_queued else 800), now=now)
        now += 0.0005
        link.ack(now)
    return link


def test_fast_path_grants_the_window_for_many_turns_at_once(fast: Link) -> None:
    window = fast.scheduler.window
    assert window is not None
    for next_writes in range(5):
        assert len(fast.next_writes(*flood(1, 10), now=3.0 + next_writes * GRANT_S / 5)) == 10
    assert window.bytes_in_flight == 10 * FULL_FRAME
    fast.next_writes(*flood(1, 10), now=3.0 + 1.01 * GRANT_S)
    assert window.bytes_in_flight == 60 * FULL_FRAME
    fast.next_writes(*flood(1, 10), now=3.0 + 1.02 * GRANT_S)
    assert window.bytes_in_flight == 60 * FULL_FRAME
    # The time is that of the first of them, and an ACK of all of them is one of what was sent.
    fast.ack(3.0 + 1.02 * GRANT_S + 0.0001)
    assert window.bytes_in_flight == 0
    assert window.min_rtt_s is not None
    assert window.min_rtt_s == pytest.approx(0.0001)


def test_grant_is_no_larger_than_the_room_in_the_window(fast: Link) -> None:
    window = fast.scheduler.window
    assert window is not None
    fast.next_writes(*flood(1, 1), now=3.0)
    room, gone = window.send_quota, 0
    while written := fast.next_writes(*flood(1, 100), now=3.0 + GRANT_S / 2):
        gone += sum(map(len, written))
    assert room <= gone < room + FULL_FRAME
    assert fast.scheduler.is_queued
    assert window.bytes_in_flight == gone + FULL_FRAME
    # The next ones do not pass those that wait.
    fast.ack(3.0 + GRANT_S)
    assert fast.next_writes(datagram(1, 1000, FULL_FRAME), now=3.0 + GRANT_S)[0] != datagram(
        1, 1000, FULL_FRAME
    )


def test_sender_that_runs_out_within_a_grant_is_not_limited_by_the_window(fast: Link) -> None:
    window = fast.scheduler.window
    assert window is not None
    rate = window.rate
    for round_trip in range(40):
        now = 3.0 + round_trip * 5 * GRANT_S
        # The second turn is within the grant of the first, and so is the look that finds nothing.
        assert fast.next_writes(*flood(1, 1), now=now)
        assert fast.next_writes(*flood(1, 1), now=now + GRANT_S / 4)
        assert fast.next_writes(now=now + GRANT_S / 2) == []
        fast.ack(now + 2 * GRANT_S)
    # As little as that says nothing about the path.
    assert window.rate == rate


def test_super_frame_within_the_window_is_sent_whole() -> None:
    assert Link(window=100_000).next_writes(SUPER) == [SUPER]


def test_super_frame_queued_on_a_slow_path_is_segmented() -> None:
    link = Link()
    drops: Counter[DropReason] = link.drops
    segments = [bytes(frame) for frame in plain_frames([SUPER], drops)]
    written = link.next_writes(SUPER)
    assert 1 < len(written) < len(segments)
    link.ack(0.1)
    written += link.drain(0.2)
    assert written == segments


def test_super_frame_queued_on_a_fast_path_stays_whole() -> None:
    link = Link()
    window = link.scheduler.window
    assert window is not None
    # Fast enough for a super-frame to take less than the time that it may.
    now = 0.0
    while window.rate * SUPER_TIME_S < SUPER_BYTES:
        assert now < 1
        link.next_writes(*flood(1, 200), now=now)
        now += 0.001
        link.ack(now)
    while link.next_writes(*flood(1, 100), now=now):
        pass
    assert link.next_writes(SUPER, now=now) == []
    link.ack(now + 0.001)
    assert SUPER in link.drain(now + 0.002)


def test_super_frame_with_an_invalid_header_is_dropped_and_counted() -> None:
    link = Link(window=FULL_FRAME)
    link.next_writes(*flood(1, 2))
    lying = Super(bytes(4000)).but(csum_start=60_000).frame()
    assert link.next_writes(lying) == []
    assert link.drops == {DropReason.BAD_OFFLOAD_HEADER: 1}


def test_partial_checksum_stays_partial_in_the_queue() -> None:
    link = Link(window=FULL_FRAME)
    link.next_writes(*flood(1, 2))
    unfinished = Super(bytes(500), size=0).frame()
    assert link.next_writes(unfinished) == []
    link.ack()
    assert unfinished in link.drain(0.0)


def test_long_queue_of_ecn_frames_is_marked_and_counted() -> None:
    link = settled(ecn=ECT0)
    assert link.counted.ecn_marks > 0
    assert DropReason.QUEUE_DELAY not in link.drops
    written = []
    for number in range(200):
        now = 10 + number * ROUND_TRIP
        written += link.next_writes(now=now)
        link.ack(now + ROUND_TRIP)
    assert any(isinstance(frame, bytes) and frame[15] & 3 == CE for frame in written)


def test_long_queue_without_ecn_is_dropped_from_and_counted() -> None:
    link = settled()
    assert link.drops[DropReason.QUEUE_DELAY] > 0
    assert link.drops.keys() <= {DropReason.QUEUE_DELAY, DropReason.QUEUE_FULL}


def test_nothing_is_dropped_in_startup() -> None:
    link = Link()
    # A slow start: twice as much each round trip, and never more than has been acknowledged.
    count, now = 10, 0.0
    while count < 2000:
        written = link.next_writes(*flood(1, count), now=now)
        while written:
            now += 1e-5
            link.ack(now + ROUND_TRIP)
            written = link.next_writes(now=now + ROUND_TRIP)
        now += ROUND_TRIP
        count *= 2
    assert not link.drops


@pytest.mark.parametrize(
    ("round_trip", "target"), [(0.001, TARGET_S), (0.03, TARGET_S), (0.2, 0.02)]
)
def test_queue_may_be_longer_on_a_longer_path(round_trip: float, target: float) -> None:
    link = settled()
    window = link.scheduler.window
    assert window is not None
    window._min_rtt.min_rtt_s = round_trip
    link.next_writes(*flood(1, 500), now=10.0)
    assert link.scheduler._queue.target == pytest.approx(target)


def test_window_on_a_slow_path_is_sent_piece_by_piece() -> None:
    link = settled()
    window = link.scheduler.window
    assert window is not None
    now = 10.0
    while now < 1000.0:
        # What still waits goes.
        link.next_writes(now=now)
        link.ack(now + ROUND_TRIP)
        now += 2 * ROUND_TRIP
    now = 1000.0
    first = link.next_writes(*flood(3, 40), now=now)
    assert 1 <= len(first) <= 4
    at, written = link.scheduler.next_at, len(first)
    assert now < at < now + 0.01
    assert link.next_writes(now=(now + at) / 2) == []
    while written < 40:
        assert link.scheduler.next_at > now
        now = link.scheduler.next_at
        written += len(link.next_writes(now=now))
    # Sooner than the path would have carried them, or it would be the limit.
    assert 40 * FULL_FRAME / (2 * RATE) < now - 1000.0 < 40 * FULL_FRAME / RATE
    assert link.scheduler.next_at == math.inf


def test_frames_queued_when_the_link_ends_are_counted() -> None:
    link = Link(window=FULL_FRAME)
    link.next_writes(*flood(1, 10))
    link.scheduler.end()
    assert link.drops == {DropReason.LINK_ENDED: 9}
