"""The ACK policy: when the receiver acknowledges delivered bytes."""

from __future__ import annotations

import math

import pytest

from vknet.congestion.ack_policy import (
    ACK_DELAY_S,
    ACK_EVERY_BYTES,
    FAST_RATE,
    FASTER_RATE,
    RARE_ACK_FRAMES_PER_S,
    STARTUP_AFTER_IDLE_S,
    STARTUP_BYTES,
    TIMING_FAST,
    TIMING_FASTER,
    TIMING_FEW_BYTES,
    TIMING_NORMAL,
    TIMING_SMALL_FRAMES,
    TIMING_STARTUP,
    AckPolicy,
    AckTiming,
)
from vknet.packet.ethernet import FULL_FRAME


@pytest.fixture
def ack_policy() -> AckPolicy:
    """A policy past startup, at a moderate rate, which acknowledged everything at 5 s."""
    ack_policy = AckPolicy()
    assert ack_policy.due() == math.inf
    ack_policy.on_delivered(STARTUP_BYTES, 4.95)
    ack_policy.on_ack_sent(4.95)
    ack_policy.on_delivered(ACK_EVERY_BYTES, 5.0)
    ack_policy.on_ack_sent(5.0)
    assert ack_policy.due() == math.inf
    assert ack_policy.timing is TIMING_NORMAL
    return ack_policy


def test_ack_of_a_full_batch_waits_for_a_frame_and_piggybacks_at_once(
    ack_policy: AckPolicy,
) -> None:
    delivered = ack_policy.delivered_bytes
    ack_policy.on_delivered(ACK_EVERY_BYTES - 1, 5.001)
    assert ack_policy.due() == 5.0 + ACK_DELAY_S
    assert ack_policy.due(piggyback=True) > 5.001
    ack_policy.on_delivered(1, 5.002)
    assert ack_policy.due() == 5.001 + TIMING_NORMAL.piggyback_s
    assert ack_policy.due() > 5.002
    assert ack_policy.due(piggyback=True) <= 5.002
    ack_policy.on_ack_sent(5.002)
    assert ack_policy.due() == math.inf
    assert ack_policy.delivered_bytes == delivered + ACK_EVERY_BYTES


def test_piggybacked_acks_of_fast_batches_keep_the_minimum_interval(
    ack_policy: AckPolicy,
) -> None:
    ack_policy.on_delivered(100 * ACK_EVERY_BYTES, 5.0002)
    assert ack_policy.due(piggyback=True) == 5.0 + TIMING_NORMAL.min_interval_s
    assert ack_policy.due() == 5.0002 + TIMING_NORMAL.piggyback_s


@pytest.mark.parametrize(
    ("bytes_per_s", "frames_per_s", "timing"),
    [
        (1.1 * FASTER_RATE, 2000, TIMING_FASTER),
        (0.9 * FASTER_RATE, 2000, TIMING_FAST),
        (1.1 * FAST_RATE, 2000, TIMING_FAST),
        (0.9 * FAST_RATE, 2000, TIMING_NORMAL),
        (0.1 * FAST_RATE, 1.1 * RARE_ACK_FRAMES_PER_S, TIMING_SMALL_FRAMES),
        (0.1 * FAST_RATE, 0.9 * RARE_ACK_FRAMES_PER_S, TIMING_NORMAL),
    ],
)
def test_acks_are_rarer_on_a_faster_path(
    ack_policy: AckPolicy, bytes_per_s: float, frames_per_s: float, timing: AckTiming
) -> None:
    # One burst alone does not make a path fast.
    ack_policy.on_delivered(10_000_000, 5.005, 10_000)
    ack_policy.on_ack_sent(5.005)
    assert ack_policy.timing is TIMING_NORMAL
    for twentieth in range(1, 4):
        now = 5.005 + twentieth / 20
        ack_policy.on_delivered(int(bytes_per_s / 20), now, int(frames_per_s / 20))
        ack_policy.on_ack_sent(now)
    assert ack_policy.timing is timing
    ack_policy.on_delivered(ACK_EVERY_BYTES, 5.1551)
    due = ack_policy.due()
    assert ack_policy.due(piggyback=True) == pytest.approx(
        5.155 + max(timing.min_interval_s, 0.0001)
    )
    assert due == pytest.approx(5.1551 + timing.piggyback_s)
    assert due <= ack_policy.alarm(5.1551) < due + timing.timer_slack_s
    # The ACK of a few bytes is delayed for a bounded time, too.
    ack_policy.on_ack_sent(5.165)
    ack_policy.on_delivered(1, 5.1651)
    assert ack_policy.due() <= 5.1651 + max(ACK_DELAY_S, timing.piggyback_s)
    slack = max(TIMING_FEW_BYTES, timing).timer_slack_s
    assert ack_policy.alarm(5.1651) <= ack_policy.due() + slack


def test_alarm_of_an_overdue_ack_is_not_rounded_up(ack_policy: AckPolicy) -> None:
    assert ack_policy.alarm(5.0) == math.inf
    ack_policy.on_delivered(ACK_EVERY_BYTES, 5.001)
    assert ack_policy.alarm(5.0031) == ack_policy.due() < 5.0031


def test_every_write_may_carry_an_ack_in_startup() -> None:
    ack_policy = AckPolicy()
    now = 5.0
    for _ in range(2):
        for _ in range(STARTUP_BYTES // 100_000 - 1):
            ack_policy.on_delivered(100_000, now)
            assert ack_policy.due(piggyback=True) == now
            assert ack_policy.due() == now + TIMING_STARTUP.piggyback_s
            ack_policy.on_ack_sent(now)
            now += 0.0001
        for _ in range(2):
            ack_policy.on_delivered(100_000, now)
            ack_policy.on_ack_sent(now)
        ack_policy.on_delivered(100_000, now)
        assert ack_policy.due(piggyback=True) > now
        ack_policy.on_ack_sent(now)
        now += 2 * STARTUP_AFTER_IDLE_S


def test_ack_of_few_bytes_is_delayed_unless_it_may_piggyback() -> None:
    ack_policy = AckPolicy()
    ack_policy.on_delivered(100, 5.0)
    assert ack_policy.due(piggyback=True) <= 5.0
    assert ack_policy.due() > 5.0
    ack_policy.on_ack_sent(5.0)
    ack_policy.on_delivered(100, 5.001)
    assert ack_policy.due() == 5.0 + ACK_DELAY_S
    assert ack_policy.due(piggyback=True) > 5.002
    assert ack_policy.due() <= 5.0 + ACK_DELAY_S


# --- effects of the constants ---------------------------------------------------------------------


def test_two_full_frames_are_worth_an_ack_and_one_is_not(ack_policy: AckPolicy) -> None:
    ack_policy.on_delivered(FULL_FRAME, 5.001)
    assert ack_policy.due() > 5.01
    ack_policy.on_delivered(FULL_FRAME, 5.001)
    assert ack_policy.due() <= 5.004


def test_acks_of_few_bytes_are_twenty_milliseconds_apart(ack_policy: AckPolicy) -> None:
    ack_policy.on_delivered(100, 5.001)
    assert 5.015 <= ack_policy.due() <= 5.03


def test_startup_lasts_for_four_megabytes() -> None:
    ack_policy = AckPolicy()
    timings: list[AckTiming] = []
    for number in range(6):
        ack_policy.on_delivered(1_000_000, 5.0 + number / 100)
        ack_policy.on_ack_sent(5.0 + number / 100)
        timings.append(ack_policy.timing)
    assert [timing is TIMING_STARTUP for timing in timings] == [True] * 3 + [False] * 3


def test_rate_is_measured_over_ten_milliseconds(ack_policy: AckPolicy) -> None:
    for now, timing in ((5.007, TIMING_NORMAL), (5.015, TIMING_FASTER)):
        ack_policy.on_delivered(4_000_000, now)
        ack_policy.on_ack_sent(now)
        assert ack_policy.timing is timing


def ack_rate(bytes_per_s: float, frames_per_s: float, *, piggyback: bool) -> int:
    """Return the number of ACKs in one second of a stream that comes in batches of 0.25 ms.

    Args:
        bytes_per_s: the stream's rate.
        frames_per_s: the number of its frames per second.
        piggyback: whether each batch is answered by a frame, with which an ACK may go.
    """
    ack_policy = AckPolicy()
    sent_at: list[float] = []
    for tick in range(8000):
        now = 1.0 + tick / 4000
        alarm = ack_policy.alarm(now - 1 / 4000)
        if not piggyback and alarm <= now:
            ack_policy.on_ack_sent(alarm)
            sent_at.append(alarm)
        ack_policy.on_delivered(int(bytes_per_s / 4000), now, int(frames_per_s / 4000))
        if piggyback and ack_policy.due(piggyback=True) <= now:
            ack_policy.on_ack_sent(now)
            sent_at.append(now)
    return sum(now >= 2.0 for now in sent_at)


@pytest.mark.parametrize(
    ("bytes_per_s", "frames_per_s", "alone", "piggybacked"),
    [
        pytest.param(75e6, 20e3, 470, 960, id="normal"),
        pytest.param(150e6, 20e3, 123, 250, id="fast"),
        pytest.param(300e6, 20e3, 62, 63, id="faster"),
        pytest.param(20e6, 45e3, 470, 960, id="small-frames-at-a-moderate-rate"),
        pytest.param(20e6, 80e3, 21, 21, id="small-frames"),
    ],
)
def test_number_of_acks_per_second(
    bytes_per_s: float, frames_per_s: float, alone: int, piggybacked: int
) -> None:
    assert ack_rate(bytes_per_s, frames_per_s, piggyback=False) == pytest.approx(alone, rel=0.15)
    assert ack_rate(bytes_per_s, frames_per_s, piggyback=True) == pytest.approx(
        piggybacked, rel=0.15
    )
