"""Frames of many kinds, and how `vknet.capture.describe` has to describe them."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final

from tests.support.packets import (
    ARP,
    AUTHENTICATION,
    DESTINATION,
    EXPERIMENTAL,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    TCP,
    UDP,
    arp,
    dhcpv4,
    dhcpv4_frame,
    ethernet,
    extension,
    fragment,
    icmp,
    icmpv6,
    ipv4,
    ipv6,
    neighbour,
    packet,
    source_mac,
    tag,
    target_mac,
    tcp,
    udp,
)

__all__ = ["DHCP_COOKIE", "LINES", "MACS", "MESSAGES", "PREFIX_OPTION"]

MACS: Final = "02:00:00:00:00:0c > 02:00:00:00:aa:01, "
"""How the description of each frame here begins."""

DHCP_COOKIE: Final = bytes.fromhex("63825363")

# An RFC 4861 prefix information option.
PREFIX_OPTION: Final = bytes([3, 4, 64, 0]) + bytes(12) + IPv6Address("2001:db8::").packed

# Each frame with its description, which follows `MACS`.
LINES: Final = {
    # Ethernet.
    "an unknown EtherType": (ethernet(EXPERIMENTAL, bytes(40)), "type 0x88b5, length 54"),
    "a known EtherType": (ethernet(0x88CC, bytes(40)), "LLDP, length 54"),
    "a header without a payload": (ethernet(EXPERIMENTAL, b""), "type 0x88b5, length 14"),
    "spanning tree": (ethernet(38, b"\x42\x42\x03" + bytes(35)), "802.3 spanning tree, length 52"),
    "802.3 with an unknown service access point": (
        ethernet(3, b"\x99\x98\x03"),
        "802.3 for 0x99, length 17",
    ),
    "802.3 without a payload": (ethernet(3, b""), "802.3 cut short, length 14"),
    "a VLAN": (ethernet(EXPERIMENTAL, b"", tags=tag(5)), "vlan 5, type 0x88b5, length 18"),
    "a VLAN with a priority": (
        ethernet(EXPERIMENTAL, b"", tags=tag(6 << 13 | 4095)),
        "vlan 4095 priority 6, type 0x88b5, length 18",
    ),
    "two VLAN tags": (
        ethernet(EXPERIMENTAL, b"", tags=tag(5, 0x88A8) + tag(7)),
        "vlan 5, vlan 7, type 0x88b5, length 22",
    ),
    "more VLAN tags than are parsed": (
        ethernet(EXPERIMENTAL, b"", tags=tag(5) * 5),
        "vlan 5, vlan 5, vlan 5, vlan 5, more VLAN tags, length 34",
    ),
    "a second VLAN tag that is cut short": (
        ethernet(0x8100, b"\0", tags=tag(5)),
        "vlan 5, a VLAN tag cut short, length 19",
    ),
    # ARP.
    "an ARP request": (
        ethernet(ARP, arp("192.0.2.5")),
        "ARP who-has 192.0.2.1 tell 192.0.2.5, length 42",
    ),
    "an ARP reply": (
        ethernet(ARP, arp("192.0.2.5", operation=2)),
        "ARP 192.0.2.5 is-at 02:00:00:00:00:0c, length 42",
    ),
    "an ARP probe": (
        ethernet(ARP, arp("0.0.0.0", "192.0.2.5")),
        "ARP who-has 192.0.2.5 (probe), length 42",
    ),
    "an ARP announcement": (
        ethernet(ARP, arp("192.0.2.5", "192.0.2.5")),
        "ARP who-has 192.0.2.5 tell 192.0.2.5 (announcement), length 42",
    ),
    "inverse ARP": (ethernet(ARP, arp("192.0.2.5", operation=8)), "ARP operation 8, length 42"),
    "ARP for other hardware than Ethernet": (
        ethernet(ARP, arp("192.0.2.5", kind=(6, 0x0800, 6, 4))),
        "ARP of hardware 6 for type 0x0800, operation 1, length 42",
    ),
    "ARP that is cut short": (
        ethernet(ARP, arp("192.0.2.5")[:-1]),
        "ARP cut short, length 41",
    ),
    # IP.
    "TCP": (
        packet("192.0.2.5", TCP, tcp(0x18, b"hello")),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [P.], data 5, length 59",
    ),
    "TCP over IPv6": (
        packet("2001:db8::5", TCP, tcp(0x02, options=bytes(20))),
        "IPv6 [2001:db8::5]:40000 > [2001:db8::1]:22, TCP [S], data 0, length 94",
    ),
    "TCP with every flag": (
        packet("192.0.2.5", TCP, tcp(0xFF)),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [FSRP.UEW], data 0, length 54",
    ),
    "TCP without a flag": (
        packet("192.0.2.5", TCP, tcp(0)),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [none], data 0, length 54",
    ),
    "TCP in a frame that is padded": (
        packet("192.0.2.5", TCP, tcp(0x10)) + bytes(6),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [.], data 0, length 60",
    ),
    "TCP with a header length above its size": (
        packet("192.0.2.5", TCP, tcp(0x10, words=6)),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [.], malformed, length 54",
    ),
    "TCP with a header length below the minimum": (
        packet("192.0.2.5", TCP, tcp(0x10, words=4)),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [.], malformed, length 54",
    ),
    "TCP that is cut short behind its ports": (
        packet("192.0.2.5", TCP, tcp(0x10)[:8]),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP cut short, length 42",
    ),
    "UDP": (
        packet("192.0.2.5", UDP, udp(5353, 53)),
        "IPv4 192.0.2.5:5353 > 192.0.2.1:53, UDP, data 8, length 50",
    ),
    "UDP behind IPv4 options": (
        ethernet(IPV4, ipv4("192.0.2.5", UDP, udp(5353, 53), options=bytes(40))),
        "IPv4 192.0.2.5:5353 > 192.0.2.1:53, UDP, data 8, length 90",
    ),
    "UDP that is cut short": (
        packet("192.0.2.5", UDP, bytes(7)),
        "IPv4 192.0.2.5 > 192.0.2.1, UDP cut short, length 41",
    ),
    "a known protocol": (
        packet("192.0.2.5", 47, bytes(4)),
        "IPv4 192.0.2.5 > 192.0.2.1, GRE, length 38",
    ),
    "an unknown protocol": (
        packet("192.0.2.5", 253, bytes(4)),
        "IPv4 192.0.2.5 > 192.0.2.1, protocol 253, length 38",
    ),
    "IPv4 with the number of an extension header": (
        packet("192.0.2.5", AUTHENTICATION, bytes(4)),
        "IPv4 192.0.2.5 > 192.0.2.1, AH, length 38",
    ),
    "a first fragment": (
        ethernet(IPV4, ipv4("192.0.2.5", UDP, udp(53, 53), more=True)),
        "IPv4 192.0.2.5:53 > 192.0.2.1:53, UDP, data 8, first fragment, length 50",
    ),
    "a middle fragment": (
        ethernet(IPV4, ipv4("192.0.2.5", UDP, bytes(8), more=True, offset=185)),
        "IPv4 192.0.2.5 > 192.0.2.1, UDP, fragment at 1480, length 42",
    ),
    "a last fragment": (
        ethernet(IPV4, ipv4("192.0.2.5", UDP, bytes(8), offset=185)),
        "IPv4 192.0.2.5 > 192.0.2.1, UDP, last fragment at 1480, length 42",
    ),
    "IPv4 that is cut short in its header": (
        ethernet(IPV4, ipv4("192.0.2.5")[:19]),
        "IPv4 cut short, length 33",
    ),
    "IPv4 that is cut short in its payload": (
        packet("192.0.2.5", UDP, udp(53, 53, bytes(1000)))[:100],
        "IPv4 192.0.2.5:53 > 192.0.2.1:53, UDP, data 58, cut short: 86 of 1028 bytes, length 100",
    ),
    "IPv4 with a version of 5": (
        ethernet(IPV4, ipv4("192.0.2.5", version=5)),
        "IPv4 192.0.2.5 > 192.0.2.1, malformed, length 54",
    ),
    "IPv4 without a payload": (
        packet("192.0.2.5", 253, b""),
        "IPv4 192.0.2.5 > 192.0.2.1, protocol 253, length 34",
    ),
    "IPv4 with a total length below the header length": (
        ethernet(IPV4, ipv4("192.0.2.5", total=19)),
        "IPv4 192.0.2.5 > 192.0.2.1, malformed, length 54",
    ),
    "IPv6 without a next header": (
        packet("2001:db8::5", 59, b""),
        "IPv6 2001:db8::5 > 2001:db8::1, no payload, length 54",
    ),
    "IPv6 with extension headers": (
        packet(
            "2001:db8::5",
            HOP_BY_HOP,
            extension(AUTHENTICATION)
            + bytes([DESTINATION, 4])
            + bytes(22)
            + extension(UDP, 2)
            + udp(5353, 53),
        ),
        "IPv6 [2001:db8::5]:5353 > [2001:db8::1]:53, UDP, data 8, length 126",
    ),
    "IPv6 with an extension header that is cut short": (
        packet("fe80::5", DESTINATION, bytes(7)),
        "IPv6 fe80::5 > 2001:db8::1, extension header 60 cut short, length 61",
    ),
    "IPv6 with an extension header longer than the packet": (
        packet("fe80::5", DESTINATION, extension(ICMPV6, 255)[:8]),
        "IPv6 fe80::5 > 2001:db8::1, ICMPv6 cut short, length 62",
    ),
    "IPv6 with a chain of extension headers": (
        packet("fe80::5", DESTINATION, extension(DESTINATION) * 9),
        "IPv6 fe80::5 > 2001:db8::1, more than 8 extension headers, length 126",
    ),
    "a first fragment of IPv6": (
        packet("fe80::5", FRAGMENT, fragment(UDP, more=True) + udp(53, 53)),
        "IPv6 [fe80::5]:53 > [2001:db8::1]:53, UDP, data 8, first fragment, length 78",
    ),
    "a middle fragment of IPv6": (
        packet("fe80::5", FRAGMENT, fragment(DESTINATION, 181, more=True) + bytes(8)),
        "IPv6 fe80::5 > 2001:db8::1, protocol 60, fragment at 1448, length 70",
    ),
    "IPv6 that is cut short in its header": (
        ethernet(IPV6, ipv6("fe80::5")[:39]),
        "IPv6 cut short, length 53",
    ),
    "IPv6 that is cut short in its payload": (
        ethernet(IPV6, ipv6("fe80::5", UDP, udp(53, 53), length=1000)),
        "IPv6 [fe80::5]:53 > [2001:db8::1]:53, UDP, data 8, cut short: 56 of 1040 bytes, length 70",
    ),
    "IPv6 with a version of 4": (
        ethernet(IPV6, ipv6("fe80::5", version=4)),
        "IPv6 fe80::5 > 2001:db8::1, malformed, length 74",
    ),
}

# Each frame with the part of its description that is about the control message.
MESSAGES: Final = {
    # ICMP.
    "a ping": (
        packet("192.0.2.5", ICMP, icmp(8, 0, b"\1\2\0\7")),
        "ICMP echo request id 258 seq 7",
    ),
    "an answer to a ping": (
        packet("192.0.2.5", ICMP, icmp(0, 0, b"\1\2\0\7")),
        "ICMP echo reply id 258 seq 7",
    ),
    "a closed port": (packet("192.0.2.5", ICMP, icmp(3, 3)), "ICMP port unreachable"),
    "a path with a lower MTU": (
        packet("192.0.2.5", ICMP, icmp(3, 4, b"\0\0\x05\x78")),
        "ICMP needs fragmentation to 1400 bytes",
    ),
    "unreachable with an unknown code": (
        packet("192.0.2.5", ICMP, icmp(3, 99)),
        "ICMP unreachable code 99",
    ),
    "an expired TTL": (packet("192.0.2.5", ICMP, icmp(11)), "ICMP time exceeded"),
    "an unknown ICMP type": (packet("192.0.2.5", ICMP, icmp(99, 2)), "ICMP type 99 code 2"),
    "ICMP cut short": (packet("192.0.2.5", ICMP, icmp(8)[:7]), "ICMP cut short"),
    # ICMPv6.
    "an IPv6 ping": (
        packet("fe80::5", ICMPV6, icmpv6(128, b"\1\2\0\7")),
        "ICMPv6 echo request id 258 seq 7",
    ),
    "an answer to an IPv6 ping": (
        packet("fe80::5", ICMPV6, icmpv6(129, b"\1\2\0\7")),
        "ICMPv6 echo reply id 258 seq 7",
    ),
    "an IPv6 ping cut short": (
        packet("fe80::5", ICMPV6, icmpv6(128, b"\1\2\0")),
        "ICMPv6 echo request cut short",
    ),
    "a closed IPv6 port": (
        packet("fe80::5", ICMPV6, icmpv6(1, code=4)),
        "ICMPv6 port unreachable",
    ),
    "IPv6 unreachable with an unknown code": (
        packet("fe80::5", ICMPV6, icmpv6(1, code=99)),
        "ICMPv6 unreachable code 99",
    ),
    "an IPv6 path with a lower MTU": (
        packet("fe80::5", ICMPV6, icmpv6(2, b"\0\0\x05\x78")),
        "ICMPv6 packet too big for 1400 bytes",
    ),
    "an MLD report": (
        packet("fe80::5", HOP_BY_HOP, extension(ICMPV6) + icmpv6(143)),
        "ICMPv6 MLDv2 report",
    ),
    "a router solicitation": (
        packet("fe80::5", ICMPV6, icmpv6(133, bytes(4) + source_mac())),
        "ICMPv6 router solicitation",
    ),
    "a router advertisement": (
        packet(
            "fe80::5",
            ICMPV6,
            icmpv6(134, b"\x40\0\x07\x08" + bytes(8) + source_mac() + PREFIX_OPTION),
        ),
        "ICMPv6 router advertisement for 1800 s prefix 2001:db8::/64",
    ),
    "a router advertisement without options": (
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(12))),
        "ICMPv6 router advertisement for 0 s",
    ),
    "a router advertisement with a prefix option of 8 bytes": (
        packet(
            "fe80::5",
            ICMPV6,
            icmpv6(134, bytes(12) + b"\3\1" + bytes(6) + b"\1" + PREFIX_OPTION[1:]),
        ),
        "ICMPv6 router advertisement for 0 s",
    ),
    "a router advertisement cut short": (
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(11))),
        "ICMPv6 router advertisement cut short",
    ),
    "a router advertisement whose prefix is cut short": (
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(12) + PREFIX_OPTION[:-1])),
        "ICMPv6 router advertisement for 0 s",
    ),
    "a neighbour solicitation": (
        packet("fe80::5", ICMPV6, neighbour(135, "2001:db8::1", source_mac())),
        "ICMPv6 neighbour solicitation who-has 2001:db8::1",
    ),
    "a neighbour advertisement": (
        packet("fe80::5", ICMPV6, neighbour(136, "fe80::5", source_mac(b"\1" * 6) + target_mac())),
        "ICMPv6 neighbour advertisement fe80::5 is-at 02:00:00:00:00:0c",
    ),
    "a neighbour advertisement without an address": (
        packet("fe80::5", ICMPV6, neighbour(136, "fe80::5")),
        "ICMPv6 neighbour advertisement of fe80::5",
    ),
    "a neighbour advertisement with an option of length zero": (
        packet("fe80::5", ICMPV6, neighbour(136, "fe80::5", b"\x02\0" + bytes(6))),
        "ICMPv6 neighbour advertisement of fe80::5",
    ),
    "a neighbour advertisement cut short": (
        packet("fe80::5", ICMPV6, neighbour(136, "fe80::5")[:-1]),
        "ICMPv6 neighbour advertisement cut short",
    ),
    "a redirect": (
        packet("fe80::5", ICMPV6, neighbour(137, "fe80::6", bytes(16))),
        "ICMPv6 redirect to fe80::6",
    ),
    "an unknown ICMPv6 type": (
        packet("fe80::5", ICMPV6, icmpv6(200, code=1)),
        "ICMPv6 type 200 code 1",
    ),
    "an unknown ICMPv6 code": (
        packet("fe80::5", ICMPV6, icmpv6(133, code=1)),
        "ICMPv6 router solicitation code 1",
    ),
    "ICMPv6 cut short": (packet("fe80::5", ICMPV6, icmpv6(133)[:3]), "ICMPv6 cut short"),
    # DHCP.
    "a DHCP discovery": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x35\1\1\xff")),
        "DHCP discover for 02:00:00:00:00:0c",
    ),
    "a DHCP offer": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x35\1\2", client="192.0.2.7", operation=2), 67, 68),
        "DHCP offer of 192.0.2.7 for 02:00:00:00:00:0c",
    ),
    "a DHCP request behind other options": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\0\0\x0c\x05host\x07\x35\1\3\xff")),
        "DHCP request for 02:00:00:00:00:0c",
    ),
    "a DHCP message for other hardware than Ethernet": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x35\1\x63", address_size=16)),
        "DHCP type 99",
    ),
    "DHCP with the message type behind the end option": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\xff\x35\1\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP with an option longer than the message": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x0c\xff\x35\1\1", operation=2)),
        "BOOTP reply for 02:00:00:00:00:0c",
    ),
    "DHCP with an option that is cut short": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x35\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP with a message type of two bytes": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x35\2\1\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP with more pad options than are parsed": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + bytes(100) + b"\x35\1\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "BOOTP": (
        dhcpv4_frame(dhcpv4(b"\x35\1\1", operation=3)),
        "BOOTP operation 3 for 02:00:00:00:00:0c",
    ),
    "BOOTP without options": (
        dhcpv4_frame(dhcpv4(b"")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP cut short": (dhcpv4_frame(dhcpv4(b"")[:-1]), "DHCP cut short"),
    "UDP from another port to the DHCP port": (
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + b"\x35\1\1"), 1068, 67),
        "UDP, data 243",
    ),
    "a DHCPv6 solicitation": (
        packet("fe80::5", UDP, udp(546, 547, b"\1\2\3\4")),
        "DHCPv6 solicit",
    ),
    "an unknown DHCPv6 message": (
        packet("fe80::5", UDP, udp(547, 546, b"\x63")),
        "DHCPv6 type 99",
    ),
    "DHCPv6 cut short": (packet("fe80::5", UDP, udp(546, 547, b"")), "DHCPv6 cut short"),
}
