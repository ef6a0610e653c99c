"""Who is behind which port: the MAC table of a learning switch.  Pure: the time is handed in.

Theory (IEEE 802.1Q, 8.7 and 8.8).  The source of a frame tells where its sender is, for as long as
it goes on telling.  The key is (VLAN, MAC): one address may be in two places on two VLANs.

Every entry stands in two queues, each in the order in which the entries were last seen: that of the
whole table, whose front is the first to age, and that of its port, whose front is the port's first
to give up.  A full table makes room by aging, and failing that by taking the front of the port that
holds most, the learning port before another that holds as many.  So a flood of addresses pushes out
the flooding port's own from the moment it holds the most, and a port that holds no more than its
share, the limit divided by the ports that hold anything, loses none to others.  Which port that is
must not take a search, since a flood asks with every frame: the ports stand in bins by how many
entries they hold, and a port only ever steps to the next bin.

Everything takes constant time per frame, aging included, since an entry ages once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from vknet.packet.ethernet import NO_MAC, is_multicast

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["AGE", "LIMIT", "Entry", "MacTable"]

AGE: Final = 300.0
"""Seconds; what 802.1Q recommends (table 8-6), and what bridges of all makes do."""

LIMIT: Final = 8192
"""Entries.  As many as a small switch of metal holds; some 3 MB when full."""

PortT = TypeVar("PortT", bound="Hashable")


@dataclass(frozen=True, slots=True)
class Entry(Generic[PortT]):
    """What the table tells of one address, for people to read."""

    vlan: int
    """0 where there is none."""
    mac: bytes
    port: PortT
    idle: float
    """Seconds since it was last seen; 0 where it is pinned."""
    pinned: bool = False


@dataclass(slots=True)
class _Place(Generic[PortT]):
    port: PortT
    seen: float


class MacTable(Generic[PortT]):
    """The addresses that were seen, and where.

    Ports are whatever the caller says they are: hashable, and compared with ``==``.  Times are in
    seconds of any monotonic clock.

    Args:
        age: seconds after which an address that was not seen again is forgotten.
        limit: the most entries it holds, pinned ones apart.

    Attributes:
        moves: how often an address turned up on another port than before.
        evictions: how many entries had to go before their time, because the table was full.
        forgeries: how often a port used an address that is pinned to another.
    """

    def __init__(self, age: float = AGE, limit: int = LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"a table holds one entry at the least, not {limit}")
        self.moves = 0
        self.evictions = 0
        self.forgeries = 0
        self._age = age
        self._limit = limit
        self._places: OrderedDict[tuple[int, bytes], _Place[PortT]] = OrderedDict()
        self._held: dict[PortT, OrderedDict[tuple[int, bytes], None]] = {}
        self._bins = _Bins[PortT]()
        self._pinned: dict[bytes, PortT] = {}

    def __len__(self) -> int:
        """How many entries it holds, pinned ones apart, those included that `expire` would take."""
        return len(self._places)

    def learn(self, vlan: int, mac: bytes, port: PortT, now: float) -> bool:
        """A frame with this source came from this port.

        Returns:
            False if no frame may have this source: a group's address, none at all, or one that is
            pinned to another port.  Nothing is learned then, and bridges drop such a frame.
        """
        key = (vlan, mac)
        place = self._places.get(key)
        if place is None:
            return self._learn_new(key, port, now)
        if place.port != port:
            # What has aged did not move, whether or not it is still here.
            self.moves += now - place.seen < self._age
            self._drop_from_port(key, place.port)
            self._add_to_port(key, port)
            place.port = port
        elif place.seen == now:
            # The rest of a batch, which has one time: it is at the end of its queues or as good as.
            return True
        else:
            self._held[port].move_to_end(key)
        place.seen = now
        self._places.move_to_end(key)
        return True

    def lookup(self, vlan: int, mac: bytes, now: float) -> PortT | None:
        """The port behind which this address is; None if that is not known, or it is a group's."""
        place = self._places.get((vlan, mac))
        if place is None:
            return self._pinned.get(mac)
        if now - place.seen >= self._age:
            return None
        return place.port

    def pin(self, mac: bytes, port: PortT) -> None:
        """This address is this port's on every VLAN, until the port is forgotten.

        Raises:
            ValueError: it is a group's address, or none at all.
        """
        if is_multicast(mac) or mac == NO_MAC:
            raise ValueError("only the address of a station can be pinned")
        for key in [key for key in self._places if key[1] == mac]:
            self._remove(key)
        self._pinned[mac] = port

    def forget(self, port: PortT) -> int:
        """The port is gone, and its entries with it; how many those were, pinned ones apart."""
        for mac in [mac for mac, owner in self._pinned.items() if owner == port]:
            del self._pinned[mac]
        keys = list(self._held.get(port, ()))
        for key in keys:
            self._remove(key)
        return len(keys)

    def expire(self, now: float) -> int:
        """Drop what has aged; how many entries that were.

        Nothing depends on when it is called: what has aged is not found, and makes room first.
        """
        expired = 0
        while self._places:
            key, place = next(iter(self._places.items()))
            if now - place.seen < self._age:
                break
            self._remove(key)
            expired += 1
        return expired

    def held_by(self, port: PortT) -> int:
        """How many entries are this port's, pinned ones apart."""
        return len(self._held.get(port, ()))

    def entries(self, now: float) -> list[Entry[PortT]]:
        """The table as it stands: pinned addresses first, then those seen last."""
        pinned = [Entry(0, mac, port, 0.0, pinned=True) for mac, port in self._pinned.items()]
        seen = [
            Entry(vlan, mac, place.port, now - place.seen)
            for (vlan, mac), place in reversed(self._places.items())
            if now - place.seen < self._age
        ]
        return pinned + seen

    # --- one entry comes or goes ------------------------------------------------------------------

    def _learn_new(self, key: tuple[int, bytes], port: PortT, now: float) -> bool:
        mac = key[1]
        if is_multicast(mac) or mac == NO_MAC:
            return False
        if mac in self._pinned:
            if self._pinned[mac] == port:
                return True
            self.forgeries += 1
            return False
        if len(self._places) >= self._limit and not self.expire(now):
            victim = self._bins.fullest(port)
            self._remove(next(iter(self._held[victim])))
            self.evictions += 1
        self._places[key] = _Place(port, now)
        self._add_to_port(key, port)
        return True

    def _remove(self, key: tuple[int, bytes]) -> None:
        self._drop_from_port(key, self._places.pop(key).port)

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
    """The ports in bins by how many entries they hold; those that hold none are in none."""

    def __init__(self) -> None:
        self._bins: dict[int, dict[PortT, None]] = {}
        self._most = 0

    def step(self, port: PortT, before: int, after: int) -> None:
        """The port held this many, and now holds one more or one less."""
        if before:
            ports = self._bins[before]
            del ports[port]
            if not ports:
                del self._bins[before]
        if after:
            self._bins.setdefault(after, {})[port] = None
        # A port that left the topmost bin empty went to the next below, or to the one above.
        if after > self._most or self._most not in self._bins:
            self._most = after

    def fullest(self, preferred: PortT) -> PortT:
        """A port that holds as many as any: the preferred one, if it is such."""
        ports = self._bins[self._most]
        return preferred if preferred in ports else next(iter(ports))
