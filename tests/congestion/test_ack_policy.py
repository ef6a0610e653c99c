"""When the peer is told what was handed on."""

from __future__ import annotations

import math

import pytest

from vknet.congestion.ack_policy import (
    ACK_DELAY,
    ACK_EVERY,
    BEGINNING,
    BEGINNING_BYTES,
    FAST,
    FAST_BYTES,
    LITTLE,
    MANY,
    MANY_FRAMES,
    PAUSE,
    USUAL,
    VERY_FAST,
    VERY_FAST_BYTES,
    AckPolicy,
    AckTiming,
)


@pytest.fixture
def ack_policy() -> AckPolicy:
    """One past its beginning, on a path of moderate speed, that has just told all, at 5 s."""
    ack_policy = AckPolicy()
    assert ack_policy.due() == math.inf
    ack_policy.on_delivered(BEGINNING_BYTES, 4.95)
    ack_policy.on_ack_sent(4.95)
    ack_policy.on_delivered(ACK_EVERY, 5.0)
    ack_policy.on_ack_sent(5.0)
    assert ack_policy.due() == math.inf
    assert ack_policy.timing is USUAL
    return ack_policy


def test_a_full_batch_is_acknowledged_soon_and_at_once_where_it_goes_along(
    ack_policy: AckPolicy,
) -> None:
    handed = ack_policy.delivered_bytes
    ack_policy.on_delivered(ACK_EVERY - 1, 5.001)
    assert ack_policy.due() == 5.0 + ACK_DELAY
    assert ack_policy.due(piggyback=True) > 5.001
    ack_policy.on_delivered(1, 5.002)
    assert ack_policy.due() == 5.001 + USUAL.piggyback_s
    assert ack_policy.due() > 5.002
    assert ack_policy.due(piggyback=True) <= 5.002
    ack_policy.on_ack_sent(5.002)
    assert ack_policy.due() == math.inf
    assert ack_policy.delivered_bytes == handed + ACK_EVERY


def test_one_that_goes_along_keeps_a_distance_too_where_batches_come_fast(
    ack_policy: AckPolicy,
) -> None:
    ack_policy.on_delivered(100 * ACK_EVERY, 5.0002)
    assert ack_policy.due(piggyback=True) == 5.0 + USUAL.min_interval_s
    assert ack_policy.due() == 5.0002 + USUAL.piggyback_s


@pytest.mark.parametrize(
    ("size", "frames", "timing"),
    [
        (1.1 * VERY_FAST_BYTES, 2000, VERY_FAST),
        (0.9 * VERY_FAST_BYTES, 2000, FAST),
        (1.1 * FAST_BYTES, 2000, FAST),
        (0.9 * FAST_BYTES, 2000, USUAL),
        (0.1 * FAST_BYTES, 1.1 * MANY_FRAMES, MANY),
        (0.1 * FAST_BYTES, 0.9 * MANY_FRAMES, USUAL),
    ],
)
def test_the_faster_a_path_the_rarer_are_its_acks(
    ack_policy: AckPolicy, size: float, frames: float, timing: AckTiming
) -> None:
    # Not by one moment: a bunch is no fast path.
    ack_policy.on_delivered(10_000_000, 5.005, 10_000)
    ack_policy.on_ack_sent(5.005)
    assert ack_policy.timing is USUAL
    for twentieth in range(1, 4):
        now = 5.005 + twentieth / 20
        ack_policy.on_delivered(int(size / 20), now, int(frames / 20))
        ack_policy.on_ack_sent(now)
    assert ack_policy.timing is timing
    ack_policy.on_delivered(ACK_EVERY, 5.1551)
    due = ack_policy.due()
    assert ack_policy.due(piggyback=True) == pytest.approx(
        5.155 + max(timing.min_interval_s, 0.0001)
    )
    assert due == pytest.approx(5.1551 + timing.piggyback_s)
    assert due <= ack_policy.alarm(5.1551) < due + timing.timer_slack_s
    # Nor is it put off for long when there is little.
    ack_policy.on_ack_sent(5.165)
    ack_policy.on_delivered(1, 5.1651)
    assert ack_policy.due() <= 5.1651 + max(ACK_DELAY, timing.piggyback_s)
    assert ack_policy.alarm(5.1651) <= ack_policy.due() + max(LITTLE, timing).timer_slack_s


def test_an_alarm_for_what_is_due_is_not_put_off(ack_policy: AckPolicy) -> None:
    assert ack_policy.alarm(5.0) == math.inf
    ack_policy.on_delivered(ACK_EVERY, 5.001)
    assert ack_policy.alarm(5.0031) == ack_policy.due() < 5.0031


def test_in_a_beginning_an_ack_goes_along_with_every_answer() -> None:
    ack_policy = AckPolicy()
    now = 5.0
    for _ in range(2):
        for _ in range(BEGINNING_BYTES // 100_000 - 1):
            ack_policy.on_delivered(100_000, now)
            assert ack_policy.due(piggyback=True) == now
            assert ack_policy.due() == now + BEGINNING.piggyback_s
            ack_policy.on_ack_sent(now)
            now += 0.0001
        for _ in range(2):
            ack_policy.on_delivered(100_000, now)
            ack_policy.on_ack_sent(now)
        ack_policy.on_delivered(100_000, now)
        assert ack_policy.due(piggyback=True) > now
        ack_policy.on_ack_sent(now)
        now += 2 * PAUSE


def test_a_small_one_keeps_its_distance_from_the_last_and_goes_along_if_it_may() -> None:
    ack_policy = AckPolicy()
    ack_policy.on_delivered(100, 5.0)
    assert ack_policy.due(piggyback=True) <= 5.0
    assert ack_policy.due() > 5.0
    ack_policy.on_ack_sent(5.0)
    ack_policy.on_delivered(100, 5.001)
    assert ack_policy.due() == 5.0 + ACK_DELAY
    assert ack_policy.due(piggyback=True) > 5.002
    assert ack_policy.due() <= 5.0 + ACK_DELAY
