"""The MAC table of a learning switch: which address is behind which port.  Pure.

Theory (IEEE 802.1Q, 8.7 and 8.8).  The source address of a frame shows which port its station is
behind.  An entry is valid until its address has not been seen for the aging time.  The key is
(VLAN, MAC): on two VLANs, one address may be behind two ports.

An entry is in two queues, both in the order in which the entries were last seen.  The head of the
table's queue is the next entry to age.  The head of a port's queue is the entry that the port loses
first.  A full table first drops entries that have aged.  If there are none, it evicts the head of
the port that holds the most entries; if several ports hold the most and the learning port is one of
them, it evicts from the learning port.  Therefore a flood of addresses evicts only entries of the
flooding port, once that port holds the most.  A port that holds no more than its share (the limit
divided by the number of ports with entries) loses none to other ports.

A flood evicts an entry with every frame, so finding the port with the most entries must not be a
search: the ports are in bins by their number of entries, and a port only moves to the next bin.

A frame takes constant time.  Aging is included, since an entry ages once.  The caller passes the
time: seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from vknet.packet.ethernet import NO_MAC, is_multicast

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = ["AGE_S", "ENTRIES_MAX", "Entry", "MacTable"]

AGE_S: Final = 300.0
"""The aging time that 802.1Q recommends (table 8-6); other bridges use it, too."""

ENTRIES_MAX: Final = 8192
"""The number of entries that a small hardware switch holds; about 3 MB when full."""

PortT = TypeVar("PortT", bound="Hashable")


@dataclass(frozen=True, slots=True)
class Entry(Generic[PortT]):
    """One entry of the table, for display."""

    vlan: int
    """The VLAN ID; 0 for untagged frames."""
    mac: bytes
    port: PortT
    idle_s: float
    """Time since the address was last seen; 0 if it is pinned."""
    pinned: bool = False
    """Whether the address is fixed to its port, on every VLAN."""


@dataclass(slots=True)
class _Location(Generic[PortT]):
    port: PortT
    last_seen: float


class MacTable(Generic[PortT]):
    """The learned addresses and their ports.

    The caller chooses what a port is: any hashable object, compared with ``==``.

    Args:
        age: the aging time, in seconds.
        limit: the maximum number of entries; pinned addresses do not count.

    Attributes:
        moves: how often an address was seen on another port than before.
        evictions: how many entries were removed before they aged, because the table was full.
        forgeries: how often a port used an address that is pinned to another port.

    Raises:
        ValueError: the limit is below 1.
    """

    def __init__(self, age: float = AGE_S, limit: int = ENTRIES_MAX) -> None:
        if limit < 1:
            raise ValueError(f"a table needs room for at least one entry, not {limit}")
        self.moves = 0
        self.evictions = 0
        self.forgeries = 0
        self._age_s = age
        self._limit = limit
        self._locations: OrderedDict[tuple[int, bytes], _Location[PortT]] = OrderedDict()
        self._held: dict[PortT, OrderedDict[tuple[int, bytes], None]] = {}
        self._bins = _Bins[PortT]()
        self._pinned: dict[bytes, PortT | None] = {}

    def __len__(self) -> int:
        """The number of entries, with aged ones that `expire` would remove, without pinned ones."""
        return len(self._locations)

    def learn(self, vlan: int, mac: bytes, port: PortT, now: float) -> bool:
        """Learn from a frame that came in through a port.

        Args:
            vlan: the VLAN ID of the frame; 0 if it is untagged.
            mac: its source address.
            port: where it came in.
            now: the time.

        Returns:
            False if the frame must be dropped: the port may not use the address (`admits`).
            Nothing is learned then.
        """
        key = (vlan, mac)
        location = self._locations.get(key)
        if location is None:
            return self._learn_new(key, port, now)
        if location.port != port:
            # An address that has aged does not count as moved, whether or not `expire` has run.
            self.moves += now - location.last_seen < self._age_s
            self._drop_from_port(key, location.port)
            self._add_to_port(key, port)
            location.port = port
        elif location.last_seen == now:
            # Another frame of the same batch: the entry is already near the end of its queues.
            return True
        else:
            self._held[port].move_to_end(key)
        location.last_seen = now
        self._locations.move_to_end(key)
        return True

    def admits(self, mac: bytes, port: PortT) -> bool:
        """Whether a port may use an address as its source.

        It may not if it is a group address or all zeros, or is pinned to another port.
        """
        if is_multicast(mac) or mac == NO_MAC:
            return False
        if mac in self._pinned and self._pinned[mac] != port:
            self.forgeries += 1
            return False
        return True

    def lookup(self, vlan: int, mac: bytes, now: float) -> PortT | None:
        """Return the port of an address; None if it is unknown or a group address."""
        location = self._locations.get((vlan, mac))
        if location is None:
            return self._pinned.get(mac)
        if now - location.last_seen >= self._age_s:
            return None
        return location.port

    def pin(self, macs: Iterable[bytes], port: PortT | None) -> None:
        """Fix addresses to a port on every VLAN; they replace those that were pinned before.

        Args:
            macs: the addresses.
            port: their port; None if it is gone.  No port may use the addresses then.

        Raises:
            ValueError: one is a group address, or all zeros.
        """
        pinned: dict[bytes, PortT | None] = dict.fromkeys(macs, port)
        if any(is_multicast(mac) or mac == NO_MAC for mac in pinned):
            raise ValueError("only the address of a station can be pinned")
        for key in [key for key in self._locations if key[1] in pinned]:
            self._remove(key)
        self._pinned = pinned

    def forget(self, port: PortT) -> int:
        """Remove the entries of a port that is gone; no port may use its pinned addresses then.

        Returns:
            The number of entries removed; pinned addresses do not count.
        """
        for mac, owner in self._pinned.items():
            if owner == port:
                self._pinned[mac] = None
        keys = list(self._held.get(port, ()))
        for key in keys:
            self._remove(key)
        return len(keys)

    def expire(self, now: float) -> int:
        """Remove the entries that have aged, and return their number.

        It may be called at any time: `lookup` does not return an aged entry, and a full table
        removes aged entries first.
        """
        expired = 0
        while self._locations:
            key, location = next(iter(self._locations.items()))
            if now - location.last_seen < self._age_s:
                break
            self._remove(key)
            expired += 1
        return expired

    def held_by(self, port: PortT) -> int:
        """The number of entries of a port; pinned addresses do not count."""
        return len(self._held.get(port, ()))

    def entries(self, now: float) -> list[Entry[PortT]]:
        """Return all entries: pinned addresses first, then the most recently seen first."""
        pinned = [
            Entry(0, mac, port, 0.0, pinned=True)
            for mac, port in self._pinned.items()
            if port is not None
        ]
        seen = [
            Entry(vlan, mac, location.port, now - location.last_seen)
            for (vlan, mac), location in reversed(self._locations.items())
            if now - location.last_seen < self._age_s
        ]
        return pinned + seen

    # --- single entries ---------------------------------------------------------------------------

    def _learn_new(self, key: tuple[int, bytes], port: PortT, now: float) -> bool:
        mac = key[1]
        if not self.admits(mac, port):
            return False
        if mac in self._pinned:
            return True
        if len(self._locations) >= self._limit and not self.expire(now):
            victim = self._bins.fullest(port)
            self._remove(next(iter(self._held[victim])))
            self.evictions += 1
        self._locations[key] = _Location(port, now)
        self._add_to_port(key, port)
        return True

    def _remove(self, key: tuple[int, bytes]) -> None:
        self._drop_from_port(key, self._locations.pop(key).port)

    def _add_to_port(self, key: tuple[int, bytes], port: PortT) -> None:
        held = self._held.get(port)
        if held is None:
            held = self._held[port] = OrderedDict()
        held[key] = None
        self._bins.step(port, len(held) - 1, len(held))

    def _drop_from_port(self, key: tuple[int, bytes], port: PortT) -> None:
        held = self._held[port]
        del held[key]
        self._bins.step(port, len(held) + 1, len(held))
        if not held:
            del self._held[port]


class _Bins(Generic[PortT]):
    """The ports in bins by their number of entries; a port without entries is in no bin."""

    def __init__(self) -> None:
        self._bins: dict[int, dict[PortT, None]] = {}
        self._highest = 0

    def step(self, port: PortT, before: int, after: int) -> None:
        """Move a port whose number of entries went from `before` to `after`, by one up or down."""
        if before:
            ports = self._bins[before]
            del ports[port]
            if not ports:
                del self._bins[before]
        if after:
            self._bins.setdefault(after, {})[port] = None
        # A port that left the highest bin empty went to the bin below or above it.
        if after > self._highest or self._highest not in self._bins:
            self._highest = after

    def fullest(self, preferred: PortT) -> PortT:
        """Return a port with the most entries: the preferred one if it is one of them."""
        ports = self._bins[self._highest]
        return preferred if preferred in ports else next(iter(ports))
