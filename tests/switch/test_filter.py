"""What may leave through the TAP in secure mode, frame by frame."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from tests.support.packets import (
    ARP,
    AUTHENTICATION,
    BROADCAST,
    CLIENT,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    OTHER,
    TAP,
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
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = ("192.0.2.1", "2001:db8::1", "fe80::aaff:fe00:aa01")
FILTER = SourceFilter(
    [ip_network(net) for net in ("192.0.2.0/24", "198.51.100.8/30", "2001:db8::/64")],
    TAP,
    [ip_address(ip) for ip in OWN],
)
MLD_ALERT = bytes.fromhex("3a00050200000100")


def v4(payload: bytes) -> bytes:
    return ethernet(IPV4, payload)


def v6(payload: bytes) -> bytes:
    return ethernet(IPV6, payload)


def nd(source: str, message: bytes, destination: str = "ff02::1") -> bytes:
    return v6(ipv6(source, ICMPV6, message, destination=destination))


DISCOVER = ipv4("0.0.0.0", UDP, udp(68, 67, bytes(240)), destination="255.255.255.255")
PROBE = neighbour(135, "2001:db8::5")
SOLICITATION = neighbour(135, "2001:db8::1", source_mac())
ADVERTISEMENT = neighbour(136, "2001:db8::5", target_mac())

LEGITIMATE = {
    "TCP over IPv4": packet("192.0.2.5"),
    "TCP over IPv4 with options": v4(ipv4("192.0.2.5", options=bytes(8))),
    "TCP over IPv4, padded to the least a wire takes": v4(ipv4("192.0.2.5") + bytes(6)),
    "of the second prefix": packet("198.51.100.9"),
    "UDP over IPv4": packet("192.0.2.5", UDP, udp(5353, 53)),
    "an IPv4 ping": packet("192.0.2.5", ICMP, b"\x08\x00" + bytes(6)),
    "a first fragment": v4(ipv4("192.0.2.5", UDP, udp(53, 53), more=True)),
    "a later fragment": v4(ipv4("192.0.2.5", UDP, b"\0C\0D", offset=1)),
    "a tunnel of its own": packet("192.0.2.5", 4, ipv4("203.0.113.1")),
    "a packet without payload": packet("192.0.2.5", TCP, b""),
    "a DHCP discovery": v4(DISCOVER),
    "a DHCP renewal": packet("192.0.2.5", UDP, udp(68, 67)),
    "an ARP request": ethernet(ARP, arp("192.0.2.5"), destination=BROADCAST),
    "an ARP reply": ethernet(ARP, arp("192.0.2.5", operation=2)),
    "an ARP request, padded": ethernet(ARP, arp("192.0.2.5") + bytes(18)),
    "an ARP request for what is elsewhere": ethernet(ARP, arp("192.0.2.5", "203.0.113.1")),
    "an ARP announcement": ethernet(ARP, arp("192.0.2.5", "192.0.2.5")),
    "an ARP probe": ethernet(ARP, arp("0.0.0.0", "192.0.2.5"), destination=BROADCAST),
    "an ARP probe for the TAP's address": ethernet(ARP, arp("0.0.0.0", "192.0.2.1")),
    "TCP over IPv6": packet("2001:db8::5"),
    "TCP over IPv6 of a link-local address": packet("fe80::5"),
    "an IPv6 ping": packet("2001:db8::5", ICMPV6, icmpv6(128)),
    "IPv6 without a next header": packet("2001:db8::5", 59, b""),
    "IPv6 with extension headers and nothing else": packet(
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
    "a DHCPv6 solicitation": packet("fe80::5", UDP, udp(546, 547)),
    "a neighbour solicitation": nd("2001:db8::5", SOLICITATION, "ff02::1:ff00:1"),
    "a neighbour solicitation without options": nd("fe80::5", neighbour(135, "2001:db8::9")),
    "a neighbour solicitation for what is elsewhere": nd("fe80::5", neighbour(135, "2001:db9::9")),
    "a neighbour advertisement": nd("2001:db8::5", ADVERTISEMENT),
    "a neighbour advertisement, link-local": nd("fe80::5", neighbour(136, "fe80::5", target_mac())),
    "a duplicate address detection": nd("::", PROBE, "ff02::1:ff00:5"),
    "the same, link-local": nd("::", neighbour(135, "fe80::5"), "ff02::1:ff00:5"),
    "the same, with a nonce": nd("::", PROBE + b"\x0e\x01" + bytes(6), "ff02::1:ff00:5"),
    "the same, for the TAP's address": nd("::", neighbour(135, OWN[1]), "ff02::1:ff00:1"),
    "a router solicitation": nd("fe80::5", icmpv6(133, bytes(4) + source_mac()), "ff02::2"),
    "a router solicitation of nobody": nd("::", icmpv6(133), "ff02::2"),
    "an MLD report": v6(
        ipv6("fe80::5", HOP_BY_HOP, MLD_ALERT + icmpv6(143, bytes(24)), destination="ff02::16")
    ),
    "an MLD report of nobody": v6(
        ipv6("::", HOP_BY_HOP, MLD_ALERT + icmpv6(143, bytes(24)), destination="ff02::16")
    ),
    "sixteen options": nd("fe80::5", PROBE + source_mac() * 16),
}

SPOOFED = {
    "IPv4 of another": (packet("203.0.113.5"), DropReason.IPV4_SOURCE),
    "IPv4 just beside the prefix": (packet("198.51.100.7"), DropReason.IPV4_SOURCE),
    "IPv4 of a prefix's broadcast address": (packet("192.0.2.255"), DropReason.IPV4_SOURCE),
    "IPv4 of the narrow prefix's broadcast address": (
        packet("198.51.100.11"),
        DropReason.IPV4_SOURCE,
    ),
    "IPv4 of the TAP": (packet("192.0.2.1"), DropReason.IPV4_SOURCE),
    "IPv4 of loopback": (packet("127.0.0.1"), DropReason.IPV4_SOURCE),
    "IPv4 of another in fragments": (
        v4(ipv4("203.0.113.5", UDP, bytes(8), offset=5)),
        DropReason.IPV4_SOURCE,
    ),
    "TCP of nobody": (packet("0.0.0.0"), DropReason.IPV4_SOURCE),
    "UDP of nobody": (
        v4(ipv4("0.0.0.0", UDP, udp(68, 53), destination="255.255.255.255")),
        DropReason.IPV4_SOURCE,
    ),
    "a DHCP discovery to one host": (packet("0.0.0.0", UDP, udp(68, 67)), DropReason.IPV4_SOURCE),
    "a DHCP discovery in fragments": (
        v4(ipv4("0.0.0.0", UDP, udp(68, 67), destination="255.255.255.255", more=True)),
        DropReason.IPV4_SOURCE,
    ),
    "a later fragment of nobody": (
        v4(ipv4("0.0.0.0", UDP, udp(68, 67), destination="255.255.255.255", offset=1)),
        DropReason.IPV4_SOURCE,
    ),
    "a DHCP answer": (packet("192.0.2.5", UDP, udp(67, 68)), DropReason.DHCP_SERVER),
    "a DHCP answer from another port": (
        packet("192.0.2.5", UDP, udp(1067, 68)),
        DropReason.DHCP_SERVER,
    ),
    "a DHCP answer to a relay": (packet("192.0.2.5", UDP, udp(67, 67)), DropReason.DHCP_SERVER),
    "a DHCP answer in fragments": (
        v4(ipv4("192.0.2.5", UDP, udp(67, 68), more=True)),
        DropReason.DHCP_SERVER,
    ),
    "a DHCP answer behind IPv4 options": (
        v4(ipv4("192.0.2.5", UDP, udp(67, 68), options=bytes(40))),
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
    "ARP of another": (ethernet(ARP, arp("203.0.113.5")), DropReason.ARP_SENDER),
    "ARP of the TAP": (ethernet(ARP, arp("192.0.2.1", operation=2)), DropReason.ARP_SENDER),
    "an ARP reply of nobody": (
        ethernet(ARP, arp("0.0.0.0", "192.0.2.5", operation=2)),
        DropReason.ARP_SENDER,
    ),
    "an ARP probe for another's": (
        ethernet(ARP, arp("0.0.0.0", "203.0.113.5")),
        DropReason.ARP_SENDER,
    ),
    "ARP with another's MAC address": (
        ethernet(ARP, arp("192.0.2.5", sender_mac=OTHER)),
        DropReason.ARP_MAC,
    ),
    "ARP with the TAP's MAC address": (
        ethernet(ARP, arp("192.0.2.5", operation=2, sender_mac=TAP)),
        DropReason.ARP_MAC,
    ),
    "ARP in another dress": (
        ethernet(ARP, arp("192.0.2.5", kind=(6, 0x0800, 6, 4))),
        DropReason.MALFORMED,
    ),
    "inverse ARP": (ethernet(ARP, arp("192.0.2.5", operation=8)), DropReason.MALFORMED),
    "IPv6 of another": (packet("2001:db8:1::5"), DropReason.IPV6_SOURCE),
    "IPv6 of the TAP": (packet("2001:db8::1"), DropReason.IPV6_SOURCE),
    "IPv6 of the TAP, link-local": (packet(OWN[2]), DropReason.IPV6_SOURCE),
    "IPv6 of a group": (packet("ff02::5"), DropReason.IPV6_SOURCE),
    "IPv6 of an IPv4 address": (packet("::ffff:192.0.2.5"), DropReason.IPV6_SOURCE),
    "IPv6 of another behind extension headers": (
        packet("2001:db8:1::5", HOP_BY_HOP, extension(TCP) + bytes(20)),
        DropReason.IPV6_SOURCE,
    ),
    "TCP over IPv6 of nobody": (packet("::"), DropReason.IPV6_SOURCE),
    "UDP over IPv6 of nobody": (
        v6(ipv6("::", UDP, udp(546, 547), destination="ff02::1:2")),
        DropReason.IPV6_SOURCE,
    ),
    "a ping of nobody": (nd("::", icmpv6(128)), DropReason.IPV6_SOURCE),
    "a neighbour advertisement of nobody": (nd("::", ADVERTISEMENT), DropReason.IPV6_SOURCE),
    "a duplicate address detection to one host": (
        nd("::", PROBE, "2001:db8::5"),
        DropReason.IPV6_SOURCE,
    ),
    "a fragment of nobody": (
        v6(ipv6("::", FRAGMENT, fragment(ICMPV6, 1) + PROBE, destination="ff02::1")),
        DropReason.IPV6_SOURCE,
    ),
    "an MLD report of nobody in a fragment": (
        v6(ipv6("::", FRAGMENT, fragment(ICMPV6) + icmpv6(143), destination="ff02::16")),
        DropReason.FRAGMENT,
    ),
    "a duplicate address detection for another's": (
        nd("::", neighbour(135, "2001:db8:1::5"), "ff02::1:ff00:5"),
        DropReason.ND_TARGET,
    ),
    "a duplicate address detection with an address": (
        nd("::", neighbour(135, "2001:db8::5", source_mac()), "ff02::1:ff00:5"),
        DropReason.MALFORMED,
    ),
    "a neighbour solicitation of another": (nd("2001:db8:1::5", PROBE), DropReason.IPV6_SOURCE),
    "a neighbour solicitation with another's MAC address": (
        nd("2001:db8::5", neighbour(135, "2001:db8::9", source_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "the same behind an option that is right": (
        nd("2001:db8::5", neighbour(135, "2001:db8::9", source_mac() + source_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "the same in an option that is too long": (
        nd("2001:db8::5", neighbour(135, "2001:db8::9", b"\1\2" + CLIENT + bytes(8))),
        DropReason.ND_MAC,
    ),
    "a neighbour advertisement for another's": (
        nd("2001:db8::5", neighbour(136, "2001:db8:1::5", target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement for the TAP's": (
        nd("2001:db8::5", neighbour(136, "2001:db8::1", target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement for the TAP's, link-local": (
        nd("fe80::5", neighbour(136, OWN[2], target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement for a group's": (
        nd("fe80::5", neighbour(136, "ff02::1", target_mac())),
        DropReason.ND_TARGET,
    ),
    "a neighbour advertisement with another's MAC address": (
        nd("2001:db8::5", neighbour(136, "2001:db8::5", target_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "a neighbour advertisement with another's as its source": (
        nd("2001:db8::5", neighbour(136, "2001:db8::5", source_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "a router solicitation with another's MAC address": (
        nd("fe80::5", icmpv6(133, bytes(4) + source_mac(OTHER))),
        DropReason.ND_MAC,
    ),
    "a router advertisement": (nd("fe80::5", icmpv6(134, bytes(12))), DropReason.ROUTER_MESSAGE),
    "a redirect": (nd("fe80::5", icmpv6(137, bytes(36))), DropReason.ROUTER_MESSAGE),
    "a router advertisement behind extension headers": (
        packet("fe80::5", HOP_BY_HOP, extension(DESTINATION) + extension(ICMPV6) + icmpv6(134)),
        DropReason.ROUTER_MESSAGE,
    ),
    "a router advertisement behind an authentication header": (
        packet("fe80::5", AUTHENTICATION, bytes([ICMPV6, 4]) + bytes(22) + icmpv6(134)),
        DropReason.ROUTER_MESSAGE,
    ),
    "a router advertisement in a whole fragment": (
        packet("fe80::5", FRAGMENT, fragment(ICMPV6) + icmpv6(134, bytes(12))),
        DropReason.ROUTER_MESSAGE,
    ),
    "a router advertisement in a first fragment": (
        packet("fe80::5", FRAGMENT, fragment(ICMPV6, more=True) + icmpv6(134)),
        DropReason.ROUTER_MESSAGE,
    ),
    "a first fragment that leaves the header to the next": (
        packet("fe80::5", FRAGMENT, fragment(DESTINATION, more=True) + extension(ICMPV6)),
        DropReason.FRAGMENT,
    ),
    "a first fragment whose header the next could replace": (
        packet(
            "fe80::5",
            FRAGMENT,
            fragment(DESTINATION, more=True) + extension(ICMPV6) + icmpv6(128),
        ),
        DropReason.FRAGMENT,
    ),
    "a later fragment that could replace a header": (
        packet("fe80::5", FRAGMENT, fragment(DESTINATION, 1) + icmpv6(134)),
        DropReason.FRAGMENT,
    ),
    "a neighbour advertisement in a whole fragment": (
        packet("2001:db8::5", FRAGMENT, fragment(ICMPV6) + ADVERTISEMENT),
        DropReason.FRAGMENT,
    ),
    "a neighbour solicitation in a first fragment": (
        packet("2001:db8::5", FRAGMENT, fragment(ICMPV6, more=True) + SOLICITATION),
        DropReason.FRAGMENT,
    ),
    "neighbour discovery from afar": (
        v6(ipv6("2001:db8::5", ICMPV6, ADVERTISEMENT, hop_limit=254)),
        DropReason.MALFORMED,
    ),
    "neighbour discovery with a code": (
        nd("2001:db8::5", neighbour(136, "2001:db8::5", code=1)),
        DropReason.MALFORMED,
    ),
    "an option without length": (
        nd("fe80::5", PROBE + b"\x0e\x00" + bytes(6)),
        DropReason.MALFORMED,
    ),
    "an address option without length": (nd("fe80::5", PROBE + b"\x01\x00"), DropReason.CUT_SHORT),
    "an address option without length, padded": (
        nd("fe80::5", PROBE + b"\x01\x00" + CLIENT),
        DropReason.MALFORMED,
    ),
    "an option past the end": (nd("fe80::5", PROBE + b"\x01\x02" + CLIENT), DropReason.MALFORMED),
    "an option that is cut short": (nd("fe80::5", PROBE + b"\x01\x01"), DropReason.CUT_SHORT),
    "an option of one byte": (nd("fe80::5", PROBE + b"\x01"), DropReason.CUT_SHORT),
    "seventeen options": (nd("fe80::5", PROBE + source_mac() * 17), DropReason.MALFORMED),
    "too many extension headers": (
        packet("fe80::5", DESTINATION, extension(DESTINATION) * 8 + extension(TCP) + bytes(20)),
        DropReason.MALFORMED,
    ),
    "an extension header that is cut short": (
        packet("fe80::5", DESTINATION, bytes([TCP, 0, 1, 4])),
        DropReason.CUT_SHORT,
    ),
    "an extension header past the end": (
        packet("fe80::5", DESTINATION, bytes([TCP, 9]) + bytes(30)),
        DropReason.CUT_SHORT,
    ),
    "an extension header past the packet but not the frame": (
        v6(ipv6("fe80::5", DESTINATION, bytes([TCP, 9]) + bytes(30)) + bytes(100)),
        DropReason.CUT_SHORT,
    ),
    "a jumbogram": (
        v6(ipv6("fe80::5", HOP_BY_HOP, extension(ICMPV6) + icmpv6(134), length=0)),
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
    "IPv6 where IPv4 is said": (v4(ipv6("2001:db8::5")), DropReason.MALFORMED),
    "IPv4 where IPv6 is said": (v6(ipv4("192.0.2.5") + bytes(40)), DropReason.MALFORMED),
    "an IPv4 header that is too short": (
        v4(b"\x44" + ipv4("192.0.2.5")[1:]),
        DropReason.MALFORMED,
    ),
    "an IPv4 packet shorter than its header": (
        v4(ipv4("192.0.2.5", total=19)),
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
    "a type nobody knows": (ethernet(0x88B5, bytes(40)), DropReason.ETHERTYPE),
    "more tags than are looked behind": (
        ethernet(IPV4, ipv4("192.0.2.5"), tags=tag(5) * 5),
        DropReason.ETHERTYPE,
    ),
    "the TAP's MAC address": (
        ethernet(IPV4, ipv4("192.0.2.5"), source=TAP, destination=OTHER),
        DropReason.TAP_MAC,
    ),
    "the TAP's MAC address on a VLAN": (
        ethernet(IPV4, ipv4("192.0.2.5"), source=TAP, tags=tag(5)),
        DropReason.TAP_MAC,
    ),
    "a group's MAC address": (
        ethernet(IPV4, ipv4("192.0.2.5"), source=bytes.fromhex("01005e000001")),
        DropReason.SOURCE_MAC,
    ),
    "no MAC address": (ethernet(IPV4, ipv4("192.0.2.5"), source=bytes(6)), DropReason.SOURCE_MAC),
}

TAGS = {
    "802.1Q": tag(5),
    "802.1ad": tag(5, 0x88A8),
    "a priority": tag(0xE000),
    "stacked": tag(5, 0x88A8) + tag(6),
    "three deep": tag(5) * 3,
}


def tagged(frame: bytes, tags: bytes) -> bytes:
    return frame[:12] + tags + frame[12:]


def each(cases: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("frame", cases.values(), ids=cases)


def each_spoof(cases: Mapping[str, tuple[bytes, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("frame", "reason"), cases.values(), ids=cases)


@each(LEGITIMATE)
def test_the_legitimate_passes(frame: bytes) -> None:
    assert FILTER.check(frame) is None
    assert FILTER.check(memoryview(frame)) is None


@each_spoof(SPOOFED)
def test_the_spoofed_is_refused(frame: bytes, reason: str) -> None:
    assert FILTER.check(frame) == reason
    assert FILTER.check(memoryview(frame)) == reason


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
def test_tags_change_nothing(tags: bytes) -> None:
    for frame in LEGITIMATE.values():
        assert FILTER.check(tagged(frame, tags)) is None
    for frame, reason in SPOOFED.values():
        if tag(5) * 5 not in frame:
            assert FILTER.check(tagged(frame, tags)) == reason


@pytest.mark.parametrize("tags", [b"", tag(5)], ids=["untagged", "tagged"])
@each(LEGITIMATE)
def test_what_is_cut_short_is_refused(frame: bytes, tags: bytes) -> None:
    whole = tagged(frame, tags)
    for end in range(length_of(whole, 14 + len(tags))):
        assert FILTER.check(whole[:end]) is not None


def length_of(frame: bytes, start: int) -> int:
    """How long a frame is without its padding."""
    match frame[start - 2 : start]:
        case b"\x08\x00":
            return start + int.from_bytes(frame[start + 2 : start + 4], "big")
        case b"\x86\xdd":
            return start + 40 + int.from_bytes(frame[start + 4 : start + 6], "big")
        case _:
            return start + 28


@pytest.mark.parametrize(
    ("protocol", "least", "whole"),
    [(UDP, 8, udp(9, 9)), (ICMP, 1, bytes(8)), (ICMPV6, 4, icmpv6(128)), (TCP, 0, bytes(20))],
    ids=["UDP", "ICMP", "ICMPv6", "TCP"],
)
def test_a_packet_too_short_to_tell_what_it_is_is_refused(
    protocol: int, least: int, whole: bytes
) -> None:
    source = "2001:db8::5" if protocol == ICMPV6 else "192.0.2.5"
    for size in range(len(whole)):
        # What follows the packet in the frame is padding, whatever it looks like.
        frame = packet(source, protocol, whole[:size]) + whole[size:]
        assert FILTER.check(frame) == (DropReason.CUT_SHORT if size < least else None)


def test_udp_over_ipv6_too_short_for_its_ports_is_refused() -> None:
    for size in range(9):
        frame = packet("2001:db8::5", UDP, udp(9, 9)[:size])
        assert FILTER.check(frame) == (DropReason.CUT_SHORT if size < 8 else None)


def test_a_frame_too_short_for_its_header_is_refused() -> None:
    frame = ethernet(0x88B5, b"")
    for size in range(len(frame)):
        assert FILTER.check(frame[:size]) == DropReason.CUT_SHORT
    assert FILTER.check(frame) == DropReason.ETHERTYPE


@pytest.mark.parametrize("kind", [133, 135, 136])
def test_neighbour_discovery_that_is_cut_short_is_refused(kind: int) -> None:
    message = icmpv6(133) if kind == 133 else neighbour(kind, "2001:db8::5")
    for size in range(len(message)):
        assert FILTER.check(nd("2001:db8::5", message[:size])) == DropReason.CUT_SHORT
    assert FILTER.check(nd("2001:db8::5", message)) is None


def test_without_a_prefix_of_a_family_only_its_configuration_passes() -> None:
    nothing = SourceFilter([], TAP)
    passing = {name for name, frame in LEGITIMATE.items() if nothing.check(frame) is None}
    assert "TCP over IPv6 of a link-local address" in passing
    assert "a DHCP discovery" in passing
    assert "the same, link-local" in passing
    for name in ("TCP over IPv4", "an ARP request", "an ARP probe", "TCP over IPv6"):
        assert name not in passing


def test_a_prefix_of_everything_still_has_no_groups_and_no_nobody() -> None:
    everything = SourceFilter([ip_network("0.0.0.0/0"), ip_network("::/0")], TAP)
    assert everything.check(packet("203.0.113.5")) is None
    assert everything.check(packet("2001:db9::5")) is None
    for source in ("0.0.0.0", "224.0.0.1", "255.255.255.255"):
        assert everything.check(packet(source)) == DropReason.IPV4_SOURCE
    for source in ("::", "ff02::1"):
        assert everything.check(packet(source)) == DropReason.IPV6_SOURCE


@pytest.mark.parametrize("prefix", ["192.0.2.8/31", "192.0.2.9/32"])
def test_a_prefix_of_two_addresses_or_one_has_no_broadcast_address(prefix: str) -> None:
    narrow = SourceFilter([ip_network(prefix)], TAP)
    assert narrow.check(packet("192.0.2.9")) is None
    assert narrow.check(packet("192.0.2.10")) == DropReason.IPV4_SOURCE


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(IPV4, b"", tags=tag(5) * 16_000),
        packet("fe80::5", DESTINATION, extension(DESTINATION) * 8_000),
        nd("fe80::5", PROBE + b"\x0e\x01" * 4 * 8_000),
    ],
    ids=["tags", "extension headers", "options"],
)
def test_no_frame_is_much_work(frame: bytes) -> None:
    assert FILTER.check(frame) is not None
    began = time.process_time()
    for _ in range(100):
        FILTER.check(frame)
    # Some 10 us each; milliseconds, if it went to the end of the frame.
    assert (time.process_time() - began) / 100 < 500e-6
