"""The egress filter of secure mode: which frames of clients may leave through the TAP.  Pure.

A client can be any program of any user, so the network outside cannot trust its frames.  The filter
passes only frames whose addresses it has checked, and drops all others:

    Ethernet      The source is the address of a station, and not that of the TAP.
    802.1Q, ad    VLAN tags are skipped; the payload is checked as if the frame were untagged.
    ARP           Ethernet and IPv4, a request or a reply.  The sender's MAC address is the source
                  of the frame.  The sender's IP address is within a prefix; it is 0.0.0.0 in a
                  probe (RFC 5227) for an address within a prefix.
    IPv4          The source is within a prefix; it is 0.0.0.0 in a broadcast to a DHCP server.
    IPv6          The source is within a prefix or link-local.  It is :: in a multicast by which a
                  host configures itself: duplicate address detection, router solicitation, MLD
                  report (RFC 3590).
    neighbour     Each link-layer address is the source of the frame.  An advertised address, or
    discovery     one that duplicate address detection asks for, is within a prefix or link-local.
    (RFC 4861)    The hop limit is 255.  The message is not fragmented (RFC 6980).

The TAP's own addresses are not for clients.  A client may still probe for them, and is told that
they are in use.  A client must not configure other hosts: router advertisements, redirects (ICMP
and ICMPv6), and packets from a DHCP server's port or to a DHCP client's port are dropped.

All other EtherTypes are dropped, whether known or not, because their payload may carry addresses
that the filter does not check: RARP, PPPoE and MPLS do.  802.3 frames carry the spanning tree
protocol, with which a client could take over the bridge outside.

The content of an IP packet with an allowed source is not checked.  Tunnels are not opened.
Checksums are not verified: the receiver drops a packet with a wrong one.
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

IPV4_BROADCAST: Final = 0xFFFFFFFF

# The leading four bits of an IPv4 multicast address, and the leading eight of an IPv6 one.
IPV4_MULTICAST: Final = 0xE
IPV6_MULTICAST: Final = 0xFF

IPV6_ADDRESS: Final = struct.Struct("!QQ")
LINK_LOCAL: Final = IPv6Network("fe80::/10")

ND_MESSAGES: Final = frozenset(range(ROUTER_SOLICITATION, REDIRECT + 1))

# The messages that a host sends before it has an address, to learn its prefix and to claim an
# address.
ALLOWED_UNSPECIFIED: Final = frozenset(
    (ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, MLD_REPORT, MLD_DONE, MLD2_REPORT)
)

# RFC 4861, section 7.1: a router decrements the hop limit, so 255 proves that the sender is on the
# same network.
ND_HOP_LIMIT: Final = 255

# The size of a router solicitation in bytes; options follow (RFC 4861, section 4.1).
ROUTER_SOLICITATION_SIZE: Final = 8

# The source and the target link-layer address (RFC 4861, section 4.6.1).
LINK_LAYER_OPTIONS: Final = frozenset((1, 2))


class SourceFilter:
    """Checks the frames that are to leave through the TAP.

    Args:
        prefixes: the networks whose addresses clients may use.  The broadcast address of an IPv4
            prefix is never allowed as a source.
        tap_mac: the MAC address of the TAP.
        tap_addresses: the IP addresses of the host on the TAP, within the prefixes or not (its
            link-local address, for example).
    """

    def __init__(
        self, prefixes: Iterable[Network], tap_mac: bytes, tap_addresses: Iterable[Address] = ()
    ) -> None:
        networks = list(prefixes)
        self._tap_mac = tap_mac
        self._prefixes4 = [_masked(net) for net in networks if isinstance(net, IPv4Network)]
        self._prefixes6 = [_masked(net) for net in networks if isinstance(net, IPv6Network)]
        self._prefixes6.append(_masked(LINK_LOCAL))
        reserved = list(tap_addresses)
        self._reserved4 = {int(ip) for ip in reserved if isinstance(ip, IPv4Address)}
        self._reserved6 = {int(ip) for ip in reserved if isinstance(ip, IPv6Address)}
        # RFC 3021: a /31 or /32 has no broadcast address.
        self._reserved4 |= {IPV4_BROADCAST} | {
            int(net.broadcast_address)
            for net in networks
            if isinstance(net, IPv4Network) and net.prefixlen < 31
        }

    def check(self, frame: Frame) -> DropReason | None:
        """Check a frame that is about to leave.

        Returns:
            Why the frame must be dropped; None if it may leave.
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
            # A host that claims an address gives it up when it sees a probe for it, so a client
            # may probe for addresses within the prefixes only.
            allowed = _within(target, self._prefixes4)
        else:
            allowed = self._allowed_ipv4(sender)
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
            if protocol != UDP or destination != IPV4_BROADCAST or not whole:
                return DropReason.IPV4_SOURCE
        elif not self._allowed_ipv4(source):
            return DropReason.IPV4_SOURCE
        # Only the first fragment has the header that is checked here.
        if protocol == UDP and not fragment & IPV4_OFFSET:
            if total - header < PORTS.size:
                return DropReason.CUT_SHORT
            ports = PORTS.unpack_from(frame, start + header)
            if not source:
                expected = ports == (DHCPV4_CLIENT, DHCPV4_SERVER)
                return None if expected else DropReason.IPV4_SOURCE
            return _check_dhcp(ports, DHCPV4_SERVER, DHCPV4_CLIENT)
        if protocol == ICMPV4 and not fragment & IPV4_OFFSET:
            if total == header:
                return DropReason.CUT_SHORT
            if frame[start + header] in (ICMPV4_REDIRECT, ICMPV4_ROUTER):
                return DropReason.ROUTER_MESSAGE
        return None

    def _allowed_ipv4(self, address: int) -> bool:
        """Whether a client may use this address as its own."""
        return (
            address != 0
            and address >> 28 != IPV4_MULTICAST
            and _within(address, self._prefixes4)
            and address not in self._reserved4
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
        if source and not self._allowed_ipv6(source):
            return DropReason.IPV6_SOURCE
        start += IPV6.size
        stop = start + length
        in_fragment = False
        if kind in IPV6_EXTENSIONS:
            chain = _skip_extensions(frame, start, stop, kind)
            if isinstance(chain, DropReason):
                return chain
            kind, start, in_fragment = chain
        if kind == UDP and source:
            if stop - start < PORTS.size:
                return DropReason.CUT_SHORT
            return _check_dhcp(PORTS.unpack_from(frame, start), DHCPV6_SERVER, DHCPV6_CLIENT)
        if kind != ICMPV6:
            return None if source else DropReason.IPV6_SOURCE
        if stop - start < ICMPV6_SIZE:
            return DropReason.CUT_SHORT
        message = frame[start]
        if message in (ROUTER_ADVERTISEMENT, REDIRECT):
            return DropReason.ROUTER_MESSAGE
        if not source and (message not in ALLOWED_UNSPECIFIED or halves[2] >> 56 != IPV6_MULTICAST):
            return DropReason.IPV6_SOURCE
        if in_fragment and (message in ND_MESSAGES or not source):
            return DropReason.FRAGMENT
        if message not in ND_MESSAGES:
            return None
        if hop_limit != ND_HOP_LIMIT:
            return DropReason.MALFORMED
        return self._neighbour_discovery(frame[start:stop], mac, unspecified=not source)

    def _neighbour_discovery(
        self, message: Frame, mac: bytes, *, unspecified: bool
    ) -> DropReason | None:
        """Check a router or neighbour solicitation, or a neighbour advertisement.

        Args:
            message: from the ICMPv6 type on.
            mac: the source of the frame.
            unspecified: the source of the packet is ``::``.
        """
        kind = message[0]
        size = ROUTER_SOLICITATION_SIZE if kind == ROUTER_SOLICITATION else NEIGHBOUR_SIZE
        if len(message) < size:
            return DropReason.CUT_SHORT
        if message[1]:
            return DropReason.MALFORMED
        if kind != ROUTER_SOLICITATION:
            high, low = IPV6_ADDRESS.unpack_from(message, ND_TARGET_OFFSET)
            target = high << 64 | low
            if kind == NEIGHBOUR_ADVERTISEMENT:
                allowed = self._allowed_ipv6(target)
            else:
                # As with ARP: a host gives up an address when it sees a probe for it.
                allowed = not unspecified or _within(target, self._prefixes6)
            if not allowed:
                return DropReason.ND_TARGET
        return _check_nd_options(message, size, mac, unspecified=unspecified)

    def _allowed_ipv6(self, address: int) -> bool:
        """Whether a client may use this address as its own."""
        return (
            address != 0
            and address >> 120 != IPV6_MULTICAST
            and _within(address, self._prefixes6)
            and address not in self._reserved6
        )


def _masked(network: Network) -> tuple[int, int]:
    """Return the netmask and the address of a network, as integers."""
    return int(network.netmask), int(network.network_address)


def _within(address: int, prefixes: list[tuple[int, int]]) -> bool:
    for mask, prefix in prefixes:  # noqa: SIM110 (any() of a generator takes three times as long)
        if address & mask == prefix:
            return True
    return False


def _check_dhcp(ports: tuple[int, ...], server: int, client: int) -> DropReason | None:
    """Refuse packets that a DHCP client could accept as an answer, and those of a DHCP relay."""
    source, destination = ports
    return DropReason.DHCP_SERVER if source == server or destination == client else None


def _skip_extensions(
    frame: Frame, start: int, stop: int, kind: int
) -> DropReason | tuple[int, int, bool]:
    """Skip the extension headers of an IPv6 packet.

    Args:
        frame: the whole frame.
        start: offset of the first extension header, in bytes.
        stop: offset of the end of the packet.
        kind: type of the first extension header.

    Returns:
        The type of the header behind the extension headers, its offset in the frame, and whether
        the packet is a fragment; or why the packet must be dropped.  For a fragment that is not the
        first one of its packet the type is 59 (no next header).
    """
    in_fragment = False
    for _ in range(IPV6_EXTENSIONS_MAX):
        if stop - start < IPV6_EXTENSION.size:
            return DropReason.CUT_SHORT
        following, size, word = IPV6_EXTENSION.unpack_from(frame, start)
        if kind == FRAGMENT:
            in_fragment = True
            # RFC 7112: the first fragment must hold all headers.  Here the upper-layer header must
            # also come first in it: elsewhere, an overlapping second fragment could replace it.
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


def _check_nd_options(
    message: Frame, start: int, mac: bytes, *, unspecified: bool
) -> DropReason | None:
    """Check the options of neighbour discovery (RFC 4861, section 4.6), from `start` on."""
    options, error = nd_options(message, start)
    for option in options:
        if option[0] in LINK_LAYER_OPTIONS:
            if unspecified:
                return DropReason.MALFORMED
            if option[2:] != mac:
                return DropReason.ND_MAC
    return error
