"""CoDel's law, step by step; times are in milliseconds here, whole ones where the law allows."""

from __future__ import annotations

import pytest

from vknet.qdisc.codel import Codel

INTERVAL = 100.0


def signals(codel: Codel, times: range) -> list[int]:
    """When CoDel asks for a signal, if a packet is late at each of these times."""
    return [now for now in times if codel.should_signal(now, INTERVAL)]


def test_a_queue_that_is_late_for_less_than_an_interval_is_a_burst() -> None:
    codel = Codel()
    assert signals(codel, range(1000, 1100)) == []
    codel.on_below_target()
    assert signals(codel, range(1100, 1200)) == []


def test_a_queue_that_stands_is_signalled_ever_more_often() -> None:
    codel = Codel()
    # 1100 + 100 + 100/sqrt(2) + 100/sqrt(3) + ..., each rounded up to the next packet.
    assert signals(codel, range(1000, 1500)) == [1100, 1200, 1271, 1329, 1379, 1424, 1464]
    assert codel.count == 7


def test_one_packet_in_time_ends_it() -> None:
    codel = Codel()
    signals(codel, range(1000, 1300))
    codel.on_below_target()
    assert signals(codel, range(1300, 1400)) == []


def test_a_queue_that_stands_again_soon_is_signalled_at_the_last_rate() -> None:
    codel = Codel()
    signals(codel, range(1000, 1500))
    codel.on_below_target()
    # Seven signals it took, of which the first is not to be repeated: the distance is 100/sqrt(6).
    assert signals(codel, range(2000, 2180)) == [2100, 2141, 2179]


def test_the_last_rate_is_forgotten_after_sixteen_intervals() -> None:
    codel = Codel()
    signals(codel, range(1000, 1500))
    codel.on_below_target()
    assert signals(codel, range(4000, 4280)) == [4100, 4200, 4271]


def test_only_what_the_last_time_added_is_taken_up_again() -> None:
    codel = Codel()
    signals(codel, range(1000, 1500))
    codel.on_below_target()
    assert signals(codel, range(2000, 2140)) == [2100]
    codel.on_below_target()
    # Nothing was added to the six: it begins anew.
    assert signals(codel, range(3000, 3280)) == [3100, 3200, 3271]


@pytest.mark.parametrize("late_for", [500, 3000])
def test_after_a_stall_the_signals_that_were_due_come_at_once(late_for: int) -> None:
    codel = Codel()
    assert signals(codel, range(1000, 1101)) == [1100]
    now = 1100 + late_for
    due, when = 0, 1200.0
    while when <= now:
        due += 1
        when += INTERVAL / (1 + due) ** 0.5
    burst = 0
    while codel.should_signal(now, INTERVAL):
        burst += 1
    assert burst == due > 5
