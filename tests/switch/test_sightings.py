"""The bounded memory of addresses that were seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vknet.switch.sightings import ADMITTED_PER_S, HOLD_S, PROVEN_S, SIGHTINGS_MAX, Sightings


def test_key_is_remembered_until_it_was_not_seen_for_the_hold_time() -> None:
    seen = Sightings[str](hold_s=60)
    assert seen.see("a", 0)
    assert not seen.see("a", 30)
    assert seen.expire(89) == 0
    assert "a" in seen
    assert seen.expire(90) == 1
    assert "a" not in seen
    assert seen.see("a", 91)


def test_flood_evicts_no_proven_key() -> None:
    seen = Sightings[int]()
    for now in (0, PROVEN_S):
        assert seen.see(-1, now) == (now == 0)
    # A flood that lasts for as long as a proven key is held, many times faster than admitted.
    for number in range(10 * SIGHTINGS_MAX):
        seen.see(number, PROVEN_S + number * (HOLD_S - 1) / (10 * SIGHTINGS_MAX))
    assert -1 in seen
    assert len(seen) <= SIGHTINGS_MAX
    assert seen.refused > 0


def test_short_flood_evicts_no_newcomer() -> None:
    seen = Sightings[int]()
    seen.see(-1, 0)
    for number in range(100_000):
        seen.see(number, number / 100_000)
    assert -1 in seen
    assert len(seen) <= SIGHTINGS_MAX // 2


def test_key_that_comes_after_a_flood_is_remembered() -> None:
    seen = Sightings[int]()
    for number in range(100_000):
        seen.see(number, number / 100_000)
    assert seen.see(-1, 1 + 1 / ADMITTED_PER_S)
    assert -1 in seen


def test_full_memory_of_proven_keys_takes_no_more() -> None:
    seen = Sightings[int](limit=4)
    seen.see(1, 0)
    seen.see(2, 100)
    for now in (101, 102):
        for key in (1, 2):
            seen.see(key, now)
    for now in (200, 300, 400):
        seen.see(3, now)
        seen.see(4, now)
        seen.see(5, now)
    assert 1 in seen
    assert 2 in seen
    assert len(seen) <= 4


@pytest.mark.parametrize("limit", [0, 1])
def test_limit_without_room_for_two_segments_is_rejected(limit: int) -> None:
    with pytest.raises(ValueError, match="at least two keys"):
        Sightings[int](limit)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0, 30.0])),
        max_size=60,
    ),
    st.integers(2, 8),
)
def test_memory_is_bounded_and_holds_nothing_too_old(
    script: list[tuple[int, float]], limit: int
) -> None:
    seen = Sightings[int](limit, hold_s=20)
    last: dict[int, float] = {}
    now = 0.0
    for key, pause in script:
        now += pause
        seen.expire(now)
        for known in range(13):
            if known in seen:
                assert now - last[known] < 20
        was_known = key in seen
        last[key] = now
        assert seen.see(key, now) == (not was_known and key in seen)
        if was_known:
            assert key in seen
        assert len(seen) <= limit
