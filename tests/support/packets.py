"""The builder of test frames, field by field.

It shares no code with vknet, so that a mistake in a header format there cannot hide here.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

BROADCAST = b"\xff" * 6
ALL_NODES = bytes.fromhex("333300000001")
TAP = bytes.fromhex("02000000aa01")
CLIENT = bytes.fromhex("02000000000c")
OTHER = bytes.fromhex("02000000000d")

IPV4 = 0x0800
ARP = 0x0806
IPV6 = 0x86DD

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60

EXPERIMENTAL = 0x88B5
"""The EtherType for local experiments (IEEE 802)."""


def ones_sum(data: bytes) -> int:
    """Return the one's complement sum of RFC 1071, word by word."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + bytes(len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def station_mac(number: int) -> bytes:
    """Return the MAC address of a station, by its number."""
    return b"\2\0" + number.to_bytes(4, "big")


def station_frame(destination: bytes, source: bytes, payload: bytes = b"", vlan: int = 0) -> bytes:
    """Return a frame of at least 60 bytes with a type that is not IP, tagged unless `vlan` is 0."""
    tags = b"" if vlan == 0 else tag(vlan)
    payload = payload.ljust(46, b".")
    return ethernet(EXPERIMENTAL, payload, source=source, destination=destination, tags=tags)


def ethernet(
    ethertype: int,
    payload: bytes,
    *,
    source: bytes = CLIENT,
    destination: bytes = TAP,
    tags: bytes = b"",
) -> bytes:
    return destination + source + tags + ethertype.to_bytes(2, "big") + payload


def tag(vlan: int, kind: int = 0x8100) -> bytes:
    """Return a VLAN tag; `vlan` is the whole tag control, with the priority."""
    return struct.pack("!HH", kind, vlan)


def add_tags(frame: bytes, tags: bytes) -> bytes:
    """Return the frame with tags in front of those that it has."""
    return frame[:12] + tags + frame[12:]


def ipv4(
    source: str | int,
    protocol: int = TCP,
    payload: bytes = bytes(20),
    *,
    destination: str = "192.0.2.1",
    more: bool = False,
    offset: int = 0,
    options: bytes = b"",
    version: int = 4,
    total: int | None = None,
    tos: int = 0,
    identification: int = 1,
    whole: bool = False,
) -> bytes:
    """Return an IPv4 packet with a valid header checksum.

    Args:
        offset: that of a fragment, in units of eight bytes.
        total: the length field, if it is not the length.
        whole: whether the flag DF (do not fragment) is set.
    """
    words = 5 + len(options) // 4
    size = 4 * words + len(payload) if total is None else total
    flags = whole << 14 | more << 13
    head = struct.pack("!BBHHH", version << 4 | words, tos, size, identification, flags | offset)
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    rest = addresses + options
    check = ones_sum(head + struct.pack("!BB", 64, protocol) + rest) ^ 0xFFFF
    return head + struct.pack("!BBH", 64, protocol, check) + rest + payload


def tcp(
    flags: int,
    data: bytes = b"",
    *,
    options: bytes = b"",
    words: int | None = None,
    ports: tuple[int, int] = (40000, 22),
    sequence: int = 1,
    checksum: int = 0,
) -> bytes:
    """Return a TCP segment; `words` is its header length field."""
    size = 5 + len(options) // 4 if words is None else words
    header = struct.pack("!HHIIBBHHH", *ports, sequence, 2, size << 4, flags, 1024, checksum, 0)
    return header + options + data


def udp(source: int, destination: int, payload: bytes = bytes(8), *, checksum: int = 0) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), checksum) + payload


def arp(
    sender: str | int,
    target: str | int = "192.0.2.1",
    *,
    operation: int = 1,
    sender_mac: bytes = CLIENT,
    kind: tuple[int, int, int, int] = (1, 0x0800, 6, 4),
) -> bytes:
    return (
        struct.pack("!HHBBH", *kind, operation)
        + sender_mac
        + IPv4Address(sender).packed
        + bytes(6)
        + IPv4Address(target).packed
    )


def ipv6(
    source: str | int,
    following: int = TCP,
    payload: bytes = bytes(20),
    *,
    destination: str = "2001:db8::1",
    hop_limit: int = 255,
    version: int = 6,
    length: int | None = None,
    traffic_class: int = 0,
) -> bytes:
    size = len(payload) if length is None else length
    return (
        struct.pack("!IHBB", version << 28 | traffic_class << 20, size, following, hop_limit)
        + IPv6Address(source).packed
        + IPv6Address(destination).packed
        + payload
    )


def extension(following: int, units: int = 0) -> bytes:
    """Return an options header; `units` is its length beyond the first eight bytes, in eights."""
    return bytes([following, units]) + bytes(6 + 8 * units)


def fragment(following: int, offset: int = 0, *, more: bool = False) -> bytes:
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 1)


def icmp(kind: int, code: int = 0, body: bytes = bytes(4)) -> bytes:
    return bytes([kind, code, 0, 0]) + body


def igmp(kind: int) -> bytes:
    return bytes([kind]) + bytes(7)


def icmpv6(kind: int, body: bytes = bytes(4), code: int = 0) -> bytes:
    return bytes([kind, code, 0, 0]) + body


def neighbour(
    kind: int, target: str | int, options: bytes = b"", code: int = 0, *, flags: int = 0
) -> bytes:
    """Return a neighbour solicitation (135) or advertisement (136)."""
    body = bytes([flags]) + bytes(3) + IPv6Address(target).packed + options
    return icmpv6(kind, body, code)


def source_mac(mac: bytes = CLIENT) -> bytes:
    return b"\x01\x01" + mac


def target_mac(mac: bytes = CLIENT) -> bytes:
    return b"\x02\x01" + mac


def packet(source: str, protocol: int = TCP, payload: bytes = bytes(20)) -> bytes:
    """Return a frame with an IP packet, of the version of the source address."""
    if ip_address(source).version == 4:
        return ethernet(IPV4, ipv4(source, protocol, payload))
    return ethernet(IPV6, ipv6(source, protocol, payload))


def ipv4_frame(packet: bytes) -> bytes:
    return ethernet(IPV4, packet)


def ipv6_frame(packet: bytes) -> bytes:
    return ethernet(IPV6, packet)


def icmpv6_frame(source: str, message: bytes, destination: str = "ff02::1") -> bytes:
    return ipv6_frame(ipv6(source, ICMPV6, message, destination=destination))


DHCP_COOKIE = bytes.fromhex("63825363")
DISCOVER, OFFER, REQUEST = (DHCP_COOKIE + bytes([53, 1, kind, 255]) for kind in (1, 2, 3))
"""The options of DHCP messages, the magic cookie included."""


def dhcpv4(
    options: bytes,
    *,
    client: str = "0.0.0.0",
    operation: int = 1,
    hardware: int = 1,
    address_size: int = 6,
    relay: str = "0.0.0.0",
    mac: bytes = CLIENT,
) -> bytes:
    """Return a DHCP message.

    Args:
        options: what follows the fixed fields, the magic cookie included.
        client: the address that the client gets (yiaddr).
        operation: 1 for a request, 2 for a reply.
        hardware: the type of the hardware address (htype).
        address_size: the length of the hardware address (hlen).
        relay: the address of the relay (giaddr).
        mac: the hardware address (chaddr).
    """
    return (
        bytes([operation, hardware, address_size, 0])
        + bytes(12)
        + IPv4Address(client).packed
        + bytes(4)
        + IPv4Address(relay).packed
        + mac.ljust(16, b"\0")
        + bytes(192)
        + options
    )


def dhcpv6(kind: int, options: bytes = b"") -> bytes:
    """Return a DHCPv6 message with a client identifier, and these options behind it."""
    return bytes([kind, 0, 0, 1]) + struct.pack("!HHH", 1, 10, 4) + bytes(8) + options


def dhcpv4_frame(message: bytes, source: int = 68, destination: int = 67) -> bytes:
    return packet("192.0.2.5", UDP, udp(source, destination, message))
