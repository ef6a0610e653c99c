"""The pacer: no bunches on a slow path, and nothing at all on a fast one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vknet.congestion.pacer import GRAIN, LATE, UNPACED, Pacer

FULL = 1514


def test_a_fast_path_knows_no_wait() -> None:
    pacer = Pacer()
    for _ in range(3):
        assert pacer.budget(UNPACED, 1.0) == math.inf
        pacer.on_sent(10_000_000, UNPACED, 1.0)


@pytest.mark.parametrize("pace", [8e3, 1e6, 15e6])
def test_a_grain_may_go_and_the_next_when_it_is_through(pace: float) -> None:
    pacer = Pacer()
    room = pacer.budget(pace, 1.0)
    assert room == max(1.0, GRAIN * pace)
    pacer.on_sent(FULL, pace, 1.0)
    assert pacer.next_at == pytest.approx(1.0 - GRAIN + FULL / pace)
    pacer.on_sent(FULL, pace, pacer.next_at)
    assert pacer.next_at == pytest.approx(1.0 - GRAIN + 2 * FULL / pace)
    assert pacer.budget(pace, pacer.next_at - 1e-6) == 0
    assert pacer.budget(pace, pacer.next_at) == room


def test_who_was_idle_saves_nothing_up() -> None:
    pacer = Pacer()
    pacer.on_sent(FULL, 1e6, 1.0)
    pacer.on_sent(FULL, 1e6, 50.0)
    assert pacer.next_at == pytest.approx(50.0 - GRAIN + FULL / 1e6)


def test_who_was_woken_late_makes_up_for_it_within_bounds() -> None:
    pacer = Pacer()
    pacer.on_sent(FULL, 1e6, 1.0)
    late = pacer.next_at + LATE - 0.001
    pacer.on_sent(FULL, 1e6, late, waited=True)
    assert pacer.next_at == pytest.approx(1.0 - GRAIN + 2 * FULL / 1e6)
    pacer.on_sent(FULL, 1e6, 50.0, waited=True)
    assert pacer.next_at == pytest.approx(50.0 - LATE + FULL / 1e6)


def test_who_waits_at_a_pace_that_was_wrong_waits_no_longer() -> None:
    pacer = Pacer()
    pacer.on_sent(FULL, 1e3, 1.0)
    assert pacer.budget(1e3, 1.1) == 0
    assert pacer.next_at == pytest.approx(1.0 - GRAIN + FULL / 1e3)
    assert pacer.budget(1e6, 1.1) > 0


@settings(deadline=None, max_examples=100)
@given(st.floats(1e4, 1.5e7), st.lists(st.floats(0, 0.05), min_size=1, max_size=200))
def test_never_more_goes_than_the_pace_allows(pace: float, pauses: list[float]) -> None:
    pacer = Pacer()
    now = start = 1.0
    sent = 0
    for pause in pauses:
        now += pause
        room = pacer.budget(pace, now)
        took = 0
        while took < room:
            took += FULL
        if took:
            pacer.on_sent(took, pace, now)
            sent += took
    assert sent <= pace * (now - start + 2 * GRAIN) + FULL
