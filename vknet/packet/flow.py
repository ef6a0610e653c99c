"""Which frames belong together: the flow of a frame.  Pure.

A flow is what shares one fate in a queue, and keeps its order there.  Its key is made of

    TCP, UDP, UDP-Lite, SCTP, DCCP    protocol, addresses, ports
    ESP                               protocol, addresses, security parameters index
    other IP, ICMP among it           protocol, addresses
    fragments of IP                   the same: only the first of them has the ports
    anything else                     MAC addresses and type; the length of 802.3 is no type

VLAN tags are looked behind and make no difference.  An IP header that is cut short or malformed
counts as anything else, and ports that are missing as none.

Keys are `bytes`: Python hashes them with a secret, so that no stranger can choose flows that
collide.  Their lengths differ by kind, and so no two kinds share a key.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vknet.packet.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_SIZE, payload_of

if TYPE_CHECKING:
    from vknet.framing import Frame

__all__ = ["flow_of"]

# IPv4 without tags and options, which is most there is: type and first byte, fragment, protocol,
# then addresses and ports, which stand side by side (RFC 791).
PLAIN_IPV4: Final = struct.Struct("!12x3s5xHx1s2x12s")
PLAIN_HEAD: Final = b"\x08\x00\x45"
ADDRESSES4: Final = 8

# First byte, fragment, protocol, addresses.
IPV4: Final = struct.Struct("!B5xHx1s2x8s")
# More fragments follow, or this is not the first.
FRAGMENT4: Final = 0x3FFF

# RFC 8200: first byte, next header, addresses.
IPV6: Final = struct.Struct("!B5x1sx32s")
EXTENSION: Final = struct.Struct("!1sB")
EXTENSIONS: Final = frozenset((b"\x00", b"\x2b", b"\x3c"))
"""Hop-by-hop options, routing, destination options; their length is in units of eight bytes beyond
the first eight."""
EXTENSIONS_MAX: Final = 4
"""How many are looked behind: more than anybody sends, and what a frame can cost is bounded."""

PORTS_SIZE: Final = 4
WITH_PORTS: Final = frozenset((b"\x06", b"\x11", b"\x21", b"\x32", b"\x84", b"\x88"))

# IEEE 802.3, 3.2.6: below it, what stands in the type's place is a length.
LEAST_TYPE: Final = 0x0600


def flow_of(frame: Frame) -> bytes:
    """Make the key of a frame's flow; any bytes have one, and all runts share the empty one."""
    if len(frame) >= PLAIN_IPV4.size:
        head: bytes
        protocol: bytes
        key: bytes
        head, fragment, protocol, key = PLAIN_IPV4.unpack_from(frame)
        if head == PLAIN_HEAD:
            if protocol in WITH_PORTS and not fragment & FRAGMENT4:
                return protocol + key
            return protocol + key[:ADDRESSES4]
    elif len(frame) < HEADER_SIZE:
        return b""
    ethertype, start = payload_of(frame, frame[12] << 8 | frame[13])
    key = b""
    if ethertype == ETHERTYPE_IPV6:
        key = _ipv6(frame, start)
    elif ethertype == ETHERTYPE_IPV4:
        key = _ipv4(frame, start)
    elif ethertype < LEAST_TYPE:
        ethertype = 0
    return key or bytes(frame[:12]) + ethertype.to_bytes(2, "big")


def _ipv4(frame: Frame, start: int) -> bytes:
    """Make the key of an IPv4 packet that begins at `start`; empty if it is none."""
    if len(frame) - start < IPV4.size:
        return b""
    protocol: bytes
    addresses: bytes
    first, fragment, protocol, addresses = IPV4.unpack_from(frame, start)
    words = first & 0x0F
    if first >> 4 != 4 or words < 5:
        return b""
    if protocol not in WITH_PORTS or fragment & FRAGMENT4:
        return protocol + addresses
    return protocol + addresses + _ports(frame, start + 4 * words)


def _ipv6(frame: Frame, start: int) -> bytes:
    """Make the key of an IPv6 packet that begins at `start`; empty if it is none."""
    if len(frame) - start < IPV6.size:
        return b""
    protocol: bytes
    addresses: bytes
    first, protocol, addresses = IPV6.unpack_from(frame, start)
    if first >> 4 != 6:
        return b""
    start += IPV6.size
    if protocol in EXTENSIONS:
        for _ in range(EXTENSIONS_MAX):
            if protocol not in EXTENSIONS or len(frame) - start < EXTENSION.size:
                break
            protocol, units = EXTENSION.unpack_from(frame, start)
            start += 8 * (units + 1)
    if protocol not in WITH_PORTS:
        return protocol + addresses
    return protocol + addresses + _ports(frame, start)


def _ports(frame: Frame, start: int) -> bytes:
    """Take out both ports; empty where they are cut short."""
    return bytes(frame[start : start + PORTS_SIZE]) if len(frame) - start >= PORTS_SIZE else b""
