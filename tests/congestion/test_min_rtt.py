"""The min RTT estimator: which paths have a competing queue, and which do not."""

from __future__ import annotations

import math

import pytest

from vknet.congestion.min_rtt import (
    COMPETING_MARGIN_S,
    COMPETING_RATIO,
    PROBE_SAMPLES,
    MinRttEstimator,
)
from vknet.packet.ethernet import FULL_FRAME

RATE = 1e6
"""The delivery rate in bytes per second."""


def probed(
    first_rtt: float, probe_rtt: float, *, reverse_s: float = 0.0, frame_bytes: float = FULL_FRAME
) -> MinRttEstimator:
    """Return an estimator whose first sample was one RTT, and whose probe saw another."""
    estimator = MinRttEstimator(0.0, FULL_FRAME)
    estimator.frame_bytes = frame_bytes
    estimator.on_sample(first_rtt, 1.0, rate=RATE, reverse_s=0.0, was_idle=True)
    now = 100.0
    estimator.on_round_end(RATE, now, window_was_full=True)
    assert estimator.probing
    assert not estimator.update_probe(now, sent=1000, acked=1000, rate=RATE, left_path_bytes=0)
    for number in range(1, PROBE_SAMPLES + 1):
        estimator.on_sample(probe_rtt, now, rate=RATE, reverse_s=reverse_s, was_idle=False)
        ended = estimator.update_probe(
            now, sent=10_000, acked=1000 + number, rate=RATE, left_path_bytes=0
        )
        assert ended is (number == PROBE_SAMPLES)
    return estimator


def test_queue_that_stands_during_a_probe_is_a_competing_queue() -> None:
    estimator = probed(0.03, 0.3)
    assert estimator.min_rtt_s == 0.3
    assert estimator.has_competing_queue(RATE)


def test_slightly_longer_path_has_no_competing_queue() -> None:
    assert not probed(0.03, COMPETING_RATIO * 0.03).has_competing_queue(RATE)


def test_milliseconds_of_host_jitter_are_no_competing_queue() -> None:
    shortest = 0.0002
    limit = COMPETING_RATIO * (shortest + FULL_FRAME / RATE)
    assert not probed(shortest, limit + 0.99 * COMPETING_MARGIN_S).has_competing_queue(RATE)
    assert probed(shortest, limit + 1.01 * COMPETING_MARGIN_S).has_competing_queue(RATE)


def test_large_frames_after_small_ones_are_no_competing_queue() -> None:
    seconds = 0.065
    super_frame = seconds * RATE
    assert not probed(0.001, 2 * seconds, frame_bytes=super_frame).has_competing_queue(RATE)
    assert probed(0.001, 2 * seconds).has_competing_queue(RATE)


@pytest.mark.parametrize("reverse_s", [0.27, math.inf])
def test_reverse_delay_is_no_competing_queue(reverse_s: float) -> None:
    assert not probed(0.03, 0.3, reverse_s=reverse_s).has_competing_queue(RATE)


def test_estimator_without_a_sample_or_a_rate_reports_no_competing_queue() -> None:
    estimator = MinRttEstimator(0.0, FULL_FRAME)
    assert not estimator.has_competing_queue(RATE)
    estimator.on_sample(0.03, 1.0, rate=0.0, reverse_s=0.0, was_idle=True)
    assert not estimator.has_competing_queue(0.0)


# --- when a probe begins and ends -----------------------------------------------------------------


def begins_probe(estimator: MinRttEstimator, now: float, rate: float = RATE) -> bool:
    """End a round in which the window was full, and return whether a probe runs then."""
    estimator.on_round_end(rate, now, window_was_full=True)
    return estimator.probing


def test_min_rtt_of_a_long_path_expires_after_thirty_round_trips() -> None:
    estimator = MinRttEstimator(0.0, FULL_FRAME)
    estimator.on_sample(1.0, 1.0, rate=RATE, reverse_s=0.0, was_idle=True)
    assert not begins_probe(estimator, 1.0 + 25)
    assert begins_probe(estimator, 1.0 + 40)


def test_min_rtt_of_a_short_path_expires_after_ten_seconds() -> None:
    estimator = MinRttEstimator(0.0, FULL_FRAME)
    estimator.on_sample(0.03, 1.0, rate=RATE, reverse_s=0.0, was_idle=True)
    assert not begins_probe(estimator, 1.0 + 7)
    assert begins_probe(estimator, 1.0 + 15)


def test_probe_takes_the_minimum_of_eight_samples() -> None:
    estimator = MinRttEstimator(0.0, FULL_FRAME)
    estimator.on_sample(0.03, 1.0, rate=RATE, reverse_s=0.0, was_idle=True)
    now = 100.0
    assert begins_probe(estimator, now)
    estimator.update_probe(now, sent=1000, acked=1000, rate=RATE, left_path_bytes=0)
    acked = 1000
    for rtt_s in (0.06, 0.06, 0.06, 0.06, 0.06, 0.04, 0.06, 0.06, 0.06, 0.06, 0.06, 0.035, 0.06):
        acked += 100
        estimator.on_sample(rtt_s, now, rate=RATE, reverse_s=0.0, was_idle=False)
        if estimator.update_probe(now, sent=10_000, acked=acked, rate=RATE, left_path_bytes=0):
            break
    assert not estimator.probing
    assert estimator.min_rtt_s == 0.04


def test_probes_are_a_second_apart_when_the_rate_falls() -> None:
    estimator = probed(0.03, 0.03)
    assert not begins_probe(estimator, 100.0 + 0.75, 0.5 * RATE)
    assert begins_probe(estimator, 100.0 + 1.5, 0.5 * RATE)


@pytest.mark.parametrize(
    ("rtt_s", "early_s", "late_s"),
    [
        pytest.param(0.3, 1.75, 3.0, id="two-seconds"),
        pytest.param(1.0, 4.0, 7.0, id="five-round-trips"),
    ],
)
def test_new_competing_queue_is_checked_again(rtt_s: float, early_s: float, late_s: float) -> None:
    estimator = probed(0.03, rtt_s)
    assert estimator.has_competing_queue(RATE)
    assert not begins_probe(estimator, 100.0 + early_s)
    assert begins_probe(estimator, 100.0 + late_s)


@pytest.mark.parametrize("rounds", [4, 8])
def test_rise_of_the_rate_counts_from_the_minimum_of_the_first_five_rounds(rounds: int) -> None:
    estimator = probed(0.03, 0.3)
    now = 100.0 + 1.5
    for number in range(1, 10):
        rate = 0.5 * RATE if number == rounds else RATE
        estimator.on_round_end(rate, now, window_was_full=False)
    assert estimator.probing is (rounds == 4)
