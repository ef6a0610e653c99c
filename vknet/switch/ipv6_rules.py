"""Which IPv6 packets of a client may leave in secure mode, neighbour discovery included.  Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason
from vknet.packet.ip import (
    AUTHENTICATION,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ICMPV6,
    ICMPV6_SIZE,
    IPV6,
    IPV6_EXTENSION,
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
    ROUTER_SOLICITATION,
    ROUTING,
    TCP,
    UDP,
    extension_size,
    nd_options,
)
from vknet.switch.dhcp_rules import DHCPV6_PORTS, check_dhcpv6
from vknet.switch.protocols import GROUP_ROUTING_PORTS, ICMPV6_OUT, ICMPV6_ROUTERS, ROUTING_PORTS

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame
    from vknet.switch.addresses import ClientAddresses

__all__ = ["IPV6_ADDRESS", "IPV6_SKIPPED", "ND_HOP_LIMIT", "IPv6Rules", "skip_extensions"]

IPV6_ADDRESS: Final = struct.Struct("!QQ")

IPV6_MULTICAST: Final = 0xFF
"""The leading eight bits of a multicast address."""

IPV6_SKIPPED: Final = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION))
"""The extension headers behind which a host looks for the upper-layer header.  Others, such as that
of Mobile IPv6, are the last header of a packet, and count as a protocol."""

ND_MESSAGES: Final = frozenset(
    (ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT)
)

# The messages that a host sends before it has an address, to learn its prefix and to claim an
# address (RFC 3590, RFC 4861).
ALLOWED_UNSPECIFIED: Final = frozenset(
    (ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, MLD_REPORT, MLD_DONE, MLD2_REPORT)
)

# RFC 4861, section 7.1: a router decrements the hop limit, so 255 proves that the sender is on the
# same network.
ND_HOP_LIMIT: Final = 255

# The size of a router solicitation in bytes; options follow (RFC 4861, section 4.1).
ROUTER_SOLICITATION_SIZE: Final = 8

# RFC 4861, section 4.4: the sender of a neighbour advertisement is a router.
FLAGS_OFFSET: Final = 4
ROUTER_FLAG: Final = 0x80

SPECIAL_PORTS: Final = DHCPV6_PORTS | ROUTING_PORTS | GROUP_ROUTING_PORTS

# The source and the target link-layer address (RFC 4861, section 4.6.1).
LINK_LAYER_OPTIONS: Final = frozenset((1, 2))


class IPv6Rules:
    """Checks what is behind the Ethernet header and the VLAN tags.

    Args:
        addresses: which addresses a client may use.
        protocols: the IP protocols that may leave.
    """

    def __init__(self, addresses: ClientAddresses, protocols: frozenset[int]) -> None:
        self._addresses = addresses
        # The set is never replaced, so a packet costs one look-up in it.
        self._usable = addresses.usable
        self._protocols = protocols | {IPV6_NO_NEXT_HEADER}

    def check(self, frame: Frame, start: int, mac: bytes) -> DropReason | None:
        """Check a packet at `start`; `mac` is the source of the frame."""
        available = len(frame) - start - IPV6.size
        if available < 0:
            return DropReason.CUT_SHORT
        first, length, kind, hop_limit, *halves = IPV6.unpack_from(frame, start)
        if first >> 4 != 6:
            return DropReason.MALFORMED
        if length > available:
            return DropReason.CUT_SHORT
        source = halves[0] << 64 | halves[1]
        if source and source not in self._usable:
            reason = self._addresses.refuse(source, DropReason.IPV6_SOURCE)
            if reason is not None:
                return reason
        start += IPV6.size
        stop = start + length
        in_fragment = False
        if kind in IPV6_SKIPPED:
            chain = skip_extensions(frame, start, stop, kind)
            if isinstance(chain, DropReason):
                return chain
            kind, start, in_fragment = chain
        if not source and kind != ICMPV6:
            return DropReason.IPV6_SOURCE
        if kind not in self._protocols:
            return DropReason.PROTOCOL
        if kind == TCP:
            return None
        is_group = halves[2] >> 56 == IPV6_MULTICAST
        if kind == UDP:
            if stop - start < PORTS.size:
                return DropReason.CUT_SHORT
            ports = PORTS.unpack_from(frame, start)
            if not SPECIAL_PORTS.intersection(ports):
                return None
            return _check_udp(ports, frame[start:stop], is_group=is_group, whole=not in_fragment)
        if kind != ICMPV6:
            return None
        if stop - start < ICMPV6_SIZE:
            return DropReason.CUT_SHORT
        message = frame[start]
        if message not in ICMPV6_OUT:
            return (
                DropReason.ROUTER_MESSAGE if message in ICMPV6_ROUTERS else DropReason.MESSAGE_TYPE
            )
        if not source and (message not in ALLOWED_UNSPECIFIED or not is_group):
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
        reason = None
        if kind != ROUTER_SOLICITATION:
            high, low = IPV6_ADDRESS.unpack_from(message, ND_TARGET_OFFSET)
            target = high << 64 | low
            if kind == NEIGHBOUR_ADVERTISEMENT:
                if message[FLAGS_OFFSET] & ROUTER_FLAG:
                    return DropReason.ROUTER_MESSAGE
                reason = self._addresses.refuse(target, DropReason.ND_TARGET)
            elif unspecified and not self._addresses.within(target):
                # As with ARP: a host gives up an address when it sees a probe for it.
                reason = DropReason.ND_TARGET
        return reason or _check_nd_options(message, size, mac, unspecified=unspecified)


def skip_extensions(
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
        first one of its packet, the type is that of its payload if this is neither UDP nor ICMPv6,
        else 59 (no next header).
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
            if word & IPV6_FRAGMENTED and following in IPV6_SKIPPED:
                return DropReason.FRAGMENT
            if word & IPV6_OFFSET:
                has_no_header = following in (UDP, ICMPV6)
                return IPV6_NO_NEXT_HEADER if has_no_header else following, start, True
        elif kind == ROUTING and word & 0xFF:
            # Segments are left: a host outside would forward the packet (RFC 5095).
            return DropReason.SOURCE_ROUTE
        start += extension_size(kind, size)
        kind = following
        if start > stop:
            return DropReason.CUT_SHORT
        if kind not in IPV6_SKIPPED:
            return kind, start, in_fragment
    return DropReason.MALFORMED


def _check_udp(
    ports: tuple[int, ...], datagram: Frame, *, is_group: bool, whole: bool
) -> DropReason | None:
    """Check a UDP datagram from or to one of `SPECIAL_PORTS`."""
    if ports[1] in ROUTING_PORTS or (is_group and ports[1] in GROUP_ROUTING_PORTS):
        return DropReason.ROUTER_MESSAGE
    return None if DHCPV6_PORTS.isdisjoint(ports) else check_dhcpv6(datagram, whole=whole)


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
