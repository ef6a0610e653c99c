"""Frames for the filter of secure mode: IP protocols, message types, DHCP, routing."""

from __future__ import annotations

from typing import Final

from tests.support.packets import (
    DHCP_COOKIE,
    DISCOVER,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    OFFER,
    OTHER,
    REQUEST,
    ROUTING,
    UDP,
    dhcpv4,
    dhcpv4_frame,
    dhcpv6,
    extension,
    fragment,
    icmp,
    icmpv6,
    icmpv6_frame,
    igmp,
    ipv4,
    ipv4_frame,
    ipv6,
    ipv6_frame,
    neighbour,
    packet,
    target_mac,
    udp,
)
from vknet.counters import DropReason

__all__ = ["DROPPED", "LEGITIMATE", "PROTOCOLS"]

IGMP: Final = 2

# RFC 2113 and RFC 791.
ROUTER_ALERT: Final = bytes.fromhex("94040000")
LOOSE_SOURCE_ROUTE: Final = bytes.fromhex("830704") + bytes(4) + b"\0"
STRICT_SOURCE_ROUTE: Final = b"\1" + bytes.fromhex("890704") + bytes(4)


def igmp_frame(source: str, kind: int, destination: str = "224.0.0.22") -> bytes:
    """Return a frame with an IGMP message, with the router alert option."""
    message = ipv4(source, IGMP, igmp(kind), destination=destination, options=ROUTER_ALERT)
    return ipv4_frame(message)


def mld_frame(source: str, kind: int) -> bytes:
    """Return a frame with an MLD message, behind a hop-by-hop header with a router alert."""
    message = bytes.fromhex("3a00050200000100") + icmpv6(kind, bytes(20))
    return ipv6_frame(ipv6(source, HOP_BY_HOP, message, destination="ff02::1", hop_limit=1))


def dhcpv6_frame(kind: int, source: int = 546, destination: int = 547) -> bytes:
    return packet("fe80::5", UDP, udp(source, destination, dhcpv6(kind)))


PROTOCOLS: Final = {
    "IPv4 in IPv4": 4,
    "EGP": 8,
    "DCCP": 33,
    "IPv6 in IPv4": 41,
    "RSVP": 46,
    "GRE": 47,
    "AH": 51,
    "EIGRP": 88,
    "OSPF": 89,
    "Ethernet in IP": 97,
    "PIM": 103,
    "VRRP and CARP": 112,
    "L2TP": 115,
    "IS-IS": 124,
    "SCTP": 132,
    "Mobile IPv6": 135,
    "UDP-Lite": 136,
    "HIP": 139,
    "Shim6": 140,
    "an experimental protocol": 253,
}
"""Protocols that do not leave by default; AH is an extension header of IPv6."""

LEGITIMATE: Final = {
    "ESP": packet("192.0.2.5", 50),
    **{
        f"IGMP type {kind:#x} from {source}": igmp_frame(source, kind)
        for kind in (0x12, 0x16, 0x17, 0x22)
        for source in ("192.0.2.5", "0.0.0.0")
    },
    **{f"MLD type {kind}": mld_frame("fe80::5", kind) for kind in (131, 132, 143)},
    **{
        f"ICMP type {kind}": packet("192.0.2.5", ICMP, icmp(kind))
        for kind in (0, 3, 8, 10, 11, 12, 13, 14, 42, 43)
    },
    **{
        f"ICMPv6 type {kind}": packet("2001:db8::5", ICMPV6, icmpv6(kind))
        for kind in (1, 2, 3, 4, 128, 129, 160, 161)
    },
    **{
        f"DHCP message type {kind}": dhcpv4_frame(dhcpv4(DHCP_COOKIE + bytes([53, 1, kind, 255])))
        for kind in (1, 3, 4, 7, 8)
    },
    **{f"DHCPv6 message type {kind}": dhcpv6_frame(kind) for kind in (1, 3, 4, 5, 6, 8, 9, 11)},
    "a DHCP message with many options and padding behind the end": dhcpv4_frame(
        dhcpv4(DISCOVER[:-1] + b"\x0c\x04host\0\0\xff" + bytes(200))
    ),
    "a BOOTP request": dhcpv4_frame(dhcpv4(bytes(64))),
    "UDP from the port of a DHCP client": packet("192.0.2.5", UDP, udp(68, 9)),
    "UDP to a port that HSRP uses": packet("192.0.2.5", UDP, udp(9, 1985)),
    "UDP to a port that Babel uses": packet("192.0.2.5", UDP, udp(9, 6696)),
    "IPv4 with a timestamp option": ipv4_frame(
        ipv4("192.0.2.5", options=b"\1\x44\x04\x05\0\0\0\0")
    ),
    "a routing header without segments left": packet(
        "2001:db8::5", ROUTING, bytes([6, 0, 2, 0]) + bytes(4) + bytes(20)
    ),
}

DROPPED: Final = {
    # The filter drops each for this reason.
    **{
        f"{name} over {family}": (packet(source, number), DropReason.PROTOCOL)
        for name, number in PROTOCOLS.items()
        for family, source in (("IPv4", "192.0.2.5"), ("IPv6", "2001:db8::5"))
        if (name, family) != ("AH", "IPv6")
    },
    "a later fragment of GRE": (
        ipv4_frame(ipv4("192.0.2.5", 47, bytes(8), offset=2)),
        DropReason.PROTOCOL,
    ),
    "a later fragment of GRE over IPv6": (
        packet("2001:db8::5", FRAGMENT, fragment(47, 2) + bytes(8)),
        DropReason.PROTOCOL,
    ),
    "GRE behind extension headers": (
        packet("2001:db8::5", HOP_BY_HOP, extension(47) + bytes(8)),
        DropReason.PROTOCOL,
    ),
    "GRE from 0.0.0.0": (
        ipv4_frame(ipv4("0.0.0.0", 47, destination="224.0.0.5")),
        DropReason.IPV4_SOURCE,
    ),
    **{
        f"IGMP type {kind:#x}": (igmp_frame("192.0.2.5", kind), reason)
        for kinds, reason in (
            ((0x11, 0x13, 0x14, 0x30, 0x31, 0x32), DropReason.ROUTER_MESSAGE),
            ((0, 0x15, 0x1E, 0x1F, 0x40, 0xFF), DropReason.MESSAGE_TYPE),
        )
        for kind in kinds
    },
    "an IGMP query from 0.0.0.0": (
        igmp_frame("0.0.0.0", 0x11, "224.0.0.1"),
        DropReason.ROUTER_MESSAGE,
    ),
    "an IGMP report from 0.0.0.0 that is not for a group": (
        igmp_frame("0.0.0.0", 0x16, "192.0.2.9"),
        DropReason.IPV4_SOURCE,
    ),
    "an IGMP message of seven bytes": (
        packet("192.0.2.5", IGMP, igmp(22)[:7]),
        DropReason.CUT_SHORT,
    ),
    "IGMP in a first fragment": (
        ipv4_frame(ipv4("192.0.2.5", IGMP, igmp(0x22), more=True)),
        DropReason.FRAGMENT,
    ),
    "IGMP in a later fragment": (
        ipv4_frame(ipv4("192.0.2.5", IGMP, igmp(0x22), offset=1)),
        DropReason.FRAGMENT,
    ),
    **{
        f"MLD type {kind}": (mld_frame("fe80::5", kind), DropReason.ROUTER_MESSAGE)
        for kind in (130, 151, 152, 153)
    },
    "an MLD query from ::": (mld_frame("::", 130), DropReason.ROUTER_MESSAGE),
    "an MLD query in a first fragment": (
        packet("fe80::5", FRAGMENT, fragment(ICMPV6, more=True) + icmpv6(130, bytes(20))),
        DropReason.ROUTER_MESSAGE,
    ),
    "an MLD query in an only fragment": (
        packet("fe80::5", FRAGMENT, fragment(ICMPV6) + icmpv6(130, bytes(20))),
        DropReason.ROUTER_MESSAGE,
    ),
    **{
        f"ICMPv6 type {kind}": (packet("fe80::5", ICMPV6, icmpv6(kind, bytes(36))), reason)
        for kinds, reason in (
            ((134, 137, 138, 145, 147, 149), DropReason.ROUTER_MESSAGE),
            (
                (0, 100, 139, 140, 141, 142, 144, 146, 148, 154, 155, 200, 255),
                DropReason.MESSAGE_TYPE,
            ),
        )
        for kind in kinds
    },
    **{
        f"ICMP type {kind}": (packet("192.0.2.5", ICMP, icmp(kind)), reason)
        for kinds, reason in (
            ((5, 9, 18), DropReason.ROUTER_MESSAGE),
            ((1, 4, 6, 15, 16, 17, 30, 37, 38, 40, 255), DropReason.MESSAGE_TYPE),
        )
        for kind in kinds
    },
    "a neighbour advertisement of a router": (
        icmpv6_frame("2001:db8::5", neighbour(136, "2001:db8::5", target_mac(), flags=0xE0)),
        DropReason.ROUTER_MESSAGE,
    ),
    "a BOOTREPLY to a relay from any port": (
        dhcpv4_frame(dhcpv4(OFFER, operation=2), source=1000),
        DropReason.DHCP_SERVER,
    ),
    "a BOOTREPLY to a relay from the port of a client": (
        dhcpv4_frame(dhcpv4(OFFER, operation=2)),
        DropReason.DHCP_SERVER,
    ),
    "a BOOTREPLY that is cut short": (
        packet("192.0.2.5", UDP, udp(1000, 67, b"\2")),
        DropReason.DHCP_SERVER,
    ),
    "a DHCP message that a relay passes on": (
        dhcpv4_frame(dhcpv4(DISCOVER, relay="192.0.2.5")),
        DropReason.DHCP_SERVER,
    ),
    **{
        f"a BOOTREQUEST with message type {kind}": (
            dhcpv4_frame(dhcpv4(DHCP_COOKIE + bytes([53, 1, kind, 255]))),
            DropReason.DHCP_SERVER,
        )
        for kind in (0, 2, 5, 6, 9, 10, 13)
    },
    "a second DHCP message type": (
        dhcpv4_frame(dhcpv4(DISCOVER[:-1] + OFFER[4:])),
        DropReason.DHCP_SERVER,
    ),
    "a DHCP message type of two bytes": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x35\x02\1\2\xff")),
        DropReason.DHCP_SERVER,
    ),
    "DHCP for another station's MAC address": (
        dhcpv4_frame(dhcpv4(REQUEST, mac=OTHER)),
        DropReason.DHCP_MAC,
    ),
    "DHCP with another operation": (
        dhcpv4_frame(dhcpv4(DISCOVER, operation=3)),
        DropReason.MALFORMED,
    ),
    "DHCP for other hardware than Ethernet": (
        dhcpv4_frame(dhcpv4(DISCOVER, hardware=6)),
        DropReason.MALFORMED,
    ),
    "DHCP with a hardware address of 16 bytes": (
        dhcpv4_frame(dhcpv4(DISCOVER, address_size=16)),
        DropReason.MALFORMED,
    ),
    "a DHCP option that is longer than the message": (
        dhcpv4_frame(dhcpv4(DISCOVER[:-1] + b"\x0c\xc8host")),
        DropReason.CUT_SHORT,
    ),
    "more DHCP options than are parsed": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x0c\0" * 65 + DISCOVER[4:])),
        DropReason.MALFORMED,
    ),
    "a DHCP message without its fixed fields": (
        dhcpv4_frame(dhcpv4(b"")[:-1]),
        DropReason.CUT_SHORT,
    ),
    "a DHCP message with another UDP length": (
        packet("192.0.2.5", UDP, udp(68, 67, dhcpv4(DISCOVER)) + bytes(4)),
        DropReason.CUT_SHORT,
    ),
    "a DHCP message in a first fragment": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(68, 67, dhcpv4(DISCOVER)), more=True)),
        DropReason.FRAGMENT,
    ),
    "the UDP header of a DHCP message in a first fragment": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(1000, 67, b""), more=True)),
        DropReason.FRAGMENT,
    ),
    **{
        f"DHCPv6 message type {kind} to {port}": (
            dhcpv6_frame(kind, 1000, port),
            DropReason.DHCP_SERVER,
        )
        for kind in (2, 7, 10, 13)
        for port in (546, 547)
    },
    **{
        f"DHCPv6 message type {kind}": (dhcpv6_frame(kind), DropReason.DHCP_SERVER)
        for kind in (0, 12, 14, 15, 20, 255)
    },
    "a DHCPv6 message in an only fragment": (
        packet("fe80::5", FRAGMENT, fragment(UDP) + udp(546, 547, dhcpv6(1))),
        DropReason.FRAGMENT,
    ),
    "a DHCPv6 message without a header": (
        packet("fe80::5", UDP, udp(546, 547, b"\1\0\0")),
        DropReason.CUT_SHORT,
    ),
    "an empty DHCPv6 message": (packet("fe80::5", UDP, udp(546, 547, b"")), DropReason.CUT_SHORT),
    "a DHCPv6 option that is longer than the message": (
        packet("fe80::5", UDP, udp(546, 547, dhcpv6(1, b"\0\6\0\4\0\1"))),
        DropReason.CUT_SHORT,
    ),
    "a DHCPv6 option that is cut short": (
        packet("fe80::5", UDP, udp(546, 547, dhcpv6(1, b"\0\6"))),
        DropReason.CUT_SHORT,
    ),
    "more DHCPv6 options than are parsed": (
        packet("fe80::5", UDP, udp(546, 547, dhcpv6(1, b"\0\x0e\0\0" * 64))),
        DropReason.MALFORMED,
    ),
    "RIP": (packet("192.0.2.5", UDP, udp(520, 520)), DropReason.ROUTER_MESSAGE),
    "RIP from the port of a DHCP client": (
        packet("192.0.2.5", UDP, udp(68, 520)),
        DropReason.ROUTER_MESSAGE,
    ),
    "RIPng from the port of a DHCP client": (
        packet("fe80::5", UDP, udp(546, 521)),
        DropReason.ROUTER_MESSAGE,
    ),
    "RIPng": (packet("fe80::5", UDP, udp(521, 521)), DropReason.ROUTER_MESSAGE),
    "HSRP": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(1985, 1985), destination="224.0.0.2")),
        DropReason.ROUTER_MESSAGE,
    ),
    "HSRP for IPv6": (
        ipv6_frame(ipv6("fe80::5", UDP, udp(2029, 2029), destination="ff02::66")),
        DropReason.ROUTER_MESSAGE,
    ),
    "LDP": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(646, 646), destination="224.0.0.2")),
        DropReason.ROUTER_MESSAGE,
    ),
    "OLSR": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(698, 698), destination="224.0.0.109")),
        DropReason.ROUTER_MESSAGE,
    ),
    "Babel for IPv4": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(6696, 6696), destination="224.0.0.111")),
        DropReason.ROUTER_MESSAGE,
    ),
    "Babel": (
        ipv6_frame(ipv6("fe80::5", UDP, udp(6696, 6696), destination="ff02::1:6")),
        DropReason.ROUTER_MESSAGE,
    ),
    "a loose source route": (
        ipv4_frame(ipv4("192.0.2.5", options=LOOSE_SOURCE_ROUTE)),
        DropReason.SOURCE_ROUTE,
    ),
    "a strict source route": (
        ipv4_frame(ipv4("192.0.2.5", options=STRICT_SOURCE_ROUTE)),
        DropReason.SOURCE_ROUTE,
    ),
    "an IPv4 option that is longer than the header": (
        ipv4_frame(ipv4("192.0.2.5", options=b"\x44\x05\0\0")),
        DropReason.MALFORMED,
    ),
    "an IPv4 option of length zero": (
        ipv4_frame(ipv4("192.0.2.5", options=b"\x44\0\0\0")),
        DropReason.MALFORMED,
    ),
    "a routing header with segments left": (
        packet("2001:db8::5", ROUTING, bytes([6, 2, 0, 1]) + bytes(20) + bytes(20)),
        DropReason.SOURCE_ROUTE,
    ),
}
