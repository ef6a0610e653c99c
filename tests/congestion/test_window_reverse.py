"""The window beside a queue in the other direction, in which the ACKs wait."""

from __future__ import annotations

import pytest

from tests.support.paths import MBIT, Path, Simulation, carried, dsl, run_both, settled
from vknet.congestion.reverse_delay import ReverseDelay, stamp


def test_an_ack_that_waited_in_the_other_direction_s_queue_does_not_hold_the_rate_down() -> None:
    # As it is where that direction was first: ours was seen with a part of the rate only.
    path = Path(20 * MBIT, 0.1)
    simulation = Simulation(path, timed=True)
    simulation.run(3)
    path.rate, path.back = 100 * MBIT, 0.06
    simulation.run(20 * 0.16)
    assert carried(simulation, 2) >= 0.9
    # Which is more than the least round trip by its own queue, and by what the ACKs wait.
    assert simulation.median_round_trip(simulation.now - 2) <= 1.4 * 0.1 + 0.06
    assert simulation.window.min_rtt_s == pytest.approx(0.1, abs=0.005)


def test_a_queue_that_goes_as_it_came_leaves_no_trace() -> None:
    simulation = settled(dsl())
    before = simulation.median_round_trip(simulation.now - 1)
    simulation = Simulation(dsl(), timed=True)
    simulation.run(1)
    for back in (0.02, 0.2, 0.0):
        simulation.path.back = back
        simulation.run(3)
        # With a probe in it, at the worst.
        assert carried(simulation, 3) >= 0.9
        assert simulation.median_round_trip(simulation.now - 1) <= 1.2 * before + back


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_probe_ends_however_long_the_acks_wait(share: float) -> None:
    simulation = Simulation(Path(20 * MBIT, 0.1), timed=True)
    simulation.run(3)
    simulation.path.back = share * 0.1
    simulation.run(2)
    for _ in range(25):
        assert carried(simulation, 1) >= 0.85


@pytest.mark.parametrize("back", [0.3, 0.5, 1.0])
def test_acks_that_go_on_to_wait_long_are_those_of_a_longer_path(back: float) -> None:
    # Somebody else's upload fills the way back, which nobody empties to see the path.
    simulation = Simulation(Path(10 * MBIT, 0.05), timed=True)
    simulation.run(5)
    simulation.path.back = back
    simulation.run(10 + 10 * back)
    start = simulation.now
    assert carried(simulation, 10) >= 0.85
    # It is no company on the way there, where a queue of our own would be for nothing.
    assert simulation.median_round_trip(start) <= 1.25 * (0.05 + back) + 0.01


def test_what_acks_waited_when_all_was_there_is_no_room_for_what_comes_later() -> None:
    path = Path(100 * MBIT, 0.01)
    simulation = Simulation(path, timed=True)
    simulation.run(3)
    quiet = simulation.window.size
    path.back = 0.24
    simulation.run(3)
    assert simulation.window.size >= quiet + 0.2 * path.rate
    simulation.offer(0)
    simulation.run(1)
    assert simulation.window.bytes_in_flight == 0
    assert simulation.window.size <= 2 * quiet


@pytest.mark.parametrize("seconds", [-1.0, -0.1, 0.1, 1.0])
def test_a_peer_whose_clock_was_set_is_no_peer_without_a_window(seconds: float) -> None:
    simulation = Simulation(Path(10 * MBIT, 0.05), timed=True)
    simulation.run(5)
    before = simulation.median_round_trip(simulation.now - 1)
    simulation.receiver_clock += seconds
    simulation.run(1)
    for _ in range(20):
        assert carried(simulation, 1) >= 0.85
        assert simulation.median_round_trip(simulation.now - 1) <= 1.3 * before


@pytest.mark.parametrize(("rate", "round_trip"), [(10, 0.03), (100, 0.1)])
def test_two_full_directions_do_not_take_each_other_s_queue_for_a_longer_path(
    rate: float, round_trip: float
) -> None:
    one, other = (Simulation(Path(rate * MBIT, round_trip), seed, timed=True) for seed in range(2))
    run_both(one, other, 10)
    for simulation in (one, other):
        # Both queues are in it, and a frame or two of each.  In lockstep, as they are here, the two
        # lose a part of the rate.
        assert simulation.median_round_trip(2) <= 1.6 * round_trip + 0.01
        assert simulation.delivered(2, 10) >= 0.75


def test_what_an_ack_waited_is_what_it_took_longer_than_others_whatever_the_clocks_show() -> None:
    reverse = ReverseDelay()
    # The peer's clock begins anew meanwhile, and is a second ahead.
    start = 2**32 / 1e6 - 2
    acks = [(0.0, 0.010), (0.5, 0.060), (1.5, 0.005), (2.5, 0.025)]
    waits = [
        reverse.estimate(stamp(start + written + 1), start + written + took, 0.1 + took)
        for written, took in acks
    ]
    assert waits == pytest.approx([0, 0.050, 0, 0.020], abs=2e-6)


def test_no_ack_waited_longer_than_its_round_trip_allows() -> None:
    reverse = ReverseDelay()
    assert reverse.estimate(stamp(1000.0), 0.010, 0.100) == 0
    assert reverse.estimate(stamp(1001.0), 1.030, 0.120) == pytest.approx(0.020, abs=2e-6)
    # Its clock was set back by an hour and more, which is noticed at once; and from then on told.
    assert reverse.estimate(stamp(10.0), 2.010, 0.105) == pytest.approx(0.005, abs=2e-6)
    assert reverse.estimate(stamp(11.0), 3.005, 0.100) == 0
    assert reverse.estimate(stamp(12.0), 4.045, 0.140) == pytest.approx(0.040, abs=2e-6)


@pytest.mark.parametrize("drift", [-1e-4, 1e-4])
def test_clocks_that_drift_apart_for_a_year_wait_for_nothing(drift: float) -> None:
    # An ACK an hour, as on a link that is hardly used.
    reverse = ReverseDelay()
    for hour in range(365 * 24):
        now = hour * 3600.0
        assert reverse.estimate(stamp(now * (1 + drift)), now + 0.01, 0.02) <= 0.001
