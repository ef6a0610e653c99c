"""The window beside a TCP that knows none, on a path whose full queue drops; simulated."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support.competing import Beside
from tests.support.paths import MBIT, Path

# Mbit/s; seconds of a round trip; seconds that a frame may wait.
HOME = (10, 0.03, 0.5)
SLOW = (2, 0.02, 0.5)
FAST = (50, 0.02, 0.1)


def beside(rate: float, round_trip: float, limit: float) -> Beside:
    """Long enough under way together that each has what it gets."""
    simulation = Beside(Path(rate * MBIT, round_trip), limit)
    simulation.run(5)
    simulation.begin()
    simulation.run(30)
    return simulation


# What it gets with the gain for a path of one's own: 0.27 and 0.18.
@pytest.mark.parametrize(("path", "share"), [(SLOW, 0.33), (HOME, 0.22)], ids=["slow", "home"])
def test_beside_a_tcp_that_fills_the_queue_one_has_a_share(
    path: tuple[float, float, float], share: float
) -> None:
    simulation = beside(*path)
    start, before = simulation.now, simulation.other.delivered
    simulation.run(60)
    ours = simulation.delivered(start, simulation.now)
    theirs = (simulation.other.delivered - before) / 60 / simulation.path.rate
    assert ours >= share
    assert theirs >= share
    assert ours + theirs >= 0.95


@pytest.mark.parametrize("path", [SLOW, HOME, FAST], ids=["slow", "home", "fast"])
def test_when_it_has_gone_the_round_trip_is_short_again_at_once(
    path: tuple[float, float, float],
) -> None:
    simulation = beside(*path)
    simulation.other.end()
    # What both have in the queue has to be carried first, and then one probe.
    simulation.run(3)
    start = simulation.now
    simulation.run(5)
    assert simulation.delivered(start, simulation.now) >= 0.9
    short = 1.5 * simulation.path.round_trip + 4 * 1514 / simulation.path.rate
    assert simulation.median_round_trip(start) <= short


LONG = (20, 0.05, 0.5)


@pytest.mark.parametrize(
    ("path", "stay"),
    [*product((SLOW, HOME, LONG), (1, 1.5, 2, 3)), (HOME, 10), (LONG, 10)],
)
def test_a_tcp_that_comes_and_goes_leaves_no_trace(
    path: tuple[float, float, float], stay: float
) -> None:
    rate, round_trip, limit = path
    simulation = Beside(Path(rate * MBIT, round_trip), limit)
    simulation.run(5)
    alone = simulation.median_round_trip(simulation.now - 1)
    for _ in range(3):
        simulation.begin()
        simulation.run(stay)
        simulation.other.end()
        simulation.run(6)
        start = simulation.now
        simulation.run(4)
        assert simulation.median_round_trip(start) <= 1.6 * alone
        assert simulation.delivered(start, simulation.now) >= 0.9
