"""The flow of a frame: which frames belong together.  Pure.

Frames of one flow share a queue and keep their order.  The key of a flow is made of

    TCP, UDP, UDP-Lite, SCTP, DCCP    protocol, addresses, ports
    ESP                               protocol, addresses, security parameters index
    other IP, such as ICMP            protocol, addresses
    fragments of IP                   the same, since only the first fragment has the ports
    anything else                     MAC addresses and EtherType; an 802.3 length is no type

VLAN tags are skipped and make no difference.  An IP header that is cut short or malformed counts as
anything else; ports that are missing are left out.

Keys are `bytes`.  Python hashes them with a secret, so a stranger cannot choose flows that collide.
Keys of different kinds have different lengths, so they never coincide.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vknet.packet.ethernet import (
    ETHERNET_HEADER_SIZE,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    payload_of,
)
from vknet.packet.ip import IPV6_EXTENSIONS_MAX, IPV6_OPTION_HEADERS

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = ["flow_of"]

# IPv4 without tags and options, the most common case: EtherType and first byte, fragment, protocol,
# then addresses and ports, which are adjacent (RFC 791).
PLAIN_IPV4: Final = struct.Struct("!12x3s5xHx1s2x12s")
PLAIN_HEAD: Final = b"\x08\x00\x45"
ADDRESSES4: Final = 8

# The fields of IPv4 that a key needs: first byte, fragment, protocol, addresses.
KEY_IPV4: Final = struct.Struct("!B5xHx1s2x8s")
# More fragments follow, or this is not the first one.
FRAGMENT4: Final = 0x3FFF

# The fields of IPv6 (RFC 8200): first byte, next header, addresses.
KEY_IPV6: Final = struct.Struct("!B5x1sx32s")
KEY_EXTENSION: Final = struct.Struct("!1sB")
OPTION_HEADERS: Final = frozenset(bytes((kind,)) for kind in IPV6_OPTION_HEADERS)

PORTS_SIZE: Final = 4
WITH_PORTS: Final = frozenset((b"\x06", b"\x11", b"\x21", b"\x32", b"\x84", b"\x88"))

# IEEE 802.3, 3.2.6: a smaller value in the type field is a length.
MIN_ETHERTYPE: Final = 0x0600


def flow_of(frame: Frame) -> bytes:
    """Return the key of a frame's flow; all runts share the empty one."""
    if len(frame) >= PLAIN_IPV4.size:
        head: bytes
        protocol: bytes
        key: bytes
        head, fragment, protocol, key = PLAIN_IPV4.unpack_from(frame)
        if head == PLAIN_HEAD:
            if protocol in WITH_PORTS and not fragment & FRAGMENT4:
                return protocol + key
            return protocol + key[:ADDRESSES4]
    elif len(frame) < ETHERNET_HEADER_SIZE:
        return b""
    ethertype, start = payload_of(frame, frame[12] << 8 | frame[13])
    key = b""
    if ethertype == ETHERTYPE_IPV6:
        key = _ipv6(frame, start)
    elif ethertype == ETHERTYPE_IPV4:
        key = _ipv4(frame, start)
    elif ethertype < MIN_ETHERTYPE:
        ethertype = 0
    return key or bytes(frame[:12]) + ethertype.to_bytes(2, "big")


def _ipv4(frame: Frame, start: int) -> bytes:
    """Return the key of the IPv4 packet at offset `start`; empty if it is not one."""
    if len(frame) - start < KEY_IPV4.size:
        return b""
    protocol: bytes
    addresses: bytes
    first, fragment, protocol, addresses = KEY_IPV4.unpack_from(frame, start)
    words = first & 0x0F
    if first >> 4 != 4 or words < 5:
        return b""
    if protocol not in WITH_PORTS or fragment & FRAGMENT4:
        return protocol + addresses
    return protocol + addresses + _ports(frame, start + 4 * words)


def _ipv6(frame: Frame, start: int) -> bytes:
    """Return the key of the IPv6 packet at offset `start`; empty if it is not one."""
    if len(frame) - start < KEY_IPV6.size:
        return b""
    protocol: bytes
    addresses: bytes
    first, protocol, addresses = KEY_IPV6.unpack_from(frame, start)
    if first >> 4 != 6:
        return b""
    start += KEY_IPV6.size
    if protocol in OPTION_HEADERS:
        for _ in range(IPV6_EXTENSIONS_MAX):
            if protocol not in OPTION_HEADERS or len(frame) - start < KEY_EXTENSION.size:
                break
            protocol, units = KEY_EXTENSION.unpack_from(frame, start)
            start += 8 * (units + 1)
    if protocol not in WITH_PORTS:
        return protocol + addresses
    return protocol + addresses + _ports(frame, start)


def _ports(frame: Frame, start: int) -> bytes:
    """Return both ports; empty where they are cut short."""
    return bytes(frame[start : start + PORTS_SIZE]) if len(frame) - start >= PORTS_SIZE else b""
