"""A frame in one line, for people.  Pure.

    02:00:00:00:00:0c > 02:00:00:00:aa:01, vlan 5, IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [S],
    data 0, length 78

The source stands before the destination, as it does in tcpdump(8), from which the words are taken
that have no better ones, and the letters for the flags of TCP.  The last number is the size of the
whole frame in bytes.

Frames come from strangers, and the line goes to a terminal: all of it is made of numbers and of
words that stand here, nothing is copied out of a frame as text.  What is cut short or makes no
sense is said to be so, and what came before it is still shown.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

from vknet.capture.describe_control import (
    describe_dhcpv4,
    describe_dhcpv6,
    describe_icmp,
    describe_icmpv6,
)
from vknet.packet.ethernet import (
    ETHERNET_HEADER_SIZE,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    TAG_SIZE,
    TAGS,
    VLAN_MASK,
    format_mac,
    parse_header,
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
    ICMPV6,
    IPV4,
    IPV4_MORE_FRAGMENTS,
    IPV4_OFFSET,
    IPV6,
    IPV6_EXTENSION,
    IPV6_EXTENSIONS,
    IPV6_EXTENSIONS_MAX,
    IPV6_NO_NEXT_HEADER,
    IPV6_OFFSET,
    PORTS,
    TCP,
    UDP,
    extension_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vknet.packet.ethernet import Frame

__all__ = ["describe"]

CUT_SHORT: Final = "cut short"
MALFORMED: Final = "malformed"

SHOWN_OF_A_RUNT: Final = 18
"""Bytes: no header is shorter than one more, tag included."""

PRIORITY_SHIFT: Final = 13

TYPES: Final = {
    0x0842: "Wake-on-LAN",
    0x8035: "RARP",
    0x8100: "more VLAN tags",
    0x8809: "slow protocols (LACP)",
    0x8847: "MPLS",
    0x8848: "MPLS multicast",
    0x8863: "PPPoE discovery",
    0x8864: "PPPoE",
    0x888E: "EAPOL",
    0x88A8: "more VLAN tags",
    0x88CC: "LLDP",
    0x88E5: "MACsec",
    0x88F7: "PTP",
    0x9000: "loopback test",
}
"""IANA, IEEE 802 Numbers."""

LENGTH_MAX: Final = 1500
"""IEEE 802.3: up to here it is a length and no type."""

LINK_SERVICES: Final = {
    0x42: "spanning tree",
    0xAA: "SNAP",
    0xE0: "IPX",
    0xF0: "NetBIOS",
    0xFE: "IS-IS",
}
"""IEEE 802.2: the service access point that it is for."""

PROTOCOLS: Final = {
    ICMPV4: "ICMP",
    2: "IGMP",
    4: "IPv4 in IP",
    TCP: "TCP",
    UDP: "UDP",
    41: "IPv6 in IP",
    47: "GRE",
    50: "ESP",
    51: "AH",
    ICMPV6: "ICMPv6",
    IPV6_NO_NEXT_HEADER: "no payload",
    89: "OSPF",
    103: "PIM",
    112: "VRRP",
    115: "L2TP",
    132: "SCTP",
}
"""IANA, Protocol Numbers."""

# RFC 9293: header length, flags; the ports and two numbers before them, window and more behind.
TCP_HEADER: Final = struct.Struct("!12xBB6x")
TCP_FLAGS: Final = "FSRP.UEW"


def describe(frame: Frame) -> str:
    """Say what a frame is.

    Args:
        frame: any bytes; runts, nonsense and what was made to confuse included.

    Returns:
        One line without its end, of printable ASCII characters alone.
    """
    data = bytes(frame)
    header = parse_header(data)
    if header is None:
        parts = [f"{CUT_SHORT}: {data[:SHOWN_OF_A_RUNT].hex(' ')}" if data else CUT_SHORT]
    else:
        parts = [f"{format_mac(header.source)} > {format_mac(header.destination)}"]
        parts += _tags(data, header.payload)
        parts += _payload(header.ethertype, data[header.payload :])
    return ", ".join([*parts, f"length {len(data)}"])


def _tags(data: bytes, stop: int) -> Iterator[str]:
    for at in range(ETHERNET_HEADER_SIZE, stop, TAG_SIZE):
        control = data[at] << 8 | data[at + 1]
        priority = control >> PRIORITY_SHIFT
        yield f"vlan {control & VLAN_MASK}" + (f" priority {priority}" if priority else "")


def _payload(ethertype: int, data: bytes) -> Iterator[str]:
    if ethertype == ETHERTYPE_IPV4:
        yield from _ipv4(data)
    elif ethertype == ETHERTYPE_IPV6:
        yield from _ipv6(data)
    elif ethertype == ETHERTYPE_ARP:
        yield _arp(data)
    elif ethertype <= LENGTH_MAX:
        yield _ieee_802_3(data)
    elif ethertype in TAGS and len(data) < TAG_SIZE:
        yield f"a VLAN tag {CUT_SHORT}"
    else:
        yield TYPES.get(ethertype, f"type 0x{ethertype:04x}")


def _ieee_802_3(data: bytes) -> str:
    if not data:
        return f"802.3 {CUT_SHORT}"
    return f"802.3 {LINK_SERVICES.get(data[0], f'for 0x{data[0]:02x}')}"


def _arp(data: bytes) -> str:
    if len(data) < ARP.size:
        return f"ARP {CUT_SHORT}"
    *kind, operation, sender_mac, sender, _, target = ARP.unpack_from(data)
    if tuple(kind) != ARP_FOR_IPV4:
        return f"ARP of hardware {kind[0]} for type 0x{kind[1]:04x}, operation {operation}"
    if operation == ARP_REPLY:
        return f"ARP {IPv4Address(sender)} is-at {format_mac(sender_mac)}"
    if operation != ARP_REQUEST:
        return f"ARP operation {operation}"
    # RFC 5227.
    if not sender:
        return f"ARP who-has {IPv4Address(target)} (probe)"
    note = " (announcement)" if sender == target else ""
    return f"ARP who-has {IPv4Address(target)} tell {IPv4Address(sender)}{note}"


# --- IP -------------------------------------------------------------------------------------------


class _Ends(NamedTuple):
    """Whom an IP packet is from and for."""

    version: int
    source: str
    destination: str

    def __str__(self) -> str:
        return f"IPv{self.version} {self.source} > {self.destination}"

    def with_ports(self, source: int, destination: int) -> str:
        # RFC 3986: after a colon alone, a port could be the end of an IPv6 address.
        left, right = "[]" if self.version == 6 else ("", "")
        return (
            f"IPv{self.version} {left}{self.source}{right}:{source}"
            f" > {left}{self.destination}{right}:{destination}"
        )


def _ipv4(data: bytes) -> Iterator[str]:
    if len(data) < IPV4.size:
        yield f"IPv4 {CUT_SHORT}"
        return
    first, total, fragment, protocol, source, destination = IPV4.unpack_from(data)
    ends = _Ends(4, str(IPv4Address(source)), str(IPv4Address(destination)))
    start = (first & 0x0F) * 4
    if first >> 4 != 4 or start < IPV4.size or total < start:
        yield f"{ends}, {MALFORMED}"
        return
    offset = (fragment & IPV4_OFFSET) * 8
    more = fragment & IPV4_MORE_FRAGMENTS != 0
    yield from _packet(ends, protocol, data[start:total], offset, more=more)
    if total > len(data):
        yield f"{CUT_SHORT}: {len(data)} of {total} bytes"


def _ipv6(data: bytes) -> Iterator[str]:
    if len(data) < IPV6.size:
        yield f"IPv6 {CUT_SHORT}"
        return
    first, length, kind, _, *halves = IPV6.unpack_from(data)
    source, destination = (IPv6Address(halves[n] << 64 | halves[n + 1]) for n in (0, 2))
    ends = _Ends(6, str(source), str(destination))
    if first >> 4 != 6:
        yield f"{ends}, {MALFORMED}"
        return
    stop = IPV6.size + length
    yield from _behind_extensions(ends, kind, data[IPV6.size : stop])
    if stop > len(data):
        yield f"{CUT_SHORT}: {len(data)} of {stop} bytes"


def _behind_extensions(ends: _Ends, kind: int, data: bytes) -> Iterator[str]:
    """Go along the extension headers of an IPv6 packet, with which its data begin."""
    start = offset = walked = 0
    more = False
    while kind in IPV6_EXTENSIONS and not offset:
        if walked == IPV6_EXTENSIONS_MAX:
            yield f"{ends}, more than {walked} extension headers"
            return
        if len(data) - start < IPV6_EXTENSION.size:
            yield f"{ends}, extension header {kind} {CUT_SHORT}"
            return
        following, size, word = IPV6_EXTENSION.unpack_from(data, start)
        if kind == FRAGMENT:
            offset, more = word & IPV6_OFFSET, word & 1 != 0
        start += extension_size(kind, size)
        kind = following
        walked += 1
    yield from _packet(ends, kind, data[start:], offset, more=more)


def _packet(ends: _Ends, protocol: int, data: bytes, offset: int, *, more: bool) -> Iterator[str]:
    """What an IP packet of either version carries.

    Args:
        ends: whom it is from and for.
        protocol: what the data are.
        data: as many of them as are there.
        offset: in bytes, of a fragment that is not its packet's first; 0 otherwise.
        more: fragments follow.
    """
    if offset:
        yield f"{ends}, {_name_of(protocol)}, {'' if more else 'last '}fragment at {offset}"
        return
    if protocol in (TCP, UDP) and len(data) >= PORTS.size:
        yield ends.with_ports(*PORTS.unpack_from(data))
    else:
        yield str(ends)
    if protocol == TCP:
        yield _tcp(data)
    elif protocol == UDP:
        yield _udp(data)
    elif protocol == ICMPV4:
        yield describe_icmp(data)
    elif protocol == ICMPV6:
        yield describe_icmpv6(data)
    else:
        yield _name_of(protocol)
    if more:
        yield "first fragment"


def _name_of(protocol: int) -> str:
    return PROTOCOLS.get(protocol, f"protocol {protocol}")


def _tcp(data: bytes) -> str:
    if len(data) < TCP_HEADER.size:
        return f"TCP {CUT_SHORT}"
    first, flags = TCP_HEADER.unpack_from(data)
    letters = "".join(letter for bit, letter in enumerate(TCP_FLAGS) if flags >> bit & 1)
    size = (first >> 4) * 4
    whole = TCP_HEADER.size <= size <= len(data)
    return f"TCP [{letters or 'none'}], {f'data {len(data) - size}' if whole else MALFORMED}"


def _udp(data: bytes) -> str:
    if len(data) < PORTS.size:
        return f"UDP {CUT_SHORT}"
    ports = set(PORTS.unpack_from(data))
    message = data[PORTS.size :]
    if ports <= {DHCPV4_CLIENT, DHCPV4_SERVER}:
        return describe_dhcpv4(message)
    if ports <= {DHCPV6_CLIENT, DHCPV6_SERVER}:
        return describe_dhcpv6(message)
    return f"UDP, data {len(message)}"
