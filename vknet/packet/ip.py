"""ARP, IP and what IP carries: header formats, protocol numbers, limits.  Pure.

Formats are for `struct`.  What a wrong value means is up to the reader: the filter refuses the
frame, the description says so and goes on.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason
from vknet.packet.ethernet import ETHERTYPE_IPV4

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = [
    "ARP",
    "ARP_FOR_IPV4",
    "ARP_REPLY",
    "ARP_REQUEST",
    "AUTHENTICATION",
    "DESTINATION",
    "DHCPV4_CLIENT",
    "DHCPV4_SERVER",
    "DHCPV6_CLIENT",
    "DHCPV6_SERVER",
    "ESP",
    "FRAGMENT",
    "HOP_BY_HOP",
    "ICMPV4",
    "ICMPV4_REDIRECT",
    "ICMPV4_ROUTER",
    "ICMPV6",
    "ICMPV6_SIZE",
    "IGMP",
    "IGMP1_REPORT",
    "IGMP2_LEAVE",
    "IGMP2_REPORT",
    "IGMP3_REPORT",
    "IGMP_QUERY",
    "IGMP_SIZE",
    "IPV4",
    "IPV4_HEADER_MIN",
    "IPV4_MORE_FRAGMENTS",
    "IPV4_OFFSET",
    "IPV6",
    "IPV6_EXTENSION",
    "IPV6_EXTENSIONS",
    "IPV6_EXTENSIONS_MAX",
    "IPV6_FRAGMENTED",
    "IPV6_HEADER_SIZE",
    "IPV6_MIN_MTU",
    "IPV6_NO_NEXT_HEADER",
    "IPV6_OFFSET",
    "IPV6_OPTION_HEADERS",
    "MLD2_REPORT",
    "MLD_DONE",
    "MLD_QUERY",
    "MLD_REPORT",
    "ND_TARGET_OFFSET",
    "NEIGHBOUR_ADVERTISEMENT",
    "NEIGHBOUR_SIZE",
    "NEIGHBOUR_SOLICITATION",
    "PORTS",
    "REDIRECT",
    "ROUTER_ADVERTISEMENT",
    "ROUTER_SOLICITATION",
    "ROUTING",
    "TCP",
    "TCP_HEADER_MIN",
    "UDP",
    "UDP_HEADER_SIZE",
    "extension_size",
    "nd_options",
]

# RFC 826: hardware and protocol, the lengths of their addresses, operation; the sender's two
# addresses, the target's two.
ARP: Final = struct.Struct("!HHBBH6sI6sI")
ARP_FOR_IPV4: Final = (1, ETHERTYPE_IPV4, 6, 4)
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2

# RFC 791: version and header length, total length, fragment, protocol, source, destination.
IPV4: Final = struct.Struct("!BxHxxHxBxxII")
IPV4_HEADER_MIN: Final = IPV4.size
IPV4_MORE_FRAGMENTS: Final = 0x2000
IPV4_OFFSET: Final = 0x1FFF

# RFC 8200: version, payload length, next header, hop limit, source and destination in halves.
IPV6: Final = struct.Struct("!B3xHBBQQQQ")
IPV6_HEADER_SIZE: Final = IPV6.size

IPV6_MIN_MTU: Final = 1280
"""Bytes; RFC 8200, section 5.  Below it Linux takes IPv6 off an interface."""

# The next header, its length (for a fragment: reserved), and for a fragment its offset.
IPV6_EXTENSION: Final = struct.Struct("!BBHxxxx")
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
MOBILITY, HIP, SHIM6 = 135, 139, 140

IPV6_OPTION_HEADERS: Final = frozenset((HOP_BY_HOP, ROUTING, DESTINATION))
"""Extension headers behind which the transport header still lies open."""

IPV6_EXTENSIONS: Final = IPV6_OPTION_HEADERS | {FRAGMENT, AUTHENTICATION, MOBILITY, HIP, SHIM6}
"""All extension headers; RFC 8200 and the IANA registry."""

IPV6_EXTENSIONS_MAX: Final = 8
"""The number of extension headers that are parsed.  RFC 8200 has a use for seven in one packet;
hosts drop longer chains as well."""

IPV6_FRAGMENTED: Final = 0xFFF9
"""The fragment offset and the flag for more; both are zero in a fragment that is a whole packet."""
IPV6_OFFSET: Final = 0xFFF8

ICMPV4, IGMP, TCP, UDP, ESP, ICMPV6 = 1, 2, 6, 17, 50, 58
IPV6_NO_NEXT_HEADER: Final = 59

TCP_HEADER_MIN: Final = 20

UDP_HEADER_SIZE: Final = 8
PORTS: Final = struct.Struct("!HHxxxx")
"""The ports of UDP, with the size of its header.  TCP has its ports in the same place."""
DHCPV4_SERVER, DHCPV4_CLIENT = 67, 68
DHCPV6_CLIENT, DHCPV6_SERVER = 546, 547

ICMPV4_REDIRECT: Final = 5
ICMPV4_ROUTER: Final = 9

# RFC 1112, 2236 and 3376; the messages of routers are a query and those of RFC 4286.
IGMP_SIZE: Final = 8
IGMP_QUERY: Final = 0x11
IGMP1_REPORT, IGMP2_REPORT, IGMP2_LEAVE, IGMP3_REPORT = 0x12, 0x16, 0x17, 0x22

ICMPV6_SIZE: Final = 4
MLD_QUERY, MLD_REPORT, MLD_DONE, MLD2_REPORT = 130, 131, 132, 143
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT = 135, 136, 137

ND_TARGET_OFFSET: Final = 8
"""Offset of the target address in a neighbour solicitation or advertisement, in bytes."""
NEIGHBOUR_SIZE: Final = 24
"""The size of both in bytes; options follow."""

ND_OPTION_UNIT: Final = 8
ND_OPTIONS_MAX: Final = 16
"""The number of options that are parsed.  Hosts send one or two, SEND (RFC 3971) six; it bounds the
cost of a frame of 64 KB."""


def extension_size(kind: int, length: int) -> int:
    """Return the size of an IPv6 extension header in bytes.

    Args:
        kind: one of `IPV6_EXTENSIONS`.
        length: the header's second byte.
    """
    if kind == FRAGMENT:
        return IPV6_EXTENSION.size
    # RFC 4302: the length of AH is in units of four bytes, less two of them.
    return (length + 2) * 4 if kind == AUTHENTICATION else (length + 1) * 8


def nd_options(message: Frame, start: int) -> tuple[list[Frame], DropReason | None]:
    """Split the options of neighbour discovery (RFC 4861, section 4.6).

    Args:
        message: an ICMPv6 message.
        start: offset of its first option.

    Returns:
        The options before the first wrong one, each with its type and length; and what is wrong
        with that one, or None.
    """
    options: list[Frame] = []
    size = len(message)
    while start < size:
        if len(options) == ND_OPTIONS_MAX:
            return options, DropReason.MALFORMED
        if size - start < ND_OPTION_UNIT:
            return options, DropReason.CUT_SHORT
        length = message[start + 1] * ND_OPTION_UNIT
        if not 0 < length <= size - start:
            return options, DropReason.MALFORMED
        options.append(message[start : start + length])
        start += length
    return options, None
