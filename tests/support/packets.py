"""Frames made by hand, field by field; nothing here is taken from the code under test."""

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
HOP_BY_HOP, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 44, 51, 60


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
    return struct.pack("!HH", kind, vlan)


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
) -> bytes:
    """An IPv4 packet; the offset of a fragment is in units of eight bytes."""
    words = 5 + len(options) // 4
    size = 4 * words + len(payload) if total is None else total
    return (
        struct.pack("!BBHHH", version << 4 | words, 0, size, 1, more << 13 | offset)
        + struct.pack("!BBH", 64, protocol, 0)
        + IPv4Address(source).packed
        + IPv4Address(destination).packed
        + options
        + payload
    )


def udp(source: int, destination: int, payload: bytes = bytes(8)) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


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
) -> bytes:
    size = len(payload) if length is None else length
    return (
        struct.pack("!IHBB", version << 28, size, following, hop_limit)
        + IPv6Address(source).packed
        + IPv6Address(destination).packed
        + payload
    )


def extension(following: int, units: int = 0) -> bytes:
    """A header of hop-by-hop or destination options; its length in units of eight bytes."""
    return bytes([following, units]) + bytes(6 + 8 * units)


def fragment(following: int, offset: int = 0, *, more: bool = False) -> bytes:
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 1)


def icmpv6(kind: int, body: bytes = bytes(4), code: int = 0) -> bytes:
    return bytes([kind, code, 0, 0]) + body


def neighbour(kind: int, target: str | int, options: bytes = b"", code: int = 0) -> bytes:
    """A solicitation (135) or an advertisement (136)."""
    return icmpv6(kind, bytes(4) + IPv6Address(target).packed + options, code)


def source_mac(mac: bytes = CLIENT) -> bytes:
    return b"\x01\x01" + mac


def target_mac(mac: bytes = CLIENT) -> bytes:
    return b"\x02\x01" + mac


def packet(source: str, protocol: int = TCP, payload: bytes = bytes(20)) -> bytes:
    """A frame with an IP packet of either kind."""
    if ip_address(source).version == 4:
        return ethernet(IPV4, ipv4(source, protocol, payload))
    return ethernet(IPV6, ipv6(source, protocol, payload))
