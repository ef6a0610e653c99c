"""The bandwidth estimator: how long samples count, and what bounds extra_acked."""

from __future__ import annotations

import pytest

from vknet.congestion.bandwidth import BandwidthEstimator
from vknet.congestion.window import Window

RTT_S = 0.1


def test_rate_sample_leaves_the_filter_after_ten_round_trips() -> None:
    bandwidth = BandwidthEstimator(0.0)
    now = RTT_S
    bandwidth.on_sample(200_000, RTT_S, now, RTT_S)
    rates: list[float] = []
    for _ in range(30):
        now += 1.01 * RTT_S
        bandwidth.on_sample(100_000, RTT_S, now, RTT_S)
        rates.append(bandwidth.rate)
    assert rates == [pytest.approx(2e6)] * 9 + [pytest.approx(1e6)] * 21


def test_extra_acked_leaves_the_filter_after_ten_round_trips() -> None:
    bandwidth = BandwidthEstimator(0.0)
    now = RTT_S
    # Two rounds with a burst: one alone does not count.
    rounds_with_extra = 0
    for number in range(40):
        now += 1.01 * RTT_S
        bandwidth.on_sample(100_000, RTT_S, now, RTT_S)
        if number in (1, 2):
            bandwidth.on_acked(50_000, now, RTT_S, 1e9)
        rounds_with_extra += bandwidth.extra_acked > 0
    assert rounds_with_extra == 9


def test_extra_acked_is_at_most_a_tenth_of_a_second_of_the_rate() -> None:
    bandwidth = BandwidthEstimator(0.0)
    now = 0.0
    for _ in range(3):
        now += 1.01 * RTT_S
        bandwidth.on_sample(100_000, RTT_S, now, RTT_S)
        bandwidth.on_acked(1_000_000, now, RTT_S, 1e9)
    assert 0.075 <= bandwidth.extra_acked / bandwidth.rate <= 0.15


def test_batch_acknowledged_at_once_counts_as_if_it_took_two_milliseconds() -> None:
    window = Window(0.0)
    window.on_sent(100_000, 0.0)
    window.on_ack(100_000, 0.0003)
    assert 0.0015 <= 100_000 / window.rate <= 0.003
