"""The pacer: no bursts on a slow path, and no pacing on a fast one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vknet.congestion.pacer import BURST_S, LATE_CREDIT_S, UNPACED_RATE, Pacer
from vknet.packet.ethernet import FULL_FRAME


def test_fast_path_is_not_paced() -> None:
    pacer = Pacer()
    for _ in range(3):
        assert pacer.budget(UNPACED_RATE, 1.0) == math.inf
        pacer.on_sent(10_000_000, UNPACED_RATE, 1.0)


@pytest.mark.parametrize("rate", [8e3, 1e6, 15e6])
def test_next_burst_may_go_when_the_last_one_has_drained(rate: float) -> None:
    pacer = Pacer()
    budget = pacer.budget(rate, 1.0)
    assert budget == max(1.0, BURST_S * rate)
    pacer.on_sent(FULL_FRAME, rate, 1.0)
    assert pacer.next_at == pytest.approx(1.0 - BURST_S + FULL_FRAME / rate)
    pacer.on_sent(FULL_FRAME, rate, pacer.next_at)
    assert pacer.next_at == pytest.approx(1.0 - BURST_S + 2 * FULL_FRAME / rate)
    assert pacer.budget(rate, pacer.next_at - 1e-6) == 0
    assert pacer.budget(rate, pacer.next_at) == budget


def test_idle_time_earns_one_burst_only() -> None:
    pacer = Pacer()
    pacer.on_sent(FULL_FRAME, 1e6, 1.0)
    pacer.on_sent(FULL_FRAME, 1e6, 50.0)
    assert pacer.next_at == pytest.approx(50.0 - BURST_S + FULL_FRAME / 1e6)


def test_late_wakeup_is_made_up_for_within_the_credit() -> None:
    pacer = Pacer()
    pacer.on_sent(FULL_FRAME, 1e6, 1.0)
    late = pacer.next_at + LATE_CREDIT_S - 0.001
    pacer.on_sent(FULL_FRAME, 1e6, late, waited=True)
    assert pacer.next_at == pytest.approx(1.0 - BURST_S + 2 * FULL_FRAME / 1e6)
    pacer.on_sent(FULL_FRAME, 1e6, 50.0, waited=True)
    assert pacer.next_at == pytest.approx(50.0 - LATE_CREDIT_S + FULL_FRAME / 1e6)


def test_higher_rate_shortens_the_current_wait() -> None:
    pacer = Pacer()
    pacer.on_sent(FULL_FRAME, 1e3, 1.0)
    assert pacer.budget(1e3, 1.1) == 0
    assert pacer.next_at == pytest.approx(1.0 - BURST_S + FULL_FRAME / 1e3)
    assert pacer.budget(1e6, 1.1) > 0


@settings(deadline=None, max_examples=100)
@given(st.floats(1e4, 1.5e7), st.lists(st.floats(0, 0.05), min_size=1, max_size=200))
def test_sent_bytes_never_exceed_the_pacing_rate(rate: float, pauses: list[float]) -> None:
    pacer = Pacer()
    now = start = 1.0
    total = 0
    for pause in pauses:
        now += pause
        budget = pacer.budget(rate, now)
        size = 0
        while size < budget:
            size += FULL_FRAME
        if size:
            pacer.on_sent(size, rate, now)
            total += size
    assert total <= rate * (now - start + 2 * BURST_S) + FULL_FRAME


def test_burst_is_what_two_milliseconds_of_the_rate_carry() -> None:
    assert 1_500 <= Pacer().budget(1e6, 1.0) <= 3_000


def test_wakeup_that_is_ten_milliseconds_late_is_made_up_for() -> None:
    on_time_s = FULL_FRAME / 1e6
    for late_s, is_made_up_for in ((0.008, True), (0.015, False)):
        pacer = Pacer()
        pacer.on_sent(FULL_FRAME, 1e6, 1.0)
        first = pacer.next_at
        pacer.on_sent(FULL_FRAME, 1e6, first + late_s, waited=True)
        assert (pacer.next_at == pytest.approx(first + on_time_s)) is is_made_up_for


@pytest.mark.parametrize(("mbit", "is_paced"), [(100, True), (200, False)])
def test_path_is_paced_while_a_burst_is_smaller_than_an_ssh_packet(
    mbit: float, is_paced: bool
) -> None:
    budget = Pacer().budget(mbit * 1e6 / 8, 1.0)
    assert math.isfinite(budget) is is_paced
    assert (budget < 32 * 1024) is is_paced
