"""The window beside a competing TCP, at a bottleneck with a drop-tail queue; simulated."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support.competing import CompetingSimulation
from tests.support.paths import MBIT, Path
from vknet.packet.ethernet import FULL_FRAME

# The rate in Mbit/s, the round-trip time, and the maximum queueing delay, both in seconds.
HOME_PATH = (10, 0.03, 0.5)
SLOW_PATH = (2, 0.02, 0.5)
FAST_PATH = (50, 0.02, 0.1)


def competing(rate: float, rtt_s: float, limit_s: float) -> CompetingSimulation:
    """Return a simulation in which both flows have reached their shares."""
    simulation = CompetingSimulation(Path(rate * MBIT, rtt_s), limit_s)
    simulation.run(5)
    simulation.begin_competing()
    simulation.run(30)
    return simulation


# With `GAIN` instead of `COMPETING_GAIN` the shares are 0.27 and 0.18.
@pytest.mark.parametrize(
    ("path", "share"), [(SLOW_PATH, 0.33), (HOME_PATH, 0.22)], ids=["slow", "home"]
)
def test_window_keeps_a_share_beside_a_competing_tcp(
    path: tuple[float, float, float], share: float
) -> None:
    simulation = competing(*path)
    start, before = simulation.now, simulation.competitor.delivered
    simulation.run(60)
    ours = simulation.delivered(start, simulation.now)
    theirs = (simulation.competitor.delivered - before) / 60 / simulation.path.rate
    assert ours >= share
    assert theirs >= share
    assert ours + theirs >= 0.95


@pytest.mark.parametrize("path", [SLOW_PATH, HOME_PATH, FAST_PATH], ids=["slow", "home", "fast"])
def test_rtt_is_short_again_soon_after_the_competing_tcp_ends(
    path: tuple[float, float, float],
) -> None:
    simulation = competing(*path)
    simulation.competitor.end()
    # The queue of both drains first; then a probe measures the path.
    simulation.run(3)
    start = simulation.now
    simulation.run(5)
    assert simulation.delivered(start, simulation.now) >= 0.9
    short = 1.5 * simulation.path.rtt_s + 4 * FULL_FRAME / simulation.path.rate
    assert simulation.median_rtt_s(start) <= short


LONG_PATH = (20, 0.05, 0.5)


@pytest.mark.parametrize(
    ("path", "stay"),
    [*product((SLOW_PATH, HOME_PATH, LONG_PATH), (1, 1.5, 2, 3)), (HOME_PATH, 10), (LONG_PATH, 10)],
)
def test_competing_tcp_that_comes_and_goes_leaves_no_trace(
    path: tuple[float, float, float], stay: float
) -> None:
    rate, rtt_s, limit_s = path
    simulation = CompetingSimulation(Path(rate * MBIT, rtt_s), limit_s)
    simulation.run(5)
    alone = simulation.median_rtt_s(simulation.now - 1)
    for _ in range(3):
        simulation.begin_competing()
        simulation.run(stay)
        simulation.competitor.end()
        simulation.run(6)
        start = simulation.now
        simulation.run(4)
        assert simulation.median_rtt_s(start) <= 1.6 * alone
        assert simulation.delivered(start, simulation.now) >= 0.9
