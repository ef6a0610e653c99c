"""What the header of an Ethernet frame says: addresses, VLAN, type.  Pure.

    untagged      6 destination    6 source                                 2 type    payload
    tagged        6 destination    6 source    2 tag type    2 tag control  2 type    payload

A tag's type is 0x8100 (802.1Q) or 0x88A8 (802.1ad); the low twelve bits of its control are the
VLAN's number.  Tags stack, and only the outermost counts for where a frame goes.  Number 0 carries
a priority and no VLAN, so that such a frame belongs where untagged ones do.  The two kinds of tag
share their numbers here, as in a bridge that speaks only one of them.

MAC addresses are `bytes` of six: one call takes both out of a frame, and they hash quickly.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from vknet.framing import Frame

__all__ = [
    "ETHERTYPE_ARP",
    "ETHERTYPE_IPV4",
    "ETHERTYPE_IPV6",
    "HEADER_SIZE",
    "MAC_SIZE",
    "NO_MAC",
    "TAGS",
    "TAGS_MAX",
    "TAG_SIZE",
    "Addresses",
    "Header",
    "addresses",
    "format_mac",
    "is_multicast",
    "parse_header",
    "parse_mac",
    "payload_of",
]

HEADER: Final = struct.Struct("!6s6sH")
HEADER_SIZE: Final = HEADER.size
"""The least a frame can be, in bytes; the kernel takes frames that are not padded to 60."""

TAG: Final = struct.Struct("!HH")
TAG_SIZE: Final = TAG.size
TAGS: Final = frozenset((0x8100, 0x88A8))
VLAN_MASK: Final = 0xFFF

TAGS_MAX: Final = 4
"""How many tags are looked behind.  Two are in use, three have been seen; without an end to it, a
frame made of tags alone would cost as much as a thousand others."""

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD

MAC_SIZE: Final = 6
NO_MAC: Final = bytes(MAC_SIZE)
GROUP_BIT: Final = 0x01
MAC_TEXT: Final = re.compile("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


class Addresses(NamedTuple):
    """What decides where a frame goes."""

    vlan: int
    """The VLAN's number; 0 where there is none."""
    destination: bytes
    source: bytes


class Header(NamedTuple):
    """All that the header says."""

    destination: bytes
    source: bytes
    vlan: int
    """Of the outermost tag; 0 where there is none."""
    ethertype: int
    """Behind the tags; under 0x0600 it is the length of an 802.3 frame.  A tag's own type stands
    here when there are more than `TAGS_MAX` of them, or when the next is cut short."""
    payload: int
    """Where in the frame, in bytes from its start, that begins which the type announces."""


def addresses(frame: Frame) -> tuple[int, bytes, bytes] | None:
    """Take out the fields of `Addresses`, in their order; None if the header is cut short.

    This runs for every frame: a plain tuple takes half the time of a named one.
    """
    size = len(frame)
    if size < HEADER_SIZE:
        return None
    destination, source, ethertype = HEADER.unpack_from(frame)
    if ethertype in TAGS:
        if size < HEADER_SIZE + TAG_SIZE:
            return None
        return (frame[14] << 8 | frame[15]) & VLAN_MASK, destination, source
    return 0, destination, source


def payload_of(frame: Frame, ethertype: int) -> tuple[int, int]:
    """Look behind the tags: the type there, and where its payload begins.

    Args:
        frame: at least `HEADER_SIZE` bytes.
        ethertype: what stands where an untagged frame has its type.
    """
    start = HEADER_SIZE
    stop = min(len(frame), HEADER_SIZE + TAGS_MAX * TAG_SIZE)
    while ethertype in TAGS and start + TAG_SIZE <= stop:
        _, ethertype = TAG.unpack_from(frame, start)
        start += TAG_SIZE
    return ethertype, start


def parse_header(frame: Frame) -> Header | None:
    """Take a frame's header apart; None if it is cut short."""
    found = addresses(frame)
    if found is None:
        return None
    vlan, destination, source = found
    ethertype, payload = payload_of(frame, frame[12] << 8 | frame[13])
    return Header(destination, source, vlan, ethertype, payload)


def is_multicast(mac: bytes) -> bool:
    """Whether it is the address of a group, broadcast included, and not of one station."""
    return mac[0] & GROUP_BIT != 0


def format_mac(mac: bytes) -> str:
    """Write an address as ``02:00:5e:10:00:01``."""
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """Read an address as `format_mac` writes it, in capitals too.

    Raises:
        ValueError: it is none.
    """
    if not MAC_TEXT.fullmatch(text):
        raise ValueError(f"not a MAC address: {text!r}")
    return bytes.fromhex(text.replace(":", ""))
