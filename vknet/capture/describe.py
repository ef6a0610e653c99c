"""Describe a frame in one line of text.  Pure.

    02:00:00:00:00:0c > 02:00:00:00:aa:01, vlan 5, IPv4 192.0.2.5:40000 > 192.0.2.1:22, TCP [S],
    data 0, length 78

The source comes before the destination, as in tcpdump(8).  Many of the words, and the letters for
the TCP flags, are those of tcpdump.  The last number is the size of the whole frame in bytes.

Frames come from untrusted hosts, and the line is written to a terminal.  So the line consists of
numbers and fixed words only: no text is copied from a frame.  A frame that is cut short or
malformed is reported as such, after the description of the part that is intact.
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

RUNT_SHOWN_BYTES: Final = 18
"""A runt has fewer bytes than this: the size of an Ethernet header with a VLAN tag."""

# 802.1Q: the bit offset of the priority in the tag control.
PRIORITY_SHIFT: Final = 13

ETHERTYPES: Final = {
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
"""IANA, IEEE 802 Numbers: names of EtherTypes."""

LENGTH_MAX: Final = 1500
"""IEEE 802.3: a type field up to this value is a length, in bytes."""

LINK_SERVICES: Final = {
    0x42: "spanning tree",
    0xAA: "SNAP",
    0xE0: "IPX",
    0xF0: "NetBIOS",
    0xFE: "IS-IS",
}
"""IEEE 802.2: names of destination service access points."""

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
"""IANA, Protocol Numbers: names of IP protocols."""

# RFC 9293: header length and flags, between the acknowledgment number and the window.
TCP_HEADER: Final = struct.Struct("!12xBB6x")
TCP_FLAGS: Final = "FSRP.UEW"


def describe(frame: Frame) -> str:
    """Describe a frame.

    Args:
        frame: any bytes, including runts and malformed or malicious frames.

    Returns:
        One line of printable ASCII characters, without a newline.
    """
    data = bytes(frame)
    header = parse_header(data)
    if header is None:
        parts = [f"{CUT_SHORT}: {data[:RUNT_SHOWN_BYTES].hex(' ')}" if data else CUT_SHORT]
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
        yield ETHERTYPES.get(ethertype, f"type 0x{ethertype:04x}")


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


class _Addresses(NamedTuple):
    """The source and destination of an IP packet."""

    version: int
    source: str
    destination: str

    def __str__(self) -> str:
        return f"IPv{self.version} {self.source} > {self.destination}"

    def with_ports(self, source: int, destination: int) -> str:
        # RFC 3986: the brackets separate an IPv6 address from the port.
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
    addresses = _Addresses(4, str(IPv4Address(source)), str(IPv4Address(destination)))
    start = (first & 0x0F) * 4
    if first >> 4 != 4 or start < IPV4.size or total < start:
        yield f"{addresses}, {MALFORMED}"
        return
    offset = (fragment & IPV4_OFFSET) * 8
    more = fragment & IPV4_MORE_FRAGMENTS != 0
    yield from _packet(addresses, protocol, data[start:total], offset, more=more)
    if total > len(data):
        yield f"{CUT_SHORT}: {len(data)} of {total} bytes"


def _ipv6(data: bytes) -> Iterator[str]:
    if len(data) < IPV6.size:
        yield f"IPv6 {CUT_SHORT}"
        return
    first, length, kind, _, *halves = IPV6.unpack_from(data)
    source, destination = (IPv6Address(halves[n] << 64 | halves[n + 1]) for n in (0, 2))
    addresses = _Addresses(6, str(source), str(destination))
    if first >> 4 != 6:
        yield f"{addresses}, {MALFORMED}"
        return
    stop = IPV6.size + length
    yield from _ipv6_payload(addresses, kind, data[IPV6.size : stop])
    if stop > len(data):
        yield f"{CUT_SHORT}: {len(data)} of {stop} bytes"


def _ipv6_payload(addresses: _Addresses, kind: int, data: bytes) -> Iterator[str]:
    """Skip the extension headers at the start of `data`, and describe the payload."""
    start = offset = skipped = 0
    more = False
    while kind in IPV6_EXTENSIONS and not offset:
        if skipped == IPV6_EXTENSIONS_MAX:
            yield f"{addresses}, more than {skipped} extension headers"
            return
        if len(data) - start < IPV6_EXTENSION.size:
            yield f"{addresses}, extension header {kind} {CUT_SHORT}"
            return
        following, size, word = IPV6_EXTENSION.unpack_from(data, start)
        if kind == FRAGMENT:
            offset, more = word & IPV6_OFFSET, word & 1 != 0
        start += extension_size(kind, size)
        kind = following
        skipped += 1
    yield from _packet(addresses, kind, data[start:], offset, more=more)


def _packet(
    addresses: _Addresses, protocol: int, data: bytes, offset: int, *, more: bool
) -> Iterator[str]:
    """Describe the payload of an IP packet of either version.

    Args:
        addresses: the addresses of the packet.
        protocol: the protocol of the payload.
        data: the part of the payload that is present.
        offset: the offset of the fragment in bytes; 0 for the first one and for a whole packet.
        more: more fragments follow.
    """
    if offset:
        position = f"{'' if more else 'last '}fragment at {offset}"
        yield f"{addresses}, {_protocol_name(protocol)}, {position}"
        return
    if protocol in (TCP, UDP) and len(data) >= PORTS.size:
        yield addresses.with_ports(*PORTS.unpack_from(data))
    else:
        yield str(addresses)
    if protocol == TCP:
        yield _tcp(data)
    elif protocol == UDP:
        yield _udp(data)
    elif protocol == ICMPV4:
        yield describe_icmp(data)
    elif protocol == ICMPV6:
        yield describe_icmpv6(data)
    else:
        yield _protocol_name(protocol)
    if more:
        yield "first fragment"


def _protocol_name(protocol: int) -> str:
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
