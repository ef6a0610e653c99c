"""Which IP addresses a client may use in secure mode.  Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final, TypeAlias

from vknet.counters import DropReason
from vknet.switch.sightings import Sightings

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Address", "ClientAddresses", "Network"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MULTICAST: Final[dict[int, Network]] = {
    4: IPv4Network("224.0.0.0/4"),
    6: IPv6Network("ff00::/8"),
}
LINK_LOCAL: Final = IPv6Network("fe80::/10")
IPV4_BROADCAST: Final = 0xFFFFFFFF

# The number of addresses that are remembered as usable.  Clients that use more pay for the full
# check again and again.
USABLE_MAX: Final = 4096


class ClientAddresses:
    """The addresses of one version of IP.  An address is an integer here.

    A client may use an address within the prefixes, IPv6 link-local ones included, unless it is a
    group's or a broadcast address, an address of the host, a gateway's, or that of a station that
    was seen outside.

    Args:
        version: 4 or 6.
        prefixes: of both versions.  The broadcast address of an IPv4 prefix is no client's.
        gateways: addresses that are never a client's, seen or not.
        roaming: addresses of stations that may move: they stay a client's, seen outside or not.

    Attributes:
        usable: addresses that passed the check.  What is in it needs no other check.
        seen: the addresses of stations outside.
    """

    def __init__(
        self,
        version: int,
        prefixes: Iterable[Network],
        gateways: Iterable[Address] = (),
        roaming: Iterable[Address] = (),
    ) -> None:
        networks = [net for net in prefixes if net.version == version]
        if version == 6:
            networks.append(LINK_LOCAL)
        self._prefixes = [_masked(net) for net in networks]
        self._multicast = [_masked(MULTICAST[version])]
        self._gateways = _integers(version, gateways)
        self._roaming = _integers(version, roaming) - self._gateways
        self._host: frozenset[int] = frozenset()
        # RFC 3021: a /31 or /32 has no broadcast address.
        self._broadcast = {
            int(net.broadcast_address) for net in networks if version == 4 and net.prefixlen < 31
        }
        if version == 4:
            self._broadcast.add(IPV4_BROADCAST)
        self._version = version
        self.usable: set[int] = set()
        self.seen: Sightings[int] = Sightings()

    def set_host(self, addresses: Iterable[Address]) -> None:
        """Set the addresses of the host, which replace those set before."""
        self._host = _integers(self._version, addresses)
        self.usable.clear()

    def see_outside(self, address: int, now: float) -> None:
        """Note that a station outside uses this address."""
        if address not in self._roaming and self.within(address) and self.seen.see(address, now):
            self.usable.discard(address)

    def within(self, address: int) -> bool:
        """Whether an address is within the prefixes."""
        return _within(address, self._prefixes)

    def refuse(self, address: int, reason: DropReason) -> DropReason | None:
        """Return why a client may not use an address; None if it may.

        Args:
            address: the address.
            reason: returned if the address is no client's whatever was seen.
        """
        if address in self.usable:
            return None
        if (
            not address
            or not _within(address, self._prefixes)
            or _within(address, self._multicast)
            or address in self._broadcast
            or address in self._host
        ):
            return reason
        if address in self._gateways or address in self.seen:
            return DropReason.OUTSIDE_ADDRESS
        if len(self.usable) >= USABLE_MAX:
            self.usable.clear()
        self.usable.add(address)
        return None


def _integers(version: int, addresses: Iterable[Address]) -> frozenset[int]:
    return frozenset(int(address) for address in addresses if address.version == version)


def _masked(network: Network) -> tuple[int, int]:
    """Return the netmask and the address of a network, as integers."""
    return int(network.netmask), int(network.network_address)


def _within(address: int, prefixes: list[tuple[int, int]]) -> bool:
    for mask, prefix in prefixes:  # noqa: SIM110 (any() of a generator takes three times as long)
        if address & mask == prefix:
            return True
    return False
