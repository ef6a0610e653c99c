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
    Acknowledger,
    Manner,
)


@pytest.fixture
def acknowledger() -> Acknowledger:
    """One past its beginning, on a path of moderate speed, that has just told all, at 5 s."""
    acknowledger = Acknowledger()
    assert acknowledger.due() == math.inf
    acknowledger.hand(BEGINNING_BYTES, 4.95)
    acknowledger.told(4.95)
    acknowledger.hand(ACK_EVERY, 5.0)
    acknowledger.told(5.0)
    assert acknowledger.due() == math.inf
    assert acknowledger.manner is USUAL
    return acknowledger


def test_a_full_batch_is_acknowledged_soon_and_at_once_where_it_goes_along(
    acknowledger: Acknowledger,
) -> None:
    handed = acknowledger.handed
    acknowledger.hand(ACK_EVERY - 1, 5.001)
    assert acknowledger.due() == 5.0 + ACK_DELAY
    assert acknowledger.due(along=True) > 5.001
    acknowledger.hand(1, 5.002)
    assert acknowledger.due() == 5.001 + USUAL.company
    assert acknowledger.due() > 5.002
    assert acknowledger.due(along=True) <= 5.002
    acknowledger.told(5.002)
    assert acknowledger.due() == math.inf
    assert acknowledger.handed == handed + ACK_EVERY


def test_one_that_goes_along_keeps_a_distance_too_where_batches_come_fast(
    acknowledger: Acknowledger,
) -> None:
    acknowledger.hand(100 * ACK_EVERY, 5.0002)
    assert acknowledger.due(along=True) == 5.0 + USUAL.apart
    assert acknowledger.due() == 5.0002 + USUAL.company


@pytest.mark.parametrize(
    ("size", "frames", "manner"),
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
    acknowledger: Acknowledger, size: float, frames: float, manner: Manner
) -> None:
    # Not by one moment: a bunch is no fast path.
    acknowledger.hand(10_000_000, 5.005, 10_000)
    acknowledger.told(5.005)
    assert acknowledger.manner is USUAL
    for twentieth in range(1, 4):
        now = 5.005 + twentieth / 20
        acknowledger.hand(int(size / 20), now, int(frames / 20))
        acknowledger.told(now)
    assert acknowledger.manner is manner
    acknowledger.hand(ACK_EVERY, 5.1551)
    due = acknowledger.due()
    assert acknowledger.due(along=True) == pytest.approx(5.155 + max(manner.apart, 0.0001))
    assert due == pytest.approx(5.1551 + manner.company)
    assert due <= acknowledger.alarm(5.1551) < due + manner.patience
    # Nor is it put off for long when there is little.
    acknowledger.told(5.165)
    acknowledger.hand(1, 5.1651)
    assert acknowledger.due() <= 5.1651 + max(ACK_DELAY, manner.company)
    assert acknowledger.alarm(5.1651) <= acknowledger.due() + max(LITTLE, manner).patience


def test_an_alarm_for_what_is_due_is_not_put_off(acknowledger: Acknowledger) -> None:
    assert acknowledger.alarm(5.0) == math.inf
    acknowledger.hand(ACK_EVERY, 5.001)
    assert acknowledger.alarm(5.0031) == acknowledger.due() < 5.0031


def test_in_a_beginning_an_ack_goes_along_with_every_answer() -> None:
    acknowledger = Acknowledger()
    now = 5.0
    for _ in range(2):
        for _ in range(BEGINNING_BYTES // 100_000 - 1):
            acknowledger.hand(100_000, now)
            assert acknowledger.due(along=True) == now
            assert acknowledger.due() == now + BEGINNING.company
            acknowledger.told(now)
            now += 0.0001
        for _ in range(2):
            acknowledger.hand(100_000, now)
            acknowledger.told(now)
        acknowledger.hand(100_000, now)
        assert acknowledger.due(along=True) > now
        acknowledger.told(now)
        now += 2 * PAUSE


def test_a_small_one_keeps_its_distance_from_the_last_and_goes_along_if_it_may() -> None:
    acknowledger = Acknowledger()
    acknowledger.hand(100, 5.0)
    assert acknowledger.due(along=True) <= 5.0
    assert acknowledger.due() > 5.0
    acknowledger.told(5.0)
    acknowledger.hand(100, 5.001)
    assert acknowledger.due() == 5.0 + ACK_DELAY
    assert acknowledger.due(along=True) > 5.002
    assert acknowledger.due() <= 5.0 + ACK_DELAY
