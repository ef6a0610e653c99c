"""CoDel's control law, step by step.  Times are in milliseconds, so that most are whole numbers."""

from __future__ import annotations

import pytest

from vknet.qdisc.codel import Codel

INTERVAL = 100.0


def signals(codel: Codel, times: range) -> list[int]:
    """Return when CoDel signals, if a packet above the target leaves at each of these times."""
    return [now for now in times if codel.should_signal(now, INTERVAL)]


def test_queue_above_target_for_less_than_an_interval_is_not_signalled() -> None:
    codel = Codel()
    assert signals(codel, range(1000, 1100)) == []
    codel.on_below_target()
    assert signals(codel, range(1100, 1200)) == []


def test_standing_queue_is_signalled_at_a_rising_rate() -> None:
    codel = Codel()
    # 1100 + 100 + 100/sqrt(2) + 100/sqrt(3) + ..., each rounded up to the next packet.
    assert signals(codel, range(1000, 1500)) == [1100, 1200, 1271, 1329, 1379, 1424, 1464]
    assert codel.count == 7


def test_packet_below_target_ends_the_signals() -> None:
    codel = Codel()
    signals(codel, range(1000, 1300))
    codel.on_below_target()
    assert signals(codel, range(1300, 1400)) == []


def test_queue_that_goes_bad_again_soon_starts_at_the_last_rate() -> None:
    codel = Codel()
    signals(codel, range(1000, 1500))
    codel.on_below_target()
    # It took seven signals; the first is not repeated.  So the next interval is 100/sqrt(6).
    assert signals(codel, range(2000, 2180)) == [2100, 2141, 2179]


def test_last_rate_is_forgotten_after_sixteen_intervals() -> None:
    codel = Codel()
    signals(codel, range(1000, 1500))
    codel.on_below_target()
    assert signals(codel, range(4000, 4280)) == [4100, 4200, 4271]


def test_only_signals_of_the_last_bad_period_set_the_starting_rate() -> None:
    codel = Codel()
    signals(codel, range(1000, 1500))
    codel.on_below_target()
    assert signals(codel, range(2000, 2140)) == [2100]
    codel.on_below_target()
    # Nothing was added to the six signals, so the rate starts again.
    assert signals(codel, range(3000, 3280)) == [3100, 3200, 3271]


@pytest.mark.parametrize("stall_ms", [500, 3000])
def test_signals_due_during_a_stall_follow_it_at_once(stall_ms: int) -> None:
    codel = Codel()
    assert signals(codel, range(1000, 1101)) == [1100]
    now = 1100 + stall_ms
    due, when = 0, 1200.0
    while when <= now:
        due += 1
        when += INTERVAL / (1 + due) ** 0.5
    burst = 0
    while codel.should_signal(now, INTERVAL):
        burst += 1
    assert burst == due > 5
