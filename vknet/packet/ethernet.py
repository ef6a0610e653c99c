"""The header of an Ethernet frame: addresses, VLAN, EtherType.  Pure.

    untagged      6 destination    6 source                                 2 type    payload
    tagged        6 destination    6 source    2 tag type    2 tag control  2 type    payload

A tag's type is 0x8100 (802.1Q) or 0x88A8 (802.1ad); the low twelve bits of its control are the VLAN
ID.  Tags stack; only the outermost decides where a frame goes.  VLAN ID 0 carries a priority and no
VLAN, so such a frame is treated as untagged.  Both kinds of tag share one space of VLAN IDs, as in
a bridge that speaks only one of them.

MAC addresses are `bytes` of six: one call takes both out of a frame, and they hash quickly.
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "BATCH_BYTES",
    "BATCH_FRAMES",
    "DEFAULT_MTU",
    "ETHERNET_HEADER",
    "ETHERNET_HEADER_SIZE",
    "ETHERTYPE_ARP",
    "ETHERTYPE_IPV4",
    "ETHERTYPE_IPV6",
    "FULL_FRAME",
    "LONGEST_FRAME",
    "MAC_SIZE",
    "MTU_MAX",
    "MTU_MIN",
    "NO_MAC",
    "TAGS",
    "TAGS_MAX",
    "TAG_SIZE",
    "VLAN_MASK",
    "Addresses",
    "Frame",
    "Header",
    "addresses",
    "format_mac",
    "is_multicast",
    "parse_header",
    "parse_mac",
    "payload_of",
]

Frame: TypeAlias = bytes | memoryview
"""One whole Ethernet frame, from the destination address on, without preamble and FCS."""

ETHERNET_HEADER: Final = struct.Struct("!6s6sH")

ETHERNET_HEADER_SIZE: Final = ETHERNET_HEADER.size
"""The size of the shortest frame in bytes.  The kernel accepts frames that are not padded to 60."""

FULL_FRAME: Final = 1514
"""The size of a full frame in bytes at an MTU of 1500, header included."""

DEFAULT_MTU: Final = FULL_FRAME - ETHERNET_HEADER_SIZE
"""The MTU in bytes of an interface or a bridge for which none was chosen."""

MTU_MIN: Final = 68
MTU_MAX: Final = 65521
"""The limits of Linux for the MTU of a TAP in bytes: ETH_MIN_MTU, and 65535 less the Ethernet
header (drivers/net/tun.c)."""

LONGEST_FRAME: Final = 65536 + 128
"""The size of the longest frame in bytes: the largest MTU of an interface, with room for tags."""

BATCH_BYTES: Final = 128 * 1024
"""The size of one batch in bytes.  It is large enough that the event loop's turn (5-10 us) is small
beside the system calls of its frames, and small enough that the turn stays under a millisecond."""

BATCH_FRAMES: Final = 256
"""The number of frames in one batch, for the same reason."""

TAG: Final = struct.Struct("!HH")
TAG_SIZE: Final = TAG.size
TAGS: Final = frozenset((0x8100, 0x88A8))
VLAN_MASK: Final = 0xFFF

TAGS_MAX: Final = 4
"""The number of tags that are parsed.  Two are in use.  A frame made of nothing but tags would
otherwise cost as much as a thousand others."""

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD

MAC_SIZE: Final = 6
NO_MAC: Final = bytes(MAC_SIZE)
GROUP_BIT: Final = 0x01
MAC_TEXT: Final = re.compile("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


class Addresses(NamedTuple):
    """The fields that decide where a frame goes."""

    vlan: int
    """The VLAN ID; 0 where there is none."""
    destination: bytes
    source: bytes


class Header(NamedTuple):
    """A parsed Ethernet header."""

    destination: bytes
    source: bytes
    vlan: int
    """The VLAN ID of the outermost tag; 0 where there is none."""
    ethertype: int
    """The type behind the tags; below 0x0600 it is the length of an 802.3 frame.  It is a tag's own
    type if there are more than `TAGS_MAX` tags, or if the next tag is cut short."""
    payload: int
    """Offset of the payload, in bytes."""


def addresses(frame: Frame) -> tuple[int, bytes, bytes] | None:
    """Read the fields of `Addresses`, in their order; None if the header is cut short.

    It runs for every frame.  A plain tuple takes half the time of a named one.
    """
    size = len(frame)
    if size < ETHERNET_HEADER_SIZE:
        return None
    destination, source, ethertype = ETHERNET_HEADER.unpack_from(frame)
    if ethertype in TAGS:
        if size < ETHERNET_HEADER_SIZE + TAG_SIZE:
            return None
        return (frame[14] << 8 | frame[15]) & VLAN_MASK, destination, source
    return 0, destination, source


def payload_of(frame: Frame, ethertype: int, start: int = ETHERNET_HEADER_SIZE) -> tuple[int, int]:
    """Skip the VLAN tags.

    Args:
        frame: at least `start` bytes.
        ethertype: the type field of the Ethernet header.
        start: offset of the byte behind the Ethernet header.

    Returns:
        The type behind the tags, and the offset of its payload.
    """
    stop = min(len(frame), start + TAGS_MAX * TAG_SIZE)
    while ethertype in TAGS and start + TAG_SIZE <= stop:
        _, ethertype = TAG.unpack_from(frame, start)
        start += TAG_SIZE
    return ethertype, start


def parse_header(frame: Frame) -> Header | None:
    """Parse a frame's header; None if it is cut short."""
    found = addresses(frame)
    if found is None:
        return None
    vlan, destination, source = found
    ethertype, payload = payload_of(frame, frame[12] << 8 | frame[13])
    return Header(destination, source, vlan, ethertype, payload)


def is_multicast(mac: bytes) -> bool:
    """Whether a MAC address is that of a group; the broadcast address is one."""
    return mac[0] & GROUP_BIT != 0


def format_mac(mac: bytes) -> str:
    """Write an address as ``02:00:5e:10:00:01``."""
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """Read an address as `format_mac` writes it; capitals are accepted.

    Raises:
        ValueError: the text is not a MAC address.
    """
    if not MAC_TEXT.fullmatch(text):
        raise ValueError(f"not a MAC address: {text!r}")
    return bytes.fromhex(text.replace(":", ""))
