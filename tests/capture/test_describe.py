"""What is said of a frame, in one line."""

from __future__ import annotations

import struct
import time
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.support.packets import (
    ALL_NODES,
    ARP,
    AUTHENTICATION,
    BROADCAST,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    TCP,
    UDP,
    arp,
    ethernet,
    extension,
    fragment,
    icmpv6,
    ipv4,
    ipv6,
    neighbour,
    packet,
    source_mac,
    tag,
    target_mac,
    udp,
)
from vknet.capture.describe import describe

MACS = "02:00:00:00:00:0c > 02:00:00:00:aa:01, "


def tcp(flags: int, data: bytes = b"", *, options: bytes = b"", words: int | None = None) -> bytes:
    size = 5 + len(options) // 4 if words is None else words
    header = struct.pack("!HHIIBBHHH", 40000, 22, 1, 2, size << 4, flags, 1024, 0, 0)
    return header + options + data


def icmp(kind: int, code: int = 0, body: bytes = bytes(4)) -> bytes:
    return bytes([kind, code, 0, 0]) + body


def dhcp(options: bytes, *, given: str = "0.0.0.0", operation: int = 1, hardware: int = 6) -> bytes:
    """A message from the station that has the MAC address 02:00:00:00:00:0c."""
    return (
        bytes([operation, 1, hardware, 0])
        + bytes(12)
        + IPv4Address(given).packed
        + bytes(8)
        + source_mac()[2:].ljust(16, b"\0")
        + bytes(192)
        + options
    )


def dhcp_frame(message: bytes, source: int = 68, destination: int = 67) -> bytes:
    return packet("192.0.2.5", UDP, udp(source, destination, message))


COOKIE = bytes.fromhex("63825363")
PREFIX = bytes([3, 4, 64, 0]) + bytes(12) + IPv6Address("2001:db8::").packed

LINES = {
    # Ethernet
    "a type that nobody knows": (ethernet(0x88B5, bytes(40)), "type 0x88b5, length 54"),
    "a type that has a name": (ethernet(0x88CC, bytes(40)), "LLDP, length 54"),
    "a header and nothing else": (ethernet(0x88B5, b""), "type 0x88b5, length 14"),
    "spanning tree": (ethernet(38, b"\x42\x42\x03" + bytes(35)), "802.3 spanning tree, length 52"),
    "802.3 for nobody known": (ethernet(3, b"\x99\x98\x03"), "802.3 for 0x99, length 17"),
    "802.3 with nothing in it": (ethernet(3, b""), "802.3 cut short, length 14"),
    "a VLAN": (ethernet(0x88B5, b"", tags=tag(5)), "vlan 5, type 0x88b5, length 18"),
    "a VLAN with a priority": (
        ethernet(0x88B5, b"", tags=tag(6 << 13 | 4095)),
        "vlan 4095 priority 6, type 0x88b5, length 18",
    ),
    "a VLAN in a VLAN": (
        ethernet(0x88B5, b"", tags=tag(5, 0x88A8) + tag(7)),
        "vlan 5, vlan 7, type 0x88b5, length 22",
    ),
    "more VLANs than are looked behind": (
        ethernet(0x88B5, b"", tags=tag(5) * 5),
        "vlan 5, vlan 5, vlan 5, vlan 5, more VLAN tags, length 34",
    ),
    "a second tag that is cut short": (
        ethernet(0x8100, b"\0", tags=tag(5)),
        "vlan 5, a VLAN tag cut short, length 19",
    ),
    # ARP
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
    "ARP of another network": (
        ethernet(ARP, arp("192.0.2.5", kind=(6, 0x0800, 6, 4))),
        "ARP of hardware 6 for type 0x0800, operation 1, length 42",
    ),
    "ARP that is cut short": (
        ethernet(ARP, arp("192.0.2.5")[:-1]),
        "ARP cut short, length 41",
    ),
    # IP
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
    "TCP with a header longer than it is": (
        packet("192.0.2.5", TCP, tcp(0x10, words=6)),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [.], malformed, length 54",
    ),
    "TCP with a header that is too short": (
        packet("192.0.2.5", TCP, tcp(0x10, words=4)),
        "IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [.], malformed, length 54",
    ),
    "TCP of which only the ports are there": (
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
    "a protocol that has a name": (
        packet("192.0.2.5", 47, bytes(4)),
        "IPv4 192.0.2.5 > 192.0.2.1, GRE, length 38",
    ),
    "a protocol that has none": (
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
    "IPv4 that is cut short behind it": (
        packet("192.0.2.5", UDP, udp(53, 53, bytes(1000)))[:100],
        "IPv4 192.0.2.5:53 > 192.0.2.1:53, UDP, data 58, cut short: 86 of 1028 bytes, length 100",
    ),
    "IPv4 of another version": (
        ethernet(IPV4, ipv4("192.0.2.5", version=5)),
        "IPv4 192.0.2.5 > 192.0.2.1, malformed, length 54",
    ),
    "IPv4 with nothing in it": (
        packet("192.0.2.5", 253, b""),
        "IPv4 192.0.2.5 > 192.0.2.1, protocol 253, length 34",
    ),
    "IPv4 shorter than its header": (
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
    "IPv6 with an extension header past its end": (
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
    "IPv6 that is cut short behind it": (
        ethernet(IPV6, ipv6("fe80::5", UDP, udp(53, 53), length=1000)),
        "IPv6 [fe80::5]:53 > [2001:db8::1]:53, UDP, data 8, cut short: 56 of 1040 bytes, length 70",
    ),
    "IPv6 of another version": (
        ethernet(IPV6, ipv6("fe80::5", version=4)),
        "IPv6 fe80::5 > 2001:db8::1, malformed, length 74",
    ),
}

MESSAGES = {
    # ICMP
    "a ping": (
        packet("192.0.2.5", ICMP, icmp(8, 0, b"\1\2\0\7")),
        "ICMP echo request id 258 seq 7",
    ),
    "its answer": (
        packet("192.0.2.5", ICMP, icmp(0, 0, b"\1\2\0\7")),
        "ICMP echo reply id 258 seq 7",
    ),
    "a closed port": (packet("192.0.2.5", ICMP, icmp(3, 3)), "ICMP port unreachable"),
    "a path with a lower MTU": (
        packet("192.0.2.5", ICMP, icmp(3, 4, b"\0\0\x05\x78")),
        "ICMP needs fragmentation to 1400 bytes",
    ),
    "unreachable for some reason": (
        packet("192.0.2.5", ICMP, icmp(3, 99)),
        "ICMP unreachable code 99",
    ),
    "the end of a life": (packet("192.0.2.5", ICMP, icmp(11)), "ICMP time exceeded"),
    "an ICMP nobody knows": (packet("192.0.2.5", ICMP, icmp(99, 2)), "ICMP type 99 code 2"),
    "ICMP cut short": (packet("192.0.2.5", ICMP, icmp(8)[:7]), "ICMP cut short"),
    # ICMPv6
    "an IPv6 ping": (
        packet("fe80::5", ICMPV6, icmpv6(128, b"\1\2\0\7")),
        "ICMPv6 echo request id 258 seq 7",
    ),
    "an IPv6 ping's answer": (
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
    "IPv6 unreachable for some reason": (
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
            icmpv6(134, b"\x40\0\x07\x08" + bytes(8) + source_mac() + PREFIX),
        ),
        "ICMPv6 router advertisement for 1800 s prefix 2001:db8::/64",
    ),
    "a router advertisement without options": (
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(12))),
        "ICMPv6 router advertisement for 0 s",
    ),
    "a router advertisement with a prefix that is none": (
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(12) + b"\3\1" + bytes(6) + b"\1" + PREFIX[1:])),
        "ICMPv6 router advertisement for 0 s",
    ),
    "a router advertisement cut short": (
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(11))),
        "ICMPv6 router advertisement cut short",
    ),
    "a router advertisement whose prefix is cut short": (
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(12) + PREFIX[:-1])),
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
    "a neighbour advertisement with an option of no length": (
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
    "an ICMPv6 nobody knows": (
        packet("fe80::5", ICMPV6, icmpv6(200, code=1)),
        "ICMPv6 type 200 code 1",
    ),
    "a code nobody knows": (
        packet("fe80::5", ICMPV6, icmpv6(133, code=1)),
        "ICMPv6 router solicitation code 1",
    ),
    "ICMPv6 cut short": (packet("fe80::5", ICMPV6, icmpv6(133)[:3]), "ICMPv6 cut short"),
    # DHCP
    "a DHCP discovery": (
        dhcp_frame(dhcp(COOKIE + b"\x35\1\1\xff")),
        "DHCP discover for 02:00:00:00:00:0c",
    ),
    "a DHCP offer": (
        dhcp_frame(dhcp(COOKIE + b"\x35\1\2", given="192.0.2.7", operation=2), 67, 68),
        "DHCP offer of 192.0.2.7 for 02:00:00:00:00:0c",
    ),
    "a DHCP request behind other options": (
        dhcp_frame(dhcp(COOKIE + b"\0\0\x0c\x05host\x07\x35\1\3\xff")),
        "DHCP request for 02:00:00:00:00:0c",
    ),
    "a DHCP message of another network": (
        dhcp_frame(dhcp(COOKIE + b"\x35\1\x63", hardware=16)),
        "DHCP type 99",
    ),
    "DHCP whose type comes behind its end": (
        dhcp_frame(dhcp(COOKIE + b"\xff\x35\1\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP with an option past its end": (
        dhcp_frame(dhcp(COOKIE + b"\x0c\xff\x35\1\1", operation=2)),
        "BOOTP reply for 02:00:00:00:00:0c",
    ),
    "DHCP whose options are cut short": (
        dhcp_frame(dhcp(COOKIE + b"\x35\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP with a type of two bytes": (
        dhcp_frame(dhcp(COOKIE + b"\x35\2\1\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP of pads": (
        dhcp_frame(dhcp(COOKIE + bytes(100) + b"\x35\1\1")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "BOOTP": (
        dhcp_frame(dhcp(b"\x35\1\1", operation=3)),
        "BOOTP operation 3 for 02:00:00:00:00:0c",
    ),
    "BOOTP without anything behind it": (
        dhcp_frame(dhcp(b"")),
        "BOOTP request for 02:00:00:00:00:0c",
    ),
    "DHCP cut short": (dhcp_frame(dhcp(b"")[:-1]), "DHCP cut short"),
    "a port that only looks like DHCP": (
        dhcp_frame(dhcp(COOKIE + b"\x35\1\1"), 1068, 67),
        "UDP, data 243",
    ),
    "a DHCPv6 solicitation": (
        packet("fe80::5", UDP, udp(546, 547, b"\1\2\3\4")),
        "DHCPv6 solicit",
    ),
    "a DHCPv6 message nobody knows": (
        packet("fe80::5", UDP, udp(547, 546, b"\x63")),
        "DHCPv6 type 99",
    ),
    "DHCPv6 cut short": (packet("fe80::5", UDP, udp(546, 547, b"")), "DHCPv6 cut short"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_frame_in_one_line(name: str) -> None:
    frame, expected = LINES[name]
    assert describe(frame) == MACS + expected
    assert describe(memoryview(frame)) == MACS + expected


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_in_words(name: str) -> None:
    frame, expected = MESSAGES[name]
    assert describe(frame).endswith(f", {expected}, length {len(frame)}")


def test_the_source_stands_before_the_destination() -> None:
    line = describe(ethernet(0x88B5, b"", source=ALL_NODES, destination=BROADCAST))
    assert line == "33:33:00:00:00:01 > ff:ff:ff:ff:ff:ff, type 0x88b5, length 14"


def test_a_runt_is_shown_as_it_is() -> None:
    assert describe(b"") == "cut short, length 0"
    assert describe(b"\x1b[2J") == "cut short: 1b 5b 32 4a, length 4"
    tagged = ethernet(0x88B5, b"", tags=tag(5))
    assert describe(tagged[:17]) == f"cut short: {tagged[:17].hex(' ')}, length 17"
    assert describe(tagged) == MACS + "vlan 5, type 0x88b5, length 18"


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(IPV4, b"", tags=tag(5) * 16_000),
        packet("fe80::5", DESTINATION, extension(DESTINATION) * 8_000),
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(12) + PREFIX * 2_000)),
        dhcp_frame(dhcp(COOKIE + bytes(60_000))),
    ],
    ids=["tags", "extension headers", "prefixes", "DHCP options"],
)
def test_no_frame_makes_a_long_line_or_much_work(frame: bytes) -> None:
    assert len(describe(frame)) < 1000
    began = time.process_time()
    for _ in range(100):
        describe(frame)
    # Some 50 us each; milliseconds, if it went to the end of the frame.
    assert (time.process_time() - began) / 100 < 1e-3
