"""The MAC table, compared with a model that searches a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vknet.switch.table import Entry, MacTable

GROUP: Final = bytes.fromhex("01005e000001")
ALL_ZEROS: Final = bytes(6)
PORTS: Final = "abc"
VLANS: Final = (0, 4095)
STATIONS: Final = tuple(bytes([2, 0, 0, 0, 0, n]) for n in range(4))

ports = st.sampled_from(PORTS)
vlans = st.sampled_from(VLANS)
stations = st.sampled_from(STATIONS)
macs = stations | stations | stations | st.sampled_from([GROUP, ALL_ZEROS, b"\xff" * 6])


@dataclass
class Row:
    """One entry of the model."""

    vlan: int
    mac: bytes
    port: str
    seen: float


class Model:
    """A slow and simple MAC table.  Its rows are in the order in which they were last seen."""

    def __init__(self, age: float, limit: int) -> None:
        self.age = age
        self.limit = limit
        self.rows: list[Row] = []
        self.pinned: dict[bytes, str | None] = {}
        self.moves = self.evictions = self.forgeries = 0

    def find(self, vlan: int, mac: bytes) -> Row | None:
        return next((row for row in self.rows if (row.vlan, row.mac) == (vlan, mac)), None)

    def held(self, port: str) -> int:
        return sum(row.port == port for row in self.rows)

    def expire(self, now: float) -> None:
        self.rows = [row for row in self.rows if now - row.seen < self.age]

    def learn(self, vlan: int, mac: bytes, port: str, now: float, victims: set[str]) -> bool:
        """Learn; add to `victims` the ports of which one has to lose an entry."""
        self.expire(now)
        if mac[0] & 1 or mac == ALL_ZEROS:
            return False
        if mac in self.pinned:
            self.forgeries += self.pinned[mac] != port
            return self.pinned[mac] == port
        row = self.find(vlan, mac)
        if row is not None:
            moved = row.port != port
            self.moves += moved
            if moved or row.seen != now:
                self.rows.remove(row)
                self.rows.append(Row(vlan, mac, port, now))
            return True
        if len(self.rows) == self.limit:
            self.evictions += 1
            most = max(self.held(other) for other in PORTS)
            fullest = {other for other in PORTS if self.held(other) == most}
            victims |= {port} if port in fullest else fullest
        self.rows.append(Row(vlan, mac, port, now))
        return True


class TableMachine(RuleBasedStateMachine):
    """Drives both.  If several ports may lose an entry, the model follows the table."""

    @initialize(age=st.sampled_from([3.0, 50.0]), limit=st.integers(1, 6))
    def begin(self, age: float, limit: int) -> None:
        self.now = 0.0
        self.table = MacTable[str](age, limit)
        self.model = Model(age, limit)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 3.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(vlan=vlans, mac=macs, port=ports)
    def learn(self, vlan: int, mac: bytes, port: str) -> None:
        victims: set[str] = set()
        learned = self.model.learn(vlan, mac, port, self.now, victims)
        assert self.table.learn(vlan, mac, port, self.now) == learned
        if victims:
            lost = [
                row
                for row in self.model.rows
                if self.table.lookup(row.vlan, row.mac, self.now) is None
            ]
            assert len(lost) == 1
            assert lost[0].port in victims
            assert lost[0] is next(row for row in self.model.rows if row.port == lost[0].port)
            self.model.rows.remove(lost[0])

    @rule(data=st.data(), seconds=st.sampled_from([0.0, 1.0, 3.0]), port=st.none() | ports)
    def see_again(self, data: st.DataObject, seconds: float, port: str | None) -> None:
        """A known station sends a frame, through the same port or another one."""
        if not self.model.rows:
            return
        row = data.draw(st.sampled_from(self.model.rows))
        self.now += seconds
        self.learn(row.vlan, row.mac, port or row.port)

    @rule(port=ports, count=st.integers(1, 12))
    def flood(self, port: str, count: int) -> None:
        for number in range(count):
            self.learn(0, bytes([6, 0, 0, 0, ord(port), number]), port)

    @rule(macs=st.lists(stations, max_size=2, unique=True), port=ports | st.none())
    def pin(self, macs: list[bytes], port: str | None) -> None:
        self.table.pin(macs, port)
        self.model.pinned = dict.fromkeys(macs, port)
        self.model.rows = [row for row in self.model.rows if row.mac not in macs]

    @rule(port=ports)
    def forget(self, port: str) -> None:
        self.model.expire(self.now)
        self.table.expire(self.now)
        assert self.table.forget(port) == self.model.held(port)
        self.model.rows = [row for row in self.model.rows if row.port != port]
        self.model.pinned = {m: None if p == port else p for m, p in self.model.pinned.items()}

    @rule()
    def expire(self) -> None:
        before = len(self.table)
        assert self.table.expire(self.now) == before - len(self.table)
        self.model.expire(self.now)
        assert len(self.table) == len(self.model.rows)

    @invariant()
    def lookups_agree(self) -> None:
        self.model.expire(self.now)
        for vlan in VLANS:
            for mac in (*STATIONS, GROUP, ALL_ZEROS):
                row = self.model.find(vlan, mac)
                expected = self.model.pinned.get(mac) if row is None else row.port
                assert self.table.lookup(vlan, mac, self.now) == expected

    @invariant()
    def contents_agree(self) -> None:
        self.model.expire(self.now)
        assert self.table.entries(self.now) == [
            Entry(0, mac, port, 0.0, pinned=True)
            for mac, port in self.model.pinned.items()
            if port is not None
        ] + [
            Entry(row.vlan, row.mac, row.port, self.now - row.seen)
            for row in reversed(self.model.rows)
        ]
        for name in ("moves", "evictions", "forgeries"):
            assert getattr(self.table, name) == getattr(self.model, name)

    @invariant()
    def entries_are_bounded_and_counted(self) -> None:
        assert len(self.table) <= self.model.limit
        assert sum(self.table.held_by(port) for port in PORTS) == len(self.table)


TestTable = TableMachine.TestCase
TestTable.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)


@settings(deadline=None, max_examples=100)
@given(
    limit=st.integers(4, 60),
    others=st.lists(st.integers(0, 15), min_size=1, max_size=8),
    flood=st.integers(0, 300),
    step=st.sampled_from([0.0, 0.001]),
)
def test_flood_evicts_no_entry_of_a_port_within_its_share(
    limit: int, others: list[int], flood: int, step: float
) -> None:
    share = limit // (len(others) + 1)
    table = MacTable[int](limit=limit)
    for port, wanted in enumerate(others):
        for number in range(min(wanted, share)):
            assert table.learn(0, bytes([2, 0, 0, 0, port, number]), port, 0.0)
    for number in range(flood):
        table.learn(0, bytes([6, 0, 0, 0, number >> 8, number & 255]), -1, 1 + number * step)
        assert len(table) <= limit
    for port, wanted in enumerate(others):
        for number in range(min(wanted, share)):
            assert table.lookup(0, bytes([2, 0, 0, 0, port, number]), 2.0) == port
