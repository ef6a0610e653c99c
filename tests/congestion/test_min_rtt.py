"""Which path is taken for a crowded one, and which is not."""

from __future__ import annotations

import math

import pytest

from vknet.congestion.min_rtt import CROWDED, CROWDED_BY, PROBE_SAMPLES, MinRttEstimator

FULL_FRAME = 1514
RATE = 1e6
"""Bytes per second."""


def probed(
    first: float, found: float, *, back: float = 0.0, frame: float = FULL_FRAME
) -> MinRttEstimator:
    """A path on which one round trip was seen first, and a probe found another later."""
    length = MinRttEstimator(0.0, FULL_FRAME)
    length.frame = frame
    length.see(first, 1.0, rate=RATE, back=0.0, alone=True)
    now = 100.0
    length.end_round(RATE, now, was_full=True)
    assert length.probing
    assert not length.probe(now, sent=1000, acked=1000, rate=RATE, gone=0)
    for number in range(1, PROBE_SAMPLES + 1):
        length.see(found, now, rate=RATE, back=back, alone=False)
        ended = length.probe(now, sent=10_000, acked=1000 + number, rate=RATE, gone=0)
        assert ended is (number == PROBE_SAMPLES)
    return length


def test_a_queue_that_stands_while_ours_is_empty_makes_a_path_crowded() -> None:
    length = probed(0.03, 0.3)
    assert length.round_trip == 0.3
    assert length.has_competing_queue(RATE)


def test_a_path_that_became_a_little_longer_is_not_crowded() -> None:
    assert not probed(0.03, CROWDED * 0.03).has_competing_queue(RATE)


def test_milliseconds_of_a_busy_machine_are_nobodys_queue() -> None:
    short = 0.0002
    empty = short + FULL_FRAME / RATE
    assert not probed(short, CROWDED * empty + 0.99 * CROWDED_BY).has_competing_queue(RATE)
    assert probed(short, CROWDED * empty + 1.01 * CROWDED_BY).has_competing_queue(RATE)


def test_a_large_frame_where_small_ones_were_seen_first_is_nobodys_queue() -> None:
    seconds = 0.065
    super_frame = seconds * RATE
    assert not probed(0.001, 2 * seconds, frame=super_frame).has_competing_queue(RATE)
    assert probed(0.001, 2 * seconds).has_competing_queue(RATE)


@pytest.mark.parametrize("back", [0.27, math.inf])
def test_what_waits_on_the_way_back_makes_no_path_crowded(back: float) -> None:
    assert not probed(0.03, 0.3, back=back).has_competing_queue(RATE)


def test_nothing_is_known_before_the_first_round_trip_and_rate() -> None:
    length = MinRttEstimator(0.0, FULL_FRAME)
    assert not length.has_competing_queue(RATE)
    length.see(0.03, 1.0, rate=0.0, back=0.0, alone=True)
    assert not length.has_competing_queue(0.0)
