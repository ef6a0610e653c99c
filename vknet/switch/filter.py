"""Secure mode: what may leave through the TAP of what a client sent.  Pure.

A client can be any program of any user, so nobody outside should have to believe its frames.  What
passes is what can be checked, and was; whatever else there is in the world is dropped.

    Ethernet      the source is a station's, and not the TAP's own
    802.1Q, ad    looked behind; what is inside is checked as if there were no tag
    ARP           Ethernet and IPv4, a request or a reply; the sender is the frame's source and an
                  address of the prefixes, or 0.0.0.0 where it asks for one of them (RFC 5227)
    IPv4          the source is in the prefixes, or 0.0.0.0 where it broadcasts to a DHCP server
    IPv6          the source is in the prefixes or link-local, or :: where it configures itself
                  by groups: duplicate detection, router solicitation, MLD reports (RFC 3590)
    discovery     (RFC 4861) each link-layer address is the frame's source; what is advertised or
                  probed is in the prefixes or link-local; hop limit 255; no fragments (RFC 6980)

The TAP's own addresses are no client's, though a client may probe for them and be told so.  Nor may
a client configure others: router advertisements, redirects (both of ICMP's as well) and what comes
from a DHCP server or goes to where its clients listen are dropped.

All other types are dropped, known or not.  Behind an Ethernet type that is not understood there may
be a source that is not allowed: RARP, PPPoE and MPLS carry addresses too, and 802.3 frames bring
spanning tree, with which a client could take over the bridge outside.

What is inside IP packets of the client's own address is its own affair: tunnels are not opened, nor
are checksums verified, since who receives a packet with a wrong one drops it.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final, TypeAlias

from vknet.counters import DropReason
from vknet.packet.ethernet import (
    ETHERNET_HEADER,
    ETHERNET_HEADER_SIZE,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    NO_MAC,
    TAGS,
    is_multicast,
    payload_of,
)
from vknet.packet.ip import (
    ARP,
    ARP_FOR_IPV4,
    ARP_REPLY,
    ARP_REQUEST,
    DHCPV4_CLIENT,
    DHCPV4_SERVER,
    DHCPV6_CLIENT,
    DHCPV6_SERVER,
    FRAGMENT,
    ICMPV4,
    ICMPV4_REDIRECT,
    ICMPV4_ROUTER,
    ICMPV6,
    ICMPV6_SIZE,
    IPV4,
    IPV4_MORE_FRAGMENTS,
    IPV4_OFFSET,
    IPV6,
    IPV6_EXTENSION,
    IPV6_EXTENSIONS,
    IPV6_EXTENSIONS_MAX,
    IPV6_FRAGMENTED,
    IPV6_NO_NEXT_HEADER,
    IPV6_OFFSET,
    MLD2_REPORT,
    MLD_DONE,
    MLD_REPORT,
    ND_TARGET_OFFSET,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SIZE,
    NEIGHBOUR_SOLICITATION,
    PORTS,
    REDIRECT,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    UDP,
    extension_size,
    nd_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vknet.packet.ethernet import Frame

__all__ = ["SourceFilter"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

BROADCAST: Final = 0xFFFFFFFF
IPV4_GROUP: Final = 0xE

IPV6_ADDRESS: Final = struct.Struct("!QQ")
IPV6_GROUP: Final = 0xFF
LINK_LOCAL: Final = IPv6Network("fe80::/10")

DISCOVERY: Final = frozenset(range(ROUTER_SOLICITATION, REDIRECT + 1))
FROM_NOBODY: Final = frozenset(
    (ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, MLD_REPORT, MLD_DONE, MLD2_REPORT)
)
"""What a host without an address may send: to learn its prefix, and to take an address in use."""

DISCOVERY_HOP_LIMIT: Final = 255
SOLICITATION_SIZE: Final = 8
LINK_LAYER_OPTIONS: Final = frozenset((1, 2))


class SourceFilter:
    """The filter before the TAP.

    Args:
        prefixes: what clients may have addresses of.
        tap_mac: the TAP's own address.
        tap_addresses: the TAP's own, in the prefixes or not (its link-local one, say).  An IPv4
            prefix's broadcast address is nobody's in any case.
    """

    def __init__(
        self, prefixes: Iterable[Network], tap_mac: bytes, tap_addresses: Iterable[Address] = ()
    ) -> None:
        networks = list(prefixes)
        self._tap_mac = tap_mac
        self._prefixes4 = [_pair(net) for net in networks if isinstance(net, IPv4Network)]
        self._prefixes6 = [_pair(net) for net in networks if isinstance(net, IPv6Network)]
        self._prefixes6.append(_pair(LINK_LOCAL))
        own = list(tap_addresses)
        self._taken4 = {int(ip) for ip in own if isinstance(ip, IPv4Address)}
        self._taken6 = {int(ip) for ip in own if isinstance(ip, IPv6Address)}
        # RFC 3021: with two addresses or one, both are hosts'.
        self._taken4 |= {BROADCAST} | {
            int(net.broadcast_address)
            for net in networks
            if isinstance(net, IPv4Network) and net.prefixlen < 31
        }

    def check(self, frame: Frame) -> DropReason | None:
        """Look at a frame that is about to leave; why it may not (`DropReason`), or None if it
        may.
        """
        if len(frame) < ETHERNET_HEADER_SIZE:
            return DropReason.CUT_SHORT
        source: bytes
        ethertype: int
        _, source, ethertype = ETHERNET_HEADER.unpack_from(frame)
        if source == self._tap_mac:
            return DropReason.TAP_MAC
        if is_multicast(source) or source == NO_MAC:
            return DropReason.SOURCE_MAC
        start = ETHERNET_HEADER_SIZE
        if ethertype in TAGS:
            ethertype, start = payload_of(frame, ethertype)
        if ethertype == ETHERTYPE_IPV4:
            return self._ipv4(frame, start)
        if ethertype == ETHERTYPE_IPV6:
            return self._ipv6(frame, start, source)
        if ethertype == ETHERTYPE_ARP:
            return self._arp(frame, start, source)
        return DropReason.ETHERTYPE

    # --- IPv4 -------------------------------------------------------------------------------------

    def _arp(self, frame: Frame, start: int, source: bytes) -> DropReason | None:
        if len(frame) - start < ARP.size:
            return DropReason.CUT_SHORT
        *kind, operation, sender_mac, sender, _, target = ARP.unpack_from(frame, start)
        if tuple(kind) != ARP_FOR_IPV4 or operation not in (ARP_REQUEST, ARP_REPLY):
            return DropReason.MALFORMED
        if sender_mac != source:
            return DropReason.ARP_MAC
        if sender == 0 and operation == ARP_REQUEST:
            # Who sees a probe for the address it is probing for gives the address up.
            allowed = _within(target, self._prefixes4)
        else:
            allowed = self._may_be_ipv4(sender)
        return None if allowed else DropReason.ARP_SENDER

    def _ipv4(self, frame: Frame, start: int) -> DropReason | None:
        available = len(frame) - start
        if available < IPV4.size:
            return DropReason.CUT_SHORT
        first, total, fragment, protocol, source, destination = IPV4.unpack_from(frame, start)
        header = (first & 0x0F) * 4
        if first >> 4 != 4 or header < IPV4.size or total < header:
            return DropReason.MALFORMED
        if total > available:
            return DropReason.CUT_SHORT
        if not source:
            whole = not fragment & (IPV4_OFFSET | IPV4_MORE_FRAGMENTS)
            if protocol != UDP or destination != BROADCAST or not whole:
                return DropReason.IPV4_SOURCE
        elif not self._may_be_ipv4(source):
            return DropReason.IPV4_SOURCE
        # Later fragments are their packet's payload: the first has all that is looked at here.
        if protocol == UDP and not fragment & IPV4_OFFSET:
            if total - header < PORTS.size:
                return DropReason.CUT_SHORT
            ports = PORTS.unpack_from(frame, start + header)
            if not source:
                expected = ports == (DHCPV4_CLIENT, DHCPV4_SERVER)
                return None if expected else DropReason.IPV4_SOURCE
            return _dhcp(ports, DHCPV4_SERVER, DHCPV4_CLIENT)
        if protocol == ICMPV4 and not fragment & IPV4_OFFSET:
            if total == header:
                return DropReason.CUT_SHORT
            if frame[start + header] in (ICMPV4_REDIRECT, ICMPV4_ROUTER):
                return DropReason.ROUTER_MESSAGE
        return None

    def _may_be_ipv4(self, address: int) -> bool:
        """Whether a client may have this address."""
        return (
            address != 0
            and address >> 28 != IPV4_GROUP
            and _within(address, self._prefixes4)
            and address not in self._taken4
        )

    # --- IPv6 -------------------------------------------------------------------------------------

    def _ipv6(self, frame: Frame, start: int, mac: bytes) -> DropReason | None:
        available = len(frame) - start - IPV6.size
        if available < 0:
            return DropReason.CUT_SHORT
        first, length, kind, hop_limit, *halves = IPV6.unpack_from(frame, start)
        if first >> 4 != 6:
            return DropReason.MALFORMED
        if length > available:
            return DropReason.CUT_SHORT
        source = halves[0] << 64 | halves[1]
        if source and not self._may_be_ipv6(source):
            return DropReason.IPV6_SOURCE
        start += IPV6.size
        stop = start + length
        in_fragment = False
        if kind in IPV6_EXTENSIONS:
            chain = _walk(frame, start, stop, kind)
            if isinstance(chain, DropReason):
                return chain
            kind, start, in_fragment = chain
        if kind == UDP and source:
            if stop - start < PORTS.size:
                return DropReason.CUT_SHORT
            return _dhcp(PORTS.unpack_from(frame, start), DHCPV6_SERVER, DHCPV6_CLIENT)
        if kind != ICMPV6:
            return None if source else DropReason.IPV6_SOURCE
        if stop - start < ICMPV6_SIZE:
            return DropReason.CUT_SHORT
        message = frame[start]
        if message in (ROUTER_ADVERTISEMENT, REDIRECT):
            return DropReason.ROUTER_MESSAGE
        if not source and (message not in FROM_NOBODY or halves[2] >> 56 != IPV6_GROUP):
            return DropReason.IPV6_SOURCE
        if in_fragment and (message in DISCOVERY or not source):
            return DropReason.FRAGMENT
        if message not in DISCOVERY:
            return None
        if hop_limit != DISCOVERY_HOP_LIMIT:
            return DropReason.MALFORMED
        return self._discovery(frame[start:stop], mac, anonymous=not source)

    def _discovery(self, message: Frame, mac: bytes, *, anonymous: bool) -> DropReason | None:
        """Look at a solicitation, or at a neighbour's advertisement."""
        kind = message[0]
        size = SOLICITATION_SIZE if kind == ROUTER_SOLICITATION else NEIGHBOUR_SIZE
        if len(message) < size:
            return DropReason.CUT_SHORT
        if message[1]:
            return DropReason.MALFORMED
        if kind != ROUTER_SOLICITATION:
            high, low = IPV6_ADDRESS.unpack_from(message, ND_TARGET_OFFSET)
            target = high << 64 | low
            if kind == NEIGHBOUR_ADVERTISEMENT:
                allowed = self._may_be_ipv6(target)
            else:
                # Who sees a probe for the address it is probing for gives the address up.
                allowed = not anonymous or _within(target, self._prefixes6)
            if not allowed:
                return DropReason.ND_TARGET
        return _options(message, size, mac, anonymous=anonymous)

    def _may_be_ipv6(self, address: int) -> bool:
        """Whether a client may have this address."""
        return (
            address != 0
            and address >> 120 != IPV6_GROUP
            and _within(address, self._prefixes6)
            and address not in self._taken6
        )


def _pair(network: Network) -> tuple[int, int]:
    return int(network.netmask), int(network.network_address)


def _within(address: int, prefixes: list[tuple[int, int]]) -> bool:
    for mask, prefix in prefixes:  # noqa: SIM110 (any() of a generator takes three times as long)
        if address & mask == prefix:
            return True
    return False


def _dhcp(ports: tuple[int, ...], server: int, client: int) -> DropReason | None:
    """Refuse what a DHCP client could take for an answer; a relay's place is outside as well."""
    source, destination = ports
    return DropReason.DHCP_SERVER if source == server or destination == client else None


def _walk(frame: Frame, start: int, stop: int, kind: int) -> DropReason | tuple[int, int, bool]:
    """Go along the extension headers of an IPv6 packet.

    Returns:
        What is behind them, where that starts, and whether it is in a fragment; or a refusal.
        Of a fragment that is not its packet's first it is 59, that is nothing.
    """
    in_fragment = False
    for _ in range(IPV6_EXTENSIONS_MAX):
        if stop - start < IPV6_EXTENSION.size:
            return DropReason.CUT_SHORT
        following, size, word = IPV6_EXTENSION.unpack_from(frame, start)
        if kind == FRAGMENT:
            in_fragment = True
            # The header of what is fragmented has to be in the first fragment (RFC 7112), and at
            # its very start: farther on, a second fragment that overlaps could put another there.
            if word & IPV6_FRAGMENTED and following in IPV6_EXTENSIONS:
                return DropReason.FRAGMENT
            if word & IPV6_OFFSET:
                return IPV6_NO_NEXT_HEADER, start, True
        start += extension_size(kind, size)
        kind = following
        if start > stop:
            return DropReason.CUT_SHORT
        if kind not in IPV6_EXTENSIONS:
            return kind, start, in_fragment
    return DropReason.MALFORMED


def _options(message: Frame, start: int, mac: bytes, *, anonymous: bool) -> DropReason | None:
    """Check the options of neighbour discovery (RFC 4861, section 4.6), from `start` on."""
    options, wrong = nd_options(message, start)
    for option in options:
        if option[0] in LINK_LAYER_OPTIONS:
            if anonymous:
                return DropReason.MALFORMED
            if option[2:] != mac:
                return DropReason.ND_MAC
    return wrong
