"""The window, scene by scene, on simulated paths and by hand; the time is handed in."""

from __future__ import annotations

import math

import pytest

from tests.support.paths import MBIT, Path, Simulation, carried, dsl, settled
from vknet.congestion.ack_policy import AckPolicy
from vknet.congestion.reverse_delay import stamp
from vknet.congestion.window import Window
from vknet.packet.ethernet import FULL_FRAME

# --- the path is found, and stays found -----------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "round_trip"), [(2, 0.02), (10, 0.03), (100, 0.1), (160, 0.1), (1000, 0.001)]
)
def test_a_new_link_is_at_full_rate_within_ten_round_trips(rate: float, round_trip: float) -> None:
    # The last but one is two megabytes under way, which is as much as ssh lets be.
    path = Path(rate * MBIT, round_trip)
    simulation = Simulation(path)
    simulation.run(9 * round_trip)
    assert carried(simulation, max(2 * round_trip, 0.02)) >= 0.9


def test_on_a_lan_a_window_of_which_all_is_answered_opens_within_ten_round_trips() -> None:
    window, ack_policy = Window(0.0), AckPolicy()
    now, sent, round_trip = 0.0, 0, 0.0004
    rounds = 0
    # As much as a pipe holds.
    while window.size < 1024 * 1024:
        rounds += 1
        assert rounds <= 10
        sent += window.send_quota
        window.on_sent(sent, now)
        now += round_trip
        ack_policy.on_delivered(sent - ack_policy.delivered_bytes, now)
        # A TCP answers what it is handed before that has returned.
        assert ack_policy.due(piggyback=True) <= now
        ack_policy.on_ack_sent(now)
        window.on_ack(ack_policy.delivered_bytes, now, stamp(now))


def test_the_round_trip_does_not_creep_up_under_a_load_that_lasts() -> None:
    simulation = settled(dsl())
    early = simulation.median_round_trip(simulation.now - 1)
    simulation.run(120)
    assert simulation.median_round_trip(simulation.now - 1) <= 1.05 * early
    assert simulation.window.min_rtt_s is not None
    assert simulation.window.min_rtt_s <= 1.1 * 0.03


def test_a_load_that_begins_after_a_pause_is_no_probe() -> None:
    # The first batch after it finds the path empty, and so sees all that a probe is to see.
    window = Window(0.0)
    total, now = 0, 0.0
    for pause in [0.05] * 40 + [15.0, 0.05]:
        now += pause
        total += 100
        window.on_sent(total, now)
        # Never again as short as the first time.
        window.on_ack(total, now + (0.0300 if total == 100 else 0.0305))
    assert window.min_rtt_s == pytest.approx(0.0305)
    # What a probe lets be under way.
    assert window.size > FULL_FRAME


def test_a_probe_of_a_fixed_window_ends() -> None:
    simulation = Simulation(dsl())
    window = simulation.window = Window(0.0, size=50_000)
    sizes: list[int] = []
    simulation.run(5)
    simulation.every(0.005, lambda: sizes.append(window.size))
    simulation.run(20)
    assert max(sizes) == 50_000
    assert 1 <= sum(size < 50_000 for size in sizes) <= 100
    assert sizes[-1] == 50_000


def test_a_probe_costs_one_part_in_twenty_at_most() -> None:
    for path in (dsl(), Path(10 * MBIT, 0.5), Path(2 * MBIT, 1.6)):
        simulation = settled(path)
        assert carried(simulation, max(60.0, 120 * path.round_trip)) >= 0.95


def test_a_probe_sees_the_path_without_the_queue() -> None:
    # A queue of the first seconds is all that is known of the round trip.
    path = dsl()
    simulation = Simulation(path)
    window = simulation.window
    simulation.run(3)
    window._min_rtt.min_rtt_s = 0.06
    simulation.run(0.5)
    assert simulation.median_round_trip(simulation.now - 0.2) > 0.05
    simulation.run(15)
    assert window.min_rtt_s == pytest.approx(0.03, abs=0.004)


def test_what_arrives_unevenly_is_still_carried() -> None:
    simulation = settled(Path(100 * MBIT, 0.1, jitter=0.01))
    assert carried(simulation, 5) >= 0.95


# --- a fast path is left alone --------------------------------------------------------------------


@pytest.mark.parametrize(("round_trip", "busy"), [(0.0003, 0.002), (0.0003, 0.008), (0.002, 0.008)])
def test_a_fast_path_with_busy_ends_is_as_fast_as_without_a_window(
    round_trip: float, busy: float
) -> None:
    # ssh takes in two megabytes and no more, and the receiver is away for a scheduler's turn.
    simulation = settled(Path(1000 * MBIT, round_trip, busy=busy, buffer=2.2e6))
    assert carried(simulation, 1) >= 0.95


def test_a_rate_that_wavers_under_a_window_never_full_is_no_reason_for_a_probe() -> None:
    # So it is on a LAN, where processors set the rate: each probe would be a gap.
    window = Window(0.0)
    total = 0
    for tick in range(9000):
        now = tick / 1000
        room = window.send_quota
        batch = min(room, 300_000 if tick % 1000 < 400 else 150_000)
        if tick >= 100:
            assert batch < room
        total += batch
        window.on_sent(total, now)
        window.on_ack(total, now + 0.0003)
    assert window.rate == pytest.approx(75e6, rel=0.1)


def test_before_the_first_ack_ten_frames_may_go() -> None:
    window = Window(0.0)
    assert window.send_quota == 10 * FULL_FRAME
    window.on_sent(9 * FULL_FRAME + 1, 0.0)
    assert window.send_quota == FULL_FRAME - 1
    window.on_sent(11 * FULL_FRAME, 0.0)
    assert window.send_quota == 0


def test_what_was_sent_before_says_nothing_of_the_rate() -> None:
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


def test_what_was_sent_before_says_nothing_of_the_round_trip() -> None:
    window = Window(1.0, sent=1000)
    window.on_ack(1000, 1.0)
    assert window.min_rtt_s is None
    window.on_sent(2000, 1.0)
    window.on_ack(2000, 1.03)
    assert window.min_rtt_s == pytest.approx(0.03)


def test_a_frame_larger_than_the_window_is_paced_as_a_window() -> None:
    window = Window(0.0, size=100)
    window.on_sent(9000, 0.0)
    window.on_ack(9000, 0.1)
    assert window.pacing_rate >= FULL_FRAME / 0.1


def test_there_is_always_room_for_one_frame_on_an_empty_path() -> None:
    # A modem that takes two minutes for a frame.
    window, now, total = Window(0.0), 0.0, 0
    for _ in range(20):
        assert window.send_quota > 0
        total += FULL_FRAME
        window.on_sent(total, now)
        now += 120.0
        window.on_ack(total, now)


# --- paths change ---------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0, 1.4, 0.5])
def test_a_route_that_changes_its_length_is_followed(factor: float) -> None:
    path = Path(100 * MBIT, 0.05)
    simulation = settled(path)
    path.round_trip *= factor
    simulation.run(max(2.0, 20 * path.round_trip))
    assert carried(simulation, 2) >= 0.9
    simulation.run(20)
    assert simulation.median_round_trip(simulation.now - 2) <= 1.5 * path.round_trip + 0.004


def test_a_route_a_tenth_as_long_is_not_filled_with_the_old_one_s_bytes_for_long() -> None:
    path = Path(100 * MBIT, 0.1)
    simulation = settled(path)
    path.round_trip = 0.01
    simulation.run(15)
    assert simulation.median_round_trip(simulation.now - 1) <= 0.03


def test_a_route_ten_times_as_long_is_followed_within_twenty_round_trips() -> None:
    path = Path(100 * MBIT, 0.02)
    simulation = settled(path)
    path.round_trip = 0.2
    simulation.run(20 * 0.2)
    assert carried(simulation, 2) >= 0.9


def test_a_rate_that_falls_while_the_sender_has_little_is_followed_when_it_has_more() -> None:
    # All that is under way was sent after a time with less, and is a long queue before it is over.
    path = Path(12.5 * MBIT, 0.4)
    simulation = settled(path)
    simulation.offer(0)
    simulation.run(1)
    simulation.offer(10 * FULL_FRAME)
    path.rate /= 100
    simulation.offer(math.inf)
    simulation.run(1.3 * 0.4 * 100 + 20 * 0.4)
    assert carried(simulation, 20) >= 0.9
    assert simulation.median_round_trip(simulation.now - 10) <= 1.2


def test_a_rate_that_rises_a_hundredfold_is_found_within_fifteen_round_trips() -> None:
    path = Path(2 * MBIT, 0.1)
    simulation = settled(path)
    path.rate = 200 * MBIT
    simulation.run(1.5)
    assert carried(simulation, 1) >= 0.9


def test_a_rate_that_falls_during_a_probe_is_not_filled_with_the_old_one_s_bytes() -> None:
    path = Path(MBIT * 9, 0.0002)
    simulation = Simulation(path)
    simulation.run(1.0)
    # No `MinRttEstimator` tells from outside that it probes.
    while not simulation.window._min_rtt.probing:
        assert simulation.now < 30
        simulation.run(0.001)
    path.rate /= 100
    simulation.run(2.0)
    assert simulation.window.bytes_in_flight <= 3 * path.rate


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_acks_that_stop_and_come_in_a_bunch_are_forgotten_at_once(seconds: float) -> None:
    simulation = settled(dsl())
    rate, size = simulation.window.rate, simulation.window.size
    simulation.stop(seconds)
    simulation.run(seconds + 0.2)
    assert simulation.window.rate == pytest.approx(rate, rel=0.05)
    assert simulation.window.size == pytest.approx(size, rel=0.3)
    assert carried(simulation, 1) >= 0.95


def test_a_path_that_loses_now_and_then_is_kept_full() -> None:
    # Every loss stops what the outer TCP delivers for a round trip.
    simulation = settled(dsl())
    simulation.every(0.5, lambda: simulation.stop(0.03))
    assert carried(simulation, 20) >= 0.85
    assert simulation.window.rate == pytest.approx(10 * MBIT, rel=0.3)
    assert simulation.median_round_trip(simulation.now - 10) <= 0.06


# --- a sender that has little to send -------------------------------------------------------------


def test_little_traffic_says_nothing_about_the_rate() -> None:
    simulation = settled(dsl())
    rate = simulation.window.rate
    simulation.offer(0)
    simulation.every(0.1, lambda: simulation.offer(FULL_FRAME))
    simulation.run(60)
    assert simulation.window.rate == pytest.approx(rate, rel=0.01)


def test_little_traffic_does_not_raise_the_rate_of_a_new_link_beyond_the_path() -> None:
    simulation = Simulation(dsl())
    simulation.every(0.1, lambda: simulation.offer(4 * FULL_FRAME))
    simulation.run(20)
    assert 0 < simulation.window.rate <= 1.1 * 10 * MBIT


def test_an_hour_of_silence_does_not_count_as_a_slow_path() -> None:
    simulation = settled(dsl())
    rate = simulation.window.rate
    simulation.offer(0)
    simulation.run(3600)
    simulation.offer(math.inf)
    assert carried(simulation, 1) >= 0.9
    assert simulation.window.rate == pytest.approx(rate, rel=0.05)


def test_a_rate_that_fell_while_little_was_sent_is_found_when_there_is_more() -> None:
    path = dsl()
    simulation = settled(path)
    simulation.offer(0)
    simulation.run(1)
    path.rate = 1 * MBIT
    simulation.offer(math.inf)
    simulation.run(2)
    assert carried(simulation, 2) >= 0.9
    assert simulation.median_round_trip(simulation.now - 1) <= 0.1


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("round_trip", [0.001, 0.03, 0.2])
def test_a_coarse_clock_does(round_trip: float) -> None:
    simulation = settled(Path(10 * MBIT, round_trip), tick=1 / 64)
    assert carried(simulation, 5) >= 0.9
    assert simulation.median_round_trip(simulation.now - 2) <= 1.5 * round_trip + 4 / 64


def test_a_clock_that_stands_still_limits_nothing() -> None:
    window, total = Window(7.0), 0
    for _ in range(200):
        size = window.send_quota
        assert size > 0
        total += size
        window.on_sent(total, 7.0)
        window.on_ack(total, 7.0)
    assert window.send_quota > 10 * FULL_FRAME


# --- a peer that cannot count ---------------------------------------------------------------------


def test_an_ack_of_what_was_never_sent_ends_the_link() -> None:
    window = Window(0.0)
    window.on_sent(1000, 0.0)
    with pytest.raises(ValueError, match="acknowledged 1001 bytes, where 1000 were sent"):
        window.on_ack(1001, 0.1)


def test_an_ack_that_takes_back_another_ends_the_link() -> None:
    window = Window(0.0)
    window.on_sent(1000, 0.0)
    window.on_ack(600, 0.1)
    window.on_ack(600, 0.2)
    with pytest.raises(ValueError, match="600 were acknowledged before"):
        window.on_ack(599, 0.3)


def test_a_peer_that_never_acknowledges_costs_a_bounded_memory() -> None:
    window = Window(0.0)
    for total in range(1, 20_000):
        window.on_sent(total, total / 1000)
    assert len(window._records) < 5000
    window.on_ack(19_999, 30.0)
    assert window.bytes_in_flight == 0
