"""Frames for the filter of secure mode: those that must pass, and those that must not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final

from tests.support import filter_types
from tests.support.packets import (
    ARP,
    AUTHENTICATION,
    BROADCAST,
    CLIENT,
    DESTINATION,
    DISCOVER,
    EXPERIMENTAL,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    OTHER,
    REQUEST,
    TAP,
    TCP,
    UDP,
    arp,
    dhcpv4,
    dhcpv6,
    ethernet,
    extension,
    fragment,
    icmpv6,
    icmpv6_frame,
    ipv4,
    ipv4_frame,
    ipv6,
    ipv6_frame,
    neighbour,
    packet,
    source_mac,
    tag,
    target_mac,
    udp,
)
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter

__all__ = [
    "DAD_PROBE",
    "FILTER",
    "LEGITIMATE",
    "PREFIXES",
    "SPOOFED",
    "TAGS",
    "TAP_ADDRESSES",
]

PREFIXES: Final = [ip_network(n) for n in ("192.0.2.0/24", "198.51.100.8/30", "2001:db8::/64")]
TAP_ADDRESSES: Final = ("192.0.2.1", "2001:db8::1", "fe80::aaff:fe00:aa01")
FILTER: Final = SourceFilter(PREFIXES, TAP, [ip_address(ip) for ip in TAP_ADDRESSES])

# A hop-by-hop header with the router alert option, before ICMPv6 (RFC 2711).
MLD_ALERT: Final = bytes.fromhex("3a00050200000100")

DHCP_DISCOVER: Final = ipv4(
    "0.0.0.0", UDP, udp(68, 67, dhcpv4(DISCOVER)), destination="255.255.255.255"
)
# Duplicate address detection (RFC 4862, section 5.4).
DAD_PROBE: Final = neighbour(135, "2001:db8::5")
SOLICITATION: Final = neighbour(135, "2001:db8::1", source_mac())
ADVERTISEMENT: Final = neighbour(136, "2001:db8::5", target_mac())

LEGITIMATE: Final = {
    # Each passes `FILTER`.
    "TCP over IPv4": packet("192.0.2.5"),
    "TCP over IPv4 with options": ipv4_frame(ipv4("192.0.2.5", options=bytes(8))),
    "TCP over IPv4, padded to the shortest Ethernet frame": ipv4_frame(
        ipv4("192.0.2.5") + bytes(6)
    ),
    "TCP over IPv4 of the second prefix": packet("198.51.100.9"),
    "UDP over IPv4": packet("192.0.2.5", UDP, udp(5353, 53)),
    "an IPv4 ping": packet("192.0.2.5", ICMP, b"\x08\x00" + bytes(6)),
    "a first fragment": ipv4_frame(ipv4("192.0.2.5", UDP, udp(53, 53), more=True)),
    "a later fragment": ipv4_frame(ipv4("192.0.2.5", UDP, b"\0C\0D", offset=1)),
    "a packet without payload": packet("192.0.2.5", TCP, b""),
    "a DHCP discovery": ipv4_frame(DHCP_DISCOVER),
    "a DHCP renewal": packet("192.0.2.5", UDP, udp(68, 67, dhcpv4(REQUEST))),
    "an ARP request": ethernet(ARP, arp("192.0.2.5"), destination=BROADCAST),
    "an ARP reply": ethernet(ARP, arp("192.0.2.5", operation=2)),
    "an ARP request, padded": ethernet(ARP, arp("192.0.2.5") + bytes(18)),
    "an ARP request for an address outside the prefixes": ethernet(
        ARP, arp("192.0.2.5", "203.0.113.1")
    ),
    "an ARP announcement": ethernet(ARP, arp("192.0.2.5", "192.0.2.5")),
    "an ARP probe": ethernet(ARP, arp("0.0.0.0", "192.0.2.5"), destination=BROADCAST),
    "an ARP probe for the TAP's address": ethernet(ARP, arp("0.0.0.0", "192.0.2.1")),
    "TCP over IPv6": packet("2001:db8::5"),
    "TCP over IPv6 from a link-local address": packet("fe80::5"),
    "an IPv6 ping": packet("2001:db8::5", ICMPV6, icmpv6(128)),
    "IPv6 without a next header": packet("2001:db8::5", 59, b""),
    "IPv6 with extension headers and no payload": packet(
        "2001:db8::5", HOP_BY_HOP, extension(DESTINATION) + extension(59)
    ),
    "IPv6 with extension headers": packet(
        "2001:db8::5", HOP_BY_HOP, extension(DESTINATION) + extension(TCP, 2) + bytes(20)
    ),
    "IPv6 with an authentication header": packet(
        "2001:db8::5", AUTHENTICATION, bytes([TCP, 4]) + bytes(22) + bytes(20)
    ),
    "IPsec over IPv6": packet("2001:db8::5", 50, bytes(40)),
    "a first fragment of a large IPv6 ping": packet(
        "2001:db8::5", FRAGMENT, fragment(ICMPV6, more=True) + icmpv6(128, bytes(100))
    ),
    "a later fragment of a large IPv6 ping": packet(
        "2001:db8::5", FRAGMENT, fragment(ICMPV6, 13) + bytes([134, 0, 0, 0])
    ),
    "a DHCPv6 solicitation": packet("fe80::5", UDP, udp(546, 547, dhcpv6(1))),
    "a neighbour solicitation": icmpv6_frame("2001:db8::5", SOLICITATION, "ff02::1:ff00:1"),
    "a neighbour solicitation without options": icmpv6_frame(
        "fe80::5", neighbour(135, "2001:db8::9")
    ),
    "a neighbour solicitation for an address outside the prefixes": icmpv6_frame(
        "fe80::5", neighbour(135, "2001:db9::9")
    ),
    "a neighbour advertisement": icmpv6_frame("2001:db8::5", ADVERTISEMENT),
    "a neighbour advertisement, link-local": icmpv6_frame(
        "fe80::5", neighbour(136, "fe80::5", target_mac())
    ),
    "a duplicate address detection": icmpv6_frame("::", DAD_PROBE, "ff02::1:ff00:5"),
    "a duplicate address detection, link-local": icmpv6_frame(
        "::", neighbour(135, "fe80::5"), "ff02::1:ff00:5"
    ),
    "a duplicate address detection with a nonce": icmpv6_frame(
        "::", DAD_PROBE + b"\x0e\x01" + bytes(6), "ff02::1:ff00:5"
    ),
    "a duplicate address detection for the TAP's address": icmpv6_frame(
        "::", neighbour(135, TAP_ADDRESSES[1]), "ff02::1:ff00:1"
    ),
    "a router solicitation": icmpv6_frame(
        "fe80::5", icmpv6(133, bytes(4) + source_mac()), "ff02::2"
    ),
    "a router solicitation from ::": icmpv6_frame("::", icmpv6(133), "ff02::2"),
    "an MLD report": ipv6_frame(
        ipv6("fe80::5", HOP_BY_HOP, MLD_ALERT + icmpv6(143, bytes(24)), destination="ff02::16")
    ),
    "an MLD report from ::": ipv6_frame(
        ipv6("::", HOP_BY_HOP, MLD_ALERT + icmpv6(143, bytes(24)), destination="ff02::16")
    ),
    "neighbour discovery with sixteen options": icmpv6_frame(
        "fe80::5", DAD_PROBE + source_mac() * 16
    ),
    **filter_types.LEGITIMATE,
}

SPOOFED: Final = {
    # `FILTER` drops each for this reason.
    "IPv4 from outside the prefixes": (packet("203.0.113.5"), DropReason.IPV4_SOURCE),
    "IPv4 from just below a prefix": (packet("198.51.100.7"), DropReason.IPV4_SOURCE),
    "IPv4 from a prefix's broadcast address": (packet("192.0.2.255"), DropReason.IPV4_SOURCE),
    "IPv4 from the broadcast address of a /30": (
        packet("198.51.100.11"),
        DropReason.IPV4_SOURCE,
    ),
    "IPv4 from the TAP's address": (packet("192.0.2.1"), DropReason.IPV4_SOURCE),
    "IPv4 from a loopback address": (packet("127.0.0.1"), DropReason.IPV4_SOURCE),
    "an IPv4 fragment from outside the prefixes": (
        ipv4_frame(ipv4("203.0.113.5", UDP, bytes(8), offset=5)),
        DropReason.IPV4_SOURCE,
    ),
    "TCP from 0.0.0.0": (packet("0.0.0.0"), DropReason.IPV4_SOURCE),
    "UDP from 0.0.0.0": (
        ipv4_frame(ipv4("0.0.0.0", UDP, udp(68, 53), destination="255.255.255.255")),
        DropReason.IPV4_SOURCE,
    ),
    "a DHCP discovery that is not broadcast": (
        packet("0.0.0.0", UDP, udp(68, 67)),
        DropReason.IPV4_SOURCE,
    ),
    "a DHCP discovery in a first fragment": (
        ipv4_frame(ipv4("0.0.0.0", UDP, udp(68, 67), destination="255.255.255.255", more=True)),
        DropReason.IPV4_SOURCE,
    ),
    "a later fragment from 0.0.0.0": (
        ipv4_frame(ipv4("0.0.0.0", UDP, udp(68, 67), destination="255.255.255.255", offset=1)),
        DropReason.IPV4_SOURCE,
    ),
    "a DHCP answer": (packet("192.0.2.5", UDP, udp(67, 68)), DropReason.DHCP_SERVER),
    "a DHCP answer from another port": (
        packet("192.0.2.5", UDP, udp(1067, 68)),
        DropReason.DHCP_SERVER,
    ),
    "a DHCP answer to a relay": (packet("192.0.2.5", UDP, udp(67, 67)), DropReason.DHCP_SERVER),
    "a DHCP answer in a first fragment": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(67, 68), more=True)),
        DropReason.DHCP_SERVER,
    ),
    "a DHCP answer behind IPv4 options": (
        ipv4_frame(ipv4("192.0.2.5", UDP, udp(67, 68), options=bytes(40))),
        DropReason.DHCP_SERVER,
    ),
    "an ICMP redirect": (
        packet("192.0.2.5", ICMP, b"\x05\x01" + bytes(34)),
        DropReason.ROUTER_MESSAGE,
    ),
    "an ICMP router advertisement": (
        packet("192.0.2.5", ICMP, b"\x09\x00" + bytes(14)),
        DropReason.ROUTER_MESSAGE,
    ),
    "ARP for an address outside the prefixes": (
        ethernet(ARP, arp("203.0.113.5")),
        DropReason.ARP_SENDER,
    ),
    "ARP for the TAP's address": (
        ethernet(ARP, arp("192.0.2.1", operation=2)),
        DropReason.ARP_SENDER,
    ),
    "an ARP reply for 0.0.0.0": (
        ethernet(ARP, arp("0.0.0.0", "192.0.2.5", operation=2)),
        DropReason.ARP_SENDER,
    ),
    "an ARP probe for an address outside the prefixes": (
        ethernet(ARP, arp("0.0.0.0", "203.0.113.5")),
        DropReason.ARP_SENDER,
    ),
    "ARP with the MAC address of another client": (
        ethernet(ARP, arp("192.0.2.5", sender_mac=OTHER)),
        DropReason.ARP_MAC,
    ),
    "ARP with the TAP's MAC address": (
        ethernet(ARP, arp("192.0.2.5", operation=2, sender_mac=TAP)),
        DropReason.ARP_MAC,
    ),
    "ARP for other hardware than Ethernet": (
        ethernet(ARP, arp("192.0.2.5", kind=(6, 0x0800, 6, 4))),
        DropReason.MALFORMED,
    ),
    "inverse ARP": (ethernet(ARP, arp("192.0.2.5", operation=8)), DropReason.MALFORMED),
    "IPv6 from outside the prefixes": (packet("2001:db8:1::5"), DropReason.IPV6_SOURCE),
    "IPv6 from the TAP's address": (packet("2001:db8::1"), DropReason.IPV6_SOURCE),
    "IPv6 from the TAP's link-local address": (packet(TAP_ADDRESSES[2]), DropReason.IPV6_SOURCE),
    "IPv6 from a multicast address": (packet("ff02::5"), DropReason.IPV6_SOURCE),
    "IPv6 from an IPv4-mapped address": (packet("::ffff:192.0.2.5"), DropReason.IPV6_SOURCE),
    "IPv6 from outside the prefixes with extension headers": (
        packet("2001:db8:1::5", HOP_BY_HOP, extension(TCP) + bytes(20)),
        DropReason.IPV6_SOURCE,
    ),
    "TCP from ::": (packet("::"), DropReason.IPV6_SOURCE),
    "UDP from ::": (
        ipv6_frame(ipv6("::", UDP, udp(546, 547), destination="ff02::1:2")),
        DropReason.IPV6_SOURCE,
    ),
    "a ping from ::": (icmpv6_frame("::", icmpv6(128)), DropReason.IPV6_SOURCE),
    "a neighbour advertisement from ::": (
        icmpv6_frame("::", ADVERTISEMENT),
        DropReason.IPV6_SOURCE,
    ),
    "a duplicate address detection that is not multicast": (
        icmpv6_frame("::", DAD_PROBE, "2001:db8::5"),
        DropReason.IPV6_SOURCE,
    ),
    "a later fragment from ::": (
        ipv6_frame(ipv6("::", FRAGMENT, fragment(ICMPV6, 1) + DAD_PROBE, destination="ff02::1")),
        DropReason.IPV6_SOURCE,
    ),
    "an MLD report from :: in a fragment": (
        ipv6_frame(ipv6("::", FRAGMENT, fragment(ICMPV6) + icmpv6(143), destination="ff02::16")),
        DropReason.FRAGMENT,
    ),
    "a duplicate address detection for an address outside the prefixes": (
        icmpv6_frame("::", neighbour(135, "2001:db8:1::5"), "ff02::1:ff00:5"),
        DropReason.ND_TARGET,
    ),
    "a duplicate address detection with a link-layer address": (
        icmpv6_frame("::", neighbour(135, "2001:db8::5", source_mac()), "ff02::1:ff00:5"),
        DropReason.MALFORMED,
    ),
    "a neighbour solicitation from outside the prefixes": (
        icmpv6_frame("2001:db8:1::5", DAD_PROBE),
        DropReason.IPV6_SOURCE,
    ),
    "a neighbour solicitation with the MAC address of another client": (
        icmpv6_frame("2001:db8::5", neighbour(135, "2001:db8::9", source_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "a neighbour solicitation with a second, spoofed MAC address": (
        icmpv6_frame(
            "2001:db8::5", neighbour(135, "2001:db8::9", source_mac() + source_mac(OTHER))
        ),
        DropReason.ND_MAC,
    ),
    "a neighbour solicitation with an overlong MAC address option": (
        icmpv6_frame("2001:db8::5", neighbour(135, "2001:db8::9", b"\1\2" + CLIENT + bytes(8))),
        DropReason.ND_MAC,
    ),
    "a neighbour advertisement for an address outside the prefixes": (
        icmpv6_frame("2001:db8::5", neighbour(136, "2001:db8:1::5", target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement for the TAP's address": (
        icmpv6_frame("2001:db8::5", neighbour(136, "2001:db8::1", target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement for the TAP's link-local address": (
        icmpv6_frame("fe80::5", neighbour(136, TAP_ADDRESSES[2], target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement for a multicast address": (
        icmpv6_frame("fe80::5", neighbour(136, "ff02::1", target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement with the MAC address of another client": (
        icmpv6_frame("2001:db8::5", neighbour(136, "2001:db8::5", target_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "a neighbour advertisement with a spoofed source option": (
        icmpv6_frame("2001:db8::5", neighbour(136, "2001:db8::5", source_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "a router solicitation with the MAC address of another client": (
        icmpv6_frame("fe80::5", icmpv6(133, bytes(4) + source_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "a router advertisement": (
        icmpv6_frame("fe80::5", icmpv6(134, bytes(12))),
        DropReason.ROUTER_MESSAGE,
    ),
    "a redirect": (icmpv6_frame("fe80::5", icmpv6(137, bytes(36))), DropReason.ROUTER_MESSAGE),
    "a router advertisement behind extension headers": (
        packet("fe80::5", HOP_BY_HOP, extension(DESTINATION) + extension(ICMPV6) + icmpv6(134)),
        DropReason.ROUTER_MESSAGE,
    ),
    "a router advertisement behind an authentication header": (
        packet("fe80::5", AUTHENTICATION, bytes([ICMPV6, 4]) + bytes(22) + icmpv6(134)),
        DropReason.ROUTER_MESSAGE,
    ),
    "a router advertisement in an only fragment": (
        packet("fe80::5", FRAGMENT, fragment(ICMPV6) + icmpv6(134, bytes(12))),
        DropReason.ROUTER_MESSAGE,
    ),
    "a router advertisement in a first fragment": (
        packet("fe80::5", FRAGMENT, fragment(ICMPV6, more=True) + icmpv6(134)),
        DropReason.ROUTER_MESSAGE,
    ),
    "a first fragment without the upper-layer header": (
        packet("fe80::5", FRAGMENT, fragment(DESTINATION, more=True) + extension(ICMPV6)),
        DropReason.FRAGMENT,
    ),
    "a first fragment whose upper-layer header is not first": (
        packet(
            "fe80::5",
            FRAGMENT,
            fragment(DESTINATION, more=True) + extension(ICMPV6) + icmpv6(128),
        ),
        DropReason.FRAGMENT,
    ),
    "a later fragment that could replace the upper-layer header": (
        packet("fe80::5", FRAGMENT, fragment(DESTINATION, 1) + icmpv6(134)),
        DropReason.FRAGMENT,
    ),
    "a neighbour advertisement in an only fragment": (
        packet("2001:db8::5", FRAGMENT, fragment(ICMPV6) + ADVERTISEMENT),
        DropReason.FRAGMENT,
    ),
    "a neighbour solicitation in a first fragment": (
        packet("2001:db8::5", FRAGMENT, fragment(ICMPV6, more=True) + SOLICITATION),
        DropReason.FRAGMENT,
    ),
    "neighbour discovery with a hop limit of 254": (
        ipv6_frame(ipv6("2001:db8::5", ICMPV6, ADVERTISEMENT, hop_limit=254)),
        DropReason.MALFORMED,
    ),
    "neighbour discovery with a code": (
        icmpv6_frame("2001:db8::5", neighbour(136, "2001:db8::5", code=1)),
        DropReason.MALFORMED,
    ),
    "an option of length zero": (
        icmpv6_frame("fe80::5", DAD_PROBE + b"\x0e\x00" + bytes(6)),
        DropReason.MALFORMED,
    ),
    "a truncated address option of length zero": (
        icmpv6_frame("fe80::5", DAD_PROBE + b"\x01\x00"),
        DropReason.CUT_SHORT,
    ),
    "an address option of length zero": (
        icmpv6_frame("fe80::5", DAD_PROBE + b"\x01\x00" + CLIENT),
        DropReason.MALFORMED,
    ),
    "an option that is longer than the message": (
        icmpv6_frame("fe80::5", DAD_PROBE + b"\x01\x02" + CLIENT),
        DropReason.MALFORMED,
    ),
    "an option of two bytes": (
        icmpv6_frame("fe80::5", DAD_PROBE + b"\x01\x01"),
        DropReason.CUT_SHORT,
    ),
    "an option of one byte": (icmpv6_frame("fe80::5", DAD_PROBE + b"\x01"), DropReason.CUT_SHORT),
    "neighbour discovery with seventeen options": (
        icmpv6_frame("fe80::5", DAD_PROBE + source_mac() * 17),
        DropReason.MALFORMED,
    ),
    "too many extension headers": (
        packet("fe80::5", DESTINATION, extension(DESTINATION) * 8 + extension(TCP) + bytes(20)),
        DropReason.MALFORMED,
    ),
    "an extension header that is cut short": (
        packet("fe80::5", DESTINATION, bytes([TCP, 0, 1, 4])),
        DropReason.CUT_SHORT,
    ),
    "an extension header that is longer than the packet": (
        packet("fe80::5", DESTINATION, bytes([TCP, 9]) + bytes(30)),
        DropReason.CUT_SHORT,
    ),
    "an extension header that is longer than the packet but not the frame": (
        ipv6_frame(ipv6("fe80::5", DESTINATION, bytes([TCP, 9]) + bytes(30)) + bytes(100)),
        DropReason.CUT_SHORT,
    ),
    "a jumbogram": (
        ipv6_frame(ipv6("fe80::5", HOP_BY_HOP, extension(ICMPV6) + icmpv6(134), length=0)),
        DropReason.CUT_SHORT,
    ),
    "a DHCPv6 answer": (packet("fe80::5", UDP, udp(547, 546)), DropReason.DHCP_SERVER),
    "a DHCPv6 answer from another port": (
        packet("fe80::5", UDP, udp(1547, 546)),
        DropReason.DHCP_SERVER,
    ),
    "a DHCPv6 answer to a relay": (packet("fe80::5", UDP, udp(547, 547)), DropReason.DHCP_SERVER),
    "a DHCPv6 answer behind extension headers": (
        packet("fe80::5", DESTINATION, extension(UDP) + udp(547, 546)),
        DropReason.DHCP_SERVER,
    ),
    "IPv6 with the EtherType of IPv4": (ipv4_frame(ipv6("2001:db8::5")), DropReason.MALFORMED),
    "IPv4 with the EtherType of IPv6": (
        ipv6_frame(ipv4("192.0.2.5") + bytes(40)),
        DropReason.MALFORMED,
    ),
    "an IPv4 header length below the minimum": (
        ipv4_frame(b"\x44" + ipv4("192.0.2.5")[1:]),
        DropReason.MALFORMED,
    ),
    "an IPv4 total length below the header length": (
        ipv4_frame(ipv4("192.0.2.5", total=19)),
        DropReason.MALFORMED,
    ),
    "reverse ARP": (ethernet(0x8035, arp("192.0.2.5", operation=3)), DropReason.ETHERTYPE),
    "spanning tree": (
        ethernet(
            38, bytes.fromhex("424203") + bytes(35), destination=bytes.fromhex("0180c2000000")
        ),
        DropReason.ETHERTYPE,
    ),
    "IPv4 in an 802.3 frame": (
        ethernet(48, bytes.fromhex("aaaa030000000800") + ipv4("192.0.2.5")),
        DropReason.ETHERTYPE,
    ),
    "PPPoE": (ethernet(0x8864, bytes(40)), DropReason.ETHERTYPE),
    "an experimental EtherType": (ethernet(EXPERIMENTAL, bytes(40)), DropReason.ETHERTYPE),
    "more VLAN tags than are parsed": (
        ethernet(IPV4, ipv4("192.0.2.5"), tags=tag(5) * 5),
        DropReason.ETHERTYPE,
    ),
    "the TAP's MAC address as the source": (
        ethernet(IPV4, ipv4("192.0.2.5"), source=TAP, destination=OTHER),
        DropReason.TAP_MAC,
    ),
    "the TAP's MAC address as the source, on a VLAN": (
        ethernet(IPV4, ipv4("192.0.2.5"), source=TAP, tags=tag(5)),
        DropReason.TAP_MAC,
    ),
    "a group address as the source": (
        ethernet(IPV4, ipv4("192.0.2.5"), source=bytes.fromhex("01005e000001")),
        DropReason.SOURCE_MAC,
    ),
    "an all-zero source": (
        ethernet(IPV4, ipv4("192.0.2.5"), source=bytes(6)),
        DropReason.SOURCE_MAC,
    ),
    **filter_types.DROPPED,
}

TAGS: Final = {
    "802.1Q": tag(5),
    "802.1ad": tag(5, 0x88A8),
    "priority only": tag(0xE000),
    "two tags": tag(5, 0x88A8) + tag(6),
    "three tags": tag(5) * 3,
}
