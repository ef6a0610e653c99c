"""The window on simulated paths of any rate and length: full, and with a short queue."""

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
from vknet.congestion.window import HOST_SLACK_SCALE_MAX, HOST_SLACK_S, HOST_SLACK_RATE
from vknet.packet.ethernet import FULL_FRAME

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SLOWEST = 0.064 * MBIT
FASTEST = 10_000 * MBIT
SHORTEST = 0.0002
LONGEST = 1.6


def spread(least: float, most: float) -> SearchStrategy[float]:
    """Every order of magnitude as likely as any other."""
    return st.floats(0, 1).map(lambda share: least * (most / least) ** share)


rates = spread(SLOWEST, FASTEST)
round_trips = spread(SHORTEST, LONGEST)
jitters = st.sampled_from([0.0, 0.05, 0.1])
busy = st.sampled_from([0.0, 0.001])
seeds = st.integers(0, 2**32 - 1)


def longest_wanted(path: Path) -> float:
    """1.5 round trips, and what cannot be less on a slow path, or on a fast one.

    Nothing goes the other way here, so every ACK waits in vain for company.
    """
    slack = RESOLUTION_S + HOST_SLACK_S * min(HOST_SLACK_SCALE_MAX, path.rate / HOST_SLACK_RATE)
    floor = 1.1 * slack + 5 * FULL_FRAME / path.rate + 2 * path.busy
    return 1.5 * (path.round_trip + TIMING_NORMAL.piggyback_s) + floor


def is_full(simulation: Simulation, start: float) -> bool:
    """Whether 0.9 of what the path can carry was delivered since then, give or take a frame."""
    frame = FULL_FRAME / simulation.path.rate / (simulation.now - start)
    return simulation.delivered(start, simulation.now) + frame >= 0.9


@settings(deadline=None, derandomize=True, max_examples=30)
@given(rate=rates, round_trip=round_trips, jitter=jitters, busy=busy, seed=seeds)
def test_the_path_is_full_and_its_queue_is_short(
    rate: float, round_trip: float, jitter: float, busy: float, seed: int
) -> None:
    path = Path(rate, round_trip, jitter * round_trip, busy)
    simulation = Simulation(path, seed)
    simulation.run(max(1.0, 30 * round_trip, 150 * FULL_FRAME / rate))
    start = simulation.now
    simulation.run(max(1.0, 30 * round_trip, 150 * FULL_FRAME / rate))
    assert is_full(simulation, start)
    assert simulation.median_round_trip(start) <= longest_wanted(path)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    rate=spread(10 * MBIT, 1000 * MBIT),
    round_trip=spread(SHORTEST, 0.05),
    jitter=st.floats(0, 0.02),
    busy=st.floats(0, 0.03),
    seed=seeds,
)
def test_a_path_whose_acks_come_in_bunches_is_not_starved(
    rate: float, round_trip: float, jitter: float, busy: float, seed: int
) -> None:
    # As over Wi-Fi, or to a host with other things to do: longer than the round trip itself.
    path = Path(rate, round_trip, jitter, busy)
    simulation = Simulation(path, seed)
    simulation.run(4)
    start = simulation.now
    simulation.run(4)
    assert simulation.delivered(start, simulation.now) >= 0.4
    held_up = EXTRA_ACKED_MAX_S + 2 * jitter + busy
    assert simulation.median_round_trip(start) <= longest_wanted(path) + held_up


@settings(deadline=None, derandomize=True, max_examples=20)
@given(
    rate=spread(SLOWEST, FASTEST / 100),
    round_trip=spread(SHORTEST, 0.4),
    up=st.booleans(),
    seed=seeds,
)
def test_a_rate_that_changes_a_hundredfold_is_followed(
    rate: float, round_trip: float, up: bool, seed: int
) -> None:
    path = Path(rate if up else 100 * rate, round_trip)
    simulation = Simulation(path, seed)
    simulation.run(max(1.0, 30 * round_trip, 150 * FULL_FRAME / rate))
    # What is under way when nobody can know has to be carried first.
    drained = 0.0 if up else 100 * longest_wanted(path)
    path.rate = 100 * rate if up else rate
    simulation.run(drained + max(2.0, 20 * round_trip))
    start = simulation.now
    simulation.run(max(1.0, 30 * round_trip, 100 * FULL_FRAME / path.rate))
    assert is_full(simulation, start)
    assert simulation.median_round_trip(start) <= longest_wanted(path)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    batches=st.lists(
        st.tuples(
            st.integers(1, 900_000), st.floats(0, 0.05, allow_subnormal=False), st.integers(1, 2000)
        ),
        max_size=60,
    ),
    beginning=st.booleans(),
)
def test_acks_are_never_late_and_never_many(
    batches: list[tuple[int, float, int]], beginning: bool
) -> None:
    ack_policy, now, acks, waiting_since = AckPolicy(), 0.0, 0, 0.0
    told, told_at = 0, -math.inf
    if not beginning:
        ack_policy.on_delivered(STARTUP_BYTES, now)
        ack_policy.on_ack_sent(now)
        told, told_at = STARTUP_BYTES, now
    for size, pause, frames in batches:
        due = ack_policy.due()
        assert (due == math.inf) is (ack_policy.delivered_bytes == told)
        if due <= now:
            told = ack_policy.delivered_bytes
            ack_policy.on_ack_sent(now)
            told_at = now
            acks += 1
        if ack_policy.delivered_bytes == told:
            waiting_since = now
        ack_policy.on_delivered(size, now, frames)
        due, along = ack_policy.due(), ack_policy.due(piggyback=True)
        timing = ack_policy.timing
        assert ack_policy.not_before <= along <= due
        assert ack_policy.not_before_alone <= due
        alarm = ack_policy.alarm(now)
        assert alarm == due if due <= now else 0 <= alarm - due <= timing.timer_slack_s
        if ack_policy.delivered_bytes - told < ACK_EVERY_BYTES:
            assert due <= waiting_since + max(ACK_DELAY_S, timing.min_interval_s)
        else:
            assert along == max(waiting_since, told_at + timing.min_interval_s)
            assert due == max(along, waiting_since + timing.piggyback_s)
        now += pause
    assert acks <= ack_policy.delivered_bytes / ACK_EVERY_BYTES + now / ACK_DELAY_S + 1
