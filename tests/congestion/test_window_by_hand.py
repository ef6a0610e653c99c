"""The window in steady state, with ACKs made by hand: slack, pacing, and what confirms a rate."""

from __future__ import annotations

import math
from collections import deque

import pytest

from tests.support.paths import dsl, settled
from vknet.congestion.window import Window
from vknet.packet.ethernet import FULL_FRAME


class Rounds:
    """A window whose sender sends one batch per round trip.

    Args:
        rate: the bytes per second that the batches amount to.
        rtt_s: the round-trip time.
        frame_bytes: the size of a frame.

    Attributes:
        window: the window.
        now: the time.
        rtt_s: see above; it may be changed.
    """

    def __init__(self, rate: float, rtt_s: float, *, frame_bytes: int = FULL_FRAME) -> None:
        self.window = Window(0.0)
        self.now = 0.0
        self.rtt_s = rtt_s
        self._sent = 0
        self._frame_bytes = frame_bytes
        for _ in range(100):
            self.send(int(rate * rtt_s))

    def send(self, size: int) -> None:
        """Send a batch, and acknowledge it after a round trip."""
        self._sent += size
        self.window.on_sent(self._sent, self.now, max(1, size // self._frame_bytes))
        self.now += self.rtt_s
        self.window.on_ack(self._sent, self.now)


def slack_s(rate: float, *, frame_bytes: int = 65_000) -> float:
    """Return the window's slack at this rate, in seconds, beyond the slack of a slow path.

    Args:
        rate: the rate in bytes per second.
        frame_bytes: the size of a frame; super-frames are too few to have a slack of their own.
    """
    rounds = Rounds(rate, 0.002, frame_bytes=frame_bytes)
    window = rounds.window
    assert window.rate == pytest.approx(rate, rel=0.02)
    assert not window.in_startup
    assert window.min_rtt_s is not None
    gain = 1.25
    return (window.size - FULL_FRAME) / window.rate - gain * window.min_rtt_s - 0.002


# --- slack ----------------------------------------------------------------------------------------


def test_slow_path_has_no_host_slack() -> None:
    assert slack_s(1e6) == pytest.approx(0, abs=0.001)


def test_host_slack_is_twelve_milliseconds_at_100_megabytes_per_second() -> None:
    assert 0.009 <= slack_s(100e6) <= 0.016


def test_host_slack_is_bounded_at_twenty_four_milliseconds() -> None:
    assert 0.018 <= slack_s(400e6) <= 0.032
    assert slack_s(800e6) == pytest.approx(slack_s(400e6), abs=0.001)


def test_slack_for_small_frames_begins_above_thirty_thousand_per_second() -> None:
    assert slack_s(25e3 * 64, frame_bytes=64) == pytest.approx(0, abs=0.002)
    assert 0.08 <= slack_s(45e3 * 64, frame_bytes=64) <= 0.17


def test_slack_for_small_frames_is_at_most_a_quarter_of_a_second() -> None:
    assert 0.19 <= slack_s(100e3 * 64, frame_bytes=64) <= 0.35
    assert slack_s(200e3 * 64, frame_bytes=64) == pytest.approx(
        slack_s(100e3 * 64, frame_bytes=64), abs=0.01
    )


# --- pacing ---------------------------------------------------------------------------------------


def test_startup_paces_a_window_over_half_the_min_rtt() -> None:
    window = Window(0.0)
    window.on_sent(10 * FULL_FRAME, 0.0)
    window.on_ack(10 * FULL_FRAME, 0.1)
    assert window.in_startup
    assert 0.035 <= window.size / window.pacing_rate <= 0.07


def test_window_is_paced_over_the_min_rtt_after_startup() -> None:
    window = Rounds(1e6, 0.1).window
    assert not window.in_startup
    assert window.size / window.pacing_rate == pytest.approx(0.1, rel=0.01)


# --- what confirms a rate -------------------------------------------------------------------------


def test_window_keeps_its_size_for_two_rounds_after_a_path_change() -> None:
    rounds = Rounds(1e6, 0.01)
    window = rounds.window
    before = window.size
    # The min RTT expires; the first batch on the idle path measures that of another path.
    rounds.now += 20.0
    rounds.rtt_s = 0.5
    sizes: list[int] = []
    for _ in range(8):
        rounds.send(FULL_FRAME)
        sizes.append(window.size)
    kept = sum(size == before for size in sizes)
    assert window.min_rtt_s == pytest.approx(0.5)
    assert (kept, sizes[kept]) == (2, 2 * before)


@pytest.mark.parametrize(("factor", "counts"), [(1.2, False), (2.0, True)])
def test_app_limited_sample_counts_only_behind_a_long_queue(factor: float, counts: bool) -> None:
    simulation = settled(dsl())
    simulation.offer(0)
    simulation.run(1)
    window, now, sent = simulation.window, simulation.now, simulation.acks[-1].total
    assert window.bytes_in_flight == 0
    before = window.rate
    # Ten batches fill the window; each is acknowledged after this number of times the RTT of a full
    # window, and then replaced.
    step_s = factor * window.size / window.rate / 10
    batch = math.ceil(window.size / 10)
    in_flight: deque[int] = deque()
    for _ in range(15 * 10):
        now += step_s
        if len(in_flight) == 10:
            window.on_ack(in_flight.popleft(), now)
        window.note_app_limited()
        sent += min(batch, window.send_quota)
        window.on_sent(sent, now)
        in_flight.append(sent)
    assert (window.rate < 0.9 * before) is counts
