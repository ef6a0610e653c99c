"""The window, on simulated paths and with ACKs made by hand, in virtual time."""

from __future__ import annotations

import math

import pytest

from tests.support.paths import MBIT, Path, Simulation, dsl, settled, utilization
from vknet.congestion.ack_policy import AckPolicy
from vknet.congestion.reverse_delay import stamp
from vknet.congestion.window import Window
from vknet.packet.ethernet import FULL_FRAME

# --- estimates: found, and kept -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "rtt_s"), [(2, 0.02), (10, 0.03), (100, 0.1), (160, 0.1), (1000, 0.001)]
)
def test_new_link_reaches_the_full_rate_within_ten_round_trips(rate: float, rtt_s: float) -> None:
    # The last path but one needs two megabytes in flight, which is as much as ssh buffers.
    path = Path(rate * MBIT, rtt_s)
    simulation = Simulation(path)
    simulation.run(9 * rtt_s)
    assert utilization(simulation, max(2 * rtt_s, 0.02)) >= 0.9


def test_lan_window_with_an_ack_per_batch_opens_within_ten_round_trips() -> None:
    window, ack_policy = Window(0.0), AckPolicy()
    now, sent, rtt_s = 0.0, 0, 0.0004
    rounds = 0
    # The capacity of a pipe.
    while window.size < 1024 * 1024:
        rounds += 1
        assert rounds <= 10
        sent += window.send_quota
        window.on_sent(sent, now)
        now += rtt_s
        ack_policy.on_delivered(sent - ack_policy.delivered_bytes, now)
        # A TCP answers before the write that delivered the segment has returned.
        assert ack_policy.due(piggyback=True) <= now
        ack_policy.on_ack_sent(now)
        window.on_ack(ack_policy.delivered_bytes, now, stamp(now))


def test_min_rtt_does_not_creep_up_under_sustained_load() -> None:
    simulation = settled(dsl())
    early = simulation.median_rtt_s(simulation.now - 1)
    simulation.run(120)
    assert simulation.median_rtt_s(simulation.now - 1) <= 1.05 * early
    assert simulation.window.min_rtt_s is not None
    assert simulation.window.min_rtt_s <= 1.1 * 0.03


def test_first_batch_after_a_pause_replaces_a_probe() -> None:
    # The first batch finds the path idle, and so measures what a probe would measure.
    window = Window(0.0)
    total, now = 0, 0.0
    for pause in [0.05] * 40 + [15.0, 0.05]:
        now += pause
        total += 100
        window.on_sent(total, now)
        # The first RTT is the shortest.
        window.on_ack(total, now + (0.0300 if total == 100 else 0.0305))
    assert window.min_rtt_s == pytest.approx(0.0305)
    # A probe would allow only one frame.
    assert window.size > FULL_FRAME


def test_probe_of_a_fixed_window_ends() -> None:
    simulation = Simulation(dsl())
    window = simulation.window = Window(0.0, size=50_000)
    sizes: list[int] = []
    simulation.run(5)
    simulation.every(0.005, lambda: sizes.append(window.size))
    simulation.run(20)
    assert max(sizes) == 50_000
    assert 1 <= sum(size < 50_000 for size in sizes) <= 100
    assert sizes[-1] == 50_000


def test_probes_cost_at_most_one_part_in_twenty() -> None:
    for path in (dsl(), Path(10 * MBIT, 0.5), Path(2 * MBIT, 1.6)):
        simulation = settled(path)
        assert utilization(simulation, max(60.0, 120 * path.rtt_s)) >= 0.95


def test_probe_measures_the_path_without_its_queue() -> None:
    # The min RTT contains a queue.
    path = dsl()
    simulation = Simulation(path)
    window = simulation.window
    simulation.run(3)
    window._min_rtt.min_rtt_s = 0.06
    simulation.run(0.5)
    assert simulation.median_rtt_s(simulation.now - 0.2) > 0.05
    simulation.run(15)
    assert window.min_rtt_s == pytest.approx(0.03, abs=0.004)


def test_path_with_jitter_stays_full() -> None:
    simulation = settled(Path(100 * MBIT, 0.1, jitter_s=0.01))
    assert utilization(simulation, 5) >= 0.95


# --- fast paths, and the first bytes --------------------------------------------------------------


@pytest.mark.parametrize(("rtt_s", "busy"), [(0.0003, 0.002), (0.0003, 0.008), (0.002, 0.008)])
def test_window_does_not_slow_a_fast_path_between_busy_hosts(rtt_s: float, busy: float) -> None:
    # ssh buffers two megabytes, and the receiver may wait for its CPU.
    simulation = settled(Path(1000 * MBIT, rtt_s, busy_s=busy, buffer_bytes=2.2e6))
    assert utilization(simulation, 1) >= 0.95


def test_varying_rate_under_a_window_never_full_starts_no_probe() -> None:
    # On a LAN the CPUs set the rate, and each probe would be a gap in the traffic.
    window = Window(0.0)
    total = 0
    for tick in range(9000):
        now = tick / 1000
        quota = window.send_quota
        batch = min(quota, 300_000 if tick % 1000 < 400 else 150_000)
        if tick >= 100:
            assert batch < quota
        total += batch
        window.on_sent(total, now)
        window.on_ack(total, now + 0.0003)
    assert window.rate == pytest.approx(75e6, rel=0.1)


def test_initial_window_is_ten_frames() -> None:
    window = Window(0.0)
    assert window.send_quota == 10 * FULL_FRAME
    window.on_sent(9 * FULL_FRAME + 1, 0.0)
    assert window.send_quota == FULL_FRAME - 1
    window.on_sent(11 * FULL_FRAME, 0.0)
    assert window.send_quota == 0


def test_bytes_sent_before_the_window_give_no_rate_sample() -> None:
    before = 50_000_000
    window = Window(1.0, sent=before)
    assert window.bytes_in_flight == before
    window.on_sent(before + FULL_FRAME, 1.0)
    window.on_ack(before, 1.02)
    window.on_ack(before + FULL_FRAME, 1.02)
    assert (window.rate, window.bytes_in_flight) == (0, 0)
    window.on_sent(before + 11 * FULL_FRAME, 1.02)
    window.on_ack(before + 11 * FULL_FRAME, 1.04)
    assert window.rate == pytest.approx(10 * FULL_FRAME / 0.02)


def test_bytes_sent_before_the_window_give_no_rtt_sample() -> None:
    window = Window(1.0, sent=1000)
    window.on_ack(1000, 1.0)
    assert window.min_rtt_s is None
    window.on_sent(2000, 1.0)
    window.on_ack(2000, 1.03)
    assert window.min_rtt_s == pytest.approx(0.03)


def test_frame_larger_than_the_window_is_paced_as_a_whole() -> None:
    window = Window(0.0, size=100)
    window.on_sent(9000, 0.0)
    window.on_ack(9000, 0.1)
    assert window.pacing_rate >= FULL_FRAME / 0.1


def test_idle_path_always_has_quota_for_one_frame() -> None:
    # A modem that needs two minutes per frame.
    window, now, total = Window(0.0), 0.0, 0
    for _ in range(20):
        assert window.send_quota > 0
        total += FULL_FRAME
        window.on_sent(total, now)
        now += 120.0
        window.on_ack(total, now)


# --- paths change ---------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0, 1.4, 0.5])
def test_window_follows_a_route_change(factor: float) -> None:
    path = Path(100 * MBIT, 0.05)
    simulation = settled(path)
    path.rtt_s *= factor
    simulation.run(max(2.0, 20 * path.rtt_s))
    assert utilization(simulation, 2) >= 0.9
    simulation.run(20)
    assert simulation.median_rtt_s(simulation.now - 2) <= 1.5 * path.rtt_s + 0.004


def test_window_shrinks_when_the_route_becomes_ten_times_shorter() -> None:
    path = Path(100 * MBIT, 0.1)
    simulation = settled(path)
    path.rtt_s = 0.01
    simulation.run(15)
    assert simulation.median_rtt_s(simulation.now - 1) <= 0.03


def test_window_follows_a_route_ten_times_longer_within_twenty_round_trips() -> None:
    path = Path(100 * MBIT, 0.02)
    simulation = settled(path)
    path.rtt_s = 0.2
    simulation.run(20 * 0.2)
    assert utilization(simulation, 2) >= 0.9


def test_rate_drop_while_app_limited_is_found_behind_a_long_queue() -> None:
    # All records in flight are app-limited, and their bytes meet a long queue.
    path = Path(12.5 * MBIT, 0.4)
    simulation = settled(path)
    simulation.offer(0)
    simulation.run(1)
    simulation.offer(10 * FULL_FRAME)
    path.rate /= 100
    simulation.offer(math.inf)
    simulation.run(1.3 * 0.4 * 100 + 20 * 0.4)
    assert utilization(simulation, 20) >= 0.9
    assert simulation.median_rtt_s(simulation.now - 10) <= 1.2


def test_hundredfold_rate_increase_is_found_within_fifteen_round_trips() -> None:
    path = Path(2 * MBIT, 0.1)
    simulation = settled(path)
    path.rate = 200 * MBIT
    simulation.run(1.5)
    assert utilization(simulation, 1) >= 0.9


def test_window_shrinks_when_the_rate_falls_during_a_probe() -> None:
    path = Path(MBIT * 9, 0.0002)
    simulation = Simulation(path)
    simulation.run(1.0)
    # The window does not export whether it probes.
    while not simulation.window._min_rtt.probing:
        assert simulation.now < 30
        simulation.run(0.001)
    path.rate /= 100
    simulation.run(2.0)
    assert simulation.window.bytes_in_flight <= 3 * path.rate


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_one_stall_and_burst_of_acks_leaves_the_estimates_unchanged(seconds: float) -> None:
    simulation = settled(dsl())
    rate, size = simulation.window.rate, simulation.window.size
    simulation.stall(seconds)
    simulation.run(seconds + 0.2)
    assert simulation.window.rate == pytest.approx(rate, rel=0.05)
    assert simulation.window.size == pytest.approx(size, rel=0.3)
    assert utilization(simulation, 1) >= 0.95


def test_path_with_losses_stays_full() -> None:
    # After a loss, the outer TCP delivers nothing for a round trip.
    simulation = settled(dsl())
    simulation.every(0.5, lambda: simulation.stall(0.03))
    assert utilization(simulation, 20) >= 0.85
    assert simulation.window.rate == pytest.approx(10 * MBIT, rel=0.3)
    assert simulation.median_rtt_s(simulation.now - 10) <= 0.06


# --- app-limited traffic --------------------------------------------------------------------------


def test_app_limited_traffic_leaves_the_rate_unchanged() -> None:
    simulation = settled(dsl())
    rate = simulation.window.rate
    simulation.offer(0)
    simulation.every(0.1, lambda: simulation.offer(FULL_FRAME))
    simulation.run(60)
    assert simulation.window.rate == pytest.approx(rate, rel=0.01)


def test_app_limited_traffic_does_not_overestimate_the_rate_of_a_new_link() -> None:
    simulation = Simulation(dsl())
    simulation.every(0.1, lambda: simulation.offer(4 * FULL_FRAME))
    simulation.run(20)
    assert 0 < simulation.window.rate <= 1.1 * 10 * MBIT


def test_idle_hour_leaves_the_rate_unchanged() -> None:
    simulation = settled(dsl())
    rate = simulation.window.rate
    simulation.offer(0)
    simulation.run(3600)
    simulation.offer(math.inf)
    assert utilization(simulation, 1) >= 0.9
    assert simulation.window.rate == pytest.approx(rate, rel=0.05)


def test_rate_drop_during_idle_time_is_found_under_load() -> None:
    path = dsl()
    simulation = settled(path)
    simulation.offer(0)
    simulation.run(1)
    path.rate = 1 * MBIT
    simulation.offer(math.inf)
    simulation.run(2)
    assert utilization(simulation, 2) >= 0.9
    assert simulation.median_rtt_s(simulation.now - 1) <= 0.1


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtt_s", [0.001, 0.03, 0.2])
def test_coarse_clock_is_sufficient(rtt_s: float) -> None:
    simulation = settled(Path(10 * MBIT, rtt_s), tick_s=1 / 64)
    assert utilization(simulation, 5) >= 0.9
    assert simulation.median_rtt_s(simulation.now - 2) <= 1.5 * rtt_s + 4 / 64


def test_stopped_clock_does_not_limit_the_window() -> None:
    window, total = Window(7.0), 0
    for _ in range(200):
        size = window.send_quota
        assert size > 0
        total += size
        window.on_sent(total, 7.0)
        window.on_ack(total, 7.0)
    assert window.send_quota > 10 * FULL_FRAME


# --- misbehaving peers ----------------------------------------------------------------------------


def test_ack_of_unsent_bytes_is_rejected() -> None:
    window = Window(0.0)
    window.on_sent(1000, 0.0)
    with pytest.raises(ValueError, match="acknowledged 1001 bytes, where 1000 were sent"):
        window.on_ack(1001, 0.1)


def test_ack_below_an_earlier_one_is_rejected() -> None:
    window = Window(0.0)
    window.on_sent(1000, 0.0)
    window.on_ack(600, 0.1)
    window.on_ack(600, 0.2)
    with pytest.raises(ValueError, match="600 were acknowledged before"):
        window.on_ack(599, 0.3)


def test_records_of_unacknowledged_batches_are_bounded() -> None:
    window = Window(0.0)
    for total in range(1, 20_000):
        window.on_sent(total, total / 1000)
    assert len(window._records) < 5000
    window.on_ack(19_999, 30.0)
    assert window.bytes_in_flight == 0
