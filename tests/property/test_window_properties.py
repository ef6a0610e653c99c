"""The window on simulated paths of any rate and length: the path is full, and its queue short."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.paths import MBIT, Path, Simulation
from vknet.congestion.ack_policy import (
    ACK_DELAY_S,
    ACK_EVERY_BYTES,
    STARTUP_BYTES,
    TIMING_NORMAL,
    AckPolicy,
)
from vknet.congestion.bandwidth import EXTRA_ACKED_MAX_S, RESOLUTION_S
from vknet.congestion.window import HOST_SLACK_RATE, HOST_SLACK_S, HOST_SLACK_SCALE_MAX
from vknet.packet.ethernet import FULL_FRAME

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SLOWEST = 0.064 * MBIT
FASTEST = 10_000 * MBIT
SHORTEST = 0.0002
LONGEST = 1.6


def spread(least: float, most: float) -> SearchStrategy[float]:
    """Draw floats that are evenly distributed on a logarithmic scale."""
    return st.floats(0, 1).map(lambda share: least * (most / least) ** share)


rates = spread(SLOWEST, FASTEST)
rtts = spread(SHORTEST, LONGEST)
jitters_rtts = st.sampled_from([0.0, 0.05, 0.1])
busy_s = st.sampled_from([0.0, 0.001])
seeds = st.integers(0, 2**32 - 1)


def rtt_limit_s(path: Path) -> float:
    """Return the greatest acceptable median RTT: 1.5 times the path's, plus a floor for any path.

    Nothing is sent in the reverse direction, so every ACK waits for a piggyback in vain.
    """
    slack = RESOLUTION_S + HOST_SLACK_S * min(HOST_SLACK_SCALE_MAX, path.rate / HOST_SLACK_RATE)
    floor = 1.1 * slack + 5 * FULL_FRAME / path.rate + 2 * path.busy_s
    return 1.5 * (path.rtt_s + TIMING_NORMAL.piggyback_s) + floor


def is_full(simulation: Simulation, start: float) -> bool:
    """Whether 0.9 of the path's rate was delivered since then, with a tolerance of one frame."""
    frame = FULL_FRAME / simulation.path.rate / (simulation.now - start)
    return simulation.delivered(start, simulation.now) + frame >= 0.9


@settings(deadline=None, derandomize=True, max_examples=30)
@given(rate=rates, rtt_s=rtts, jitter_rtts=jitters_rtts, busy_s=busy_s, seed=seeds)
def test_path_is_full_and_its_queue_is_short(
    rate: float, rtt_s: float, jitter_rtts: float, busy_s: float, seed: int
) -> None:
    path = Path(rate, rtt_s, jitter_rtts * rtt_s, busy_s)
    simulation = Simulation(path, seed)
    simulation.run(max(1.0, 30 * rtt_s, 150 * FULL_FRAME / rate))
    start = simulation.now
    simulation.run(max(1.0, 30 * rtt_s, 150 * FULL_FRAME / rate))
    assert is_full(simulation, start)
    assert simulation.median_rtt_s(start) <= rtt_limit_s(path)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    rate=spread(10 * MBIT, 1000 * MBIT),
    rtt_s=spread(SHORTEST, 0.05),
    jitter_s=st.floats(0, 0.02),
    busy_s=st.floats(0, 0.03),
    seed=seeds,
)
def test_path_with_bursty_acks_is_not_starved(
    rate: float, rtt_s: float, jitter_s: float, busy_s: float, seed: int
) -> None:
    # ACKs are held back longer than a round trip, as over Wi-Fi or by a busy host.
    path = Path(rate, rtt_s, jitter_s, busy_s)
    simulation = Simulation(path, seed)
    simulation.run(4)
    start = simulation.now
    simulation.run(4)
    assert simulation.delivered(start, simulation.now) >= 0.4
    held_back_s = EXTRA_ACKED_MAX_S + 2 * jitter_s + busy_s
    assert simulation.median_rtt_s(start) <= rtt_limit_s(path) + held_back_s


@settings(deadline=None, derandomize=True, max_examples=20)
@given(
    rate=spread(SLOWEST, FASTEST / 100),
    rtt_s=spread(SHORTEST, 0.4),
    up=st.booleans(),
    seed=seeds,
)
def test_window_follows_a_hundredfold_rate_change(
    rate: float, rtt_s: float, up: bool, seed: int
) -> None:
    path = Path(rate if up else 100 * rate, rtt_s)
    simulation = Simulation(path, seed)
    simulation.run(max(1.0, 30 * rtt_s, 150 * FULL_FRAME / rate))
    # The bytes in flight at the time of the change have to drain first.
    drained = 0.0 if up else 100 * rtt_limit_s(path)
    path.rate = 100 * rate if up else rate
    simulation.run(drained + max(2.0, 20 * rtt_s))
    start = simulation.now
    simulation.run(max(1.0, 30 * rtt_s, 100 * FULL_FRAME / path.rate))
    assert is_full(simulation, start)
    assert simulation.median_rtt_s(start) <= rtt_limit_s(path)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    batches=st.lists(
        st.tuples(
            st.integers(1, 900_000), st.floats(0, 0.05, allow_subnormal=False), st.integers(1, 2000)
        ),
        max_size=60,
    ),
    in_startup=st.booleans(),
)
def test_acks_are_never_late_and_never_too_many(
    batches: list[tuple[int, float, int]], in_startup: bool
) -> None:
    ack_policy, now, acks, unacked_since = AckPolicy(), 0.0, 0, 0.0
    acked, acked_at = 0, -math.inf
    if not in_startup:
        ack_policy.on_delivered(STARTUP_BYTES, now)
        ack_policy.on_ack_sent(now)
        acked, acked_at = STARTUP_BYTES, now
    for size, pause, frames in batches:
        due = ack_policy.due()
        assert (due == math.inf) is (ack_policy.delivered_bytes == acked)
        if due <= now:
            acked = ack_policy.delivered_bytes
            ack_policy.on_ack_sent(now)
            acked_at = now
            acks += 1
        if ack_policy.delivered_bytes == acked:
            unacked_since = now
        ack_policy.on_delivered(size, now, frames)
        due, piggyback_due = ack_policy.due(), ack_policy.due(piggyback=True)
        timing = ack_policy.timing
        assert ack_policy.not_before <= piggyback_due <= due
        assert ack_policy.not_before_alone <= due
        alarm = ack_policy.alarm(now)
        assert alarm == due if due <= now else 0 <= alarm - due <= timing.timer_slack_s
        if ack_policy.delivered_bytes - acked < ACK_EVERY_BYTES:
            assert due <= unacked_since + max(ACK_DELAY_S, timing.min_interval_s)
        else:
            assert piggyback_due == max(unacked_since, acked_at + timing.min_interval_s)
            assert due == max(piggyback_due, unacked_since + timing.piggyback_s)
        now += pause
    assert acks <= ack_policy.delivered_bytes / ACK_EVERY_BYTES + now / ACK_DELAY_S + 1
