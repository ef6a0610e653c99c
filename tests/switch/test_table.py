"""The MAC table; the tests pass the time."""

from __future__ import annotations

import pytest

from vknet.switch.table import AGE_S, ENTRIES_MAX, Entry, MacTable

A = bytes.fromhex("02000000000a")
B = bytes.fromhex("02000000000b")
C = bytes.fromhex("02000000000c")
BROADCAST = b"\xff" * 6
ALL_ZEROS = bytes(6)
START = 1000.0


@pytest.fixture
def table() -> MacTable[str]:
    return MacTable()


def station(number: int) -> bytes:
    return (0x02 << 40 | number).to_bytes(6, "big")


def test_address_is_found_on_the_port_where_it_was_seen(table: MacTable[str]) -> None:
    assert table.lookup(0, A, START) is None
    assert table.learn(0, A, "one", START)
    assert table.learn(0, B, "two", START)
    assert table.lookup(0, A, START) == "one"
    assert table.lookup(0, B, START) == "two"
    assert table.lookup(0, C, START) is None
    assert len(table) == 2
    assert table.moves == table.evictions == table.forgeries == 0


def test_address_is_on_two_ports_on_two_vlans(table: MacTable[str]) -> None:
    table.learn(5, A, "one", START)
    table.learn(6, A, "two", START)
    assert table.lookup(5, A, START) == "one"
    assert table.lookup(6, A, START) == "two"
    assert table.lookup(0, A, START) is None
    assert table.moves == 0


def test_address_seen_on_another_port_moves(table: MacTable[str]) -> None:
    table.learn(0, A, "one", START)
    table.learn(0, A, "two", START)
    assert table.lookup(0, A, START) == "two"
    assert (table.held_by("one"), table.held_by("two")) == (0, 1)
    table.learn(0, A, "one", START + 1)
    assert table.lookup(0, A, START + 1) == "one"
    assert table.moves == 2
    assert len(table) == 1


def test_address_used_by_two_ports_is_one_entry_that_moves_each_time(
    table: MacTable[str],
) -> None:
    for turn in range(1000):
        table.learn(0, A, ("one", "two")[turn % 2], START + turn)
    assert table.moves == 999
    assert len(table) == 1
    assert table.held_by("one") + table.held_by("two") == 1


@pytest.mark.parametrize("mac", [BROADCAST, ALL_ZEROS, bytes.fromhex("01005e0000fb")])
def test_group_and_all_zero_addresses_are_not_learned(table: MacTable[str], mac: bytes) -> None:
    assert not table.learn(0, mac, "one", START)
    assert table.lookup(0, mac, START) is None
    assert len(table) == 0
    assert table.forgeries == 0


def test_address_that_is_not_seen_again_ages(table: MacTable[str]) -> None:
    table.learn(0, A, "one", START)
    assert table.lookup(0, A, START + AGE_S - 0.001) == "one"
    assert table.lookup(0, A, START + AGE_S) is None
    assert table.expire(START + AGE_S - 0.001) == 0
    assert table.expire(START + AGE_S) == 1
    assert table.expire(START + AGE_S) == 0
    assert len(table) == table.held_by("one") == 0


def test_address_that_is_seen_within_the_aging_time_stays(table: MacTable[str]) -> None:
    for turn in range(10):
        table.learn(0, A, "one", START + turn * (AGE_S - 1))
    now = START + 9 * (AGE_S - 1)
    assert table.expire(now + AGE_S - 1) == 0
    assert table.lookup(0, A, now + AGE_S - 1) == "one"


def test_lookup_does_not_refresh_an_entry(table: MacTable[str]) -> None:
    table.learn(0, A, "one", START)
    for second in range(int(AGE_S)):
        assert table.lookup(0, A, START + second) == "one"
    assert table.lookup(0, A, START + AGE_S) is None


def test_expire_removes_only_aged_entries() -> None:
    table = MacTable[str](age=10)
    for second in range(10):
        table.learn(0, station(second), "one" if second % 2 else "two", START + second)
    assert table.expire(START + 14) == 5
    assert [entry.mac for entry in table.entries(START + 14)] == [
        station(second) for second in (9, 8, 7, 6, 5)
    ]


@pytest.mark.parametrize("expired", [False, True])
def test_aged_address_seen_on_another_port_does_not_count_as_moved(
    table: MacTable[str], expired: bool
) -> None:
    table.learn(0, A, "one", START)
    if expired:
        table.expire(START + AGE_S)
    table.learn(0, A, "two", START + AGE_S)
    assert table.moves == 0
    assert table.lookup(0, A, START + AGE_S) == "two"


def test_forgotten_port_loses_its_entries(table: MacTable[str]) -> None:
    for number in range(10):
        table.learn(number, station(number), "one" if number < 4 else "two", START)
    assert table.forget("one") == 4
    assert table.forget("one") == 0
    assert table.forget("unknown") == 0
    assert [table.lookup(n, station(n), START) for n in range(10)] == [None] * 4 + ["two"] * 6
    assert (table.held_by("one"), table.held_by("two")) == (0, 6)
    assert table.learn(0, station(0), "one", START)


def test_full_table_evicts_the_least_recently_seen_entry() -> None:
    table = MacTable[str](limit=3)
    for second, mac in enumerate((A, B, C)):
        table.learn(0, mac, "one", START + second)
    table.learn(0, A, "one", START + 3)
    table.learn(0, station(4), "one", START + 4)
    assert [entry.mac for entry in table.entries(START + 4)] == [station(4), A, C]
    assert table.evictions == 1


def test_full_table_removes_aged_entries_first() -> None:
    table = MacTable[str](age=10, limit=3)
    table.learn(0, A, "one", START)
    table.learn(0, B, "two", START + 5)
    table.learn(0, C, "two", START + 6)
    table.learn(0, station(4), "three", START + 10)
    assert table.lookup(0, B, START + 10) == "two"
    assert table.held_by("one") == 0
    assert table.evictions == 0


def test_flood_from_one_port_evicts_only_entries_of_that_port(
    table: MacTable[int],
) -> None:
    # All other ports were last seen before the flood began.
    for port in range(100):
        for number in range(5):
            table.learn(0, station(port << 8 | number), port, START)
    for number in range(3 * ENTRIES_MAX):
        assert table.learn(0, station(1 << 32 | number), 666, START + 1 + number / 1e6)
    assert len(table) == ENTRIES_MAX
    assert table.held_by(666) == ENTRIES_MAX - 500
    assert table.evictions == 3 * ENTRIES_MAX - (ENTRIES_MAX - 500)
    for port in range(100):
        for number in range(5):
            assert table.lookup(0, station(port << 8 | number), START + 2) == port
    # The flooding port keeps the addresses that it used last.
    last = station(1 << 32 | 3 * ENTRIES_MAX - 1)
    assert table.lookup(0, last, START + 2) == 666
    assert table.lookup(0, station(1 << 32), START + 2) is None


def test_flooded_table_has_room_for_ports_that_come_later() -> None:
    table = MacTable[str](limit=100)
    for number in range(500):
        table.learn(0, station(number), "flooder", START)
    for number in range(60):
        table.learn(0, station(1000 + number), "late", START)
    assert (table.held_by("flooder"), table.held_by("late")) == (50, 50)
    for number in range(30):
        table.learn(0, station(2000 + number), "later", START)
    assert (table.held_by("flooder"), table.held_by("late")) == (35, 35)
    assert table.held_by("later") == 30


def test_flood_from_many_ports_leaves_a_port_its_share() -> None:
    table = MacTable[int](limit=100)
    for number in range(10):
        table.learn(0, station(number), 0, START)
    for number in range(5000):
        table.learn(0, station(1000 + number), 1 + number % 9, START + 1)
    assert table.held_by(0) == 10
    assert [table.held_by(port) for port in range(10)] == [10] * 10


def test_moved_entries_count_for_the_port_that_took_them() -> None:
    table = MacTable[str](limit=4)
    for number in range(4):
        table.learn(0, station(number), "one" if number < 2 else "two", START + number)
    table.learn(0, station(2), "one", START + 5)
    assert (table.held_by("one"), table.held_by("two")) == (3, 1)
    table.learn(0, station(9), "three", START + 6)
    assert table.lookup(0, station(0), START + 6) is None
    assert table.lookup(0, station(3), START + 6) == "two"


def test_table_of_one_entry_holds_the_last_address() -> None:
    table = MacTable[str](limit=1)
    table.learn(0, A, "one", START)
    table.learn(0, B, "two", START)
    assert table.lookup(0, A, START) is None
    assert table.lookup(0, B, START) == "two"
    assert table.evictions == 1


def test_limit_of_zero_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least one entry, not 0"):
        MacTable[str](limit=0)


def test_entries_give_port_and_idle_time(table: MacTable[str]) -> None:
    table.learn(0, A, "one", START)
    table.learn(7, B, "two", START + 1)
    table.pin([C], "tap")
    assert table.entries(START + 3) == [
        Entry(0, C, "tap", 0, pinned=True),
        Entry(7, B, "two", 2),
        Entry(0, A, "one", 3),
    ]
    assert [entry.mac for entry in table.entries(START + AGE_S)] == [C, B]


def test_pinned_address_is_on_every_vlan_and_does_not_age(table: MacTable[str]) -> None:
    table.pin([A], "tap")
    assert table.learn(0, A, "tap", START)
    assert table.learn(3, A, "tap", START)
    assert table.lookup(0, A, START) == "tap"
    assert table.lookup(4095, A, START + 10 * AGE_S) == "tap"
    assert len(table) == 0


def test_pinned_address_cannot_be_used_by_another_port(table: MacTable[str]) -> None:
    table.pin([A], "tap")
    assert not table.learn(0, A, "one", START)
    assert not table.learn(9, A, "one", START)
    assert table.lookup(0, A, START) == table.lookup(9, A, START) == "tap"
    assert table.forgeries == 2
    assert table.moves == 0


def test_pinning_removes_the_learned_entries_of_the_address(table: MacTable[str]) -> None:
    table.learn(0, A, "one", START)
    table.learn(5, A, "two", START)
    table.learn(0, B, "one", START)
    table.pin([A], "tap")
    assert table.lookup(0, A, START) == table.lookup(5, A, START) == "tap"
    assert (table.held_by("one"), table.held_by("two"), len(table)) == (1, 0, 1)


def test_pinned_address_stays_reserved_when_its_port_is_gone(table: MacTable[str]) -> None:
    table.pin([A, B], "tap")
    assert table.forget("tap") == 0
    assert table.lookup(0, A, START) is None
    assert not table.learn(0, A, "one", START)
    assert table.forgeries == 1
    assert table.entries(START) == []
    table.pin([A, B], "tap2")
    assert table.lookup(0, A, START) == "tap2"


def test_pinned_addresses_replace_those_pinned_before(table: MacTable[str]) -> None:
    table.pin([A, B], "tap")
    table.pin([B, C], "tap")
    assert table.lookup(0, A, START) is None
    assert table.learn(0, A, "one", START)
    assert not table.learn(0, B, "one", START)
    assert not table.learn(0, C, "one", START)


def test_address_that_is_not_admitted_is_known_before_it_is_learned(table: MacTable[str]) -> None:
    table.pin([A], "tap")
    assert table.admits(A, "tap")
    assert not table.admits(A, "one")
    assert table.forgeries == 1
    assert not table.admits(BROADCAST, "one")
    assert not table.admits(ALL_ZEROS, "one")
    assert table.forgeries == 1


@pytest.mark.parametrize("mac", [BROADCAST, ALL_ZEROS])
def test_group_and_all_zero_addresses_cannot_be_pinned(table: MacTable[str], mac: bytes) -> None:
    with pytest.raises(ValueError, match="only the address of a station"):
        table.pin([mac], "tap")
