"""The window while ACKs wait in the queue of the reverse direction."""

from __future__ import annotations

import pytest

from tests.support.paths import MBIT, Path, Simulation, dsl, run_both, settled, utilization
from vknet.congestion.reverse_delay import ReverseDelay, stamp


def test_reverse_queue_does_not_hold_the_rate_down() -> None:
    # The reverse direction was full first, so the window knows only a part of the rate.
    path = Path(20 * MBIT, 0.1)
    simulation = Simulation(path, timestamps=True)
    simulation.run(3)
    path.rate, path.reverse_delay_s = 100 * MBIT, 0.06
    simulation.run(20 * 0.16)
    assert utilization(simulation, 2) >= 0.9
    # The RTT contains its own queue and the reverse delay.
    assert simulation.median_rtt_s(simulation.now - 2) <= 1.4 * 0.1 + 0.06
    assert simulation.window.min_rtt_s == pytest.approx(0.1, abs=0.005)


def test_reverse_queue_that_comes_and_goes_leaves_no_trace() -> None:
    simulation = settled(dsl())
    before = simulation.median_rtt_s(simulation.now - 1)
    simulation = Simulation(dsl(), timestamps=True)
    simulation.run(1)
    for reverse_s in (0.02, 0.2, 0.0):
        simulation.path.reverse_delay_s = reverse_s
        simulation.run(3)
        # There may be a probe in this time.
        assert utilization(simulation, 3) >= 0.9
        assert simulation.median_rtt_s(simulation.now - 1) <= 1.2 * before + reverse_s


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_probe_ends_for_any_reverse_delay(share: float) -> None:
    simulation = Simulation(Path(20 * MBIT, 0.1), timestamps=True)
    simulation.run(3)
    simulation.path.reverse_delay_s = share * 0.1
    simulation.run(2)
    for _ in range(25):
        assert utilization(simulation, 1) >= 0.85


@pytest.mark.parametrize("reverse_s", [0.3, 0.5, 1.0])
def test_long_standing_reverse_delay_counts_as_path_length(reverse_s: float) -> None:
    # Competing traffic fills the reverse path, and never drains it for a probe.
    simulation = Simulation(Path(10 * MBIT, 0.05), timestamps=True)
    simulation.run(5)
    simulation.path.reverse_delay_s = reverse_s
    simulation.run(10 + 10 * reverse_s)
    start = simulation.now
    assert utilization(simulation, 10) >= 0.85
    # It is no competing queue on the forward path: there a queue of our own would gain nothing.
    assert simulation.median_rtt_s(start) <= 1.25 * (0.05 + reverse_s) + 0.01


def test_reverse_delay_does_not_enlarge_the_window_of_an_idle_path() -> None:
    path = Path(100 * MBIT, 0.01)
    simulation = Simulation(path, timestamps=True)
    simulation.run(3)
    quiet = simulation.window.size
    path.reverse_delay_s = 0.24
    simulation.run(3)
    assert simulation.window.size >= quiet + 0.2 * path.rate
    simulation.offer(0)
    simulation.run(1)
    assert simulation.window.bytes_in_flight == 0
    assert simulation.window.size <= 2 * quiet


@pytest.mark.parametrize("seconds", [-1.0, -0.1, 0.1, 1.0])
def test_window_works_after_the_peer_s_clock_was_set(seconds: float) -> None:
    simulation = Simulation(Path(10 * MBIT, 0.05), timestamps=True)
    simulation.run(5)
    before = simulation.median_rtt_s(simulation.now - 1)
    simulation.receiver_clock_s += seconds
    simulation.run(1)
    for _ in range(20):
        assert utilization(simulation, 1) >= 0.85
        assert simulation.median_rtt_s(simulation.now - 1) <= 1.3 * before


@pytest.mark.parametrize(("rate", "rtt_s"), [(10, 0.03), (100, 0.1)])
def test_two_full_directions_do_not_count_each_other_s_queue_as_path(
    rate: float, rtt_s: float
) -> None:
    one, other = (Simulation(Path(rate * MBIT, rtt_s), seed, timestamps=True) for seed in range(2))
    run_both(one, other, 10)
    for simulation in (one, other):
        # The RTT contains both queues, and a frame or two of each.  The simulated directions run in
        # lockstep, which costs a part of the rate.
        assert simulation.median_rtt_s(2) <= 1.6 * rtt_s + 0.01
        assert simulation.delivered(2, 10) >= 0.75


def test_reverse_delay_is_the_excess_over_the_minimum_for_any_clock_offset() -> None:
    reverse = ReverseDelay()
    # The peer's clock is a second ahead, and wraps meanwhile.
    start = 2**32 / 1e6 - 2
    acks = [(0.0, 0.010), (0.5, 0.060), (1.5, 0.005), (2.5, 0.025)]
    waits = [
        reverse.estimate(stamp(start + written + 1), start + written + took, 0.1 + took)
        for written, took in acks
    ]
    assert waits == pytest.approx([0, 0.050, 0, 0.020], abs=2e-6)


def test_reverse_delay_is_bounded_by_the_excess_of_the_rtt() -> None:
    reverse = ReverseDelay()
    assert reverse.estimate(stamp(1000.0), 0.010, 0.100) == 0
    assert reverse.estimate(stamp(1001.0), 1.030, 0.120) == pytest.approx(0.020, abs=2e-6)
    # The peer's clock was set back by more than an hour; the minimum is corrected at once.
    assert reverse.estimate(stamp(10.0), 2.010, 0.105) == pytest.approx(0.005, abs=2e-6)
    assert reverse.estimate(stamp(11.0), 3.005, 0.100) == 0
    assert reverse.estimate(stamp(12.0), 4.045, 0.140) == pytest.approx(0.040, abs=2e-6)


@pytest.mark.parametrize("drift", [-1e-4, 1e-4])
def test_clock_drift_over_a_year_is_no_reverse_delay(drift: float) -> None:
    # One ACK per hour, as on a link that is hardly used.
    reverse = ReverseDelay()
    for hour in range(365 * 24):
        now = hour * 3600.0
        assert reverse.estimate(stamp(now * (1 + drift)), now + 0.01, 0.02) <= 0.001


@pytest.mark.parametrize(
    ("rtt_s", "kept_s", "forgotten_s"),
    [
        pytest.param(0.1, 45, 90, id="thirty-seconds"),
        pytest.param(1.0, 90, 180, id="sixty-round-trips"),
    ],
)
def test_fastest_ack_is_the_reference_for_a_bounded_time(
    rtt_s: float, kept_s: int, forgotten_s: int
) -> None:
    reverse = ReverseDelay()
    waits: list[float] = []
    for second in range(200):
        # All ACKs but the first are 50 ms late.
        late = 0.05 if second else 0.0
        waits.append(reverse.estimate(stamp(second), second + rtt_s / 2 + late, rtt_s + late))
    assert waits[kept_s] == pytest.approx(0.05, abs=1e-5)
    assert waits[forgotten_s] == pytest.approx(0, abs=1e-5)
