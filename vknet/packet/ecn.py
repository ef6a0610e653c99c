"""Explicit congestion notification (RFC 3168): a mark instead of a drop.  Pure.

The two low bits of IPv4's type of service and of IPv6's traffic class:

    00      not ECN-capable: only a drop signals congestion
    01, 10  ECN-capable
    11      CE, congestion experienced: marked on the way
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vknet.packet.ethernet import (
    ETHERNET_HEADER_SIZE,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    payload_of,
)
from vknet.packet.ip import IPV4_HEADER_MIN, IPV6_HEADER_SIZE

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = ["mark_ce"]

CE: Final = 0b11

# Offset of the checksum in the IPv4 header, in bytes.
IPV4_CHECKSUM: Final = 10

# The traffic class lies across the first two bytes of the IPv6 header.
IPV6_SHIFT: Final = 4


def mark_ce(frame: Frame) -> Frame | None:
    """Mark a frame's IP packet, behind VLAN tags too.

    Returns:
        A marked copy; the frame itself if it was marked already; None if it holds no IP packet, or
        one that is not ECN-capable.
    """
    size = len(frame)
    if size < ETHERNET_HEADER_SIZE:
        return None
    ethertype, start = payload_of(frame, frame[12] << 8 | frame[13])
    if ethertype == ETHERTYPE_IPV4 and size - start >= IPV4_HEADER_MIN and frame[start] >> 4 == 4:
        shift = 0
    elif (
        ethertype == ETHERTYPE_IPV6 and size - start >= IPV6_HEADER_SIZE and frame[start] >> 4 == 6
    ):
        shift = IPV6_SHIFT
    else:
        return None
    codepoint = frame[start + 1] >> shift & CE
    if codepoint == CE:
        return frame
    if not codepoint:
        return None
    marked = bytearray(frame)
    marked[start + 1] |= CE << shift
    if ethertype == ETHERTYPE_IPV4:
        _add_to_sum(marked, start + IPV4_CHECKSUM, CE - codepoint)
    return bytes(marked)


def _add_to_sum(header: bytearray, at: int, increase: int) -> None:
    """Update the checksum at offset `at` for a word that grew by `increase` (RFC 1624, eqn. 3)."""
    total = (~int.from_bytes(header[at : at + 2], "big") & 0xFFFF) + increase
    total = (total & 0xFFFF) + (total >> 16)
    header[at : at + 2] = (~total & 0xFFFF).to_bytes(2, "big")
