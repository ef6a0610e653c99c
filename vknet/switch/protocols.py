"""Which protocols and message types of a client may leave in secure mode.  Pure.

The lists name what may leave, not what may not: a message type that is not listed is dropped.
"""

from __future__ import annotations

from typing import Final

from vknet.packet.ip import (
    ESP,
    ICMPV4,
    ICMPV6,
    IGMP,
    IGMP1_REPORT,
    IGMP2_LEAVE,
    IGMP2_REPORT,
    IGMP3_REPORT,
    IGMP_QUERY,
    MLD2_REPORT,
    MLD_DONE,
    MLD_QUERY,
    MLD_REPORT,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    REDIRECT,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    TCP,
    UDP,
)

__all__ = [
    "DEFAULT_PROTOCOLS",
    "GROUP_ROUTING_PORTS",
    "ICMPV4_OUT",
    "ICMPV4_ROUTERS",
    "ICMPV6_OUT",
    "ICMPV6_ROUTERS",
    "IGMP_OUT",
    "IGMP_ROUTERS",
    "PROTOCOL_NAMES",
    "ROUTING_PORTS",
]

DEFAULT_PROTOCOLS: Final = frozenset((ICMPV4, IGMP, TCP, UDP, ESP, ICMPV6))

PROTOCOL_NAMES: Final = {
    "icmp": ICMPV4,
    "igmp": IGMP,
    "ipencap": 4,
    "tcp": TCP,
    "udp": UDP,
    "dccp": 33,
    "ipv6": 41,
    "rsvp": 46,
    "gre": 47,
    "esp": ESP,
    "ah": 51,
    "icmp6": ICMPV6,
    "eigrp": 88,
    "ospf": 89,
    "etherip": 97,
    "pim": 103,
    "ipcomp": 108,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
    "mobility": 135,
    "udplite": 136,
    "hip": 139,
    "shim6": 140,
}
"""The names that ``--protocols`` takes; IANA's, as in protocols(5)."""

ICMPV4_OUT: Final = frozenset((0, 3, 8, 10, 11, 12, 13, 14, 42, 43))
"""Echo, errors, router solicitation, timestamps, extended echo (RFC 792, 1256, 8335)."""
ICMPV4_ROUTERS: Final = frozenset((5, 9, 18))
"""Redirect, router advertisement, address mask reply (RFC 950): they configure hosts."""

ICMPV6_OUT: Final = frozenset((1, 2, 3, 4, 128, 129, 160, 161)) | {
    *(MLD_REPORT, MLD_DONE, MLD2_REPORT),
    *(ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT),
}
"""Errors, echo, extended echo, MLD reports, what a host sends in neighbour discovery."""
ICMPV6_ROUTERS: Final = frozenset(
    (MLD_QUERY, ROUTER_ADVERTISEMENT, REDIRECT, 138, 145, 147, 149, 151, 152, 153)
)
"""Also router renumbering (RFC 2894), mobile prefixes and home agents (RFC 6275), certification
paths (RFC 3971), multicast router discovery (RFC 4286)."""

IGMP_OUT: Final = frozenset((IGMP1_REPORT, IGMP2_REPORT, IGMP2_LEAVE, IGMP3_REPORT))
IGMP_ROUTERS: Final = frozenset((IGMP_QUERY, 0x13, 0x14, 0x30, 0x31, 0x32))
"""Also DVMRP (RFC 1075), PIM version 1, multicast router discovery."""

ROUTING_PORTS: Final = frozenset((520, 521))
"""The UDP ports of RIP and RIPng."""
GROUP_ROUTING_PORTS: Final = frozenset((646, 698, 1985, 2029, 3222, 6696))
"""The UDP ports of LDP, OLSR, HSRP for IPv4 and IPv6, GLBP and Babel, in packets for groups.  Other
programs may use these numbers for their own end of a connection."""
