"""Places that users share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vknet.vknetd.places import Places

ALICE, BOB, CAROL, ROOT = 1000, 1001, 1002, 0


def taken_by(places: Places, uid: int) -> int:
    """Take places for a user until it gets no more; return their number."""
    number = 0
    while places.take(uid):
        number += 1
    return number


def test_one_user_gets_half_and_the_next_ones_get_a_share() -> None:
    places = Places(256, [ROOT])
    assert taken_by(places, ALICE) == 128
    assert taken_by(places, BOB) == 64
    assert taken_by(places, CAROL) == 32
    assert places.free == 32


def test_exempt_user_may_take_every_place() -> None:
    places = Places(32, [ROOT])
    assert taken_by(places, ALICE) == 16
    assert taken_by(places, ROOT) == 16
    assert not places.take(BOB)


def test_place_that_is_given_back_can_be_taken_by_another_user() -> None:
    places = Places(4)
    assert taken_by(places, ALICE) == 2
    assert taken_by(places, BOB) == 1
    assert not places.take(ALICE)
    places.give_back(BOB)
    places.give_back(ALICE)
    assert places.held_by(ALICE) == 1
    assert places.held_by(BOB) == 0
    assert taken_by(places, BOB) == 2


def test_only_place_goes_to_any_user() -> None:
    places = Places(1)
    assert places.take(ALICE)
    assert not places.take(BOB)


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=200))
def test_a_user_without_a_place_gets_one_while_any_is_free(
    total: int, script: list[tuple[bool, int]]
) -> None:
    places = Places(total, [ROOT])
    held = dict.fromkeys(range(6), 0)
    for takes, uid in script:
        if takes:
            before = places.free
            granted = places.take(uid)
            assert granted or before == 0 or (uid != ROOT and held[uid] >= before)
            held[uid] += granted
        elif held[uid]:
            places.give_back(uid)
            held[uid] -= 1
        assert places.taken == sum(held.values()) <= total
        assert all(places.held_by(user) == number for user, number in held.items())
