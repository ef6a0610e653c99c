"""What stands behind an Ethernet header: how ARP, IP and what it carries are laid out.  Pure.

Formats for `struct`, and the numbers that are in them.  What a wrong one means is for those to say
who read it: the filter refuses, the description goes on.
"""

from __future__ import annotations

import struct
from typing import Final

from vknet.packet.ethernet import ETHERTYPE_IPV4

__all__ = [
    "ARP",
    "ARP_FOR_IPV4",
    "ARP_REPLY",
    "ARP_REQUEST",
    "AUTHENTICATION",
    "DHCPV4_CLIENT",
    "DHCPV4_SERVER",
    "DHCPV6_CLIENT",
    "DHCPV6_SERVER",
    "EXTENSION",
    "EXTENSIONS",
    "EXTENSIONS_MAX",
    "FRAGMENT",
    "ICMPV4",
    "ICMPV4_REDIRECT",
    "ICMPV4_ROUTER",
    "ICMPV6",
    "ICMPV6_SIZE",
    "IPV4",
    "IPV4_MORE_FRAGMENTS",
    "IPV4_OFFSET",
    "IPV6",
    "IPV6_FRAGMENTED",
    "IPV6_OFFSET",
    "MLD2_REPORT",
    "MLD_DONE",
    "MLD_REPORT",
    "NEIGHBOUR_ADVERTISEMENT",
    "NEIGHBOUR_SIZE",
    "NEIGHBOUR_SOLICITATION",
    "NOTHING",
    "PORTS",
    "REDIRECT",
    "ROUTER_ADVERTISEMENT",
    "ROUTER_SOLICITATION",
    "TARGET",
    "TCP",
    "UDP",
    "extension_size",
]

# RFC 826: hardware and protocol, their addresses' lengths, operation; sender's two, target's two.
ARP: Final = struct.Struct("!HHBBH6sI6sI")
ARP_FOR_IPV4: Final = (1, ETHERTYPE_IPV4, 6, 4)
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2

# RFC 791: version and header length, total length, fragment, protocol, source, destination.
IPV4: Final = struct.Struct("!BxHxxHxBxxII")
IPV4_MORE_FRAGMENTS: Final = 0x2000
IPV4_OFFSET: Final = 0x1FFF

# RFC 8200: version, payload length, next header, hop limit, source and destination in halves.
IPV6: Final = struct.Struct("!B3xHBBQQQQ")

# The next header, its length (for a fragment: reserved), and for a fragment its offset.
EXTENSION: Final = struct.Struct("!BBHxxxx")
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
MOBILITY, HIP, SHIM6 = 135, 139, 140
EXTENSIONS: Final = frozenset(
    (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY, HIP, SHIM6)
)
IPV6_FRAGMENTED: Final = 0xFFF9
"""The offset, and whether more come; both zero in a fragment that is the whole packet."""
IPV6_OFFSET: Final = 0xFFF8

EXTENSIONS_MAX: Final = 8
"""RFC 8200 has a use for seven in one packet; hosts drop longer chains as well."""

ICMPV4, TCP, UDP, ICMPV6 = 1, 6, 17, 58
NOTHING: Final = 59
PORTS: Final = struct.Struct("!HHxxxx")
"""Of UDP, with the eight bytes that its header has; TCP has its ports in the same place."""
DHCPV4_SERVER, DHCPV4_CLIENT = 67, 68
DHCPV6_CLIENT, DHCPV6_SERVER = 546, 547

ICMPV4_REDIRECT: Final = 5
ICMPV4_ROUTER: Final = 9

ICMPV6_SIZE: Final = 4
MLD_REPORT, MLD_DONE, MLD2_REPORT = 131, 132, 143
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT = 135, 136, 137

TARGET: Final = 8
NEIGHBOUR_SIZE: Final = 24
"""Solicitation and advertisement alike; the target stands at `TARGET`, the options behind."""


def extension_size(kind: int, length: int) -> int:
    """How many bytes an extension header of IPv6 has.

    Args:
        kind: one of `EXTENSIONS`.
        length: what stands in its second byte.
    """
    if kind == FRAGMENT:
        return EXTENSION.size
    # RFC 4302: in units of four bytes, for once, and without two of them.
    return (length + 2) * 4 if kind == AUTHENTICATION else (length + 1) * 8
